"""The rank of this process and the number of processes, from the launcher's variables, without importing torch."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attar.core.errors import InputError, shortened

RANK, SIZE, ADDRESS = "RANK", "WORLD_SIZE", "MASTER_ADDR"
"""What torchrun and accelerate set. Only all three together make several processes. Launchers of MPI and Slurm set
other variables, and those of one process in a larger job do not make it one of several."""
LOCAL_SIZE = "LOCAL_WORLD_SIZE"
"""What holds the number of processes on this machine."""

DIGITS = 9
"""The most digits that such a number has."""


def rank() -> int:
    """The number of this process, from 0.

    Raises:
        InputError: A variable of the launcher has no valid value.
    """
    return _launched()[0]


def size() -> int:
    """How many processes were launched together.

    Raises:
        InputError: A variable of the launcher has no valid value.
    """
    return _launched()[1]


def speaks() -> bool:
    """Whether this process prints: the first one does, and any whose rank is not known."""
    try:
        return rank() == 0
    except InputError:
        return True


def check_shared(worker: Any, what: str) -> None:
    """Check that several processes share some work, so that no process does all of it again.

    Args:
        worker: Settings of a method, a table or a scoring. They share their work if their `shares` is true.
        what: How the work is called.

    Raises:
        InputError: There are several processes, and the work is not shared.
    """
    processes = size()
    if processes > 1 and not getattr(worker, "shares", False):
        raise InputError(f"{what} does not share its work, but {processes} processes were started. Start one process.")


def machines() -> int:
    """On how many machines the processes run, as far as the launcher says."""
    everywhere = size()
    here = number_in(LOCAL_SIZE) if everywhere > 1 and LOCAL_SIZE in os.environ else everywhere
    return -(-everywhere // max(here, 1))


def line_of(arguments: Sequence[str]) -> str:
    """The line that starts the command again, on one of the machines: with its launcher, where it has one."""
    if size() == 1:
        return shlex.join(["attar", *arguments])
    launched = _parent()
    if arguments and launched[-len(arguments) :] == list(arguments):
        return shlex.join(_as_typed(launched))
    return shlex.join(["torchrun", "--nproc-per-node", str(size() // machines()), "-m", "attar", *arguments])


def _parent() -> list[str]:
    """The words of the command that started this process; none where the system does not tell."""
    try:
        return Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _as_typed(words: list[str]) -> list[str]:
    """A script's command without its interpreter, and programs without their folders."""
    program, *rest = words
    if Path(program).name.startswith("python") and rest and not rest[0].startswith("-"):
        program, *rest = rest
    return [Path(program).name, *rest]


def number_in(name: str) -> int:
    """The whole number that a variable of the environment holds.

    Raises:
        InputError: It holds something else.
    """
    text = os.environ.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > DIGITS:
        raise InputError(
            f"the environment variable {name} is {shortened(text)!r}, not a whole number from 0 to {10**DIGITS - 1:,}. "
            f"Let torchrun or accelerate set it, or remove {RANK}, {SIZE} and {ADDRESS}."
        )
    return int(text)


def _launched() -> tuple[int, int]:
    """Rank and number of processes."""
    if any(name not in os.environ for name in (RANK, SIZE, ADDRESS)):
        return 0, 1
    rank, size = number_in(RANK), number_in(SIZE)
    if rank >= size:
        raise InputError(f"the environment variable {RANK} is {rank}, which must be less than {SIZE}, {size}.")
    if not os.environ[ADDRESS].strip():
        raise InputError(f"the environment variable {ADDRESS} is empty. Give the address of the first process.")
    return rank, size
