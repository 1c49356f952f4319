"""Run many independent tasks: one after another here, or on Ray's workers, on this machine or a cluster.

Each task writes to its own run folder, which can be resumed. If a worker dies, Ray gives its task to another worker,
which continues from the last checkpoint.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from attar.core.errors import Diverged, InputError, Interrupted
from attar.core.extras import install
from attar.core.launcher import size

RETRIES = 5
"""How often a task is given out again after its worker has died."""


@dataclass(frozen=True)
class Task:
    """One run by name."""

    name: str
    call: Callable[[], Any]
    """Makes it; on a cluster this travels to a worker, so it may hold plain values, settings and paths only."""


def run_all(
    tasks: Sequence[Task],
    *,
    workers: int = 1,
    address: str | None = None,
    gpus: float = 0.0,
    say: Callable[[str], None] | None = None,
) -> list[Any]:
    """Do every task; return what each has returned, in their order.

    Args:
        tasks: What to do.
        workers: How many at once on this machine.
        address: A Ray cluster to do them on instead, as `ray.init` takes it (`auto`, `ray://host:10001`).
        gpus: GPUs, or a share of one, that each task needs.
        say: Told when one is done.

    Raises:
        InputError: Some could not be done; all others were, and what they made is kept. Or several processes were
            started and each asks for workers.
        Interrupted: Stopped by Ctrl-C; what was done is kept.
    """
    say = say or (lambda line: None)
    if workers == 1 and address is None:
        outcomes = ((number, _outcome(task.call)) for number, task in enumerate(tasks))
        return _gather(tasks, outcomes, say)
    if size() > 1:
        raise InputError(f"Ray starts its own workers, but {size()} processes were started. Start one process.")
    with _ray(workers, address) as ray:
        return _gather(tasks, _given_out(ray, tasks, gpus), say)


def _gather(tasks: Sequence[Task], outcomes: Iterator[tuple[int, Any]], say: Callable[[str], None]) -> list[Any]:
    """Results in the order of the tasks, from outcomes in the order of their end."""
    results: list[Any] = [None] * len(tasks)
    since = time.monotonic()
    try:
        for done, (number, outcome) in enumerate(outcomes, start=1):
            results[number] = outcome
            state = "failed" if isinstance(outcome, InputError) else "done"
            say(f"{done} of {len(tasks)}: {tasks[number].name} {state} ({time.monotonic() - since:,.0f} s)")
    except KeyboardInterrupt:
        finished = sum(result is not None for result in results)
        raise Interrupted(f"stopped with {finished} of {len(tasks)} done") from None
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


def _outcome(call: Callable[[], Any]) -> Any:
    """What a task returns, or the `InputError` that it raises: the others go on."""
    try:
        return call()
    except InputError as error:
        return error


def _given_out(ray: Any, tasks: Sequence[Task], gpus: float) -> Iterator[tuple[int, Any]]:
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_outcome)
    waiting = {remote.remote(task.call): number for number, task in enumerate(tasks)}
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        number = waiting.pop(ready)
        try:
            yield number, ray.get(ready)
        except ray.exceptions.WorkerCrashedError:
            yield number, InputError(f"its worker died {RETRIES + 1} times. Check that the machine has enough memory.")


@contextmanager
def _ray(workers: int, address: str | None) -> Iterator[Any]:
    try:
        import ray
    except ModuleNotFoundError:
        raise InputError(f"several workers need Ray: {install('cluster')}.") from None
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address is None:
            ray.init(num_cpus=workers, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"Ray could not be started ({str(error).splitlines()[0]}).") from None
    try:
        yield ray
    finally:
        ray.shutdown()
