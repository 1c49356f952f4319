"""What every method of images must do: same seed same bytes, killed equals uninterrupted, bad data refused.

A new method joins by one line in CHEAP: settings with which it runs in a second.
"""

import dataclasses
import json

import pytest
import torch

import attar
from attar.cli import main
from attar.core.engine import RunFolder
from attar.core.errors import InputError
from attar.core.registry import METHODS
from attar.core.runtime import Engine, Runtime
from attar.images.artefact import FILES
from attar.images.condense.ast import SMOOTH
from attar.images.experts import Experts
from attar.images.labels.captions import TinyClip
from attar.images.networks.architecture import Architecture
from attar.images.training import Protocol

SMALL = Architecture(width=8)
BRIEF = Protocol(name="brief", epochs=2)
FEW = Experts(experts=2)
TRAJECTORY = {
    "ipc": 2,
    "steps": 6,
    "student_steps": 3,
    "last_start": 2,
    "zca": True,
    "architecture": SMALL,
    "experts": FEW,
}
RECOVERY = {
    "ipc": 2,
    "iterations": 3,
    "block": 4,
    "start": "real",
    "architecture": dataclasses.replace(SMALL, norm="batch"),
    "protocol": BRIEF,
}
CHEAP = {
    "random": {"ipc": 2},
    "class-mean": {"ipc": 1},
    "herding": {"ipc": 2, "architecture": SMALL, "protocol": BRIEF},
    "k-center": {"ipc": 2, "architecture": SMALL, "protocol": BRIEF},
    "k-means": {"ipc": 2, "architecture": SMALL, "protocol": BRIEF},
    "dm": {"ipc": 2, "steps": 6, "real_batch": 4, "architecture": SMALL},
    "datadam": {"ipc": 2, "steps": 6, "real_batch": 4, "architecture": dataclasses.replace(SMALL, norm="batch")},
    "atom": {"ipc": 2, "steps": 6, "real_batch": 4, "architecture": SMALL},
    "dc": {
        "ipc": 2,
        "start": "real",
        "networks": 3,
        "matches": 2,
        "epochs": 1,
        "real_batch": 4,
        "architecture": SMALL,
    },
    "dsa": {
        "ipc": 2,
        "networks": 3,
        "matches": 2,
        "epochs": 1,
        "real_batch": 4,
        "architecture": dataclasses.replace(SMALL, norm="batch"),
    },
    "dcc": {"ipc": 2, "networks": 2, "matches": 3, "epochs": 1, "real_batch": 4, "architecture": SMALL},
    "mtt": TRAJECTORY,
    "tesla": {**TRAJECTORY, "assigned_labels": True},
    "ftd": {**TRAJECTORY, "experts": dataclasses.replace(FEW, flat_radius=0.01)},
    "datm": TRAJECTORY,
    "ast": {**TRAJECTORY, "experts": dataclasses.replace(SMOOTH, experts=2)},
    "edf": {**TRAJECTORY, "refresh": 2, "dropout": 0.25},
    "sre2l": RECOVERY,
    "cda": RECOVERY,
    "relabel": {
        "ipc": 2,
        "teachers": 2,
        "architecture": SMALL,
        "protocol": BRIEF,
    },
    "hello": {
        "ipc": 2,
        "candidates": 20,
        "fit_steps": 6,
        "rank": 2,
        "tiny": TinyClip(clip_width=16, clip_layers=1, clip_epochs=1),
        "architecture": SMALL,
        "protocol": BRIEF,
    },
    "rded": {"ipc": 2, "candidates": 20, "labels": "teacher", "architecture": SMALL, "protocol": BRIEF},
}
EVERY_STEP = Engine(device="cpu", checkpoint_seconds=0, quiet=True)


class Killed(BaseException):
    """Ends a run as abruptly as an exception can."""


@pytest.fixture(params=sorted(CHEAP))
def method(request):
    return METHODS[request.param].load()(**CHEAP[request.param])


