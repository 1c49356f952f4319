import dataclasses
import hashlib
import json
import math
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from attar.core import engine as core
from attar.core import store, training
from attar.core.errors import Interrupted
from attar.core.runtime import Engine, Runtime
from attar.core.settings import Settings
from attar.core.training import (
    adamw,
    after_cuts,
    cached,
    ceiling_starts,
    half_cosine,
    in_float32,
    linear_rise,
    network_folder,
    next_rows,
    seconds_for,
    set_lr,
)

EVERY_STEP = Engine(device="cpu", compile="off", quiet=True, checkpoint_seconds=0)
DATA = SimpleNamespace(fingerprint="data")


# Schedules.


def test_half_a_cosine_falls_from_one_over_a_half_to_zero():
    assert [half_cosine(way) for way in (0, 0.5, 1)] == [1, pytest.approx(0.5), 0]
    values = [half_cosine(step, 40) for step in range(41)]
    assert values == sorted(values, reverse=True)
    for step in range(41):
        assert values[step] + values[40 - step] == pytest.approx(1)
        assert values[step] == pytest.approx(math.cos(math.pi * step / 80) ** 2)


def test_every_cut_that_is_reached_multiplies_by_the_factor():
    assert [after_cuts(epoch, [2, 3.5]) for epoch in range(6)] == [1, 1, 0.1, 0.1, 0.1**2, 0.1**2]
    assert after_cuts(1, [1], 0.6) == 0.6
    assert after_cuts(10**6, []) == 1


def test_a_rise_is_a_straight_line_that_ends_at_one():
    assert [linear_rise(number, 4) for number in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert [linear_rise(1, over) for over in (0, 0.5, 1)] == [1, 1, 1]


# Optimisers.


def test_a_step_size_is_set_on_all_groups_or_on_each():
    first, second = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.Adam([{"params": [first]}, {"params": [second]}])
    set_lr(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
    set_lr(optimizer, 0.25, 0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.125]
    with pytest.raises(ValueError, match="zip"):
        set_lr(optimizer, 1, 2, 3)


def test_weight_decay_spares_biases_and_norms():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).double()
    optimizer = adamw(list(network.parameters()), 0.5, weight_decay=0.25)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in network.named_parameters():
        kept = 1 - 0.5 * 0.25 if value.ndim > 1 else 1
        assert torch.equal(value, kept * before[name]), name


# The order of an epoch.


def rows_of(steps, *, rows=7, batch=3, order=None, generator=None):
    order = torch.arange(rows) if order is None else order
    generator = generator or torch.Generator().manual_seed(5)
    return [next_rows(order, step, batch, generator) for step in steps]


def test_every_row_comes_once_in_a_pass_and_the_next_pass_has_another_order():
    found = rows_of(range(6))
    assert [len(rows) for rows in found] == [3, 3, 1, 3, 3, 1]
    first, second = torch.cat(found[:3]), torch.cat(found[3:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(7))
    assert first.tolist() != second.tolist()


def test_the_order_of_a_pass_is_a_permutation_cut_into_batches():
    generator = torch.Generator().manual_seed(5)
    wanted = [rows for _ in range(2) for rows in torch.randperm(7, generator=generator).split(3)]
    assert [rows.tolist() for rows in rows_of(range(6))] == [rows.tolist() for rows in wanted]
    assert len(rows_of([0], batch=100)[0]) == 7


@pytest.mark.parametrize("killed", range(7))
def test_a_resumed_training_goes_on_with_the_same_rows(killed):
    whole, order, generator = rows_of(range(7)), torch.arange(7), torch.Generator().manual_seed(5)
    before = rows_of(range(killed), order=order, generator=generator)
    other = torch.Generator()
    other.set_state(generator.get_state())
    after = rows_of(range(killed, 7), order=order.clone(), generator=other)
    assert [rows.tolist() for rows in before + after] == [rows.tolist() for rows in whole]


# Trainings beside a method.


@dataclass
class Total:
    value: Tensor
    done: int = 0

    def save(self, folder):
        store.write_tensors(folder / "total.safetensors", {"value": self.value}, {})

    def picture(self):
        return None


@dataclass(frozen=True, kw_only=True)
class AddUp(Settings):
    """Add random numbers, one a step."""

    numbers: int = 6

    name = "add-up"

    @property
    def total_steps(self):
        return self.numbers

    def resolve(self, source, runtime):
        return self

    def build(self, source, runtime):
        return Total(torch.zeros(()))

    def step(self, state, runtime):
        state.value += torch.rand((), generator=runtime.generator("numbers"))
        state.done += 1
        return {}

    def result(self, state, runtime):
        return state

    def load(self, folder: Path):
        return Total(store.read_tensors(folder / "total.safetensors")[0]["value"])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def taken(monkeypatch):
    """How far every step found the state."""
    steps, real = [], AddUp.step
    monkeypatch.setattr(AddUp, "step", lambda self, state, run: steps.append(state.done) or real(self, state, run))
    return steps


def added(seed=0, engine=EVERY_STEP, **settings):
    return float(cached(AddUp(**settings), DATA, Runtime(engine, seed), title="adding").value)


def test_what_was_made_once_is_found_again(cache, taken):
    alone = core.run(AddUp(), DATA, Runtime(EVERY_STEP))
    del taken[:]
    assert added() == added() == float(alone.value)
    assert taken == list(range(6))
    assert added(seed=1) != added() != added(numbers=5)


def test_one_that_was_stopped_goes_on(cache, taken, monkeypatch):
    alone, step = core.run(AddUp(), DATA, Runtime(EVERY_STEP)), AddUp.step
    del taken[:]

    def stopping(self, state, runtime):
        if state.done == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, state, runtime)

    with monkeypatch.context() as patch:
        patch.setattr(AddUp, "step", stopping)
        with pytest.raises(Interrupted, match="stopped after step 4 of 6"):
            added()
    assert added() == float(alone.value)
    assert taken == list(range(6))


def test_networks_lie_where_earlier_versions_have_put_them(cache):
    key = json.dumps([{"numbers": 6}, "data", 3], sort_keys=True).encode()
    folder = cache / "networks" / hashlib.blake2b(key, digest_size=16).hexdigest()
    assert network_folder(AddUp(), DATA, 3) == folder
    added(seed=3, engine=dataclasses.replace(EVERY_STEP, snapshots=2))
    assert core.finished(folder)
    assert not (folder / "run" / "snapshots").exists()


# The gate.


@pytest.fixture
def slow(monkeypatch):
    """A clock on which every step takes two seconds, and every other thing none."""
    clock, real = [0.0], AddUp.step

    def step(self, state, runtime):
        clock[0] += 2.0
        return real(self, state, runtime)

    monkeypatch.setattr(AddUp, "step", step)
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock[0])


