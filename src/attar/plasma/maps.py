"""Maps of a snapshot in physical units: log T, log n and log losses, which the preview and the plots show."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from attar.plasma.cooling import Cooling
from attar.plasma.states import conserved

FAINTEST = 1e-6
"""Losses below this share of the largest are shown as if they were it."""


@dataclass(frozen=True)
class Map:
    """A quantity over the domain; rows rise along y."""

    title: str
    """In plain letters, which every font has."""
    values: Float[np.ndarray, "row column"] | None
    """None where there is none of it."""

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return (0.0, 0.0) if self.values is None else (float(self.values.min()), float(self.values.max()))


def maps(run: Any, snapshot: int) -> tuple[Map, Map, Map]:
    """Log T, log n and log losses of a snapshot of a run."""
    return (
        Map("log T [K]", np.log10(np.maximum(run.temperature(snapshot), 1.0))),
        Map("log n [m^-3]", np.log10(run.hydrogen(snapshot))),
        Map("log losses [W m^-3]", losses_of(run, snapshot)),
    )


def losses_of(run: Any, snapshot: int) -> Float[np.ndarray, "row column"] | None:
    """log10 of the losses in W/m³, from a millionth of the largest on; None where there are none."""
    table = run.losses.acting(run.cooling)
    if table is None:
        return None
    cooling = Cooling(table, run.units.tau, run.units.unit_temperature)
    rate = cooling.rate(conserved(run.snapshots[snapshot].double().numpy())) * run.units.energy / run.units.time
    most = float(rate.max())
    return np.log10(np.maximum(rate, FAINTEST * most)) if most > 0 else None


def moment(run: Any, snapshot: int) -> str:
    """The time of a snapshot, in words."""
    time = float(run.times[snapshot])
    return f"t = {time:.4g} L_0/c_s0 = {time * run.units.time:.4g} s"


def lengths(run: Any) -> tuple[float, str]:
    """L_0 in a unit in which the domain is a handy number, and the unit."""
    across = run.grid.columns * run.grid.dx * run.units.length
    for size, unit in ((1e6, "Mm"), (1e3, "km")):
        if across >= 0.1 * size:
            return run.units.length / size, unit
    return run.units.length, "m"
