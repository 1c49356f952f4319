"""Dropout in the training of a protocol: masks before the last layer, drawn from a generator of the run."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS
from attar.images.training import TrainNetwork, UnderMasks

ENGINE = Engine(device="cpu", compile="off", quiet=True)
BRIEF = replace(PROTOCOLS["ceiling"], epochs=1, batch=60)


def trained(source, **settings):
    method = TrainNetwork(architecture=Architecture(width=4), protocol=replace(BRIEF, **settings)).resolve(source)
    runtime = Runtime(ENGINE, 0)
    state = method.build(source, runtime)
    for _ in range(method.total_steps):
        method.step(state, runtime)
    return state.network.classifier.weight.detach()


def test_masks_change_the_training_and_come_again_with_the_seed(few_digits):
    plain, one, many = (
        trained(few_digits, **how) for how in ({}, {"dropout": 0.5}, {"dropout": 0.5, "dropout_samples": 4})
    )
    assert not torch.equal(plain, one)
    assert not torch.equal(one, many)
    before = torch.random.get_rng_state()
    assert torch.equal(many, trained(few_digits, dropout=0.5, dropout_samples=4))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_logits_of_each_mask_are_those_of_masked_features(few_digits):
    network = Architecture(width=4).resolve((1, 8, 8)).build((1, 8, 8), 10, torch.Generator().manual_seed(0))
    images, protocol = few_digits.inputs(torch.arange(5)), replace(BRIEF, dropout=0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        (found,) = UnderMasks(network, protocol)(images)
        torch.manual_seed(1)
        torch.testing.assert_close(found, network.classifier(F.dropout(network.embed(images), 0.5)))


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="dropout_samples is 4, but nothing is dropped"):
        replace(BRIEF, dropout_samples=4)
    with pytest.raises(InputError, match="only attar's own networks"):
        UnderMasks(nn.Linear(2, 2), replace(BRIEF, dropout=0.5))