def artefact_bytes(folder):
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def die_at(monkeypatch, method, step):
    """Have the method die in the middle of its `step`-th step."""
    real, taken = type(method).step, 0

    def dying(self, state, runtime):
        nonlocal taken
        taken += 1
        metrics = real(self, state, runtime)
        if taken == step:
            raise Killed
        return metrics

    monkeypatch.setattr(type(method), "step", dying)


def test_every_method_of_images_is_in_the_battery():
    assert set(CHEAP) == {name for name, entry in METHODS.items() if entry.kind == "images"}


def test_the_same_seed_gives_the_same_bytes(method, digits, tmp_path):
    for name in ("one", "two"):
        attar.condense(digits, method, out=tmp_path / name, seed=3, engine=EVERY_STEP)
    assert artefact_bytes(tmp_path / "one") == artefact_bytes(tmp_path / "two")


def test_another_seed_gives_another_set(method, digits):
    one, two = (attar.condense(digits, method, seed=seed, engine=EVERY_STEP) for seed in (0, 1))
    assert one.fingerprint != two.fingerprint or method.name == "class-mean"


def test_each_class_may_have_its_own_number_of_images(method, digits, tmp_path, monkeypatch):
    if method.name == "class-mean":
        pytest.skip("a class has one mean")
    method = dataclasses.replace(method, ipc=(3, 1, 2, 2, 2, 2, 2, 2, 2, 4))
    small = attar.condense(digits, method, out=tmp_path / "whole", engine=EVERY_STEP)
    assert len(small.labels) == sum(method.ipc)
    if small.labels.ndim == 1:  # a soft label may say another class than the one its image started from
        assert torch.bincount(small.labels).tolist() == list(method.ipc)
        assert small.labels.tolist() == sorted(small.labels.tolist())
    report = attar.evaluate(
        small, digits, networks=[SMALL], repeats=1, protocol=BRIEF, ceiling="skip", beside="skip", engine=EVERY_STEP
    )
    assert report.images == 22
    if method.resolve(digits, Runtime(EVERY_STEP)).total_steps:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            die_at(patch, method, 4)
            attar.condense(digits, method, out=tmp_path / "killed", engine=EVERY_STEP)
        attar.condense(digits, method, out=tmp_path / "killed", engine=EVERY_STEP)
        assert artefact_bytes(tmp_path / "killed") == artefact_bytes(tmp_path / "whole")
    settings = json.loads((tmp_path / "whole" / "run" / "settings.json").read_text())["settings"]
    assert type(method).from_json(settings).ipc == method.ipc


@pytest.mark.parametrize("step", [1, 4, 6])
def test_killed_and_resumed_equals_uninterrupted(method, step, digits, tmp_path, monkeypatch):
    if method.resolve(digits, Runtime(EVERY_STEP)).total_steps == 0:
        pytest.skip("nothing to interrupt: it has no steps of its own")
    attar.condense(digits, method, out=tmp_path / "whole", engine=EVERY_STEP)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_at(patch, method, step)
        attar.condense(digits, method, out=tmp_path / "killed", engine=EVERY_STEP)
    assert not (tmp_path / "killed" / "artefact.json").exists()
    attar.condense(digits, method, out=tmp_path / "killed", engine=EVERY_STEP)
    assert artefact_bytes(tmp_path / "killed") == artefact_bytes(tmp_path / "whole")
    curves = [(tmp_path / name / "run" / "metrics.jsonl").read_text() for name in ("killed", "whole")]
    assert curves[0] == curves[1]


def test_resuming_takes_up_where_the_checkpoint_was(digits, tmp_path, monkeypatch):
    method = attar.DM(**CHEAP["dm"])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_at(patch, method, 5)
        attar.condense(digits, method, out=tmp_path, engine=EVERY_STEP)
    restored = []
    real = RunFolder.restore
    monkeypatch.setattr(RunFolder, "restore", lambda *a: restored.append(real(*a)) or restored[-1])
    attar.condense(digits, method, out=tmp_path, engine=EVERY_STEP)
    assert restored == [4]


