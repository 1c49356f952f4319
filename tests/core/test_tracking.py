"""Trackers of a run: what they are told, once and in order, whatever happens to the run or to them."""

import importlib
import json
import os
import signal
import sys

import pytest

import attar
from attar.cli import main
from attar.core import engine as loop
from attar.core import processes, tracking
from attar.core.errors import InputError, Interrupted
from attar.core.processes import Processes
from attar.core.runtime import Engine, Runtime
from attar.images.networks.architecture import Architecture

SETTINGS = {"ipc": 1, "steps": 5, "real_batch": 4, "architecture": Architecture(width=8)}
STEPS = [1, 2, 3, 4, 5]
STAND_IN = """
import json, os

def tell(*what):
    with open(os.environ["TOLD"], "a") as file:
        file.write(json.dumps(what, default=lambda thing: type(thing).__name__) + "\\n")

def broken(step):
    if os.environ.get("BROKEN") == str(step):
        raise ConnectionError("the network is down\\nand here is a long story")

class Settings:
    model_fields = {"console": None, "disable_git": None}
    def __init__(self, **given):
        tell("settings", given)

class Image:
    def __init__(self, pixels):
        self.shape = pixels.shape

class Config:
    def update(self, values, allow_val_change):
        tell("config", values)

config = Config()

class Run:
    info = type("Info", (), {"run_id": "0123abcd"})

    def log(self, values, step):
        broken(step)
        tell("log", step, values)

    def finish(self, exit_code=0):
        broken("finish")
        tell("finish", exit_code)

run = Run()

def init(project, **how):
    broken("start")
    tell("start", project, {name: value for name, value in how.items() if name != "settings"})
    return run
"""
"""A module that notes what it is told. MLflow's functions are below."""
MLFLOW = """
from types import SimpleNamespace

class utils:
    validation = SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)

def search_experiments(filter_string):
    return []

def create_experiment(name, artifact_location=None, tags=None):
    return name

def start_run(experiment_id, run_id=None, run_name=None, **more):
    broken("start")
    tell("start", experiment_id, {"id": run_id, "name": run_name})
    return run

def log_params(values):
    config.update(values, True)

def log_metrics(values, step):
    run.log(values, step)

def end_run(status="FINISHED"):
    broken("finish")
    tell("finish", 0 if status == "FINISHED" else status)
"""
NAMES = ("wandb", "trackio", "mlflow")


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Modules in place of the packages of trackers; a function that gives what they were told."""
    place, told = tmp_path / "modules", tmp_path / "told.jsonl"
    place.mkdir()
    for name in NAMES:
        (place / f"{name}.py").write_text(STAND_IN + (MLFLOW if name == "mlflow" else ""), encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setenv("TOLD", str(told))
    importlib.invalidate_caches()

    def read(what):
        lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
        return [rest for first, *rest in map(json.loads, lines) if first == what]

    yield read
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def method():
    return attar.DM(**SETTINGS)


def tracked(*names, **settings):
    return Engine(device="cpu", checkpoint_seconds=0, quiet=True, track=names, **settings)


def interrupt_at(monkeypatch, step, error=None):
    """Stop the next run in this step: by a signal, or as a kill does, before anything else is written."""
    real, taken = attar.DM.step, 0

    def interrupted(self, state, runtime):
        nonlocal taken
        taken += 1
        if taken == step:
            if error is not None:
                raise error
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, state, runtime)

    monkeypatch.setattr(attar.DM, "step", interrupted)


def curve(told):
    """The steps that a tracker was told, but for what came out."""
    return [step for step, values in told("log") if "loss" in values]


def killed(method, digits, folder, engine, monkeypatch, *, saved, step):
    """A run that is killed in a step, with a checkpoint of an earlier one."""
    real = loop.RunFolder.checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(loop.RunFolder, "checkpoint", lambda self, at, *rest: at > saved or real(self, at, *rest))
        interrupt_at(patch, step, RuntimeError("killed"))
        with pytest.raises(RuntimeError, match="killed"):
            attar.condense(digits, method, out=folder, engine=engine)


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_is_told_curve_settings_and_end(name, method, digits, tmp_path, stand_ins):
    attar.condense(digits, method, out=tmp_path / "made", engine=tracked(name, track_project="roses"))
    lines = [json.loads(line) for line in (tmp_path / "made/run/metrics.jsonl").read_text("utf-8").splitlines()]
    assert curve(stand_ins) == [line["step"] for line in lines] == STEPS
    losses = [values["loss"] for _, values in stand_ins("log") if "loss" in values]
    assert losses == [line["loss"] for line in lines]
    ((project, _),) = stand_ins("start")
    if name == "trackio":
        ((_, how),) = stand_ins("start")
        config = how["config"]
    else:
        ((config,),) = stand_ins("config")
    assert project == "roses"
    assert {"method": "dm", "ipc": 1, "steps": 5, "seed": 0, "width": 8}.items() <= config.items()
    assert all(isinstance(value, (bool, int, float, str)) for value in config.values())
    assert str(tmp_path) not in json.dumps(config)
    last, values = next((step, values) for step, values in stand_ins("log") if "seconds" in values)
    assert last == 5 and values["seconds"] > 0
    assert stand_ins("finish") == [[0]]


def test_pictures_are_shown_where_a_tracker_takes_them(method, digits, tmp_path, stand_ins):
    attar.condense(digits, method, out=tmp_path / "made", engine=tracked("wandb"))
    assert [5, {"preview": ["Image"]}] in stand_ins("log")
    assert stand_ins("settings") == [[{"console": "off", "disable_git": True}]]


def test_scores_of_a_student_are_told(digits, tmp_path, stand_ins):
    method = attar.KD(student="mlp:width=4", epochs=1)
    made = attar.distill(digits, method, teacher="mlp:width=4", engine=tracked("wandb"))
    (found,) = [values for _, values in stand_ins("log") if "score/accuracy" in values]
    assert found["score/accuracy"] == made.scores["student"]


def test_the_bytes_of_a_run_do_not_depend_on_trackers(method, digits, tmp_path, stand_ins):
    alone = attar.condense(digits, method, out=tmp_path / "alone", engine=tracked())
    told = attar.condense(digits, method, out=tmp_path / "told", engine=tracked(*NAMES, "tensorboard"))
    assert alone.fingerprint == told.fingerprint
    for path in (tmp_path / "alone").rglob("*"):
        if path.is_file() and path.name not in ("cost.json", ".lock"):
            assert (tmp_path / "told" / path.relative_to(tmp_path / "alone")).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_goes_on_in_the_same_place(name, method, digits, tmp_path, stand_ins, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            attar.condense(digits, method, out=tmp_path / "made", engine=tracked(name))
    assert stand_ins("finish")[0] != [0] or name == "trackio"  # which has no word for it
    attar.condense(digits, method, out=tmp_path / "made", engine=tracked(name))
    assert curve(stand_ins) == STEPS
    assert len(stand_ins("config")) == (name != "trackio")
    (_, first), (_, second) = stand_ins("start")
    if name == "mlflow":
        assert first["id"] is None and second["id"] == "0123abcd"
    else:
        assert first == second and second["resume"] == "allow"


def test_no_step_is_told_twice_after_kills(method, digits, tmp_path, stand_ins, monkeypatch):
    engine = tracked("wandb")
    killed(method, digits, tmp_path / "made", engine, monkeypatch, saved=2, step=5)  # told up to 4
    killed(method, digits, tmp_path / "made", engine, monkeypatch, saved=2, step=2)  # goes on at 3, knows only 3
    attar.condense(digits, method, out=tmp_path / "made", engine=engine)
    assert curve(stand_ins) == STEPS
    whole = attar.condense(digits, method, out=tmp_path / "whole", engine=tracked())
    assert attar.open_artefact(tmp_path / "made").fingerprint == whole.fingerprint


def test_a_tracker_that_comes_later_is_told_what_was_before(method, digits, tmp_path, stand_ins, monkeypatch):
    for step, names in ((2, ("wandb",)), (1, ()), (None, ("wandb", "trackio"))):
        with monkeypatch.context() as patch:
            if step is None:
                attar.condense(digits, method, out=tmp_path / "made", engine=tracked(*names))
                continue
            interrupt_at(patch, step)
            with pytest.raises(Interrupted):
                attar.condense(digits, method, out=tmp_path / "made", engine=tracked(*names))
    assert sorted(curve(stand_ins)) == sorted(2 * STEPS)


def test_a_tracker_that_fails_is_told_of_once_and_the_run_goes_on(method, digits, tmp_path, stand_ins, monkeypatch):
    monkeypatch.setenv("BROKEN", "3")
    lines = []
    engine = Engine(device="cpu", checkpoint_seconds=0, track=("wandb",))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 4)
        with pytest.raises(Interrupted):
            attar.condense(digits, method, out=tmp_path / "made", engine=engine, say=lines.append)
    (told,) = [line for line in lines if "tracker" in line]
    where = tmp_path / "made" / "run" / "metrics.jsonl"
    assert told == (
        f"note: the tracker wandb failed (the network is down); the run goes on without it. Its curve is in {where}."
    )
    assert curve(stand_ins) == [1, 2]
    monkeypatch.delenv("BROKEN")
    attar.condense(digits, method, out=tmp_path / "made", engine=engine)  # nothing is lost for it
    assert curve(stand_ins) == STEPS


def test_a_tracker_that_fails_at_the_end_takes_nothing_with_it(method, digits, tmp_path, stand_ins, monkeypatch):
    monkeypatch.setenv("BROKEN", "finish")
    made = attar.condense(digits, method, out=tmp_path / "made", engine=tracked(*NAMES))
    assert made.images.shape == (10, 1, 8, 8) and loop.finished(tmp_path / "made")


@pytest.mark.parametrize(
    "name, advice",
    [
        ("wandb", "Log in with `wandb login`, or set WANDB_MODE=offline."),
        ("mlflow", "See to MLFLOW_TRACKING_URI."),
        ("trackio", "Leave out --track trackio."),
    ],
)
def test_one_that_does_not_start_is_refused_in_one_line(name, advice, method, digits, tmp_path, stand_ins, monkeypatch):
    monkeypatch.setenv("BROKEN", "start")
    with pytest.raises(InputError) as refusal:
        attar.condense(digits, method, out=tmp_path / "made", engine=tracked(name))
    assert str(refusal.value) == f"the tracker {name} does not start (the network is down). {advice}"
    monkeypatch.delenv("BROKEN")
    attar.condense(digits, method, out=tmp_path / "made", engine=tracked(name))
    assert curve(stand_ins) == STEPS


def test_a_missing_package_is_told_before_anything_is_read(monkeypatch, capsys):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        main(["condense", "random", "--data", "digits", "--track", "wandb", "--device", "cpu"])
    line = capsys.readouterr().err.strip()
    assert stop.value.code == 2 and line.startswith("attar: --track wandb needs the package wandb: pip install ")
    assert "[wandb]" in line and "\n" not in line
    with pytest.raises(InputError, match="--track tensorboard needs the package tensorboard"):
        Runtime(Engine(device="cpu", tensorboard=True))


def test_other_words_are_no_trackers(capsys):
    with pytest.raises(SystemExit):
        main(["condense", "random", "--data", "digits", "--track", "paper"])
    assert "--track" in capsys.readouterr().err
    with pytest.raises(InputError, match="track"):
        Engine(track=("paper",))


def test_the_older_flag_is_one_of_the_trackers():
    assert Engine(tensorboard=True).trackers == Engine(track=("tensorboard",)).trackers == ("tensorboard",)
    assert Engine(track=("tensorboard", "wandb", "wandb"), tensorboard=True).trackers == ("tensorboard", "wandb")
    assert Engine().trackers == ()


def test_a_run_in_memory_is_tracked_too(method, digits, stand_ins):
    lines = []
    engine = Engine(device="cpu", track=("tensorboard", "trackio"))
    attar.condense(digits, method, engine=engine, say=lines.append)
    assert curve(stand_ins) == STEPS
    assert [line for line in lines if "TensorBoard" in line] == [
        "note: TensorBoard is not told: it writes into a run's folder, and this run has none."
    ]


def test_networks_that_are_trained_beside_a_run_are_not_told_of(digits, tmp_path, stand_ins):
    method = attar.KD(student="mlp:width=4", epochs=1)
    attar.distill(digits, method, teacher="mlp:width=5", out=tmp_path / "made", engine=tracked("wandb"))
    assert len(stand_ins("start")) == 1


def test_another_project_is_another_run(method, digits, tmp_path, stand_ins, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            attar.condense(digits, method, out=tmp_path / "made", engine=tracked("trackio"))
    attar.condense(digits, method, out=tmp_path / "made", engine=tracked("trackio", track_project="other"))
    (one, first), (other, second) = stand_ins("start")
    assert (one, other) == ("attar", "other") and first["name"] != second["name"]
    assert curve(stand_ins) == [1, 2, 3, *STEPS]


def test_a_run_that_takes_the_place_of_another_is_another_there(method, digits, tmp_path, stand_ins, monkeypatch):
    engine = tracked("wandb")
    with monkeypatch.context() as patch:
        patch.setattr(loop.RunFolder, "checkpoint", lambda *given: None)
        interrupt_at(patch, 3, RuntimeError("killed"))
        with pytest.raises(RuntimeError, match="killed"):
            attar.condense(digits, method, out=tmp_path / "made", engine=engine)
    attar.condense(digits, method, out=tmp_path / "made", seed=1, engine=engine)
    (_, first), (_, second) = stand_ins("start")
    assert first["id"] != second["id"] and curve(stand_ins) == [1, 2, *STEPS]


@pytest.mark.parametrize("text", ["{", "[]", '{"wandb": 3}', '{"wandb": {"project": "attar", "id": 1}}', "\0", ""])
def test_a_damaged_file_of_trackers_begins_a_new_run_there(text, method, digits, tmp_path, stand_ins, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            attar.condense(digits, method, out=tmp_path / "made", engine=tracked("wandb"))
    (tmp_path / "made" / "run" / "trackers.json").write_text(text, encoding="utf-8")
    attar.condense(digits, method, out=tmp_path / "made", engine=tracked("wandb"))
    assert curve(stand_ins) == [1, 2, 3, *STEPS]


def test_a_finished_run_is_told_to_no_tracker_and_that_is_said(method, digits, tmp_path, stand_ins):
    lines, out = [], tmp_path / "made"
    attar.condense(digits, method, out=out, engine=tracked("wandb"))
    attar.condense(digits, method, out=out, engine=tracked("wandb"), say=lines.append)
    assert not [line for line in lines if "told" in line]
    attar.condense(digits, method, out=out, engine=tracked("wandb", "mlflow"), say=lines.append)
    curve = out / "run" / "metrics.jsonl"
    assert [line for line in lines if "told" in line] == [
        f"note: mlflow: not told of this run, which is finished. Its curve is in {curve}."
    ]
    assert len(stand_ins("start")) == 1


def test_only_the_first_of_several_processes_needs_the_package(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    monkeypatch.setattr(processes, "current", lambda *, cpu: processes.ALONE)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    Runtime(tracked("wandb"))
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="--track wandb needs the package wandb"):
        Runtime(tracked("wandb"))


def test_only_the_first_of_several_processes_tracks(method, digits, stand_ins):
    runtime = Runtime(tracked("wandb"))
    runtime.processes = Processes()
    runtime.processes.rank = 1
    trackers = tracking.Tracked(runtime)
    trackers.start("dm", {})
    trackers.log(1, {"loss": 1.0})
    assert not stand_ins("start")


def test_secrets_and_absolute_paths_stay_here(digits, tmp_path):
    class Method:
        name = "mine"

        def to_json(self):
            return {"token": "hf_secret", "inner": {"address": "host:1"}, "file": str(tmp_path / "x"), "open": None}

    class Source:
        name, fingerprint = "digits", "f"

    runtime = Runtime.__new__(Runtime)
    runtime.engine, runtime.seed, runtime.call = tracked("wandb"), 0, None
    runtime.describe = lambda: {"torch": "2", "threads": 1}
    told = tracking.config_of(Method(), Source(), runtime)
    assert told == {
        "method": "mine", "data": "digits", "data_fingerprint": "f", "seed": 0, "file": "x", "torch": "2", "threads": 1,
    }  # fmt: skip


def test_names_of_metrics_are_such_as_mlflow_takes():
    assert tracking._named_for("mlflow", {"λ·loss (%)": 1.0, "held-out accuracy": 2.0}) == {
        "__loss ___": 1.0,
        "held-out accuracy": 2.0,
    }
    assert tracking._named_for("wandb", {"λ·loss": 1.0}) == {"λ·loss": 1.0}


def test_what_is_not_finite_is_not_told(stand_ins, tmp_path):
    with tracking.Tracked(Runtime(tracked("wandb")), tmp_path) as trackers:
        trackers.start("dm", {})
        trackers.log(1, {"loss": float("nan"), "other": 1.0})
    assert stand_ins("log") == [[1, {"other": 1.0}]]


def test_the_thread_count_stays(tmp_path, stand_ins):
    import torch

    threads = torch.get_num_threads()
    tracking._prepare_accelerate(Runtime(tracked("wandb")))
    assert torch.get_num_threads() == threads


def test_tensorboard_has_every_step_once_after_a_kill(method, digits, tmp_path, monkeypatch):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard")
    engine = tracked("tensorboard")
    killed(method, digits, tmp_path, engine, monkeypatch, saved=2, step=5)
    attar.condense(digits, method, out=tmp_path, engine=engine)
    found = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    assert [event.step for event in found.Scalars("loss")] == STEPS
    assert found.Scalars("seconds")[0].step == 5
    assert [event.step for event in found.Images("preview")] == [5]
