"""Columns, spectra and emulators as people ask for them: mixed-up data, odd teachers and students, altered folders."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import attar
from attar.cli import main
from attar.core import memory
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.store import digest_of
from attar.plasma import forecast, losses
from attar.plasma.answers import AnsweredColumns
from attar.plasma.artefact import StoredPlasma
from attar.plasma.columns import Columns
from attar.plasma.cooling import Cooling
from attar.plasma.emulator import LineEmulator
from attar.plasma.growth import growth_rate, layer_growth, simulated_growth
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz
from attar.plasma.nonlte import CALCIUM
from attar.plasma.reading import Reading
from attar.plasma.score import held_out
from attar.plasma.slab import Slab
from attar.plasma.spectra import LineSpectra, Seen
from attar.plasma.teachers import teacher_named
from attar.plasma.thin import light_curve
from attar.plasma.threads import RandomThreads, Threads

ENGINE = Engine(device="cpu", quiet=True)
WORDS = ["--device", "cpu", "--quiet"]
STUDENT = LineEmulator(student="cnn:width=4,depth=2", steps=3, watch=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run, columns of random threads with and without profiles, and an emulator, in folders."""
    folder = tmp_path_factory.mktemp("plasmas")
    fluid = KelvinHelmholtz(cells=(12, 10), end=0.1, outputs=2, solver="numpy")
    attar.simulate(fluid, out=folder / "run", engine=ENGINE)
    columns = attar.simulate(AnsweredColumns(count=12), out=folder / "columns", engine=ENGINE)
    attar.simulate(AnsweredColumns(count=8, teacher="none"), out=folder / "bare", engine=ENGINE)
    attar.distill(columns, STUDENT, out=folder / "emulator", engine=ENGINE)
    return folder


@pytest.fixture(scope="module")
def opened(base):
    return {path.name: attar.open_artefact(path) for path in base.iterdir()}


