"""Several processes that work on one run, as `accelerate launch -m attar ...` or `torchrun -m attar ...` starts them.

Every process holds the same state and draws the same random numbers. The processes divide the work between two draws,
and their results are summed. The result is therefore that of one process, up to the order of summation, and any number
of processes can resume from the one checkpoint that the first process writes.
"""

import atexit
import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from attar.core.errors import OTHERS_ENDED, InputError, OthersEnded
from attar.core.failures import others_ended
from attar.core.launcher import LOCAL_SIZE, number_in, rank, size
from attar.core.meeting import meet
from attar.core.signals import ending

T = TypeVar("T")

PATIENCE = timedelta(days=20)
"""How long a process waits for the others, which may be busy for hours. More does not fit 31 bits of milliseconds."""


class Processes:
    """The processes of a run; here the only one."""

    rank = 0
    count = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def share(self, items: int) -> range:
        """Which of so many items this process works on: of n processes every n-th, so that neighbours are parted.

        Neighbours may be equally dear. Rows of one batch are dealt out by `rows`.
        """
        return range(self.rank, items, self.count)

    def rows(self, count: int) -> slice:
        """Which of so many rows this process works on: neighbours, the first ones in the first process; maybe none.

        Joined in the order of the processes, they are in the order of the batch.
        """
        ends = self.ends(count)
        return slice(ends[self.rank], ends[self.rank + 1])

    def ends(self, count: int) -> list[int]:
        """Where the rows of each process start, of so many, and where those of the last one end."""
        return [number * count // self.count for number in range(self.count + 1)]

    def divided(self, groups: int) -> tuple[int, "Processes"]:
        """The number of the group that this process belongs to, of so many equally large ones, and its processes."""
        return 0, self

    def sum_(self, tensor: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place."""
        return tensor

    def join(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """The rows of all processes, in the order of the processes, in every process.

        Args:
            rows: Those of this process.
            counts: How many rows each process has.
        """
        return rows

    def max_(self, tensor: Tensor) -> Tensor:
        """The largest of each number over all processes, in place."""
        return tensor

    def any(self, here: bool) -> bool:
        """Whether it is so in any process."""
        return here

    def collect(self, mine: list[T]) -> list[T]:
        """Bring together what `share` dealt out, in the order of the items, in every process."""
        return mine

    def once(self, action: Callable[[], T]) -> T:
        """Do something in the first process only; the others get its result, or its `InputError`."""
        return action()


class _Several(Processes):
    """One of several, joined by torch.distributed."""

    def __init__(self, *, cpu: bool) -> None:
        self.device = torch.device("cpu") if cpu else _own_gpu()
        if not dist.is_initialized():
            _join(cpu=cpu)
        self.ranks = list(range(dist.get_world_size()))
        # A group of its own: the first one's patience, ten or thirty minutes, is too short for some waits.
        self._join_group(dist.new_group(timeout=PATIENCE))

    def _join_group(self, group: Any) -> None:
        self.group, self.rank, self.count = group, dist.get_rank(group), len(self.ranks)

    def divided(self, groups: int) -> tuple[int, Processes]:
        number = self.rank * groups // self.count
        if groups == 1:
            return number, self
        if groups == self.count:
            return number, ALONE
        return number, _part(self, groups)

    def sum_(self, tensor: Tensor) -> Tensor:
        with _reaching_others():
            dist.all_reduce(tensor, group=self.group)
        return tensor

    def join(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        # Every process must send as much as the others: what is missing is filled up, and cut off again.
        filled = torch.cat([rows, rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])]).contiguous()
        parts = [torch.empty_like(filled) for _ in counts]
        with _reaching_others():
            dist.all_gather(parts, filled, group=self.group)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def max_(self, tensor: Tensor) -> Tensor:
        with _reaching_others():
            dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.group)
        return tensor

    def any(self, here: bool) -> bool:
        return bool(self.sum_(torch.tensor(float(here), device=self.device)) > 0)

    def collect(self, mine: list[T]) -> list[T]:
        everyone: list[Any] = [None] * self.count
        with _reaching_others():
            dist.all_gather_object(everyone, mine, group=self.group)
        return [everyone[item % self.count][item // self.count] for item in range(sum(map(len, everyone)))]

    def once(self, action: Callable[[], T]) -> T:
        outcome: list[Any] = [None, None]
        if self.first:
            try:
                outcome = [action(), None]
            except InputError as error:
                outcome = [None, error]
        with _reaching_others():
            dist.broadcast_object_list(outcome, src=self.ranks[0], group=self.group)
        if outcome[1] is not None:
            raise outcome[1]
        result: T = outcome[0]
        return result


@contextmanager
def _reaching_others() -> Iterator[None]:
    """Say in one line that another process has ended.

    Raises:
        OthersEnded: One has.
    """
    try:
        yield
    except RuntimeError as error:
        if not others_ended(error):
            raise
        raise OthersEnded(OTHERS_ENDED) from None


ALONE = Processes()


def current(*, cpu: bool) -> Processes:
    """The processes that a launcher has started this one among; itself alone where there was none."""
    return _several(cpu) if size() > 1 else ALONE


@cache
def _several(cpu: bool) -> _Several:
    return _Several(cpu=cpu)


@cache
def _part(whole: _Several, groups: int) -> _Several:
    """The processes of this one's group, if a number of processes is divided into groups of neighbours."""
    part = copy.copy(whole)
    for number in range(groups):  # every process has to be there when any of the groups is made
        ranks = [rank for rank in whole.ranks if whole.ranks.index(rank) * groups // whole.count == number]
        group = dist.new_group(ranks, timeout=PATIENCE)
        if whole.ranks[whole.rank] in ranks:
            part.ranks = ranks
            part._join_group(group)
    return part


def _own_gpu() -> torch.device:
    """The GPU of this process, which becomes the current one.

    Raises:
        InputError: There is none.
    """
    if not torch.cuda.is_available():
        raise InputError("several processes work on CUDA GPUs and on CPUs. Give --device cpu, or start one process.")
    local = number_in("LOCAL_RANK") if "LOCAL_RANK" in os.environ else rank()
    device = torch.device("cuda", local % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _join(*, cpu: bool) -> None:
    """Meet the other processes at the address of the first.

    Raises:
        InputError: They cannot be reached.
        OthersEnded: One has failed on its way.
    """
    here = number_in(LOCAL_SIZE) if LOCAL_SIZE in os.environ else size()
    if cpu and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // max(1, here)))
    try:
        with ending():  # the others may be hours away
            store = meet("cpu" if cpu else "cuda")
            dist.init_process_group("gloo" if cpu else "nccl", store=store, rank=rank(), world_size=size())
        atexit.register(_leave)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InputError(f"process {rank()} of {size()} could not meet the others ({reason}).") from None


def _leave() -> None:
    """End the groups' threads before the interpreter ends: later, one that frees a tensor would abort the process."""
    _several.cache_clear()
    _part.cache_clear()
    if dist.is_initialized():
        dist.destroy_process_group()
