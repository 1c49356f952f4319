"""The eigenvalue of a shear layer, and how near a simulation comes to it."""

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from attar.core.errors import InputError
from attar.plasma.growth import (
    displacement,
    growth_rate,
    layer_growth,
    phase_speed,
    sheet_growth,
    simulated_growth,
    tanh_layer,
    with_mode,
)
from attar.plasma.kelvin_helmholtz import KelvinHelmholtz

GOLDEN = load_file(Path(__file__).parent / "golden" / "khi_eigenvalue.safetensors")
RATIOS = (1, 10, 100)


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_layer_grows_as_two_sided_shooting_says(ratio):
    assert layer_growth(ratio) == pytest.approx(GOLDEN[f"out.growth.ratio{ratio}"].item(), rel=1e-9)
    c = phase_speed(tanh_layer(ratio, 0.2, 0.02), -1, 1, math.pi)
    assert c == pytest.approx(complex(*GOLDEN[f"out.c.ratio{ratio}"]), rel=1e-9)


@pytest.mark.parametrize(("ratio", "rate"), [(1, 0.2807843529), (10, 0.1783927062), (100, 0.0928795711)])
def test_a_sampled_profile_grows_as_its_formula_does(ratio, rate):
    y = np.linspace(-1, 1, 4001)
    density, speed = tanh_layer(ratio, 0.2, 0.02)(y)
    assert growth_rate(density, speed, y, math.pi) == pytest.approx(rate, rel=2e-6)


@pytest.mark.parametrize("k", [0.4, 0.8, 1.1])
def test_a_broken_line_grows_as_rayleigh_found(k):
    half, fast = 0.5, 0.3  # U = ±fast outside |y| < half, a straight line inside; walls are far away
    y = np.union1d(np.linspace(-12, 12, 2401), np.linspace(-1, 1, 2001))
    speed = np.clip(y / half, -1, 1) * fast
    exact = fast / (2 * half) * math.sqrt(math.exp(-4 * k * half) - (1 - 2 * k * half) ** 2)
    assert growth_rate(np.ones_like(y), speed, y, k) == pytest.approx(exact, rel=1e-4)


def test_a_thin_layer_grows_like_a_sharp_interface():
    for ratio in (1, 10):
        thin = layer_growth(ratio, width=1e-4)
        assert thin == pytest.approx(sheet_growth(ratio, 0.2, math.pi), rel=0.01)
    golden = GOLDEN["out.growth_vortex_sheet.ratio100"].item()
    assert sheet_growth(100, 0.2, math.pi) == pytest.approx(golden)
    assert layer_growth(100) > 1.4 * golden  # a sharp interface is no measure there


def test_growth_goes_with_shear_and_does_not_mind_the_frame_or_the_unit_of_density():
    y = np.linspace(-1, 1, 2001)
    density, speed = tanh_layer(10, 0.2, 0.02)(y)
    rate = growth_rate(density, speed, y, math.pi)
    assert growth_rate(7 * density, speed + 3, y, math.pi) == pytest.approx(rate, rel=1e-8)
    assert growth_rate(density, 5 * speed, y, math.pi) == pytest.approx(5 * rate, rel=1e-8)
    assert growth_rate(density[::-1], speed[::-1], y, math.pi) == pytest.approx(rate, rel=1e-8)


def test_what_does_not_grow_has_no_rate():
    y = np.linspace(-1, 1, 801)
    assert growth_rate(1 + y**2, np.full_like(y, 0.4), y, 3.0) == 0
    assert layer_growth(1, k=1.3 / 0.02) == 0  # shorter than the layer is wide
    assert layer_growth(1, k=0.5 / 0.02) > 0


@pytest.mark.parametrize(
    "change",
    [
        {"density": np.zeros(9)},
        {"y": np.linspace(1, -1, 9)},
        {"k": 0.0},
        {"speed": np.full(9, np.nan)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_profiles_that_are_none_are_refused(change):
    given = {"density": np.ones(9), "speed": np.linspace(-1, 1, 9), "y": np.linspace(-1, 1, 9), "k": 1.0, **change}
    with pytest.raises(InputError):
        growth_rate(**given)


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_displacement_solves_its_equation(ratio):
    golden, profile = complex(*GOLDEN[f"out.c.ratio{ratio}"]), tanh_layer(ratio, 0.2, 0.02)
    y, xi = displacement(profile, -1, 1, math.pi, golden)
    assert xi[0] == xi[-1] == 0
    assert np.abs(xi).max() == pytest.approx(1)
    wanted = GOLDEN[f"out.xi.ratio{ratio}"] @ [1, 1j]  # 1 at y = 0
    there = np.linspace(-1, 1, 129)
    at_zero = np.interp(0, y, xi.real) + 1j * np.interp(0, y, xi.imag)
    found = (np.interp(there, y, xi.real) + 1j * np.interp(there, y, xi.imag)) / at_zero
    np.testing.assert_allclose(found, wanted, atol=2e-4)


# ---------------------------------------------------------------------------------------------------------- simulations


def test_a_mode_is_added_to_a_layer_of_no_momentum():
    layer = KelvinHelmholtz(cells=(24, 32), y_from=-1.0, y_to=1.0, density_ratio=10.0, layer=0.1, noise_speed=0.0)
    found, plain = with_mode(layer), layer.initial(torch.Generator()).numpy()
    assert np.abs(found[2] / found[0]).max() == pytest.approx(1e-6, rel=0.05)
    np.testing.assert_allclose(found.mean(axis=2), plain.mean(axis=2), atol=1e-9)
    assert np.abs(np.fft.rfft(found[2] - plain[2], axis=1)[:, 2:]).max() < 1e-9
    with pytest.raises(InputError, match="the frame is corona"):
        simulated_growth(KelvinHelmholtz(frame="corona"), between=(0.1, 0.2))
    with pytest.raises(InputError, match="no growing mode"):
        with_mode(KelvinHelmholtz(cells=(8, 8), layer=2.0, density_ratio=1.0))


def ratio_to_eigenvalue(density_ratio, cells):
    from attar.plasma.fused import advance

    layer = KelvinHelmholtz(
        cells=(cells, cells), y_from=-1.0, y_to=1.0, density_ratio=density_ratio, layer=0.02, noise_speed=0.0
    )
    rate = layer_growth(density_ratio)
    return simulated_growth(layer, between=(0.5 / rate, 2.5 / rate), by=advance).rate / rate


@pytest.mark.skipif(find_spec("numba") is None, reason="a simulation of this length needs Numba")
@pytest.mark.parametrize(("density_ratio", "least", "most"), [(10.0, 0.7, 0.85), (1.0, 0.5, 0.72)])
def test_a_simulation_nears_the_eigenvalue_as_its_cells_shrink(density_ratio, least, most):
    coarse, fine = (ratio_to_eigenvalue(density_ratio, cells) for cells in (32, 64))
    assert coarse < fine
    assert least < fine < most
