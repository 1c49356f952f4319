"""What the fluid keeps to the last digits, exact solutions that it approaches, and derivatives through it."""

import itertools
import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from attar.plasma.cooling import Cooling
from attar.plasma.fluid import Fluid, advance, radiated_after
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz
from attar.plasma.losses import packaged
from attar.plasma.riemann import hllc
from attar.plasma.scheme import advanced, largest_step
from attar.plasma.states import GAMMA, Grid, conserved, primitive, swapped

GOLDEN = Path(__file__).parent / "golden"
FAST = find_spec("numba") is not None


def quickest():
    """The fused source where Numba is installed, else the plain one."""
    if not FAST:
        return advance
    from attar.plasma.fused import advance as fused

    return fused


def layer(**settings):
    """Conserved states of a shear layer as NumPy holds them, and their grid."""
    method = KelvinHelmholtz(**{"cells": (64, 64), **settings})
    return method.initial(torch.Generator().manual_seed(1)).numpy(), method.grid


def cut_losses(tau=100.0):
    return Cooling(packaged().cut(), tau)


# ------------------------------------------------------------------------------------------------------- Riemann fluxes


def test_fluxes_are_those_of_the_jump_conditions():
    golden = load_file(GOLDEN / "hllc_bz.safetensors")
    found = hllc(golden["in.left"].T, golden["in.right"].T).T
    largest = np.abs(golden["out.flux"]).max(axis=1, keepdims=True)
    assert np.abs((found - golden["out.flux"]) / largest).max() < 4e-15


