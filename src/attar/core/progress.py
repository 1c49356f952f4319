"""Progress of a run: a line on the terminal, JSON lines on disk, and TensorBoard on request."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn


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
        """Show the loss of a logged step."""
        if "loss" in metrics:
            self._progress.update(self._task, loss=f"loss {metrics['loss']:.4g}")


class MetricsLog:
    """Metrics as JSON lines, one per logged step, and for TensorBoard if asked."""

    def __init__(self, file: TextIO | None, board: Any = None) -> None:
        self._file, self._board = file, board

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append one step's metrics."""
        if self._file is not None:
            self._file.write(json.dumps({"step": step, **metrics}) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)


@contextmanager
def metrics_log(folder: Path | None, *, since: int, tensorboard: bool) -> Iterator[MetricsLog]:
    """Open the log of a run folder, without the lines of steps that a killed run took after its last checkpoint."""
    if folder is None:
        yield MetricsLog(None)
        return
    path = folder / "metrics.jsonl"
    _forget_after(path, since)
    board = _tensorboard(folder) if tensorboard else None
    with path.open("a") as file:
        try:
            yield MetricsLog(file, board)
        finally:
            if board is not None:
                board.close()


def _forget_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError, RecursionError):  # what a kill or somebody else left
            break
    path.write_text("".join(kept))


def _tensorboard(folder: Path) -> Any:
    from attar.core.errors import InputError

    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("--tensorboard needs the tensorboard package: pip install tensorboard.") from None
    return SummaryWriter(str(folder / "tensorboard"))
