"""Distribution matching against closed forms, its limits, and the released code's numbers."""

import math

import pytest
import torch

from attar.samplers.denoisers import Denoiser, broadcast, guided
from attar.samplers.matching import critic_loss, matching_gradient, score_gradient, simulated, surrogate_loss
from attar.samplers.sampling import few_step
from attar.samplers.schedules import VP, few, karras
from attar.samplers.toys import exact_denoiser, log_density, ring_modes
from distribution_cases import GOLDEN, Preserving, Told, released
from sampler_cases import gaussian


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def three(dtype=torch.float64):
    return numbers(3, 6, 2, 4, 4, dtype=dtype)


# --------------------------------------------------------------------------------------------------------- the gradient


def kl_of_gaussians(mean, variance, other_mean, other_variance):
    return 0.5 * ((variance + (mean - other_mean) ** 2) / other_variance - 1 + torch.log(other_variance / variance))


@pytest.mark.parametrize("sigma", [0.1, 0.7, 5.0])
def test_of_gaussians_it_is_the_gradient_of_the_divergence(sigma):
    mean, std, scale, shift, draws = 0.4, 0.8, 1.3, -0.5, 100_000
    z, noise = numbers(2, draws, 1)
    x = scale * z + shift
    level = torch.tensor(sigma).double()
    noisy = x + level * noise
    real, fake = gaussian(mean, std)(noisy, level), gaussian(shift, scale)(noisy, level)
    one = torch.ones(()).double()
    found = score_gradient(x, real, fake, one, level, "uniform") / level  # (μ_fake - μ_real) / σ²

    knobs = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (shift, scale)]
    divergence = kl_of_gaussians(knobs[0], knobs[1] ** 2 + sigma**2, torch.tensor(mean), one * std**2 + sigma**2)
    expected = torch.autograd.grad(divergence, knobs)
    closed = (
        (shift - mean) / (std**2 + sigma**2),
        scale * (scale**2 - std**2) / ((scale**2 + sigma**2) * (std**2 + sigma**2)),
    )
    for values, slope, known in zip((found, found * z), expected, closed, strict=True):
        assert float(slope) == pytest.approx(known, rel=1e-6)
        error = float(values.std() / math.sqrt(draws))
        assert abs(float(values.mean()) - known) < 4 * error


def test_of_a_shifted_ring_it_is_the_finite_difference_of_the_divergence():
    modes, sigma, step = ring_modes(), 0.5, 5e-3
    line = torch.linspace(-5, 5, 201, dtype=torch.float64)
    grid, cell = torch.cartesian_prod(line, line), float(line[1] - line[0]) ** 2
    shift = torch.tensor([0.21, -0.13], dtype=torch.float64)
    teacher = log_density(grid, modes, sigma=sigma)

    def divergence(offset):
        mine = log_density(grid, modes + offset, sigma=sigma)
        return float((mine.exp() * (mine - teacher)).sum()) * cell

    level = torch.tensor(sigma).double()
    density = log_density(grid, modes + shift, sigma=sigma).exp()
    apart = exact_denoiser(grid, level, modes + shift) - exact_denoiser(grid, level, modes)
    found = (density[:, None] * apart).sum(dim=0) * cell / sigma**2
    for axis in range(2):
        along = step * torch.eye(2, dtype=torch.float64)[axis]
        near, far = (divergence(shift + n * along) - divergence(shift - n * along) for n in (1, 2))
        assert float(found[axis]) == pytest.approx((8 * near - far) / (12 * step), rel=1e-8)


def test_a_critic_that_equals_the_teacher_gives_zero():
    x, real, _ = three()
    assert (matching_gradient(x, real, real) == 0).all()


def test_scale_does_not_matter():
    whole = matching_gradient(*three(), floor=0.0)
    torch.testing.assert_close(matching_gradient(*(37.5 * one for one in three()), floor=0.0), whole)


def test_each_sample_has_its_own_scale():
    x, real, fake = three()
    found = matching_gradient(x, real, fake)
    for row in range(len(x)):
        own = (fake[row] - real[row]) / ((x[row] - real[row]).abs().mean() + 1e-6)
        torch.testing.assert_close(found[row], own, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-14), (torch.float32, 1e-6)])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_the_slope_of_the_surrogate_is_the_gradient_over_the_number_of_values(dtype, rtol, size):
    x, real, fake = three(dtype)
    x = (size * x).requires_grad_()
    gradient = matching_gradient(x, real, fake)
    loss = surrogate_loss(x, gradient)
    loss.backward()
    torch.testing.assert_close(x.grad, gradient / x.numel(), rtol=rtol, atol=0)
    torch.testing.assert_close(loss.detach(), 0.5 * gradient.square().mean())
    assert not gradient.requires_grad


