"""Samplers against closed forms, their orders, the released code's numbers, and one another."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attar.samplers.denoisers import guided
from attar.samplers.sampling import Churn, ddim, ddim_step, euler, few_step, heun, noise_from
from attar.samplers.schedules import VP, from_x0, karras
from attar.samplers.toys import STD, exact_denoiser, gaussians, ring_modes
from sampler_cases import denoiser_of, flow_of_gaussian, gaussian

GOLDEN = Path(__file__).parent / "golden"
SAMPLER = load_file(GOLDEN / "edm_sampler.safetensors")
MULTISTEP = load_file(GOLDEN / "cm_multistep.safetensors")
CHURNS = {
    "churn8": Churn(churn=40, churn_min=0.05, churn_max=50, churn_noise=1.003),
    "churn5_small": Churn(churn=1.0, churn_noise=1.0),
}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slope(solver, counts=(32, 64, 128, 256)):
    """The order of a solver on Gaussian data: the slope of its log error against the log number of levels."""
    z = noise(200, 2)
    right = flow_of_gaussian(z, 80.0)
    errors = [(solver(gaussian(), z, karras(n, 5e-4, 80.0)) - right).abs().max().log().item() for n in counts]
    x = torch.tensor([math.log(n) for n in counts])
    x, y = x - x.mean(), torch.tensor(errors) - sum(errors) / len(errors)
    return -float((x * y).sum() / (x * x).sum())


def test_heun_is_of_second_order_and_euler_of_first():
    assert slope(heun) == pytest.approx(2, abs=0.2)
    assert slope(euler) == pytest.approx(1, abs=0.15)


def test_heun_ends_where_the_ode_of_gaussian_data_does():
    z = noise(50, 3, seed=1)
    found = heun(gaussian(), z, karras(400, 0.002, 80.0))
    torch.testing.assert_close(found, flow_of_gaussian(z, 80.0), rtol=0, atol=2e-4)


@pytest.mark.parametrize("case", ["det18", "det5", "det2"])
def test_heun_gives_the_released_numbers(case):
    steps = int(case.removeprefix("det"))
    found = heun(denoiser_of(SAMPLER), SAMPLER["in.z"], karras(steps, 0.002, 80.0), SAMPLER["in.labels"].argmax(1))
    torch.testing.assert_close(found, SAMPLER[f"out.x.{case}"], rtol=1e-10, atol=1e-11)


def test_other_ends_and_another_rho_give_the_released_numbers():
    levels = karras(4, 0.02, 20.0, 5)
    found = heun(denoiser_of(SAMPLER), SAMPLER["in.z"], levels, SAMPLER["in.labels"].argmax(1))
    torch.testing.assert_close(found, SAMPLER["out.x.range4"], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("case", [name for name in CHURNS if f"in.noise.{name}" in SAMPLER])
def test_churn_gives_the_released_numbers(case):
    given = iter(SAMPLER[f"in.noise.{case}"])
    levels = karras(len(SAMPLER[f"in.noise.{case}"]), 0.002, 80.0)
    how = {"churn": CHURNS[case], "draw": lambda: next(given)}
    found = heun(denoiser_of(SAMPLER), SAMPLER["in.z"], levels, SAMPLER["in.labels"].argmax(1), **how)
    torch.testing.assert_close(found, SAMPLER[f"out.x.{case}"], rtol=1e-10, atol=1e-11)
    assert next(given, None) is None


@pytest.mark.parametrize("case", ["one_step", "two_step", "three_step"])
def test_few_steps_give_the_released_numbers(case):
    """The released list of indices has a closing one, at which nothing is called."""
    denoiser = denoiser_of(MULTISTEP, name="student", boundary=0.002, times=1000.0)
    fresh = iter(MULTISTEP[f"in.noise.{case}"])
    levels = karras(40, 0.002, 80.0)[MULTISTEP[f"in.ts.{case}"][:-1]]
    torch.testing.assert_close(levels, MULTISTEP[f"out.levels.{case}"][:-1])
    how = {"draw": lambda: next(fresh), "floor": 0.002, "clamp": case == "three_step"}
    found = few_step(denoiser, next(fresh), levels, torch.arange(3), **how)
    # The released sampler adds noise once more at its closing level, which is σ_min up to the last digit.
    torch.testing.assert_close(found, MULTISTEP[f"out.x_unclamped.{case}"], rtol=0, atol=2e-9)


def test_one_step_is_one_call_at_the_highest_level():
    z, levels = noise(4, 2), karras(3, 0.01, 5.0)[:1]
    torch.testing.assert_close(few_step(gaussian(), z, levels), gaussian()(5 * z, torch.tensor(5.0)))


# ------------------------------------------------------------------------------------------------------- DDPM and DDIM


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_keeps_the_law_of_gaussian_data(eta):
    """Data of mean 0 and variance 1 have x_t ~ N(0, 1) at each t, and the step's own variance in closed form."""
    schedule, x = VP.linear(), noise(10)
    t, s = torch.tensor(700), torch.tensor(400)
    now, later = ((schedule.alpha(i), schedule.sigma(i)) for i in (t, s))
    clean = now[0] * x  # E[x0 | x_t] of such data
    mean = ddim_step(x, clean, now, later, eta)
    one = ddim_step(x, clean, now, later, eta, torch.ones(10, dtype=torch.float64))
    beta = later[1] ** 2 / now[1] ** 2 * (1 - now[0] ** 2 / later[0] ** 2)
    torch.testing.assert_close(one - mean, eta * beta.sqrt().expand(10))
    epsilon = from_x0(clean, x, *now, "epsilon")
    torch.testing.assert_close(mean, later[0] * clean + (later[1] ** 2 - eta**2 * beta).sqrt() * epsilon)


