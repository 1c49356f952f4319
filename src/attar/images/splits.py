"""The split on which an artefact is tested: always the one that it was made with.

Data that came without test images are split by a seed. A network that is tested on another split than that of its
training is tested on its own training images. The split is therefore recognised by its fingerprint, and found again if
possible.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.sources import ImageSource

BY_SEED = "80/20 by seed"


def same_classes(made: Any, source: ImageSource) -> bool:
    """Whether an artefact and data have the same classes and image shape. The order of the classes does not matter."""
    return sorted(made.classes) == sorted(source.classes) and made.shape == source.shape


def own_split(made: Any, source: ImageSource, runtime: Runtime) -> ImageSource:
    """The source in the split and the order of classes that an artefact was made with.

    Classes are matched by name, because older versions sorted numbers as text: 0, 1, 10, 2.

    Args:
        made: A condensed set or a student, with an origin and a transform. Its classes are those of the source.
        source: The data to test on.
        runtime: The runtime, whose `say` is called if the data are others.

    Raises:
        InputError: The data have another split, and that of the artefact cannot be found.
    """
    if made.classes == source.classes:
        return _own_split(made, source, runtime, [source])
    orders = [source.ordered_as(made.classes, regrouped=regrouped) for regrouped in (True, False)]
    runtime.say(f"the classes of {source.name} are numbered as {made.origin.method} has them, by their names.")
    return _own_split(made, orders[0], runtime, orders)


def _own_split(made: Any, source: ImageSource, runtime: Runtime, orders: Sequence[ImageSource]) -> ImageSource:
    """The one of several forms of a source, or of their splits, that an artefact was made with."""
    origin = made.origin
    for one in orders:
        if one.is_of(origin.fingerprint, made.transform):
            return one
    if source.rows is not None:
        for one, seed in product(orders, _seeds(made)):
            other = one.at(seed)
            if other.is_of(origin.fingerprint, made.transform):
                runtime.say(f"{origin.method} is tested on the split that it was made with ({other.split}).")
                return other
    by_seed, same_name = _split_of(origin).startswith(BY_SEED), source.name == origin.source
    if (source.rows is not None and (by_seed or not _split_of(origin))) or (by_seed and same_name):
        raise InputError(
            f"{source.name} is split {source.split}, but {origin.method} was made from another split or other "
            f"{source.things}, so it may have been trained on test {source.things}. Give the original data and "
            "--split-seed."
        )
    what = "pixels" if source.things == "images" else source.things
    runtime.say(f"note: the {what} of {source.name} differ from those that {origin.method} was made from.")
    return source


def _split_of(origin: Any) -> str:
    """The split of the data in words. The origin of a student does not have it."""
    return str(getattr(origin, "split", ""))


def _seeds(made: Any) -> list[int]:
    """The possible seeds of the split: the recorded one, that of the run in older artefacts, and 0."""
    told = _split_of(made.origin).removeprefix(BY_SEED).strip()
    asked = ((made.origin.call or {}).get("reading") or {}).get("split_seed")
    known = [int(told)] if told.isdigit() else []
    return list(dict.fromkeys([*known, *([asked] if asked is not None else []), made.origin.seed, 0]))
