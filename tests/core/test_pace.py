"""Checkpoints take a small share of the time whatever they cost, and a stop always makes one."""

import dataclasses
import itertools
import os
import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attar.core import engine, pace, store
from attar.core.errors import Interrupted
from attar.core.pace import SHARE, USUAL, Pace
from attar.core.runtime import Engine, Runtime
from attar.core.settings import Settings

SIZE = 200_000_000
"""Bytes of a heavy state."""


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    clock = SimpleNamespace(now=0.0)
    for module in (pace, store):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def moments(clock, asked, costs, *, until, estimate=0.0, expected=0.0, step=1.0):
    """When checkpoints are made in a run of steps, where the n-th costs `costs(n)`, and the largest share of them."""

    def estimated():
        clock.now += estimate
        return expected

    made, paced, worst = [], Pace(asked, estimated), 0.0
    while clock.now < until:
        clock.now += step
        if paced.due:
            made.append(clock.now)
            with paced.making():
                clock.now += costs(len(made))
            worst = max(worst, paced.spent / clock.now)
    return made, worst


def test_a_cheap_checkpoint_is_made_every_twenty_seconds(clock):
    made, worst = moments(clock, None, lambda n: 0.0, until=100)
    assert made == [20, 40, 60, 80, 100] and worst == 0


def test_a_dear_one_is_made_less_often(clock):
    made, worst = moments(clock, None, lambda n: 10.0, until=2000, expected=10.0)
    assert made[:3] == [190, 390, 590] and len(made) == 10
    assert worst == pytest.approx(SHARE)


def test_one_that_was_thought_cheap_is_paid_for_before_the_next(clock):
    made, worst = moments(clock, None, lambda n: 10.0, until=2000)
    assert made[:3] == [20, 390, 590]
    assert worst == pytest.approx(10 / 30)


def test_one_that_becomes_dear_waits_for_its_own_cost_too(clock):
    made, _ = moments(clock, None, lambda n: 0.0 if n <= 40 else 10.0, until=1500)
    assert made[39:42] == [800, 820, 1020]


def test_looking_what_it_will_cost_counts(clock):
    made, worst = moments(clock, None, lambda n: 4.0, until=1000, estimate=2.0, expected=4.0)
    assert made[0] == pytest.approx(2 / SHARE + 4 * 19, abs=1)
    assert worst <= SHARE


@pytest.mark.parametrize("asked", [0.0, 5.0])
def test_what_was_asked_for_overrules_the_cost(clock, asked):
    made, worst = moments(clock, asked, lambda n: 10.0, until=100)
    assert made[:2] == [max(asked, 1), 2 * max(asked, 1) + 10] and worst > 0.5
    assert Pace(asked, lambda: pytest.fail("asked for the cost")).paid


@dataclasses.dataclass
class Weight:
    heavy: torch.Tensor
    done: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heavy(Settings):
    """A method of small steps with a state of some size."""

    total_steps: int = 100
    kilobytes: int = SIZE // 1000
    name = "heavy"

    def resolve(self, source, runtime):
        return self

    def build(self, source, runtime):
        return Weight(torch.zeros(1000 * self.kilobytes, dtype=torch.uint8))

    def step(self, state, runtime):
        source = runtime.watched
        source.clock.now += source.seconds
        state.done += 1
        state.heavy[0] = state.done % 256
        if state.done == source.stop_at:
            os.kill(os.getpid(), source.number)
        return {"loss": 1 / state.done}

    def result(self, state, runtime):
        return Made(state.done)


@dataclasses.dataclass
class Made:
    done: int

    def save(self, folder):
        (folder / "made.txt").write_text(str(self.done))

    def picture(self):
        return None


@pytest.fixture
def disk(clock, monkeypatch):
    """A disk of so many bytes a second, which keeps what is written to itself; what was written, by time."""
    disk = SimpleNamespace(rate=2e6, written=[])

    def write(path, tensors, plain):
        clock.now += sum(tensor.nbytes for tensor in tensors.values()) / disk.rate
        disk.written.append((clock.now, path.name))

    monkeypatch.setattr(store, "write_tensors", write)
    return disk


def run(clock, folder, *, seconds=1.0, stop_at=0, number=signal.SIGTERM, asked=None, **settings: Any):
    runtime = Runtime(Engine(device="cpu", quiet=True, checkpoint_seconds=asked))
    runtime.watched = SimpleNamespace(clock=clock, seconds=seconds, stop_at=stop_at, number=number)
    source = SimpleNamespace(fingerprint="none")
    load = lambda folder: Made(int((folder / "made.txt").read_text()))  # noqa: E731
    return engine.run(Heavy(**settings), source, runtime, out=folder, load=load).done


def test_a_heavy_state_on_a_slow_disk_takes_a_twentieth_of_a_long_run(clock, disk, tmp_path):
    """200 MB at 2 MB/s are 100 s, in a run of some hours."""
    run(clock, tmp_path, seconds=20.0, total_steps=500)
    made = [when for when, name in disk.written if name == "checkpoint.safetensors"]
    assert len(made) == 5
    assert 0.03 < (clock.now - 500 * 20) / clock.now <= SHARE
    assert min(after - before for before, after in itertools.pairwise(made)) >= 100 / SHARE


def test_a_run_that_is_shorter_than_its_checkpoint_makes_none(clock, disk, tmp_path):
    assert run(clock, tmp_path, total_steps=60) == 60
    assert [name for _, name in disk.written] == [".sample.tmp"]
    assert clock.now - 60 == pytest.approx(store.SAMPLE / disk.rate)


def test_a_light_state_is_saved_every_twenty_seconds_without_a_trial(clock, disk, tmp_path):
    run(clock, tmp_path, total_steps=70, kilobytes=1)
    assert [(round(when), name) for when, name in disk.written] == [
        (n * USUAL, "checkpoint.safetensors") for n in (1, 2, 3)
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_always_saves(number, clock, tmp_path):
    """Far before any checkpoint is due; then it ends as one that was never stopped."""
    size = 20_000_000
    with pytest.raises(Interrupted, match="stopped after step 7 of 60"):
        run(clock, tmp_path, total_steps=60, kilobytes=size // 1000, seconds=0.01, stop_at=7, number=number)
    tensors, plain = store.read_tensors(tmp_path / "run" / "checkpoint.safetensors")
    assert plain["step"] == 7 and int(tensors["state/heavy"][0]) == 7 and tensors["state/heavy"].nbytes == size
    assert run(clock, tmp_path, total_steps=60, kilobytes=size // 1000, seconds=0.01) == 60
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_an_interval_that_is_asked_for_is_kept_on_a_slow_disk(clock, disk, tmp_path):
    run(clock, tmp_path, total_steps=10, asked=3.0)
    assert [name for _, name in disk.written] == ["checkpoint.safetensors"] * 3


def test_the_cost_is_estimated_from_a_sample_that_is_removed(tmp_path):
    began = time.monotonic()
    expected = store.seconds_to_write(tmp_path, SIZE)
    assert 0 < expected < (time.monotonic() - began) * SIZE / store.SAMPLE
    assert not any(tmp_path.iterdir())
    assert store.seconds_to_write(tmp_path, store.SAMPLE) == 0.0
