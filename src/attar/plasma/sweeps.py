"""Compiled sweeps over the rows of a fluid: all that happens to a row happens while it is in cache.

The scheme is that of `scheme`, `cooling` and `fluid`, to rounding. A sweep keeps four rows of primitive states, two of
reconstructed states and two of fluxes, so that nothing but states is read from and written to memory. A row is
computed alike wherever a sweep begins: the result does not depend on how rows are shared among threads.

Loops over the cells of a row are written so that LLVM turns them into vector instructions: without branches (both
sides of a choice are computed), and with table look-ups apart.
"""

import inspect
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
import numpy as np
from jaxtyping import Float, Int

from attar.plasma.states import GAMMA

MATHS = {"contract", "nsz", "arcp", "afn"}
"""Fast-math flags for the compiler. Sums keep their order, and NaN stays NaN."""
BITS = 41
"""Last bits of float64 in which temperatures of one bucket differ: there are 2,048 buckets in an octave."""
HEAT = GAMMA * (GAMMA - 1)
"""T over the thermal energy of a unit of mass."""
REACH = 0.5
"""Largest exponent for which (1 - e⁻ˣ)/x is computed by its series."""
Planes = Float[np.ndarray, "variable row column"]
Plane = Float[np.ndarray, "row column"]
Lines = Float[np.ndarray, "variable column"]
Indices = Int[np.ndarray, " column"]
Pair = tuple[float, float]
Walls = tuple[bool, bool]
Tables = tuple[Any, ...]


def _part(function: Callable[..., Any]) -> Any:
    """A function that becomes a part of those that call it."""
    return _compiled(function, forceinline=True)


def _kept(function: Callable[..., Any]) -> Any:
    """A function whose compiled form is kept for later processes, where there is a place to keep it."""
    made = _compiled(function)
    with suppress(RuntimeError):
        made.enable_caching()
    return made


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    """A function compiled at its first call, without the wrapper of a type checker."""
    return numba.njit(nogil=True, error_model="numpy", fastmath=MATHS, **options)(inspect.unwrap(function))


@_kept
def swept(
    old: Planes,
    new: Planes,
    second: bool,
    ratios: Pair,
    periodic: Walls,
    radiated: Plane,
    passed: float,
    floor: float,
    tables: Tables,
    start: int,
    stop: int,
) -> tuple[float, float, int]:
    """A stage of a step for the rows from `start` to before `stop`; the second also does what `finished` does.

    Args:
        old: Conserved states, `[5, rows, columns]`.
        new: Takes what becomes of them; in the second stage, the mean of that and what it holds.
        second: Whether this is the second stage.
        ratios: dt/dx and dt/dy.
        periodic: Whether walls along x and along y are periodic; they are mirrors otherwise.
        radiated: Takes what each cell loses.
        passed: γ(γ - 1)dt/τ of the cooling; 0 for none.
        floor: The smallest pressure.
        tables: Those of the losses.
        start: First row.
        stop: Row behind the last.

    Returns:
        As `finished`; nothing of it in the first stage.
    """
    columns = old.shape[2]
    states, upper, lower = np.empty((4, 5, columns + 4)), np.empty((2, 5, columns)), np.empty((5, columns))
    right, left = np.empty((5, columns + 2)), np.empty((5, columns + 2))
    across, beside = np.empty((2, 5, columns)), np.empty((5, columns + 1))
    fastest, raised = np.zeros((2, columns)), 0
    work, pieces = np.empty((6, columns)), np.empty(columns, np.int64)
    for j in range(start - 4, stop):
        _read(old, j + 2, periodic, states[(j + 2) & 3])
        if j >= start - 2:
            _sides(states[j & 3], states[(j + 1) & 3], states[(j + 2) & 3], lower, upper[(j + 1) & 1])
        if j >= start - 1:
            _fluxes(upper[j & 1], lower, 0, 2, 1, across[j & 1])
            if not periodic[1] and (j == -1 or j == old.shape[1] - 1):
                _close(across[j & 1], 2, 0, columns)
        if j >= start:
            _sides_along(states[j & 3], left, right)
            _fluxes(right, left, 1, 1, 2, beside)
            if not periodic[0]:
                _close(beside, 1, 0, 1)
                _close(beside, 1, columns, columns + 1)
            _update(old, new, j, second, ratios, beside, across[(j - 1) & 1], across[j & 1])
            if second:
                raised += _finish(new, radiated, j, passed, floor, tables, work, pieces, fastest)
    return _largest(fastest[0]), _largest(fastest[1]), raised


