"""Networks that are trained at once end where each ends alone."""

import dataclasses

import pytest
import torch

from attar.core.runtime import Engine, Runtime
from attar.images import repeats
from attar.images.networks.architecture import Architecture
from attar.images.stacked import MOST, together
from attar.images.training import TrainNetwork
from images.helpers import NARROW, PLAIN, parameters
from pretend_cuda import pretended_cuda

CASES = {
    "plain": {},
    "augmented": {"augmented": True},
    "a step size that is cut": {"cut_momentum": 0.5, "cut_after": 0.5},
    "adamw, mixed": {"optimizer": "adamw", "schedule": "cosine", "lr": 1e-3, "weight_decay": 0.1, "mix": "cutmix"},
}


def trained(method, shapes, machine, several, monkeypatch, **settings):
    monkeypatch.setattr(repeats, "together", lambda *given: several)
    machine.device = torch.device("cpu")
    taken = []
    with monkeypatch.context() as patch:
        patch.setattr(repeats, "on_a_gpu", lambda runtime: True)
        networks = repeats.trainings(method, shapes, machine, repeats=3, watch=taken.append, **settings)
        found = [{name: value.clone() for name, value in parameters(network).items()} for network in networks]
    assert taken == list(range(1, len(taken) + 1))
    return found, len(taken)


@pytest.mark.parametrize("case", CASES)
def test_they_equal_networks_that_are_trained_alone(case, shapes, engine, monkeypatch):
    protocol = dataclasses.replace(PLAIN, epochs=4, batch=25, **CASES[case])
    # Adam makes steps of the noise in gradients that a norm makes zero, so that is tried without a norm.
    network = Architecture(width=8, norm="none" if protocol.optimizer == "adamw" else "instance")
    method = TrainNetwork(architecture=network, protocol=protocol).resolve(shapes)
    alone, steps = trained(method, shapes, Runtime(engine, 7), 1, monkeypatch)
    stacked, same = trained(method, shapes, Runtime(engine, 7), 2, monkeypatch)  # two, and the third alone
    assert steps == same == 3 * method.total_steps
    for one, other in zip(stacked, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_each_has_examples_of_its_own_and_stops_when_it_is_told(shapes, engine, monkeypatch):
    def few(repeat):
        return shapes.subset(torch.arange(repeat, 60, 3))

    method = TrainNetwork(architecture=NARROW, protocol=PLAIN).resolve(few(0))
    alone, _ = trained(method, few, Runtime(engine, 2), 1, monkeypatch, steps=2)
    stacked, taken = trained(method, few, Runtime(engine, 2), 10, monkeypatch, steps=2)
    assert taken == 6
    for one, other in zip(stacked, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_small_networks_that_learn_from_labels_are_trained_at_once(shapes):
    with pretended_cuda():
        gpu = Runtime(Engine(device="cuda", quiet=True))
        method = TrainNetwork(architecture=NARROW, protocol=PLAIN).resolve(shapes)
        assert together(method, shapes, gpu) == MOST
        batch_norm = dataclasses.replace(method, architecture=Architecture(width=8, norm="batch"))
        assert together(batch_norm, shapes, gpu) == 1
        for other in ({"target": "teacher"}, {"dropout": 0.5}, {"loss": "hinge"}):
            one = dataclasses.replace(method, protocol=dataclasses.replace(PLAIN, **other))
            assert together(one, shapes, gpu) == 1


def test_on_a_pretended_gpu_the_step_of_all_takes_a_copy_for_each(shapes):
    with pretended_cuda() as account:
        gpu = Runtime(Engine(device="cuda", compile="off", quiet=True))
        method = TrainNetwork(architecture=NARROW, protocol=dataclasses.replace(PLAIN, augmented=True)).resolve(shapes)
        copies: list[int] = []

        def watch(taken):
            copies.append(account.copies.total())

        list(repeats.trainings(method, shapes, gpu, repeats=2, steps=6, watch=watch))
        assert copies[-1] - copies[-3] == 2
        assert not account.waits
