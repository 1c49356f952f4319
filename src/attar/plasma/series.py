"""What is measured of a fluid as it goes: energies, losses, cool mass, and the light of a thin line."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from attar.plasma.arrays import Array, module_of
from attar.plasma.cooling import Cooling
from attar.plasma.fluid import Fluid
from attar.plasma.states import DENSITY, GAMMA, Grid, primitive, temperature
from attar.plasma.thin import gaussian_response

COLUMNS = {
    "time": "time, in L_0/c_s0",
    "steps": "time steps so far",
    "mass": "mass in all",
    "thermal": "thermal energy in all, ∫ P/(γ - 1)",
    "kinetic": "kinetic energy in all, ∫ ρv²/2",
    "magnetic": "magnetic energy in all, ∫ B_z²/2",
    "radiated": "energy radiated so far",
    "losses": "energy radiated per time, ∫ ρ²Λ̂/τ",
    "cool": "mass below 2·10⁴ K",
    "mixed": "mass between 2·10⁴ and 5·10⁵ K",
    "line": "light of a thin line, ∫ ρ²G(T), with the labelled Gaussian in log T",
    "raised": "pressures raised to the floor so far",
}
"""The columns of a series, each with what it is; energies and masses per unit of depth, in the run's own units."""


def measured(fluid: Fluid, grid: Grid, cooling: Cooling | None, unit: float) -> dict[str, float]:
    """The columns of one time.

    Args:
        fluid: It.
        grid: The cells.
        cooling: The losses, or None.
        unit: T_0, in K.
    """
    states = primitive(fluid.conserved)
    density, u, v, pressure, field = states
    heat = temperature(states) * unit

    def total(values: Array) -> float:
        return float(values.sum()) * grid.cell

    xp = module_of(states)
    none = xp.zeros_like(density)
    return {
        "time": fluid.time,
        "steps": float(fluid.steps),
        "mass": total(density),
        "thermal": total(pressure / (GAMMA - 1)),
        "kinetic": total(0.5 * density * (u * u + v * v)),
        "magnetic": total(0.5 * field * field),
        "radiated": total(fluid.radiated),
        "losses": 0.0 if cooling is None else total(cooling.rate(fluid.conserved)),
        "cool": total(xp.where(heat < 2e4, states[DENSITY], none)),
        "mixed": total(xp.where((heat >= 2e4) & (heat <= 5e5), states[DENSITY], none)),
        "line": total(density**2 * gaussian_response(heat)),
        "raised": float(fluid.raised),
    }


START_UP = 1.0
"""Time up to which the gas settles: 10⁴ K is not in equilibrium, and cools at once. In L_0/c_s0."""


def columns_of(series: Float[Tensor, "moment measure"]) -> dict[str, Float[np.ndarray, " moment"]]:
    """The columns of a series by name."""
    return dict(zip(COLUMNS, series.numpy().T, strict=True))


def started(time: Float[np.ndarray, " moment"]) -> int:
    """The first moment after the gas has settled; the start of a run that ends before."""
    return int(np.argmax(time >= START_UP))


def outcome(series: Float[Tensor, "moment measure"], cooling: str) -> dict[str, str]:
    """What came of a run, in words. Per cents of energies are of the thermal energy of the start.

    Args:
        series: Its series.
        cooling: cut, true, or off.
    """
    of = columns_of(series)
    time, unit, settled = of["time"], 100 / of["thermal"][0], started(of["time"])
    whole = of["thermal"] + of["kinetic"] + of["magnetic"]
    found = {}
    if cooling != "off":
        later = unit * (of["radiated"][-1] - of["radiated"][settled])
        since = f", {later:.2f} % of it from t = {time[settled]:.3g} on" if settled else ""
        found["radiated"] = f"{unit * of['radiated'][-1]:.2f} % of the thermal energy of the start{since}"
    for name in ("thermal", "kinetic", "magnetic"):
        found[f"{name} energy"] = f"{unit * (of[name][-1] - of[name][0]):+.3g} % of the thermal energy of the start"
    if of["cool"][0] > 0:
        found["cool mass"] = f"{100 * (of['cool'][-1] / of['cool'][0] - 1):+.3g} % (below 2·10⁴ K)"
    lost = (whole[-1] + of["radiated"][-1] - whole[0]) / whole[0]
    found["not accounted for"] = f"energy {lost:.1g}, mass {of['mass'][-1] / of['mass'][0] - 1:.1g} of all"
    if of["raised"][-1]:
        found["pressures raised to the floor"] = f"{int(of['raised'][-1]):,}"
    return found
