"""EDM's preconditioning and loss against their algebra and the released code, and what a small training does."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import attar
from attar.core.errors import InputError
from attar.samplers.denoisers import Denoiser, scalings
from attar.samplers.edm import EDM, edm_loss
from attar.samplers.sources import Source
from attar.samplers.toys import drawn
from sampler_cases import denoiser_of, gaussian

HERE = Path(__file__).parent / "golden"
PRECOND = load_file(HERE / "edm_precond.safetensors")
LOSS = load_file(HERE / "edm_loss.safetensors")
SIGMAS = torch.logspace(-4, 2, 25, dtype=torch.float64)


class Zero(torch.nn.Module):
    """A network whose output is 0."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x, noise, labels=None):
        return torch.zeros_like(x)


# --------------------------------------------------------------------------------------------------- preconditioning


def test_without_noise_the_input_passes():
    skip, out, _ = scalings(torch.tensor([1e-9, 0.0], dtype=torch.float64), 0.5)
    torch.testing.assert_close(skip, torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(out, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("spread", [0.5, 0.752, 2.0])
def test_weights_of_the_network_are_one_at_every_level(spread):
    """λ c_out² = 1, and the input of the network has variance 1."""
    _, out, scale = scalings(SIGMAS, spread)
    weight = (SIGMAS**2 + spread**2) / (SIGMAS * spread) ** 2
    torch.testing.assert_close(weight * out**2, torch.ones_like(SIGMAS), rtol=1e-12, atol=0)
    torch.testing.assert_close(scale**2 * (spread**2 + SIGMAS**2), torch.ones_like(SIGMAS), rtol=1e-12, atol=0)


def test_the_targets_of_the_network_have_variance_one():
    """(x0 - c_skip x) / c_out of data with the assumed spread."""
    spread = 0.7
    skip, out, _ = scalings(SIGMAS, spread)
    variance = ((1 - skip) ** 2 * spread**2 + skip**2 * SIGMAS**2) / out**2
    torch.testing.assert_close(variance, torch.ones_like(SIGMAS), rtol=1e-9, atol=0)


def test_a_network_of_nothing_is_exact_for_centred_gaussian_data():
    x = torch.randn(25, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Denoiser(Zero(), 0.6)(x, SIGMAS)
    torch.testing.assert_close(found, gaussian(0.0, 0.6)(x, SIGMAS), rtol=1e-12, atol=0)


def test_the_boundary_form_is_exact_at_its_level_and_edms_at_zero():
    low, images = 0.02, PRECOND["in.x"]
    found = denoiser_of(PRECOND, boundary=low)(images, torch.tensor(low, dtype=torch.float64))
    assert torch.equal(found, images)
    for one, other in zip(scalings(SIGMAS, 0.5, 0.0), scalings(SIGMAS, 0.5), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("case", "spread", "labelled"), [("D", 0.5, True), ("D_no_label", 0.5, False), ("D_sigma_data_0752", 0.752, True)]
)
def test_denoisers_give_the_released_numbers(case, spread, labelled):
    labels = PRECOND["in.labels"].argmax(1) if labelled else None
    found = denoiser_of(PRECOND, sigma_data=spread)(PRECOND["in.x"], PRECOND["in.sigma"], labels)
    torch.testing.assert_close(found, PRECOND[f"out.{case}"], rtol=1e-11, atol=1e-12)


def test_a_student_is_a_copy_that_learns():
    teacher = denoiser_of(PRECOND).requires_grad_(False)
    student = teacher.student(0.002)
    assert student.boundary == 0.002 and all(one.requires_grad for one in student.parameters())
    pairs = zip(student.parameters(), teacher.parameters(), strict=True)
    assert all(torch.equal(one, other) and one is not other for one, other in pairs)


# ------------------------------------------------------------------------------------------------------------ the loss


def test_the_loss_gives_the_released_numbers():
    sigma = (-1.2 + 1.2 * LOSS["in.rnd_normal"].flatten()).exp()
    torch.testing.assert_close(sigma, LOSS["out.sigma"].flatten())
    labels = LOSS["in.labels"].argmax(1)
    found = edm_loss(denoiser_of(LOSS), LOSS["in.images"], sigma, LOSS["in.noise"], labels)
    torch.testing.assert_close(found, LOSS["out.loss_mean"], rtol=1e-11, atol=0)


def test_the_best_loss_of_gaussian_data_is_known():
    """λ(σ) E|D - x0|² = λ(σ) s²σ² / (s² + σ²) = 1 where the assumed spread is right."""
    generator, spread = torch.Generator().manual_seed(0), 0.6
    clean = spread * torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    for level in (0.05, 0.6, 5.0):
        sigma = torch.full((4000,), level, dtype=torch.float64)
        found = edm_loss(gaussian(0.0, spread), clean, sigma, noise, sigma_data=spread)
        assert abs(found.item() - 1) < 4 * (2 / 8000) ** 0.5


def test_the_gradient_is_that_of_the_numbers():
    denoiser = denoiser_of(LOSS)
    given = (LOSS["in.images"][:2], torch.tensor([0.1, 2.0], dtype=torch.float64), LOSS["in.noise"][:2])

    def loss(bias):
        def denoise(*noisy):
            return torch.func.functional_call(denoiser, {"network.b": bias}, noisy)

        return edm_loss(denoise, *given)

    assert torch.autograd.gradcheck(loss, denoiser.network.b.detach().clone().requires_grad_(True), fast_mode=True)


# ---------------------------------------------------------------------------------------------------------- a training


def gaussian_source(n=600, spread=0.6):
    values = spread * torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return Source.of_tensors(values[: n // 2], values[n // 2 :], name="gaussian")


def test_a_short_training_learns_the_ring(engine):
    method = EDM(network="mlp:width=64,depth=1", steps=400, batch=128, lr=5e-3, sampling_levels=12)
    sampler = attar.train(drawn("ring", 2000), method, engine=engine)
    found = sampler.sample(400, seed=0)
    radius = found.norm(dim=1)
    assert sampler.calls == 23 and sampler.classes == tuple("01234567")
    assert (abs(radius - 1) < 0.4).float().mean() > 0.8
    labels = sampler.labels_for(400)
    assert (torch.cdist(found, drawn("ring", 100).law.modes.float()).argmin(1) == labels).float().mean() > 0.5


def test_samples_without_labels_are_learned_too(engine):
    method = EDM(network="mlp:width=16,depth=1", steps=30, batch=64)
    sampler = attar.train(gaussian_source(), method, engine=engine)
    assert sampler.classes == () and sampler.labels_for(5) is None
    assert 0.3 < sampler.sample(500).std() < 0.9


def test_hidden_labels_are_seen_by_the_loss(engine):
    from attar.core.runtime import Runtime
    from attar.samplers.teaching import Work

    work, runtime = Work(drawn("ring", 100)), Runtime(engine, 0)
    method = EDM(network="mlp:width=16,depth=1", steps=3, batch=16, label_dropout=1.0).resolve(
        Work(work.source), runtime
    )
    state, seen = method.build(work, runtime), []
    state.student.network.register_forward_pre_hook(lambda module, given: seen.append(given[2]))
    method.step(state, runtime)
    assert (seen[0] == -1).all()


def test_half_life_becomes_a_decay(engine):
    from attar.core.runtime import Runtime
    from attar.samplers.teaching import Work

    method = EDM(average_half_life=1000, batch=100).resolve(Work(drawn("ring", 100)), Runtime(engine, 0))
    assert method.weights_average**10 == pytest.approx(0.5)
    assert method.resolve(Work(drawn("ring", 100)), Runtime(engine, 0)) == method


@pytest.mark.parametrize(
    ("data", "steps", "levels"), [("cifar10", 390_625, 18), ("ffhq", 781_250, 40), ("imagenet-64", 610_352, 256)]
)
def test_published_rows_see_as_many_images_as_the_released_runs(data, steps, levels):
    method = EDM.paper(data)
    assert (method.steps, method.sampling_levels, method.noise_std) == (steps, levels, 1.2)
    seen = method.steps * method.batch / 1e6
    assert seen == pytest.approx(2500 if data == "imagenet-64" else 200, rel=1e-3)


def test_rows_that_are_not_there_are_told():
    with pytest.raises(InputError, match=r"EDM has no cell of 'mnist'. Its cells are of cifar10"):
        EDM.paper("mnist")
