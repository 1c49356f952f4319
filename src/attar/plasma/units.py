"""From a simulation's own units to those of physics: density n_0, temperature T_0 and length L_0, all in SI.

Speeds are in units of the coronal sound speed c_s0, times in L_0/c_s0, and the pressure of the corona is 1/γ. The
cooling time τ of the equations and L_0 follow from one another: τ is the energy that a volume holds, divided by what it
radiates at the peak of the losses in the time L_0/c_s0.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

from attar.core.errors import InputError
from attar.core.settings import Range, Settings
from attar.plasma.losses import ERG_CM3
from attar.plasma.states import GAMMA

BOLTZMANN = 1.380649e-23
HYDROGEN = 1.6735575e-27
"""Mass of a hydrogen atom, in kg."""
MEAN_WEIGHT = 0.5
"""μ of ionised hydrogen."""
USUAL_TAU = 100.0
"""τ of the published runs."""
LENGTHS, TIMES = (1e-6, 1e30), (1e-9, 1e30)
"""Ranges of L_0 in m, and of τ."""


@dataclass(frozen=True, kw_only=True)
class Units(Settings):
    """The units of a simulation."""

    unit_density: Annotated[float, Range(1.0, 1e30)] = 1e15
    """n_0, hydrogen density of the corona, in m⁻³."""
    unit_temperature: Annotated[float, Range(1.0, 1e12)] = 1e6
    """T_0, temperature of the corona, in K."""
    unit_distance: Annotated[float, Range(*LENGTHS)] | None = None
    """L_0, in m. Default: by the cooling time."""
    cooling_time: Annotated[float, Range(*TIMES)] | None = None
    """τ, in L_0/c_s0. Default: by the length if that is given, else 100."""

    def resolve(self, peak: float) -> "Units":
        """The same units with length and cooling time both filled in.

        Args:
            peak: The largest loss, in erg cm³/s.

        Raises:
            InputError: Both are given and do not fit, or one that follows is absurd.
        """
        per_length = self.energy * self.speed / (self.unit_density**2 * peak * ERG_CM3)
        length, tau = self.unit_distance, self.cooling_time
        if length is not None and tau is not None and not math.isclose(length * tau, per_length, rel_tol=1e-6):
            raise InputError(
                f"--unit-distance {length:g} and --cooling-time {tau:g} do not fit: with this density and temperature "
                f"a length of {length:g} m has the cooling time {per_length / length:.4g}. Give one of them."
            )
        if length is None:
            tau = USUAL_TAU if tau is None else tau
            length = per_length / tau
        elif tau is None:
            tau = per_length / length
        for told, value, (least, most) in (("L_0 in m", length, LENGTHS), ("τ", tau, TIMES)):
            if not least <= value <= most:
                raise InputError(
                    f"--unit-density {self.unit_density:g} and --unit-temperature {self.unit_temperature:g} lead to "
                    f"{told} = {value:.4g}, which must be between {least:g} and {most:g}."
                )
        return Units(
            unit_density=self.unit_density,
            unit_temperature=self.unit_temperature,
            unit_distance=length,
            cooling_time=tau,
        )

    @property
    def speed(self) -> float:
        """c_s0 = √(γ k T_0 / μ m_H), in m/s."""
        return math.sqrt(GAMMA * BOLTZMANN * self.unit_temperature / (MEAN_WEIGHT * HYDROGEN))

    @property
    def energy(self) -> float:
        """The unit of energy density and pressure, γ · 2 n_0 k T_0, in J/m³: the corona has the pressure 1/γ."""
        return GAMMA * 2 * self.unit_density * BOLTZMANN * self.unit_temperature

    @property
    def length(self) -> float:
        """L_0, in m, of resolved units."""
        assert self.unit_distance is not None, "resolve them first"
        return self.unit_distance

    @property
    def tau(self) -> float:
        """τ, of resolved units."""
        assert self.cooling_time is not None, "resolve them first"
        return self.cooling_time

    @property
    def time(self) -> float:
        """t_0 = L_0/c_s0, in s."""
        return self.length / self.speed

    def facts(self) -> dict[str, Any]:
        """All units in SI, by what they are called."""
        return {
            "density n_0": f"{self.unit_density:.4g} m⁻³",
            "temperature T_0": f"{self.unit_temperature:.4g} K",
            "length L_0": f"{self.length:.4g} m",
            "speed c_s0": f"{self.speed:.4g} m/s",
            "time L_0/c_s0": f"{self.time:.4g} s",
            "energy density": f"{self.energy:.4g} J/m³",
            "cooling time τ": f"{self.tau:.4g} L_0/c_s0",
        }
