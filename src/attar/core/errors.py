"""Errors about bad input, which the command prints on one line. Our own mistakes stay assertions."""

import difflib
import errno
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a full disk and a full quota."""
LONGEST = 200
"""Most characters of a word in a message."""

OTHERS_ENDED = (
    "another process of this run has ended, so this one cannot continue. Its own message, or the launcher's, says why. "
    "To continue, run the same command again."
)


class InputError(Exception):
    """Bad input: what was wrong, where, and what would be right. The command prints the message and exits with code 2.

    It is not a ValueError, because the command-line parser would report that as its own error.
    """

    def __str__(self) -> str:
        return shortened(with_short_words(super().__str__()), 2000)


class Diverged(InputError):  # noqa: N818
    """A run whose loss or learned values are not finite or far too large: what, when, and which step sizes to lower."""

    what: str = ""
    """The message without the advice."""
    flags: tuple[Any, ...] = ()
    """The step sizes, as `attar.core.flags.Flag`."""

    @classmethod
    def of(cls, what: str, flags: Sequence[Any] = ()) -> Self:
        """The error with advice to lower these step sizes, if there are any."""
        names = ", ".join(dict.fromkeys(flag.name for flag in flags))
        error = cls(f"{what}. Try a smaller step size ({names})." if names else f"{what}.")
        error.what, error.flags = what, tuple(flags)
        return error


class OthersEnded(InputError):  # noqa: N818
    """Another process of the run has ended, so that this one cannot continue."""


class Stopped(KeyboardInterrupt):
    """Stopped from outside at once. For its own class Python may end by the signal itself, and not with a code."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped from outside, after it had saved everything that it needs to continue."""


def named(kind: str, given: str | T, known: Mapping[str, T], *, hint: str = "") -> T:
    """The entry of a table by its name. Anything that is not a name is returned as it is.

    Args:
        kind: What the name is of, for the message: "protocol".
        given: A name, or the object itself.
        known: The table.
        hint: A further sentence about what would be right.

    Raises:
        InputError: A name that the table does not have, with the nearest right one.
    """
    if not isinstance(given, str):
        return given
    if given not in known:
        raise unknown(kind, given, known, hint=hint)
    return known[given]


def unknown(kind: str, given: str, known: Iterable[str], *, hint: str = "") -> InputError:
    """The error for an unknown name, with the nearest known one."""
    known = sorted(known)
    by_lower = {name.lower(): name for name in reversed(known)}
    near = [by_lower[name] for name in difflib.get_close_matches(given.lower(), by_lower, n=1, cutoff=0.5)]
    guess = f"; did you mean {near[0]!r}?" if near else "."
    text = f"unknown {kind} {shortened(given)!r}{guess} Known: {', '.join(known)}."
    return InputError(f"{text} {hint}".strip())


def reason_of(error: BaseException) -> str:
    """The first line of another library's error, to stand in a sentence; its type if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def near_path(data: str | Path) -> str:
    """The path whose last name is nearest to that of a path that does not exist; empty if none is near."""
    path = Path(data)
    try:
        there = [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.75)
    return str(data).removesuffix(path.name) + near[0] if near else ""


def with_short_words(text: str) -> str:
    """Text in which very long words, such as paths, are cut in the middle."""
    half = LONGEST // 2
    return re.sub(rf"\S{{{LONGEST + 1},}}", lambda word: f"{word[0][:half]}…{word[0][-half:]}", text)


def shortened(text: str, most: int = 60) -> str:
    """Text that fits a line of an error."""
    return text if len(text) <= most else f"{text[:most]}..."


def unwritable(path: Path | str, error: OSError) -> InputError:
    """The refusal for a file or folder that cannot be written, with what to do about a full or a read-only disk."""
    advice = " Make room, then run the same command again." if error.errno in FULL else ""
    advice = " Choose another folder." if error.errno == errno.EROFS else advice
    return InputError(f"cannot write {path}: {error.strerror}.{advice}")
