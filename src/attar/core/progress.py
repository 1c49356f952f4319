"""Progress of a run: a line on the terminal, JSON lines on disk, and TensorBoard on request."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from attar.core.errors import unwritable
from attar.core.extras import install
from attar.core.jsonfiles import lines_of, number

SCORES = ("held-out", "rFD", "recall")
"""How the names of scores begin that are measured while training."""


def console() -> Console:
    """Standard error, where progress goes, so that standard output holds results only."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def as_text(table: RenderableType) -> str:
    """A table as wide as it needs to be, whatever the terminal: nobody wants numbers cut off."""
    sink = io.StringIO()
    Console(file=sink, width=500, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in sink.getvalue().rstrip().splitlines())


class Line:
    """One rich line with loss, speed and time left; nothing where nobody looks (`quiet`, or no terminal)."""

    def __init__(self, title: str, total: int, *, quiet: bool) -> None:
        screen = console()
        columns = [
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        ]
        self._shown = not quiet and screen.is_terminal
        self._progress = Progress(*columns, console=screen, disable=not self._shown, transient=True)
        self._task = self._progress.add_task(title, total=total, loss="", speed="")

    def __enter__(self) -> "Line":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def at(self, step: int) -> None:
        """Move the bar."""
        if not self._shown:
            return
        task = self._progress.tasks[0]
        speed = f"{task.speed:.1f}/s" if task.speed else ""
        self._progress.update(self._task, completed=step, speed=speed)

    def show(self, metrics: dict[str, float]) -> None:
        """Show the loss of a logged step, and the scores while training."""
        shown = [f"{name} {value:.4g}" for name, value in metrics.items() if name == "loss" or name.startswith(SCORES)]
        if shown:
            self._progress.update(self._task, loss=", ".join(shown))


class MetricsLog:
    """Metrics as JSON lines, one per logged step, and for TensorBoard if asked."""

    def __init__(self, file: TextIO | None, board: Any = None) -> None:
        self._file, self._board = file, board

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append one step's metrics."""
        if self._file is not None:
            try:
                self._append(self._file, json.dumps({"step": step, **metrics}) + "\n")
            except OSError as error:
                raise unwritable(self._file.name, error) from error
        if self._board is not None:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)

    @staticmethod
    def _append(file: TextIO, line: str) -> None:
        file.write(line)
        file.flush()


@contextmanager
def metrics_log(folder: Path | None, *, since: int, tensorboard: bool) -> Iterator[MetricsLog]:
    """Open the log of a run folder, without the lines of steps that a killed run took after its last checkpoint."""
    if folder is None:
        yield MetricsLog(None)
        return
    path = folder / "metrics.jsonl"
    _forget_after(path, since)
    board = _tensorboard(folder) if tensorboard else None
    with _opened(path) as file:
        try:
            yield MetricsLog(file, board)
        finally:
            if board is not None:
                board.close()


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """A file to append to. What is left of it is written when it is closed, unless that fails too."""
    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield file
    finally:
        with suppress(OSError):
            file.close()


def _forget_after(path: Path, step: int) -> None:
    """Keep the lines up to a step. A line that is cut off or damaged is left out."""
    if not path.exists():
        return
    from attar.core.store import write_text

    lines = lines_of(path)
    kept = [line for line in lines if line and (at := number(line.get("step"))) is not None and at <= step]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _tensorboard(folder: Path) -> Any:
    from attar.core.errors import InputError

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(f"--tensorboard needs the tensorboard package: {install('tensorboard')}.") from None
    return SummaryWriter(str(folder / "tensorboard"))
