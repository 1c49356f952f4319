"""Comp-DD: sixteen ten-class subsets of ImageNet-1K, easy and hard ones of eight categories, and other known subsets.

Use it to judge methods on images whose object fills little of the frame. Compare easy with hard only inside a category:
easy insects are harder than hard cars. With 500 test images a subset shows differences of two points, not of one. The
categories are loose (fish has a platypus, easy cars a grille).
Wang, Li et al., Emphasizing Discriminative Features for Dataset Distillation in Complex Scenarios, CVPR 2025,
arXiv:2410.17193.
"""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from attar.core.errors import InputError, named, unknown
from attar.images.sources import ImageSource

PATH = Path(__file__).with_name("comp_dd.json")
IMAGENET = 1000


@dataclass(frozen=True)
class Statistics:
    """The statistics of a category in the paper's repository, easy and hard."""

    images: tuple[int, int]
    """Number of training images."""
    complexity: tuple[float, float]
    """Mean complexity, in per cent."""


def names() -> list[str]:
    """The names of the sixteen subsets of Comp-DD, `bird-easy` to `music-hard`."""
    return list(_file()["subsets"])


def categories() -> list[str]:
    """The names of the eight categories."""
    return list(_file()["statistics"])


def other_names() -> list[str]:
    """The names of other ten-class subsets in use: `imagenette`, `imagewoof`, ..."""
    return list(_file()["others"])


def ids(name: str) -> tuple[int, ...]:
    """The ImageNet-1K numbers of a subset's classes as published, in the order of its labels.

    The list of `music-hard` has 420 twice (see `repeated`).

    Raises:
        InputError: There is no such subset.
    """
    file = _file()
    if name in file["others"]:
        return tuple(file["others"][name])
    if name not in file["subsets"]:
        raise unknown("subset of ImageNet", name, [*names(), *other_names()])
    return tuple(number for number, _ in file["subsets"][name])


def class_names(name: str) -> tuple[str, ...]:
    """The names of a Comp-DD subset's classes, in the order of its labels.

    Raises:
        InputError: There is no such subset.
    """
    subsets = {one: _file()["subsets"][one] for one in names()}
    return tuple(label for _, label in named("subset of Comp-DD", name, subsets))


def repeated(name: str) -> tuple[int, ...]:
    """The classes that a published list has more than once. The only one is banjo (420) in `music-hard`.

    Raises:
        InputError: There is no such subset.
    """
    listed = ids(name)
    return tuple(sorted({number for number in listed if listed.count(number) > 1}))


def statistics(category: str) -> Statistics:
    """The published statistics of a category.

    Raises:
        InputError: There is no such category.
    """
    found = named("category of Comp-DD", category, _file()["statistics"])
    return Statistics(tuple(found["images"]), tuple(found["complexity"]))


def numbers(name: str, *, twice: Literal["refuse", "last"] = "refuse") -> tuple[int, ...]:
    """The ImageNet-1K numbers of a subset's classes, each once, in the order of its labels.

    Args:
        name: One of `names` or `other_names`.
        twice: What to do with a class that the published list has twice, as `music-hard` has banjo: refuse, or keep its
            last place as the released loader does, which leaves nine classes. The intended class is not known.

    Raises:
        InputError: There is no such subset, or a class is listed twice.
    """
    listed = ids(name)
    if repeated(name) and twice == "refuse":
        raise InputError(
            f"the published list of {name} has class {repeated(name)[0]} twice, so there are only "
            f"{len(set(listed))} classes. Give twice='last' to take these."
        )
    return tuple(number for place, number in enumerate(listed) if number not in listed[place + 1 :])


def subset(source: ImageSource, name: str, *, twice: Literal["refuse", "last"] = "refuse") -> ImageSource:
    """A subset of ImageNet-1K, with classes numbered in the order of the list.

    Args:
        source: All thousand classes, numbered as usual (in the order of their WordNet numbers).
        name: One of `names` or `other_names`.
        twice: As for `numbers`.

    Raises:
        InputError: The source is another one, there is no such subset, or a class is listed twice.
    """
    wanted = numbers(name, twice=twice)
    if len(source.classes) != IMAGENET:
        raise InputError(
            f"{source.name} has {len(source.classes)} classes, but {name} is a subset of ImageNet. "
            f"Give all {IMAGENET:,} classes in their usual order."
        )
    return replace(source.with_classes(wanted), name=name)


@cache
def _file() -> Any:
    return json.loads(PATH.read_text(encoding="utf-8"))
