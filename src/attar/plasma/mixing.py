"""What a cooling run and its adiabatic twin say of mixing: losses against heating, warm light, and what is mixed.

Clocks start at t = 1: gas of exactly 10⁴ K is not in equilibrium and settles at once, which is no part of mixing.
Averages are compared with those of Hillier and Arregui (2019): a layer that keeps its momentum has the geometric means
of both densities and both temperatures.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from attar.core.errors import InputError
from attar.plasma.states import DENSITY

START = 1.0
"""Time from which losses count, in L_0/c_s0."""
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
    lost = float(radiated[-1] - radiated[at(cooled, START)]) / thermal
    heating = float(heat[-1] - heat[at(adiabatic, START)]) / thermal
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
        "cool mass": {"start": float(mass[0]), "t = 1": float(mass[at(cooled, START)]), "end": float(mass[-1])},
        "line": {
            "start": float(light[0]),
            "most": float(light[brightest]),
            "time": float(times[brightest]),
            "adiabatic": float(adiabatic.measured("line")[at(adiabatic, times[brightest])]),
        },
    }


def mixing_averages(run: Any, time: float) -> tuple[float, float]:
    """Mean ρ and T of mixed gas in the snapshot nearest to a time, in units of the corona's; not a number without any.

    Args:
        run: A `Run`, best without losses.
        time: In L_0/c_s0.
    """
    snapshot = int(np.abs(run.times.numpy() - time).argmin())
    heat: Float[np.ndarray, "row column"] = run.temperature(snapshot) / run.units.unit_temperature
    mixed = (heat > MIXED[0]) & (heat < MIXED[1])
    if not mixed.any():
        return float("nan"), float("nan")
    return float(run.snapshots[snapshot, DENSITY].double().numpy()[mixed].mean()), float(heat[mixed].mean())


def at(run: Any, time: float) -> int:
    """The moment of a run's series that is nearest to a time."""
    return int(np.abs(run.measured("time") - time).argmin())
