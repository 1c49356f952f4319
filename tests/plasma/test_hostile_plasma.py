"""Simulations as people ask for them: odd settings, units that do not fit, damaged runs. Each is one clear line."""

import dataclasses
import json
import shutil

import pytest
import torch

import attar
from attar.cli import main
from attar.core import memory
from attar.core.errors import Diverged, InputError
from attar.core.extras import install
from attar.core.runtime import Engine, Runtime
from attar.plasma import Units, forecast, solvers
from attar.plasma.artefact import Run, StoredPlasma
from attar.plasma.fluid import Fluid, check_step
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz
from attar.plasma.pictures import preview
from attar.plasma.reading import Reading
from attar.plasma.snapshots import file_of

ENGINE = Engine(device="cpu", quiet=True)
SMALL = KelvinHelmholtz(cells=(12, 10), end=0.3, outputs=2, solver="numpy")
BRIEF = ["--cells", "12", "10", "--end", "0.3", "--outputs", "2", "--solver", "numpy", "--device", "cpu", "--quiet"]


def refused(capsys, *words):
    """What the command says on standard error, on one line, as it exits with code 2."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1, said
    return said


def refusal(**settings):
    """The one line with which settings are refused from Python."""
    with pytest.raises(InputError) as error:
        attar.simulate(dataclasses.replace(SMALL, **settings), engine=ENGINE)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "made"
    attar.simulate(SMALL, out=folder, engine=ENGINE)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of a run, to be damaged."""
    return shutil.copytree(made, tmp_path / "copy")