def test_unit_steps_at_eta_one_are_ancestral():
    """x_{t-1} = (x_t - β_t / √(1 - ᾱ_t) ε) / √(1 - β_t) + √β̃_t z, as in DDPM."""
    schedule = VP.linear()
    x, clean, z = noise(3, 6, seed=2)
    for t in (1, 10, 500, 999):
        now = schedule.alpha(torch.tensor(t)), schedule.sigma(torch.tensor(t))
        later = schedule.alpha(torch.tensor(t - 1)), schedule.sigma(torch.tensor(t - 1))
        beta = 1 - now[0] ** 2 / later[0] ** 2
        posterior = beta * later[1] ** 2 / now[1] ** 2
        epsilon = from_x0(clean, x, *now, "epsilon")
        ancestral = (x - beta / now[1] * epsilon) / (1 - beta).sqrt() + posterior.sqrt() * z
        torch.testing.assert_close(ddim_step(x, clean, now, later, 1.0, z), ancestral, rtol=1e-9, atol=1e-11)


def test_ddim_without_noise_is_euler_in_variance_exploding_form():
    schedule = VP.linear()
    steps = torch.tensor([999, 800, 555, 300, 20])
    levels = schedule.exploding()[steps]
    x = noise(20, 3, seed=3)
    alpha = schedule.alpha(steps[0])
    exploding = euler(gaussian(), x / alpha / levels[0], levels)
    torch.testing.assert_close(ddim(gaussian(), x, schedule, steps), exploding, rtol=1e-10, atol=1e-11)


def test_ddim_is_that_of_diffusers():
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install '.[samplers]'")
    scheduler = diffusers.DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(5)
    schedule, x = VP(scheduler.alphas_cumprod.double()), noise(6, 2, seed=4)
    ours = ddim(gaussian(), x, schedule, scheduler.timesteps)
    for t in scheduler.timesteps:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        epsilon = from_x0(gaussian()(x / alpha, sigma / alpha), x, alpha, sigma, "epsilon")
        x = scheduler.step(epsilon, t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-5, atol=1e-5)


def test_ancestral_sampling_of_gaussian_data_has_their_law():
    schedule, generator = VP.linear(), torch.Generator().manual_seed(5)
    z = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    steps = torch.arange(999, -1, -10)
    found = ddim(gaussian(0.3, 0.6), z, schedule, steps, eta=1.0, draw=noise_from(generator, z))
    assert abs(found.mean() - 0.3) < 4 * 0.6 / 4000**0.5 + 0.01
    assert found.std().item() == pytest.approx(0.6, rel=0.1)


