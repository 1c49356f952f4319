"""Optically thin lines of Si IV, 1402.77 and 1393.75 Å: what a mixing layer shows, column by column and over time.

The light of a column is the sum of ρ²G(T) over it and its mirror image, without the length of a cell, as Snow, Osborne
and Hillier (2025, arXiv:2501.11324) count it. G comes from CHIANTI where it is at hand (10⁹ electrons per cm³, an
emission measure of 10²⁷ cm⁻⁵). Elsewhere a Gaussian in log T stands for it, which is a shape alone: its light has no
unit. At t = 0 the layer is not resolved and hardly shines, so that ratios to that time mean nothing: name a later one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from attar.core.errors import InputError
from attar.plasma.arrays import Array, module_of
from attar.plasma.chianti import EMISSION
from attar.plasma.reading import called

PEAK, WIDTH = 4.9, 0.15
"""Centre and standard deviation of the Gaussian that stands for Si IV, in log10 T."""
ION = "si_4"
LINES = (1402.77, 1393.75)
"""Wavelengths in Å."""
POINTS = 101
"""Points of CHIANTI's response, from log T = 3 to 7."""
SHAPE_ONLY = "Gaussian in log T (a shape only)"
Image = Float[np.ndarray, "row column"]


def gaussian_response(temperature: Array) -> Array:
    """G(T) ∝ exp(-½ ((log₁₀ T - 4.9)/0.15)²), the shape of Si IV alone; it has no unit.

    Args:
        temperature: In K.
    """
    xp = module_of(temperature)
    return xp.exp(-0.5 * ((xp.log10(temperature) - PEAK) / WIDTH) ** 2)


@dataclass(frozen=True, eq=False)
class Response:
    """What a plasma shines in one line, by its temperature."""

    label: str
    """The line, and whose numbers these are: for plots and tables."""
    unit: str
    """Empty where it is a shape only."""
    log_t: Float[np.ndarray, " point"] | None = None
    """log10 of the temperature in K; None stands for the Gaussian."""
    light: Float[np.ndarray, " point"] | None = None

    def __call__(self, temperature: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """G at temperatures in K: cubic in log T between the points, never below 0, and 0 beyond them."""
        if self.log_t is None or self.light is None:
            return np.asarray(gaussian_response(np.asarray(temperature, dtype=float)))
        from scipy.interpolate import CubicSpline

        where = np.log10(np.maximum(temperature, 1e-300))
        found = CubicSpline(self.log_t, self.light)(where)
        return np.where((where < self.log_t[0]) | (where > self.log_t[-1]), 0.0, np.maximum(found, 0.0))


def response(wavelength: float = LINES[0], source: str = "auto") -> Response:
    """How Si IV responds to the temperature.

    Args:
        wavelength: 1402.77 or 1393.75, in Å.
        source: `chianti`, `gaussian`, or `auto`: CHIANTI where it is at hand, else the Gaussian.

    Raises:
        InputError: No such line or source, or CHIANTI is asked for and not at hand.
    """
    from attar.plasma import chianti

    if wavelength not in LINES:
        raise InputError(f"there is no line of Si IV at {wavelength:g} Å here. Give {LINES[0]} or {LINES[1]}.")
    if source not in ("auto", "chianti", "gaussian"):
        raise InputError(f"{source!r} gives no response of Si IV. Give auto, chianti, or gaussian.")
    name = f"Si IV {wavelength:.2f} Å"
    if source == "gaussian" or (source == "auto" and not chianti.at_hand()):
        return Response(f"{name}, {SHAPE_ONLY}", "")
    log_t = np.linspace(3.0, 7.0, POINTS)
    light = np.maximum(chianti.line(ION, wavelength, log_t), 0.0)
    return Response(f"{name}, CHIANTI", "erg cm⁻² s⁻¹ sr⁻¹ at 10²⁷ cm⁻⁵", log_t, light)


def column_light(density: Image, temperature: Image, line: Response) -> Float[np.ndarray, " column"]:
    """I(x) = Σ_y ρ²G(T) over each column and its mirror image.

    Args:
        density: In units of n_0.
        temperature: In K.
        line: What shines.
    """
    return 2 * (density**2 * line(temperature)).sum(axis=0)


def intensity(run: Any, snapshot: int, line: Response) -> Float[np.ndarray, " column"]:
    """I(x) = ∫ n_e n_H G ds through each column and its mirror image, in erg cm⁻² s⁻¹ sr⁻¹; all gas is ionised.

    Args:
        run: A `Run`.
        snapshot: Which of its snapshots.
        line: What shines, from CHIANTI.

    Raises:
        InputError: The response is a shape only.
    """
    if not line.unit:
        raise InputError(f"{line.label}: it gives no intensities. Take column_light, or CHIANTI's response.")
    cm = 100.0
    emission = (run.units.unit_density / cm**3) ** 2 * run.grid.dy * run.units.length * cm
    density = run.snapshots[snapshot, 0].double().numpy()
    return column_light(density, run.temperature(snapshot), line) * emission / EMISSION


@dataclass(frozen=True)
class LightCurve:
    """The mean light of all columns over time."""

    times: Float[np.ndarray, " moment"]
    """In L_0/c_s0."""
    light: Float[np.ndarray, " moment"]
    """Absolute, or divided by that of a stated time."""
    label: str
    """What it is, for plots."""


def light_curve(run: Any, line: Response | None = None, relative_to: float | None = None) -> LightCurve:
    """The mean of I(x) over the columns of a run, against time.

    Args:
        run: A `Run`.
        line: What shines, at the times of the snapshots. Default: the Gaussian, at every moment of the series.
        relative_to: Divide by the light at this time, in L_0/c_s0; the nearest moment counts.

    Raises:
        InputError: The run has no such time, or nothing shines then.
    """
    if not hasattr(run, "measured"):
        raise InputError(f"light curves are those of a run, and this is {called(run)}.")
    if line is None:
        times, label = run.measured("time"), f"Si IV, {SHAPE_ONLY}"
        light = 2 * run.measured("line") / (run.grid.cell * run.grid.columns)
    else:
        times, label = run.times.numpy(), line.label
        states = run.snapshots[:, 0].double().numpy()
        light = np.array(
            [column_light(one, run.temperature(place), line).mean() for place, one in enumerate(states)], dtype=float
        )
    if relative_to is None:
        return LightCurve(times, light, label)
    if not times[0] <= relative_to <= times[-1]:
        raise InputError(f"the run goes from t = {times[0]:g} to {times[-1]:g}, so it has no light at {relative_to:g}.")
    place = int(np.abs(times - relative_to).argmin())
    if not light[place] > 0:
        raise InputError(f"nothing shines at t = {times[place]:g}, so nothing is relative to it. Give a later time.")
    return LightCurve(times, light / light[place], f"{label}, relative to t = {times[place]:g}")
