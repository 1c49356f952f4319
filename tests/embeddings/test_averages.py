"""A module that follows another one: parameters by a moving average, buffers as copies."""

import copy

import pytest
import torch
from torch import nn

from attar.embeddings.averages import follow_, ramped


def module(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        network(torch.rand(8, 3))
        return network


def test_it_is_the_average_that_torch_keeps():
    fast = module(0)
    theirs = torch.optim.swa_utils.AveragedModel(
        fast, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=False
    )
    ours = copy.deepcopy(fast).requires_grad_(False)
    theirs.update_parameters(fast)
    for seed in range(1, 5):
        fast.load_state_dict(module(seed).state_dict())
        follow_(ours, fast, 0.9)
        theirs.update_parameters(fast)
    for one, other in zip(ours.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_buffers_are_copied_whatever_their_type():
    slow, fast = module(0), module(1)
    for network in (slow, fast):
        network.register_buffer(
            "halves", torch.rand(3, generator=torch.Generator().manual_seed(id(network) % 1000)).half()
        )
    fast[1].num_batches_tracked += 41
    follow_(slow, fast, 0.99)
    assert int(slow[1].num_batches_tracked) == 42 and slow[1].num_batches_tracked.dtype == torch.int64
    for (name, mine), theirs in zip(slow.named_buffers(), fast.buffers(), strict=True):
        assert torch.equal(mine, theirs) and mine.dtype == theirs.dtype, name


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_the_ends_are_a_copy_and_no_change(decay):
    slow, fast = module(0), module(1)
    before = [weights.clone() for weights in slow.parameters()]
    follow_(slow, fast, decay)
    wanted = before if decay else list(fast.parameters())
    assert all(torch.equal(one, other) for one, other in zip(slow.parameters(), wanted, strict=True))


def test_a_wide_average_follows_half_precision():
    slow, fast = module(0), module(1).bfloat16()
    before = slow[0].weight.clone()
    follow_(slow, fast, 0.9997)
    torch.testing.assert_close(slow[0].weight, 0.9997 * before + 0.0003 * fast[0].weight.float())
    assert slow[0].weight.dtype == torch.float32


def test_tied_weights_are_averaged_once():
    slow, fast = (nn.ModuleList([nn.Linear(2, 2, bias=False)] * 2) for _ in range(2))
    wanted = 0.5 * slow[0].weight + 0.5 * fast[0].weight
    follow_(slow, fast, 0.5)
    torch.testing.assert_close(slow[1].weight, wanted)


def test_the_first_steps_are_averaged_evenly():
    assert ramped(0.9997, 0) == 0.1
    assert ramped(0.9997, 90) == 0.91
    assert ramped(0.9997, 10**6) == 0.9997
    assert ramped(0.5, 100) == 0.5
