"""The line of a slab in LTE: what is exact, the order of the formal solution, and the symmetry of the Doppler shift."""

import math

import numpy as np
import pytest

from attar.core.errors import InputError
from attar.plasma.column import Column
from attar.plasma.slab import CENTRE, Slab, formal_solution, lower_level, opacity, planck


def slab(points=20, temperature=8000.0, hydrogen=1e16, velocity=0.0, depth=1e6):
    """A slab of one temperature, density and velocity."""
    ones = np.ones(points)
    return Column(np.linspace(0, depth, points), temperature * ones, hydrogen * ones, velocity * ones)


def thread(points):
    """A smooth thread whose temperature, density and velocity change along the line of sight."""
    place = np.linspace(-1, 1, points)
    heat = 7000 + 6000 * place**2
    return Column(1e6 * (place + 1), heat, 3e16 * np.exp(-2 * place**2), 6e3 * np.sin(2 * place))


@pytest.mark.parametrize("hydrogen", [1e12, 1e16, 1e19])
def test_a_slab_of_one_temperature_shows_planck_times_what_it_absorbs(hydrogen):
    column = slab(hydrogen=hydrogen)
    tau = opacity(column, Slab().wavelengths)[0] * column.depth[-1]
    exact = planck(column.temperature)[0] * -np.expm1(-tau)
    np.testing.assert_allclose(Slab().answer(column), exact, rtol=1e-13)


def test_what_falls_on_the_far_face_shines_through():
    column, behind = slab(hydrogen=1e15), 3e-8
    tau = opacity(column, Slab().wavelengths)[0] * column.depth[-1]
    dark = Slab().answer(column)
    np.testing.assert_allclose(Slab(behind=behind).answer(column), dark + behind * np.exp(-tau), rtol=1e-13)


def test_a_source_that_is_linear_in_optical_depth_is_integrated_exactly():
    depth = np.linspace(0, 3, 7)
    found = formal_solution(depth, np.ones((7, 1)), 2 + 5 * depth)[0]
    assert found == pytest.approx(2 + 5 - (2 + 5 * 3 + 5) * math.exp(-3), rel=1e-14)


def test_the_formal_solution_is_of_second_order():
    truth = Slab().answer(thread(20_001))
    errors = [np.abs(Slab().answer(thread(points)) - truth).max() for points in (41, 81, 161, 321)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert (orders > 1.8).all(), orders
    assert (orders < 2.3).all(), orders


def test_the_profile_of_a_mirrored_velocity_is_the_mirrored_profile():
    column = thread(50)
    other = Column(column.depth, column.temperature, column.hydrogen, -column.velocity)
    np.testing.assert_allclose(Slab().answer(column), Slab().answer(other)[::-1], rtol=1e-9)


def test_gas_that_comes_nearer_is_seen_at_shorter_wavelengths():
    profile = Slab().answer(slab(velocity=2e4, hydrogen=1e14))
    wavelengths = Slab().wavelengths
    assert (profile * wavelengths).sum() / profile.sum() == pytest.approx(CENTRE * (1 - 2e4 / 2.99792458e8), abs=2e-4)


def test_no_more_ions_than_calcium_nuclei_and_none_where_it_is_hot():
    heat = np.array([5e3, 8e3, 2e4, 2.5e5])
    ions = lower_level(heat, np.full(4, 1e16)) / (2.19e-6 * 1e16)
    assert ((ions > 0) & (ions <= 1)).all()
    assert ions[0] > 0.5
    assert ions[3] < 1e-6
    assert (np.diff(ions) < 0).all()


def test_the_profile_is_normalised():
    column = slab(points=2)
    wavelengths = CENTRE + np.linspace(-1, 1, 200_001)
    absorbed = opacity(column, wavelengths)[0]
    per_hertz = absorbed.sum() * (wavelengths[1] - wavelengths[0]) * 1e-9 * 2.99792458e8 / (CENTRE * 1e-9) ** 2
    stimulated = -math.expm1(-6.62607015e-34 * 2.99792458e8 / (CENTRE * 1e-9 * 1.380649e-23 * 8000))
    strength = 2.654008e-6 * 0.682 * lower_level(column.temperature, column.hydrogen)[0] * stimulated
    assert per_hertz == pytest.approx(strength, rel=1e-3)


def test_a_depth_that_does_not_rise_is_refused():
    with pytest.raises(InputError, match="the depth of a column must rise"):
        formal_solution(np.array([0.0, 0.0, 1.0]), np.ones((3, 1)), np.ones(3))
