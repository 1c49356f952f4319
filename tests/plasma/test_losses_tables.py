"""Tables of losses from files and from CHIANTI, and what is refused."""

import textwrap

import numpy as np
import pytest

from attar.core.errors import InputError
from attar.plasma import chianti
from attar.plasma.losses import named, packaged, read
from attar.plasma.sources import losses_named

LINES = ["# mine", "log T, loss", "4.0, 0", "4.5, 0", "5.0; 3e-22", "6.0  1e-22  # hot"]


def written(tmp_path, text, name="mine.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_text_and_csv_are_read_alike(tmp_path):
    table = read(written(tmp_path, "\n".join(LINES)))
    assert table.name == "mine.csv"
    np.testing.assert_array_equal(table.log_t, [4.5, 5.0, 6.0])  # of the zeros the last is enough
    np.testing.assert_array_equal(table.losses, [0.0, 3e-22, 1e-22])
    assert table.at(np.array([10**4.75]))[0] == pytest.approx(0.5)
    assert table.at(np.array([1e4]))[0] == 0


def test_arrays_are_read(tmp_path):
    sheet = packaged()
    np.savez(tmp_path / "mine.npz", log_t=sheet.log_t, losses=sheet.losses)
    table = losses_named(str(tmp_path / "mine.npz"))
    assert table.fingerprint == sheet.fingerprint
    assert table.peak == sheet.peak == pytest.approx(4.43e-22)


def test_the_name_of_the_packaged_table_stays():
    assert named("sheet").name == "sheet"
    assert len(named("sheet").log_t) == 28


BAD = {
    "": "has 0 points. It needs 2 to 10,000, each log10 T in K and Λ in erg cm³/s.",
    "4 1e-22\n": "has 1 points. It needs 2 to 10,000, each log10 T in K and Λ in erg cm³/s.",
    "4 1e-22\n5 2e-22\n5 1e-22\n": "does not ascend in T: log10 T is 5 at point 3, after 5.",
    "6 1e-22\n5 2e-22\n": "does not ascend in T: log10 T is 5 at point 2, after 6.",
    "4 1e-22\n5 nan\n": "has 5, nan as point 2. All must be finite.",
    "4 1e-22\ninf 1e-22\n": "has inf, 1e-22 as point 2. All must be finite.",
    "4 1e-22\n5 -1e-23\n": "has the loss -1e-23 as point 2. Losses must not be negative: give Λ, not its logarithm.",
    "4 0\n5 0\n": "is 0 everywhere. Simulate without it instead: --radiation off.",
    "4 1e-22\n5 0\n6 1e-22\n": "is 0 at point 2, among positive losses. Only its first points may be 0.",
    "1e4 1e-22\n1e5 2e-22\n": (
        "has log10 T from 10000 to 100000. The logarithm of a temperature in K lies between 0 and 12."
    ),
    "4 1e-35\n5 2e-35\n": "has 2e-35 as its largest loss. In erg cm³/s it is between 1e-27 and 1e-17.",
}


@pytest.mark.parametrize(("text", "problem"), list(BAD.items()), ids=range(len(BAD)))
def test_tables_that_are_none_are_refused_in_one_line(tmp_path, text, problem):
    with pytest.raises(InputError) as refused:
        read(written(tmp_path, text))
    assert str(refused.value) == f"the table of losses mine.csv {problem}"


def test_lines_that_are_none_are_refused(tmp_path):
    path = written(tmp_path, "4 1e-22\n5 1e-22 7\n")
    with pytest.raises(InputError) as refused:
        read(path)
    assert str(refused.value) == f"{path}, line 2: '5 1e-22 7' is not log10 T in K and Λ in erg cm³/s."
    with pytest.raises(InputError, match="line 2: 'x y' is not"):
        read(written(tmp_path, "4 1e-22\nx y\n"))


def test_files_of_other_kinds_are_refused(tmp_path):
    picture = tmp_path / "mine.txt"
    picture.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as text"):
        read(picture)
    wrong = tmp_path / "wrong.npz"
    wrong.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        read(wrong)
    np.savez(tmp_path / "other.npz", t=np.ones(3))
    with pytest.raises(InputError, match="must hold the arrays log_t"):
        read(tmp_path / "other.npz")
    np.savez(tmp_path / "uneven.npz", log_t=np.arange(3), losses=np.ones(2))
    with pytest.raises(InputError, match="lists of one length"):
        read(tmp_path / "uneven.npz")


def test_a_name_that_is_nothing_is_refused_with_what_is_near(tmp_path):
    with pytest.raises(InputError) as refused:
        named("shet")
    assert str(refused.value) == "there is no table of losses 'shet'. Give sheet, chianti, or a file."
    path = written(tmp_path, "4 1e-22\n5 1e-22\n", "losses.txt")
    with pytest.raises(InputError, match=f"Perhaps {path}"):
        named(str(tmp_path / "loses.txt"))


# -------------------------------------------------------------------------------------------------------------- CHIANTI


def package(tmp_path, monkeypatch, files):
    """Put modules that imitate a package where Python finds them."""
    for name, text in files.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] in ("ChiantiPy", "fiasco")]:
        monkeypatch.delitem(sys.modules, name)


