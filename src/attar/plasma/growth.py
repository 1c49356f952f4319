"""How fast a shear layer grows at first: the eigenvalue of its profile, and what a simulation makes of it.

A displacement ξ(y) exp(ik(x - ct)) of an incompressible layer between walls obeys

    d/dy [ρ(U - c)² ξ'] = k² ρ(U - c)² ξ,    ξ = 0 at both walls

(Drazin and Reid, Hydrodynamic Stability, 1981, with the density left in place), and grows at the rate σ = k Im c. A
field perpendicular to the plane has no part in it. The sharp interface (`sheet_growth`) is a poor stand-in for a layer
of finite width: where ρ varies a hundredfold it is off by half.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float

from attar.core.errors import InputError
from attar.plasma.fluid import Advance, Fluid, advance
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz
from attar.plasma.states import DENSITY, PRESSURE, X_SPEED, Y_SPEED, primitive
from attar.plasma.states import conserved as conserved_of

COARSE, FINE = 160, 4000
"""Elements of the mesh that finds all modes, and of the one that refines the fastest."""
AMPLITUDE = 1e-6
"""Largest speed across the layer at the start of a simulated mode."""
LEAST = 1e-3
"""A mode that grows more slowly than this share of k ΔU is not told from the continuous spectrum."""

Points = Float[np.ndarray, " point"]
Waves = Complex[np.ndarray, " point"]
Profile = Callable[[Points], tuple[Points, Points]]
"""Density and speed along x at heights y."""


def growth_rate(density: Points, speed: Points, y: Points, k: float) -> float:
    """σ of the fastest mode of a sampled profile between walls at its two ends; 0 where none grows.

    Args:
        density: ρ at the points.
        speed: U at the points.
        y: Where they are, ascending.
        k: Wavenumber along x.

    Raises:
        InputError: Points do not ascend or are too few, densities are not positive, or k is not.
    """
    from scipy.interpolate import PchipInterpolator

    try:
        density, speed, y = (np.asarray(values, dtype=float) for values in (density, speed, y))
    except (TypeError, ValueError):
        raise InputError("density, speed and y must be numbers.") from None
    if not (y.shape == density.shape == speed.shape) or y.ndim != 1 or len(y) < 4:
        raise InputError(
            f"density, speed and y have the shapes {density.shape}, {speed.shape} and {y.shape}. They must be lists of "
            "one length, 4 or more."
        )
    finite = all(np.isfinite(values).all() for values in (density, speed, y))
    if not (finite and (np.diff(y) > 0).all() and (density > 0).all() and 0 < k < math.inf):
        raise InputError("a profile needs ascending y, positive densities, finite speeds, and a positive k.")
    of_density, of_speed = PchipInterpolator(y, density), PchipInterpolator(y, speed)
    c = phase_speed(lambda points: (of_density(points), of_speed(points)), float(y[0]), float(y[-1]), k)
    return 0.0 if c is None else k * c.imag


def layer_growth(
    ratio: float, *, shear: float = 0.2, width: float = 0.02, k: float = math.pi, wall: float = 1.0
) -> float:
    """σ of a tanh layer with no momentum in all, between walls at ±wall.

    Args:
        ratio: Density above the layer, in units of that below.
        shear: ΔV.
        width: The profile is ½(1 + tanh(y/width)).
        k: Wavenumber along x.
        wall: Distance of the walls.

    Raises:
        InputError: One of them is not positive and finite; the shear may have any sign.
    """
    given = {"ratio": ratio, "width": width, "k": k, "wall": wall}
    for name, value in given.items():
        if not 0 < value < math.inf:
            raise InputError(f"{name} is {value:g}; it must be positive and finite.")
    if not math.isfinite(shear):
        raise InputError(f"shear is {shear:g}; it must be finite.")
    c = phase_speed(tanh_layer(ratio, shear, width), -wall, wall, k)
    return 0.0 if c is None else k * c.imag


def sheet_growth(ratio: float, shear: float, k: float) -> float:
    """σ = k ΔV √ρ₁ρ₂/(ρ₁ + ρ₂) of a sharp interface without walls."""
    return k * shear * math.sqrt(ratio) / (1 + ratio)


def tanh_layer(ratio: float, shear: float, width: float) -> Profile:
    """The profile of `KelvinHelmholtz`, in the frame without momentum."""
    lower = ratio / (ratio + 1) * shear

    def profile(y: Points) -> tuple[Points, Points]:
        upper = 0.5 * (1 + np.tanh(y / width))
        return 1 + (ratio - 1) * upper, lower - (lower + lower / ratio) * upper

    return profile


# ------------------------------------------------------------------------------------------------------ the eigenvalue


def phase_speed(profile: Profile, low: float, high: float, k: float) -> complex | None:
    """C of the fastest growing mode, or None where none grows.

    All modes of a coarse mesh are found at once; the fastest is then refined by shooting from wall to wall.

    Args:
        profile: Density and speed at heights.
        low: Lower wall.
        high: Upper wall.
        k: Wavenumber along x.
    """
    _, speed = profile(np.linspace(low, high, FINE))
    shear = float(np.ptp(speed))
    modes = _all_modes(profile, _mesh(profile, low, high, COARSE), k) if shear > 0 else np.zeros(1, dtype=complex)
    start = complex(modes[modes.imag.argmax()])
    if start.imag <= LEAST * shear:
        return None
    found = _refined(start, lambda c: _missed(profile, _mesh(profile, low, high, FINE), k, c))
    near = found is not None and abs(found - start) < 0.5 * start.imag and found.imag > LEAST * shear
    return found if near else None


def _mesh(profile: Profile, low: float, high: float, elements: int) -> Points:
    """Nodes between the walls, a third of them spread evenly and the rest where density and speed change."""
    y = np.linspace(low, high, 20 * FINE)
    travelled = [(y - low) / (high - low)]
    for values in profile(y):
        steps = np.concatenate(([0.0], np.abs(np.diff(values)).cumsum()))
        if steps[-1] > 0:
            travelled.append(steps / steps[-1])
    path = np.sum(travelled, axis=0)
    return np.interp(np.linspace(0, path[-1], elements + 1), path, y)


def _all_modes(profile: Profile, y: Points, k: float) -> Complex[np.ndarray, " mode"]:
    """Every c of linear elements: (A₀ + c A₁ + c² A₂) ξ = 0, as a matrix of twice the size."""
    from scipy.linalg import eigvals

    h = np.diff(y)
    density, speed = profile(0.5 * (y[1:] + y[:-1]))
    parts = []
    for weight in (density * speed**2, -2 * density * speed, density):
        own, beside = _tridiagonal(weight, h, k)
        parts.append(np.diag(own) + np.diag(beside, 1) + np.diag(beside, -1))
    constant, linear, square = parts
    count = len(square)
    below = np.linalg.solve(square, np.hstack((-constant, -linear)))
    return np.asarray(eigvals(np.vstack((np.hstack((np.zeros((count, count)), np.eye(count))), below))))


def _tridiagonal(weight: Any, h: Points, k: float) -> tuple[Any, Any]:
    """The matrix of ∫ w (ξ'η' + k²ξη) by linear elements between the walls: its diagonal, and the one beside."""
    own, beside = weight * (1 / h + k * k * h / 3), weight * (-1 / h + k * k * h / 6)
    return own[:-1] + own[1:], beside[1:-1]


def _missed(profile: Profile, y: Points, k: float, c: complex) -> complex:
    """ξ at the upper wall, of the solution that leaves the lower one with ρ(U - c)² ξ' = 1: zero for a mode.

    Fourth-order Runge-Kutta steps of a linear equation are matrices, whose product is taken in pairs.
    """
    h = np.diff(y)[:, None, None]

    def rates(points: Points) -> Complex[np.ndarray, "point 2 2"]:
        density, speed = profile(points)
        weight = density * (speed - c) ** 2
        made = np.zeros((len(points), 2, 2), dtype=complex)
        made[:, 0, 1], made[:, 1, 0] = 1 / weight, k * k * weight
        return made

    nodes, middle, one = rates(y), rates(0.5 * (y[1:] + y[:-1])), np.eye(2)
    first = nodes[:-1]
    second = middle @ (one + h / 2 * first)
    third = middle @ (one + h / 2 * second)
    fourth = nodes[1:] @ (one + h * third)
    steps = one + h / 6 * (first + 2 * second + 2 * third + fourth)
    while len(steps) > 1:
        steps = np.concatenate((steps, one[None])) if len(steps) % 2 else steps
        steps = steps[1::2] @ steps[::2]
    return complex(steps[0, 0, 1])


def _refined(start: complex, missed: Callable[[complex], complex]) -> complex | None:
    """A zero of a function near a start, by secants."""
    before, c = start, start * (1 + 1e-4)
    there, here = missed(before), missed(c)
    for _ in range(40):
        if here == there:
            break
        before, c = c, c - here * (c - before) / (here - there)
        if not np.isfinite(c):
            return None
        if abs(c - before) < 1e-13 * abs(c):
            return c
        there, here = here, missed(c)
    return c if abs(c - before) < 1e-9 * abs(c) else None


def displacement(profile: Profile, low: float, high: float, k: float, c: complex) -> tuple[Points, Waves]:
    """ξ(y) of a mode whose c is known, largest at 1, at nodes from wall to wall: by one step of inverse iteration.

    Args:
        profile: Density and speed at heights.
        low: Lower wall.
        high: Upper wall.
        k: Wavenumber along x.
        c: Phase speed.
    """
    from scipy.linalg import solve_banded

    y = _mesh(profile, low, high, FINE)
    h, (density, speed) = np.diff(y), profile(0.5 * (y[1:] + y[:-1]))
    weight = density * (speed - c) ** 2
    own, beside = _tridiagonal(weight, h, k)
    bands = np.zeros((3, len(own)), dtype=complex)
    bands[0, 1:], bands[1], bands[2, :-1] = beside, own, beside
    found = np.ones(len(own), dtype=complex)
    for _ in range(2):
        found = solve_banded((1, 1), bands, found)
        found /= found[np.abs(found).argmax()]
    return y, np.concatenate(([0], found, [0]))


# ---------------------------------------------------------------------------------------------------------- simulations


@dataclass(frozen=True)
class Growth:
    """A mode in a simulation."""

    times: Points
    """In L_0/c_s0."""
    amplitudes: Points
    """Of its speed across the layer."""
    rate: float
    """σ, fitted over the times."""


def simulated_growth(
    method: KelvinHelmholtz, *, between: tuple[float, float], moments: int = 21, by: Advance = advance
) -> Growth:
    """Grow the longest wave that fits into a domain from its eigenfunction, and fit its rate.

    The wave begins small. The limiter makes shorter waves of it, which grow several times faster and later disturb it,
    so that the rate is best fitted before σt = 3.

    Args:
        method: A tanh layer without momentum in all; its noise and losses are left out.
        between: Times between which the rate is fitted.
        moments: How many times are measured there.
        by: Which source of the scheme.

    Raises:
        InputError: The layer has momentum, no mode grows, or the times do not rise.
    """
    if moments < 2 or not 0 <= between[0] < between[1] < math.inf:
        raise InputError(
            f"a rate is fitted between two times that rise, at 2 moments or more, not {between}, {moments}."
        )
    if method.frame != "momentum":
        raise InputError(f"the frame is {method.frame}. Modes are known in the frame momentum alone.")
    grid, fluid = method.grid, Fluid.of(torch.from_numpy(with_mode(method)))
    times, amplitudes = np.linspace(*between, moments), []
    for time in times:
        by(fluid, float(time), grid, method.cfl, None)
        amplitudes.append(_amplitude(primitive(fluid.conserved.numpy())))
    found = np.array(amplitudes)
    return Growth(times, found, float(np.polyfit(times, np.log(found), 1)[0]))


def with_mode(method: KelvinHelmholtz) -> Float[np.ndarray, "5 row column"]:
    """Conserved states of a layer with its fastest mode of the longest wave: ξ, and what speeds, ρ and P follow."""
    grid = method.grid
    k = 2 * math.pi / (grid.columns * grid.dx)
    profile = tanh_layer(method.density_ratio, method.shear, method.layer)
    c = phase_speed(profile, method.y_from, method.y_to, k)
    if c is None:
        raise InputError("this layer has no growing mode. Make it thinner, or its domain longer.")
    y, xi = displacement(profile, method.y_from, method.y_to, k, c)
    density, speed = profile(y)
    across = 1j * k * (speed - c) * xi
    along = 1j / k * np.gradient(across, y)
    pressure = -density * ((speed - c) * along + across * np.gradient(speed, y) / (1j * k))
    parts = {DENSITY: -xi * np.gradient(density, y), X_SPEED: along, Y_SPEED: across, PRESSURE: pressure}

    states = primitive(dataclasses.replace(method, noise_speed=0.0).initial(torch.Generator()).numpy())
    rows = method.y_from + (np.arange(grid.rows) + 0.5) * grid.dy
    wave = np.exp(1j * k * (np.arange(grid.columns) + 0.5) * grid.dx)
    size = AMPLITUDE / np.abs(across).max()
    for place, part in parts.items():
        here = np.interp(rows, y, part.real) + 1j * np.interp(rows, y, part.imag)
        states[place] += size * np.outer(here, wave).real
    return np.asarray(conserved_of(states))


def _amplitude(states: Float[np.ndarray, "5 row column"]) -> float:
    """√ of the mean over y of ρ|v|² in the first wave along x."""
    wave = np.fft.rfft(states[Y_SPEED], axis=1)[:, 1]
    return float(np.sqrt((states[DENSITY].mean(axis=1) * np.abs(wave) ** 2).mean()))
