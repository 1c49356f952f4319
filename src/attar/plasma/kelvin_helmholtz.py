"""Kelvin-Helmholtz mixing of a cool, dense thread with the hot corona, with radiative cooling.

A layer of shear between gas of 10⁴ K and of 10⁶ K rolls up, mixes both to temperatures between, and these radiate what
they have. Prefer it as a source of columns for radiative transfer whose truth is known, or as a test of how much energy
mixing costs. The field is perpendicular to the plane, so that the flow is that of a gas with a larger pressure.

Snow, Osborne and Hillier, Observational signatures of mixing-induced cooling in the Kelvin-Helmholtz instability,
arXiv 2025, arXiv:2501.11324. Their code solves the same equations by fourth-order differences and artificial
diffusion; here they are solved by MUSCL and HLLC (`scheme`), with exact cooling (`cooling`).
"""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Hidden, Range, Settings
from attar.core.state import rebuilt
from attar.plasma.artefact import Run
from attar.plasma.cooling import Cooling
from attar.plasma.fluid import Fluid
from attar.plasma.forecast import check_domain, check_size, check_steps, seconds_of_step, told
from attar.plasma.layers import noise, shear_layer, waves
from attar.plasma.losses import LossTable
from attar.plasma.series import COLUMNS, measured
from attar.plasma.snapshots import Snapshots
from attar.plasma.solvers import Solver, advance_by, chosen_solver
from attar.plasma.sources import Setup, losses_named
from attar.plasma.states import GAMMA, Grid, Wall, primitive
from attar.plasma.units import Units

CHUNK = 1.5e7
"""Cell-steps of a part of a run at most, about a second of work, after which it can be resumed."""
MOMENTS, LEAST_STEPS, MOST_PARTS = 200, 8, 100_000
"""Parts of a run at least, so that its curves are smooth; time steps of a part at least; and parts at most."""
THREE_D = ("3d", "3d-2023")
"""Names of the published run that is not here."""


