"""Density, temperature and length in SI, and the cooling time that follows from them."""

import math

import pytest

from attar.core.errors import InputError
from attar.plasma.losses import packaged
from attar.plasma.units import BOLTZMANN, HYDROGEN, Units

PEAK = packaged().peak


def resolved(**given):
    return Units(**given).resolve(PEAK)


def test_a_corona_of_1e15_has_the_lengths_of_the_published_run():
    units = resolved(unit_density=1e15)
    assert units.tau == 100
    assert units.length == pytest.approx(1.72e6, rel=5e-3)
    assert units.time == pytest.approx(10.4, rel=5e-3)
    assert units.speed == pytest.approx(166e3, rel=5e-3)


def test_lengths_and_times_fall_with_density():
    dense, usual = resolved(unit_density=1e16), resolved(unit_density=1e15)
    assert usual.length / dense.length == pytest.approx(10)
    assert usual.time / dense.time == pytest.approx(10)
    assert usual.speed == dense.speed


@pytest.mark.parametrize("length", [1e3, 1.7e6, 4e8])
def test_length_and_cooling_time_follow_from_one_another(length):
    forth = resolved(unit_distance=length)
    back = resolved(cooling_time=forth.tau)
    assert back.length == pytest.approx(length)
    assert forth.length * forth.tau == pytest.approx(resolved().length * 100)
    assert forth.resolve(PEAK) == forth


def test_lengths_go_with_the_temperature_to_three_halves():
    assert resolved(unit_temperature=4e6).length / resolved().length == pytest.approx(8)


def test_the_cooling_time_is_energy_over_losses():
    units = resolved(unit_density=3e15, unit_temperature=2e6, unit_distance=5e5)
    held = units.energy  # of a volume, in J/m³, in units of which the corona holds 0.9
    radiated = units.unit_density**2 * PEAK * 1e-13  # W/m³
    assert units.tau == pytest.approx(held / radiated / units.time)
    thermal = 3 * units.unit_density * BOLTZMANN * units.unit_temperature  # 2nkT/(γ - 1)
    assert thermal / units.energy == pytest.approx(0.9)


def test_pressure_speed_and_mass_fit():
    units = resolved(unit_density=2e14, unit_temperature=3e6)
    assert units.energy == pytest.approx(units.unit_density * HYDROGEN * units.speed**2)
    assert units.speed == pytest.approx(math.sqrt(5 / 3 * 2 * BOLTZMANN * 3e6 / HYDROGEN))
    assert units.time == pytest.approx(units.length / units.speed)


def test_all_are_told():
    told = resolved().facts()
    assert told["length L_0"] == "1.723e+06 m"
    assert told["time L_0/c_s0"] == "10.39 s"
    assert told["cooling time τ"] == "100 L_0/c_s0"
    assert len(told) == 7


def test_a_length_that_does_not_fit_is_refused():
    with pytest.raises(InputError) as refused:
        resolved(unit_distance=1e6, cooling_time=100.0)
    assert str(refused.value) == (
        "--unit-distance 1e+06 and --cooling-time 100 do not fit: with this density and temperature a length of "
        "1e+06 m has the cooling time 172.3. Give one of them."
    )
    assert resolved(unit_distance=1e6, cooling_time=resolved(unit_distance=1e6).tau).length == 1e6


def test_units_that_lead_nowhere_are_refused():
    with pytest.raises(InputError) as refused:
        resolved(unit_density=1.0, unit_temperature=1e12)
    assert str(refused.value) == (
        "--unit-density 1 and --unit-temperature 1e+12 lead to L_0 in m = 1.723e+30, which must be between 1e-06 and "
        "1e+30."
    )
    with pytest.raises(InputError, match="lead to τ = "):
        resolved(unit_density=1e30, unit_distance=1e12)
    with pytest.raises(InputError):
        Units(unit_density=-1.0)
    with pytest.raises(InputError):
        Units(unit_temperature=float("nan"))