def refused(capsys, *words):
    """What the command says on standard error, on one line, as it exits with code 2."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1 and len(said) < 500, said
    return said


def refusal(call):
    """The one line with which a call is refused."""
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def asked(teacher, count=4):
    return attar.simulate(AnsweredColumns(count=count, teacher=teacher), engine=ENGINE)


def learned(columns, **beside):
    return attar.distill(columns, STUDENT, engine=ENGINE, **beside)


# ------------------------------------------------------------------------------------------------ mixed-up data


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate", "spectra", "--data", "columns"], "and this is 12 columns of threads with profiles of Ca II K."),
        (["simulate", "spectra", "--data", "bare"], "and this is 8 lines of sight through threads."),
        (["simulate", "spectra", "--data", "emulator"], "and this is an emulator of Ca II K by slab, for threads."),
        (["simulate", "spectra", "--data", "threads"], "and this is random threads. Give --data the folder of a run."),
        (["simulate", "columns", "--data", "emulator"], "and this is an emulator of Ca II K"),
        (["distill", "emulator", "--data", "emulator"], "Give threads, or the folder of columns."),
        (["distill", "emulator", "--data", "run"], "Make some of it: attar simulate columns --data FOLDER"),
        (["evaluate", "emulator", "--data", "run"], "an emulator takes columns, and this is a run of"),
        (["evaluate", "columns"], "what `attar simulate` has made is not measured again"),
        (
            ["simulate", "columns", "--teacher", "run"],
            "holds a run of kelvin-helmholtz with 12×10 cells, which answers",
        ),
        (["simulate", "columns", "--teacher", "columns"], "which answers nothing. Give an emulator."),
        (["simulate", "columns", "--teacher", "nope", "--count", "10000000"], "there is no teacher 'nope'"),
        (["distill", "emulator", "--data", "bare", "--teacher", "none"], "have no profiles, and teacher is none"),
        (["distill", "emulator", "--data", "columns", "--subset", "400"], "10 training columns that can be used, but"),
        (["simulate", "columns", "--workers", "2"], "columns works in one process. Leave out --workers and --address."),
        (["simulate", "columns", "--address", "nowhere:1"], "columns works in one process."),
        (["simulate", "kelvin-helmholtz", "--workers", "2"], "kelvin-helmholtz works in one process."),
        (["simulate", "spectra", "--data", "run", "--workers", "0"], "--workers takes a whole number, at least 1"),
        (["simulate", "spectra"], "--data must be given: the folder of a run."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_named(base, monkeypatch, capsys, words, said, tmp_path):
    monkeypatch.chdir(base)
    out = [] if words[0] == "evaluate" else ["--out", tmp_path / "out"]
    assert said in refused(capsys, *words, *WORDS, *out)
    assert not (tmp_path / "out" / "artefact.json").exists()


@pytest.mark.parametrize(
    ("data", "settings", "said"),
    [
        ("bare", {"count": 4}, "count does not apply to 8 lines of sight through threads"),
        ("bare", {"turbulence": 1.0}, "turbulence does not apply to"),
        ("bare", {"test_share": 0.5}, "test_share does not apply to"),
        ("bare", {"threads": Threads(most_threads=2)}, "most_threads does not apply to"),
        ("run", {"threads": Threads(speed_change=1.0)}, "speed_change does not apply to a run of kelvin-helmholtz"),
        ("threads", {"at_snapshots": (1,)}, "at_snapshots does not apply to random threads: only runs have snapshots"),
        ("run", {"at_snapshots": (2, 2)}, "at_snapshots is [2, 2]; name each once."),
        ("run", {"at_snapshots": (9,)}, "snapshot 9 is not in this run; it has the snapshots 0 to 2."),
    ],
    ids=str,
)
def test_settings_that_would_change_nothing_are_refused(opened, data, settings, said):
    source = opened.get(data, RandomThreads())
    assert said in refusal(lambda: attar.simulate(AnsweredColumns(**settings), source, engine=ENGINE))


def test_their_own_number_and_the_usual_settings_are_no_reason_to_refuse(opened):
    for method in (AnsweredColumns(), AnsweredColumns(count=8)):
        assert len(attar.simulate(method, opened["bare"], engine=ENGINE)) == 8


def test_columns_beyond_memory_are_refused_before_they_are_drawn(monkeypatch):
    monkeypatch.setattr(forecast, "machine_bytes", lambda: 10**6)
    assert "1,000 columns need about" in refusal(lambda: attar.simulate(AnsweredColumns(), engine=ENGINE))
    assert memory.machine_bytes() is None or memory.machine_bytes() > 10**8


def test_a_folder_named_threads_is_what_was_made(base, opened, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert isinstance(Reading().load("threads"), RandomThreads)
    shutil.copytree(base / "columns", tmp_path / "threads")
    assert Reading().load("threads").fingerprint == opened["columns"].fingerprint


def test_data_that_are_no_data_are_refused_from_python(opened):
    for data in (np.ones(4), [], 5):
        assert "and this is of type" in refusal(
            lambda data=data: attar.simulate(AnsweredColumns(), data, engine=ENGINE)
        )
    assert "of type ndarray" in refusal(lambda: learned(np.ones(3)))
    assert "light curves are those of a run" in refusal(lambda: light_curve(opened["columns"]))


def test_a_thread_never_has_a_negative_share():
    """A wide transition beside a narrow one: their difference would be negative beyond the thread."""
    wide = Threads(pctr_widths=(1e5, 1e6), thread_widths=(1e5, 2e5), core_densities=(2e17, 2e17))
    for column in wide.drawn(40, torch.Generator().manual_seed(0)):
        assert (column.hydrogen > 0).all() and np.abs(column.velocity).max() < 3e4


# ---------------------------------------------------------------------------------------------------- teachers


class Given:
    """A teacher that answers what it is given."""

    def __init__(self, answer, wavelengths=None):
        self.answer = answer
        self.wavelengths = Slab().wavelengths if wavelengths is None else wavelengths


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.ones(3), "Given gives profiles of shape (3,), not (41,)."),
        (None, "what Given answers: of type NoneType. Give real numbers."),
        ("abc", "what Given answers: of type str"),
        (np.ones(41) + 0j, "what Given answers: of type ndarray"),
        ([1.0, [2.0]], "what Given answers: of type list"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_profile_is_refused(answer, said):
    assert said in refusal(lambda: asked(Given(lambda column: answer)))


@pytest.mark.parametrize("wrong", [np.nan, -1e-9, 0.0, np.inf])
def test_profiles_that_cannot_be_are_kept_and_marked_and_nothing_learns_from_them(wrong):
    made = asked(Given(lambda column: np.full(41, wrong)))
    assert not made.known.converged.any() and (made.known.profiles == 0).all()
    assert "0 training columns that can be used (4 of 4 did not converge)" in refusal(lambda: learned(made))


@pytest.mark.parametrize(
    "wavelengths",
    [5.0, "abc", [], [[1.0, 2.0]], [3.0, 2.0], [1.0, np.nan], [-1.0, 2.0], [2.0, 2.0]],
    ids=str,
)
def test_wavelengths_that_are_none_are_refused_before_anything_is_answered(wavelengths):
    assert "wavelengths of Given" in refusal(lambda: teacher_named(Given(lambda column: 1, wavelengths)))


@pytest.mark.parametrize("teacher", [5, True, [], Slab])
def test_what_cannot_answer_is_no_teacher(teacher):
    assert "the teacher is of type" in refusal(lambda: asked(teacher))


def test_an_emulator_is_a_teacher_by_folder_and_by_itself(base, opened):
    by_folder, by_itself = teacher_named(str(base / "emulator")), teacher_named(opened["emulator"])
    assert by_folder.fingerprint == by_itself.fingerprint and by_itself.name == "emulator"
    assert "which answers nothing" in refusal(lambda: teacher_named(opened["columns"]))


def test_a_teacher_of_ones_own_is_not_asked_for_by_name(opened):
    made = learned(asked(Given(Slab().answer), count=6))
    said = refusal(lambda: attar.evaluate(made, opened["bare"], engine=ENGINE))
    assert said == (
        "the columns of threads have no profiles, and the emulator's teacher (Given) is none that is known by name. "
        "Give columns that it has answered."
    )
    assert "the emulator learned from Given" in refusal(lambda: attar.evaluate(made, opened["columns"], engine=ENGINE))


# ---------------------------------------------------------------------------------------------------- students


class Student(nn.Module):
    """A layer, and something that is done to what it gives."""

    def __init__(self, given):
        super().__init__()
        self.given, self.layer = given, nn.Linear(256, 41)

    def forward(self, columns):
        return self.given(self.layer(columns.flatten(1)))


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Student(lambda found: found[:, :5]), "of two columns the student gives [2, 5]; it must give [2, 41]."),
        (Student(lambda found: (found,)), "of two columns the student gives tuple"),
        (Student(lambda found: None), "of two columns the student gives NoneType"),
        (Student(lambda found: {}["a"]), "the student does not take columns of shape [2, 4, 64]: 'a'"),
        (Student(lambda found: found.foo), "the student does not take columns of shape"),
        (Student(lambda found: found.detach()), "the student does not learn"),
        (nn.Sequential(nn.Flatten(), nn.Linear(256, 41)).requires_grad_(False), "the student does not learn"),
        (nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(41)), "the student does not learn"),
        (Student, "the student is a type"),
        (5, "the student is a int"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_students_that_cannot_learn_are_refused_in_one_line(opened, module, said):
    assert said in refusal(lambda: learned(opened["columns"], student=module))


def test_a_module_of_ones_own_with_a_subset_by_k_center_says_how_it_is_opened(opened, capsys, tmp_path):
    method = dataclasses.replace(STUDENT, subset=5, chosen_by="k-center")
    module = nn.Sequential(nn.Flatten(), nn.Linear(256, 41))
    made = attar.distill(opened["columns"], method, student=module, out=tmp_path / "own", engine=ENGINE)
    assert len(made.rows) == 5
    line = refused(capsys, "evaluate", tmp_path / "own", *WORDS)
    assert "Open it in Python, by attar.plasma.Emulator.load(FOLDER, build=FUNCTION)" in line


# ------------------------------------------------------------------------------------------- columns to answer


def test_what_is_no_column_is_refused(opened):
    emulator = opened["emulator"]
    for columns in ([], ()):
        assert "there is no column to answer" in refusal(lambda columns=columns: emulator.predict(columns))
    assert "give refuse, tell or allow" in refusal(lambda: emulator.predict(opened["columns"], outside="no"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"temperature": -1.0}, "temperature of a column must be positive everywhere: it is -1 K at point 3."),
        ({"temperature": np.nan}, "temperature of a column must be positive everywhere: it is nan K at point 3."),
        ({"hydrogen": 0.0}, "hydrogen of a column must be positive everywhere: it is 0 m⁻³ at point 3."),
        ({"velocity": np.inf}, "velocity of a column must be finite and below a tenth of light's: it is inf m/s"),
        ({"depth": np.inf}, "depth of a column is inf at point 3; it must be finite, in m."),
        ({"depth": -1.0}, "the depth of a column must rise from point to point, away from the observer: it is -1 m"),
    ],
    ids=str,
)
def test_the_point_that_is_wrong_is_named(opened, changed, said):
    columns, emulator = opened["columns"], opened["emulator"]
    ((name, value),) = changed.items()
    one = columns.column(0)
    part = getattr(one, name).copy()
    part[3] = value
    assert said in refusal(lambda: emulator.predict(dataclasses.replace(one, **{name: part}), outside="allow"))
    values = columns.values.clone()
    values[5, ["depth", "temperature", "hydrogen", "velocity"].index(name), 3] = value
    many = dataclasses.replace(columns, values=values)
    assert refusal(lambda: emulator.predict(many, outside="allow")).startswith(f"column 5: {said}")


def test_columns_of_few_points(opened):
    column, emulator = opened["columns"].column(0), opened["emulator"]
    for points in (0, 1, 2):
        said = refusal(lambda points=points: emulator.predict(column.kept(slice(points))))
        assert said == f"a column has {points} points; it must have at least 3."
    assert "turbulence" in refusal(lambda: dataclasses.replace(column, turbulence=float("nan")).checked())


def test_what_lies_far_outside_is_refused_or_told(opened):
    column, emulator = opened["columns"].column(0), opened["emulator"]
    fast = dataclasses.replace(column, velocity=column.velocity + 3e5)
    assert "velocity towards the observer in m/s" in refusal(lambda: emulator.predict(fast))
    with pytest.warns(UserWarning, match="most by the velocity"):
        assert emulator.predict(fast, outside="tell").shape == (1, 41)


# ------------------------------------------------------------------------------------------------------ evaluation


def test_an_emulator_is_not_measured_on_what_it_learned_from(base, opened, monkeypatch):
    """Random threads of one seed begin with the same columns, however many are drawn."""
    monkeypatch.chdir(base)
    made = dataclasses.replace(opened["emulator"])
    made.origin.call.update(data=str(base / "columns"), named=True)
    runtime = Runtime(ENGINE)
    more = asked("slab", count=16)
    assert torch.equal(more.values[:12], opened["columns"].values)
    test = held_out(made, more, runtime)
    assert len(test) == 16 - len(made.rows)
    learned_from = opened["columns"].values[made.rows]
    assert not (test.values[:, None] == learned_from[None]).all(dim=(2, 3)).any()
    assert len(held_out(made, opened["columns"], runtime)) == int(opened["columns"].testing.sum())


def test_data_that_are_gone_are_told_and_others_can_be_given(base, capsys, tmp_path):
    data, out = shutil.copytree(base / "columns", tmp_path / "data"), tmp_path / "made"
    main(
        [
            "distill",
            "emulator",
            "--data",
            str(data),
            "--student",
            "cnn:width=4",
            "--steps",
            "2",
            *WORDS,
            "--out",
            str(out),
        ]
    )
    shutil.rmtree(data)
    capsys.readouterr()
    assert "which was not found. Give --data." in refused(capsys, "evaluate", out, *WORDS)
    main(["evaluate", str(out), "--data", str(base / "columns"), "--beside", "skip", *WORDS])
    assert "rms/peak" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ altered folders


def altered(folder, **change):
    """A folder whose description was altered, and signed again."""
    path = folder / "artefact.json"
    facts = json.loads(path.read_text())
    facts.pop("facts_digest")
    facts |= change
    path.write_text(json.dumps({**facts, "facts_digest": digest_of({}, facts)}))
    return folder


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("columns", {"answers": {}}),
        ("columns", {"answers": 5}),
        ("columns", {"turbulence": "x"}),
        ("columns", {"form": "emulator"}),
        ("columns", {"form": "run"}),
        ("columns", {"digest": "0"}),
        ("columns", {"schema": 99}),
        ("emulator", {"network": "mlp"}),
        ("emulator", {"network": "cnn:width=99"}),
        ("emulator", {"points": "x"}),
        ("emulator", {"form": "columns"}),
        ("emulator", {"origin": {}}),
    ],
    ids=str,
)
def test_altered_descriptions_are_refused_in_one_line(base, name, change, tmp_path):
    folder = altered(shutil.copytree(base / name, tmp_path / "copy"), **change)
    refusal(lambda: StoredPlasma.load(folder))


def test_damaged_files_are_named_and_a_lost_timing_is_not_missed(base, opened, tmp_path):
    for name, file in (("columns", "columns.safetensors"), ("emulator", "emulator.safetensors")):
        folder = shutil.copytree(base / name, tmp_path / name)
        (folder / "timing.json").write_text("{")
        assert type(StoredPlasma.load(folder)) is type(opened[name])
        (folder / file).write_bytes((folder / file).read_bytes()[:99])
        assert f"{file} is damaged or truncated" in refusal(lambda folder=folder: StoredPlasma.load(folder))
        (folder / file).unlink()
        assert f"{file} is missing" in refusal(lambda folder=folder: StoredPlasma.load(folder))


def test_another_run_in_a_folder_is_refused_and_loses_nothing(base, opened):
    before = (base / "columns" / "columns.safetensors").read_bytes()
    for method in (AnsweredColumns(count=13), KelvinHelmholtz(cells=(8, 8), end=0.1, outputs=1)):
        said = refusal(lambda method=method: attar.simulate(method, out=base / "columns", engine=ENGINE))
        assert "holds a run with other settings" in said
    assert (base / "columns" / "columns.safetensors").read_bytes() == before
    assert isinstance(attar.open_artefact(base / "columns"), Columns)


# ------------------------------------------------------------------------------------------------- runs from Python


def test_what_a_run_does_not_have_is_told(opened):
    run = opened["run"]
    for number in (3, -4):
        assert "it has the snapshots 0 to 2" in refusal(lambda number=number: run.temperature(number))
    np.testing.assert_array_equal(run.temperature(-1), run.temperature(2))
    assert "did you mean 'radiated'?" in refusal(lambda: run.measured("radiate"))
    assert "so it has no light at nan" in refusal(lambda: light_curve(run, relative_to=float("nan")))


def test_spectra_are_checked_before_a_library_is_asked(opened):
    seen, runtime = Seen(opened["run"]), Runtime(ENGINE)
    method = LineSpectra(transfer=CALCIUM, columns=2)
    for changed, said in (
        ({"at_snapshots": (0, 7)}, "snapshot 7 is not in this run; it has the snapshots 0 to 2."),
        ({"at_snapshots": (1, 1)}, "name each once"),
        ({"columns": 13}, "but the run has 12 columns of cells"),
    ):
        assert said in refusal(lambda changed=changed: dataclasses.replace(method, **changed).resolve(seen, runtime))


def test_growth_rates_and_cooling_take_what_they_can(tmp_path):
    y = np.linspace(-1, 1, 20)
    flat, speed = np.ones(20), np.tanh(y / 0.1)
    for values, k in (((flat, speed, y), np.inf), ((flat * np.inf, speed, y), 1.0), ((flat, speed, y[::-1]), 1.0)):
        assert "a profile needs ascending y" in refusal(lambda values=values, k=k: growth_rate(*values, k))
    for wrong in ({"ratio": -1}, {"ratio": float("nan")}, {"ratio": 10, "width": 0}, {"ratio": 10, "wall": 0}):
        assert "must be positive and finite" in refusal(lambda wrong=wrong: layer_growth(**wrong))
    method = KelvinHelmholtz(cells=(12, 12), layer=0.2, y_from=-1, y_to=1)
    assert "between two times that rise" in refusal(lambda: simulated_growth(method, between=(1, 0.5)))
    table = losses.packaged()
    for tau in (0, -1.0, float("nan")):
        assert "tau of the cooling" in refusal(lambda tau=tau: Cooling(table, tau))
    logarithms = tmp_path / "logarithms.txt"
    logarithms.write_text("4 -22\n5 -21.5\n")
    assert "give Λ, not its logarithm" in refusal(lambda: losses.read(logarithms))
