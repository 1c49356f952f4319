"""DCC's fine-grained groups of ImageNet classes: automobiles, trucks, lizards, fish, terriers, insects.

The classes of a group look alike, so that methods which match class by class learn mostly what they share. The paper
has them at 32 pixels.
Lee, Chun, Jung, Yun and Yoon, Dataset Condensation with Contrastive Signals, ICML 2022, arXiv:2202.02916.
"""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from attar.core.errors import InputError, named
from attar.images.sources import ImageSource

PATH = Path(__file__).with_name("fine_grained.json")


def names() -> list[str]:
    """The names of the groups, `automobile` to `insect`."""
    return list(_groups())


def class_names(name: str) -> tuple[str, ...]:
    """The classes of a group in the order of its labels.

    Raises:
        InputError: There is no such group.
    """
    return tuple(named("group of classes", name, _groups()))


def subset(source: ImageSource, name: str) -> ImageSource:
    """The images of a group, with classes numbered in the order of its list.

    Args:
        source: Images whose classes have the names of ImageNet. Case, spaces and underscores do not count, and of
            several names of a class ("tench, Tinca tinca") the first is taken.
        name: One of `names`.

    Raises:
        InputError: There is no such group, or the source does not have one of its classes once.
    """
    known = [_folded(one) for one in source.classes]
    wanted = [_folded(one) for one in class_names(name)]
    for label, folded in zip(class_names(name), wanted, strict=True):
        if known.count(folded) != 1:
            have = "no class" if folded not in known else "several classes"
            raise InputError(
                f"{source.name} has {have} {label!r}, which {name} needs. Give ImageNet with its names of classes."
            )
    return replace(source.with_classes([known.index(folded) for folded in wanted]), name=name)


def _folded(name: str) -> str:
    return name.partition(",")[0].replace("_", " ").strip().casefold()


@cache
def _groups() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = json.loads(PATH.read_text(encoding="utf-8"))["groups"]
    return groups
