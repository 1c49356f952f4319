"""What several processes print when one of them cannot continue: one line.

What is wrong in all of them, the first one prints. A process that fails alone sees that the first one does not fail,
and prints its reason itself. It says so in the store in which the processes meet, so that the first one, which notices
that another has ended, has nothing to add. A process that fails on its way goes to the store for that.
"""

import os
from contextlib import suppress
from datetime import timedelta

from attar.core import meeting
from attar.core.errors import InputError
from attar.core.launcher import rank, size
from attar.core.meeting import FAILED, PRINTED, last_of, place_of

LAUNCHER = "TORCHELASTIC_RUN_ID"
"""What torchrun and accelerate set, which end all processes when one has failed."""
UNREACHED = (RuntimeError, ValueError, InputError)
"""What is raised where there is no store."""
STAYS = timedelta(seconds=2)
"""How long the first process, which may hold the store, stays for the others after a failure."""
LINGERS = timedelta(seconds=60)
"""How long a process that has failed on its way waits for the first one to come."""


def message(line: str, *, lost: bool) -> str | None:
    """What this process prints after a failure. None: another process prints it.

    Args:
        line: What went wrong here.
        lost: Whether nothing is wrong here but that another process has ended.
    """
    number, count = _place()
    if count == 1:
        return line
    met = meeting.is_open()
    try:
        if number == 0:
            return None if lost and met and PRINTED in meeting.said_of_others(meeting.store()) else line
        return _of_other(line, number, lost)
    except UNREACHED:  # the store has ended with the first process, or has never been there
        own = line if lost else _named(line)
        return own if number == 0 or (lost and number == 1) or not (lost or met) else None


def leave() -> None:
    """Let the others know of the failure. The first process, with which the store ends, then waits for them.

    One that never came to the store goes there now, unless there is a launcher, which ends the others.
    """
    number, count = _place()
    if count == 1:
        return
    met = meeting.is_open()
    stays = STAYS if met else meeting.LATE if number == 0 else LINGERS
    with suppress(*UNREACHED):
        if number == 0:
            store = meeting.store(stays)
            store.set(place_of(0), FAILED)
            meeting.awaited(store, [last_of(other) for other in range(1, count)], stays)
        elif met or LAUNCHER not in os.environ:
            store = meeting.store(stays)
            for place in [last_of(number)] if met else [place_of(number), last_of(number)]:
                store.set(place, PRINTED)


def _of_other(line: str, number: int, lost: bool) -> str | None:
    store = meeting.store(meeting.LATE)
    store.set(place_of(number), FAILED)
    if meeting.awaited(store, [place_of(0)], meeting.LATE):
        return None
    if lost and (number > 1 or PRINTED in meeting.said_of_others(store)):
        return None  # the first process has been killed, works, or waits
    store.set(place_of(number), PRINTED)
    return line if lost else _named(line)


def _named(line: str) -> str:
    return f"process {rank()} of {size()}: {line}"


def _place() -> tuple[int, int]:
    """The rank of this process, and their number; one alone where the launcher's variables make no sense."""
    try:
        return rank(), size()
    except InputError:
        return 0, 1
