"""What may stay in the memory of a GPU: a share of it, for all that is kept there together."""

import gc
from types import SimpleNamespace

import pytest
import torch

from attar.core import memory
from attar.core.memory import may_stay_on

CUDA = torch.device("cuda", 0)


class Owner:
    """Keeps something on a GPU."""


@pytest.fixture(autouse=True)
def gpu_of_a_hundred_bytes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=100))
    monkeypatch.setattr(memory, "_promised", {})


def test_nothing_is_kept_beside_a_cpu():
    assert not may_stay_on(torch.device("cpu"), 0, Owner())


def test_several_owners_share_what_may_be_kept():
    first, second, third = Owner(), Owner(), Owner()
    assert may_stay_on(CUDA, 15, first)
    assert may_stay_on(torch.device("cuda"), 15, first)  # the same data on the same GPU
    assert not may_stay_on(CUDA, 15, second)
    assert not may_stay_on(CUDA, 15, first, "test")
    assert may_stay_on(CUDA, 10, second)
    assert not may_stay_on(CUDA, 1, third)
    assert may_stay_on(torch.device("cuda", 1), 25, third)
    assert not may_stay_on(CUDA, 16, first)


def test_what_its_owner_kept_is_free_when_the_owner_is_gone():
    first, second = Owner(), Owner()
    assert may_stay_on(CUDA, 20, first) and may_stay_on(CUDA, 5, first, "test")
    assert not may_stay_on(CUDA, 20, second)
    del first
    gc.collect()
    assert may_stay_on(CUDA, 25, second)
