"""HLLC: the flux between two states, from three waves of which the middle one is the contact.

Toro, Spruce and Speares, Restoration of the contact surface in the HLL-Riemann solver, Shock Waves 4 (1994), with the
total pressure P + B_z²/2 for the pressure and B_z carried like a density. Wave speeds are those of Davis (1988).
"""

from attar.plasma.arrays import Array, module_of
from attar.plasma.states import GAMMA, X_SPEED, Y_SPEED, fast_speed


def hllc(left: Array, right: Array, across: int = X_SPEED) -> Array:
    """The flux of ρ, ρu, ρv, E and B_z across faces.

    The flux is that of one state: the left or the right one in supersonic flow, otherwise the star state beside the
    contact on the side that the contact moves away from. A contact at rest so has exactly no flux but p_T.

    Args:
        left: Primitive states ρ, u, v, P, B_z on the left of each face, `[5, ...]`.
        right: Those on the right.
        across: Place of the velocity along the normal of the faces.
    """
    xp = module_of(left)
    left_speed, right_speed, u_left, u_right = fast_speed(left), fast_speed(right), left[across], right[across]
    slowest = xp.minimum(u_left - left_speed, u_right - right_speed)
    fastest = xp.maximum(u_left + left_speed, u_right + right_speed)
    into_left, into_right = left[0] * (slowest - u_left), right[0] * (fastest - u_right)
    jump = _total_pressure(right) - _total_pressure(left)
    contact = (jump + into_left * u_left - into_right * u_right) / (into_left - into_right)
    leftward = contact >= 0
    side, wave = xp.where(leftward, left, right), xp.where(leftward, slowest, fastest)
    supersonic = xp.where(leftward, slowest >= 0, fastest <= 0)
    return _flux(side, wave, xp.where(supersonic, side[across], contact), across)


def _flux(side: Array, wave: Array, speed: Array, across: int) -> Array:
    """The flux of the star state behind a wave that moves with the contact; with the speed of a state, that state's."""
    density, u, v, pressure, field = side[0], side[across], side[X_SPEED + Y_SPEED - across], side[3], side[4]
    total = _total_pressure(side)
    energy = pressure / (GAMMA - 1) + 0.5 * density * (u * u + v * v) + 0.5 * field * field
    relative, apart = wave - u, wave - speed
    star = total + density * relative * (speed - u)
    energy = (relative * energy - total * u + star * speed) / apart
    carried = relative / apart * speed
    mass = density * carried
    normal, tangent = mass * speed + star, mass * v
    momenta = (normal, tangent) if across == X_SPEED else (tangent, normal)
    return module_of(side).stack((mass, *momenta, (energy + star) * speed, field * carried))


def _total_pressure(states: Array) -> Array:
    """p_T = P + B_z²/2."""
    return states[3] + 0.5 * states[4] * states[4]
