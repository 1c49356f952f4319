"""What every method of graphs must do besides: each class its own number, and networks learn from what is made."""

import dataclasses

import pytest
import torch

import attar
import small
from attar.core.errors import InputError
from attar.graphs.artefact import CondensedGraphs
from attar.graphs.protocols import Protocol
from graphs.helpers import NARROW
from promises import EVERY_STEP, scenario_of

ENTRIES = [entry for entry in (*small.SMALL, *small.VARIANTS) if small.kind_of(entry) == "graphs"]
SCORING = {
    "networks": (NARROW,),
    "repeats": 1,
    "protocol": Protocol(name="brief", epochs=2),
    "ceiling": "skip",
    "engine": EVERY_STEP,
}


@pytest.fixture(scope="module", params=ENTRIES)
def scenario(request, tmp_path_factory):
    return scenario_of(request.param, tmp_path_factory)


def test_each_class_may_have_its_own_number(scenario, few):
    made = attar.condense(few, dataclasses.replace(scenario.method, gpc=(3, 1)), engine=EVERY_STEP)
    assert torch.bincount(made.labels).tolist() == [3, 1]


def test_networks_can_be_trained_on_it(scenario, few):
    made = attar.open_artefact(scenario.whole)
    assert isinstance(made, CondensedGraphs)
    assert 0 <= attar.evaluate(made, few, **SCORING).networks[0].score.value <= 100


def test_numbers_for_other_than_its_classes_are_refused(scenario, few):
    with pytest.raises(InputError, match="gpc has 3 numbers for 2 classes"):
        attar.condense(few, dataclasses.replace(scenario.method, gpc=(1, 1, 1)), engine=EVERY_STEP)
