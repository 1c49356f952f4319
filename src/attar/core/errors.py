"""What a person did wrong, said in one line. Our own mistakes stay assertions."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Bad input: what was wrong, where, and what would be right. The command prints it and returns 2.

    Not a ValueError, which the command-line parser would dress up as its own.
    """


class Interrupted(KeyboardInterrupt):
    """A run was stopped from outside after it had saved everything it needs to go on."""


def unknown(kind: str, given: str, known: Iterable[str], *, hint: str = "") -> InputError:
    """The error for a name nobody knows, with the nearest right one."""
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    text = f"unknown {kind} {given!r}; {guess}Known: {', '.join(known)}."
    return InputError(f"{text} {hint}".strip())
