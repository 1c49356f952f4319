"""The stack of networks of `bench/ensloss.py` is a loop over single ones; its intervals are corrected."""

import importlib
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from attar.classifiers.losses import BCE, EnsLoss
from attar.core.seeds import derived_seed
from attar.core.training import half_cosine, set_lr

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("ensloss")
    sys.modules.pop("ensloss", None)


def alone(bench, loss, part, seed, rate, epochs, batch):
    sizes = [part.x.shape[1], *[bench.WIDTH] * bench.DEPTH, 1]
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, "network"))
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    network = nn.Sequential(*[one for layer in layers for one in (layer, nn.ReLU())][:-1])
    optimizer = torch.optim.SGD(network.parameters(), rate, bench.MOMENTUM)
    order, draws = (torch.Generator().manual_seed(derived_seed(seed, what)) for what in ("order", "loss"))
    if isinstance(loss, EnsLoss):
        loss.generator = draws
    for epoch in range(epochs):
        set_lr(optimizer, rate * half_cosine(epoch / epochs))
        for rows in torch.randperm(len(part.y), generator=order).split(batch):
            optimizer.zero_grad()
            loss(network(part.x[rows]), part.y[rows]).backward()
            optimizer.step()
    return [parameter.detach() for parameter in network.parameters()]


@pytest.mark.parametrize("make", [BCE, EnsLoss])
def test_networks_trained_at_once_are_those_of_a_loop(bench, make):
    parts, seeds, rates = [bench.part_of("3v8", seed) for seed in (0, 1)], [0, 1], [0.01, 0.03]
    stacked = bench.stacked_training(make(), parts, seeds, rates, 3, 32)
    for number, (part, seed, rate) in enumerate(zip(parts, seeds, rates, strict=True)):
        for one, several in zip(alone(bench, make(), part, seed, rate, 3, 32), stacked, strict=True):
            assert torch.allclose(one.T if one.ndim == 2 else one, several[number], atol=1e-5)


def test_intervals_widen_with_the_number_of_comparisons(bench):
    first, second = [3.0, 4.0, 6.0], [1.0, 3.0, 2.0]
    one, many = (bench.paired(first, second, comparisons) for comparisons in (1, 20))
    assert one.difference == many.difference and many.low < one.low < one.high < many.high
