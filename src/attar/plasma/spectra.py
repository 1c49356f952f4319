"""Spectra of a run: Hα, Ca II K and Mg II h of some of its columns at some times, by Lightweaver.

What a telescope would see of a mixing layer: which line shows which part of it, from the heights at which they form.
Prefer `columns` where profiles are wanted as data to learn from. Each column is solved on its own (1.5D), in the
mirrored domain, so that they can be solved by several workers at once.

Snow, Osborne and Hillier, Observational signatures of mixing-induced cooling in the Kelvin-Helmholtz instability,
arXiv 2025, arXiv:2501.11324. The settings of their synthesis are not published; the boundaries are Promweaver's.
"""

import dataclasses
import time
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core import store
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.fleet import Task, run_all
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings
from attar.core.state import rebuilt
from attar.core.training import cache_place
from attar.plasma.artefact import Run
from attar.plasma.column import COLDEST, Column, column_of, spread
from attar.plasma.incident import Sunlight, boundaries
from attar.plasma.nonlte import POINTS, Formed, NotConverged, Transfer, check_installed, formed
from attar.plasma.reading import called
from attar.plasma.spectra_artefact import CONVERGED, MOVING, UNSOLVED
from attar.plasma.spectra_artefact import Spectra as Spectra

SECONDS = {"H": 0.5, "Mg": 0.2, "Ca": 0.002}
"""About what an active atom costs for each point of a column, in CPU-seconds, to tell what is to be expected."""


@dataclass(frozen=True)
class Seen:
    """A run, and who solves its columns."""

    run: Run
    workers: int = 1
    address: str | None = None

    @property
    def name(self) -> str:
        """That of the run."""
        return self.run.name

    @property
    def fingerprint(self) -> str:
        """That of the run."""
        return self.run.fingerprint

    def __str__(self) -> str:
        return str(self.run)


@dataclass
class Solving:
    """Columns, of which some are solved; along the first axis time by time."""

    intensity: Float[Tensor, "column line wavelength"]
    tau: Float[Tensor, "column line wavelength"]
    depth: Float[Tensor, "column line wavelength"]
    contribution: Float[Tensor, "column line point"]
    balance: Float[Tensor, "column line"]
    hydrogen_change: Float[Tensor, " column"]
    iterations: Int[Tensor, " column"]
    state: Int[Tensor, " column"]
    seconds: Float[Tensor, " column"]
    done: int = 0
    seen: Seen = rebuilt(default=None)
    light: Sunlight | None = rebuilt(default=None)
    ready: Path | None = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class LineSpectra(Settings):
    """Compute the spectral lines of a run's columns (Snow, Osborne and Hillier, arXiv 2025, arXiv:2501.11324)."""

    transfer: Transfer = field(default_factory=Transfer)
    """How a column is solved."""
    at_snapshots: tuple[Annotated[int, Range(0)], ...] = ()
    """Numbers of the snapshots, from 0. Default: three, the last among them, at equal intervals."""
    columns: Annotated[int, Range(1)] = 32
    """Number of columns of each snapshot, at equal distances."""
    turbulence: Annotated[float, Range(0, 1e6)] = 2000.0
    """Micro-turbulence, in m/s."""

    kind = "plasma"
    name = "spectra"
    verb = "simulate"
    by_workers = True

    @property
    def total_steps(self) -> int:
        """Number of columns in all."""
        return len(self.at_snapshots) * self.columns

    def prepared(self, source: Any, task: Any, runtime: Runtime) -> Seen:
        """The run, with who solves its columns.

        Raises:
            InputError: It is no run, or a library is missing.
        """
        if not isinstance(source, Run):
            raise InputError(
                f"spectra are made of a run, and this is {called(source)}. Give --data the folder of a run."
            )
        check_installed()
        return Seen(source, task.workers, task.address)

    def resolve(self, seen: Seen, runtime: Runtime) -> Self:
        """The same settings with the snapshots filled in.

        Raises:
            InputError: The run has no such snapshot, fewer columns, or gas that is too cold.
        """
        run = seen.run
        there, wide = len(run.times), run.grid.columns
        snapshots = self.at_snapshots or tuple(sorted({round((there - 1) * part / 3) for part in (1, 2, 3)}))
        run.check_snapshots(snapshots)
        if self.columns > wide:
            raise InputError(f"columns is {self.columns}, but the run has {wide} columns of cells. Ask for fewer.")
        for snapshot in snapshots:
            coldest = float(run.temperature(snapshot).min())
            if coldest < COLDEST:
                raise InputError(
                    f"snapshot {snapshot} has gas of {coldest:.0f} K; the codes of radiative transfer have no data "
                    f"below {COLDEST:g} K. Choose other snapshots."
                )
        chosen = dataclasses.replace(self, at_snapshots=snapshots)
        points = run.grid.rows  # half of a mirrored column is cool
        seconds = chosen.total_steps * points * sum(SECONDS[name] for name in self.transfer.active) / seen.workers
        if seconds > 60:
            runtime.say(f"{chosen.total_steps} columns, about {seconds / 60:.0f} minutes; can be stopped and resumed.")
        return chosen

    def work(self, seen: Seen) -> float:
        """Nothing is compiled by PyTorch."""
        return 0.0

    def column(self, run: Run, number: int) -> Column:
        """A column by its number, time by time."""
        snapshot, place = divmod(number, self.columns)
        chosen = int(spread(run.grid.columns, self.columns)[place])
        return column_of(run, self.at_snapshots[snapshot], chosen, self.turbulence)

    def build(self, seen: Seen, runtime: Runtime) -> Solving:
        """No column solved yet; with several workers, all columns are solved now and kept for the steps."""
        many, lines, points = self.total_steps, len(self.transfer.lines), 2 * seen.run.grid.rows
        light = self.transfer.light()
        state = Solving(
            intensity=torch.zeros(many, lines, POINTS, dtype=torch.float64),
            tau=torch.zeros(many, lines, POINTS, dtype=torch.float64),
            depth=torch.zeros(many, lines, POINTS, dtype=torch.float64),
            contribution=torch.zeros(many, lines, points, dtype=torch.float64),
            balance=torch.zeros(many, lines, dtype=torch.float64),
            hydrogen_change=torch.zeros(many, dtype=torch.float64),
            iterations=torch.zeros(many, dtype=torch.int64),
            state=torch.zeros(many, dtype=torch.int64),
            seconds=torch.zeros(many, dtype=torch.float64),
            seen=seen,
            light=light,
        )
        if seen.workers > 1 or seen.address is not None:
            state.ready = solved_by_workers(self, seen, light, runtime)
        return state

    def step(self, state: Solving, runtime: Runtime) -> Metrics:
        """Solve one column."""
        number = state.done
        answer = None if state.ready is None else read_answer(state.ready, number)
        if answer is None:
            answer = answer_of(self.transfer, self.column(state.seen.run, number), state.light)
        for name, value in answer.items():
            getattr(state, name)[number] = value
        state.done += 1
        peak = state.intensity[number].amax(dim=-1)
        solved = state.state[: state.done]
        return {
            "converged": float((solved == CONVERGED).float().mean()),
            "iterations": float(state.iterations[number]),
            "intensity": float(peak.max()),
        }

    def result(self, state: Solving, runtime: Runtime) -> Spectra:
        """The spectra so far; columns that are not solved yet are zero."""
        run, shape = state.seen.run, (len(self.at_snapshots), self.columns)
        columns = [self.column(run, number) for number in range(self.total_steps)]
        temperature = torch.stack([torch.from_numpy(one.temperature).float() for one in columns])
        names = ("intensity", "tau", "depth", "balance", "hydrogen_change", "iterations", "state", "seconds")
        parts = {name: getattr(state, name).clone() for name in names}
        parts |= {"contribution": state.contribution.float(), "temperature": temperature}
        chosen = spread(run.grid.columns, self.columns)
        return Spectra(
            **{name: part.unflatten(0, shape) for name, part in parts.items()},
            times=tuple(float(run.times[snapshot]) for snapshot in self.at_snapshots),
            places=tuple(float(x) for x in run.x[chosen]),
            step=run.grid.dy * run.units.length,
            lines=self.transfer.lines,
            units=run.units,
            origin=Run.origin_of(state.seen, self, runtime),
        )


