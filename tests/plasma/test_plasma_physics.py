"""What mixing does to energy and to a warm line, with and without losses: the claims of the paper, at 64² cells."""

from importlib.util import find_spec

import numpy as np
import pytest

import attar
from attar.core.runtime import Engine
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz
from attar.plasma.mixing import mixing_averages, of_both
from attar.plasma.thin import light_curve

pytestmark = pytest.mark.skipif(find_spec("numba") is None, reason="16,600 steps at 64² need Numba")


def run(cooling):
    method = KelvinHelmholtz(cells=(64, 64), end=40.0, outputs=40, radiation=cooling, solver="numba")
    return attar.simulate(method, engine=Engine(device="cpu", quiet=True))


@pytest.fixture(scope="module")
def cooled():
    return run("cut")


@pytest.fixture(scope="module")
def adiabatic():
    return run("off")


@pytest.fixture(scope="module")
def facts(cooled, adiabatic):
    return of_both(cooled, adiabatic)


def test_losses_exceed_what_turbulence_heats(facts):
    assert facts["heating"] > 0
    assert facts["ratio"] >= 15


def test_heat_of_the_adiabatic_run_is_its_flow(adiabatic):
    first, last = (adiabatic.measured(name)[[0, -1]] for name in ("thermal", "kinetic"))
    field = np.diff(adiabatic.measured("magnetic")[[0, -1]])[0]
    assert np.diff(first)[0] + np.diff(last)[0] + field == pytest.approx(0, abs=1e-9)
    assert np.diff(last)[0] < 0


def test_a_warm_line_brightens_and_losses_dim_it(facts):
    assert facts["line"]["most"] >= 100 * facts["line"]["start"]
    assert facts["line"]["most"] <= facts["line"]["adiabatic"] / 5


def test_light_is_not_steady_under_losses(cooled):
    curve = light_curve(cooled)
    early = curve.light[(curve.times > 1) & (curve.times < 8)].max()
    between = curve.light[(curve.times > 9) & (curve.times < 21)].min()
    late = curve.light[curve.times > 25].max()
    assert between < 0.1 * early
    assert between < 0.1 * late


def test_mixed_gas_is_near_the_geometric_mean(adiabatic):
    for time in (10, 20, 30, 40):
        density, temperature = mixing_averages(adiabatic, time)
        assert 5 < density < 20
        assert 0.05 < temperature < 0.2


def test_a_part_of_the_heat_is_radiated_and_cool_gas_grows(cooled):
    share = (cooled.measured("radiated") / cooled.measured("thermal")[0])[-1]
    assert 0.02 < share < 0.2
    assert cooled.measured("raised")[-1] == 0
    assert cooled.measured("cool")[-1] > 0.95 * cooled.measured("cool")[0]


def test_energy_of_both_runs_adds_up(cooled, adiabatic):
    for made in (cooled, adiabatic):
        parts = sum(made.measured(name) for name in ("thermal", "kinetic", "magnetic", "radiated"))
        np.testing.assert_allclose(parts, parts[0], rtol=1e-11)
        np.testing.assert_allclose(made.measured("mass"), made.measured("mass")[0], rtol=1e-12)