def test_a_sample_that_is_the_teachers_prediction_stays_finite():
    x = torch.ones(2, 3)
    found = matching_gradient(x, x, torch.stack([torch.ones(3), torch.zeros(3)]))
    assert found.isfinite().all()
    assert (found[0] == 0).all()


def test_half_precision_is_left_behind():
    x, real, fake = (one.bfloat16() for one in three())
    found = matching_gradient(x, real, fake)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, matching_gradient(x.float(), real.float(), fake.float()))
    assert critic_loss(real, x, torch.ones(6)).dtype == torch.float32


# ----------------------------------------------------------------------------------------------------------- its limits


@pytest.mark.parametrize("weighting, weight", [("sds", 0.64), ("uniform", 1.0), ("fantasia3d", 0.6 * 0.64)])
def test_with_the_sample_itself_for_the_critic_it_is_sds(weighting, weight):
    x, real, noise = three()
    alpha, sigma = torch.full((6,), 0.6).double(), torch.full((6,), 0.8).double()
    noisy = 0.6 * x + 0.8 * noise
    predicted = (noisy - 0.6 * real) / 0.8
    found = score_gradient(x, real, x, alpha, sigma, weighting)
    torch.testing.assert_close(found, weight * (predicted - noise))
    ratio = matching_gradient(x, real, x, floor=0.0) / found
    torch.testing.assert_close(ratio, ratio.flatten(1)[:, 0].reshape(-1, 1, 1, 1).expand_as(ratio))


def test_with_a_critic_it_is_vsd():
    x, real, fake = three()
    noise, (alpha, sigma) = numbers(6, 2, 4, 4, seed=1), torch.tensor([[0.6], [0.8]]).double()
    noisy = 0.6 * x + 0.8 * noise
    teacher, critic = ((noisy - 0.6 * one) / 0.8 for one in (real, fake))
    torch.testing.assert_close(score_gradient(x, real, fake, alpha, sigma, "uniform"), teacher - critic)


# ---------------------------------------------------------------------------------------------------- the critic's loss


@pytest.mark.parametrize("weighting", ["edm", "epsilon", "none"])
def test_the_critics_loss_is_its_definition(weighting):
    found, clean, _ = three()
    sigma = torch.tensor([0.002, 0.1, 0.5, 1.0, 10.0, 80.0]).double()
    total = 0.0
    for row, level in enumerate(sigma.tolist()):
        weight = {"edm": level**-2 + 0.7**-2, "epsilon": level**-2, "none": 1.0}[weighting]
        total += weight * float((found[row] - clean[row]).square().mean()) / 6
    assert float(critic_loss(found, clean, sigma, 0.7, weighting)) == pytest.approx(total, rel=1e-12)


def test_the_epsilon_weighting_is_the_squared_error_of_predicted_noise():
    found, clean, noise = three()
    sigma = numbers(6).exp()
    noisy = clean + broadcast(sigma, clean) * noise
    predicted = (noisy - found) / broadcast(sigma, found)
    torch.testing.assert_close(
        critic_loss(found, clean, sigma, weighting="epsilon"), (predicted - noise).square().mean()
    )


# -------------------------------------------------------------------------------------------------- backward simulation


def four_levels():
    return few(karras(1000, 0.02, 20.0), 4)


def test_one_level_is_given_pure_noise():
    noise = numbers(5, 2)
    x, sigma = simulated(gaussian(0.2, 0.5), noise, karras(1, 0.02, 20.0), 0)
    torch.testing.assert_close((x, sigma), (20.0 * noise, torch.tensor(20.0).double()))


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_a_later_level_is_given_the_students_own_samples_under_noise(index):
    noise, start, *fresh = numbers(5, 5, 2)
    student, levels = gaussian(0.2, 0.5), four_levels()
    draws = iter(fresh)
    x, sigma = simulated(student, noise, levels, index, start=start, draw=lambda: next(draws))
    expected = levels[0] * noise
    if index:
        draws = iter(fresh)
        found = few_step(student, start, levels[:index], draw=lambda: next(draws))
        expected = found + levels[index] * noise
    torch.testing.assert_close(x, expected)
    assert float(sigma) == float(levels[index])


