"""Tensors that go to a device together arrive as they were, in one copy."""

from dataclasses import dataclass

import pytest
import torch

from attar.core.sending import sent
from pretend_cuda import pretended_cuda

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@dataclass(frozen=True)
class Drawn:
    rows: torch.Tensor
    share: torch.Tensor | None
    name: str = "drawn"


@pytest.fixture
def things():
    """All types, an empty tensor, a lone number, what is not contiguous, and what is no tensor."""
    draw = torch.Generator().manual_seed(0)
    return {
        "rows": torch.randint(9, (5,), generator=draw),
        "inner": [torch.rand(3, 2, generator=draw), (torch.rand(7, generator=draw) < 0.5, None, 3)],
        "double": torch.rand(1, generator=draw, dtype=torch.float64),
        "half": torch.rand(3, generator=draw).bfloat16(),
        "bytes": torch.randint(255, (3,), dtype=torch.uint8, generator=draw),
        "none": torch.empty(0, 4),
        "lone": torch.tensor(2.5),
        "turned": torch.rand(3, 4, generator=draw).T,
        "own": Drawn(torch.arange(3), None),
    }


def flat(things):
    own = things["own"]
    (first, (second, none, three)) = things["inner"]
    named = [things[name] for name in ("rows", "double", "half", "bytes", "none", "lone", "turned")]
    assert (none, three, own.share, own.name) == (None, 3, None, "drawn")
    return [*named, first, second, own.rows]


def test_on_the_cpu_they_are_the_things_themselves(things):
    assert sent(things, CPU) is things


def test_all_arrive_in_one_copy(things):
    with pretended_cuda() as account:
        there = sent(things, CUDA)
        assert all(one.is_cuda for one in flat(there))
        assert (account.copies.total(), account.waits.total()) == (1, 0)
        back = [one.cpu() for one in flat(there)]
    for one, other in zip(back, flat(things), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert torch.equal(one, other)


def test_what_is_there_stays_and_is_not_copied_again(things):
    with pretended_cuda() as account:
        there = sent(things, CUDA)
        again = sent({**there, "more": torch.ones(2)}, CUDA)
        assert account.copies.total() == 2
        assert all(one is other for one, other in zip(flat(again), flat(there), strict=True))
        assert sent(there, CUDA) is there
