"""Distributions in the plane: their modes, shares and labels, and the exact denoiser and density of mixtures."""

import math

import pytest
import torch

from attar.core.errors import InputError
from attar.samplers.reading import TOYS as NAMES
from attar.samplers.reading import Reading, looks_like
from attar.samplers.toys import STD, TOYS, drawn, exact_denoiser, grid_modes, log_density, ring_modes


def points(n=40, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_reader_knows_the_same_names():
    assert tuple(TOYS) == NAMES
    assert looks_like("ring") and not looks_like("digits")


@pytest.mark.parametrize(("modes", "count"), [(ring_modes(), 8), (grid_modes(), 25), (ring_modes(3, 2.0), 3)])
def test_the_exact_denoiser_is_the_posterior_mean(modes, count):
    """By Tweedie: D = x + σ² ∇ log p_σ(x)."""
    assert len(modes) == count
    x = points().requires_grad_(True)
    for sigma in (0.03, 0.3, 3.0):
        (score,) = torch.autograd.grad(log_density(x, modes, sigma=sigma).sum(), x)
        denoised = exact_denoiser(x.detach(), torch.tensor(sigma, dtype=torch.float64), modes)
        torch.testing.assert_close(denoised, x.detach() + sigma**2 * score, rtol=1e-9, atol=1e-9)


def test_it_takes_a_level_for_each_point():
    x, sigma, modes = points(5), torch.tensor([0.01, 0.1, 1.0, 10.0, 100.0]), ring_modes()
    one_by_one = [exact_denoiser(row[None], level, modes)[0] for row, level in zip(x, sigma, strict=True)]
    torch.testing.assert_close(exact_denoiser(x, sigma, modes), torch.stack(one_by_one))


def test_without_noise_it_leaves_points_alone_and_with_much_it_gives_the_mean():
    x, modes = points(), ring_modes()
    torch.testing.assert_close(exact_denoiser(x, torch.tensor(1e-6), modes), x, rtol=0, atol=1e-6)
    torch.testing.assert_close(exact_denoiser(x, torch.tensor(1e5), modes), torch.zeros_like(x), rtol=0, atol=1e-4)


def test_the_density_of_a_mixture_integrates_to_one():
    axis = torch.linspace(-2, 2, 401, dtype=torch.float64)
    density = log_density(torch.cartesian_prod(axis, axis), ring_modes()).exp()
    assert density.sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_distribution_is_drawn_split_and_labelled(name):
    source = drawn(name, 1000)
    assert (len(source.train), len(source.test)) == (800, 200)
    assert source.shape == (2,) and source.things == "points" and not source.pictures
    assert source.law is not None and min(source.train.counts(len(source.classes))) > 0
    assert sum(source.class_shares) == pytest.approx(1)
    assert source.train.all().abs().max() < 4
    again, other = drawn(name, 1000), drawn(name, 1000, seed=1)
    assert again.fingerprint == source.fingerprint != other.fingerprint


@pytest.mark.parametrize(("name", "modes"), [("ring", ring_modes()), ("grid", grid_modes())])
def test_points_of_a_mixture_lie_around_the_mode_of_their_label(name, modes):
    source = drawn(name, 5000)
    train = source.train.all()
    gaps = train - modes[source.train.labels].float()
    assert torch.equal(source.law.modes, modes) and source.law.std == STD
    assert abs(gaps.std().item() / STD - 1) < 4 / math.sqrt(2 * gaps.numel())
    assert (torch.cdist(train, modes.float()).argmin(1) == source.train.labels).float().mean() > 0.99


def test_the_checkerboard_leaves_every_other_field_empty():
    values = drawn("checkerboard", 2000).train.all()
    across, up = ((values + 1) * 2).floor().long().T
    assert ((across + up) % 2 == 0).all() and values.abs().max() <= 1


def test_a_ring_of_the_reader_has_the_points_that_are_asked_for():
    source = Reading(points=50).load("ring")
    assert (len(source.train), len(source.test)) == (40, 10)
    assert "standard deviation" in Reading().describe(source)


def test_bad_words_and_numbers_are_refused():
    with pytest.raises(InputError, match=r"points is 19; it must be at least 20"):
        Reading(points=19)
    with pytest.raises(InputError, match=r"rings"):
        Reading().load("rings")
