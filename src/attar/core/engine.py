"""The run loop of every method: build, step, checkpoint, resume, result.

A run folder holds everything about its run: the settings in `run/settings.json`, the state and all generators in
`run/checkpoint.safetensors`, the curves in `run/metrics.jsonl`, and the finished artefact. A killed run loses at most
one checkpoint interval; checkpoints take at most a twentieth of the time, whatever they weigh. After it is resumed, it
ends in the same bytes as a run that never stopped.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor

from attar.core import store, tracking
from attar.core.divergence import LARGEST, Unlogged, at_step, check_learned, check_metrics
from attar.core.errors import Diverged, InputError, Interrupted, OthersEnded, Stopped
from attar.core.kinds import kind_of
from attar.core.memory import PeakMemory
from attar.core.pace import Pace
from attar.core.processes import Processes
from attar.core.progress import Line, MetricsLog, metrics_log
from attar.core.runtime import Runtime
from attar.core.settings import Settings, difference, flat, plain
from attar.core.signals import HANG_UP, INTERRUPT, TERMINATE, asked, met_by
from attar.core.state import pack, unpack
from attar.core.tracking import Tracked, config_of
from attar.core.version import __version__

Metrics = Mapping[str, Tensor | float]

LOGGED_STEPS = 500
"""Approximate number of points of a curve."""
ECHO = 5.0
"""Seconds in which a second request to stop may be the launcher's echo of the first."""
NOT_COMPARED = ("finished", "call", "threads")
"""Facts that may differ when a run is resumed: the command that was given, and the number of threads."""


@runtime_checkable
class Source(Protocol):
    """What a method is given to make smaller."""

    @property
    def fingerprint(self) -> str:
        """A text that is the same for the same data, and differs for other data."""


@runtime_checkable
class Artefact(Protocol):
    """What a method makes."""

    def save(self, folder: Path) -> Any:
        """Write it to a folder."""

    def picture(self) -> bytes | None:
        """A PNG of the current state. None if it cannot be drawn."""


A = TypeVar("A", bound=Artefact, covariant=True)


@runtime_checkable
class Method(Protocol[A]):
    """What the engine needs of a method: settings that build a state, step it, and return the result."""

    name: str

    @property
    def total_steps(self) -> int:
        """Number of steps of a run. 0 if `build` does everything."""

    def resolve(self, source: Any, runtime: Runtime) -> Self:
        """The same settings, with open ones filled in from the data."""

    def build(self, source: Any, runtime: Runtime) -> Any:
        """The state before the first step. The same source and seed give the same state."""

    def step(self, state: Any, runtime: Runtime) -> Metrics:
        """One update, in place."""

    def result(self, state: Any, runtime: Runtime) -> A:
        """The artefact of the current state."""


def work_of(method: Any, source: Any) -> float:
    """Approximate number of multiply-adds of a run, which decides whether compiling pays. 0 if the method does not say.

    Args:
        method: Resolved settings; `work(source)` says it.
        source: What the method works on.
    """
    return float(method.work(source)) if hasattr(method, "work") else 0.0


def run(
    method: Method[A],
    source: Source,
    runtime: Runtime,
    *,
    out: Path | None = None,
    title: str = "",
    wait: bool = False,
    load: Callable[[Path], Any] | None = None,
    score: Callable[[Any], Any] | None = None,
) -> A:
    """Run a method to its end. An earlier run in the same folder is continued where it stopped.

    Args:
        method: Resolved settings (see `Method.resolve`).
        source: What the method works on.
        runtime: The machine and the seed.
        out: The run folder; None keeps everything in memory, and nothing can be resumed.
        title: Name of the run on the progress line.
        wait: Wait for another process that is at work in the folder, instead of refusing.
        load: Function that reads a finished result. Default: `load` of the method, or of its kind.
        score: Function that measures the artefact, once, before the run counts as finished.

    Raises:
        InputError: The folder holds another run, a damaged checkpoint, or cannot be written.
        Diverged: The loss, or what is learned, is no longer finite, or far too large; nothing of it was saved.
        Interrupted: Stopped by Ctrl-C, SIGTERM or SIGHUP, after a checkpoint was written.
    """
    load = load or getattr(method, "load", None) or kind_of(method).load
    with ExitStack() as stack:
        processes = runtime.processes
        _check_alike(method, source, runtime)
        folder = RunFolder(out, runtime) if out else None
        if folder and processes.once(lambda: folder.open(method, source, runtime, stack, wait=wait)):
            tracking.note_untold(runtime, folder.inner)
            return load(folder.path)
        runtime.folder = folder.path if folder else None
        written = folder if processes.first else None
        tracked = stack.enter_context(Tracked(runtime, written.inner if written else None))
        processes.once(lambda: tracked.start(_name(folder, title, method), config_of(method, source, runtime)))
        state = method.build(source, runtime)
        done = folder.restore(state, runtime) if folder else 0
        if folder:
            _check_shared(folder, done, processes)
        if done:
            runtime.say(f"continuing at step {done + 1:,} of {method.total_steps:,}.")
        if written:
            written.begin(state, runtime)
        log = stack.enter_context(metrics_log(written.inner if written else None, since=done, tracked=tracked))
        quiet = runtime.engine.quiet or not processes.first
        line = stack.enter_context(Line(title or method.name, method.total_steps, quiet=quiet))
        _loop(method, state, runtime, written, log, line, done)
        artefact = _checked_result(method, state, runtime, method.total_steps)
        if folder is None:
            made = score(artefact) if score else artefact
            tracked.outcome(method.total_steps, made)
            return made
        if score and written and written.pace.paid:
            written.checkpoint(method.total_steps, state, runtime)
        processes.once(lambda: folder.finish(artefact, load, score))
        made = load(folder.path)
        tracked.outcome(method.total_steps, made)
        return made


