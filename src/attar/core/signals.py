"""Signals that ask a process to end: Ctrl-C, SIGTERM and SIGHUP, all of which are met alike."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any


def hang_up(system: Any = signal) -> Any:
    """SIGHUP; on Windows, which has none, what Ctrl-Break sends."""
    return system.SIGHUP if hasattr(system, "SIGHUP") else system.SIGBREAK


INTERRUPT, TERMINATE, HANG_UP = signal.SIGINT, signal.SIGTERM, hang_up()
asked = threading.Event()
"""Whether the command was asked to end. A library may swallow the exception that says so, for instance in an import."""


def ending() -> AbstractContextManager[None]:
    """Have these signals end the process at once, in a call of a library that would not return to Python for them."""
    return met_by(signal.SIG_DFL, INTERRUPT, TERMINATE, HANG_UP)


@contextmanager
def met_by(handler: Callable[[int, Any], Any] | signal.Handlers, *numbers: signal.Signals) -> Iterator[None]:
    """Have a function called when one of these signals comes; elsewhere than in the main thread nothing changes.

    A SIGHUP that is ignored, as nohup has it, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = signal.getsignal(HANG_UP) is signal.SIG_IGN
    before = {number: signal.signal(number, handler) for number in numbers if number != HANG_UP or not ignored}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, signal.SIG_DFL if usual is None else usual)
