"""Consistency models: exact at the boundary, the released numbers, the order of a step, and what they make."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from attar.core.errors import InputError
from attar.samplers.artefact import Sampler
from attar.samplers.consistency import Consistency, consistency_loss
from attar.samplers.consistency_training import ConsistencyTraining, decay_of, levels_at
from attar.samplers.denoisers import scalings
from attar.samplers.distances import level_weight
from attar.samplers.learner import same_dropout
from attar.samplers.sampling import euler_step, few_step, heun_step
from attar.samplers.schedules import Grid, karras
from few_steps import (
    EVERY_STEP,
    GOLDEN,
    bytes_of,
    gaussian_teacher,
    made,
    points,
    released,
    small_teacher,
    started,
)
from promises import dying
from sampler_cases import denoiser_of

SMALL = Consistency(steps=6, batch=8, grid_levels=6)
TRAINED = ConsistencyTraining(steps=6, batch=8, network="mlp:width=32,depth=1", last_levels=5)
SCALINGS = load_file(GOLDEN / "cm_scalings.safetensors")
SCHEDULE = load_file(GOLDEN / "cm_schedule.safetensors")
LOSSES, MULTISTEP = released("cm_losses"), released("cm_multistep")
ABSENT = "the released numbers are not at hand"


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes longer than training here."""
    monkeypatch.setattr(Sampler, "picture", lambda self: None)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------- the released numbers


def test_scalings_are_those_of_the_released_code():
    sigma = SCALINGS["in.sigma"]
    for form, boundary in (("boundary", 0.002), ("edm", None)):
        found = scalings(sigma, 0.5, boundary)
        for number, name in zip(found, ("c_skip", "c_out", "c_in"), strict=True):
            torch.testing.assert_close(number, SCALINGS[f"out.{form}.{name}"], rtol=1e-13, atol=0)


def test_the_consistency_function_is_that_of_the_released_code():
    denoiser = denoiser_of(SCALINGS, boundary=0.002, times=1000.0)
    found = denoiser(SCALINGS["in.x"], SCALINGS["in.sigma"], SCALINGS["in.labels"].argmax(1))
    torch.testing.assert_close(found, SCALINGS["out.f"], rtol=1e-11, atol=1e-12)
    assert torch.equal(found[0], SCALINGS["in.x"][0])


@pytest.mark.parametrize("kind", ["uniform", "snr", "snr+1", "truncated-snr", "karras"])
def test_weights_are_those_of_the_released_code(kind):
    found = level_weight(SCALINGS["in.sigma"], kind, 0.5)
    torch.testing.assert_close(found, SCALINGS[f"out.weight.{kind}"], rtol=1e-13, atol=0)


@pytest.mark.skipif(LOSSES is None, reason=ABSENT)
@pytest.mark.parametrize(
    ("case", "levels", "distance", "weight"),
    [
        ("cd18", 18, "l2", "uniform"),
        ("cd2", 2, "l2", "uniform"),
        ("cd18_l1", 18, "l1", "uniform"),
        ("cd18_karras", 18, "l2", "karras"),
        ("ct11", 11, "l2", "uniform"),
        ("ct3_trunc", 3, "l2", "truncated-snr"),
    ],
)
def test_losses_are_those_of_the_released_code(case, levels, distance, weight):
    student, target = (denoiser_of(LOSSES, name=name, boundary=0.002, times=1000.0) for name in ("student", "target"))
    teacher = denoiser_of(LOSSES, name="teacher", times=1000.0)
    grid, index = karras(levels, 0.002, 80.0), LOSSES[f"in.indices.{case}"]
    sigma, following = grid[index], grid[index + 1]
    torch.testing.assert_close(sigma, LOSSES[f"out.t.{case}"], rtol=1e-12, atol=0)
    torch.testing.assert_close(following, LOSSES[f"out.t_next.{case}"], rtol=1e-12, atol=0)
    clean, noise, labels = LOSSES["in.x0"], LOSSES["in.noise"], LOSSES["in.labels"].argmax(1)
    noisy = clean + sigma.view(-1, 1, 1, 1) * noise
    if case.startswith("cd"):
        nearer = heun_step(teacher, noisy, sigma, following, labels).detach()
    else:
        nearer = clean + following.view(-1, 1, 1, 1) * noise
    torch.testing.assert_close(nearer, LOSSES[f"out.x_hat.{case}"], rtol=1e-9, atol=1e-11)
    found = consistency_loss(student, target, noisy, nearer, sigma, following, labels, distance=distance)
    found = level_weight(sigma, weight, 0.5) * found
    torch.testing.assert_close(found, LOSSES[f"out.loss.{case}"], rtol=1e-9, atol=0)
    found.mean().backward()
    for letter in "AB":
        grad = getattr(student.network, letter).grad
        torch.testing.assert_close(grad, LOSSES[f"out.grad.{letter}.{case}"], rtol=1e-8, atol=1e-12)
    assert all(one.grad is None for network in (target, teacher) for one in network.parameters())


