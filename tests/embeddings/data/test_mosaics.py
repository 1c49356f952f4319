import time

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.embeddings.data.load import load, mosaics_of
from attar.embeddings.data.mosaics import EMPTY, caption, drawn, frequencies, word_for


@pytest.fixture(scope="module")
def mosaics():
    return load("mosaics")


def test_the_bundled_set_has_the_size_and_the_classes_of_its_description(mosaics):
    assert (len(mosaics.train), len(mosaics.test), mosaics.shape) == (1024, 1500, (1, 16, 16))
    assert (mosaics.labelled, mosaics.paired, mosaics.split, mosaics.flips) == ("several", True, "given", False)
    assert mosaics.classes == tuple(map(str, range(10)))
    assert set(mosaics.train.labels.sum(dim=1).tolist()) == {1, 2, 3, 4}
    present = mosaics.train.labels.double().mean(dim=0)
    assert bool((present.diff() < 0.02).all()) and 0.45 < present[0] < 0.55 and 0.03 < present[-1] < 0.12


def test_it_is_the_same_each_time_and_made_in_a_moment(mosaics):
    start = time.perf_counter()
    again = load("mosaics", split_seed=3)
    assert time.perf_counter() - start < 10
    assert again.fingerprint == mosaics.fingerprint


def test_frequencies_fall_geometrically_from_a_quarter_to_three_hundredths():
    found = torch.tensor(frequencies(10))
    torch.testing.assert_close(found[0] / found[-1], torch.tensor(0.25 / 0.03))
    torch.testing.assert_close(found[1:] / found[:-1], torch.full((9,), float(found[1] / found[0])))
    torch.testing.assert_close(found.sum(), torch.tensor(1.0))
    assert frequencies(1) == [1.0]


def test_a_mosaic_consists_of_images_of_its_classes(mosaics):
    """Every cell of the pixels is an image of the part's own, of a class that the labels have."""
    digits = attar.load("digits")
    for part, images in (("train", digits.train), ("test", digits.test)):
        found = mosaics.part(part)
        pixels = found.samples[torch.arange(len(found))]
        known = images.pixels.tensor.flatten(1)
        for number in range(0, len(found), 97):
            cells = [pixels[number, :, y : y + 8, x : x + 8].flatten() for y in (0, 8) for x in (0, 8)]
            rows = [(known == cell).all(dim=1).nonzero().flatten() for cell in cells if cell.any()]
            there = {int(images.labels[row[0]]) for row in rows}
            assert there == set(found.labels[number].nonzero().flatten().tolist())


def test_training_and_test_mosaics_share_no_image(mosaics):
    digits = attar.load("digits")
    train, test = (drawn(part.labels, 10, 400, 0, "x").images for part in (digits.train, digits.test))
    assert int(train.max()) >= len(digits.test) and int(test.max()) < len(digits.test)


def test_draws_are_as_frequent_as_they_should_be():
    labels = torch.arange(5).repeat_interleave(torch.tensor([50, 10, 0, 3, 7]))
    cells = drawn(labels, 5, 20_000, 0, "a test").classes
    filled = (cells != EMPTY).sum(dim=1).bincount()[1:] / 20_000
    torch.testing.assert_close(filled, torch.full((4,), 0.25), atol=0.02, rtol=0)
    wanted = torch.tensor(frequencies(5)) * torch.tensor([1, 1, 0, 1, 1])
    found = cells[cells != EMPTY].bincount(minlength=5).double()
    torch.testing.assert_close((found / found.sum()).float(), wanted / wanted.sum(), atol=0.01, rtol=0)


def test_captions_name_the_digits_and_their_places(mosaics):
    assert mosaics.train.captions[0] == "a zero on the left above a two on the right"
    words = ["a three", "", "", "an eight"]
    assert caption(words) == "a three on the left above an eight on the right"
    assert caption(["a three", "a seven", "", ""]) == "a three and a seven at the top"
    assert caption(["", "", "", "a one"]) == "a one on the right at the bottom"
    assert caption(["a one", "a two", "a three", "a four"]) == "a one and a two above a three and a four"
    names = [f"{word_for(str(digit)).split()[1]}" for digit in range(10)]
    for text, labels in zip(mosaics.test.captions[:50], mosaics.test.labels, strict=False):
        assert {name for name in names if f" {name}" in text} == {names[d] for d in labels.nonzero().flatten()}


@pytest.mark.parametrize(
    "name, word",
    [("8", "an eight"), ("1", "a one"), ("airplane", "an airplane"), ("tench, Tinca", "a tench"), ("12", "a 12")],
)
def test_classes_have_their_articles(name, word):
    assert word_for(name) == word


def test_any_images_with_one_label_make_mosaics(shapes):
    source = mosaics_of(shapes, train=64, test=20)
    assert source.name == f"{shapes.name} mosaics" and source.shape == (3, 2 * shapes.shape[1], 2 * shapes.shape[2])
    assert (len(source.train), len(source.test), source.labelled) == (64, 20, "several")
    assert mosaics_of(shapes, train=64, test=20).fingerprint == source.fingerprint
    assert mosaics_of(shapes, train=64, test=20, seed=1).fingerprint != source.fingerprint
    assert load("digits", mosaics=30, test_mosaics=5).name == "mosaics"
    assert load("mosaics", mosaics=30).train.captions == load("digits", mosaics=30).train.captions
    few = load("digits", mosaics=2)
    assert any(note.startswith("labels without a training sample: ") for note in few.notes)


def test_mosaics_of_what_has_several_labels_are_refused():
    with pytest.raises(InputError, match="mosaics are made of images with one label each"):
        load((torch.rand(20, 3), torch.rand(20, 2) > 0.5), mosaics=4)
    with pytest.raises(InputError, match="mosaics are 16×16"):
        load("mosaics", size=32)
