"""What is measured of a fluid as it goes: energies, losses, cool mass, and the light of a thin line."""

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