def test_the_time_of_a_few_steps_tells_that_of_all(slow, cache):
    runtime = Runtime(EVERY_STEP)
    assert seconds_for(AddUp(numbers=1000), DATA, runtime) == 2000
    assert not runtime.generator.state_dict()


def test_what_is_no_longer_than_a_trial_takes_no_time(slow, taken):
    assert seconds_for(AddUp(numbers=4), DATA, Runtime(EVERY_STEP)) == 0
    assert not taken


def test_only_what_is_not_in_the_cache_counts(slow, cache, monkeypatch):
    said, method = [], AddUp(numbers=10)
    runtime = Runtime(EVERY_STEP, say=said.append)

    def starts():
        return ceiling_starts(method, DATA, [0, 1], runtime, what="all 7 numbers")

    monkeypatch.setattr(training, "LONG", 39.0)
    assert not starts()
    assert said == [
        "no score of the full data: training 2 networks on all 7 numbers would take about 1 minutes here. "
        "Give --ceiling run to train them. Their score is kept for the next time."
    ]
    monkeypatch.setattr(training, "LONG", 40.0)
    assert starts()
    monkeypatch.setattr(training, "LONG", 20.0)
    assert not starts()
    added(seed=1, numbers=10)
    assert starts()
    added(numbers=10)
    monkeypatch.setattr(training, "LONG", 0.0)
    assert starts()
    assert len(said) == 2


def test_a_network_of_16_bits_is_trained_in_32():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2).bfloat16(), torch.nn.BatchNorm1d(2).half(), torch.nn.ReLU())
    network[1].scale = torch.nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)
    assert in_float32(network) is network
    kinds = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    assert kinds.pop("1.scale") == torch.float64
    assert kinds.pop("1.num_batches_tracked") == torch.int64
    assert set(kinds.values()) == {torch.float32}
    assert not network[1].scale.requires_grad
