"""Trainings dealt out to several processes: whole rounds one each, and what is left to groups of processes.

Twenty networks on eight processes are two rounds of one network each, and four networks that two processes train
together. Five networks on eight processes are trained by all of them, one after another, or, if they are too small to
be divided, by five groups.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch

from attar.core.processes import ALONE, Processes

T = TypeVar("T")

COST_OF_A_STEP = {"cpu": 1e8, "cuda": 1e11}
"""Multiply-adds in the time of a step that does not become shorter if more processes share it: a few milliseconds of
starting kernels and of exchanging gradients."""


def deal(items: int, processes: Processes, work: float, device: torch.device) -> list[tuple[Sequence[int], Processes]]:
    """What this process works on: numbers of items, each with the processes that work on them together.

    Args:
        items: How many trainings there are.
        processes: The processes.
        work: Multiply-adds of one step of a training. Zero if that is not known.
        device: Where it runs.
    """
    count = processes.count
    left = items % count
    alone: list[tuple[Sequence[int], Processes]] = [(processes.share(items - left), ALONE)] if items >= count else []
    if not left:
        return alone
    groups = groups_for(left, count, work, device)
    number, together = processes.divided(groups)
    return [*alone, (range(items - left + number, items, groups), together)]


def groups_for(items: int, count: int, work: float, device: torch.device) -> int:
    """Into how many groups processes are divided to do fewer items than there are processes in the shortest time.

    Args:
        items: How many items there are.
        count: How many processes.
        work: Multiply-adds of one step.
        device: Where it runs.
    """
    cost = COST_OF_A_STEP.get(device.type, COST_OF_A_STEP["cpu"])

    def time(groups: int) -> float:
        return math.ceil(items / groups) * (cost + work / (count // groups))

    return min(range(items, 0, -1), key=time)


def in_order(found: Mapping[int, T], processes: Processes) -> list[T]:
    """What all processes found, in the order of the items, in every process."""
    everyone = processes.collect([found])
    together = {number: value for one in reversed(everyone) for number, value in one.items()}
    return [together[number] for number in sorted(together)]