def _name(folder: "RunFolder | None", title: str, method: Any) -> str:
    """What a tracker calls the run."""
    return (folder.path.resolve().name if folder else "") or title or str(method.name)


def _facts(method: Method[A], source: Source, runtime: Runtime) -> dict[str, Any]:
    """What makes a run the same as another."""
    return {"method": method.name, "settings": plain(method), "seed": runtime.seed, "data": source.fingerprint}


def _check_alike(method: Method[A], source: Source, runtime: Runtime) -> None:
    """See that all processes were given the same run.

    Raises:
        InputError: Some have other settings, another version, or other data, which includes given networks.
    """
    if runtime.processes.count == 1:
        return
    facts = {**_facts(method, source, runtime), "attar": __version__}
    first, *others = runtime.processes.collect([dict(flat(facts))])
    for number, other in enumerate(others, 1):
        unlike = [name for name in {**first, **other} if repr(first.get(name)) != repr(other.get(name))]
        if unlike:
            name = "method" if "method" in unlike else unlike[0]
            raise InputError(
                f"the processes do not have the same run: {name} is {first.get(name)} in the first and "
                f"{other.get(name)} in process {number}. Give all the same command, data, networks and ATTAR_CACHE."
            )


def _check_shared(folder: "RunFolder", done: int, processes: Processes) -> None:
    """See that all processes have the same run folder.

    Raises:
        InputError: Some are on machines where its path is another folder.
    """
    if len(set(processes.collect([(folder.inner.is_dir(), done)]))) > 1:
        raise InputError(
            f"{folder.path} is not the same folder for all {processes.count} processes. Choose an --out on storage "
            "that all machines share."
        )


def _loop(
    method: Method[A], state: Any, runtime: Runtime, folder: "RunFolder | None", log: MetricsLog, line: Line, done: int
) -> None:
    total, every = method.total_steps, math.ceil(method.total_steps / LOGGED_STEPS)
    unlogged = Unlogged()
    with _stop_requests(echoed=runtime.processes.count > 1) as stop:
        for step in range(done + 1, total + 1):
            metrics = _step(method, state, runtime, step)
            line.at(step)
            if step % every and step != total:
                unlogged.see(metrics)
            else:
                values = {name: float(value) for name, value in metrics.items()}
                unlogged.check(step, method)
                check_metrics(values, step, method)
                log.write(step, values)
                line.show(values)
                if folder:
                    folder.memory.look()
            stopping = runtime.processes.any(stop.is_set())
            if folder and step < total and (stopping or folder.pace.due):
                with folder.pace.making():
                    unlogged.check(step, method)
                    made = _checked_result(method, state, runtime, step)
                    folder.checkpoint(step, state, runtime)
                    folder.show(made)
            if folder and runtime.engine.snapshots and step % math.ceil(total / runtime.engine.snapshots) == 0:
                _checked_result(method, state, runtime, step).save(folder.snapshot(step))
            if stopping and step < total:
                raise Interrupted(f"stopped after step {step} of {total}")


def _step(method: Method[A], state: Any, runtime: Runtime, step: int) -> Metrics:
    """One step. Where it is refused for what the steps before have made of what is learned, that is said."""
    try:
        return method.step(state, runtime)
    except Diverged as error:
        raise at_step(error, step, method) from None
    except OthersEnded:
        raise
    except InputError:
        check_learned(_learned(method, state, method.result(state, runtime)), LARGEST, step - 1, method)
        raise


