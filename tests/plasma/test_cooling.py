"""Exact cooling against reference temperatures, an independent integral, and itself in many small steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from attar.plasma.cooling import Cooling
from attar.plasma.losses import LossTable, packaged
from attar.plasma.states import GAMMA, conserved, primitive, temperature

GOLDEN = load_file(Path(__file__).parent / "golden" / "cooling_townsend.safetensors")
CONSTANT = LossTable("constant", np.array([-6.0, 9.0]), np.array([1e-22, 1e-22]))


def cooled_to(table, density, heat, time, tau=100.0):
    return Cooling(table, tau).temperature_after(heat, GAMMA * (GAMMA - 1) * density * time / tau)


@pytest.mark.parametrize(("name", "table"), [("raw", packaged()), ("modified", packaged().cut())])
def test_temperatures_are_those_of_exact_integration(name, table):
    start = np.repeat(GOLDEN["in.T0"][:, None], len(GOLDEN["in.t"]), axis=1)
    found = cooled_to(table, GOLDEN["in.rho"][:, None], start, GOLDEN["in.t"])
    np.testing.assert_allclose(found, GOLDEN[f"out.T.{name}"], rtol=2e-6)
    assert (found <= start).all()


def test_constant_losses_take_the_same_from_any_temperature():
    start = np.repeat(GOLDEN["in.T0"][:, None], len(GOLDEN["in.t"]), axis=1)
    found = cooled_to(CONSTANT, GOLDEN["in.rho"][:, None], start, GOLDEN["in.t"])
    np.testing.assert_allclose(found, GOLDEN["out.T.constant"], rtol=1e-12, atol=2e-12)


def test_the_packaged_table_is_the_reference_one():
    table = packaged()
    np.testing.assert_array_equal(table.log_t, GOLDEN["in.log10_T"])
    np.testing.assert_allclose(table.normalised, GOLDEN["in.lambda.raw"], rtol=1e-14)
    np.testing.assert_allclose(table.cut().normalised, GOLDEN["in.lambda.modified"], rtol=1e-12)


@pytest.mark.parametrize(("density", "heat", "share"), [(1.0, 0.8, 0.5), (10.0, 0.1, 0.6), (100.0, 0.0099, 0.95)])
def test_a_box_cools_in_the_time_of_the_integral(density, heat, share):
    table, tau = packaged().cut(), 100.0
    cooling, end = Cooling(table, tau), share * heat
    time = integral_down(table, heat, end) * tau / (GAMMA * (GAMMA - 1) * density)
    box = box_of(density, heat)
    assert temperature(primitive(cooling.cooled(box, time)))[0, 0] == pytest.approx(end, rel=1e-5)
    for _ in range(50):
        box = cooling.cooled(box, time / 50)
    assert temperature(primitive(box))[0, 0] == pytest.approx(end, rel=1e-5)


def integral_down(table, heat, end):
    """∫ dT/Λ̂ by 100 Gauss points in log T on each interval of the table."""
    points, weights = np.polynomial.legendre.leggauss(100)
    low, high = np.log10(np.array([end, heat]) * 1e6)
    edges = np.concatenate(([low], table.log_t[(table.log_t > low) & (table.log_t < high)], [high]))
    half = np.diff(edges)[:, None] / 2
    kelvin = 10 ** (edges[:-1, None] + half * (1 + points))
    return float((half * weights * np.log(10) * kelvin / 1e6 / table.at(kelvin)).sum())


def box_of(density, heat):
    flat = np.ones((1, 1))
    return conserved(np.stack([part * flat for part in (density, 0.1, -0.2, density * heat / GAMMA, 1.5)]))


def test_steps_add_up():
    rng = np.random.default_rng(0)
    heat, passed = 10 ** rng.uniform(-2.2, 0.5, 400), 10 ** rng.uniform(-6, 1, 400)
    cooling = Cooling(packaged(), 100.0)
    whole = cooling.temperature_after(heat, passed)
    halves = cooling.temperature_after(cooling.temperature_after(heat, passed / 3), passed * 2 / 3)
    np.testing.assert_allclose(halves, whole, rtol=1e-9)


def test_nothing_cools_below_the_table_or_heats():
    heat = np.array([0.001, 10**3.96 / 1e6, 0.0092, 0.01, 1.0, 40.0])
    found = Cooling(packaged(), 1.0).temperature_after(heat, np.full(6, 1e9))
    assert found[0] == heat[0]
    assert (found[1:] >= 10**3.96 / 1e6 * (1 - 1e-12)).all()
    assert (found <= heat).all()
    np.testing.assert_array_equal(Cooling(packaged(), 1.0).temperature_after(heat, np.zeros(6)) <= heat, True)


def test_gas_above_the_table_loses_what_its_last_point_says():
    table = packaged()
    last = table.normalised[-1]
    assert Cooling(table, 1.0).temperature_after(np.array([50.0]), np.array([3.0]))[0] == pytest.approx(50 - 3 * last)


def test_the_rate_is_what_a_short_step_removes():
    rng = np.random.default_rng(1)
    heat, density = 10 ** rng.uniform(-1.95, 0.2, (4, 5)), 10 ** rng.uniform(0, 2, (4, 5))
    flat = np.ones((4, 5))
    states = conserved(np.stack((density, 0.1 * flat, 0 * flat, density * heat / GAMMA, flat)))
    cooling, dt = Cooling(packaged(), 100.0), 1e-7
    lost = (states - cooling.cooled(states, dt))[3] / dt
    np.testing.assert_allclose(lost, cooling.rate(states), rtol=2e-3, atol=1e-6)


def test_cooling_leaves_mass_momentum_and_field():
    states = box_of(10.0, 0.1)
    found = Cooling(packaged(), 1.0).cooled(states, 0.1)
    np.testing.assert_array_equal(found[[0, 1, 2, 4]], states[[0, 1, 2, 4]])
    assert found[3] < states[3]


def test_the_cut_spares_the_corona_and_keeps_the_peak():
    table = packaged()
    assert table.cut().peak == table.peak
    assert Cooling(table.cut(), 100.0).temperature_after(np.ones(1), np.ones(1))[0] == pytest.approx(1.0, abs=1e-3)
    assert Cooling(table, 100.0).temperature_after(np.ones(1), np.ones(1))[0] < 0.8
    np.testing.assert_array_equal(table.cut().losses[table.log_t < 5.5], table.losses[table.log_t < 5.5])


def test_torch_cools_as_numpy_does():
    rng = np.random.default_rng(2)
    heat, passed = 10 ** rng.uniform(-2.2, 0.5, (20, 30)), 10 ** rng.uniform(-6, 1, (20, 30))
    cooling = Cooling(packaged().cut(), 100.0)
    found = cooling.temperature_after(torch.from_numpy(heat), torch.from_numpy(passed)).numpy()
    np.testing.assert_allclose(found, cooling.temperature_after(heat, passed), rtol=1e-12)


def test_the_derivative_by_time_is_the_loss_at_the_end():
    cooling = Cooling(packaged(), 100.0)
    heat = torch.tensor([0.02, 0.1, 0.4, 0.9], dtype=torch.float64)
    passed = torch.tensor([0.002, 0.01, 0.05, 0.2], dtype=torch.float64, requires_grad=True)
    after = cooling.temperature_after(heat, passed)
    (slope,) = torch.autograd.grad(after.sum(), passed)
    losses = np.interp(after.detach().numpy(), cooling.nodes, cooling.losses)
    np.testing.assert_allclose(slope.numpy(), -losses, rtol=1e-9)


def test_the_derivative_by_the_start_is_the_ratio_of_the_losses():
    cooling = Cooling(packaged().cut(), 100.0)
    heat = torch.logspace(-2, 0, 30, dtype=torch.float64, requires_grad=True)
    after = cooling.temperature_after(heat, torch.full_like(heat, 1e-3))
    (slope,) = torch.autograd.grad(after.sum(), heat)
    ends = [np.interp(part.detach().numpy(), cooling.nodes, cooling.losses) for part in (after, heat)]
    np.testing.assert_allclose(slope.numpy(), ends[0] / ends[1], rtol=1e-8)
