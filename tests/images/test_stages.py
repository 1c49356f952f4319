import torch

from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.stages import spaced, trained_stages
from attar.images.trained import trained
from attar.images.training import TrainNetwork

SMALL = Architecture(width=8, norm="batch")


def parameters(network):
    return torch.cat([value.flatten().float() for value in network.state_dict().values()])


def test_the_last_stage_is_the_network_that_is_trained_alone(few_digits, runtime):
    protocol = Protocol(name="brief", epochs=4, batch=64)
    found = trained_stages(few_digits, SMALL, runtime, protocol, (2, 4))
    alone = trained(few_digits, SMALL, runtime, protocol)
    assert torch.equal(parameters(found.networks[4].network), parameters(alone.network))


def test_an_early_stage_is_where_the_training_was_then(few_digits, runtime):
    protocol = Protocol(name="brief", epochs=4, batch=64)
    found = trained_stages(few_digits, SMALL, runtime, protocol, (2, 4))
    method = TrainNetwork(architecture=SMALL, protocol=protocol).resolve(few_digits)
    machine = runtime.with_seed(runtime.seed)
    state = method.build(few_digits, machine)
    for _ in range(2 * method.batches):
        method.step(state, machine)
    assert torch.equal(parameters(found.networks[2].network), parameters(state.network))


def test_training_ends_with_the_last_stage(few_digits, runtime):
    protocol = Protocol(name="long", epochs=1_000_000, batch=64)
    assert list(trained_stages(few_digits, SMALL, runtime, protocol, (1,)).networks) == [1]


def test_stages_are_evenly_spaced_and_the_last_epoch_is_one():
    assert spaced(9, 90) == (10, 20, 30, 40, 50, 60, 70, 80, 90)
    assert spaced(9, 30) == (3, 7, 10, 13, 17, 20, 23, 27, 30)
    assert spaced(9, 2) == (1, 2)
