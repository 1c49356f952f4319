"""What diffusion models are trained on: scaling, splits, labels, fingerprints, and data that are refused."""

import dataclasses

import numpy as np
import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.samplers.reading import Reading
from attar.samplers.sources import Source, evenly


def tensors(n=20, shape=(3,), seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def labelled(n=20, classes=2):
    labels = torch.arange(n) % classes
    names = tuple(f"{one}" for one in range(classes))
    return Source.of_tensors(tensors(n), tensors(n), labels=(labels, labels), classes=names)


def test_pixels_lie_between_minus_one_and_one(digits):
    source = Source.of_images(digits)
    values = source.train.all()
    assert values.dtype == torch.float32 and values.min() == -1 and values.max() <= 1
    eight = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(4, 1, 16, 16)
    images = attar.load(((eight.numpy(), np.array([0, 1, 0, 1])), (eight.numpy(), np.array([0, 1, 0, 1]))))
    scaled = Source.of_images(images).train.all()
    torch.testing.assert_close(scaled[0].flatten(), torch.arange(256) / 127.5 - 1)


def test_spread_and_shares_of_digits_are_measured(digits):
    source = Source.of_images(digits)
    assert source.sigma_data == pytest.approx(0.752, abs=0.005)
    assert len(source.class_shares) == 10 and sum(source.class_shares) == pytest.approx(1)
    assert (len(source.train), len(source.test)) == (len(digits.train), len(digits.test))
    assert (source.shape, source.dimensions, source.things) == ((1, 8, 8), 64, "images")


def test_tensors_are_taken_as_they_are():
    source = Source.of_tensors(10 * tensors(), tensors(seed=1), name="latents")
    assert torch.equal(source.train.all(), 10 * tensors()) and not source.pictures
    assert source.things == "points" and source.classes == ()
    assert Source.of_tensors(tensors(shape=(4, 2, 2)), tensors(shape=(4, 2, 2))).things == "samples"


def test_a_subset_keeps_the_rest(digits):
    source = Source.of_images(digits)
    few = source.subset(torch.tensor([5, 3]))
    assert torch.equal(few.train.all(), source.train.all()[[5, 3]])
    assert torch.equal(few.train.labels, source.train.labels[[5, 3]]) and len(few.test) == len(source.test)


def test_the_fingerprint_is_of_values_labels_and_classes():
    source = labelled()
    assert source.fingerprint == labelled().fingerprint
    other = dataclasses.replace(source, classes=("a", "b"))
    swapped = Source.of_tensors(
        tensors(), tensors(), labels=(1 - source.train.labels, source.train.labels), classes=source.classes
    )
    assert (
        len({source.fingerprint, other.fingerprint, swapped.fingerprint, source.subset(torch.arange(5)).fingerprint})
        == 4
    )


def test_rows_are_evenly_spaced():
    assert evenly(5).tolist() == [0, 1, 2, 3, 4] == evenly(5, 9).tolist()
    assert evenly(9, 3).tolist() == [0, 4, 8]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train": torch.full((5, 3), torch.nan)}, "a training sample of samples is not finite"),
        ({"test": torch.full((5, 3), torch.inf)}, "a test sample of samples is not finite"),
        ({"test": tensors(0)}, "samples has no test sample"),
        ({"train": tensors(0)}, "samples has no training sample"),
        ({"test": tensors(shape=(4,))}, "training samples of samples are [3], test [4]"),
        ({"classes": ("a",)}, "samples has labels or classes alone"),
        ({"labels": (torch.zeros(20).long(),) * 2}, "samples has labels or classes alone"),
        ({"labels": (torch.full((20,), 2),) * 2, "classes": ("a", "b")}, "labels of samples must be numbers below 2"),
        ({"labels": (torch.full((20,), -1),) * 2, "classes": ("a", "b")}, "labels of samples must be numbers below 2"),
        ({"labels": (torch.zeros(5).long(),) * 2, "classes": ("a", "b")}, "one for each sample"),
    ],
)
def test_samples_that_do_not_fit_are_refused(change, told):
    given = {"train": tensors(), "test": tensors(seed=1)} | change
    with pytest.raises(InputError) as raised:
        Source.of_tensors(**given)
    assert told in str(raised.value)


def test_samples_that_are_all_equal_are_refused():
    source = Source.of_tensors(torch.ones(5, 2), torch.ones(5, 2), name="ones")
    with pytest.raises(InputError, match=r"all training points of ones are equal, so there is nothing to learn"):
        _ = source.sigma_data


def test_pixels_that_are_not_finite_are_refused():
    images = np.full((4, 8, 8, 1), np.nan, dtype=np.float32)
    pair = (images, np.array([0, 1, 0, 1]))
    with pytest.raises(InputError):
        Reading().load((pair, pair))


def test_images_of_one_pixel_are_samples_like_others(engine):
    """The encoder of such an image is the perceptron's."""
    rng = np.random.default_rng(0)
    pair = (rng.integers(0, 255, (40, 1, 1, 1)).astype(np.uint8), np.arange(40) % 2)
    sampler = attar.train((pair, pair), attar.EDM(network="mlp:width=8,depth=1", steps=3, batch=8), engine=engine)
    assert sampler.images(4).shape == (4, 1, 1, 1)