CHIANTIPY = {
    "ChiantiPy/__init__.py": "",
    "ChiantiPy/tools/__init__.py": "",
    "ChiantiPy/tools/data.py": "AbundanceList = ['sun_photospheric_2015_scott', 'other']",
    "ChiantiPy/core/__init__.py": """
        import numpy as np

        asked = []

        class radLoss:
            def __init__(self, temperature, eDensity, minAbund=0, abundance=None, verbose=0):
                print("elapsed seconds")
                asked.append((eDensity, minAbund, abundance))
                rate = 1e-22 * np.exp(-(np.log10(temperature) - 5) ** 2)
                self.RadLoss = {"rate": np.where(temperature < 1e4, 0.0, rate), "temperature": temperature}

        class ion:
            def __init__(self, ionStr, temperature, eDensity=None, abundance=None, em=None):
                asked.append((ionStr, eDensity, abundance, em))
                self.Temperature = temperature

            def intensity(self):
                shape = np.exp(-0.5 * ((np.log10(self.Temperature) - 4.9) / 0.1) ** 2)
                self.Intensity = {"wvl": np.array([1393.755, 1402.770]), "intensity": shape[:, None] * [[2.0, 1.0]]}
    """,
}


@pytest.fixture
def chiantipy(tmp_path, monkeypatch):
    (tmp_path / "dbase").mkdir()
    (tmp_path / "dbase" / "VERSION").write_text("11.0\n")
    monkeypatch.setenv("XUVTOP", str(tmp_path / "dbase"))
    package(tmp_path, monkeypatch, CHIANTIPY)
    import ChiantiPy.core

    return ChiantiPy.core.asked


def test_chiantipy_is_asked_once_for_the_published_table(chiantipy, capsys):
    assert chianti.at_hand() == "ChiantiPy"
    table = named("chianti")
    assert chiantipy == [(1e4, 1e-6, "sun_photospheric_2015_scott")]
    assert (table.name, table.peak) == ("chianti", pytest.approx(1e-22))
    assert table.log_t[0] == pytest.approx(3.96)  # the last of the zeros below 10⁴ K
    assert table.log_t[-1] == 7
    assert named("chianti").fingerprint == table.fingerprint
    assert len(chiantipy) == 1
    assert capsys.readouterr().out == ""


def test_the_line_nearest_to_a_wavelength_is_taken(chiantipy):
    log_t = np.linspace(4, 6, 21)
    weak, strong = (chianti.line("si_4", wavelength, log_t) for wavelength in (1402.77, 1393.75))
    np.testing.assert_allclose(strong, 2 * weak)
    assert chiantipy == [("si_4", 1e9, "sun_photospheric_2015_scott", 1e27)] * 2


def test_what_a_package_raises_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "dbase").mkdir()
    monkeypatch.setenv("XUVTOP", str(tmp_path / "dbase"))
    package(tmp_path, monkeypatch, {**CHIANTIPY, "ChiantiPy/core/__init__.py": "raise OSError('no masterlist')"})
    with pytest.raises(InputError) as refused:
        named("chianti")
    assert str(refused.value) == "ChiantiPy cannot read CHIANTI: no masterlist. See to it, or give a file."


FIASCO = {
    "fiasco/__init__.py": """
        import numpy as np

        defaults = {}

        class Given:
            def __init__(self, values):
                self.values = np.asarray(values)

            def __getitem__(self, places):
                return Given(self.values[places])

            def to_value(self, unit):
                return self.values

        class Lines:
            wavelength = Given([1393.755, 1402.770, 500.0])
            is_bound_bound = np.array([True, True, False])

        class Ion:
            transitions = Lines()

            def __init__(self, name, temperature, abundance=None):
                assert abundance == "sun_photospheric_2015_scott"
                self.name, self.temperature = name, temperature

            @property
            def abundance(self):
                if self.name == "X 1":
                    raise KeyError("no abundance")
                return {"Si 4": 3e-5, "Li 1": 1e-11}[self.name]

            def contribution_function(self, density):
                assert (self.name, density) == ("Si 4", 1e9)
                light = np.exp(-0.5 * ((np.log10(self.temperature) - 4.9) / 0.1) ** 2)
                return Given(light[:, None, None] * np.array([[[2e-24, 1e-24]]]))

        class IonCollection:
            def __init__(self, *ions):
                assert [ion.name for ion in ions] == ["Si 4"]
                self.ions = ions

            def radiative_loss(self, density):
                assert density == 1e4
                return Given(np.full((len(self.ions[0].temperature), 1), 2e-22))

        def list_ions():
            return ["Si 4", "Li 1", "X 1"]
    """,
    "astropy/__init__.py": "",
    "astropy/units.py": "K = cm = 1.0",
}


def test_fiasco_is_asked_where_chiantipy_is_not(tmp_path, monkeypatch):
    import sys

    monkeypatch.delenv("XUVTOP", raising=False)
    for name in [name for name in sys.modules if name.split(".")[0] == "astropy"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("fiasco", "astropy", "astropy.units"):  # so that none of these stays for later tests
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    package(tmp_path, monkeypatch, FIASCO)
    import fiasco

    fiasco.defaults["hdf5_dbase_root"] = tmp_path / "data.h5"
    assert chianti.at_hand() == ""  # it would ask at the keyboard
    (tmp_path / "data.h5").touch()
    assert chianti.at_hand() == "fiasco"
    np.testing.assert_allclose(named("chianti").losses, 2e-22)
    light = chianti.line("si_4", 1402.77, np.array([4.9, 5.0]))
    assert light[0] == pytest.approx(1e-24 * 1e27 / (4 * np.pi))


def test_without_either_it_is_said_what_to_install(monkeypatch):
    monkeypatch.delenv("XUVTOP", raising=False)
    monkeypatch.setattr(chianti, "find_spec", lambda name: None)
    with pytest.raises(InputError) as refused:
        named("chianti")
    assert str(refused.value) == (
        "chianti needs ChiantiPy with its data in $XUVTOP, or fiasco with its data. Install one of them, or give "
        "losses sheet or a file."
    )