@_kept
def finished(
    states: Planes, radiated: Plane, passed: float, floor: float, tables: Tables, start: int, stop: int
) -> tuple[float, float, int]:
    """Pressures raised to the floor, cooling, and the fastest waves after that, in place.

    Args:
        states: Conserved states.
        radiated: Takes what each cell loses.
        passed: γ(γ - 1)dt/τ of the cooling; 0 for none.
        floor: The smallest pressure.
        tables: Those of the losses.
        start: First row.
        stop: Row behind the last.

    Returns:
        The largest |u| + c and |v| + c, NaN if any is; and how many pressures were raised.
    """
    columns = states.shape[2]
    fastest, raised = np.zeros((2, columns)), 0
    work, pieces = np.empty((6, columns)), np.empty(columns, np.int64)
    for j in range(start, stop):
        raised += _finish(states, radiated, j, passed, floor, tables, work, pieces, fastest)
    return _largest(fastest[0]), _largest(fastest[1]), raised


@_compiled
def _finish(
    states: Planes,
    radiated: Plane,
    j: int,
    passed: float,
    floor: float,
    tables: Tables,
    work: Lines,
    pieces: Indices,
    fastest: Lines,
) -> int:
    """What `finished` does, for a row."""
    raised = _raise(states, j, floor)
    if passed > 0:
        _cool(states, radiated, j, passed, tables, work, pieces)
    _waves(states, j, fastest)
    return raised


@_part
def _update(
    old: Planes, new: Planes, j: int, second: bool, ratios: Pair, beside: Lines, below: Lines, above: Lines
) -> None:
    """What becomes of a row, by the fluxes through the sides of its cells."""
    for variable in range(5):
        for i in range(old.shape[2]):
            gained = ratios[0] * (beside[variable, i + 1] - beside[variable, i])
            gained += ratios[1] * (above[variable, i] - below[variable, i])
            now = old[variable, j, i] - gained
            if second:
                now = 0.5 * new[variable, j, i] + 0.5 * now
            new[variable, j, i] = now


@_part
def _read(conserved: Planes, j: int, periodic: Walls, row: Lines) -> None:
    """Primitive states of a row, which may lie up to two beyond the walls, with two ghosts at each end."""
    _, rows, columns = conserved.shape
    turn, source = 1.0, j
    if j < 0 or j >= rows:
        source = j % rows
        if not periodic[1]:
            turn, source = -1.0, -1 - j if j < 0 else 2 * rows - 1 - j
    for i in range(columns):
        density, energy, field = conserved[0, source, i], conserved[3, source, i], conserved[4, source, i]
        inverse = 1 / density
        u, v = conserved[1, source, i] * inverse, conserved[2, source, i] * inverse
        row[0, i + 2] = density
        row[1, i + 2] = u
        row[2, i + 2] = turn * v
        row[3, i + 2] = (GAMMA - 1) * (energy - 0.5 * density * (u * u + v * v) - 0.5 * field * field)
        row[4, i + 2] = field
    for variable in range(5):
        line, turn = row[variable], -1.0 if variable == 1 else 1.0
        for ghost in range(2):
            if periodic[0]:
                line[ghost], line[columns + 2 + ghost] = line[columns + ghost], line[2 + ghost]
            else:
                line[ghost], line[columns + 2 + ghost] = turn * line[3 - ghost], turn * line[columns + 1 - ghost]


@_part
def _half_slope(before: float, after: float) -> float:
    """Half of the slope by the monotonised central limiter: of both and a quarter of their sum, that nearest to 0."""
    central = 0.25 * (before + after)
    low, high = before if before < after else after, before if before > after else after
    low, high = low if low < central else central, high if high > central else central
    return (0.0 if low < 0 else low) + (0.0 if high > 0 else high)


@_part
def _sides(below: Lines, here: Lines, above: Lines, lower: Lines, upper: Lines) -> None:
    """States at the lower and the upper side of the cells of a row."""
    for variable in range(5):
        for i in range(lower.shape[1]):
            middle = here[variable, i + 2]
            half = _half_slope(middle - below[variable, i + 2], above[variable, i + 2] - middle)
            lower[variable, i] = middle - half
            upper[variable, i] = middle + half


@_part
def _sides_along(row: Lines, left: Lines, right: Lines) -> None:
    """States at the left and the right side of the cells of a row and of one ghost at each end."""
    for variable in range(5):
        for i in range(left.shape[1]):
            middle = row[variable, i + 1]
            half = _half_slope(middle - row[variable, i], row[variable, i + 2] - middle)
            left[variable, i] = middle - half
            right[variable, i] = middle + half


