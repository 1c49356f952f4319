"""Packages whose trained classifiers attar reads: their networks, the names of their tensors, and what they were shown.

All of it is data: one file for each family in `released/`. `normalisation` is by the name of the channel statistics of
the data; the one without a name is for any data. `orders` names a known order of classes by the number of outputs.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from attar.classifiers.keymap import Rule
from attar.core.errors import unknown

FOLDER = Path(__file__).with_name("released")
ANY = ""
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""


@dataclass(frozen=True)
class Released:
    """A network of a family."""

    family: str
    name: str
    """In its package."""
    network: str
    """By words of attar."""
    rules: tuple[Rule, ...]
    normalisation: Mapping[str, Normalisation]
    side: int | None
    """Side of the images that it was trained with; None if that is the data's own."""
    orders: Mapping[str, str]

    @property
    def told(self) -> str:
        """As it is given on the command line."""
        return f"{self.family}:{self.name}"

    def seen(self, statistics: str) -> Normalisation | None:
        """How it was shown images of these channel statistics, if that is known."""
        return self.normalisation.get(statistics, self.normalisation.get(ANY))


def released_as(text: str) -> list[Released]:
    """The networks that a name may mean: `resnet32x4`, `torchvision:resnet18`, or one of attar's; all without a name.

    Case, hyphens and underscores do not count.

    Raises:
        InputError: There is none.
    """
    every = [one for family in _families() for one in family]
    if not text:
        return every
    wanted = _folded(text)
    names = [one for one in every if wanted in (_folded(one.told), _folded(one.name))]
    found = names or [one for one in every if wanted == _folded(one.network)]
    if not found:
        raise unknown("network of a package", text, {name for one in every for name in (one.name, one.told)})
    return found


@cache
def _families() -> tuple[tuple[Released, ...], ...]:
    """All networks by family, the most common family first."""
    facts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}
    order = sorted(facts, key=lambda name: (name != "torchvision", name != "timm", name))
    return tuple(tuple(_networks(name, facts)) for name in order)


def _networks(family: str, facts: Mapping[str, Any]) -> list[Released]:
    own = facts[family]
    return [
        Released(
            family,
            name,
            one["is"],
            tuple(Rule.of(*pair) for pair in (*one.get("also", ()), *_rules(one["keys"], family, facts))),
            {
                key: (tuple(mean), tuple(std))
                for key, (mean, std) in one.get("normalisation", own["normalisation"]).items()
            },
            own["side"],
            own["orders"],
        )
        for name, one in own["networks"].items()
    ]


def _rules(named: str, family: str, facts: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """The rules of a name, which may be another family's: `torchvision:basic`."""
    home, _, name = named.rpartition(":")
    rules: Sequence[Sequence[str]] = facts[home or family]["keys"][name]
    return rules


def _folded(name: str) -> str:
    return re.sub("[-_]", "", name.lower())