@dataclass
class Simulating:
    """A simulation on its way, with what it has left behind."""

    fluid: Fluid
    series: Float[Tensor, "time measure"]
    done: int = 0
    snapshots: Snapshots = rebuilt(default=None)
    folder: Path | None = rebuilt(default=None)
    setup: Setup = rebuilt(default=None)
    grid: Grid = rebuilt(default=None)
    cooling: Cooling | None = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class KelvinHelmholtz(Settings):
    """Simulate a cooling shear layer (Snow, Osborne and Hillier, arXiv 2025, arXiv:2501.11324)."""

    cells: tuple[Annotated[int, Range(8, 65536)], Annotated[int, Range(8, 65536)]] = (64, 64)
    """Number of cells along x and along y."""
    end: Annotated[float, Range(1e-6)] = 20.0
    """Time at which the simulation ends, in L_0/c_s0."""
    outputs: Annotated[int, Range(1, 10_000)] = 20
    """Number of snapshots after the first, at equal times."""
    density_ratio: Annotated[float, Range(1e-3, 1e6)] = 100.0
    """Density of the thread over that of the corona. Pressures are equal, so that it is cooler by this ratio."""
    shear: Annotated[float, Range(0, 100)] = 0.2
    """ΔV, difference of the speeds along x, in units of c_s0."""
    frame: Literal["momentum", "corona"] = "momentum"
    """Frame of the speeds: momentum (both move, with no momentum in all), or corona (only the thread moves)."""
    plasma_beta: Annotated[float, Range(1e-6)] = 0.05
    """β, gas pressure over magnetic pressure. 1e12: practically no field."""
    layer: Annotated[float, Range(1e-9)] = 0.003
    """Half-width of the layer between thread and corona, in L_0."""
    noise_speed: Annotated[float, Range(0, 100)] = 0.005
    """Largest speed along y of what starts the instability, in c_s0: noise that is drawn for each cell, or waves."""
    waves: Annotated[int, Range(0, 10_000)] = 0
    """Waves along x that start the instability and fade as exp(-k|y|). 0: noise."""
    x_from: float = -1.0
    """Left end of the domain, in L_0."""
    x_to: float = 1.0
    """Right end of the domain, in L_0."""
    y_from: float = -1.5
    """Lower end of the domain, in the corona, in L_0. The layer lies at y = 0."""
    y_to: float = 0.5
    """Upper end of the domain, in the thread, in L_0. The thread is mirrored there."""
    x_walls: Wall = "periodic"
    """What happens at both ends along x: periodic, or mirror."""
    y_walls: Wall = "mirror"
    """What happens at both ends along y: mirror, or periodic (thread and corona then meet there, too)."""
    radiation: Literal["cut", "true", "off"] = "cut"
    """Radiative losses: cut (none in the corona, which stays hot), true (the whole table; the corona cools), or off."""
    losses: str = "sheet"
    """Table of losses: sheet (in the package), chianti (by ChiantiPy or fiasco), or a file of log10 T in K and
    Λ in erg cm³/s."""
    units: Units = field(default_factory=Units)
    """The units."""
    cfl: Annotated[float, Range(1e-3, 0.5)] = 0.4
    """Share of a cell that a wave may cross in a time step. Both directions advance together: 0.5 is the limit."""
    solver: Solver = "auto"
    """Source of the scheme: numba (CPUs), numpy, or torch (any device). auto: torch on a GPU, else numba if it is
    installed."""
    chunks: Annotated[int, Hidden()] = 0
    """Parts of the time between two snapshots, after each of which a run can be resumed; filled in."""

    kind = "plasma"
    name = "kelvin-helmholtz"
    float64 = True  # the gas's energy is a small part of the field's
    verb = "simulate"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a run that was published.

        Args:
            data: 2d-2022 or 2d-2024.

        Raises:
            InputError: There is no such run, or it has three dimensions.
        """
        from attar.core.presets import published

        if data.lower() in THREE_D:
            raise InputError(f"the published run {data} has three dimensions; here are two. Runs: 2d-2022, 2d-2024.")
        return published(cls, data)

    @property
    def total_steps(self) -> int:
        """Number of parts of the whole time."""
        return self.outputs * self.chunks

    @property
    def grid(self) -> Grid:
        """The cells."""
        columns, rows = self.cells
        dx, dy = (self.x_to - self.x_from) / columns, (self.y_to - self.y_from) / rows
        return Grid(rows, columns, dx, dy, self.x_walls, self.y_walls)

    def prepared(self, source: Any, task: Any, runtime: Runtime) -> Setup:
        """What the simulation begins with; it reads no data."""
        return Setup(self.name, losses_named(self.losses))

    def resolve(self, setup: Setup, runtime: Runtime) -> Self:
        """The same settings with units and chunks filled in.

        Raises:
            InputError: The domain holds no layer, or the run is too large for this machine or has no end.
        """
        check_domain(self.grid, (self.x_from, self.x_to), (self.y_from, self.y_to), self.layer)
        units, grid, steps = self.units.resolve(setup.losses.peak), self.grid, self.expected_steps
        check_size(grid)
        check_steps(steps, self.outputs)
        chosen_solver(self.solver, runtime)
        each = steps / self.outputs
        work, smooth = each * grid.rows * grid.columns / CHUNK, min(MOMENTS / self.outputs, each / LEAST_STEPS)
        chunks = max(1, min(max(math.ceil(work), int(smooth)), int(each), MOST_PARTS // self.outputs))
        return dataclasses.replace(self, units=units, chunks=chunks)

    @property
    def expected_steps(self) -> float:
        """Number of time steps in all, if the fastest wave stays as fast as at the start."""
        field = 2 / (GAMMA * self.plasma_beta)
        wave = math.sqrt((1 + field) / min(1.0, self.density_ratio))
        grid, lower, upper = self.grid, *self.speeds
        rates = (wave + max(abs(lower), abs(upper))) / grid.dx, (wave + self.noise_speed) / grid.dy
        return self.end * max(rates) / self.cfl

    @property
    def speeds(self) -> tuple[float, float]:
        """Speeds of corona and thread along x, in c_s0."""
        if self.frame == "corona":
            return 0.0, self.shear
        lower = self.density_ratio / (self.density_ratio + 1) * self.shear
        return lower, -lower / self.density_ratio

    def work(self, setup: Setup) -> float:
        """The scheme is not compiled by PyTorch."""
        return 0.0

    def initial(self, generator: torch.Generator) -> Float[Tensor, "5 row column"]:
        """Conserved states at t = 0, float64.

        Args:
            generator: Draws the noise.
        """
        grid = self.grid
        y = self.y_from + (torch.arange(grid.rows, dtype=torch.float64) + 0.5) * grid.dy
        across = waves(grid, y, self.waves) if self.waves else noise(grid, generator)
        return shear_layer(
            grid,
            y,
            self.noise_speed * across,
            layer=self.layer,
            density_ratio=self.density_ratio,
            speeds=self.speeds,
            plasma_beta=self.plasma_beta,
        )

    def cooling_by(self, losses: LossTable) -> Cooling | None:
        """The losses as they act, or None."""
        table = losses.acting(self.radiation)
        return None if table is None else Cooling(table, self.units.tau, self.units.unit_temperature)

    def build(self, setup: Setup, runtime: Runtime) -> Simulating:
        """The state before the first step."""
        fluid, grid = Fluid.of(self.initial(runtime.generator("noise"))), self.grid
        cooling = self.cooling_by(setup.losses)
        folder, count = runtime.folder, self.outputs + 1
        state = Simulating(
            fluid,
            torch.zeros(self.total_steps + 1, len(COLUMNS), dtype=torch.float64),
            snapshots=Snapshots([fluid.radiated] * count) if folder is None else Snapshots.places(folder, count),
            folder=folder,
            setup=setup,
            grid=grid,
            cooling=cooling,
        )
        runtime.say(" · ".join(f"{name} {value}" for name, value in self.units.facts().items()))
        if not runtime.engine.quiet:
            seconds = seconds_of_step(fluid, grid, self.cfl, cooling, self.solver, runtime)
            runtime.say(told(grid, self.expected_steps, seconds, self.outputs, self.solver, runtime))
        self._note(state)
        return state

    def step(self, state: Simulating, runtime: Runtime) -> Metrics:
        """One part of the time."""
        state.done += 1
        until = self.end * state.done / self.total_steps
        advance_by(self.solver, state.fluid, until, state.grid, self.cfl, state.cooling, runtime)
        return self._note(state)

    def _note(self, state: Simulating) -> Metrics:
        """Measure, and keep a snapshot at an output time."""
        found = measured(state.fluid, state.grid, state.cooling, self.units.unit_temperature)
        state.series[state.done] = torch.tensor([found[name] for name in COLUMNS], dtype=torch.float64)
        if state.done % self.chunks == 0:
            states = primitive(state.fluid.conserved).float()
            state.snapshots.put(state.folder, state.done // self.chunks, states)
        return found

    def result(self, state: Simulating, runtime: Runtime) -> Run:
        """The run so far."""
        made, done = state.done // self.chunks + 1, state.done + 1
        times = torch.arange(made, dtype=torch.float64) * self.end / self.outputs
        return Run(
            snapshots=state.snapshots[:made],
            times=times,
            series=state.series[:done].clone(),
            grid=state.grid,
            origin_x=self.x_from,
            origin_y=self.y_from,
            units=self.units,
            losses=state.setup.losses,
            cooling=self.radiation,
            origin=Run.origin_of(state.setup, self, runtime),
        )
