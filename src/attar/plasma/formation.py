"""Where a line forms: optical depths, the depth of τ = 1, contribution functions, and the emergent intensity.

All take opacities and source functions along one line of sight, the first point the nearest to the observer.
"""

import numpy as np
from jaxtyping import Float

Along = Float[np.ndarray, "wavelength point"]
"""A value at each wavelength and depth."""
FINER = 8
"""Steps into which one between two points is cut, where an integral along the line of sight is wanted."""


def finer(
    depth: Float[np.ndarray, " point"], *values: Float[np.ndarray, "wavelength point"]
) -> tuple[Float[np.ndarray, "..."], ...]:
    """Depths with `FINER` steps for each of before, and values on them by monotone cubics.

    A thick line may gain several τ between two points. The code that solved the column has cubics there too.
    """
    from scipy.interpolate import PchipInterpolator

    places = np.arange(FINER * (len(depth) - 1) + 1) / FINER
    fine = np.interp(places, np.arange(len(depth)), depth)
    return fine, *(PchipInterpolator(depth, value, axis=1)(fine) for value in values)


def optical_depth(depth: Float[np.ndarray, " point"], opacity: Along) -> Along:
    """τ between the near face and each point, with opacities linear between points.

    Args:
        depth: In m, ascending.
        opacity: χ, in m⁻¹.
    """
    steps = 0.5 * (opacity[:, 1:] + opacity[:, :-1]) * np.diff(depth)
    return np.concatenate((np.zeros((len(opacity), 1)), np.cumsum(steps, axis=1)), axis=1)


def depth_of(tau: Along, depth: Float[np.ndarray, " point"], value: float = 1.0) -> Float[np.ndarray, " wavelength"]:
    """The depth, in m, at which τ reaches a value; NaN where it does not.

    Args:
        tau: As `optical_depth` gives it.
        depth: In m, ascending.
        value: Of τ.
    """
    return np.array([np.interp(value, one, depth) if one[-1] >= value else np.nan for one in tau])


def contribution(opacity: Along, source: Along, tau: Along) -> Along:
    """χ S exp(-τ): what a metre of the line of sight adds to the emergent intensity."""
    return opacity * source * np.exp(-tau)


def emergent(
    tau: Along, source: Along, behind: Float[np.ndarray, " wavelength"] | float = 0.0
) -> Float[np.ndarray, " wavelength"]:
    """The integral of the contribution function, with source functions linear in τ between points.

    Args:
        tau: As `optical_depth` gives it.
        source: S.
        behind: Intensity that enters at the far face.
    """
    step = np.diff(tau, axis=1)
    thin = step < 1e-5
    safe = np.where(thin, 1.0, step)
    mean = np.where(thin, 1 - step / 2, -np.expm1(-safe) / safe)  # of exp(-τ) over a step
    near, far = 1 - mean, mean - np.exp(-step)
    parts = np.exp(-tau[:, :-1]) * (near * source[:, :-1] + far * source[:, 1:])
    return parts.sum(axis=1) + behind * np.exp(-tau[:, -1])
