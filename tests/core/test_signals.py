"""The signals that ask a process to end, on systems that have them and on those that do not."""

import signal
from types import SimpleNamespace

from attar.core.signals import HANG_UP, INTERRUPT, TERMINATE, hang_up, met_by


def test_windows_has_another_signal_for_a_closed_console():
    assert hang_up(SimpleNamespace(SIGBREAK=21)) == 21
    assert hang_up() is HANG_UP is getattr(signal, "SIGHUP", HANG_UP)


def test_signals_are_met_and_given_back():
    before = [signal.getsignal(number) for number in (INTERRUPT, TERMINATE, HANG_UP)]
    with met_by(print, INTERRUPT, TERMINATE, HANG_UP):
        assert signal.getsignal(TERMINATE) is print
    assert [signal.getsignal(number) for number in (INTERRUPT, TERMINATE, HANG_UP)] == before
