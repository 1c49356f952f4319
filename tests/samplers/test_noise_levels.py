"""Karras' grid, variance-preserving schedules, and what networks may predict."""

from typing import get_args

import pytest
import torch

from attar.core.errors import InputError
from attar.samplers.schedules import VP, Grid, Prediction, few, from_x0, karras, to_x0


def test_karras_grid_is_its_formula_and_descends_between_its_ends():
    levels = karras(18, 0.002, 80.0)
    low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    by_hand = [(high + i / 17 * (low - high)) ** 7 for i in range(18)]
    torch.testing.assert_close(levels, torch.tensor(by_hand, dtype=torch.float64), rtol=1e-12, atol=0)
    assert levels[0].item() == pytest.approx(80) and levels[-1].item() == pytest.approx(0.002)
    assert (levels.diff() < 0).all()
    assert karras(1, 0.002, 80.0).tolist() == pytest.approx([80.0])


def test_rho_of_one_is_a_straight_line():
    torch.testing.assert_close(karras(5, 1.0, 5.0, 1.0), torch.tensor([5.0, 4, 3, 2, 1], dtype=torch.float64))


def test_few_levels_are_at_equal_distances_of_a_fine_grid():
    grid = Grid(sigma_min=0.01, sigma_max=5.0)
    fine = grid.levels(1000)
    torch.testing.assert_close(grid.few(4), fine[[0, 250, 500, 750]])
    torch.testing.assert_close(grid.few(1), fine[:1])
    with pytest.raises(InputError, match=r"4 noise levels are asked for, but there are 3. Give fewer."):
        few(fine[:3], 4)


@pytest.mark.parametrize(
    ("shape", "ends"),
    [((2,), (0.01, 5)), ((1, 8, 8), (0.02, 20)), ((3, 16, 16), (0.02, 20)), ((3, 32, 32), (0.002, 80))],
)
def test_ends_follow_the_shape_of_the_samples_unless_they_are_given(shape, ends):
    assert Grid().resolve(shape).ends == ends
    assert Grid(sigma_max=7).resolve(shape).ends == (ends[0], 7)


@pytest.mark.parametrize("low_high", [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0)])
def test_ends_in_the_wrong_order_are_refused(low_high):
    low, high = low_high
    with pytest.raises(InputError, match=r"give 0 < sigma_min < sigma_max"):
        Grid(sigma_min=low, sigma_max=high)


def test_an_end_that_passes_the_filled_in_one_is_refused():
    with pytest.raises(InputError, match=r"give 0 < sigma_min < sigma_max"):
        Grid(sigma_min=9.0).resolve((2,))


@pytest.mark.parametrize("schedule", [VP.linear(), VP.scaled_linear()])
def test_variance_is_preserved(schedule):
    t = torch.arange(len(schedule))
    total = schedule.alpha(t).square() + schedule.sigma(t).square()
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.exploding(), schedule.sigma(t) / schedule.alpha(t), rtol=1e-12, atol=0)
    assert (schedule.exploding().diff() > 0).all()


def test_schedules_are_those_of_diffusers():
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install '.[samplers]'")
    linear = diffusers.DDPMScheduler(beta_start=1e-4, beta_end=0.02).alphas_cumprod
    torch.testing.assert_close(VP.linear().alphas_cumprod, linear.double(), rtol=2e-4, atol=1e-7)
    stable = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scaled = diffusers.DDPMScheduler(**stable).alphas_cumprod
    torch.testing.assert_close(VP.scaled_linear().alphas_cumprod, scaled.double(), rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("schedule", ["linear", "scaled-linear"])
def test_a_variance_preserving_grid_takes_its_levels_from_the_table(schedule):
    grid = Grid(schedule=schedule).resolve((3, 32, 32))
    table = grid.table()
    assert grid.ends == (table[0].item(), table[-1].item())
    torch.testing.assert_close(grid.levels(4), table[[999, 749, 499, 249]])
    torch.testing.assert_close(grid.few(4), grid.levels(4))


@pytest.mark.parametrize("prediction", get_args(Prediction))
@pytest.mark.parametrize("preserving", [True, False])
def test_every_prediction_has_its_inverse(prediction, preserving):
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 7, 3, generator=generator, dtype=torch.float64)
    sigma = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)[:, None]
    alpha = (1 - sigma**2).sqrt() if preserving else torch.ones_like(sigma)
    x = alpha * x0 + sigma * noise
    told = from_x0(x0, x, alpha, sigma, prediction)
    torch.testing.assert_close(to_x0(told, x, alpha, sigma, prediction), x0, rtol=1e-12, atol=1e-12)
    by_definition = {"x0": x0, "epsilon": noise, "v": alpha * noise - sigma * x0, "flow": noise - x0}
    torch.testing.assert_close(told, by_definition[prediction], rtol=1e-10, atol=1e-10)


def test_velocity_is_as_in_the_literature():
    x0, noise = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha, sigma = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    x, v = alpha * x0 + sigma * noise, alpha * noise - sigma * x0
    torch.testing.assert_close(to_x0(v, x, alpha, sigma, "v"), alpha * x - sigma * v)
    torch.testing.assert_close(sigma * x + alpha * v, noise)
