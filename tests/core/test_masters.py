"""Master copies: small steps accumulate, gradients are summed in float32, and in float32 nothing changes."""

import copy

import torch
from torch import nn

from attar.core.masters import Masters, in_precision


def test_steps_below_the_resolution_accumulate():
    """A thousand steps of a ten-thousandth: without a master a parameter in bfloat16 never moves."""
    start = torch.tensor([1.0, -2.0, 3.0])
    plain = nn.Parameter(start.bfloat16())
    parameter = nn.Parameter(start.clone())
    masters = Masters({"one": parameter})
    one, other = torch.optim.SGD([plain], 1.0), torch.optim.SGD(masters.values.values(), 1.0)
    for step in range(1000):
        for value, optimizer in ((plain, one), (parameter, other)):
            optimizer.zero_grad()
            (value * (-1e-4 * start).to(value.dtype)).sum().backward()
            optimizer.step()
        masters.write()
        if step == 0:
            assert torch.equal(parameter, start.bfloat16())
            assert not torch.equal(masters.values["one"], start)
    assert torch.equal(plain, start.bfloat16())
    torch.testing.assert_close(masters.values["one"].detach(), 1.1 * start, rtol=1e-3, atol=0)
    torch.testing.assert_close(parameter.detach(), masters.values["one"].detach().bfloat16())


def test_masters_begin_with_what_bfloat16_rounds_away():
    parameter = nn.Parameter(torch.tensor([1.001]))
    masters = Masters({"one": parameter})
    assert (masters.values["one"].item(), parameter.item()) == (torch.tensor(1.001).item(), 1.0)


def test_gradients_of_several_passes_are_summed_in_float32():
    """One and a thousand times a thousandth: bfloat16 would lose them all."""
    parameter = nn.Parameter(torch.ones(1))
    master = Masters({"one": parameter}).values["one"]
    for weight in (1.0, *[0.001] * 1000):
        (parameter * weight).sum().backward()
        assert parameter.grad is None
    torch.testing.assert_close(master.grad, torch.tensor([1 + 1000 * float(torch.tensor(0.001).bfloat16())]))


def test_in_float32_nothing_changes():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    other, rows = copy.deepcopy(plain), torch.randn(16, 4)
    masters = Masters(dict(other.named_parameters()), torch.float32)
    optimizers = [torch.optim.AdamW(values, 0.01) for values in (plain.parameters(), masters.values.values())]
    for _ in range(5):
        for network, optimizer in zip((plain, other), optimizers, strict=True):
            optimizer.zero_grad()
            network(rows).square().sum().backward()
            optimizer.step()
        masters.write()
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_tied_parameters_stay_tied_and_buffers_stay_as_they_are():
    network = nn.ModuleDict({"one": nn.Linear(4, 4), "two": nn.Linear(4, 4)})
    network["two"].weight = network["one"].weight
    network.register_buffer("angles", torch.rand(3))
    masters = Masters(dict(network.named_parameters()))
    in_precision(network, torch.bfloat16)
    assert len(masters.values) == 3
    assert network["two"].weight is network["one"].weight
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    assert network.angles.dtype == torch.float32
