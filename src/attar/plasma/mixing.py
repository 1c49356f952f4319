"""What a cooling run and its adiabatic twin say of mixing: losses against heating, warm light, and what is mixed.

Clocks start at t = 1: gas of exactly 10⁴ K is not in equilibrium and settles at once, which is no part of mixing.
Averages are compared with those of Hillier and Arregui (2019): a layer that keeps its momentum has the geometric means
of both densities and both temperatures.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from attar.core.errors import InputError
from attar.plasma.series import START_UP
from attar.plasma.states import DENSITY

WINDOW = 25.0, 40.0
"""Times between which the largest light of a cooling run is looked for."""
MIXED = 0.02, 0.5
"""Temperatures of mixed gas, in units of T_0."""


def of_both(cooled: Any, adiabatic: Any) -> dict[str, Any]:
    """Losses, heating and light of two runs that differ in their losses alone. Energies are shares of the thermal one.

    Args:
        cooled: A `Run` with losses.
        adiabatic: The same without.

    Raises:
        InputError: They end too early, or at different times.
    """
    ends = [float(run.times[-1]) for run in (cooled, adiabatic)]
    if ends[0] != ends[1] or ends[0] < WINDOW[0]:
        raise InputError(f"the runs end at t = {ends[0]:g} and {ends[1]:g}. Both must end at one time from 25 on.")
    thermal = float(cooled.measured("thermal")[0])
    radiated, heat = (cooled.measured("radiated"), adiabatic.measured("thermal"))
    lost = float(radiated[-1] - radiated[at(cooled, START_UP)]) / thermal
    heating = float(heat[-1] - heat[at(adiabatic, START_UP)]) / thermal
    times, light = cooled.measured("time"), cooled.measured("line")
    inside = np.flatnonzero((times >= WINDOW[0]) & (times <= WINDOW[1]))
    brightest = int(inside[light[inside].argmax()])
    mass = cooled.measured("cool") / cooled.measured("mass")
    return {
        "radiated": float(radiated[-1]) / thermal,
        "radiated from t = 1": lost,
        "radiated by t = 20": float(radiated[at(cooled, 20.0)]) / thermal,
        "heating": heating,
        "ratio": lost / heating,
        "cool mass": {"start": float(mass[0]), "t = 1": float(mass[at(cooled, START_UP)]), "end": float(mass[-1])},
        "line": {
            "start": float(light[0]),
            "most": float(light[brightest]),
            "time": float(times[brightest]),
            "adiabatic": float(adiabatic.measured("line")[at(adiabatic, times[brightest])]),
        },
    }


@dataclass(frozen=True)
class Mixed:
    """Averages of mixed gas, in units of the corona's; not a number where there is none."""

    density: float
    temperature: float
    """Mean over cells."""
    by_mass: float
    """Mean temperature weighted by mass: what the gas has at one pressure once its density is even."""


def mixing_averages(run: Any, first: float, last: float) -> Mixed:
    """Averages of mixed gas over the snapshots from one time to another.

    Args:
        run: A `Run`, best without losses.
        first: In L_0/c_s0.
        last: The same.
    """
    found = []
    for snapshot in np.flatnonzero((run.times.numpy() >= first) & (run.times.numpy() <= last)):
        heat: Float[np.ndarray, "row column"] = run.temperature(int(snapshot)) / run.units.unit_temperature
        mixed = (heat > MIXED[0]) & (heat < MIXED[1])
        if mixed.any():
            density, warm = run.snapshots[int(snapshot), DENSITY].double().numpy()[mixed], heat[mixed]
            found.append((density.mean(), warm.mean(), (density * warm).sum() / density.sum()))
    return Mixed(*np.mean(found, axis=0).tolist()) if found else Mixed(*[float("nan")] * 3)


def at(run: Any, time: float) -> int:
    """The moment of a run's series that is nearest to a time."""
    return int(np.abs(run.measured("time") - time).argmin())