# ------------------------------------------------------------------------------------------------------------ the ring


def test_heun_with_the_exact_denoiser_draws_the_ring():
    """Sliced W1 of 18 levels is that of as many fresh points, on average over several sets."""
    modes, generator = ring_modes(), torch.Generator().manual_seed(0)
    angles = math.pi * torch.arange(64, dtype=torch.float64) / 64
    directions = torch.stack([angles.cos(), angles.sin()])

    def fresh():
        return gaussians(modes).draw(2000, generator)[0]

    def apart(points):
        return ((points @ directions).sort(0).values - (fresh() @ directions).sort(0).values).abs().mean().item()

    made = [
        heun(lambda x, sigma, labels: exact_denoiser(x, sigma, modes), noise(2000, 2, seed=seed), karras(18, 0.01, 5.0))
        for seed in range(6)
    ]
    found, floor = sum(map(apart, made)) / 6, sum(apart(fresh()) for _ in range(6)) / 6
    assert found < 2 * floor < 0.08
    for points in made:
        nearest = torch.cdist(points, modes)
        assert (nearest.amin(1) < 4 * STD).float().mean() > 0.99
        assert (torch.bincount(nearest.argmin(1), minlength=8) > 2000 / 8 / 2).all()


def test_more_levels_of_heun_come_nearer_to_the_ring():
    modes, z = ring_modes(), noise(300, 2, seed=1)
    exact = heun(lambda x, sigma, labels: exact_denoiser(x, sigma, modes), z, karras(300, 0.01, 5.0))
    errors = [
        (heun(lambda x, sigma, labels: exact_denoiser(x, sigma, modes), z, karras(n, 0.01, 5.0)) - exact).abs().mean()
        for n in (9, 18, 72)
    ]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


# ------------------------------------------------------------------------------------------------------------ guidance


def by_label(x, sigma, labels=None):
    """A denoiser of three conditions, or of none."""
    shift = 0.0 if labels is None else labels.to(x)[:, None]
    return 0.5 * x + shift


def test_guidance_goes_from_no_condition_through_the_condition_and_beyond():
    x, sigma, labels = noise(3, 2), torch.tensor(1.0), torch.tensor([0, 1, 2])
    free, told = by_label(x, sigma), by_label(x, sigma, labels)
    torch.testing.assert_close(guided(by_label, 0)(x, sigma, labels), free)
    assert guided(by_label, 1) is by_label
    torch.testing.assert_close(guided(by_label, 4)(x, sigma, labels), free + 4 * (told - free))
    null = torch.tensor([1, 1, 1])
    torch.testing.assert_close(guided(by_label, 0, null)(x, sigma, labels), by_label(x, sigma, null))


def test_guidance_is_the_same_in_noise_and_in_clean_samples():
    x, labels, w = noise(3, 2), torch.tensor([0, 1, 2]), 7.5
    alpha, sigma = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    for prediction in ("epsilon", "v"):
        free, told = (from_x0(by_label(x, sigma, one), x, alpha, sigma, prediction) for one in (None, labels))
        ours = from_x0(guided(by_label, w)(x, sigma, labels), x, alpha, sigma, prediction)
        torch.testing.assert_close(ours, free + w * (told - free), rtol=1e-10, atol=1e-10)


# ----------------------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("solver", [heun, euler, few_step])
def test_samples_are_in_double_precision_and_ask_for_no_gradient(solver):
    z = torch.randn(3, 2, requires_grad=True)
    found = solver(gaussian(), z, karras(4, 0.01, 5.0)[:1])
    assert found.dtype == torch.float64 and not found.requires_grad


def test_churn_with_nothing_to_add_changes_nothing():
    z, levels = noise(5, 2), karras(6, 0.01, 5.0)
    nothing = Churn(churn=10, churn_min=6)
    how = {"churn": nothing, "draw": lambda: noise(5, 2, seed=9)}
    torch.testing.assert_close(heun(gaussian(), z, levels, **how), heun(gaussian(), z, levels))
    assert Churn(churn=1000).gamma(1.0, 18) == pytest.approx(2**0.5 - 1)
