"""How far profiles are from those of the teacher."""

import numpy as np
from jaxtyping import Float

Profiles = Float[np.ndarray, "column wavelength"]
Each = Float[np.ndarray, " column"]


def rms_over_peak(profiles: Profiles, teacher: Profiles) -> Each:
    """The root of the mean square error over the wavelengths, over the peak of the teacher's profile."""
    found: Each = np.sqrt(((profiles - teacher) ** 2).mean(axis=1)) / teacher.max(axis=1)
    return found


def integrated_error(profiles: Profiles, teacher: Profiles, wavelengths: Float[np.ndarray, " wavelength"]) -> Each:
    """|∫ I - ∫ I_teacher| over ∫ I_teacher, by the trapezoidal rule."""
    steps = np.diff(wavelengths)
    mine, theirs = (0.5 * (one[:, 1:] + one[:, :-1]) @ steps for one in (profiles, teacher))
    found: Each = np.abs(mine - theirs) / theirs
    return found