def test_fluxes_of_torch_are_those_of_numpy():
    golden = load_file(GOLDEN / "hllc_bz.safetensors")
    left, right = golden["in.left"].T.copy(), golden["in.right"].T.copy()
    found = hllc(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    np.testing.assert_allclose(found, hllc(left, right), rtol=1e-14, atol=1e-15)


def test_a_flux_seen_in_a_mirror_turns_around():
    golden = load_file(GOLDEN / "hllc_bz.safetensors")
    left, right = golden["in.left"].T, golden["in.right"].T
    turned = np.array([1, -1, 1, 1, 1])[:, None]
    found = hllc(turned * right, turned * left)
    np.testing.assert_allclose(found, -turned * hllc(left, right), rtol=1e-13, atol=1e-14)


# ----------------------------------------------------------------------------------------------------------- what stays


@pytest.mark.parametrize("cooling", ["cut", "off"])
def test_mass_and_energy_stay(cooling):
    states, grid = layer()
    losses = cut_losses() if cooling == "cut" else None
    fluid = Fluid.of(torch.from_numpy(states.copy()))
    quickest()(fluid, 5.0 if FAST else 0.4, grid, 0.4, losses)
    assert fluid.steps >= (2000 if FAST else 150)
    assert fluid.raised == 0
    mass, energy = (total(states[place]) for place in (0, 3))
    assert abs(total(fluid.conserved[0].numpy()) / mass - 1) < 1e-15
    both = np.concatenate([fluid.conserved[3].numpy().ravel(), fluid.radiated.numpy().ravel()])
    assert abs(total(both) / energy - 1) < (2e-15 if losses else 1e-15)
    assert (total(fluid.radiated.numpy()) > 1e-3 * energy) == (losses is not None)


def test_the_plain_source_keeps_them_too():
    states, grid = layer(cells=(32, 24))
    fluid = Fluid.of(torch.from_numpy(states.copy()))
    advance(fluid, 0.5, grid, 0.4, cut_losses())
    both = np.concatenate([fluid.conserved[3].numpy().ravel(), fluid.radiated.numpy().ravel()])
    assert abs(total(fluid.conserved[0].numpy()) / total(states[0]) - 1) < 1e-15
    assert abs(total(both) / total(states[3]) - 1) < 2e-15


def total(values):
    return math.fsum(values.ravel().tolist())


@pytest.mark.parametrize("x_walls", ["periodic", "mirror"])
def test_contacts_at_rest_stay_to_the_last_bit(x_walls, rng):
    density = 10 ** rng.uniform(-1, 2, (9, 12))
    flat = np.ones_like(density)
    states = conserved(np.stack((density, 0 * flat, 0 * flat, flat / GAMMA, 4.9 * flat)))
    grid, now = Grid(9, 12, 0.1, 0.07, x_walls, "mirror"), states
    for _ in range(20):
        now = advanced(now, largest_step(now, grid, 0.4), grid)
    np.testing.assert_array_equal(now, states)


def test_x_and_y_are_treated_alike(rng):
    method = KelvinHelmholtz(cells=(24, 16))
    states = method.initial(torch.Generator().manual_seed(1)).numpy()
    states[1:3] += 0.05 * states[0] * rng.standard_normal((2, 16, 24))
    grid, other = method.grid, method.grid.transposed
    assert (other.x_walls, other.y_walls) == ("mirror", "periodic")
    fluids = [Fluid.of(torch.from_numpy(part.copy())) for part in (states, swapped(states))]
    for fluid, cells in zip(fluids, (grid, other), strict=True):
        advance(fluid, 0.2, cells, 0.4, cut_losses())
    first, second = (fluid.conserved.numpy() for fluid in fluids)
    assert fluids[0].steps > 20
    np.testing.assert_allclose(swapped(second), first, rtol=1e-13, atol=1e-13)


def test_a_uniform_flow_is_carried_unchanged():
    flat = np.ones((6, 7))
    states = conserved(np.stack([value * flat for value in (2.0, 0.3, -0.2, 0.6, 1.5)]))
    grid = Grid(6, 7, 0.1, 0.1, "periodic", "periodic")
    np.testing.assert_allclose(advanced(states, 0.01, grid), states, rtol=1e-15)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ----------------------------------------------------------------------------------------------------- exact solutions


def tube(left, right, cells, end, start=0.5):
    """Primitive states of a shock tube at a time, `[5, cells]`; three rows that all are the same."""
    x = (np.arange(cells) + 0.5) / cells
    sides = [np.array([rho, u, 0.0, p, b])[:, None, None] for rho, u, p, b in (left, right)]
    states = np.where(x < start, *sides) * np.ones((5, 3, cells))
    fluid = Fluid.of(torch.from_numpy(conserved(states)))
    quickest()(fluid, end, Grid(3, cells, 1 / cells, 1.0, "mirror", "periodic"), 0.4, None)
    found = primitive(fluid.conserved.numpy())
    assert np.ptp(found, axis=1).max() < 1e-12
    return found[:, 0]


def sod_averages(star, cells, time):
    """Averages over cells of the density in Sod's tube, from the integral of the exact solution."""
    _, speed, left, right, head, tail, contact, shock = star
    edges = (np.linspace(0, 1, cells + 1) - 0.5) / time
    sound = math.sqrt(GAMMA)

    def in_fan(xi):  # ∫ of (¾ - ξ/4c)³ from the head on, times c: γ = 5/3 makes the power a whole number
        part = 0.75 - xi / (4 * sound)
        return -sound * part**4

    inside = np.clip(edges, head, tail)
    mass = np.minimum(edges, head) + in_fan(inside) - in_fan(head)
    for density, low, high in ((left, tail, contact), (right, contact, shock), (0.125, shock, np.inf)):
        mass = mass + density * (np.clip(edges, low, high) - low)
    assert speed == pytest.approx(contact)
    return np.diff(mass) / np.diff(edges)


def test_the_exact_averages_are_right():
    golden = load_file(GOLDEN / "riemann_exact.safetensors")
    exact = sod_averages(golden["out.star.g5_3"], 100, 0.2)
    np.testing.assert_allclose(exact, golden["out.average_rho_u_p.g5_3.t0.2"][:, 0], rtol=1e-12)


def test_sod_is_approached_at_nearly_first_order():
    golden = load_file(GOLDEN / "riemann_exact.safetensors")
    sizes = (100, 200, 400, 800)
    errors = []
    for cells in sizes:
        found = tube((1, 0, 1, 0), (0.125, 0, 0.1, 0), cells, 0.2)
        errors.append(np.abs(found[0] - sod_averages(golden["out.star.g5_3"], cells, 0.2)).mean())
    order = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert 0.65 < order < 1.0
    assert all(later < before for before, later in itertools.pairwise(errors))
    np.testing.assert_allclose(errors, (4.23e-3, 2.43e-3, 1.26e-3, 8.8e-4), rtol=0.15)


def test_pressure_and_speed_of_sod_agree_as_well():
    golden = load_file(GOLDEN / "riemann_exact.safetensors")
    found = tube((1, 0, 1, 0), (0.125, 0, 0.1, 0), 100, 0.2)
    exact = golden["out.average_rho_u_p.g5_3.t0.2"].T
    assert np.abs(found[[0, 1, 3]] - exact).mean(axis=1).max() < 0.012


def test_a_magnetised_tube_has_the_states_between_its_waves():
    golden = load_file(GOLDEN / "riemann_exact.safetensors")
    total_pressure, speed, left, right, p_left, p_right, b_left, b_right, _, tail, shock = golden["out.star.bz"]
    cells, time = 400, 0.12
    found = tube(golden["in.bz.left"], golden["in.bz.right"], cells, time)
    xi = ((np.arange(cells) + 0.5) / cells - 0.5) / time
    for low, high, *wanted in ((tail, speed, left, p_left, b_left), (speed, shock, right, p_right, b_right)):
        middle = (xi > low + 0.35 * (high - low)) & (xi < low + 0.65 * (high - low))
        states = found[:, middle]
        np.testing.assert_allclose(states[[0, 3, 4]].mean(axis=1), wanted, rtol=4e-3)
        np.testing.assert_allclose(states[1], speed, rtol=4e-3)
        np.testing.assert_allclose(states[3] + states[4] ** 2 / 2, total_pressure, rtol=4e-3)


def test_a_magnetised_tube_approaches_the_exact_profile():
    golden = load_file(GOLDEN / "riemann_exact.safetensors")
    exact = golden["out.centre.bz.t0.12"].T
    errors = []
    for finer in (1, 4):
        found = tube(golden["in.bz.left"], golden["in.bz.right"], 100 * finer, 0.12)
        coarse = found.reshape(5, 100, finer).mean(axis=2)
        errors.append(np.abs(coarse[[0, 1, 3, 4]] - exact).mean(axis=1).max())
    assert errors[0] < 0.02
    assert errors[1] < 0.5 * errors[0]


# ---------------------------------------------------------------------------------------------------------- derivatives


def test_what_is_radiated_has_a_derivative_by_the_cooling_time():
    states, grid = layer(cells=(10, 8), layer=0.2)
    start, dt = torch.from_numpy(states), 0.02

    def radiated(tau):
        return radiated_after(start, 4, dt, grid, cut_losses(tau))

    tau = torch.tensor(100.0, dtype=torch.float64, requires_grad=True)
    found = radiated(tau)
    (slope,) = torch.autograd.grad(found, tau)
    h = 1e-3
    later, sooner = (radiated(torch.tensor(100 + step, dtype=torch.float64)) for step in (h, -h))
    difference = (later - sooner) / (2 * h)
    assert found.item() > 0
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)
    assert float(slope) < 0