# ---------------------------------------------------- commands


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--density-ratio", "-1"], "--density-ratio takes a number from 0.001 to 1000000, not '-1'"),
        (["--density-ratio", "0"], "--density-ratio takes a number from 0.001 to 1000000, not '0'"),
        (["--density-ratio", "nan"], "--density-ratio takes a number"),
        (["--density-ratio", "many"], "--density-ratio takes a number"),
        (["--end", "0"], "--end takes a number"),
        (["--end", "-3"], "--end takes a number"),
        (["--end", "inf"], "--end takes a number"),
        (["--end", "1e-5"], "more snapshots than the run has time steps (about 1)"),
        (["--end", "1e11"], "Ask for fewer --cells, an earlier --end"),
        (["--outputs", "0"], "--outputs takes a whole number"),
        (["--outputs", "2.5"], "--outputs takes a whole number"),
        (["--outputs", "10000"], "more snapshots than the run has time steps (about 2"),
        (["--cells", "12"], "--cells"),
        (["--cells", "12", "10", "9"], "--cells"),
        (["--cells", "4", "4"], "--cells"),
        (["--cells", "0", "10"], "--cells"),
        (["--cells", "65536", "65536"], "of memory, and this machine has"),
        (["--cells", "70000", "10"], "--cells"),
        (["--cells", "12", "x"], "--cells"),
        (["--shear", "-0.2"], "--shear takes a number from 0 to 100, not '-0.2'"),
        (["--shear", "1e6"], "--shear takes a number"),
        (["--plasma-beta", "0"], "--plasma-beta takes a number"),
        (["--plasma-beta", "-1"], "--plasma-beta takes a number"),
        (["--layer", "0"], "--layer takes a number"),
        (["--layer", "0.4"], "the domain ends 0.5 from the layer, which needs 0.8 on both sides"),
        (["--layer", "5"], "2 half-widths of --layer and two rows of cells"),
        (["--noise-speed", "-1"], "--noise-speed takes a number"),
        (["--waves", "-1"], "--waves takes a whole number"),
        (["--waves", "1.5"], "--waves takes a whole number"),
        (["--x-from", "1"], "x must rise"),
        (["--x-from=2"], "x must rise"),
        (["--x-to=-1"], "x must rise"),
        (["--y-from=0.1"], "y = 0, where the layer lies, must be inside"),
        (["--y-to=-0.1"], "y = 0, where the layer lies, must be inside"),
        (["--y-from=0"], "y = 0, where the layer lies, must be inside"),
        (["--y-to", "0.01"], "the domain ends 0.01 from the layer"),
        (["--y-from=-0.005", "--y-to", "0.005"], "the domain ends 0.005 from the layer"),
        (["--x-walls", "open"], "--x-walls takes"),
        (["--y-walls", "Mirror"], "--y-walls takes"),
        (["--radiation", "on"], "--radiation takes cut, true or off"),
        (["--radiation", "none"], "--radiation takes cut, true or off"),
        (["--losses", "chiantee"], "chiantee"),
        (["--losses", ""], "--losses"),
        (["--losses", "no/such/table.txt"], "no/such/table.txt"),
        (["--solver", "fortran"], "--solver takes"),
        (["--frame", "rest"], "--frame takes"),
        (["--cfl", "0"], "--cfl takes a number from 0.001 to 0.5, not '0'"),
        (["--cfl", "0.8"], "--cfl takes a number from 0.001 to 0.5, not '0.8'"),
        (["--unit-distance", "1e6", "--cooling-time", "100"], "do not fit"),
        (["--unit-distance", "1e6", "--cooling-time", "1"], "Give one of them."),
        (["--unit-density", "0"], "--unit-density takes a number"),
        (["--unit-temperature", "-5"], "--unit-temperature takes a number"),
        (["--unit-distance", "0"], "--unit-distance takes a number"),
        (["--cooling-time", "0"], "--cooling-time takes a number"),
        (["--cooling-time", "inf"], "--cooling-time takes a number"),
        (["--data", "digits"], "kelvin-helmholtz reads no data. Leave out --data."),
        (["--teacher", "x"], "unknown flag --teacher"),
        (["--ratio", "10"], "unknown flag --ratio"),
        (["--paper", "2d-2023"], "2d-2023"),
        (["--paper", "3d-2023"], "has three dimensions"),
        (["--paper", "2d-2022", "--variant", "paper"], "has only one published variant. Do not give --variant."),
        (["--baseline", "random"], "--baseline"),
        (["--device", "cuda:77"], "--device"),
        (["--seed", "x"], "--seed takes a whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_are_refused_in_one_line(words, said, capsys, tmp_path):
    given = [word for word in BRIEF if word not in ("--device", "cpu")] if "--device" in words else BRIEF
    kept = _without(given, {word.split("=")[0] for word in words})
    line = refused(capsys, "simulate", "kelvin-helmholtz", *kept, *words, "--out", tmp_path / "run")
    assert said in line and len(line) < 500
    assert not (tmp_path / "run" / "artefact.json").exists()


def _without(words, flags):
    """Words without these flags and what follows them."""
    kept, skipping = [], False
    for word in words:
        skipping = word in flags if word.startswith("--") else skipping
        kept += [] if skipping else [word]
    return kept


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["simulate"], ""),
        (["simulate", "--cells", "8", "8"], "METHOD must be given before --cells"),
        (["simulate", "kelvin-helmholz"], "did you mean 'kelvin-helmholtz'?"),
        (["simulate", "dm"], "dm is used with `attar condense`, not `attar simulate`."),
        (["condense", "kelvin-helmholtz"], "kelvin-helmholtz is used with `attar simulate`, not `attar condense`."),
        (["distill", "kelvin-helmholtz"], "kelvin-helmholtz is used with `attar simulate`, not `attar distill`."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_verbs_say_which_is_right(words, said, capsys):
    if said:
        assert said in refused(capsys, *words)
    else:
        main(words)
        assert "kelvin-helmholtz" in capsys.readouterr().out


def test_a_run_is_not_measured_again_and_that_is_one_line(made, capsys):
    line = refused(capsys, "evaluate", made, "--device", "cpu", "--quiet")
    assert line == "attar: what `attar simulate` has made is not measured again. To see it: attar report FOLDER\n"


def test_a_run_is_no_data_of_other_verbs(made, capsys):
    line = refused(capsys, "condense", "random", "--ipc", "1", "--data", made, "--device", "cpu", "--quiet")
    assert str(made) in line


# --------------------------------------------------- Python


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"y_to": -1.0}, "must be inside"),
        ({"x_to": -5.0}, "x must rise"),
        ({"losses": "nothing"}, "nothing"),
        ({"units": Units(unit_distance=1.0, cooling_time=1.0)}, "do not fit"),
        ({"outputs": 500}, "more snapshots than the run has time steps"),
        ({"end": 1e11}, "more than 1e+08"),
        ({"plasma_beta": 1e-6, "end": 1e6}, "time steps, more than"),
        ({"cells": (60_000, 60_000)}, "60000×60000 cells need about"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_one_another_are_refused(settings, said):
    assert said in refusal(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"cells": (12,)},
        {"cells": 12},
        {"cells": "12 10"},
        {"cells": (12.5, 10)},
        {"density_ratio": -1.0},
        {"density_ratio": float("nan")},
        {"density_ratio": "100"},
        {"shear": None},
        {"end": float("inf")},
        {"end": True},
        {"outputs": 1.5},
        {"x_from": float("nan")},
        {"y_from": -1e30},
        {"x_walls": "open"},
        {"radiation": True},
        {"solver": "cuda"},
        {"losses": 5},
        {"units": {"unit_distance": 1.0}},
        {"units": None},
        {"waves": -2},
    ],
    ids=str,
)
def test_values_that_are_none_are_refused_when_they_are_set(settings):
    with pytest.raises(InputError) as error:
        dataclasses.replace(SMALL, **settings)
    assert "\n" not in str(error.value) and next(iter(settings)).split("_")[0] in str(error.value).replace("-", "_")


