"""Models from elsewhere as denoisers: predictions, schedules, folders of diffusers, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.store import read_tensors
from attar.samplers.artefact import StoredSampler
from attar.samplers.denoisers import Denoiser, guided
from attar.samplers.foreign import ClassUNet, Exploding, Flow, ForeignSampler, Steps, Wrapped, sampler_of
from attar.samplers.learner import Student
from attar.samplers.networks import MLPWords, ResidualMLP
from attar.samplers.sampling import euler, few_step, heun
from attar.samplers.schedules import VP, Grid, from_x0
from attar.samplers.sources import Source
from attar.samplers.teaching import Work, teacher_named
from attar.samplers.toys import exact_denoiser

PREDICTED = ("epsilon", "v", "flow", "x0")
SCHEDULES = {"vp": VP.linear(), "flow": "flow", "exploding": "exploding"}


def ring() -> Any:
    """The exact denoiser of eight Gaussians on a circle."""
    angles = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    return exact_denoiser(torch.stack([angles.cos(), angles.sin()], dim=1), 0.05)


class Answering(nn.Module):
    """A network that predicts ε, v, flow or x0 as a denoiser has it, whose parameters it shares."""

    def __init__(self, denoiser: Any, prediction: str, schedule: Any) -> None:
        super().__init__()
        self.denoiser, self.prediction, self.schedule = denoiser, prediction, schedule

    def forward(self, x: Tensor, time: Tensor, labels: Any = None) -> Tensor:
        """The prediction for scaled samples."""
        alpha, sigma = (one.reshape(-1, *[1] * (x.ndim - 1)) for one in mixed(self.schedule, time.double()))
        level = (sigma / alpha).flatten()
        x0 = self.denoiser(x.double() / alpha, level, labels)
        return from_x0(x0, x, alpha, sigma, self.prediction)  # type: ignore[arg-type]


def mixed(schedule: Any, time: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ at a time; of numbered steps by the same interpolation, of ln σ."""
    if schedule == "flow":
        return 1 - time, time
    if schedule == "exploding":
        return torch.ones_like(time), time
    table = schedule.exploding().log()
    below = time.floor().long().clamp(0, len(table) - 2)
    level = (table[below] + (time - below) * (table[below + 1] - table[below])).exp()
    alpha = (1 + level**2).rsqrt()
    return alpha, level * alpha


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTED)
def test_every_prediction_of_one_denoiser_is_that_denoiser(prediction: str, name: str) -> None:
    exact, schedule = ring(), SCHEDULES[name]
    wrapped = Wrapped(Answering(exact, prediction, schedule), prediction, schedule)
    draw = torch.Generator().manual_seed(0)
    sigma = torch.logspace(-1.5, 1.5, 64, dtype=torch.float64)
    x = torch.randn(64, 2, generator=draw, dtype=torch.float64) * (1 + sigma[:, None] ** 2).sqrt()
    assert (wrapped(x, sigma) - exact(x, sigma)).abs().max() < 1e-10


def test_a_level_of_the_table_is_its_step_and_one_between_two_is_a_fraction_of_ln_sigma() -> None:
    schedule = VP.scaled_linear()
    table = schedule.exploding()
    alpha, sigma, time = Steps(schedule).place(table)
    assert torch.equal(time, torch.arange(1000, dtype=torch.float64))
    assert (alpha - schedule.alpha(torch.arange(1000))).abs().max() < 1e-14
    assert (sigma - schedule.sigma(torch.arange(1000))).abs().max() < 1e-14
    middle = (table[:-1] * table[1:]).sqrt()
    assert (Steps(schedule).place(middle)[2] - torch.arange(999) - 0.5).abs().max() < 1e-9
    assert torch.equal(Steps(schedule).place(table.float().double())[2], torch.arange(1000, dtype=torch.float64))
    assert Steps(schedule, whole=True).place(middle[:5] * 1.00001)[2].tolist() == [1, 2, 3, 4, 5]
    ends = Steps(schedule).place(torch.tensor([1e-6, 1e6], dtype=torch.float64))[2]
    assert ends.tolist() == [0, 999]


