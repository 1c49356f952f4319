"""Progress of a run: a line on the terminal, JSON lines on disk, and trackers on request."""

import io
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from attar.core.errors import unwritable
from attar.core.jsonfiles import lines_of, number
from attar.core.notebook import in_notebook
from attar.core.tracking import CURVE, NONE, Tracked

SCORES = ("held-out", "rFD", "recall")
"""How the names of scores begin that are measured while training."""
PAUSE = 0.2
"""Seconds between two states of the line in a notebook."""


def console() -> Console:
    """Standard error, where progress goes, so that standard output holds results only."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True, force_jupyter=False)


def as_text(table: RenderableType) -> str:
    """A table as wide as it needs to be, whatever the terminal: nobody wants numbers cut off."""
    sink = io.StringIO()
    Console(file=sink, width=500, highlight=False, force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in sink.getvalue().rstrip().splitlines())


class Line:
    """One line with loss, speed and time left, on a terminal or in a notebook; nothing where nobody looks."""

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
        self._plain = _PlainLine(title, total) if not quiet and in_notebook() else None
        self._progress = Progress(*columns, console=screen, disable=not self._shown, transient=True)
        self._task = self._progress.add_task(title, total=total, loss="", speed="")

    def __enter__(self) -> "Line":
        if self._shown:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown:
            self._progress.stop()
        if self._plain:
            self._plain.clear()

    def at(self, step: int) -> None:
        """Move the bar."""
        if self._plain:
            self._plain.at(step)
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
            if self._plain:
                self._plain.loss = ", ".join(shown)


class _PlainLine:
    """The same in a notebook: text that is written over, a few times a second."""

    def __init__(self, title: str, total: int) -> None:
        self.loss = ""
        self._title, self._total = title, total
        self._began = self._told = time.monotonic()
        self._first: int | None = None
        self._width = 0

    def at(self, step: int) -> None:
        """Write the line again, if the last time is a while ago."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._began = step, now
        if now - self._told < PAUSE:
            return
        self._told = now
        speed = (step - self._first) / max(now - self._began, 1e-9)
        words = [f"{self._title} {step:,}/{self._total:,}", self.loss, f"{speed:.1f}/s" if speed else ""]
        left = (self._total - step) / speed if speed else 0.0
        words.append(f"{timedelta(seconds=round(left))} left" if left else "")
        self._write("  ".join(filter(None, words)))

    def clear(self) -> None:
        """Take the line away."""
        if self._width:
            self._write("")
            print(end="\r", file=sys.stderr, flush=True)

    def _write(self, line: str) -> None:
        print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
        self._width = max(self._width, len(line))


class MetricsLog:
    """Metrics as JSON lines, one per logged step, and for trackers if asked."""

    def __init__(self, file: TextIO | None, tracked: Tracked = NONE) -> None:
        self._file, self._tracked = file, tracked

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append one step's metrics."""
        if self._file is not None:
            try:
                self._append(self._file, json.dumps({"step": step, **metrics}) + "\n")
            except OSError as error:
                raise unwritable(self._file.name, error) from error
        self._tracked.log(step, metrics)

    @staticmethod
    def _append(file: TextIO, line: str) -> None:
        file.write(line)
        file.flush()


@contextmanager
def metrics_log(folder: Path | None, *, since: int, tracked: Tracked = NONE) -> Iterator[MetricsLog]:
    """Open the log of a run folder, without the lines of steps that a killed run took after its last checkpoint."""
    if folder is None:
        yield MetricsLog(None, tracked)
        return
    path = folder / CURVE
    _forget_after(path, since)
    tracked.catch_up(path)
    with _opened(path) as file:
        yield MetricsLog(file, tracked)


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
