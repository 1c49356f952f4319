"""Classes of a classifier that was made elsewhere, matched with those of the data by name."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence

from attar.core.errors import InputError

Say = Callable[[str], None]
NUMBERED = re.compile(r"(label|class)?[\s_-]*\d+", re.IGNORECASE)
"""Names that are only numbers, such as LABEL_0, class 3 and 7."""


def columns_of(
    theirs: Sequence[str] | None, outputs: int, classes: Sequence[str], *, who: str, data: str, say: Say | None = None
) -> tuple[int, ...] | None:
    """The output of a classifier for each class of the data; None if the outputs are the classes, in their order.

    Names are equal if they differ only in case, spaces, underscores, hyphens, and in how Unicode writes accents. An
    ImageNet name with synonyms, such as "tench, Tinca tinca", is found by each of them.

    Args:
        theirs: Names of the classifier's outputs, if it has any.
        outputs: The number of outputs.
        classes: Names of the classes of the data.
        who: The classifier, for messages.
        data: The data, for messages.
        say: Function that prints a line. It is told if names are missing, so that the order of classes is assumed.

    Raises:
        InputError: The classifier names other classes, or the numbers of classes differ and no names tell which are
            meant.
    """
    known = list(theirs or [])
    found = list(map(_places(known), classes))
    places = [place for place in found if place is not None]
    if len(set(places)) == len(classes):
        return None if places == list(range(outputs)) else tuple(places)
    if unnamed(known) or unnamed(classes):
        if outputs != len(classes):
            raise InputError(
                f"{who} has {outputs:,} classes, but {data} has {len(classes):,}, and their names do not tell which "
                "are meant. Give a network that was trained on these classes."
            )
        if say is not None:
            whose = f"{who} does not name" if unnamed(known) else f"{data} does not name"
            say(f"{whose} its classes, so class {classes[0]!r} is taken to be output 0 of {who}, and so on in order.")
        return None
    missing = next(name for name, place in zip(classes, found, strict=True) if place is None or found.count(place) > 1)
    raise InputError(
        f"{who} has the classes {listed(known)}, but {data} has {listed(classes)}: {missing!r} is not found. "
        "Give a network that was trained on these classes, or rename them."
    )


def listed(names: Sequence[str], most: int = 4) -> str:
    """A list of names, cut off after a few."""
    told = ", ".join(names[:most])
    return told if len(names) <= most else f"{told}, … ({len(names):,})"


def _places(known: Sequence[str]) -> Callable[[str], int | None]:
    """A function that finds the only output of a name: exactly, without case and spaces, or as a synonym."""
    exact, alike, synonyms = (defaultdict[str, list[int]](list) for _ in range(3))
    for place, name in enumerate(known):
        exact[name].append(place)
        alike[_folded(name)].append(place)
        for synonym in map(_folded, name.split(",")):
            synonyms[synonym].append(place)

    def place_of(name: str) -> int | None:
        found = exact.get(name) or alike.get(_folded(name)) or synonyms.get(_folded(name)) or []
        return found[0] if len(found) == 1 else None

    return place_of


def _folded(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFC", name).casefold())).strip()


def unnamed(names: Sequence[str]) -> bool:
    """Whether all names are only numbers, or there are none."""
    return all(NUMBERED.fullmatch(name.strip()) for name in names)