def test_flow_is_told_the_share_of_noise() -> None:
    alpha, sigma, time = Flow(1000).place(torch.tensor([0.25, 1.0, 3.0], dtype=torch.float64))
    assert sigma.tolist() == [0.2, 0.5, 0.75]
    assert (alpha + sigma).tolist() == [1, 1, 1]
    assert time.tolist() == [200, 500, 750]
    assert Exploding().place(torch.tensor([2.0]))[2].tolist() == [2]


def test_a_schedule_by_words_is_that_schedule() -> None:
    assert torch.equal(VP.named("linear").alphas_cumprod, VP.linear().alphas_cumprod)
    assert torch.equal(
        VP.named("scaled-linear:steps=20,low=0.001,high=0.3").alphas_cumprod, VP.scaled_linear(20, 0.001, 0.3).alphas_cumprod
    )
    for made in (VP.linear(), VP.linear(50), VP.scaled_linear(), VP.cosine(), VP.cosine(30)):
        assert torch.equal(VP.named(made.words).alphas_cumprod, made.alphas_cumprod)
    zero = VP.named("scaled-linear:zero_snr=1").alphas_cumprod
    assert zero[-1] == 2**-24 and (zero[0] - VP.scaled_linear().alphas_cumprod[0]).abs() < 1e-15
    assert VP.cosine().alphas_cumprod[-1] < 1e-4
    with pytest.raises(InputError, match="unknown schedule 'cubic'"):
        VP.named("cubic")
    with pytest.raises(InputError, match="unknown option; it takes steps, low and high"):
        VP.named("linear:width=3")
    with pytest.raises(InputError, match="no number"):
        VP.named("linear:steps=many")


def test_schedules_are_those_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    for name, mine in (("linear", VP.linear()), ("scaled_linear", VP.scaled_linear()), ("squaredcos_cap_v2", VP.cosine())):
        ends = {"scaled_linear": {"beta_start": 0.00085, "beta_end": 0.012}}.get(name, {})
        theirs = diffusers.DDIMScheduler(beta_schedule=name, **ends).alphas_cumprod
        assert (theirs - mine.alphas_cumprod).abs().max() < 1e-6
    theirs = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, rescale_betas_zero_snr=True
    )
    mine = VP.named("scaled-linear:zero_snr=1")
    assert (theirs.alphas_cumprod[:-1] - mine.alphas_cumprod[:-1]).abs().max() < 1e-6
    assert theirs.alphas_cumprod[-1] == mine.alphas_cumprod[-1]


def test_a_grid_with_a_schedule_by_words_has_its_levels() -> None:
    grid = Steps(VP.linear(50, 0.001, 0.2)).grid()
    assert grid.table_by == "linear:steps=50,low=0.001,high=0.2"
    assert torch.equal(grid.few(5), VP.linear(50, 0.001, 0.2).exploding()[[49, 39, 29, 19, 9]])
    assert Grid.from_json(grid.to_json()) == grid
    assert Steps(VP.scaled_linear()).grid().schedule == "scaled-linear"
    unnamed = Steps(VP(VP.linear().alphas_cumprod)).grid()
    assert unnamed.schedule == "karras" and unnamed.ends == (float(VP.linear().exploding()[0]), float(VP.linear().exploding()[-1]))
    assert Flow().grid().ends == (0.002, 80.0)


def test_samplers_take_a_wrapped_function() -> None:
    exact = ring()
    levels = Grid(sigma_min=0.01, sigma_max=5.0).levels(12)
    noise = torch.randn(32, 2, generator=torch.Generator().manual_seed(1))
    wanted = heun(exact, noise, levels)
    for prediction in PREDICTED:
        wrapped = Wrapped(Answering(exact, prediction, "flow").forward, prediction, "flow")
        assert (heun(wrapped, noise, levels) - wanted).abs().max() < 1e-9
        assert (euler(wrapped, noise, levels) - euler(exact, noise, levels)).abs().max() < 1e-9


