"""The log of the name `attar`, and notes that concern the reader of a result.

Everything that a run says goes to the log at the level INFO, whoever else hears it. The log prints nothing unless the
program that uses attar gives it a handler. A note is a warning of Python's, or of the log's where that has a handler of
its own, so that nothing is printed twice.
"""

import logging
import warnings
from collections.abc import Callable

LOG = logging.getLogger("attar")
LOG.addHandler(logging.NullHandler())


class Speaker:
    """Where a run says what happens: the log, and a function of the caller's if there is one."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say

    def __call__(self, line: str) -> None:
        """Say a line."""
        LOG.info("%s", line)
        if self._say is not None:
            self._say(line)


def note(text: str, *, stacklevel: int = 1) -> None:
    """Tell what a reader of the result should know.

    Args:
        text: A sentence.
        stacklevel: Whose line a warning is of: 1 for the caller of this function, 2 for the caller's caller.
    """
    if any(not isinstance(handler, logging.NullHandler) for handler in LOG.handlers):
        LOG.warning("%s", text)
    else:
        warnings.warn(text, stacklevel=stacklevel + 1)