@_part
def _fluxes(before: Lines, after: Lines, shift: int, normal: int, tangent: int, found: Lines) -> None:
    """Fluxes by HLLC between the states before and those after each face, as in `riemann`.

    Args:
        before: Primitive states.
        after: Primitive states, of which the first `shift` are left out.
        shift: How many.
        normal: Place of the velocity across the faces.
        tangent: Place of the other velocity.
        found: Takes the fluxes.
    """
    for i in range(found.shape[1]):
        density_1, u_1, v_1 = before[0, i], before[normal, i], before[tangent, i]
        pressure_1, field_1 = before[3, i], before[4, i]
        density_2, u_2, v_2 = after[0, i + shift], after[normal, i + shift], after[tangent, i + shift]
        pressure_2, field_2 = after[3, i + shift], after[4, i + shift]
        squared_1, squared_2 = field_1 * field_1, field_2 * field_2
        inverse = 1 / (density_1 * density_2)
        speed_1 = math.sqrt((GAMMA * pressure_1 + squared_1) * density_2 * inverse)
        speed_2 = math.sqrt((GAMMA * pressure_2 + squared_2) * density_1 * inverse)
        total_1, total_2 = pressure_1 + 0.5 * squared_1, pressure_2 + 0.5 * squared_2
        slow_1, slow_2, fast_1, fast_2 = u_1 - speed_1, u_2 - speed_2, u_1 + speed_1, u_2 + speed_2
        slowest = slow_1 if slow_1 < slow_2 else slow_2
        fastest = fast_1 if fast_1 > fast_2 else fast_2
        into_1, into_2 = density_1 * (slowest - u_1), density_2 * (fastest - u_2)
        contact = (total_2 - total_1 + into_1 * u_1 - into_2 * u_2) / (into_1 - into_2)
        first = contact >= 0
        density, u, v = density_1 if first else density_2, u_1 if first else u_2, v_1 if first else v_2
        pressure, field = pressure_1 if first else pressure_2, field_1 if first else field_2
        total, wave = total_1 if first else total_2, slowest if first else fastest
        # In supersonic flow the star state with the speed of the gas itself is the state.
        speed = u if (slowest if first else -fastest) >= 0 else contact
        relative = wave - u
        squeezed = 1 / (wave - speed)
        star = total + density * relative * (speed - u)
        energy = pressure * (1 / (GAMMA - 1)) + 0.5 * density * (u * u + v * v) + 0.5 * field * field
        energy = (relative * energy - total * u + star * speed) * squeezed
        flow = relative * squeezed * speed
        mass = density * flow
        found[0, i] = mass
        found[normal, i] = mass * speed + star
        found[tangent, i] = mass * v
        found[3, i] = (energy + star) * speed
        found[4, i] = field * flow


@_part
def _close(fluxes: Lines, normal: int, start: int, stop: int) -> None:
    """Let nothing but momentum through faces that lie in a mirror, not even what rounding leaves."""
    for variable in range(5):
        if variable != normal:
            for i in range(start, stop):
                fluxes[variable, i] = 0.0


@_part
def _raise(states: Planes, j: int, floor: float) -> int:
    """Raise the energy of cells whose pressure has fallen below the floor; return how many there are."""
    count = 0
    for i in range(states.shape[2]):
        density, x, y, energy, field = (
            states[0, j, i],
            states[1, j, i],
            states[2, j, i],
            states[3, j, i],
            states[4, j, i],
        )
        least = floor * (1 / (GAMMA - 1)) + 0.5 * (x * x + y * y) / density + 0.5 * field * field
        count += 1 if energy < least else 0
        states[3, j, i] = least if energy < least else energy
    return count


@_part
def _waves(states: Planes, j: int, fastest: Lines) -> None:
    """Keep the larger of the fastest waves so far and those of a row, column by column; once NaN, always NaN."""
    for i in range(states.shape[2]):
        density, x, y, energy, field = (
            states[0, j, i],
            states[1, j, i],
            states[2, j, i],
            states[3, j, i],
            states[4, j, i],
        )
        inverse, squared = 1 / density, field * field
        u, v = x * inverse, y * inverse
        pressure = (GAMMA - 1) * (energy - 0.5 * density * (u * u + v * v) - 0.5 * squared)
        speed = math.sqrt((GAMMA * pressure + squared) * inverse)
        u, v = abs(u) + speed, abs(v) + speed
        fastest[0, i] = u if u > fastest[0, i] or u != u else fastest[0, i]
        fastest[1, i] = v if v > fastest[1, i] or v != v else fastest[1, i]


@_part
def _largest(values: Float[np.ndarray, " column"]) -> float:
    """The maximum; NaN if any is."""
    found = 0.0
    for value in values:
        found = value if value > found or value != value else found
    return found


