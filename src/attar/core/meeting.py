"""Where the processes of a run meet: a store at the address of the first one, and a roll call before any other work.

A process that fails on its way says so in the store, so that the others do not wait for it. This file imports torch
only when a store is opened.
"""

import os
import socket
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from attar.core.errors import OTHERS_ENDED, InputError, OthersEnded, reason_of
from attar.core.launcher import ADDRESS, number_in, rank, size

PORT = "29500"
"""Port of the first process, if the launcher names none."""
PORTS = 2**16
"""Ports are numbers below this."""
PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others to come. Those that read the same data come at about the same time."""
LOOK = timedelta(seconds=1)
"""How often it looks whether another one has failed on its way."""
LATE = timedelta(seconds=5)
"""How much later another process may meet the same failure, or say why it failed."""
SHORTEST, LONGEST = 0.01, 0.25
"""Seconds between two looks into the store."""
FAILED, PRINTED = "failed", "printed"

_opened: list[Any] = []
"""The store, once it is opened."""


def store(patience: timedelta = PATIENCE) -> Any:
    """The store in which the processes meet. The first process holds it, or else the launcher.

    Args:
        patience: How long another process tries to reach it.

    Raises:
        RuntimeError: Nobody answers there, or it cannot be opened.
        ValueError: There is no such port.
        InputError: The port is no number.
    """
    if not _opened:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        os.environ.setdefault("MASTER_PORT", PORT)
        port = number_in("MASTER_PORT")
        if port >= PORTS:
            raise ValueError(f"port must have value from 0 to {PORTS - 1} but was {port}")
        where = os.environ[ADDRESS]
        own = rank() == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        if not own:
            _reach(where, port, patience)
        _opened.append(TCPStore(where, port, size(), own, patience, wait_for_workers=False, multi_tenant=own))
    return _opened[0]


def _reach(host: str, port: int, patience: timedelta) -> None:
    """Wait until something takes connections. A store's own wait prints many lines when it ends."""
    until, pause = time.monotonic() + patience.total_seconds(), SHORTEST
    while True:
        try:
            socket.create_connection((host, port), timeout=LATE.total_seconds()).close()
            return
        except (OSError, UnicodeError) as error:
            if time.monotonic() > until:
                reason = getattr(error, "strerror", None) or reason_of(error)
                raise RuntimeError(f"nobody answers at {host}:{port}: {reason}") from None
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST)


def is_open() -> bool:
    """Whether this process has come to the store."""
    return bool(_opened)


def meet(device: str) -> Any:
    """Wait until all processes have come; return their store.

    Args:
        device: The type of device that this process works on.

    Raises:
        OthersEnded: One has failed on its way.
        InputError: They work on several types of devices, or the port is no number.
        RuntimeError: One has not come in time.
        ValueError: There is no such port.
    """
    found, places = store(), [f"attar/here/{number}" for number in range(size())]
    found.set(places[rank()], device)
    until = time.monotonic() + PATIENCE.total_seconds()
    while not awaited(found, places, LOOK):
        _see_to_failures(found)
        if time.monotonic() > until:
            raise RuntimeError("they did not come in time")
    devices = sorted({found.get(place).decode() for place in places})
    if len(devices) > 1:
        raise InputError(f"some processes work on {devices[0]} and others on {devices[1]}. Give --device {devices[0]}.")
    return found


def awaited(found: Any, places: Sequence[str], patience: timedelta) -> bool:
    """Whether something is written to all of these places before patience ends. A store's own wait prints lines."""
    until, pause = time.monotonic() + patience.total_seconds(), SHORTEST
    while not found.check(list(places)):
        if time.monotonic() > until:
            return False
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST)
    return True


def _see_to_failures(found: Any) -> None:
    """Raise `OthersEnded` if a process has failed, after it had time to say why."""
    until = time.monotonic() + 2 * LATE.total_seconds()
    while failed := said_of_others(found):
        if PRINTED in failed or rank() > 0 or time.monotonic() > until:
            raise OthersEnded(OTHERS_ENDED)
        time.sleep(LONGEST)


def said_of_others(found: Any) -> set[str]:
    """What the other processes have said of failures of theirs."""
    places = [place_of(number) for number in range(size()) if number != rank()]
    return {found.get(place).decode() for place in places if found.check([place])}


def place_of(number: int) -> str:
    """Where a process says that it has failed."""
    return f"attar/{number}"


def last_of(number: int) -> str:
    """Where a process says that it needs the store no more."""
    return f"attar/{number}/last"