def test_names_that_are_none_are_refused():
    with pytest.raises(InputError, match="unknown setting"):
        KelvinHelmholtz.from_json({"cels": [12, 10]})
    with pytest.raises(InputError, match="no cell of 'khi'"):
        KelvinHelmholtz.paper("khi")
    with pytest.raises(InputError, match="is used with `attar simulate`"):
        attar.condense("digits", SMALL, engine=ENGINE)
    with pytest.raises(InputError, match=r"unknown argument of attar\.simulate 'teacher'"):
        attar.simulate(SMALL, teacher="x", engine=ENGINE)


def test_a_missing_extra_is_told_before_anything_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(solvers, "find_spec", lambda name: None)
    with pytest.raises(InputError) as error:
        attar.simulate(dataclasses.replace(SMALL, solver="numba"), out=tmp_path / "run", engine=ENGINE)
    assert str(error.value) == f"solver numba needs Numba: {install('plasma')}."
    assert not (tmp_path / "run").exists()
    assert solvers.chosen_solver("auto", Runtime(ENGINE)) == "numpy"


def test_memory_is_asked_for_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(forecast, "machine_bytes", lambda: 10**6)
    assert refusal(cells=(200, 200)) == (
        "200×200 cells need about 28.8 MB of memory, and this machine has 1 MB. Ask for fewer --cells."
    )
    monkeypatch.setattr(forecast, "machine_bytes", lambda: None)  # where the system does not tell
    forecast.check_size(SMALL.grid)
    assert memory.machine_bytes() is None or memory.machine_bytes() > 10**8


def test_a_fluid_that_is_not_finite_ends_the_run_in_one_line(monkeypatch, tmp_path):
    from attar.plasma import kelvin_helmholtz

    def broken(solver, fluid, *rest):
        fluid.conserved[3] = float("nan")

    monkeypatch.setattr(kelvin_helmholtz, "advance_by", broken)
    with pytest.raises(InputError) as error:
        attar.simulate(SMALL, out=tmp_path / "run", engine=ENGINE)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "artefact.json").exists()


def test_a_time_step_that_vanishes_is_told():
    fluid = Fluid.of(torch.ones(5, 2, 2, dtype=torch.float64))
    for dt in (float("nan"), 0.0, -1.0, float("inf")):
        with pytest.raises(Diverged, match="the time step is"):
            check_step(dt, fluid)
    fluid.time = 1e6
    with pytest.raises(Diverged, match=r"at t = 1e\+06, after 0 steps"):
        check_step(1e-12, fluid)