@_part
def _cool(states: Planes, radiated: Plane, j: int, passed: float, tables: Tables, work: Lines, pieces: Indices) -> None:
    """Cool a row as `cooling` does, and book what it loses.

    Almost all gas stays on the piece of the losses that it is on, where the fall of its temperature has a closed form.
    The rest goes the way by Y.
    """
    buckets, lowest, lows, highs, losses, slopes, _ = tables
    heat, inside, low, loss, slope, fall = work[0], work[1], work[2], work[3], work[4], work[5]
    coldest, hottest = lows[0], lows[-1]
    for i in range(states.shape[2]):
        density, x, y, energy, field = (
            states[0, j, i],
            states[1, j, i],
            states[2, j, i],
            states[3, j, i],
            states[4, j, i],
        )
        inverse = 1 / density
        found = HEAT * inverse * (energy - 0.5 * (x * x + y * y) * inverse - 0.5 * field * field)
        heat[i] = found
        found = found if found > coldest else coldest
        inside[i] = found if found < hottest else hottest
    bits = inside.view(np.int64)
    for i in range(states.shape[2]):
        piece = buckets[(bits[i] >> BITS) - lowest]
        while inside[i] >= highs[piece]:
            piece += 1
        pieces[i], low[i], slope[i] = piece, lows[piece], slopes[piece]
        loss[i] = losses[piece] + slopes[piece] * (inside[i] - lows[piece])
    leaving = 0
    for i in range(states.shape[2]):
        time = passed * states[0, j, i]
        share = slope[i] * time
        found = loss[i] * time * _decay(share) if heat[i] > coldest else 0.0
        stays = (heat[i] - found >= low[i] or heat[i] <= coldest) and abs(share) <= REACH
        fall[i] = found if stays else -1.0
        leaving += 0 if stays else 1
    if leaving:
        for i in range(states.shape[2]):
            if fall[i] < 0:
                fall[i] = _long_fall(heat[i], passed * states[0, j, i], pieces[i], tables)
    for i in range(states.shape[2]):
        energy = states[3, j, i]
        left = energy - states[0, j, i] * fall[i] * (1 / HEAT)
        states[3, j, i] = left
        radiated[j, i] += energy - left


@_part
def _decay(share: float) -> float:
    """(1 - e⁻ˣ)/x for |x| ≤ ½, by the series of x/2 and the doubling of the argument."""
    x = -0.5 * share
    series = 1 + x * (1 / 10) * (1 + x * (1 / 11))
    series = 1 + x * (1 / 8) * (1 + x * (1 / 9) * series)
    series = 1 + x * (1 / 6) * (1 + x * (1 / 7) * series)
    series = 1 + x * (1 / 4) * (1 + x * (1 / 5) * series)
    series = 1 + x * (1 / 2) * (1 + x * (1 / 3) * series)
    return series * (1 + 0.5 * x * series)


@_compiled
def _long_fall(heat: float, time: float, piece: int, tables: Tables) -> float:
    """By how much the temperature falls over a time, for gas that may leave its piece of the losses."""
    _, _, nodes, _, losses, slopes, elapsed = tables
    last = len(nodes) - 1
    if not heat > nodes[0]:
        return 0.0 * heat
    if piece == last:
        now = elapsed[last] + (heat - nodes[last]) / max(losses[last], 1e-300)
    else:
        now = elapsed[piece + 1] - _time_down(nodes[piece + 1] - heat, losses[piece + 1], slopes[piece])
    target = now - time
    if target > elapsed[last]:
        return time * losses[last]
    piece = min(piece, last - 1)
    while piece > 0 and elapsed[piece] > target:
        piece -= 1
    left = elapsed[piece + 1] - target
    share = slopes[piece] * left
    slower = _decay(share) if abs(share) <= REACH else -math.expm1(-share) / share
    return max(heat - max(nodes[piece + 1] - losses[piece + 1] * left * slower, nodes[0]), 0.0)


@_part
def _time_down(fall: float, high: float, slope: float) -> float:
    """∫ dT/Λ̂ over a fall of temperature from the upper end of a piece, where Λ̂ changes by a share."""
    share = slope * fall / high
    if abs(share) > 1 / 32:
        return fall / high * -math.log1p(-min(share, 1 - 1e-16)) / share
    series = 1 / 9 + share * (1 / 10)
    for term in (1 / 8, 1 / 7, 1 / 6, 1 / 5, 1 / 4, 1 / 3, 1 / 2, 1.0):
        series = term + share * series
    return fall / high * series
