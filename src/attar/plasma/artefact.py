"""A simulated run on disk and in memory: snapshots of the fluid, its series, and the units to read them by.

`run.safetensors` holds the output times, the series and the table of losses. `snapshots` has a file for each output
time (float32). `artefact.json` states the rest, with digests.
"""

import builtins
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.core import artefact as core
from attar.core import store
from attar.core.artefact import Origin as Origin
from attar.core.card import SCORES
from attar.core.cell import Cell
from attar.core.errors import InputError, unknown
from attar.core.pictures import KEPT, keep, kept_in
from attar.plasma.losses import LossTable
from attar.plasma.plots import TITLES, drawn
from attar.plasma.series import COLUMNS, outcome
from attar.plasma.snapshots import FILES, Snapshots, file_of
from attar.plasma.states import Grid, temperature
from attar.plasma.units import Units

SCHEMA = 1
KIND = "plasma"
RUN, SPECTRA, LINES, EMULATOR = "run", "spectra", "columns", "emulator"
"""The forms."""
TENSORS, PREVIEW = "run.safetensors", "preview.png"


@dataclass(frozen=True)
class Run(core.Shareable):
    """A simulated fluid: what it looked like at some times, and what was measured on the way."""

    snapshots: Snapshots
    """Primitive states ρ, u, v, P, B_z at the output times, in the run's own units; rows rise along y."""
    times: Float[Tensor, " time"]
    """In L_0/c_s0."""
    series: Float[Tensor, "moment measure"]
    """What was measured, a column for each of `attar.plasma.series.COLUMNS`."""
    grid: Grid
    origin_x: float
    """Left end of the domain, in L_0."""
    origin_y: float
    """Lower end of the domain, in L_0."""
    units: Units
    losses: LossTable
    """The whole table of losses."""
    cooling: str
    """How they acted: cut, true, or off."""
    origin: Origin
    folder: Path | None = field(default=None, compare=False)

    kind = KIND
    repo_type = "dataset"
    files = (TENSORS, FILES, core.ARTEFACT, core.CARD, PREVIEW, SCORES, KEPT)

    @classmethod
    def origin_of(cls, source: Any, method: Any, runtime: Any) -> Origin:
        """The origin of what a method makes of a source."""
        return Origin.made(source, method, runtime)

    @property
    def name(self) -> str:
        """What it is called as a source."""
        return self.origin.source

    @property
    def fingerprint(self) -> str:
        """A digest of the snapshots and their units."""
        return store.digest_of({"times": self.times}, [self.snapshots.digests, self.units.to_json()])

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"A run of {self.origin.source} with {self.cells} cells"

    @property
    def cells(self) -> str:
        """The number of cells, in words."""
        return f"{self.grid.columns}×{self.grid.rows}"

    @property
    def learned(self) -> dict[str, Tensor]:
        """The last snapshot, which must be finite."""
        return {"the last snapshot": self.snapshots[-1]}

    @property
    def bytes(self) -> int:
        """Size of the snapshots in bytes."""
        return self.snapshots.bytes

    # ------------------------------------------------------------------------------------------------- physical values

    @property
    def y(self) -> Float[np.ndarray, " row"]:
        """Centres of the rows, in L_0."""
        return self.origin_y + (np.arange(self.grid.rows) + 0.5) * self.grid.dy

    @property
    def x(self) -> Float[np.ndarray, " column"]:
        """Centres of the columns, in L_0."""
        return self.origin_x + (np.arange(self.grid.columns) + 0.5) * self.grid.dx

    def _snapshot(self, number: Any) -> Tensor:
        """A snapshot by its number; negative ones count from the end."""
        there = len(self.times)
        if not isinstance(number, (int, np.integer)) or not -there <= number < there:
            raise InputError(f"snapshot {number!r} is not in this run; it has the snapshots 0 to {there - 1}.")
        return self.snapshots[int(number)]

    def check_snapshots(self, numbers: Sequence[int]) -> None:
        """See that the run has snapshots of these numbers, each named once.

        Raises:
            InputError: It has not, or one is named twice.
        """
        there = len(self.times)
        if max(numbers) >= there:
            raise InputError(f"snapshot {max(numbers)} is not in this run; it has the snapshots 0 to {there - 1}.")
        if len(set(numbers)) < len(numbers):
            raise InputError(f"at_snapshots is {list(numbers)}; name each once.")

    def temperature(self, snapshot: int) -> Float[np.ndarray, "row column"]:
        """Temperatures of a snapshot, in K."""
        return temperature(self._snapshot(snapshot).double().numpy()) * self.units.unit_temperature

    def hydrogen(self, snapshot: int) -> Float[np.ndarray, "row column"]:
        """Hydrogen densities of a snapshot, in m⁻³."""
        return self._snapshot(snapshot)[0].double().numpy() * self.units.unit_density

    def velocity(self, snapshot: int) -> Float[np.ndarray, "2 row column"]:
        """Velocities along x and y of a snapshot, in m/s."""
        return self._snapshot(snapshot)[1:3].double().numpy() * self.units.speed

    def measured(self, name: str) -> Float[np.ndarray, " moment"]:
        """A column of the series, by its name in `attar.plasma.series.COLUMNS`."""
        if name not in COLUMNS:
            raise unknown("column of the series", str(name), list(COLUMNS))
        return self.series[:, list(COLUMNS).index(name)].numpy()

    # -------------------------------------------------------------------------------------------------------- on disk

    def save(self, folder: str | Path) -> Self:
        """Write it to a folder and return the saved copy. Each file is written whole or not at all.

        Raises:
            InputError: The folder cannot be written to.
        """
        folder = Path(folder)
        store.make_folder(folder)
        store.write_bytes(folder / PREVIEW, self.picture())
        self.snapshots.save(folder)
        keep(folder, drawn(self), TITLES)
        tensors = {
            "times": self.times,
            "series": self.series,
            "log_t": torch.from_numpy(self.losses.log_t.copy()),
            "losses": torch.from_numpy(self.losses.losses.copy()),
        }
        facts = {
            core.FORM: RUN,
            "digest": store.write_tensors(folder / TENSORS, tensors, {"series": list(COLUMNS)}),
            "snapshots": self.snapshots.digests,
            "grid": dataclasses.asdict(self.grid),
            "corner": [self.origin_x, self.origin_y],
            "units": self.units.to_json(),
            "losses": self.losses.name,
            "cooling": self.cooling,
            "origin": dataclasses.asdict(self.origin),
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder holds no run, or a file is missing, damaged or altered.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "simulated run")
        tensors, _ = core.read_tensors(folder / TENSORS, facts["digest"])
        for index in range(len(facts["snapshots"])):
            if not file_of(folder, index).is_file():
                raise InputError(f"{file_of(folder, index)} is missing.")
        units = Units.from_json(facts["units"])
        if units.unit_distance is None or units.cooling_time is None:
            raise InputError(f"{folder / core.ARTEFACT} is damaged: its units have no length, or no cooling time.")
        table = LossTable(facts["losses"], tensors["log_t"].numpy(), tensors["losses"].numpy())
        return cls(
            snapshots=Snapshots.places(folder, len(facts["snapshots"]), facts["snapshots"]),
            times=tensors["times"],
            series=tensors["series"],
            grid=Grid(**facts["grid"]),
            origin_x=float(facts["corner"][0]),
            origin_y=float(facts["corner"][1]),
            units=units,
            losses=table,
            cooling=facts["cooling"],
            origin=Origin(**facts["origin"]),
            folder=folder,
        )

    def picture(self) -> builtins.bytes:
        """Log T, log ρ and losses of the last snapshot, as PNG."""
        from attar.plasma.pictures import preview

        return preview(self)

    def card(self, scores: list[Cell]) -> str:
        """The README of the run."""
        from attar.plasma.card import run_card

        return run_card(self, scores)

    def shown(self, images: int = 10) -> core.Shown:
        """Units, what was measured, and the pictures."""
        return core.Shown(
            size=f"{self.cells} cells, {len(self.times)} snapshots",
            count=self.grid.rows * self.grid.columns,
            bytes=self.bytes,
            facts={**self.outcome, **self.units.facts()},
            pictures=(core.Picture("", self.picture()), *kept_in(self.folder, TITLES)),
        )

    @property
    def outcome(self) -> dict[str, str]:
        """What came of it, in words."""
        return outcome(self.series, self.cooling)

    @property
    def described(self) -> str:
        """All that `attar data` prints: what it is, its units, and what came of it."""
        told = [f"{name}: {value}" for name, value in {**self.units.facts(), **self.outcome}.items()]
        return "\n".join([f"{self.title}: {self}.", *told])

    def __str__(self) -> str:
        return f"{self.cells} cells to t = {float(self.times[-1]):g} in {int(self.measured('steps')[-1]):,} steps; " + (
            "no cooling" if self.cooling == "off" else f"radiated: {self.outcome['radiated']}"
        )


class StoredPlasma(core.Stored, Run):
    """What lies in a folder of this kind."""

    forms = MappingProxyType(
        {
            RUN: "attar.plasma.artefact:Run",
            SPECTRA: "attar.plasma.spectra:Spectra",
            LINES: "attar.plasma.columns:Columns",
            EMULATOR: "attar.plasma.emulated:Emulator",
        }
    )
