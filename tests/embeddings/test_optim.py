"""LARS equals its definition, schedules equal torch's, and an optimiser continues a checkpoint with the same bytes."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from attar.core.state import pack, unpack
from attar.embeddings.optim import LARS, one_cycle, optimizer_of, share_of


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def how(**changed):
    usual = {"optimizer": "lars", "lr": 0.5, "momentum": 0.9, "weight_decay": 0.01, "schedule": "cosine"}
    usual |= {"epochs": 10, "encoder_steps": 70, "cuts": (0.6, 0.8), "cut_factor": 0.1, "cycle_rise": 0.3}
    return SimpleNamespace(**{**usual, "lr_warm_up": 0.0, **changed})


def module(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)).double()


def gradients(network, step):
    for number, weights in enumerate(network.parameters()):
        weights.grad = torch.randn(weights.shape, generator=rng(100 * step + number), dtype=torch.float64)


def test_lars_is_its_definition():
    network, settings = module(), how()
    ours = [weights.detach().clone() for weights in network.parameters()]
    speeds = [torch.zeros_like(weights) for weights in ours]
    optimizer = optimizer_of(list(network.parameters()), settings)
    for step in range(4):
        gradients(network, step)
        for weights, speed, there in zip(ours, speeds, network.parameters(), strict=True):
            slope, decay, rate = there.grad, 0.01, 1.0
            if weights.ndim > 1:
                length = math.sqrt(float((weights**2).sum()))
                rate = 0.001 * length / (math.sqrt(float((slope**2).sum())) + decay * length)
            else:
                decay = 0.0
            speed.mul_(0.9).add_(0.5 * rate * (slope + decay * weights))
            weights -= speed
        optimizer.step()
    for weights, there in zip(ours, network.parameters(), strict=True):
        torch.testing.assert_close(there.detach(), weights, rtol=1e-12, atol=0)


def test_lars_does_not_depend_on_the_scale_of_a_gradient():
    moved = []
    for scale in (1.0, 1000.0):
        network = module()
        before = network[0].weight.detach().clone()
        gradients(network, 0)
        network[0].weight.grad *= scale
        optimizer_of(list(network.parameters()), how(weight_decay=0.0)).step()
        moved.append(network[0].weight.detach() - before)
    torch.testing.assert_close(*moved)
    assert float(moved[0].norm()) == pytest.approx(0.5 * 0.001 * float(before.norm()))


def test_lars_without_its_ratio_is_sgd():
    ours, theirs = module(), module()
    mine = LARS([{"params": list(ours.parameters()), "adapted": False}], 0.1, weight_decay=0.01)
    sgd = torch.optim.SGD(theirs.parameters(), 0.1, 0.9, weight_decay=0.01)
    for step in range(3):
        gradients(ours, step)
        gradients(theirs, step)
        mine.step()
        sgd.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_lars_of_zero_weights_or_a_zero_gradient_is_finite():
    zero, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    LARS([zero, still], 0.1, weight_decay=0.1).step()
    torch.testing.assert_close(zero.detach(), torch.full((2, 2), -0.1))
    torch.testing.assert_close(still.detach(), torch.full((2, 2), 0.99))


def test_lars_computes_a_closure_and_leaves_out_what_has_no_gradient():
    weights, other = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([weights, other], 0.1, momentum=0.0)

    def closure():
        loss = weights.square().sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == 4
    assert torch.equal(other.detach(), torch.ones(2, 2)) and not optimizer.state


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
def test_a_killed_run_goes_on_with_the_same_bytes(name):
    def run(first, last, network, optimizer):
        for step in range(first, last):
            gradients(network, step)
            optimizer.step()

    through = module()
    run(0, 6, through, optimizer_of(list(through.parameters()), how(optimizer=name)))
    killed = module()
    state = {"network": killed, "optimizer": optimizer_of(list(killed.parameters()), how(optimizer=name))}
    run(0, 3, *state.values())
    packed = pack(state)
    again = module(1)
    state = {"network": again, "optimizer": optimizer_of(list(again.parameters()), how(optimizer=name))}
    unpack(state, packed)
    run(3, 6, *state.values())
    for one, other in zip(through.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
def test_biases_and_norms_have_no_weight_decay(name):
    network = module()
    for weights in network.parameters():
        weights.grad = torch.zeros_like(weights)
    before = [weights.detach().clone() for weights in network.parameters()]
    optimizer_of(list(network.parameters()), how(optimizer=name)).step()
    for weights, was in zip(network.parameters(), before, strict=True):
        assert torch.equal(weights, was) == (weights.ndim == 1)


# ------------------------------------------------------------------------------------------------------------ schedules


@pytest.mark.parametrize(("total", "rise"), [(70, 0.2), (70, 0.3), (1000, 0.5), (11, 0.9)])
def test_one_cycle_is_that_of_torch(total, rise):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=total, pct_start=rise, cycle_momentum=False
    )
    settings = how(schedule="onecycle", encoder_steps=total, cycle_rise=rise)
    for step in range(total):
        assert share_of(settings, step / total) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        if step < total - 1:
            theirs.step()


@pytest.mark.parametrize("total", [1, 2, 3, 10])
@pytest.mark.parametrize("rise", [0.0, 0.1, 0.5, 1.0])
def test_one_cycle_of_a_few_steps_is_a_share(total, rise):
    found = [one_cycle(step, total, rise) for step in range(total)]
    assert all(0 < one <= 1 for one in found)


def test_a_cosine_falls_to_zero_after_its_rise():
    shares = [share_of(how(lr_warm_up=0.1), step / 70) for step in range(70)]
    assert shares[:7] == pytest.approx([(step + 1) / 7 for step in range(7)])
    assert shares[7:] == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 63)) for step in range(63)])
    assert share_of(how(), 0.5) == pytest.approx(0.5)


def test_cuts_come_at_epochs():
    shares = [share_of(how(schedule="steps", cuts=(0.25, 0.6), cut_factor=0.5), step / 70) for step in range(70)]
    assert shares == [1.0] * 21 + [0.5] * 21 + [0.25] * 28  # epochs have 7 steps; 2.5 epochs end in the third


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "steps", "constant"])
def test_a_rise_comes_before_every_schedule(schedule):
    settings = how(schedule=schedule, lr_warm_up=0.2)
    shares = [share_of(settings, step / 70) for step in range(70)]
    assert shares[:14] == pytest.approx([(step + 1) / 14 for step in range(14)])
    assert all(0 <= one <= 1 for one in shares)
    whole = [share_of(how(schedule=schedule, lr_warm_up=1.0), step / 70) for step in range(70)]
    assert whole == pytest.approx([(step + 1) / 70 for step in range(70)])