def test_a_model_that_is_given_noise_alone_begins_from_it() -> None:
    seen = []

    def network(x: Tensor, time: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros_like(x)

    noise = torch.randn(3, 2, dtype=torch.float64)
    levels = VP.scaled_linear().exploding()[[399]]
    few_step(Wrapped(network, "x0", VP.scaled_linear(), pure=True), noise, levels)
    assert (seen[-1] - noise).abs().max() < 1e-12
    few_step(Wrapped(network, "x0", VP.scaled_linear()), noise, levels)
    assert (seen[-1] - VP.scaled_linear().sigma(torch.tensor(399)) * noise).abs().max() < 1e-12


def test_guidance_of_a_wrapped_model_is_that_of_its_noise() -> None:
    def network(x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        told = torch.zeros(len(x)) if labels is None else labels.double()
        return x.tanh() * (1 + told[:, None])

    schedule, x = VP.scaled_linear(), torch.randn(4, 3, dtype=torch.float64)
    labels, t = torch.tensor([0, 1, 2, 3]), torch.tensor([10, 300, 600, 999])
    alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
    found = guided(Wrapped(network, "epsilon", schedule), 1.75)(x / alpha, (sigma / alpha).flatten(), labels)
    free, told = network(x, t), network(x, t, labels)
    assert (found - (x - sigma * (free + 1.75 * (told - free))) / alpha).abs().max() < 1e-10


# ------------------------------------------------------------------------------------------------------ released numbers


def golden() -> dict[str, Tensor]:
    """Tensors of the released gradient for ε-predicting models, guided."""
    tensors, _ = read_tensors(Path(__file__).parent / "golden" / "dmd2_vp.safetensors")
    return tensors


def fixture_network(kept: dict[str, Tensor], who: str) -> Any:
    """F(x, t, y) = tanh(x A + t/1000 u + y V + a) B + b."""

    def network(x: Tensor, time: Tensor, told: Tensor | None = None) -> Tensor:
        weights = {name: kept[f"{who}.{name}"] for name in "AuVaBb"}
        inner = x.flatten(1) @ weights["A"] + (time / 1000)[:, None] * weights["u"] + weights["a"]
        inner = inner if told is None else inner + told @ weights["V"]
        return (inner.tanh() @ weights["B"] + weights["b"]).view_as(x)

    return network


def test_guided_teacher_and_critic_predict_what_the_released_code_predicts() -> None:
    kept = golden()
    schedule, t = VP(kept["in.alphas_cumprod"]), kept["in.t"]
    alpha, sigma = schedule.alpha(t).view(-1, 1, 1, 1), schedule.sigma(t).view(-1, 1, 1, 1)
    noisy = kept["in.x"] + sigma / alpha * kept["in.noise"]
    levels = (sigma / alpha).flatten()
    teacher, critic = (Wrapped(fixture_network(kept, who), "epsilon", schedule) for who in ("teacher", "critic"))
    real = guided(teacher, 1.75, kept["in.uncond"])(noisy, levels, kept["in.cond"])
    fake = critic(noisy, levels, kept["in.cond"])
    assert (real - kept["out.pred_real"]).abs().max() < 1e-9 * kept["out.pred_real"].abs().max()
    assert (fake - kept["out.pred_fake"]).abs().max() < 1e-9 * kept["out.pred_fake"].abs().max()


def test_the_weighted_error_in_x0_is_the_released_error_in_noise() -> None:
    kept = golden()
    schedule, t, noise = VP(kept["in.alphas_cumprod"]), kept["in.critic.t"], kept["in.critic.noise"]
    level = schedule.exploding()[t].view(-1, 1, 1, 1)
    critic = Wrapped(fixture_network(kept, "critic"), "epsilon", schedule)
    found = critic(kept["in.x"] + level * noise, level.flatten(), kept["in.cond"])
    loss = ((found - kept["in.x"]) / level).square().mean()
    assert (loss - kept["out.critic.loss"]).abs() < 1e-9 * kept["out.critic.loss"]