def test_extreme_settings_that_are_allowed_run(tmp_path):
    for settings in (
        {"density_ratio": 1e6},
        {"density_ratio": 1e-3, "end": 0.05},
        {"shear": 0.0, "noise_speed": 0.0},
        {"shear": 20.0},
        {"plasma_beta": 1e12},
        {"plasma_beta": 0.001, "end": 0.05},
        {"cells": (8, 8)},
        {"cells": (40, 8)},
        {"x_walls": "mirror", "y_walls": "periodic"},
        {"units": Units(cooling_time=1e-9)},
        {"units": Units(cooling_time=1e12)},
        {"units": Units(unit_density=1e20)},
        {"units": Units(unit_temperature=1e9)},
        {"radiation": "true"},
        {"layer": 1e-9},
        {"layer": 0.13},
        {"waves": 1},
        {"waves": 10_000},
    ):
        made = attar.simulate(dataclasses.replace(SMALL, **settings), engine=ENGINE)
        assert all(torch.isfinite(states).all() for states in made.snapshots), settings
        assert preview(made) and made.described
    made.save(tmp_path / "saved")


#  damaged runs


def test_missing_and_altered_files_are_told(folder):
    file_of(folder, 1).unlink()
    with pytest.raises(InputError, match=r"00001.safetensors is missing"):
        attar.open_artefact(folder)
    shutil.copy(file_of(folder, 0), file_of(folder, 1))
    made = attar.open_artefact(folder)
    with pytest.raises(InputError, match=r"00001.safetensors is not the file that artefact.json describes"):
        made.temperature(1)
    assert (made.temperature(0) > 0).all()
    file_of(folder, 2).write_bytes(b"\x80\x04pickle....")
    with pytest.raises(InputError, match="is a pickle"):
        made.snapshots[2]
    file_of(folder, 2).write_bytes(b"short")
    with pytest.raises(InputError, match="is damaged or truncated"):
        made.snapshots[2]


@pytest.mark.parametrize(
    "change",
    [
        {"units": {}},
        {"units": {"unit_density": -1}},
        {"units": 5},
        {"grid": {"rows": 1}},
        {"grid": None},
        {"corner": []},
        {"corner": ["a", "b"]},
        {"snapshots": 5},
        {"snapshots": [1, 2, 3, 4, 5, 6]},
        {"losses": None, "cooling": None, "grid": []},
        {"origin": {}},
        {"form": "movie"},
    ],
    ids=str,
)
def test_descriptions_that_are_none_are_refused(folder, change):
    path = folder / "artefact.json"
    facts = json.loads(path.read_text())
    from attar.core.store import digest_of

    facts.pop("facts_digest")
    facts |= change
    path.write_text(json.dumps({**facts, "facts_digest": digest_of({}, facts)}))
    with pytest.raises(InputError) as error:
        StoredPlasma.load(folder)
    assert "\n" not in str(error.value)


def test_an_altered_description_and_another_kind_are_refused(folder, capsys):
    path = folder / "artefact.json"
    text = path.read_text()
    path.write_text(text.replace('"cut"', '"off"'))
    with pytest.raises(InputError, match="was altered after it was written"):
        attar.open_artefact(folder)
    path.write_text(text.replace('"plasma"', '"images"'))
    assert refused(capsys, "data", folder)


def test_folders_that_hold_no_run_are_refused(tmp_path):
    with pytest.raises(InputError, match="attar simulate kelvin-helmholtz"):
        Reading().load(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="holds no"):
        Reading().load(str(tmp_path))
    with pytest.raises(InputError):
        Run.load(tmp_path / "nothing")


def test_another_run_in_its_folder_is_refused_and_loses_nothing(folder):
    before = file_of(folder, 1).read_bytes()
    with pytest.raises(InputError, match=r"holds a run with other settings \(shear: 0\.2 in the folder"):
        attar.simulate(dataclasses.replace(SMALL, shear=0.3), out=folder, engine=ENGINE)
    assert file_of(folder, 1).read_bytes() == before
