"""Outputs of a classifier that was made elsewhere, matched with the classes of the data."""

import time

import pytest

from attar.core.errors import InputError
from attar.images.classes import columns_of, listed


def matched(theirs, classes, *, outputs=None):
    """The columns, and the lines that are said."""
    told = []
    count = len(theirs) if outputs is None else outputs
    return columns_of(theirs, count, classes, who="the teacher", data="farm", say=told.append), told


@pytest.mark.parametrize(
    "theirs, classes, columns",
    [
        (("cat", "dog"), ("cat", "dog"), None),
        (("dog", "cat"), ("cat", "dog"), (1, 0)),
        (("Polar Bear", "sea_lion"), ("sea lion", "polar-bear"), (1, 0)),
        (("tench, Tinca tinca", "goldfish", "cock", "hen"), ("hen", "tench"), (3, 0)),
        (("a", "b", "c"), ("c", "a"), (2, 0)),
        (("2", "1", "0"), ("0", "1", "2"), (2, 1, 0)),
        (("0", "1", "2", "3"), ("3", "1"), (3, 1)),
        (("Cat", "cat"), ("cat", "Cat"), (1, 0)),
        (("dog", "b\u00e9b\u00e9"), ("be\u0301be\u0301", "dog"), (1, 0)),
        (("STRASSE", "B\u00c4R"), ("ba\u0308r", "stra\u00dfe"), (1, 0)),
    ],
)
def test_names_decide(theirs, classes, columns):
    assert matched(theirs, classes) == (columns, [])


@pytest.mark.parametrize(
    "theirs, classes, who",
    [
        (("LABEL_0", "LABEL_1"), ("cat", "dog"), "the teacher does not name its classes"),
        (None, ("cat", "dog"), "the teacher does not name its classes"),
        (("1", "2"), ("cat", "dog"), "the teacher does not name its classes"),
        (("cat", "dog"), ("0", "1"), "farm does not name its classes"),
        (("LABEL_0", "LABEL_1"), ("0", "1"), "the teacher does not name its classes"),
        (("1", "2"), ("0", "1"), "the teacher does not name its classes"),
    ],
)
def test_without_names_the_order_is_assumed_and_said(theirs, classes, who):
    columns, told = matched(theirs, classes, outputs=2)
    assert columns is None
    assert told == [f"{who}, so class {classes[0]!r} is taken to be output 0 of the teacher, and so on in order."]


@pytest.mark.parametrize(
    "theirs, classes, words",
    [
        (("dog", "cat"), ("cow", "cat"), "has the classes dog, cat, but farm has cow, cat: 'cow' is not found"),
        (tuple("abcdef"), ("a", "x"), r"has the classes a, b, c, d, … \(6\), but farm has a, x: 'x' is not found"),
        (("LABEL_0", "LABEL_1", "LABEL_2"), ("cat", "dog"), "has 3 classes, but farm has 2, and their names do not"),
        (("cat",), ("cat", "dog"), "'dog' is not found"),
        (("crane, bird", "crane, machine"), ("crane", "bird"), "'crane' is not found"),
        (("cat", "dog"), ("cat", "CAT"), "'cat' is not found"),
    ],
)
def test_other_classes_are_refused(theirs, classes, words):
    with pytest.raises(InputError, match=words):
        matched(theirs, classes)


def test_a_thousand_names_take_no_time():
    names = [f"name {number}, other {number}" for number in range(3000)]
    start = time.process_time()
    columns, _ = matched(names, [f"Other_{number}" for number in range(0, 3000, 2)])
    assert columns == tuple(range(0, 3000, 2))
    assert time.process_time() - start < 1


def test_a_long_list_is_cut_off():
    assert listed("abcd") == "a, b, c, d"
    assert listed([str(number) for number in range(1000)]) == "0, 1, 2, 3, … (1,000)"
