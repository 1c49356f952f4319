"""The teacher that needs no extra: one line in LTE, by the formal solution of the transfer equation along a column.

The line is Ca II K. Populations are those of Boltzmann and Saha at the local temperature, with as many electrons as
hydrogen nuclei: calcium is Ca II in its lowest levels or Ca III, and nothing else. The source function is Planck's. The
profile is Voigt's, with thermal and turbulent broadening, radiative damping, and the Doppler shift of each point.
Scattering, which in real prominences sets the source function of this line, is left out, so that intensities are too
large. Prefer it for tests and for trying things out; `lightweaver` solves the statistical equilibrium.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from attar.core.errors import InputError
from attar.plasma.column import Column

LIGHT, PLANCK, BOLTZMANN = 2.99792458e8, 6.62607015e-34, 1.380649e-23
"""c, h and k, in SI."""
ELECTRON, ELECTRON_VOLT = 9.1093837e-31, 1.602176634e-19
STRENGTH = 2.654008e-6
"""π e²/(4π ε₀ m_e c), in m² Hz."""
CENTRE = 393.4777134
"""Wavelength of Ca II K in vacuum, in nm."""
OSCILLATOR, DAMPING = 0.682, 1.5e8
"""f of the line, and Γ of its upper level by radiation, in s⁻¹."""
MASS = 40.078 * 1.66053907e-27
"""Mass of calcium, in kg."""
ABUNDANCE = 2.19e-6
"""Calcium nuclei for each hydrogen nucleus."""
IONISATION = 11.872 * ELECTRON_VOLT
"""Energy that takes the second electron, in J."""
LEVELS = ((2.0, 0.0), (10.0, 1.70 * ELECTRON_VOLT), (6.0, 3.14 * ELECTRON_VOLT))
"""Weights and energies of the levels 4s, 3d and 4p of Ca II."""
WINDOW, WAVELENGTHS = 0.08, 41

Points = Float[np.ndarray, " point"]


def usual_wavelengths() -> Float[np.ndarray, " wavelength"]:
    """The wavelengths of the profiles, ±80 pm around the line, in nm."""
    return CENTRE + np.linspace(-WINDOW, WINDOW, WAVELENGTHS)


@dataclass(frozen=True)
class Slab:
    """The Ca II K line of a column in LTE."""

    wavelengths: Float[np.ndarray, " wavelength"] = field(default_factory=usual_wavelengths)
    """In vacuum, in nm."""
    behind: float = 0.0
    """Intensity that falls on the far face, in W m⁻² Hz⁻¹ sr⁻¹."""

    name = "slab"
    line = "Ca II K"
    note = "LTE, n_e given: as many electrons as hydrogen nuclei"

    @property
    def fingerprint(self) -> str:
        """What tells it from other teachers."""
        return f"slab 1, {self.wavelengths.tolist()}, {self.behind}"

    def answer(self, column: Column) -> Float[np.ndarray, " wavelength"]:
        """The emergent intensity towards the observer, in W m⁻² Hz⁻¹ sr⁻¹."""
        absorbed = opacity(column, self.wavelengths)
        return formal_solution(column.depth, absorbed, planck(column.temperature), self.behind)


def formal_solution(
    depth: Points,
    opacity: Float[np.ndarray, "point wavelength"],
    source: Points,
    behind: float = 0.0,
) -> Float[np.ndarray, " wavelength"]:
    """I = ∫ S e^{-τ} dτ + I₀ e^{-τ₀}, with opacity linear in depth and S linear in τ from each point to the next.

    It is exact where S is constant, and of second order elsewhere.

    Args:
        depth: Distance from the near face, rising, in m.
        opacity: In m⁻¹.
        source: S, in W m⁻² Hz⁻¹ sr⁻¹.
        behind: I₀, what falls on the far face.
    """
    if len(depth) < 2 or not (np.diff(depth) > 0).all():
        raise InputError("the depth of a column must rise from each point to the next.")
    thickness = 0.5 * (opacity[1:] + opacity[:-1]) * np.diff(depth)[:, None]
    through = np.concatenate((np.zeros_like(opacity[:1]), np.cumsum(thickness, axis=0)))
    lost = -np.expm1(-thickness)
    mean = np.divide(lost, thickness, out=np.ones_like(lost), where=thickness > 0)
    added = source[:-1, None] * (1 - mean) + source[1:, None] * (mean - 1 + lost)
    found: Float[np.ndarray, " wavelength"] = (added * np.exp(-through[:-1])).sum(axis=0)
    return found + behind * np.exp(-through[-1])


def planck(temperature: Points) -> Points:
    """B_ν at the centre of the line, in W m⁻² Hz⁻¹ sr⁻¹."""
    frequency = LIGHT / (CENTRE * 1e-9)
    return 2 * PLANCK * frequency**3 / LIGHT**2 / np.expm1(PLANCK * frequency / (BOLTZMANN * temperature))


def opacity(column: Column, wavelengths: Float[np.ndarray, " wavelength"]) -> Float[np.ndarray, "point wavelength"]:
    """α = n_l · π e²/(4π ε₀ m_e c) f φ_ν · (1 - e^{-hν/kT}), in m⁻¹, of a profile that moves with the gas."""
    from scipy.special import wofz

    heat = column.temperature
    wide = np.sqrt(2 * BOLTZMANN * heat / MASS + column.turbulence**2)
    width = wide / (CENTRE * 1e-9)
    away = ((wavelengths - CENTRE) / CENTRE * LIGHT + column.velocity[:, None]) / wide[:, None]
    profile = wofz(away + 1j * (DAMPING / (4 * np.pi * width))[:, None]).real / (np.sqrt(np.pi) * width[:, None])
    stimulated = -np.expm1(-PLANCK * LIGHT / (CENTRE * 1e-9 * BOLTZMANN * heat))
    strength = STRENGTH * OSCILLATOR * lower_level(heat, column.hydrogen) * stimulated
    return strength[:, None] * profile


def lower_level(temperature: Points, hydrogen: Points) -> Points:
    """Density of Ca II ions in the lowest level, in m⁻³, by Boltzmann and Saha."""
    energy = BOLTZMANN * temperature
    weights = sum(weight * np.exp(-level / energy) for weight, level in LEVELS)
    free = (2 * np.pi * ELECTRON * energy / PLANCK**2) ** 1.5
    doubly = 2 / weights * free * np.exp(-IONISATION / energy) / hydrogen
    return ABUNDANCE * hydrogen * LEVELS[0][0] / weights / (1 + doubly)
