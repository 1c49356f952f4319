"""Optically thin lines: Si IV at 1402.77 and 1393.75 Å, by the temperatures at which the ion exists."""

from attar.plasma.arrays import Array, module_of

PEAK, WIDTH = 4.9, 0.15
"""Centre and standard deviation of the Gaussian that stands for Si IV, in log10 T."""


def gaussian_response(temperature: Array) -> Array:
    """G(T) ∝ exp(-½ ((log₁₀ T - 4.9)/0.15)²), the shape of Si IV alone; it has no unit.

    Args:
        temperature: In K.
    """
    xp = module_of(temperature)
    return xp.exp(-0.5 * ((xp.log10(temperature) - PEAK) / WIDTH) ** 2)
