"""What the commands share: settings from words, and where lines go."""

import functools
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attar.core.errors import InputError
from attar.core.settings import Settings

if TYPE_CHECKING:
    from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class Reading(Settings):
    """How pictures are read."""

    size: int | None = None
    """Side in pixels to scale every picture to."""
    memory: float = 4.0
    """Budget in GB for decoded pixels; a larger set stays on disk and is decoded batch by batch."""
    image: str | None = None
    """The column of the images, in parquet files and data sets of the hub; image, img or images unless given."""
    label: str | None = None
    """The column of the labels; label, labels or fine_label unless given."""
    statistics: str | None = None
    """Channel statistics by name (cifar10, ...), or measured."""

    def load(self, data: str, seed: int) -> "ImageSource":
        """The source; the seed draws the 80/20 split of a set without test images."""
        from attar.images.sources import load

        return load(data, seed=seed, **self.to_json())


def parse(function: Callable[..., None], name: str, arguments: list[str]) -> None:
    """Call a function with the settings that the words after the verb name."""
    import tyro

    _join_lines()
    for told in (function, inspect.unwrap(function)):
        told.__doc__ = re.sub(r"\n {8,}", " ", inspect.cleandoc(told.__doc__ or ""))
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    tyro.cli(function, prog=name, args=arguments, config=config)


@functools.cache
def _join_lines() -> None:
    """Let the sentences of settings flow: tyro joins their lines before it takes the indentation off."""
    from tyro import _strings

    name = "remove_single_line_breaks"
    join = getattr(_strings, name, None)
    if join is not None:
        setattr(_strings, name, lambda text: join(inspect.cleandoc(text)))


def at_least_one(**values: int) -> None:
    """Refuse counts below one."""
    for name, value in values.items():
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1.")


def speaker(quiet: bool) -> Callable[[str], None]:
    """Where a verb says what happens: standard error, or nowhere."""
    if quiet:
        return lambda line: None
    return lambda line: print(line, file=sys.stderr)