def test_what_is_radiated_has_a_derivative_by_the_start():
    states, grid = layer(cells=(8, 8), layer=0.2)
    draws = torch.Generator().manual_seed(2)
    # Limiters are at a kink where a field is uniform.
    start = torch.from_numpy(states) * (1 + 0.01 * torch.rand(states.shape, dtype=torch.float64, generator=draws))
    dt = 0.02
    towards = torch.randn(states.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * start * 1e-2
    share = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(radiated_after(start + share * towards, 3, dt, grid, cut_losses()), share)
    h = 1e-5
    pair = [radiated_after(start + sign * h * towards, 3, dt, grid, cut_losses()) for sign in (1, -1)]
    assert float(slope) == pytest.approx(float(pair[0] - pair[1]) / (2 * h), rel=1e-5)


def test_the_functional_form_radiates_what_the_loop_books():
    states, grid = layer(cells=(12, 10))
    fluid = Fluid.of(torch.from_numpy(states.copy()))
    dt = 0.5 * largest_step(states, grid, 0.4)
    found = radiated_after(torch.from_numpy(states), 1, dt, grid, cut_losses())
    advance(fluid, dt, grid, 0.4, cut_losses())
    assert fluid.steps == 1
    assert float(found) == pytest.approx(float(fluid.radiated.sum()) * grid.cell, rel=1e-12)