def answer_of(transfer: Transfer, column: Column, light: Sunlight | None) -> dict[str, Tensor]:
    """What a column shows, as `Solving` keeps it; marked if it did not converge, or has no solution."""
    began = time.process_time()
    faces = boundaries(transfer.incident, transfer.projection, transfer.altitude, light)
    try:
        found: Formed | None = formed(column, transfer, faces)
    except NotConverged:
        found = None
    seconds = torch.tensor(time.process_time() - began, dtype=torch.float64)
    if found is None or not found.finite:
        return {"state": torch.tensor(UNSOLVED), "seconds": seconds}
    depth = torch.from_numpy(found.depth)
    return {
        "intensity": torch.from_numpy(found.intensity),
        "tau": torch.from_numpy(found.tau),
        "depth": torch.where(depth.isnan(), -1.0, depth),
        "contribution": torch.from_numpy(found.contribution),
        "balance": torch.from_numpy(found.balance),
        "hydrogen_change": torch.tensor(found.hydrogen_change, dtype=torch.float64),
        "iterations": torch.tensor(found.iterations),
        "state": torch.tensor(CONVERGED if found.converged else MOVING),
        "seconds": seconds,
    }


# --------------------------------------------------------------------------------------------------------- by workers


def solved_by_workers(method: LineSpectra, seen: Seen, light: Sunlight | None, runtime: Runtime) -> Path:
    """Solve all columns by several workers; return the folder of the cache in which the answers lie.

    A worker keeps what it has solved at once, so that nothing of it is lost if it is stopped.
    """
    settings = method.to_json()
    folder = cache_place("columns", [settings, seen.fingerprint, version("lightweaver")])
    store.make_folder(folder)
    missing = [number for number in range(method.total_steps) if not _place(folder, number).is_file()]
    tasks = [
        Task(
            f"column {number + 1}",
            partial(_solve, method.transfer, method.column(seen.run, number), folder, number),
            (light,),
        )
        for number in missing
    ]
    answers = run_all(tasks, workers=seen.workers, address=seen.address, say=runtime.say) if tasks else []
    for number, answer in zip(missing, answers, strict=True):
        if not _place(folder, number).is_file():  # a worker of another machine
            keep_answer(folder, number, answer)
    return folder


def _solve(transfer: Transfer, column: Column, folder: Path, number: int, light: Sunlight | None) -> dict[str, Tensor]:
    answer = answer_of(transfer, column, light)
    if folder.is_dir():
        keep_answer(folder, number, answer)
    return answer


def _place(folder: Path, number: int) -> Path:
    return folder / f"column-{number:05d}.safetensors"


def keep_answer(folder: Path, number: int, answer: dict[str, Tensor]) -> None:
    """Write the answer of a column, whole or not at all."""
    store.write_tensors(_place(folder, number), answer, {})


def read_answer(folder: Path, number: int) -> dict[str, Tensor] | None:
    """The answer of a column that a worker has solved, if it is there."""
    place = _place(folder, number)
    return store.read_tensors(place)[0] if place.is_file() else None
