"""One run of a method of any kind: prepare the task, resolve the settings, run the engine, and score."""

from pathlib import Path
from typing import Any

from attar.core import engine
from attar.core.divergence import told_by
from attar.core.kinds import Kind
from attar.core.runtime import Runtime
from attar.core.tasks import Task


def carry_out(method: Any, source: Any, runtime: Runtime, *, kind: Kind, task: Task, out: Path | None = None) -> Any:
    """Make something of a source by a method.

    Args:
        method: Settings, resolved or not.
        source: What the task's reading gave.
        runtime: The machine and the seed.
        kind: Of the method.
        task: What stands beside it.
        out: The run folder: an unfinished run there is resumed, a finished one read. None keeps everything in memory.

    Raises:
        InputError: Data, settings or folder are not usable, or the run diverged (`Diverged`); nothing is lost.
        Interrupted: Stopped by Ctrl-C, SIGTERM or SIGHUP; the same call goes on where it stopped.
    """
    runtime.see_to_float64(method, method.name)
    with told_by(method, task):
        work, method = task.prepare(source, method, runtime)
        method = method.resolve(work, runtime)
        runtime.plan(engine.work_of(method, work))
        runtime.say(str(source if source is not None else work))
        runtime.say(f"{method.name} · {engine.resolved_json(method)}")
        return engine.run(
            method,
            work,
            runtime,
            out=task.folder(source, out),
            title=task.title,
            load=lambda folder: task.open(folder, kind),
            score=(lambda made: task.score(made, work, method, runtime)) if task.scores else None,
        )
