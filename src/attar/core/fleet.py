"""Run many independent tasks: one after another here, or on Ray's workers, on this machine or a cluster.

Each task writes to its own run folder, which can be resumed. If a worker dies, Ray gives its task to another worker,
which continues from the last checkpoint. What many tasks are given, such as data, travels to each machine once.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attar.core.cluster import Cluster, joined, reached
from attar.core.errors import Diverged, InputError, Interrupted
from attar.core.launcher import size
from attar.core.machine import Engine

if TYPE_CHECKING:
    from attar.core.runtime import Runtime

RETRIES = 5
"""How often a task is given out again after its worker has died."""
WATCH = 2.0
"""Seconds without a result after which the head of the cluster is looked for."""
SMALLEST = 1e-4
"""The smallest share of a GPU that Ray deals out."""
GRACE = 60.0
"""Seconds that tasks have to save what they have when the command is stopped."""


@dataclass(frozen=True)
class Task:
    """One run by name."""

    name: str
    call: Callable[..., Any]
    """Makes it. It travels with the task, so it may hold plain values, settings and paths only."""
    given: tuple[Any, ...] = ()
    """What the call is given, such as data. It travels to each machine once, for all tasks that are given the same."""


@dataclass(frozen=True)
class Fleet:
    """Who does the tasks: this process, so many workers of Ray on this machine, or a cluster of Ray."""

    workers: int = 1
    address: str | None = None
    task_gpus: float | None = None
    """GPUs, or a share of one, for each task. None is one where there are GPUs."""

    def check(self) -> None:
        """See that a cluster answers, before other work that it needs.

        Raises:
            InputError: It does not.
        """
        reached(self.address)


ALONE = Fleet()


class Crew:
    """A fleet at work. Ray is started when the first question or task comes."""

    def __init__(self, fleet: Fleet, runtime: "Runtime", stack: ExitStack) -> None:
        self.fleet, self.runtime = fleet, runtime
        self._stack = stack

    @property
    def on_gpus(self) -> bool:
        """Whether tasks work on GPUs."""
        if self.fleet.address is None:
            return self.runtime.device.type == "cuda"
        return self.gpus > 0

    @cached_property
    def cluster(self) -> Cluster:
        """Ray.

        Raises:
            InputError: It cannot be reached, or is not for several processes.
        """
        if size() > 1:
            raise InputError(f"Ray starts its own workers, but {size()} processes were started. Start one process.")
        cluster = self._stack.enter_context(joined(self.fleet.workers, self.fleet.address))
        if not cluster.cores:
            raise InputError(f"{cluster.name} has no CPU core, and each task needs one.")
        return cluster

    @cached_property
    def gpus(self) -> float:
        """GPUs of each task.

        Raises:
            InputError: More than there are, or a device that a worker does not have.
        """
        asked, device, there = self.fleet.task_gpus, self.runtime.engine.device, self.cluster.gpus
        if device.startswith("cuda:"):
            raise InputError(f"--device {device} names one GPU of this machine, but Ray deals them out. Give cuda.")
        if asked is None:
            usable = self.fleet.address is not None or self.runtime.device.type == "cuda"
            asked = 1.0 if there and usable and device in ("auto", "cuda") else 0.0
            if device == "cuda" and not asked:
                raise InputError(f"{self.cluster.name} has no GPU. Give --device cpu.")
        if device == "cpu" and asked:
            raise InputError(f"--task-gpus is {asked:g}, but --device cpu takes no GPU. Leave out one of them.")
        if asked and (asked < SMALLEST or (asked > 1 and asked % 1)):
            raise InputError(f"--task-gpus is {asked:g}. Give a whole number, or a share of one from {SMALLEST:g}.")
        if asked > there:
            raise InputError(f"--task-gpus is {asked:g}, but {self.cluster.name} has {there:g} GPUs.")
        return asked

    def do(self, tasks: Sequence[Task], *, folder: Path | None = None, say: Callable[[str], None]) -> list[Any]:
        """Do every task; return what each has returned, in their order.

        Args:
            tasks: What to do.
            folder: Where they write, if they do.
            say: Told when one is done.

        Raises:
            InputError: Some could not be done; all others were, and what they made is kept. Or the cluster cannot do
                them, or several processes were started and each asks for workers.
            Interrupted: Stopped by Ctrl-C; what was done is kept.
        """
        if self.fleet.workers == 1 and self.fleet.address is None:
            outcomes = ((number, _outcome(task.call, task.given)) for number, task in enumerate(tasks))
            return _gather(tasks, outcomes, say)
        if not tasks:
            return []
        if self.fleet.address is not None or self.gpus:
            say(self._told())
        if self.fleet.address is not None and folder is not None:
            self.cluster.check_shared(folder)
        return _gather(tasks, _given_out(self.cluster, tasks, self.gpus), say)

    def _told(self) -> str:
        """What the cluster has, and what each task gets of it."""
        cluster, gpus = self.cluster, self.gpus
        at_once = int(cluster.gpus / gpus) if gpus else cluster.cores
        one = "one GPU" if gpus == 1 else f"{gpus:g} GPUs"
        machines = len(cluster.machines)
        return (
            f"{cluster.name}: {machines} machine{'s' * (machines != 1)}, {cluster.cores} cores, {cluster.gpus:g} GPUs; "
            f"one core{f' and {one}' if gpus else ''} for each task, at most {min(at_once, cluster.cores)} at once"
        )


@contextmanager
def crew(fleet: Fleet, runtime: "Runtime") -> Iterator[Crew]:
    """A fleet, which is let go at the end."""
    if fleet.task_gpus is not None and fleet.workers == 1 and fleet.address is None:
        runtime.say("note: --task-gpus is for tasks on Ray, and this process does them itself. Give --workers too.")
    if fleet.workers > 1 and fleet.address is not None:
        runtime.say(
            "note: --workers is for tasks on this machine. How many a cluster does at once depends on its cores."
        )
    with ExitStack() as stack:
        yield Crew(fleet, runtime, stack)


def run_all(
    tasks: Sequence[Task],
    *,
    workers: int = 1,
    address: str | None = None,
    task_gpus: float | None = None,
    engine: Engine | None = None,
    folder: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Any]:
    """Do every task; return what each has returned, in their order.

    Args:
        tasks: What to do.
        workers: How many at once on this machine.
        address: A Ray cluster to do them on instead: `host:port`, `ray://host:10001` or `auto`.
        task_gpus: GPUs, or a share of one, for each task. None is one where there are GPUs and the device may be one.
        engine: Its device says whether tasks work on GPUs. Default: they do not.
        folder: Where tasks write, if they do. All machines of a cluster must have the same one.
        say: Told when one is done.

    Raises:
        InputError: As `Crew.do`.
        Interrupted: Stopped by Ctrl-C; what was done is kept.
    """
    from attar.core.runtime import Runtime

    with crew(Fleet(workers, address, task_gpus), Runtime(engine or Engine(device="cpu"))) as hired:
        return hired.do(tasks, folder=folder, say=say or (lambda line: None))


def _gather(tasks: Sequence[Task], outcomes: Iterator[tuple[int, Any]], say: Callable[[str], None]) -> list[Any]:
    """Results in the order of the tasks, from outcomes in the order of their end."""
    results: list[Any] = [None] * len(tasks)
    ended: set[int] = set()
    since = time.monotonic()
    try:
        for number, outcome in outcomes:
            results[number] = outcome
            ended.add(number)
            state = "failed" if isinstance(outcome, InputError) else "done"
            say(f"{len(ended)} of {len(tasks)}: {tasks[number].name} {state} ({time.monotonic() - since:,.0f} s)")
    except KeyboardInterrupt:
        raise Interrupted(f"stopped with {len(ended)} of {len(tasks)} done") from None
    failed = {task.name: result for task, result in zip(tasks, results, strict=True) if isinstance(result, InputError)}
    if failed:
        raise _together(failed, len(tasks))
    return results


def _together(failed: dict[str, InputError], tasks: int) -> InputError:
    """The refusals of some tasks as one; where all have diverged, with the step sizes once."""
    what = f"{len(failed)} of {tasks} tasks failed. The results of the others are kept."
    wild = [error for error in failed.values() if isinstance(error, Diverged)]
    if len(wild) < len(failed):
        return InputError(f"{what} {' '.join(f'{name}: {error}' for name, error in failed.items())}")
    told = zip(failed, wild, strict=True)
    return Diverged.of(f"{what} {'. '.join(f'{name}: {error.what}' for name, error in told)}", wild[0].flags)


def _outcome(call: Callable[..., Any], given: Sequence[Any]) -> Any:
    """What a task returns, or the `InputError` that it raises: the others go on."""
    try:
        return call(*given)
    except InputError as error:
        return error


# --------------------------------------------------------------------------------------------------- on Ray's workers


def _given_out(cluster: Cluster, tasks: Sequence[Task], gpus: float) -> Iterator[tuple[int, Any]]:
    ray = cluster.ray
    # Ray would end a worker with a GPU after one task, and the next would import everything again.
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES, max_calls=0)(_on_worker)
    put = {id(thing): thing for task in tasks for thing in task.given}
    kept = {key: ray.put(thing) for key, thing in put.items()}
    waiting = {remote.remote(task.call, [kept[id(one)] for one in task.given]): n for n, task in enumerate(tasks)}
    try:
        while waiting:
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=WATCH)
            if not ready:
                cluster.check_alive()
            for one in ready:
                yield waiting.pop(one), _result(ray, one)
    except KeyboardInterrupt:
        _let_save(ray, list(waiting))
        raise


def _result(ray: Any, one: Any) -> Any:
    """What a task has returned, or why it has not."""
    try:
        return ray.get(one)
    except ray.exceptions.RayTaskError as error:  # a mistake of ours, or the machine's: as if it had come up here
        raise (error.cause or error) from error
    except ray.exceptions.WorkerCrashedError:
        return InputError(f"its worker died {RETRIES + 1} times. Check that the machine has enough memory.")
    except (ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError) as error:
        return InputError(f"its machine failed ({type(error).__name__}). Check it, then run the same command again.")


def _let_save(ray: Any, running: list[Any]) -> None:
    """Have tasks meet the stop as they would meet Ctrl-C: after a checkpoint."""
    with suppress(KeyboardInterrupt, ray.exceptions.RayError):
        for one in running:
            ray.cancel(one, force=False)
        ray.wait(running, num_returns=len(running), timeout=GRACE)


_kept: dict[str, Any] = {}
"""What this worker was given last. The next tasks are mostly given the same."""


def _on_worker(call: Callable[..., Any], given: list[Any]) -> Any:
    import ray

    wanted = [one.hex() for one in given]
    for key in _kept.keys() - set(wanted):
        del _kept[key]
    for key, one in zip(wanted, given, strict=True):
        if key not in _kept:
            _kept[key] = ray.get(one)
    try:
        return _outcome(call, [_kept[key] for key in wanted])
    finally:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():  # another worker may be given this GPU next
            torch.cuda.empty_cache()
