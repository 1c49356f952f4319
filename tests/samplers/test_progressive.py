"""Progressive distillation: its targets plugged back, its grids and stages, the released numbers, and what it makes."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from attar.core.errors import InputError
from attar.samplers.artefact import Sampler
from attar.samplers.distances import distance_of, level_weight
from attar.samplers.progressive import (
    Progressive,
    exploding_target,
    halved,
    preserving_target,
    progressive_target,
)
from attar.samplers.sampling import ddim_step, euler, euler_step
from attar.samplers.schedules import VP, Grid, karras
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

SMALL = Progressive(first_steps=4, steps=12, batch=8)
NUMBERS = released("cm_progressive")
SCHEDULE = load_file(GOLDEN / "cm_schedule.safetensors")


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes longer than training here."""
    monkeypatch.setattr(Sampler, "picture", lambda self: None)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("pair", [(999, 400), (600, 599), (40, 0)])
def test_plugged_back_the_target_is_a_step_of_ddim(pair):
    schedule = VP.scaled_linear()
    now, later = ((schedule.alpha(torch.tensor(t)), schedule.sigma(torch.tensor(t))) for t in pair)
    x, reached = drawn(2, 6, 3)
    target = preserving_target(x, reached, now, later)
    torch.testing.assert_close(ddim_step(x, target, now, later), reached, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("levels", [(5.0, 1.3), (0.4, 0.39), (3.0, 0.0)])
def test_plugged_back_it_is_a_step_of_euler(levels):
    sigma, end = torch.tensor(levels, dtype=torch.float64)
    x, reached = drawn(2, 6, 3)
    target = exploding_target(x, reached, sigma, end)
    torch.testing.assert_close(euler_step(lambda *a: target, x, sigma, end), reached, rtol=1e-9, atol=1e-9)


def test_both_forms_are_one_where_the_sample_is_not_scaled():
    x, reached = drawn(2, 6, 3)
    sigma, end = torch.rand(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + torch.tensor(
        [[1.0], [0.0]], dtype=torch.float64
    )
    one = torch.ones(6, dtype=torch.float64)
    torch.testing.assert_close(
        exploding_target(x, reached, sigma, end), preserving_target(x, reached, (one, sigma), (one, end))
    )


def test_both_forms_are_one_after_the_samples_are_scaled():
    schedule = VP.linear()
    (alpha, sigma), (after, less) = ((schedule.alpha(t), schedule.sigma(t)) for t in map(torch.tensor, (700, 300)))
    x, reached = drawn(2, 6, 3)
    torch.testing.assert_close(
        preserving_target(x, reached, (alpha, sigma), (after, less)),
        exploding_target(x / alpha, reached / after, sigma / alpha, less / after),
    )


def test_an_exact_solution_is_what_the_target_jumps_to():
    """Of a Gaussian the ODE is known: x(σ) = x √((s² + σ²) / (s² + σ_0²))."""
    sigma, end, spread = torch.tensor(4.0).double(), torch.tensor(0.7).double(), 0.6
    x = drawn(8, 2) * 4
    exact = x * ((spread**2 + end**2) / (spread**2 + sigma**2)).sqrt()
    target = exploding_target(x, exact, sigma, end)
    torch.testing.assert_close(euler_step(lambda *a: target, x, sigma, end), exact, rtol=0, atol=1e-6)


def test_at_the_last_step_the_target_is_what_the_teacher_reaches():
    x, reached = drawn(2, 6, 3)
    assert torch.equal(exploding_target(x, reached, torch.tensor(2.0), torch.tensor(0.0)).float(), reached.float())


def test_two_steps_of_a_gaussian_teacher_by_hand():
    teacher, spread = gaussian_teacher(0.6).denoiser, 0.6
    x, (sigma, middle) = drawn(5, 2), torch.tensor([3.0, 1.0], dtype=torch.float64)

    def clean(where, level):
        return where * spread**2 / (spread**2 + level**2)

    half = x + (middle - sigma) * (x - clean(x, sigma)) / sigma
    for end in (0.0, 0.2):
        last = half + (end - middle) * (half - clean(half, middle)) / middle
        levels = (torch.full((5,), float(one), dtype=torch.float64) for one in (sigma, middle, end))
        torch.testing.assert_close(
            progressive_target(teacher, x, *levels), x - sigma * (last - x) / (end - sigma), rtol=1e-9, atol=1e-12
        )


@pytest.mark.skipif(NUMBERS is None, reason="the released numbers are not at hand")
@pytest.mark.parametrize(
    ("case", "steps", "weight"), [("pd4", 4, "truncated-snr"), ("pd1", 1, "uniform"), ("pd8_snr1", 8, "snr+1")]
)
def test_it_is_the_released_code(case, steps, weight):
    student, teacher = (denoiser_of(NUMBERS, name=name, times=1000.0) for name in ("student", "teacher"))
    grid = Grid(sigma_min=0.002, sigma_max=80.0)
    method = Progressive(last_step="released", first_steps=steps, calls=steps, levels=grid)
    index = 2 * NUMBERS[f"in.indices.{case}"]
    levels = [method.points(steps)[index + more] for more in range(3)]
    for level, name in zip(levels, ("t", "t_mid", "t_end"), strict=True):
        torch.testing.assert_close(level, NUMBERS[f"out.{name}.{case}"], rtol=1e-12, atol=0)
    clean, labels = NUMBERS["in.x0"], NUMBERS["in.labels"].argmax(1)
    noisy = clean + levels[0].view(-1, 1, 1, 1) * NUMBERS["in.noise"]
    target = progressive_target(teacher, noisy, *levels, labels)
    torch.testing.assert_close(target, NUMBERS[f"out.target.{case}"], rtol=1e-9, atol=1e-10)
    loss = level_weight(levels[0], weight, 0.5) * distance_of(student(noisy, levels[0], labels), target)
    torch.testing.assert_close(loss, NUMBERS[f"out.loss.{case}"], rtol=1e-10, atol=0)
    loss.mean().backward()
    torch.testing.assert_close(student.network.B.grad, NUMBERS[f"out.grad.B.{case}"], rtol=1e-9, atol=1e-12)


# --------------------------------------------------------------------------------------------------- grids and stages


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_step_of_a_student_is_two_of_the_one_before(variant):
    method = Progressive(first_steps=16, last_step=variant, levels=Grid(sigma_min=0.02, sigma_max=20.0))
    for steps in (16, 8, 4, 2):
        assert torch.equal(method.points(steps)[::2], method.points(steps // 2))
    assert [len(method.points(steps)) for steps in (16, 1)] == [33, 3]
    assert float(method.points(1)[-1]) == pytest.approx(0.0 if variant == "paper" else 0.02)


def test_the_released_grid_is_karras_grid_of_each_number_of_steps():
    method = Progressive(first_steps=8, last_step="released", levels=Grid(sigma_min=0.002, sigma_max=80.0))
    for steps in (8, 4, 2, 1):
        torch.testing.assert_close(method.points(steps), karras(2 * steps + 1, 0.002, 80.0), rtol=1e-12, atol=0)


def test_stages_last_as_long_as_in_the_released_schedule():
    method = Progressive(first_steps=64, steps=9 * 50_000)
    found = [method.stages[method.stage_at(done)] for done in SCHEDULE["in.step.progdist"].tolist()]
    assert found == SCHEDULE["out.scales.progdist"].tolist()


@pytest.mark.parametrize(("steps", "longer", "ends"), [(7, True, [1, 3, 5, 7]), (8, False, [2, 4, 6, 8])])
def test_stages_share_the_steps(steps, longer, ends):
    method = Progressive(first_steps=8, steps=steps, longer_end=longer)
    if longer:
        assert method.ends == [7 * n // 6 for n in (1, 2, 4, 6)]
    else:
        assert method.ends == ends
    assert method.stage_at(10**6) == 3


def test_the_step_size_falls_to_nothing_in_each_stage():
    method = Progressive(first_steps=4, steps=40, lr=1.0, longer_end=False, calls=1)
    rates = [method.lr_at(done) for done in range(39)]
    assert method.ends == [13, 26, 40]
    assert [rates[begin] for begin in (0, 13, 26)] == [1.0, 1.0, 1.0]
    assert rates[12] == pytest.approx(1 / 13)
    flat = replace(method, lr_decay="none", lr_warm_up=0.5)
    assert [flat.lr_at(done) for done in (0, 19, 30)] == [1 / 20, 1.0, 1.0]


def test_a_single_stage_of_one_step_is_regression_on_the_teacher_s_two_steps():
    teacher = gaussian_teacher(0.6)
    method = Progressive(first_steps=1, levels=teacher.grid)
    top, middle, last = method.points(1)
    assert float(last) == 0
    noise = drawn(7, 2)
    levels = (one.expand(7) for one in (top, middle, last))
    target = progressive_target(teacher.denoiser, top * noise, *levels)
    samples = euler(teacher.denoiser, noise, torch.stack([top, middle]))
    torch.testing.assert_close(target, samples, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_the_student_of_a_stage_is_the_teacher_of_the_next(average):
    teacher = small_teacher()
    before = bytes_of(teacher)
    method, state, runtime = started(replace(SMALL, weights_average=average), teacher)
    while state.done < method.ends[0]:
        method.step(state, runtime)
    learned = {name: value.clone() for name, value in state.kept.state_dict().items()}
    method.step(state, runtime)
    assert all(torch.equal(value, learned[name]) for name, value in state.previous.state_dict().items())
    assert state.previous.boundary == state.student.boundary
    assert not all(torch.equal(value, learned[name]) for name, value in state.student.state_dict().items())
    assert {int(one["step"]) for one in state.optimizer.state.values()} == {1}
    assert bytes_of(teacher) == before


@pytest.mark.parametrize(
    "method",
    [
        SMALL,
        replace(SMALL, last_step="released", calls=2, weights_average=0.9, longer_end=False, level_weight="karras"),
    ],
    ids=["paper", "released"],
)
@pytest.mark.parametrize("step", [2, 3, 4, 9])
def test_killed_in_any_stage_it_ends_in_the_same_bytes(method, step, tmp_path):
    whole = made(method, small_teacher(dropout=0.3))
    with dying(method, step):
        made(method, small_teacher(dropout=0.3), out=tmp_path, how=EVERY_STEP)
    assert bytes_of(made(method, small_teacher(dropout=0.3), out=tmp_path, how=EVERY_STEP)) == bytes_of(whole)


@pytest.mark.parametrize(
    ("variant", "calls", "solver"),
    [
        ("paper", 1, "few-step"),
        ("paper", 2, "euler"),
        ("released", 1, "euler"),
        ("released", 4, "euler"),
    ],
)
def test_what_it_makes_follows_its_own_grid(variant, calls, solver, tmp_path):
    method = replace(SMALL, last_step=variant, calls=calls)
    student = made(method, small_teacher())
    resolved = replace(method, levels=student.grid)
    assert (student.solver, student.calls, len(student.levels())) == (solver, calls, calls)
    assert student.levels().tolist() == resolved.points(calls)[:-1:2].tolist()
    assert student.floor == float(resolved.points(calls)[-1])
    noise = drawn(5, 2).float()
    labels = torch.arange(5) % 2
    by_hand = euler(student.denoiser, noise, student.levels(), labels, floor=student.floor)
    found = student.sample(labels=labels, noise=noise)
    torch.testing.assert_close(found, by_hand.float(), rtol=1e-5, atol=1e-6)
    opened = type(student).load(student.save(tmp_path / "made").folder)
    assert torch.equal(opened.sample(labels=labels, noise=noise), found)


def test_fewer_steps_of_it_are_those_of_its_grid():
    student = made(replace(SMALL, calls=4), small_teacher())
    assert student.levels(2).tolist() == student.levels().tolist()[::2]
    with pytest.raises(InputError, match="there are 4"):
        student.levels(5)


def test_it_learns_the_teacher_s_steps():
    """One step of the student comes nearer to the teacher's samples than one of the teacher, by far."""
    teacher, source = small_teacher(), points(200)
    student = made(Progressive(first_steps=4, steps=300, batch=100, lr=3e-3), teacher, source)
    noise, labels = drawn(200, 2).float(), torch.arange(200) % 2
    wanted = replace(teacher, solver="euler", steps=8).sample(labels=labels, noise=noise)
    gap = (student.sample(labels=labels, noise=noise) - wanted).square().mean()
    once = (teacher.sample(labels=labels, noise=noise, steps=1) - wanted).square().mean()
    assert gap < once / 3


def test_halving():
    assert halved(16) == [16, 8, 4, 2, 1]
    assert halved(16, 4) == [16, 8, 4]
    assert halved(12) == [12, 6, 3]
    assert halved(1) == [1]


def test_bad_input():
    with pytest.raises(InputError, match=r"calls is 3, which halving 16 steps does not reach. Give one of 16, 8, 4"):
        Progressive(calls=3)
    with pytest.raises(InputError, match=r"calls is 1, which halving 12 steps does not reach. Give one of 12, 6, 3,"):
        Progressive(first_steps=12)
    with pytest.raises(InputError, match=r"steps is 4, too few for 3 stages. Give 5 or more"):
        made(replace(SMALL, steps=4), small_teacher())
    with pytest.raises(InputError, match=r"shape \[3\]"):
        made(SMALL, gaussian_teacher(shape=(3,)))
    table = gaussian_teacher(grid=Grid(schedule="linear").resolve((2,)))
    with pytest.raises(InputError, match="1200 noise levels are asked for, but there are 1000"):
        made(Progressive(first_steps=600, calls=75, steps=50), replace(table, shape=(2,)), points_alone())


def points_alone():
    """Points without labels."""
    from attar.samplers.sources import Source

    values = drawn(20, 2).float() * math.sqrt(0.5)
    return Source.of_tensors(values, values[:5])
