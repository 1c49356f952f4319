"""HLLC: the flux between two states, from three waves of which the middle one is the contact.

Toro, Spruce and Speares, Restoration of the contact surface in the HLL-Riemann solver, Shock Waves 4 (1994), with the
total pressure P + B_z²/2 for the pressure and B_z carried like a density. Wave speeds are those of Davis (1988).
"""

from attar.plasma.arrays import Array, module_of
from attar.plasma.states import GAMMA, fast_speed


def hllc(left: Array, right: Array) -> Array:
    """The flux of ρ, ρu, ρv, E and B_z across faces whose normal is along u.

    The flux is that of one state: the left or the right one in supersonic flow, otherwise the star state beside the
    contact on the side that the contact moves away from. A contact at rest so has exactly no flux but p_T.

    Args:
        left: Primitive states ρ, u, v, P, B_z on the left of each face, `[5, ...]`.
        right: Those on the right.
    """
    xp = module_of(left)
    slowest = xp.minimum(left[1] - fast_speed(left), right[1] - fast_speed(right))
    fastest = xp.maximum(left[1] + fast_speed(left), right[1] + fast_speed(right))
    into_left, into_right = left[0] * (slowest - left[1]), right[0] * (fastest - right[1])
    jump = _total_pressure(right) - _total_pressure(left)
    contact = (jump + into_left * left[1] - into_right * right[1]) / (into_left - into_right)
    leftward = contact >= 0
    side, wave = xp.where(leftward, left, right), xp.where(leftward, slowest, fastest)
    supersonic = xp.where(leftward, slowest >= 0, fastest <= 0)
    return _flux(side, wave, xp.where(supersonic, side[1], contact), supersonic)


def _flux(side: Array, wave: Array, speed: Array, supersonic: Array) -> Array:
    """The flux of a state behind a wave that moves with the contact; of the state itself in supersonic flow."""
    xp = module_of(side)
    density, u, v, pressure, field = side
    total = _total_pressure(side)
    energy = pressure / (GAMMA - 1) + 0.5 * density * (u * u + v * v) + 0.5 * field * field
    squeezed = xp.where(supersonic, xp.ones_like(u), (wave - u) / (wave - speed))
    star_total = total + density * (wave - u) * (speed - u)
    star_energy = ((wave - u) * energy - total * u + star_total * speed) / (wave - speed)
    total, energy = xp.where(supersonic, total, star_total), xp.where(supersonic, energy, star_energy)
    mass = density * squeezed * speed
    return xp.stack((mass, mass * speed + total, mass * v, (energy + total) * speed, field * squeezed * speed))


def _total_pressure(states: Array) -> Array:
    """p_T = P + B_z²/2."""
    return states[3] + 0.5 * states[4] * states[4]
