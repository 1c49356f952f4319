"""What a person did wrong, said in one line. Our own mistakes stay assertions."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

T = TypeVar("T")


class InputError(Exception):
    """Bad input: what was wrong, where, and what would be right. The command prints it and returns 2.

    Not a ValueError, which the command-line parser would dress up as its own.
    """


class Diverged(InputError):  # noqa: N818
    """A training whose loss, or what it learns, is no longer finite: what was, when, and which step sizes to lower."""

    what: str = ""
    """The message without the advice."""
    flags: tuple[Any, ...] = ()
    """The step sizes, as `attar.core.flags.Flag`."""

    @classmethod
    def of(cls, what: str, flags: Sequence[Any] = ()) -> Self:
        """Say what became what, and advise to lower these step sizes, where there are some."""
        names = ", ".join(dict.fromkeys(flag.name for flag in flags))
        error = cls(f"{what}. Try a smaller step size ({names})." if names else f"{what}.")
        error.what, error.flags = what, tuple(flags)
        return error


class Interrupted(KeyboardInterrupt):
    """A run was stopped from outside after it had saved everything it needs to go on."""


def named(kind: str, given: str | T, known: Mapping[str, T], *, hint: str = "") -> T:
    """The entry of a table by its name, or the thing itself where that is given.

    Args:
        kind: What it is: "protocol".
        given: A name, or what it would stand for.
        known: The table.
        hint: What else would be right.

    Raises:
        InputError: A name that the table does not have, with the nearest right one.
    """
    if not isinstance(given, str):
        return given
    if given not in known:
        raise unknown(kind, given, known, hint=hint)
    return known[given]


def unknown(kind: str, given: str, known: Iterable[str], *, hint: str = "") -> InputError:
    """The error for a name nobody knows, with the nearest right one."""
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    text = f"unknown {kind} {given!r}{guess} Known: {', '.join(known)}."
    return InputError(f"{text} {hint}".strip())