def test_no_gradient_goes_through_earlier_steps():
    scale = torch.tensor(0.5, requires_grad=True)
    seen = []

    def student(x, sigma, labels=None):
        seen.append(torch.is_grad_enabled())
        return scale * x

    noise = numbers(5, 2, dtype=torch.float32)
    x, sigma = simulated(student, noise, four_levels(), 3, start=noise, draw=lambda: noise)
    assert not x.requires_grad and seen == [False] * 3
    student(x, sigma).sum().backward()
    torch.testing.assert_close(scale.grad, x.sum())


def test_the_levels_fall():
    for count in (2, 3, 4, 6, 7, 8):
        assert (torch.diff(few(karras(1000, 0.002, 80.0), count)) < 0).all()


# ------------------------------------------------------------------------------------------ the released code's numbers


def golden(case):
    return {name.removeprefix(f"{case}."): value for name, value in GOLDEN.items() if name.startswith(f"{case}.")}


def test_the_gradient_is_the_released_one_but_for_the_floor():
    case = golden("gradient")
    x, real, fake = case["in.x"], case["out.pred_real"], case["out.pred_fake"]
    torch.testing.assert_close(matching_gradient(x, real, fake, floor=0.0), case["out.g"], rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(matching_gradient(x, real, fake), case["out.fastgen.g"], rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(surrogate_loss(x, case["out.g"]), case["out.loss"])
    x = x.clone().requires_grad_()
    surrogate_loss(x, case["out.g"]).backward()
    torch.testing.assert_close(x.grad, case["out.grad.x"], rtol=1e-12, atol=1e-16)


def test_where_the_released_code_gives_the_largest_number_the_floor_gives_fastgens():
    case = golden("gradient")
    found = matching_gradient(*(case[f"in.edge.{name}"] for name in ("x", "pred_real", "pred_fake")))
    torch.testing.assert_close(found, case["out.edge.fastgen.g"], rtol=1e-12, atol=0)
    assert found.abs().max() < 1e7 < case["out.edge.g"].abs().max()


def test_the_grid_is_the_released_one():
    case, grid = golden("gradient"), karras(1000, 0.002, 80.0).flip(0)
    torch.testing.assert_close(grid[::37], case["out.grid_every_37"], rtol=1e-12, atol=0)
    torch.testing.assert_close(grid[case["in.index"]], case["out.sigma"], rtol=1e-12, atol=0)


def test_the_critics_loss_is_the_released_one():
    case = golden("critic")
    given = case["out.x0_pred"], case["in.x"], case["out.sigma"]
    torch.testing.assert_close(critic_loss(*given, 0.5), case["out.loss"])
    torch.testing.assert_close(critic_loss(*given, weighting="none"), case["out.fastgen.loss"])


def test_from_the_network_on_everything_is_the_released_one():
    case = released("dmd2_gradient")
    teacher, critic = (Denoiser(Told(case, name), 0.5) for name in ("teacher", "critic"))
    noisy = case["in.x"] + broadcast(case["out.sigma"], case["in.x"]) * case["in.noise"]
    real, fake = (net(noisy, case["out.sigma"], case["in.labels"]) for net in (teacher, critic))
    torch.testing.assert_close(noisy, case["out.x_t"])
    torch.testing.assert_close(matching_gradient(case["in.x"], real, fake, 0.0), case["out.g"], rtol=1e-9, atol=1e-12)
    case = released("dmd2_critic")
    critic = Denoiser(Told(case, "critic"), 0.5)
    noisy = case["in.x"] + broadcast(case["out.sigma"], case["in.x"]) * case["in.noise"]
    loss = critic_loss(critic(noisy, case["out.sigma"], case["in.labels"]), case["in.x"], case["out.sigma"], 0.5)
    loss.backward()
    for name, parameter in critic.network.named_parameters():
        torch.testing.assert_close(parameter.grad, case[f"out.grad.{name}"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", ["0.0", "0.5", "1.0", "1.75", "8.0"])
def test_guidance_is_the_formula_at_any_scale(scale):
    case = released("dmd2_guidance")
    teacher = Preserving(Told(case, "teacher"), case["in.alphas_cumprod"])
    t = case["in.t"]
    alpha, sigma = (broadcast(one(t), case["in.x_t"]) for one in (teacher.schedule.alpha, teacher.schedule.sigma))
    x = case["in.x_t"] / alpha
    found = guided(teacher, float(scale), case["in.uncond"])(x, teacher.levels[t], case["in.cond"])
    epsilon = (case["in.x_t"] - alpha * found) / sigma
    torch.testing.assert_close(epsilon, case[f"out.eps_formula.w{scale}"], rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(found, case[f"out.fastgen.x0.w{scale}"], rtol=1e-8, atol=1e-9)
    if float(scale) >= 1:
        torch.testing.assert_close(epsilon, case[f"out.eps.w{scale}"], rtol=1e-8, atol=1e-9)


def test_a_variance_preserving_teacher_gives_the_released_gradient_and_critic_loss():
    case = released("dmd2_vp")
    teacher, critic = (Preserving(Told(case, name), case["in.alphas_cumprod"]) for name in ("teacher", "critic"))
    x, sigma = case["in.x"], teacher.levels[case["in.t"]]
    noisy = x + broadcast(sigma, x) * case["in.noise"]
    real = guided(teacher, 1.75, case["in.uncond"])(noisy, sigma, case["in.cond"])
    fake = critic(noisy, sigma, case["in.cond"])
    torch.testing.assert_close(real, case["out.pred_real"], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(matching_gradient(x, real, fake, 0.0), case["out.g"], rtol=1e-9, atol=1e-10)
    sigma = teacher.levels[case["in.critic.t"]]
    noisy = x + broadcast(sigma, x) * case["in.critic.noise"]
    loss = critic_loss(critic(noisy, sigma, case["in.cond"]), x, sigma, weighting="epsilon")
    torch.testing.assert_close(loss, case["out.critic.loss"], rtol=1e-9, atol=0)
    loss.backward()
    for name in "AB":
        grad = getattr(critic.network, name).grad
        torch.testing.assert_close(grad, case[f"out.critic.grad.{name}"], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7, 8])
def test_the_steps_of_the_few_step_sampler_are_the_first_released_ones(count):
    steps = released("dmd2_few_step")[f"out.steps.T1000_N{count}"]
    numbers = few(torch.arange(1000).flip(0).double(), count)
    torch.testing.assert_close(numbers.long(), steps[:count])
    fewer = few(torch.arange(1000).flip(0)[600:].double(), 4)
    torch.testing.assert_close(fewer.long(), released("dmd2_few_step")["out.steps.T400_N4"])


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_backward_simulation_is_the_released_one(index):
    case = released("dmd2_few_step")
    student = Preserving(Told(case, "student"), case["in.alphas_cumprod"])
    steps = case["out.steps.T1000_N4"]
    levels, draw = student.levels[steps], iter(case[f"in.renoise.k{index}"]).__next__
    x, sigma = simulated(student, case["in.noise"], levels, index, case["in.cond"], start=case["in.start"], draw=draw)
    alpha = student.schedule.alpha(steps[index])
    torch.testing.assert_close(alpha * x, case[f"out.student_input.k{index}"], rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(
        student(x, sigma, case["in.cond"]).detach(), case[f"out.image.k{index}"], rtol=1e-8, atol=1e-8
    )


def test_the_few_step_sampler_is_the_released_one():
    case = released("dmd2_few_step")
    student = Preserving(Told(case, "student"), case["in.alphas_cumprod"])
    steps = case["out.steps.T1000_N4"]
    for count in range(1, 5):
        draw = iter(case["in.sample.renoise"]).__next__
        found = few_step(student, case["in.noise"], student.levels[steps[:count]], case["in.cond"], draw=draw)
        torch.testing.assert_close(found, case[f"out.sample.x0_step{count - 1}"], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name, weighting", [("sds", "sds"), ("uniform", "uniform"), ("fantasia3d", "fantasia3d")])
def test_score_distillation_is_threestudios(name, weighting):
    """Its guidance is ε_y + ω (ε_y - ε_∅), one more than ours."""
    case = released("sds_weightings")
    found = distilled(case, case["in.t"], 101.0, weighting) / len(case["in.z"])
    torch.testing.assert_close(found, case[f"out.grad.{name}"], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("suffix", ["", "_t20"])
def test_score_distillation_is_latent_nerfs(suffix):
    case = released("sds_weightings")
    found = distilled(case, case[f"in.t.latent_nerf{suffix}"].expand(5), 100.0, "fantasia3d")
    torch.testing.assert_close(found, case[f"out.grad.latent_nerf{suffix}"], rtol=1e-8, atol=1e-9)


def distilled(case, t, scale, weighting):
    teacher, z = Preserving(Told(case, "net"), case["in.alphas_cumprod"]), case["in.z"]
    schedule = VP(case["in.alphas_cumprod"])
    x = z + broadcast(teacher.levels[t], z) * case["in.noise"]
    real = guided(teacher, scale, case["in.emb_null"])(x, teacher.levels[t], case["in.emb_target"])
    return score_gradient(z, real, z, schedule.alpha(t), schedule.sigma(t), weighting)
