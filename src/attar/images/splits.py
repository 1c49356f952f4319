"""The split on which an artefact is tested: always the one that it was made with.

Data that came without test images are split by a seed. A network that is tested on another split than that of its
training is tested on its own training images. The split is therefore recognised by its fingerprint, and found again if
possible.
"""

from typing import Any

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.sources import ImageSource

BY_SEED = "80/20 by seed"


def own_split(made: Any, source: ImageSource, runtime: Runtime) -> ImageSource:
    """The source in the split that an artefact was made with.

    Args:
        made: A condensed set or a student, with an origin and a transform.
        source: The data to test on.
        runtime: The runtime, whose `say` is called if the data are others.

    Raises:
        InputError: The data have another split, and that of the artefact cannot be found.
    """
    origin = made.origin
    if source.is_of(origin.fingerprint, made.transform):
        return source
    if source.rows is not None:
        for seed in _seeds(made):
            other = source.at(seed)
            if other.is_of(origin.fingerprint, made.transform):
                runtime.say(f"{origin.method} is tested on the split that it was made with ({other.split}).")
                return other
        if _split_of(origin).startswith(BY_SEED) or not _split_of(origin):
            raise InputError(
                f"{source.name} is split {source.split}, but {origin.method} was made from another split or other "
                "images, so it may have been trained on test images. Give the original data and --split-seed."
            )
    runtime.say(f"note: the pixels of {source.name} differ from those that {origin.method} was made from.")
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