def test_the_schedules_of_training_are_those_of_the_released_code():
    steps = SCHEDULE["in.step"].tolist()
    levels = [levels_at(done, 800_000, 2, 200) for done in steps]
    assert levels == SCHEDULE["out.scales"].tolist()
    decays = torch.tensor([decay_of(one, 2, 0.95) for one in levels], dtype=torch.float64)
    torch.testing.assert_close(decays, SCHEDULE["out.target_ema"], rtol=1e-14, atol=0)


@pytest.mark.skipif(MULTISTEP is None, reason=ABSENT)
@pytest.mark.parametrize("case", ["two_step", "one_step", "three_step", "not_to_end"])
def test_several_calls_are_those_of_the_released_code(case):
    student = denoiser_of(MULTISTEP, name="student", boundary=0.002, times=1000.0)
    *calls, end = MULTISTEP[f"in.ts.{case}"].tolist()
    levels = karras(40, 0.002, 80.0)
    torch.testing.assert_close(levels[[*calls, end]], MULTISTEP[f"out.levels.{case}"], rtol=1e-12, atol=0)
    first, *fresh = MULTISTEP[f"in.noise.{case}"]
    draws = iter(fresh)
    clamp = case == "three_step"
    found = few_step(student, first, levels[calls], torch.arange(3), draw=lambda: next(draws), floor=0.002, clamp=clamp)
    # The released loop adds noise after its last call too, up to its closing index: none, if that is the last of all.
    spread = (levels[end] ** 2 - 0.002**2).clamp(min=0).sqrt()
    noisy = found + spread * next(draws)
    torch.testing.assert_close(noisy, MULTISTEP[f"out.x_unclamped.{case}"], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(noisy.clamp(-1, 1), MULTISTEP[f"out.x.{case}"], rtol=1e-9, atol=1e-10)


# ------------------------------------------------------------------------------------------------------------- theory


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_the_smallest_level_it_gives_its_input_exactly(dtype):
    student = small_teacher().denoiser.student(0.01)
    x = drawn(5, 2).to(dtype)
    assert torch.equal(student(x, torch.tensor(0.01, dtype=dtype), torch.zeros(5, dtype=torch.long)), x)


def test_euler_with_the_true_sample_is_less_of_the_same_noise():
    clean, noise = drawn(2, 6, 3)
    sigma, following = torch.linspace(1, 4, 6).double(), torch.linspace(0.1, 3, 6).double()
    noisy = clean + sigma[:, None] * noise
    found = euler_step(lambda *a: clean, noisy, sigma, following)
    torch.testing.assert_close(found, clean + following[:, None] * noise, rtol=0, atol=1e-14)


def consistent(spread, low):
    """f of a centred Gaussian: x √((s² + σ_min²) / (s² + σ²))."""

    def function(x, sigma, labels=None):
        return x * ((spread**2 + low**2) / (spread**2 + sigma**2)).sqrt()[:, None]

    return function


def test_of_a_gaussian_the_loss_vanishes_with_the_cube_of_the_step():
    spread, x = 0.7, drawn(50, 2)
    exact, teacher = consistent(spread, 0.01), gaussian_teacher(spread).denoiser
    sigma = torch.full((50,), 0.9, dtype=torch.float64)
    steps, gaps = [0.1 * 2**-power for power in range(5)], []
    for step in steps:
        following = sigma - step
        nearer = heun_step(teacher, x, sigma, following)
        gaps.append(consistency_loss(exact, exact, x, nearer, sigma, following, distance="l1").mean().log())
    logs = torch.tensor(steps).log().double()
    slope = float(torch.linalg.lstsq(torch.stack([logs, torch.ones(5)], 1).double(), torch.stack(gaps)).solution[0])
    assert slope == pytest.approx(3, abs=0.1)


def test_dropout_is_the_same_for_both(runtime):
    network = small_teacher(dropout=0.5).denoiser.student(0.01).train()
    x, sigma, labels = drawn(6, 2).float(), torch.full((6,), 0.8), torch.zeros(6, dtype=torch.long)

    def gap(alike):
        return float(consistency_loss(network, network, x, x, sigma, sigma, labels, **alike).detach().max())

    assert gap({"alike": same_dropout(network, runtime)}) == 0
    assert gap({}) > 0
    drawn_before = runtime.generator("dropout").get_state()
    assert same_dropout(small_teacher().denoiser, runtime)().__class__.__name__ == "nullcontext"
    assert torch.equal(runtime.generator("dropout").get_state(), drawn_before)


# ----------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_target_follows_the_student(decay):
    method, state, runtime = started(replace(SMALL, target_decay=decay), small_teacher())
    before = [one.clone() for one in state.target.parameters()]
    method.step(state, runtime)
    wanted = [decay * old + (1 - decay) * new for old, new in zip(before, state.student.parameters(), strict=True)]
    torch.testing.assert_close(list(state.target.parameters()), wanted, rtol=1e-5, atol=1e-7)
    assert not any(one.requires_grad for one in state.target.parameters())


def test_the_teacher_keeps_its_form_and_its_bytes():
    teacher = small_teacher()
    before = bytes_of(teacher)
    method, state, runtime = started(SMALL, teacher)
    assert (state.teacher.boundary, state.student.boundary, state.target.boundary) == (None, 0.01, 0.01)
    method.step(state, runtime)
    assert bytes_of(teacher) == before


def test_the_grid_of_training_becomes_finer():
    method, state, _ = started(replace(TRAINED, steps=30, target_decay=0.9))
    found = [len(method.grid_at(done)) for done in range(31)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (2, 6)
    decays = [method.decay_at(done) for done in range(31)]
    assert decays == sorted(decays)
    assert decays[0] == pytest.approx(0.81)
    assert replace(method, target_decay=0.0).decay_at(3) == 0
    assert state.student.sigma_data == pytest.approx(points().sigma_data)
    low, top = method.levels.ends
    torch.testing.assert_close(method.grid_at(0), torch.tensor([top, low], dtype=torch.float64), rtol=1e-9, atol=1e-12)


CASES = {
    "distilled": (SMALL, 0.0),
    "distilled with everything": (
        replace(
            SMALL,
            distance="pseudo-huber",
            level_weight="snr+1",
            target_decay=0.0,
            weights_average=0.9,
            optimizer="radam",
            lr_decay="none",
            lr_warm_up=0.5,
            clip_norm=1.0,
            call_levels=(0, 3),
        ),
        0.3,
    ),
    "trained": (TRAINED, None),
    "trained with everything": (
        replace(
            TRAINED,
            network="mlp:width=32,depth=1,dropout=0.3",
            distance="l1",
            level_weight="truncated-snr",
            weights_average=0.9,
            target_decay=0.9,
            calls=2,
            clamp=True,
        ),
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_killed_it_ends_in_the_same_bytes(case, tmp_path):
    method, dropout = CASES[case]
    teacher = None if dropout is None else small_teacher(dropout=dropout)
    whole = made(method, teacher)
    with dying(method, 4):
        made(method, teacher, out=tmp_path, how=EVERY_STEP)
    again = made(method, teacher, out=tmp_path, how=EVERY_STEP)
    assert bytes_of(again) == bytes_of(whole)
    assert torch.equal(again.sample(5), whole.sample(5))
    assert (again.calls, again.clamp) == (whole.calls, whole.clamp)


def test_calls_keep_the_smallest_noise_between_them(tmp_path):
    student = made(replace(SMALL, calls=3), small_teacher())
    grid = karras(6, *student.grid.ends)
    assert student.levels().tolist() == grid[[0, 2, 4]].tolist()
    assert student.floor == student.grid.ends[0]
    chosen = made(replace(SMALL, call_levels=(0, 1)), small_teacher())
    assert (chosen.calls, chosen.levels().tolist()) == (2, grid[:2].tolist())
    opened = type(student).load(student.save(tmp_path / "made").folder)
    assert torch.equal(opened.sample(7), student.sample(7))


def test_clamped_samples_are_pixels():
    method = replace(TRAINED, calls=2, clamp=True, steps=1)
    source = points()
    wide = replace(
        source, train=replace(source.train, values=type(source.train.values)(5 * source.train[torch.arange(40)]))
    )
    assert made(method, None, wide).sample(50).abs().max() <= 1
    assert made(replace(method, clamp=False), None, wide).sample(50).abs().max() > 1


def test_distilled_it_comes_nearer_to_the_teacher():
    teacher, source = small_teacher(), points(200)
    student = made(Consistency(steps=250, batch=100, lr=3e-3, grid_levels=8), teacher, source)
    noise, labels = drawn(200, 2).float(), torch.arange(200) % 2
    wanted = teacher.sample(labels=labels, noise=noise, steps=18)
    gap = (student.sample(labels=labels, noise=noise) - wanted).square().mean()
    once = (teacher.sample(labels=labels, noise=noise, steps=1) - wanted).square().mean()
    assert student.calls == 1
    assert gap < once / 3


def test_trained_it_separates_the_classes():
    method = replace(TRAINED, steps=250, batch=100, lr=3e-3, last_levels=20, target_decay=0.0, weights_average=0.9)
    student = made(method, None, points(400))
    labels = torch.arange(400) % 2
    right = ((student.sample(labels=labels)[:, 0] > 0) == (labels == 1)).double().mean()
    assert right > 0.7


def test_bad_input():
    with pytest.raises(InputError, match="consistency needs a teacher"):
        made(SMALL)
    with pytest.raises(InputError, match=r"shape \[3\]"):
        made(SMALL, gaussian_teacher(shape=(3,)))
    with pytest.raises(InputError, match=r"calls is 6, but of 6 noise levels the last needs no call"):
        made(replace(SMALL, calls=6), small_teacher())
    for numbers in ((1, 2), (0, 5), (0, 3, 3), ()):
        with pytest.raises(InputError, match=r"Give rising numbers from 0 to 4, with 0 first"):
            made(replace(SMALL, call_levels=numbers), small_teacher())
    with pytest.raises(InputError, match="grid_levels"):
        Consistency(grid_levels=1)
    with pytest.raises(InputError, match=r"last_levels is 2 and first_levels 3"):
        ConsistencyTraining(first_levels=3, last_levels=2)
    with pytest.raises(InputError, match=r"calls is 9, but of 6"):
        made(replace(TRAINED, calls=9))
    table = small_teacher(grid=Grid(schedule="linear").resolve((2,)))
    with pytest.raises(InputError, match="1001 noise levels are asked for, but there are 1000"):
        made(replace(SMALL, grid_levels=1001), table)
    assert math.isclose(decay_of(2, 2, 0.95), 0.9025)