def _checked_result(method: Method[A], state: Any, runtime: Runtime, step: int) -> A:
    """What the state has become after a step, before any of it is written.

    Raises:
        Diverged: It is no longer finite, or far too large.
    """
    own = hasattr(method, "learned")
    if own:  # before a result is drawn from it
        check_learned(_learned(method, state, None), LARGEST if step else math.inf, step, method)
    try:
        artefact = method.result(state, runtime)
    except Diverged as error:
        raise at_step(error, step, method) from None
    if not own:
        most = getattr(artefact, "largest", math.inf) if step else math.inf
        check_learned(_learned(method, state, artefact), most, step, method)
    return artefact


def _learned(method: Any, state: Any, artefact: Any) -> Mapping[str, Tensor]:
    """What a method has learned so far, by name: as it says itself, or as the artefact has it."""
    if hasattr(method, "learned"):
        return dict(method.learned(state))
    return getattr(artefact, "learned", {})


@contextmanager
def _stop_requests(*, echoed: bool) -> Iterator[threading.Event]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into a request that is met between two steps; a second one stops at once.

    Args:
        echoed: Whether a launcher may repeat the request, so that a second one counts only some seconds later. Slurm
            sends a signal to all processes of a job step, and torchrun, being one of them, hands it on.
    """
    stop = threading.Event()
    first = time.monotonic()
    if asked.is_set():
        stop.set()

    def request(number: int, frame: object) -> None:
        nonlocal first
        if not stop.is_set():
            first = time.monotonic()
            stop.set()
        elif not echoed or time.monotonic() - first > ECHO:
            raise Stopped

    with met_by(request, INTERRUPT, TERMINATE, HANG_UP):
        yield stop


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self.path = path
        self.memory = PeakMemory(runtime.device)
        self.inner = path / "run"
        self._settings = self.inner / "settings.json"
        self._checkpoint = self.inner / "checkpoint.safetensors"
        self.pace: Pace
        self._since = time.monotonic()
        self._prepared = runtime.prepared
        self._aside = self._prepared.aside

    def open(self, method: Method[A], source: Source, runtime: Runtime, stack: ExitStack, *, wait: bool) -> bool:
        """Lock the folder, see that what it holds, if anything, is this very run, and tell whether that is finished.

        Raises:
            InputError: Someone else's files, another run, another process at work, or no permission.
        """
        wanted = _facts(method, source, runtime)
        call = runtime.call.to_json() if runtime.call else None
        if finished(self.path):  # read without a lock and without a word to the disk, which may be read-only
            self._check_same(wanted, method, runtime)
            return True
        if self.path.exists() and _foreign(self.path) and not self._settings.exists():
            raise InputError(f"{self.path} is not empty and holds no run of attar. Choose another --out.")
        store.make_folder(self.inner)
        stack.enter_context(store.locked(self.inner, wait=wait))
        store.sweep(self.path)
        complete = self._settings.exists() and bool(self._told().get("finished"))
        if self._checkpoint.exists() or complete:
            self._check_same(wanted, method, runtime)
        else:  # nothing to lose: a run that was refused or killed before its first checkpoint
            store.remove(self.inner / "snapshots")
            if self._is_another(wanted):
                tracking.forget(self.inner)
            store.write_json(self._settings, {**wanted, "call": call, "threads": torch.get_num_threads()})
        return complete

    def _check_same(self, wanted: dict[str, Any], method: Any, runtime: Runtime) -> None:
        there = self._told()
        known = {name: value for name, value in there.items() if name not in NOT_COMPARED}
        changes = difference(known | {"settings": _in_names_of_today(known.get("settings"), method)}, wanted)
        if changes:
            if there["method"] != method.name:  # all else then differs too
                changes = [f"method: {there['method']} in the folder, {method.name} requested"]
            text = "; ".join(changes)
            raise InputError(
                f"{self.path} holds a run with other settings ({text}). Choose another --out, or delete it."
            )
        threads, now = there.get("threads"), torch.get_num_threads()
        if threads not in (None, now) and not there.get("finished") and runtime.device.type == "cpu":
            runtime.say(f"note: this run began with {threads} threads and continues with {now}. Its bytes may differ.")

    def _is_another(self, wanted: dict[str, Any]) -> bool:
        """Whether what was begun here, if anything, was another run."""
        try:
            there = self._told()
        except InputError:
            return True
        return any(there.get(name) != value for name, value in wanted.items())

    def _told(self) -> dict[str, Any]:
        """What is being made here.

        Raises:
            InputError: The file that says so is damaged.
        """
        there = store.read_json(self._settings)
        if not isinstance(there, dict) or "method" not in there:
            raise InputError(f"{self._settings} is damaged. Choose another --out, or delete {self.path}.")
        return there

    def begin(self, state: Any, runtime: Runtime) -> None:
        """Start the clock of the checkpoints."""
        self.pace = Pace(runtime.engine.checkpoint_seconds, lambda: self._seconds_to_save(state))

    def _seconds_to_save(self, state: Any) -> float:
        tensors, _ = pack(state)
        return store.seconds_to_write(self.inner, sum(tensor.nbytes for tensor in tensors.values()))

    def checkpoint(self, step: int, state: Any, runtime: Runtime) -> None:
        """Save everything the rest of the run depends on."""
        tensors, plain = pack(state)
        generators = {f"generator/{name}": value for name, value in runtime.generator.state_dict().items()}
        facts = {"step": step, "seconds": self._seconds(), "memory": self.memory.bytes, "state": plain}
        store.write_tensors(self._checkpoint, {**tensors, **generators}, facts)

    def show(self, artefact: Artefact) -> None:
        """Leave a picture of how far the run has come."""
        picture = artefact.picture()
        if picture is not None:
            store.write_bytes(self.path / "preview.png", picture)

    def snapshot(self, step: int) -> Path:
        """Where the artefact as it is after a step is kept."""
        return self.inner / "snapshots" / f"step-{step:06d}"

    def restore(self, state: Any, runtime: Runtime) -> int:
        """Bring a freshly built state to the last checkpoint; return its step, 0 when there is none.

        Raises:
            InputError: The checkpoint is damaged, altered, or of another version of the method.
        """
        if not self._checkpoint.exists():
            return 0
        try:
            tensors, plain = store.read_tensors(self._checkpoint)
            prefix = "generator/"
            generators = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            kept = {name: t for name, t in tensors.items() if not name.startswith(prefix)}
            unpack(state, (kept, plain["state"]))
            runtime.restore_generators(generators)
            since, memory, step = plain["seconds"] + 0.0, plain["memory"], int(plain["step"])
        except InputError as error:
            raise InputError(f"{error} Delete that file to start the run again.") from None
        except (KeyError, TypeError, ValueError, RuntimeError):
            raise InputError(f"{self._checkpoint} does not fit this run. Delete it to start the run again.") from None
        self._since -= since
        self.memory.bytes = memory
        return step

    def finish(
        self, artefact: Artefact, load: Callable[[Path], Any], score: Callable[[Any], Any] | None = None
    ) -> None:
        """Write the artefact, score it, mark the run as complete, note what it cost, and drop its checkpoint."""
        artefact.save(self.path)
        self.memory.look()
        prepared = round(self._prepared.seconds, 3)
        cost = {"seconds": round(self._seconds() + prepared, 3), "prepared": prepared}
        store.write_json(self.inner / "cost.json", {**cost, "peak_memory": self.memory.bytes})
        if score is not None:  # what is scored is what a later reader will find
            score(load(self.path)).save(self.path)
        store.write_json(self._settings, {**self._told(), "finished": True})
        store.remove(self._checkpoint)

    def _seconds(self) -> float:
        """Seconds of work so far, without what was prepared; those before a kill included up to its last checkpoint."""
        return round(time.monotonic() - self._since - (self._prepared.aside - self._aside), 3)


def finished(path: Path) -> bool:
    """Whether a folder holds a run that is complete."""
    settings = path / "run" / "settings.json"
    facts = store.read_json(settings) if settings.exists() else None
    return isinstance(facts, dict) and bool(facts.get("finished"))


def _in_names_of_today(settings: Any, method: Any) -> Any:
    """The settings of a run that an earlier version may have begun; as they are where they cannot be read."""
    if not isinstance(settings, dict) or not isinstance(method, Settings):
        return settings
    try:
        return plain(type(method).from_json(settings))
    except (InputError, TypeError):
        return settings


def _foreign(path: Path) -> bool:
    """Whether there is anything but a run's own folder and the drafts of a process that looks at the same moment."""
    return path.is_file() or any(child.name != "run" and not store.is_draft(child) for child in path.iterdir())


def resolved_json(method: Any) -> str:
    """The settings of a run on one line, as printed at its start."""
    return " · ".join(f"{name} {value}" for name, value in flat(plain(method)))
