"""Score distillation: closed forms with Gaussian denoisers, limits, and golden numbers of released code."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attar.core.errors import InputError
from attar.samplers.schedules import VP, Grid
from attar.scenes.scores import (
    dds_gradient,
    drawn_steps,
    levels_at,
    masked,
    noise_predicted,
    sds_gradient,
    surrogate,
    vsd_gradient,
    weight,
)

FIXTURES = Path(os.environ.get("ATTAR_DATA", "")).parent / "fixtures" / "generators"
GOLDEN = Path(__file__).parent / "golden"
VARIANCE = 0.3
MEANS = torch.tensor([[0.0, 0.0], [1.0, -0.5], [-0.4, 2.0]], dtype=torch.float64)
"""Of the null condition, the source and the target."""
NULL, SOURCE, TARGET = 0, 1, 2


def gaussian(x, sigma, condition=None):
    """The denoiser of Gaussians of one variance, whose mean is that of the condition."""
    mean = MEANS[torch.full((len(x),), NULL) if condition is None else condition]
    level = sigma.reshape(-1, 1).square()
    return (VARIANCE * x + level * mean) / (VARIANCE + level)


def shifted(null):
    """The same with another mean of the null condition."""

    def denoise(x, sigma, condition=None):
        moved = 0.0 if condition is not None else torch.tensor(null, dtype=torch.float64)
        level = sigma.reshape(-1, 1).square()
        return gaussian(x, sigma, condition) + level * moved / (VARIANCE + level)

    return denoise


def draws(generator, count=16):
    z, source, noise = torch.randn(3, count, 2, dtype=torch.float64, generator=generator)
    sigma = (torch.randn(count, dtype=torch.float64, generator=generator) * 1.5).exp()
    return z, source, sigma, noise


def prompts(count=16):
    return torch.full((count,), TARGET), torch.full((count,), SOURCE)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_dds_of_gaussians_has_its_closed_form(generator, guidance):
    z, source, sigma, noise = draws(generator)
    found = dds_gradient(gaussian, z, source, sigma, noise, *prompts(), guidance=guidance)
    shift = guidance * (MEANS[TARGET] - MEANS[SOURCE])
    level = sigma[:, None]
    wanted = level * ((z - source) - shift) / (VARIANCE + level.square())
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_descent_on_dds_ends_at_the_source_moved_by_the_difference_of_the_prompts(generator, guidance):
    z, source, _, _ = draws(generator)
    levels = Grid(schedule="scaled-linear").levels(1000)
    for _ in range(600):
        sigma = levels_at(drawn_steps(16, generator), levels)
        noise = torch.randn(16, 2, dtype=torch.float64, generator=generator)
        z = z - 0.3 * dds_gradient(gaussian, z, source, sigma, noise, *prompts(), guidance=guidance)
    torch.testing.assert_close(z, source + guidance * (MEANS[TARGET] - MEANS[SOURCE]), rtol=0, atol=1e-12)


def test_dds_does_not_depend_on_the_mean_of_the_null_condition(generator):
    z, source, sigma, noise = draws(generator)
    one, other = (
        dds_gradient(shifted(null), z, source, sigma, noise, *prompts(), guidance=7.5)
        for null in ([0.0, 0.0], [5.0, -3.0])
    )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dds_is_nothing_bitwise_where_prompts_and_latents_are_the_same(generator, dtype):
    network = torch.nn.Sequential(torch.nn.Linear(2, 7), torch.nn.Tanh(), torch.nn.Linear(7, 2)).to(dtype)
    z, _, sigma, noise = (one.to(dtype) for one in draws(generator))

    def denoise(x, sigma, condition=None):
        return network(x) if condition is None else network(x * (1 + condition[:, None]))

    found = dds_gradient(denoise, z, z.clone(), sigma, noise, prompts()[0], prompts()[0])
    assert torch.equal(found, torch.zeros_like(z))


def test_the_drawn_noise_in_place_of_the_source_prediction_turns_dds_into_sds(generator):
    z, source, sigma, noise = draws(generator)
    difference = dds_gradient(gaussian, z, source, sigma, noise, *prompts())
    known = noise_predicted(guided_gaussian(7.5), source, sigma, noise, prompts()[1])
    found = sds_gradient(gaussian, z, sigma, noise, prompts()[0])
    torch.testing.assert_close(found, difference + known - noise, rtol=0, atol=1e-12)


def guided_gaussian(guidance):
    def denoise(x, sigma, condition):
        free = gaussian(x, sigma)
        return free + guidance * (gaussian(x, sigma, condition) - free)

    return denoise


def test_sds_is_nothing_on_average_at_the_guided_mean(generator):
    count, guidance = 40_000, 3.0
    mean = MEANS[NULL] + guidance * (MEANS[TARGET] - MEANS[NULL])
    sigma = torch.full((count,), 0.7, dtype=torch.float64)
    noise = torch.randn(count, 2, dtype=torch.float64, generator=generator)
    condition = torch.full((count,), TARGET)
    found = sds_gradient(gaussian, mean.expand(count, 2), sigma, noise, condition, guidance=guidance)
    error = found.std(dim=0) / count**0.5
    assert (found.mean(dim=0).abs() < 4 * error).all()
    assert (found.std(dim=0) > 0.1).all()


def test_vsd_is_nothing_where_the_second_model_is_the_teacher(generator):
    z, _, sigma, noise = draws(generator)
    found = vsd_gradient(gaussian, guided_gaussian(7.5), z, sigma, noise, prompts()[0], guidance=7.5)
    torch.testing.assert_close(found, torch.zeros_like(z), rtol=0, atol=1e-12)


def test_weights_are_those_of_the_variance_preserving_schedule():
    schedule = VP.scaled_linear()
    sigma, kept = schedule.exploding(), schedule.alphas_cumprod
    torch.testing.assert_close(weight(sigma, "sds"), 1 - kept, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(weight(sigma, "latent-nerf"), kept.sqrt() * (1 - kept), rtol=1e-12, atol=1e-14)
    assert (weight(sigma) == 1).all()


def test_the_surrogate_has_the_given_gradient_and_a_mask_of_zeros_moves_nothing(generator):
    z = torch.randn(3, 4, 5, 5, generator=generator)
    gradient = torch.randn(z.shape, generator=generator)
    mask = torch.zeros(3, 5, 5)
    mask[1:, :, 2:] = 1
    for optimizer in (torch.optim.SGD, torch.optim.Adam):
        moved = z.clone().requires_grad_()
        step = optimizer([moved], lr=0.1)
        surrogate(moved, masked(gradient, mask)).backward()
        assert torch.equal(moved.grad, masked(gradient, mask))
        step.step()
        assert torch.equal(moved[0], z[0]) and torch.equal(moved[:, :, :, :2], z[:, :, :, :2])
        assert not torch.isclose(moved[1:, :, :, 2:], z[1:, :, :, 2:]).any()


def test_half_precision_latents_are_compared_in_single_precision(generator):
    z, source, sigma, noise = draws(generator)
    assert dds_gradient(gaussian, z.half(), source.half(), sigma, noise, *prompts()).dtype == torch.float32


def test_steps_are_drawn_between_both_ends(generator):
    found = drawn_steps(200_000, generator, 50, 948)
    assert (int(found.min()), int(found.max())) == (50, 948)
    levels = Grid(schedule="scaled-linear").levels(1000)
    torch.testing.assert_close(levels_at(found[:5], levels), VP.scaled_linear().exploding()[found[:5]])


@pytest.mark.parametrize("ends", [(-1, 5), (10, 5), (0, 1000)])
def test_other_ends_are_refused(generator, ends):
    with pytest.raises(InputError, match="give 0 ≤ noise_from ≤ noise_to < 1000"):
        drawn_steps(3, generator, *ends)


# ---------------------------------------------------------------------------------------------------- golden numbers


def golden(name):
    """The numbers of a case: all of them where the fixtures are at hand, otherwise some."""
    path = FIXTURES / f"{name}.safetensors"
    return load_file(path if path.is_file() else GOLDEN / f"{name}.safetensors")


def tiny(case, prediction="epsilon"):
    """The recorded network in variance-exploding form, and the levels of the recorded steps."""
    t = case["in.t"]
    kept = case["in.alphas_cumprod"] if len(case["in.alphas_cumprod"]) == len(t) else case["in.alphas_cumprod"][t]
    alpha, sigma = kept.sqrt()[:, None], (1 - kept).sqrt()[:, None]

    def denoise(x, level, condition=None):
        flat = alpha * x.flatten(1)
        hidden = flat @ case["net.A"] + t.double()[:, None] / 1000 * case["net.u"] + case["net.a"]
        hidden = hidden if condition is None else hidden + condition @ case["net.V"]
        output = torch.tanh(hidden) @ case["net.B"] + case["net.b"]
        clean = alpha * flat - sigma * output if prediction == "v" else (flat - sigma * output) / alpha
        return clean.view_as(x)

    return denoise, (sigma / alpha)[:, 0]


DDS = {"w7.5": (7.5, "epsilon"), "w1": (1.0, "epsilon"), "v": (7.5, "v")}


@pytest.mark.parametrize("case", DDS)
def test_dds_is_that_of_the_released_notebook(case):
    guidance, prediction = DDS[case]
    there = golden("dds_loss")
    if f"out.grad.dds_{case}" not in there:
        pytest.skip("this case is not among the numbers at hand")
    denoise, sigma = tiny(there, prediction)
    z = there["in.z_target"].clone().requires_grad_()
    gradient = dds_gradient(
        denoise,
        z,
        there["in.z_source"],
        sigma,
        there["in.noise"],
        there["in.emb_target"],
        there["in.emb_source"],
        guidance=guidance,
        null=there["in.emb_null"],
    )
    loss = surrogate(z, gradient) / z[0, 0].numel()
    loss.backward()
    torch.testing.assert_close(z.grad, there[f"out.grad.dds_{case}"], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(loss.detach(), there[f"out.loss.dds_{case}"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mask", [False, True])
def test_sds_is_that_of_the_released_notebook(mask):
    there = golden("dds_loss")
    name = "sds_w100_mask" if mask else "sds_w7.5"
    if f"out.grad.{name}" not in there:
        pytest.skip("this case is not among the numbers at hand")
    denoise, sigma = tiny(there)
    found = sds_gradient(
        denoise,
        there["in.z_target"],
        sigma,
        there["in.noise"],
        there["in.emb_target"],
        guidance=100.0 if mask else 7.5,
        null=there["in.emb_null"],
    )
    found = found * there["in.mask"] if mask else found
    pixels = found[0, 0].numel()
    torch.testing.assert_close(found / pixels, there[f"out.grad.{name}"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("case", "weighting"), [("sds", "sds"), ("uniform", "uniform"), ("fantasia3d", "latent-nerf")])
def test_sds_is_that_of_threestudio_whose_guidance_is_one_more(case, weighting):
    there = golden("sds_weightings")
    if f"out.grad.{case}" not in there:
        pytest.skip("this case is not among the numbers at hand")
    denoise, sigma = tiny(there)
    z = there["in.z"]
    found = sds_gradient(
        denoise,
        z,
        sigma,
        there["in.noise"],
        there["in.emb_target"],
        guidance=101.0,
        null=there["in.emb_null"],
        weighting=weighting,
    )
    torch.testing.assert_close(found / len(z), there[f"out.grad.{case}"], rtol=1e-9, atol=1e-11)
