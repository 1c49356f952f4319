"""What every method of graphs must do: same seed same bytes, killed equals uninterrupted, settings survive JSON."""

import dataclasses
import json

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.graphs.artefact import FILES, CondensedGraphs
from attar.graphs.coresets import GraphHerding, GraphKCenter, GraphRandom, GraphStart
from attar.graphs.doscond import DosCond
from attar.graphs.gstam import GSTAM
from attar.graphs.training import Protocol
from graphs.helpers import NARROW

BRIEF = Protocol(name="brief", epochs=2)
EVERY_STEP = Engine(device="cpu", checkpoint_seconds=0, quiet=True)
LEARNED = {"gpc": 2, "steps": 6, "real_batch": 4, "drop_at": 3, "architecture": NARROW}
CHEAP = [
    GSTAM(**LEARNED),
    GSTAM(**LEARNED, start="noise", form="released"),
    DosCond(**LEARNED, outer=2, inner=1),
    DosCond(**LEARNED, adjacency="continuous"),
    GraphRandom(gpc=2),
    GraphStart(gpc=2),
    GraphHerding(gpc=2, architecture=NARROW, protocol=BRIEF),
    GraphKCenter(gpc=2, architecture=NARROW, protocol=BRIEF),
]


class Killed(BaseException):
    """Ends a run as abruptly as an exception can."""


@pytest.fixture(params=CHEAP, ids=lambda method: method.name)
def method(request):
    return request.param


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def test_the_same_seed_gives_the_same_bytes(method, few, tmp_path):
    for name in ("one", "two"):
        attar.condense(few, method, out=tmp_path / name, seed=3, engine=EVERY_STEP)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_another_seed_gives_another_set(method, few):
    one, two = (attar.condense(few, method, seed=seed, engine=EVERY_STEP) for seed in (0, 1))
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize("step", [1, 4])
def test_killed_and_resumed_equals_uninterrupted(method, step, few, tmp_path, monkeypatch):
    if method.total_steps == 0:
        pytest.skip("nothing to interrupt: it has no steps of its own")
    real, taken = type(method).step, 0

    def dying(self, state, runtime):
        nonlocal taken
        taken += 1
        metrics = real(self, state, runtime)
        if taken == step:
            raise Killed
        return metrics

    attar.condense(few, method, out=tmp_path / "whole", engine=EVERY_STEP)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(type(method), "step", dying)
        attar.condense(few, method, out=tmp_path / "killed", engine=EVERY_STEP)
    attar.condense(few, method, out=tmp_path / "killed", engine=EVERY_STEP)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    curves = [(tmp_path / name / "run" / "metrics.jsonl").read_text() for name in ("killed", "whole")]
    assert curves[0] == curves[1]


def test_settings_survive_json(method, few):
    for settings in (method, method.resolve(few, Runtime(EVERY_STEP))):
        assert type(method).from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_each_class_may_have_its_own_number(method, few):
    small = attar.condense(few, dataclasses.replace(method, gpc=(3, 1)), engine=EVERY_STEP)
    assert torch.bincount(small.labels).tolist() == [3, 1]


def test_the_artefact_loads_and_can_be_trained_on(method, few, tmp_path):
    small = attar.condense(few, method, out=tmp_path, engine=EVERY_STEP)
    loaded = attar.open_artefact(tmp_path)
    assert isinstance(loaded, CondensedGraphs)
    assert loaded.fingerprint == small.fingerprint
    report = attar.evaluate(
        loaded, few, networks=(NARROW,), repeats=1, protocol=BRIEF, ceiling="skip", engine=EVERY_STEP
    )
    assert 0 <= report.networks[0].last.value <= 100


def test_numbers_for_other_than_its_classes_are_refused(method, few):
    with pytest.raises(InputError, match="gpc has 3 numbers for 2 classes"):
        attar.condense(few, dataclasses.replace(method, gpc=(1, 1, 1)), engine=EVERY_STEP)
