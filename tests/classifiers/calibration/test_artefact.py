"""A calibrated classifier in its folder: what lies there, and what happens when its classifier is gone."""

import json
import shutil

import pytest
import torch

import attar
from attar.classifiers.artefact import DistilledClassifier
from attar.classifiers.calibration.artefact import CalibratedClassifier
from attar.classifiers.calibration.opening import Link, digest_of
from attar.classifiers.calibration.ts import TemperatureScaling
from attar.classifiers.classifier import Classifier
from attar.core import store
from attar.core.errors import InputError
from attar.core.runtime import Engine

ENGINE = Engine(device="cpu", quiet=True)


@pytest.fixture(scope="module")
def place(digits, tmp_path_factory):
    """A folder with a classifier and its calibrator."""
    place = tmp_path_factory.mktemp("place")
    method = Classifier(network="mlp:width=8", epochs=1, batch=64, reserved=0.1)
    attar.train(digits, method, out=place / "base", engine=ENGINE)
    attar.calibrate(digits, TemperatureScaling(), classifier=place / "base", out=place / "ts", engine=ENGINE)
    return place


@pytest.fixture
def moved(place, tmp_path):
    """A copy of both in another folder, as when a folder of runs is moved."""
    shutil.copytree(place, tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def test_it_holds_no_weights(place):
    tensors, _ = store.read_tensors(place / "ts" / "calibrator.safetensors")
    assert set(tensors) == {"temperature"}
    facts = json.loads((place / "ts" / "artefact.json").read_text(encoding="utf-8"))
    base = DistilledClassifier.load(place / "base")
    digest = digest_of(base.network)
    assert facts["classifier"] == {"how": "folder", "place": "../base", "local": True, "digest": digest}
    assert facts["rows"]["which"] == "reserved"
    assert str(place) not in (place / "ts" / "artefact.json").read_text(encoding="utf-8")


def test_both_are_moved_together(place, moved, digits):
    images = digits.inputs(torch.arange(5))
    shutil.move(place, place.with_name("aside"))
    try:
        assert torch.equal(
            attar.open_artefact(moved / "ts").logits(images),
            attar.open_artefact(place.with_name("aside") / "ts").logits(images),
        )
    finally:
        shutil.move(place.with_name("aside"), place)


def test_a_classifier_that_moved_or_was_changed_is_told_in_one_line(moved):
    shutil.move(moved / "base", moved / "base2")
    with pytest.raises(InputError, match=r"is no longer in .*/base\. Move it back, or calibrate it again"):
        attar.open_artefact(moved / "ts")
    shutil.move(moved / "base2", moved / "base")
    made = attar.open_artefact(moved / "base")
    with torch.no_grad():
        next(iter(made.network.parameters())).add_(1e-3)
    made.save(moved / "base")
    with pytest.raises(InputError, match="is not the one that was calibrated"):
        attar.open_artefact(moved / "ts")


def test_a_damaged_one_is_refused(moved):
    path = moved / "ts" / "artefact.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    store.write_json(path, {**facts, "classes": []})
    with pytest.raises(InputError, match="was altered after it was written"):
        attar.open_artefact(moved / "ts")
    store.write_json(path, {**facts, "form": "other"})
    with pytest.raises(InputError, match="which this version of attar does not know"):
        attar.open_artefact(moved / "ts")
    store.write_json(path, facts)
    tensors = {"temperature": torch.tensor(2.0)}
    store.write_tensors(moved / "ts" / "calibrator.safetensors", tensors, {"schema": 1})
    with pytest.raises(InputError, match="is not the file that"):
        attar.open_artefact(moved / "ts")


def test_either_form_refuses_the_other(place):
    with pytest.raises(InputError, match="holds no network, but what calibrates one"):
        DistilledClassifier.load(place / "ts")
    with pytest.raises(InputError, match="holds a classifier without a calibrator"):
        CalibratedClassifier.load(place / "base")
    assert isinstance(attar.open_artefact(place / "base"), DistilledClassifier)
    assert isinstance(attar.open_artefact(place / "ts"), CalibratedClassifier)


def test_it_is_not_pushed_without_its_classifier(place):
    with pytest.raises(InputError, match=r"\(base\) is not on the hub\. Push that first"):
        attar.open_artefact(place / "ts").to_hub("ada/ts")


def test_the_card_tells_what_was_calibrated_and_the_scores_with_their_rivals(place):
    card = (place / "ts" / "README.md").read_text(encoding="utf-8")
    assert "# A classifier of digits, calibrated by ts" in card
    assert "![Reliability diagram on the test images](preview.png)" in card
    assert "It holds no weights: the classifier is base" in card
    assert "beside it, uncalibrated" in card
    assert "attar calibrate ts --data digits" in card


def test_classes_in_another_order_are_calibrated_first(place, digits):
    made = attar.open_artefact(place / "ts")
    order = [3, 1, 4, 0, 2, 9, 8, 7, 6, 5]
    other = digits.ordered_as([digits.classes[label] for label in order], regrouped=False)
    images = digits.inputs(torch.arange(6))
    said = made.of(other, "the classifier").logits(images)
    torch.testing.assert_close(said, made.logits(images)[:, order])
    assert torch.equal(attar.open_artefact(place / "ts").logits(images), made.logits(images))


def test_a_link_to_the_hub_has_no_path(tmp_path):
    link = Link("hub", "ada/base", "abc")
    assert not link.local
    assert link.to_json(tmp_path) == {"how": "hub", "place": "ada/base", "local": False, "digest": "abc"}
    assert Link.from_json(link.to_json(tmp_path), tmp_path) == link
    far = Link("folder", "/somewhere/else", "abc")
    assert Link.from_json(far.to_json(tmp_path), tmp_path / "moved") == far
