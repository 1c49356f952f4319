"""Pairs of noise and sample: the teacher's ODE in closed form, made once, and a student that learns them."""

import math
from dataclasses import replace

import pytest
import torch

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.samplers import pairs as module
from attar.samplers.artefact import Sampler
from attar.samplers.distances import distance_of, level_weight
from attar.samplers.pairs import MakePairs, PairRegression, pair_loss, pairs_of, teacher_pairs
from attar.samplers.sampling import Churn
from attar.samplers.teaching import Work
from few_steps import EVERY_STEP, IN_ONE_GO, bytes_of, gaussian_teacher, made, points, small_teacher, started
from promises import dying, dying_in

SMALL = PairRegression(pair_count=30, steps=5, batch=8)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes longer than training here."""
    monkeypatch.setattr(Sampler, "picture", lambda self: None)


@pytest.fixture(autouse=True)
def a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))


def test_of_a_gaussian_they_are_the_closed_form():
    gaps = []
    for levels in (16, 32, 64):
        teacher = gaussian_teacher(0.7, steps=levels)
        noise, samples, _ = teacher_pairs(teacher, 50, generator=torch.Generator().manual_seed(0))
        top = teacher.grid.sigma_max
        exact = top * noise.double() * 0.7 / math.sqrt(0.7**2 + top**2)
        gaps.append(float((samples.double() - exact).abs().max()))
    low = teacher.grid.sigma_min
    assert gaps[-1] < 5e-3  # what is left at σ_min is a step of Euler's method
    assert gaps[0] > gaps[1] > gaps[2]
    assert low < 0.02


def test_they_are_drawn_from_the_generator_alone_and_keep_their_labels():
    teacher, labels = small_teacher(), torch.arange(9) % 2
    first = teacher_pairs(teacher, 9, labels=labels, generator=torch.Generator().manual_seed(4))
    again = teacher_pairs(teacher, 9, labels=labels, generator=torch.Generator().manual_seed(4))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert torch.equal(first[2], labels)
    other = teacher_pairs(teacher, 9, labels=1 - labels, generator=torch.Generator().manual_seed(4))
    assert torch.equal(first[0], other[0])
    assert not torch.allclose(first[1], other[1])


def test_portions_do_not_matter(monkeypatch):
    whole = teacher_pairs(gaussian_teacher(), 10, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(module, "PORTION", 3)
    parts = teacher_pairs(gaussian_teacher(), 10, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(whole[1], parts[1], rtol=1e-6, atol=1e-7)


def test_noise_that_the_teacher_adds_is_left_out():
    calm = gaussian_teacher()
    stirred = replace(calm, churn=Churn(churn=40.0))
    generators = [torch.Generator().manual_seed(2) for _ in range(2)]
    one, other = (teacher_pairs(t, 6, generator=g)[1] for t, g in zip((calm, stirred), generators, strict=True))
    assert torch.equal(one, other)
    assert stirred.churn.churn == 40.0


def test_levels_are_those_that_are_asked_for():
    coarse = teacher_pairs(gaussian_teacher(), 6, levels=4, generator=torch.Generator().manual_seed(2))
    same = teacher_pairs(gaussian_teacher(steps=4), 6, generator=torch.Generator().manual_seed(2))
    assert torch.equal(coarse[1], same[1])


def test_a_student_that_draws_noise_between_its_calls_is_no_teacher():
    few = gaussian_teacher(solver="few-step", steps=2)
    with pytest.raises(InputError, match=r"fresh noise between its 2 calls"):
        teacher_pairs(few, 4, generator=torch.Generator())
    assert len(teacher_pairs(few, 4, levels=1, generator=torch.Generator())[1]) == 4


# ------------------------------------------------------------------------------------------------- distances


def gap_of(rows=5, dtype=torch.float64):
    return torch.randn(rows, 3, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_distances_by_definition():
    gap = gap_of()
    zero = torch.zeros_like(gap)
    rows = gap.flatten(1)
    torch.testing.assert_close(distance_of(gap, zero), (rows**2).sum(1) / 12)
    torch.testing.assert_close(distance_of(gap, zero, "l1"), rows.abs().sum(1) / 12)
    c = 0.03 * math.sqrt(12)
    torch.testing.assert_close(distance_of(gap, zero, "pseudo-huber", 0.03), (rows.norm(dim=1) ** 2 + c**2).sqrt() - c)


def test_the_pseudo_huber_distance_is_quadratic_near_and_linear_far():
    gap, zero = gap_of(), torch.zeros(5, 3, 4, dtype=torch.float64)
    rows = gap.flatten(1).norm(dim=1)
    far = distance_of(gap, zero, "pseudo-huber", 1e-9)
    torch.testing.assert_close(far, rows, rtol=1e-7, atol=0)
    c = 1e4 * math.sqrt(12)
    near = distance_of(gap, zero, "pseudo-huber", 1e4)
    torch.testing.assert_close(near, rows**2 / (2 * c), rtol=1e-6, atol=0)


def test_half_precision_is_summed_in_float32():
    gap = gap_of(dtype=torch.bfloat16)
    found = distance_of(gap, torch.zeros_like(gap))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, gap.float().flatten(1).square().mean(1))


def test_weights_are_one_where_noise_and_signal_are_equal():
    one = torch.ones(1)
    assert [float(level_weight(one, kind, 0.5)) for kind in ("uniform", "snr", "snr+1", "truncated-snr", "karras")] == [
        1.0,
        1.0,
        2.0,
        1.0,
        5.0,
    ]


def test_the_loss_is_zero_for_the_teacher_s_own_map():
    teacher = gaussian_teacher(0.7)
    top = teacher.grid.sigma_max
    noise = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    share = 0.7 / math.sqrt(0.7**2 + top**2)

    def student(x, sigma, labels=None):
        return share * x

    sigma = torch.tensor(top, dtype=torch.float64)
    assert float(pair_loss(student, noise, share * top * noise, sigma).max()) < 1e-28
    off = pair_loss(student, noise, share * top * noise + 0.5, sigma, distance="l1")
    torch.testing.assert_close(off, torch.full((6,), 0.5, dtype=torch.float64))


# ---------------------------------------------------------------------------------------- made once, resumed


def test_pairs_are_made_once_and_read_from_then_on(monkeypatch):
    work, runtime = Work(points(), small_teacher()), Runtime(IN_ONE_GO, 3)
    first = pairs_of(work, 20, runtime)
    monkeypatch.setattr(MakePairs, "step", lambda *a: pytest.fail("made again"))
    again = pairs_of(work, 20, Runtime(IN_ONE_GO, 3))
    assert torch.equal(first.samples, again.samples)
    assert torch.equal(first.labels, again.labels)
    assert first.sigma == pytest.approx(5.0)


def test_another_teacher_or_seed_makes_others():
    work = Work(points(), small_teacher())
    first = pairs_of(work, 20, Runtime(IN_ONE_GO, 3))
    assert not torch.equal(first.noise, pairs_of(work, 20, Runtime(IN_ONE_GO, 4)).noise)
    other = pairs_of(Work(points(), small_teacher(seed=1)), 20, Runtime(IN_ONE_GO, 3))
    assert torch.equal(first.noise, other.noise)
    assert not torch.equal(first.samples, other.samples)


def test_killed_while_they_are_made_the_rest_is_made_later(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PORTION", 8)
    work = Work(points(), small_teacher())
    whole = pairs_of(work, 30, Runtime(IN_ONE_GO, 0))
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "other"))
    with dying_in(MakePairs, "step", 3):
        pairs_of(work, 30, Runtime(EVERY_STEP, 0))
    steps = []
    real = MakePairs.step
    monkeypatch.setattr(MakePairs, "step", lambda self, *a: steps.append(1) or real(self, *a))
    resumed = pairs_of(work, 30, Runtime(EVERY_STEP, 0))
    assert len(steps) == 2
    for name in ("noise", "samples", "labels"):
        assert torch.equal(getattr(whole, name), getattr(resumed, name))


def test_a_killed_run_ends_in_the_same_bytes(tmp_path):
    whole = made(SMALL, small_teacher(), out=tmp_path / "whole")
    with dying(SMALL, 3):
        made(SMALL, small_teacher(), out=tmp_path / "again", how=EVERY_STEP)
    assert bytes_of(made(SMALL, small_teacher(), out=tmp_path / "again", how=EVERY_STEP)) == bytes_of(whole)


# -------------------------------------------------------------------------------------------------- training


def test_a_pass_shows_every_pair_once():
    method, state, runtime = started(replace(SMALL, pair_count=20, batch=8), small_teacher())
    rows = torch.cat([method.drawn(replace(state, done=done), runtime).rows for done in range(3)])
    assert sorted(rows.tolist()) == list(range(20))


def test_the_student_starts_as_the_teacher_and_the_teacher_stays():
    teacher = small_teacher()
    before = bytes_of(teacher)
    method, state, runtime = started(SMALL, teacher)
    assert all(torch.equal(one, teacher.learned[name]) for name, one in state.student.state_dict().items())
    for _ in range(3):
        method.step(state, runtime)
    assert bytes_of(teacher) == before
    assert not all(torch.equal(one, teacher.learned[name]) for name, one in state.student.state_dict().items())


@pytest.mark.parametrize(
    "settings", [{}, {"distance": "pseudo-huber", "huber": 0.03, "weights_average": 0.9}, {"distance": "l1"}]
)
def test_it_learns_them(settings):
    """The Gaussian teacher's map is linear: the student's distance from it falls by far."""
    teacher, source = small_teacher(), points(200)
    method = PairRegression(pair_count=400, steps=250, batch=100, lr=3e-3, **settings)
    student = made(method, teacher, source)
    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(9))
    labels = torch.arange(200) % 2
    wanted = teacher.sample(labels=labels, noise=noise)
    gap = (student.sample(labels=labels, noise=noise) - wanted).square().mean()
    once = (teacher.sample(labels=labels, noise=noise, steps=1) - wanted).square().mean()
    assert student.calls == 1
    assert gap < once / 5


def test_the_artefact_opens_as_it_was_saved(tmp_path):
    student = made(SMALL, small_teacher())
    noise = torch.randn(5, 2, generator=torch.Generator().manual_seed(9))
    opened = type(student).load(student.save(tmp_path / "made").folder)
    assert torch.equal(opened.sample(5, noise=noise), student.sample(5, noise=noise))
    assert opened.calls == 1


def test_bad_input():
    with pytest.raises(InputError, match="needs a teacher"):
        made(SMALL)
    with pytest.raises(InputError, match=r"shape \[3\] of 0 classes, but samples has \[2\] of 2"):
        made(SMALL, gaussian_teacher(shape=(3,)))
    with pytest.raises(InputError, match="draws fresh noise"):
        made(SMALL, replace(small_teacher(), solver="few-step", steps=3))
    with pytest.raises(InputError, match="calls"):
        PairRegression(calls=2)
    with pytest.raises(InputError, match="pair_count"):
        PairRegression(pair_count=0)
