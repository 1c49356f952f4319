"""The split on which an encoder is tested: always the one that it was trained with.

Samples that came without a split are divided by a seed, and so are samples whose classes or number are drawn. An
encoder that is tested on another division is tested on samples that it has seen. The division is therefore recognised
by its fingerprint, and found again if possible.
"""

from typing import Any

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.embeddings.sources import Source


def own_split(made: Any, source: Source, runtime: Runtime) -> Source:
    """The source as an encoder was trained with it.

    Args:
        made: A trained encoder, with an origin and a normalisation.
        source: The samples to test on.
        runtime: The runtime, whose `say` is called if another seed is used, or the samples are others.

    Raises:
        InputError: The samples have the name of those of the training, but another split that cannot be found.
    """
    origin = made.origin
    if source.is_of(origin.fingerprint, made.normalise):
        return source
    for seed in _seeds(origin) if source.again is not None else []:
        other = source.at(seed)
        if other.is_of(origin.fingerprint, made.normalise):
            runtime.say(f"{origin.method} is tested on the split that it was trained with ({other.split}).")
            return other
    if source.name == origin.source:
        raise InputError(
            f"{source.name}, split {source.split}, is not what {origin.method} was trained on, so it may have been "
            "trained on test samples. Give the original data, with the settings of reading of the training."
        )
    runtime.say(f"note: {origin.method} was trained on {origin.source}, not on {source.name}.")
    return source


def _seeds(origin: Any) -> list[int]:
    """The possible seeds of the split: the one that was asked for, that of the run, and 0."""
    asked = ((origin.call or {}).get("reading") or {}).get("split_seed")
    return list(dict.fromkeys([*([asked] if asked is not None else []), origin.seed, 0]))
