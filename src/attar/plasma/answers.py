"""Columns with a teacher's answers: what emulators are distilled from, and measured on.

Lines of sight are random threads, or go through the snapshots of a run, mirrored in its upper end. Each is cut down to
its cool gas and put on 64 points that follow its transitions (`gridding`). A code of radiative transfer then computes
the line profile of each. Prefer random threads where an emulator should be good at any thread, and columns of a run to
see what it makes of a flow that it has never met.
"""

import dataclasses
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attar.core import engine, store
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Hidden, Range, Settings, Words
from attar.core.state import rebuilt
from attar.core.training import cached
from attar.plasma.artefact import Run
from attar.plasma.column import TURBULENCE, Column, column_of
from attar.plasma.columns import BLOCKS, Answers, Columns, Origin, split
from attar.plasma.forecast import check_memory
from attar.plasma.gridding import POINTS, regridded
from attar.plasma.reading import called
from attar.plasma.teachers import Teacher, teacher_named
from attar.plasma.threads import RandomThreads, Threads

PORTION = 4
"""Columns between two checkpoints."""
DRAWN = ("count", "at_snapshots", "test_share", "split_seed", "turbulence", "threads")
"""Settings by which columns are drawn."""
BYTES = 3 * 4 * POINTS * 8
"""Memory that a column takes while it is drawn: as itself, stacked, and written."""


@dataclass(frozen=True)
class Asked:
    """Columns, and the teacher that is to answer them."""

    columns: Columns
    teacher: Teacher | None
    data: str
    """A digest of what the columns were drawn from."""

    @property
    def name(self) -> str:
        """That of the columns."""
        return self.columns.name

    @property
    def fingerprint(self) -> str:
        """A digest of the data and of what tells teachers apart."""
        told = None if self.teacher is None else [self.teacher.name, self.teacher.fingerprint]
        return store.digest_of({}, [self.data, told])

    def __str__(self) -> str:
        return str(dataclasses.replace(self.columns, answers=None))


