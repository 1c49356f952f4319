"""What every method of images must do besides: each class its own number, bad data refused, sets that others read."""

import dataclasses

import pytest
import torch

import attar
import small
from attar.core.errors import InputError
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from promises import EVERY_STEP, IN_ONE_GO, killed_and_resumed, scenario_of

NUMBERS = (3, 1, 2, 2, 2, 2, 2, 2, 2, 4)
SCORING = {
    "networks": [Architecture(width=8)],
    "repeats": 1,
    "protocol": Protocol(name="brief", epochs=2),
    "ceiling": "skip",
    "beside": "skip",
    "engine": EVERY_STEP,
}


@pytest.fixture(scope="module", params=small.IMAGES)
def scenario(request, tmp_path_factory):
    return scenario_of(request.param, tmp_path_factory)


@pytest.fixture(scope="module", params=[name for name in small.IMAGES if name != "class-mean"])
def counting(request, tmp_path_factory):
    """Of every method but the mean, of which a class has one."""
    return scenario_of(request.param, tmp_path_factory)


def test_each_class_may_have_its_own_number_of_images(counting, few_digits):
    method = dataclasses.replace(counting.method, ipc=NUMBERS)
    whole = counting.run("own numbers", method, engine=IN_ONE_GO)
    made = attar.open_artefact(whole)
    assert len(made.labels) == 22
    if made.labels.ndim == 1:  # a soft label may say another class than the one its image started from
        assert torch.bincount(made.labels).tolist() == list(NUMBERS)
        assert made.labels.tolist() == sorted(made.labels.tolist())
    assert attar.evaluate(made, few_digits, **SCORING).images == 22
    assert counting.filled_in(whole).ipc == NUMBERS
    if counting.steps:
        counting.assert_alike(killed_and_resumed(counting, "own numbers, killed", 4, method=method), whole)


def test_networks_can_be_trained_on_it(scenario, few_digits):
    made = attar.open_artefact(scenario.whole)
    assert made.labels.ndim == 2 or made.labels.tolist() == sorted(made.labels.tolist())
    assert len(made.labels) == scenario.method.ipc * 10
    assert 0 <= attar.evaluate(made, few_digits, **SCORING).networks[0].score.value <= 100


def test_it_opens_with_datasets(scenario, digits, tmp_path):
    from datasets import load_dataset

    table = load_dataset(str(scenario.whole), split="train", cache_dir=str(tmp_path))
    assert table.features["label"].names == list(digits.classes)
    assert table[0]["image"].size == (8, 8)
    assert len(table) == scenario.method.ipc * 10


def test_one_class_only_is_refused(scenario, digits):
    zeros = digits.rows_of[0]
    with pytest.raises(InputError, match="has only one class"):
        attar.condense((digits.train.pixels[zeros], digits.train.labels[zeros]), scenario.method, engine=EVERY_STEP)


def test_more_images_than_the_smallest_class_has_are_refused(counting, digits):
    few = digits.subset(torch.cat([rows[: 1 if label == 7 else 9] for label, rows in enumerate(digits.rows_of)]))
    with pytest.raises(InputError, match=r"ipc is 2, but class '7' of digits has 1 images\."):
        attar.condense(few, counting.method, engine=EVERY_STEP)


@pytest.mark.parametrize("numbers", [(), (1,) * 9, (1,) * 11])
def test_numbers_for_other_than_its_classes_are_refused(counting, numbers, digits):
    with pytest.raises(InputError) as refusal:
        attar.condense(digits, dataclasses.replace(counting.method, ipc=numbers), engine=EVERY_STEP)
    assert str(refusal.value) == (
        f"ipc has {len(numbers)} numbers for 10 classes. Give one number for all classes, or one for each class."
    )
