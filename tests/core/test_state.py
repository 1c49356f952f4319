import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from attar.core.state import pack, rebuilt, unpack


@dataclass
class Counter:
    done: int = 0
    best: float | None = None
    note: str = ""


@dataclass
class State:
    pixels: torch.Tensor
    network: nn.Module
    optimizer: torch.optim.Optimizer
    counter: Counter = field(default_factory=Counter)
    memory: dict[str, Any] = field(default_factory=dict)
    parts: list[Any] = field(default_factory=list)
    pair: tuple[Any, ...] = ()
    data: Any = rebuilt(default=None)


OPTIMIZERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, 0.1, momentum=0.9),
    "adam": lambda ps: torch.optim.Adam(ps, 0.01, betas=(0.8, 0.95)),
    "adamw": lambda ps: torch.optim.AdamW(ps, 0.01, amsgrad=True),
    "rmsprop": lambda ps: torch.optim.RMSprop(ps, 0.01, momentum=0.5),
    "two groups": lambda ps: torch.optim.SGD([{"params": ps[:1], "lr": 0.3}, {"params": ps[1:]}], 0.1, momentum=0.9),
    "plain sgd": lambda ps: torch.optim.SGD(ps, 0.1),
}


def build(optimizer="sgd", seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
        pixels = torch.randn(4, 1, 4, 4, requires_grad=True)
    made = OPTIMIZERS[optimizer]([pixels, *network.parameters()])
    return State(
        pixels, network, made, memory={"mean": torch.zeros(3)}, parts=[torch.zeros(2), 0], pair=(0, torch.ones(1))
    )


def work(state, steps):
    for _ in range(steps):
        state.optimizer.zero_grad()
        state.network(state.pixels).square().sum().backward()
        state.optimizer.step()
        state.counter.done += 1
        state.memory["mean"] += 1
        state.parts[0] += 2
        state.parts[1] += 3


def through_disk(packed):
    """What a checkpoint does: tensors copied, plain values through JSON with its keys sorted."""
    tensors, plain = packed
    return {name: t.clone() for name, t in tensors.items()}, json.loads(json.dumps(plain, sort_keys=True))


def assert_same(first, second):
    assert first[1] == second[1]
    assert first[0].keys() == second[0].keys()
    for name in first[0]:
        assert torch.equal(first[0][name], second[0][name]), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_work_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(optimizer):
    straight, stopped, resumed = build(optimizer), build(optimizer), build(optimizer, seed=1)
    work(straight, 5)
    work(stopped, 3)
    unpack(resumed, through_disk(pack(stopped)))
    assert_same(pack(resumed), pack(stopped))
    work(resumed, 2)
    assert_same(pack(resumed), pack(straight))


def test_a_changed_step_size_and_a_plain_value_come_back():
    before, after = build(), build(seed=1)
    before.optimizer.param_groups[0]["lr"] = 0.025
    before.counter = Counter(12, 0.5, "half way")
    before.pair = (4, torch.full((1,), 7.0))
    unpack(after, through_disk(pack(before)))
    assert after.optimizer.param_groups[0]["lr"] == 0.025
    assert after.counter == before.counter
    assert after.pair == (4, torch.tensor([7.0]))


def test_tensors_come_back_in_place_so_that_the_optimiser_still_moves_them():
    state = build()
    pixels, packed = state.pixels, through_disk(pack(state))
    work(state, 2)
    unpack(state, packed)
    assert state.pixels is pixels is state.optimizer.param_groups[0]["params"][0]
    assert torch.equal(pixels, packed[0]["state/pixels"])


def test_what_is_built_again_is_in_no_checkpoint():
    state = build()
    state.data = object()
    tensors, plain = pack(state)
    assert not any("data" in name for name in [*tensors, *plain])


def test_paths_name_what_they_hold():
    tensors, plain = pack(build())
    assert {"state/pixels", "state/memory/mean", "state/parts/0", "state/network/state_dict/0.weight"} <= set(tensors)
    assert plain["state/counter/done"] == 0
    assert plain["state/counter/best"] is None


def test_something_that_no_checkpoint_can_hold_is_pointed_out():
    state = build()
    state.memory["source"] = object()
    with pytest.raises(TypeError) as error:
        pack(state)
    assert str(error.value) == "state/memory/source is a object, which no checkpoint can hold; mark it rebuilt()"


def test_something_that_the_built_state_lacks_is_pointed_out():
    before = build()
    before.memory["found on the way"] = torch.ones(2)
    with pytest.raises(TypeError) as error:
        unpack(build(), through_disk(pack(before)))
    assert str(error.value) == (
        "the built state has no place for state/memory/found on the way: build must make what step fills"
    )