def test_a_finished_run_is_read_and_not_repeated(method, digits, tmp_path, monkeypatch):
    first = attar.condense(digits, method, out=tmp_path, engine=EVERY_STEP)
    monkeypatch.setattr(type(method), "build", lambda *a: pytest.fail("ran again"))
    again = attar.condense(digits, method, out=tmp_path, engine=EVERY_STEP)
    assert again.fingerprint == first.fingerprint


def test_settings_survive_json(method, digits, runtime):
    resolved = method.resolve(digits, runtime)
    for settings in (method, resolved):
        assert type(method).from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_settings_survive_the_command_line(method, digits, tmp_path, runtime, capsys):
    flags = [word for name, value in flat(method.to_json()) for word in flag(name, value)]
    main(["condense", method.name, *flags, "--data", "digits", "--out", str(tmp_path / "run"), "--quiet"])
    saved = json.loads((tmp_path / "run" / "run" / "settings.json").read_text())
    assert type(method).from_json(saved["settings"]) == method.resolve(digits, runtime)
    assert "100 images" in capsys.readouterr().out or method.ipc < 10


def flat(values):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat({f"protocol.{k}" if name == "protocol" else k: v for k, v in value.items()})
        else:
            yield name, value


def flag(name, value):
    name = "--" + name.removeprefix("protocol.").replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool):
        return [name if value else name.replace("--", "--no-", 1)]
    return [name, str(value)]


def test_one_class_only_is_refused(method, digits):
    zeros = digits.rows_of[0]
    with pytest.raises(InputError, match="has one class only"):
        attar.condense((digits.train.pixels[zeros], digits.train.labels[zeros]), method, engine=EVERY_STEP)


def test_more_images_than_the_smallest_class_has_are_refused(method, digits):
    few = digits.subset(torch.cat([rows[: 1 if label == 7 else 9] for label, rows in enumerate(digits.rows_of)]))
    if method.name == "class-mean":
        pytest.skip("it makes one image of however many there are")
    with pytest.raises(InputError, match=r"ipc is 2, but class '7' of digits has 1 images\."):
        attar.condense(few, method, engine=EVERY_STEP)


@pytest.mark.parametrize("numbers", [(), (1,) * 9, (1,) * 11])
def test_numbers_for_other_than_its_classes_are_refused(method, numbers, digits):
    if method.name == "class-mean":
        pytest.skip("a class has one mean")
    with pytest.raises(InputError) as refusal:
        attar.condense(digits, dataclasses.replace(method, ipc=numbers), engine=EVERY_STEP)
    assert str(refusal.value) == (
        f"ipc has {len(numbers)} numbers for 10 classes; give one for all, or one for each class."
    )


def test_the_artefact_loads_and_can_be_trained_on(method, digits, tmp_path):
    small = attar.condense(digits, method, out=tmp_path, engine=EVERY_STEP)
    loaded = attar.open_artefact(tmp_path)
    assert loaded.fingerprint == small.fingerprint
    assert loaded.labels.ndim == 2 or loaded.labels.tolist() == sorted(loaded.labels.tolist())
    assert len(loaded.labels) == method.ipc * 10
    report = attar.evaluate(
        loaded, digits, networks=[SMALL], repeats=1, protocol=BRIEF, ceiling="skip", beside="skip", engine=EVERY_STEP
    )
    assert 0 <= report.networks[0].score.value <= 100


def test_the_artefact_opens_with_datasets(method, digits, tmp_path):
    from datasets import load_dataset

    attar.condense(digits, method, out=tmp_path / "set", engine=EVERY_STEP)
    table = load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert table.features["label"].names == list(digits.classes)
    assert table[0]["image"].size == (8, 8)
    assert len(table) == method.ipc * 10
