"""Radiative losses: Λ(T) of an optically thin plasma, as a table that is linear in log T between its points.

`sheet` lies in the package. `file` reads a table of one's own, and `chianti` asks ChiantiPy or fiasco, where a user has
them with the CHIANTI data. `cut` makes the corona stable, as Snow, Osborne and Hillier do: from log T = 5.5 on the
points are multiplied by sech²((log T - 5.5)/0.1), at the points and not after interpolation.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Self

import numpy as np
from jaxtyping import Float

from attar.core import store

CUT_FROM, CUT_WIDTH = 5.5, 0.1
"""In log T: where the cut begins, and how wide it is."""
ERG_CM3 = 1e-13
"""One erg cm³/s in W m³."""


@dataclass(frozen=True, eq=False)
class LossTable:
    """Losses at the points of a table: none below the first one, and those of the last one above it."""

    name: str
    log_t: Float[np.ndarray, " point"]
    """log10 of the temperature in K, ascending."""
    losses: Float[np.ndarray, " point"]
    """Λ in erg cm³/s."""

    @cached_property
    def peak(self) -> float:
        """The largest loss, in erg cm³/s, by which normalised losses are divided."""
        return float(self.losses.max())

    @cached_property
    def normalised(self) -> Float[np.ndarray, " point"]:
        """Λ̂ = Λ / max Λ."""
        return self.losses / self.peak

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the points."""
        return store.digest_of({}, [self.log_t.tolist(), self.losses.tolist()])

    def cut(self) -> Self:
        """The table with the losses of the corona removed. The peak that it is divided by stays that of the whole."""
        factor = np.where(self.log_t >= CUT_FROM, np.cosh((self.log_t - CUT_FROM) / CUT_WIDTH) ** -2.0, 1.0)
        made = type(self)(f"{self.name}, cut", self.log_t, self.losses * factor)
        made.__dict__["peak"] = self.peak
        return made

    def at(self, temperature: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Λ̂ at temperatures in K."""
        positive = np.maximum(temperature, 1e-300)
        return np.interp(np.log10(positive), self.log_t, self.normalised, left=0.0)


def packaged(name: str = "sheet") -> LossTable:
    """A table of the package."""
    text = files("attar.plasma").joinpath("tables", f"{name}.txt").read_text(encoding="utf-8")
    points = np.array([list(map(float, line.split())) for line in text.splitlines() if not line.startswith("#")])
    return LossTable(name, points[:, 0], points[:, 1] * 1e-22)
