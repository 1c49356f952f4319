"""The lists of Comp-DD as published, their one slip, and subsets whose labels follow the list."""

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.images.data.comp_dd import (
    categories,
    class_names,
    ids,
    names,
    numbers,
    other_names,
    repeated,
    statistics,
    subset,
)


@pytest.fixture(scope="module")
def thousand():
    """A thousand classes of two training pictures and a test picture, whose first two pixels spell the class."""
    labels = torch.arange(1000)
    pixels = torch.zeros(1000, 2, 2, dtype=torch.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = labels // 256, labels % 256
    return attar.load(((pixels.repeat(2, 1, 1), labels.repeat(2)), (pixels, labels)), statistics="measured")


def spelt(split):
    """The class that each picture of a split spells."""
    pixels = split.pixels[torch.arange(len(split))].long()
    return (256 * pixels[:, 0, 0, 0] + pixels[:, 0, 0, 1]).tolist()


def test_there_are_an_easy_and_a_hard_list_of_each_of_eight_categories():
    assert categories() == ["bird", "car", "dog", "fish", "snake", "insect", "round", "music"]
    assert names() == [f"{category}-{half}" for category in categories() for half in ("easy", "hard")]
    assert all(len(ids(name)) == len(class_names(name)) == 10 for name in names())


def test_of_160_entries_159_differ_and_the_one_twice_is_banjo():
    listed = [number for name in names() for number in ids(name)]
    assert len(listed) == 160
    assert len(set(listed)) == 159
    assert all(0 <= number < 1000 for number in listed)
    assert [name for name in names() if repeated(name)] == ["music-hard"]
    assert repeated("music-hard") == (420,)
    assert [place for place, name in enumerate(class_names("music-hard")) if name == "banjo"] == [0, 2]


@pytest.mark.parametrize(
    "name, first, last",
    [
        ("bird-hard", (14, "indigo bunting"), (12, "house finch")),
        ("bird-easy", (130, "flamingo"), (21, "kite")),
        ("snake-hard", (46, "green lizard"), (52, "thunder snake")),
        ("music-easy", (542, "drumstick"), (881, "upright piano")),
    ],
)
def test_lists_keep_the_published_order(name, first, last):
    listed = list(zip(ids(name), class_names(name), strict=True))
    assert (listed[0], listed[-1]) == (first, last)


def test_other_subsets_have_ten_classes_each():
    assert other_names()[:2] == ["imagenette", "imagewoof"]
    for name in other_names():
        assert len(set(ids(name))) == 10
        assert repeated(name) == ()
    assert ids("imagemeow") == (281, 282, 283, 284, 285, 291, 292, 290, 289, 287)


@pytest.mark.parametrize(
    "other, half, common",
    [
        ("imagesquawk", "bird-easy", {88, 130, 144}),
        ("imagewoof", "dog-easy", {167, 193}),
        ("imagenette", "dog-hard", {217}),
        ("in1k-cifar10", "dog-easy", {252}),
    ],
)
def test_overlaps_with_older_subsets_are_the_known_ones(other, half, common):
    assert set(ids(other)) & set(ids(half)) == common


def test_published_statistics_go_with_the_lists():
    found = {category: statistics(category) for category in categories()}
    assert sum(sum(each.images) for each in found.values()) == 204_374
    assert found["bird"].complexity == (66.0, 74.5)
    assert all(easy < hard for easy, hard in (each.complexity for each in found.values()))
    assert found["music"].images == (13_000, 9 * 1300)
    assert found["insect"].complexity[0] > found["car"].complexity[1]


@pytest.mark.parametrize("name", [name for name in [*names(), *other_names()] if name != "music-hard"])
def test_labels_follow_the_list_and_lead_back(name, thousand):
    part = subset(thousand, name)
    listed = ids(name)
    assert len(part.classes) == 10
    assert spelt(part.train) == [listed[label] for label in part.train.labels]
    assert spelt(part.test) == [listed[label] for label in part.test.labels]
    assert [listed.index(number) for number in listed] == list(range(10))
    assert part.name == name


def test_the_slip_is_not_mended_in_silence(thousand):
    with pytest.raises(InputError) as refusal:
        subset(thousand, "music-hard")
    assert str(refusal.value) == (
        "the published list of music-hard has class 420 twice, so there are only 9 classes. "
        "Give twice='last' to take these."
    )
    part = subset(thousand, "music-hard", twice="last")
    assert numbers("music-hard", twice="last") == (594, 420, 579, 402, 776, 486, 401, 546, 558)
    assert len(part.classes) == 9
    assert spelt(part.test) == sorted(numbers("music-hard", twice="last"))


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("birds-easy", "unknown subset of ImageNet 'birds-easy'; did you mean 'bird-easy'?"),
        ("easy", "unknown subset of ImageNet 'easy'"),
        ("imagenete", "did you mean 'imagenette'?"),
    ],
)
def test_an_unknown_subset_is_refused(name, sentence, thousand):
    with pytest.raises(InputError) as refusal:
        subset(thousand, name)
    assert sentence in str(refusal.value)


def test_other_data_and_categories_are_refused(digits):
    with pytest.raises(
        InputError, match=r"10 classes, but bird-easy is a subset of ImageNet\. Give all 1,000 classes in"
    ):
        subset(digits, "bird-easy")
    with pytest.raises(InputError, match="unknown category of Comp-DD 'birds'; did you mean 'bird'"):
        statistics("birds")
    with pytest.raises(InputError, match="unknown subset of Comp-DD 'imagenette'"):
        class_names("imagenette")