@dataclass
class Answered:
    """Columns on the way to their answers."""

    profiles: Float[Tensor, "column wavelength"]
    converged: Bool[Tensor, " column"]
    done: int = 0
    seconds: float = 0.0
    asked: Asked = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class AnsweredColumns(Settings):
    """Compute the line profiles of many columns, for emulators to learn from."""

    count: Annotated[int, Range(2, 10_000_000)] = 1000
    """Number of columns: random threads, or lines of sight spread evenly over the snapshots of a run, at most all."""
    teacher: Annotated[Any, Words()] = "slab"
    """A trained network or code that computes line profiles: slab (Ca II K in LTE), lightweaver (Ca II K out of it, by
    Lightweaver), the folder of an emulator, or none (columns without profiles)."""
    at_snapshots: tuple[Annotated[int, Range(0)], ...] = ()
    """Numbers of the snapshots, from 0. Default: of a run, all but the first."""
    test_share: Annotated[float, Range(0.001, 0.999)] = 0.2
    """Share of the columns that is held out, to measure emulators on. Of a run, stretches of neighbours."""
    split_seed: Annotated[int, Range(0)] = 0
    """Seed of the split of a set that came without one: which columns are held out."""
    turbulence: Annotated[float, Range(0, 1e6)] = TURBULENCE
    """Micro-turbulence, in m/s."""
    threads: Threads = field(default_factory=Threads)
    """The ranges of random threads."""
    columns: Annotated[int, Hidden()] = 0
    """Number of columns that are answered; filled in."""

    kind = "plasma"
    name = "columns"
    verb = "simulate"

    @property
    def total_steps(self) -> int:
        """Number of portions that the teacher answers."""
        return -(-self.columns // PORTION)

    def prepared(self, source: Any, task: Any, runtime: Runtime) -> Asked:
        """The columns, and the teacher.

        Raises:
            InputError: The data hold no columns, or there is no such teacher.
        """
        teacher = teacher_named(self.teacher)
        columns = self.drawn(source, runtime)
        data = source.inputs if isinstance(source, Columns) else source.fingerprint
        return Asked(columns, teacher, data)

    def drawn(self, source: Any, runtime: Runtime) -> Columns:
        """Columns without profiles, of random threads, of a run, or of a set that may have profiles already.

        Raises:
            InputError: The data hold no columns, or a line of sight has no cool gas.
        """
        if isinstance(source, Columns):
            kept = "the columns, their number and their split are those of the folder"
            self.check_unused(source, kept, *DRAWN)
            return dataclasses.replace(source, answers=None, folder=None)
        if isinstance(source, RandomThreads):
            self.check_unused(source, "only runs have snapshots", "at_snapshots")
            check_memory(f"{self.count:,} columns", self.count * BYTES, "a smaller --count")
            lines: Iterable[Column] = self.threads.drawn(self.count, runtime.generator("threads"), self.turbulence)
            testing = split(self.count, self.test_share, self.split_seed)
        elif isinstance(source, Run):
            self.check_unused(source, "nothing is drawn", "threads")
            places = self.places(source)
            lines = (regridded(column_of(source, *place, self.turbulence), POINTS) for place in places)
            testing = split(len(places), self.test_share, self.split_seed, BLOCKS)
        else:
            raise InputError(
                f"columns are made of random threads or of a run, and this is {called(source)}. Give --data threads, "
                "or the folder of a run or of columns."
            )
        return Columns.of(lines, testing, Origin.made(source, self, runtime))

    def check_unused(self, source: Any, why: str, *names: str) -> None:
        """See that settings which do not apply to these data were not given.

        Args:
            source: The data.
            why: Why they do not.
            names: The settings.

        Raises:
            InputError: One of them was.
        """
        usual = type(self)()
        for name in names:
            given, left = getattr(self, name), getattr(usual, name)
            if name == "threads" and given != left:
                changed = (one.name for one in dataclasses.fields(given))
                name = next(one for one in changed if getattr(given, one) != getattr(left, one))
            if given != left and not (name == "count" and given == len(source)):
                raise InputError(f"{name} does not apply to {called(source)}: {why}. Leave it out.")

    def places(self, run: Run) -> list[tuple[int, int]]:
        """Snapshots and places along x, evenly over all that are asked for.

        Raises:
            InputError: The run has no such snapshot, or fewer than two columns.
        """
        there = len(run.times)
        snapshots = self.at_snapshots or tuple(range(min(1, there - 1), there))
        run.check_snapshots(snapshots)
        known = [(one, x) for one in snapshots for x in range(run.grid.columns)]
        count = min(self.count, len(known))
        if count < 2:
            raise InputError("a run of one column of cells has too few lines of sight. Give one of more cells.")
        chosen = np.floor((np.arange(count) + 0.5) * len(known) / count).astype(int)
        return [known[one] for one in chosen]

    def resolve(self, asked: Asked, runtime: Runtime) -> Self:
        """The same settings with the teacher's name and the number of columns filled in."""
        teacher = asked.teacher
        name = self.teacher if isinstance(self.teacher, str) else "none" if teacher is None else teacher.name
        return dataclasses.replace(self, teacher=name, columns=0 if teacher is None else len(asked.columns))

    def work(self, asked: Asked) -> float:
        """Nothing that PyTorch compiles."""
        return 0.0

    def build(self, asked: Asked, runtime: Runtime) -> Answered:
        """The state before the first column."""
        count, teacher = len(asked.columns), asked.teacher
        wavelengths = 0 if teacher is None else len(teacher.wavelengths)
        empty = torch.zeros(count, wavelengths, dtype=torch.float64)
        return Answered(empty, torch.zeros(count, dtype=torch.bool), asked=asked)

    def step(self, state: Answered, runtime: Runtime) -> Metrics:
        """A few columns."""
        columns, teacher = state.asked.columns, state.asked.teacher
        assert teacher is not None
        rows = range(state.done, min(state.done + PORTION, len(columns)))
        began = time.process_time()
        for row in rows:
            profile, state.converged[row] = teacher.answer(columns.column(row))
            state.profiles[row] = torch.from_numpy(profile)
        state.seconds += time.process_time() - began
        state.done = rows.stop
        return {"answered": state.done, "converged": float(state.converged[: state.done].double().mean())}

    def result(self, state: Answered, runtime: Runtime) -> Columns:
        """The columns with the profiles so far."""
        asked, teacher = state.asked, state.asked.teacher
        columns = dataclasses.replace(asked.columns, origin=Origin.made(asked, self, runtime))
        if teacher is None:
            return columns
        answers = Answers(
            teacher=teacher.name,
            note=teacher.note,
            line=teacher.line,
            wavelengths=torch.from_numpy(teacher.wavelengths.copy()),
            profiles=state.profiles.clone(),
            converged=state.converged.clone(),
            seconds=state.seconds / state.done if state.done else None,
        )
        return dataclasses.replace(columns, answers=answers)


def answered(columns: Columns, teacher: Teacher, runtime: Runtime) -> Columns:
    """Columns with their profiles: as they are, or from the cache, or by the teacher now.

    They are kept in the cache, unless nothing tells the teacher from others: a caller's own has a `fingerprint` then.

    Args:
        columns: Columns.
        teacher: Who answers.
        runtime: The machine.
    """
    if columns.answers is not None:
        return columns
    asked, quiet = Asked(columns, teacher, columns.inputs), runtime.with_seed(0)
    method = AnsweredColumns(teacher=teacher.name).resolve(asked, quiet)
    if not teacher.fingerprint:
        return engine.run(method, asked, quiet, title=f"{teacher.name} answers")
    return cached(method, asked, quiet, title=f"{teacher.name} answers")
