import dataclasses

import pytest

from attar.core.training import network_folder
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.trained import trained
from attar.images.training import TrainNetwork
from images.helpers import NARROW, PLAIN, assert_same


def test_a_network_trained_once_is_found_again(few_digits, runtime, monkeypatch):
    protocol = Protocol(name="found again", epochs=1)
    first = trained(few_digits, NARROW, runtime, protocol)
    monkeypatch.setattr(TrainNetwork, "step", lambda *arguments: pytest.fail("trained again"))
    assert_same(trained(few_digits, NARROW, runtime, protocol).network, first.network, rtol=0, atol=0)


def test_other_data_settings_or_seeds_are_other_networks(few_digits, digits, tmp_path):
    method = TrainNetwork(architecture=NARROW, protocol=PLAIN).resolve(few_digits)
    wider = dataclasses.replace(method, architecture=Architecture(width=16))
    places = {
        network_folder(method, few_digits, 0),
        network_folder(method, few_digits, 1),
        network_folder(method, digits, 0),
        network_folder(wider, few_digits, 0),
    }
    assert len(places) == 4
