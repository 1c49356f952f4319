"""Measures of new samples: closed forms, identities, the released codes' numbers, and plain definitions."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attar.core.errors import InputError
from attar.samplers import metrics
from attar.samplers.toys import gaussians, grid_modes, ring_modes

GOLDEN = Path(__file__).parent / "golden"


def golden(name):
    found = load_file(GOLDEN / f"{name}.safetensors")
    cases: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in found.items():
        side, case, rest = key.split(".", 2)
        cases.setdefault(case, {})[f"{side}.{rest}"] = value
    return sorted(cases.items())


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


# ------------------------------------------------------------------------------------------------- the Fréchet distance


@pytest.mark.parametrize("case, given", golden("frechet"), ids=lambda value: value if isinstance(value, str) else "")
def test_frechet_is_the_released_one(case, given):
    exact = float(given["out.fid_exact"])
    assert metrics.frechet(given["in.a"], given["in.b"]) == pytest.approx(exact, rel=1e-12, abs=1e-12)


def test_frechet_of_diagonal_gaussians_has_a_closed_form():
    mean, other = drawn(5, seed=1), drawn(5, seed=2)
    first, second = drawn(5, seed=3).exp(), drawn(5, seed=4).exp()
    found = metrics.frechet_of_moments(mean, first.diag(), other, second.diag())
    exact = (mean - other).square().sum() + (first.sqrt() - second.sqrt()).square().sum()
    assert found == pytest.approx(float(exact), rel=1e-12)


def test_frechet_of_gaussians_is_the_textbook_formula():
    first, second = (one @ one.T for one in (drawn(6, 6, seed=1), drawn(6, 6, seed=2)))
    values = torch.linalg.eigvals(first @ second).real.clamp(min=0)
    exact = float(first.trace() + second.trace() - 2 * values.sqrt().sum())
    zero = torch.zeros(6, dtype=torch.float64)
    assert metrics.frechet_of_moments(zero, first, zero, second) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize("rows", [7, 500])
def test_a_set_is_no_distance_from_itself(scale, rows):
    points = scale * (drawn(rows, 40) * torch.logspace(0, -7, 40, dtype=torch.float64)).relu()
    assert metrics.frechet(points, points) <= 1e-8 * scale**2


def test_frechet_is_symmetric_and_a_shift_adds_its_square():
    real, fake, shift = drawn(60, 8), drawn(45, 8, seed=1) * 1.5, drawn(8, seed=2)
    assert metrics.frechet(real, fake) == pytest.approx(metrics.frechet(fake, real), rel=1e-12)
    centred = fake - fake.mean(dim=0) + real.mean(dim=0)
    moved = metrics.frechet(real, centred + shift) - metrics.frechet(real, centred)
    assert moved == pytest.approx(float(shift.square().sum()), rel=1e-10)


def test_the_relative_distance_has_no_scale():
    real, fake = drawn(60, 8), drawn(45, 8, seed=1)
    assert metrics.relative_frechet(1000 * real, 1000 * fake) == pytest.approx(metrics.relative_frechet(real, fake))
    assert metrics.relative_frechet(real, real + 1) == pytest.approx(100 * 8 / float(real.var(dim=0).sum()))


def test_a_covariance_needs_two_samples():
    with pytest.raises(InputError) as refused:
        metrics.frechet(drawn(1, 3), drawn(5, 3))
    assert str(refused.value) == "a covariance needs two samples or more, not 1."


# -------------------------------------------------------------------------------------------------- the kernel distance


@pytest.mark.parametrize(
    "case, given", golden("kernel_distance"), ids=lambda value: value if isinstance(value, str) else ""
)
def test_mmd_is_the_released_one(case, given):
    real, fake = given["in.a"], given["in.b"]
    assert metrics.mmd(real, fake) == pytest.approx(float(given["out.unbiased"]), rel=1e-11, abs=1e-12)
    near = metrics.mmd(real, fake, metrics.gaussian(2.0))
    assert near == pytest.approx(float(given["out.rbf_sigma2"]), rel=1e-11, abs=1e-14)


def plain_mmd(real, fake, kernel):
    inside = [
        sum(kernel(one[i], one[j]) for i in range(len(one)) for j in range(len(one)) if i != j)
        / (len(one) * (len(one) - 1))
        for one in (real, fake)
    ]
    between = sum(kernel(a, b) for a in real for b in fake) / (len(real) * len(fake))
    return float(inside[0] + inside[1] - 2 * between)


@pytest.mark.parametrize("pairs", [1, 13, 2**20])
def test_mmd_is_its_definition_at_any_sizes_and_portions(pairs, monkeypatch):
    monkeypatch.setattr(metrics, "PAIRS", pairs)
    real, fake = drawn(11, 3), drawn(7, 3, seed=1) + 0.5
    cubic = plain_mmd(real, fake, lambda a, b: (a @ b / 3 + 1) ** 3)
    assert metrics.mmd(real, fake) == pytest.approx(cubic, rel=1e-12)
    energy = plain_mmd(real, fake, lambda a, b: -(a - b).norm())
    assert metrics.energy_distance(real, fake) == pytest.approx(energy, rel=1e-12)
    wide = plain_mmd(real, fake, lambda a, b: sum((-(a - b).square().sum() / (2 * s * s)).exp() for s in (0.3, 2)) / 2)
    assert metrics.mmd(real, fake, metrics.gaussian(0.3, 2.0)) == pytest.approx(wide, rel=1e-12)


@pytest.mark.parametrize("kernel", [metrics.cubic, metrics.gaussian(0.5, 1.0), metrics.nearness])
def test_sets_of_one_law_have_no_distance_on_average(kernel):
    values = torch.tensor(
        [metrics.mmd(drawn(40, 4, seed=2 * s), drawn(25, 4, seed=2 * s + 1), kernel) for s in range(200)]
    )
    z = values.mean() / (values.std() / math.sqrt(len(values)))
    assert abs(float(z)) < 4


def test_parts_are_measured_as_if_they_were_alone(draw):
    real, fake = drawn(30, 4), drawn(22, 4, seed=1)
    marks = [metrics.halves(len(one), 3, draw) for one in (real, fake)]
    assert [one.sum(dim=0).tolist() for one in marks] == [[15] * 3, [11] * 3]
    found = metrics.mmd_of_parts(real, fake, metrics.cubic, *marks)
    alone = [metrics.mmd(real[a.bool()], fake[b.bool()]) for a, b in zip(marks[0].T, marks[1].T, strict=True)]
    torch.testing.assert_close(found, torch.tensor(alone, dtype=torch.float64))


def test_the_kernel_distance_has_no_scale_and_an_interval_about_it(draw):
    real, fake = drawn(200, 5), drawn(150, 5, seed=1) + 1
    found = metrics.kernel_distance(real, fake, generator=draw)
    again = metrics.kernel_distance(50 * real, 50 * fake, generator=torch.Generator().manual_seed(0))
    assert found.low < found.value < found.high and found.low > 0
    assert again == pytest.approx(found, rel=1e-9)


def test_the_kernel_distance_of_halves_is_within_its_interval(draw):
    real, fake = drawn(2, 400, 8)
    found = metrics.kernel_distance(real, fake, generator=draw)
    assert found.low < 0 < found.high and abs(found.value) < (found.high - found.low)


# ------------------------------------------------------------------------------------------------- the sliced distance


def test_a_shift_is_its_mean_share_of_directions():
    points, shift = drawn(300, 3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    expected = float((shift @ metrics.directions(3)).abs().mean())
    assert metrics.sliced_wasserstein(points, points + shift) == pytest.approx(expected, rel=1e-12)
    assert metrics.sliced_wasserstein(points, points) == 0


def test_directions_are_unit_vectors_and_stay():
    found = metrics.directions(7, 128)
    assert torch.equal(found, metrics.directions(7, 128)) and not torch.equal(found, metrics.directions(7, 128, seed=1))
    torch.testing.assert_close(found.norm(dim=0), torch.ones(128, dtype=torch.float64))


def test_in_one_dimension_it_is_the_wasserstein_distance():
    from scipy.stats import wasserstein_distance

    real, fake = drawn(400, 1), 2 * drawn(400, 1, seed=1) + 1
    one = torch.ones(1, 1, dtype=torch.float64)
    exact = wasserstein_distance(real[:, 0].numpy(), fake[:, 0].numpy())
    assert metrics.sliced_wasserstein(real, fake, one) == pytest.approx(exact, rel=1e-12)


def test_unequal_numbers_are_interpolated():
    real, fake = drawn(4000, 2), drawn(1000, 2, seed=1) + 3
    expected = float((3 * metrics.directions(2).sum(dim=0)).abs().mean())
    assert metrics.sliced_wasserstein(real, fake) == pytest.approx(expected, rel=0.05)
    line = torch.arange(5, dtype=torch.float64)[:, None]
    one = torch.ones(1, 1, dtype=torch.float64)
    assert metrics.sliced_wasserstein(line, line.repeat_interleave(3, dim=0), one) < 0.35
    assert metrics.sliced_wasserstein(line, line + 2, one) == 2
    assert metrics.sliced_wasserstein(line[:4], fake[:9, :1], one) == metrics.sliced_wasserstein(
        fake[:9, :1], line[:4], one
    )


# ------------------------------------------------------------------------------------------------------- neighbourhoods


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("case, given", golden("prdc"), ids=lambda value: value if isinstance(value, str) else "")
def test_neighbourhoods_are_the_released_ones(case, given, k):
    found = metrics.neighbourhoods(given["in.real"], given["in.fake"], k)
    assert found == pytest.approx(given[f"out.k{k}"].tolist(), abs=1e-15)


def plain_neighbourhoods(real, fake, k):
    """As the papers define them, point by point."""
    around = [
        [sorted(float((a - b).norm()) for b in one)[k] for a in one] for one in (real, fake)
    ]  # the nearest is the point itself
    apart = [[float((a - b).norm()) for b in fake] for a in real]
    rows, columns = range(len(real)), range(len(fake))
    inside = [[apart[i][j] < around[0][i] for j in columns] for i in rows]
    return (
        sum(any(inside[i][j] for i in rows) for j in columns) / len(fake),
        sum(any(apart[i][j] < around[1][j] for j in columns) for i in rows) / len(real),
        sum(map(sum, inside)) / (k * len(fake)),
        sum(any(row) for row in inside) / len(real),
    )


@pytest.mark.parametrize("pairs", [1, 50, 2**20])
@pytest.mark.parametrize("real, fake, k", [(4, 9, 3), (31, 17, 5), (20, 20, 1), (7, 40, 6)])
def test_neighbourhoods_are_their_definition_at_any_sizes_and_portions(real, fake, k, pairs, monkeypatch):
    monkeypatch.setattr(metrics, "PAIRS", pairs)
    points, others = drawn(real, 3) + 1e3, drawn(fake, 3, seed=1) + 1e3
    found = metrics.neighbourhoods(points, others, k)
    assert found == pytest.approx(plain_neighbourhoods(points, others, k), abs=1e-15)


@pytest.mark.parametrize("place", [0.0, 1e4])
def test_a_set_holds_itself(place):
    points = drawn(50, 6) + place
    found = metrics.neighbourhoods(points, points.clone(), 3)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density == pytest.approx(1)  # each ball holds its centre and two neighbours, and not the third


def test_balls_are_open_so_that_equal_points_are_in_none():
    points = torch.ones(9, 2, dtype=torch.float64) * 7
    assert metrics.neighbourhoods(points, points, 3) == (0, 0, 0, 0)


def test_one_mode_of_many_recalls_its_share(draw):
    law = gaussians(ring_modes(), 0.05)
    real, labels = law.draw(2000, draw)
    fake = law.draw(4000, draw)
    fake = fake[0][fake[1] == 0]
    found = metrics.neighbourhoods(real, fake, 3)
    share = float((labels == 0).double().mean())
    assert share - 0.03 < found.recall <= share and found.precision > 0.9


def test_samples_far_away_are_no_samples():
    found = metrics.neighbourhoods(drawn(40, 3), drawn(40, 3, seed=1) + 100, 3)
    assert found == (0, 0, 0, 0)


def test_more_neighbours_than_samples_are_refused():
    with pytest.raises(InputError) as refused:
        metrics.neighbourhoods(drawn(5, 3), drawn(50, 3), 5)
    assert str(refused.value) == "neighbours is 5, but there are 5 samples. Give fewer neighbours."


# ------------------------------------------------------------------------------------------ copies, labels, classifiers


@pytest.mark.parametrize("count", [1, 3])
def test_the_nearest_are_those_by_definition(count):
    points, others = drawn(9, 4), drawn(12, 4, seed=1)
    exact = metrics.distances(points, others).sort(dim=1).values[:, :count]
    torch.testing.assert_close(metrics.nearest(points, others, count), exact)


def test_copies_lie_nearer_to_training_samples():
    train, test, new = drawn(300, 4), drawn(300, 4, seed=1), drawn(2000, 4, seed=2)
    assert metrics.memorised(train[:50], train, test) == 1 and metrics.memorised(test[:50], train, test) == 0
    assert metrics.memorised(new, train, train) == 0.5
    z = (metrics.memorised(new, train, test) - 0.5) / math.sqrt(0.25 / 300)
    assert abs(z) < 4


def test_the_share_by_chance_is_that_of_training_samples_without_themselves():
    train, test = drawn(400, 3), drawn(100, 3, seed=1)
    apart = metrics.distances(train, train).fill_diagonal_(torch.inf).amin(dim=1)
    exact = float((apart < metrics.distances(train, test).amin(dim=1)).double().mean())
    assert metrics.memorised_by_chance(train, test) == pytest.approx(exact)
    assert abs(exact - 0.8) < 4 * math.sqrt(0.8 * 0.2 / 100)


def test_label_variation_is_half_the_sum_of_differences():
    labels = torch.tensor([0, 0, 1, 1])
    assert metrics.label_variation(labels, torch.tensor([0.5, 0.5, 0.0])) == 0
    assert metrics.label_variation(labels, torch.tensor([0.0, 0.0, 1.0])) == 1
    assert metrics.label_variation(labels, torch.tensor([0.25, 0.5, 0.25])) == pytest.approx(0.25)


def test_halves_cannot_be_told_apart():
    found = [metrics.two_sample_auc(*drawn(2, 300, 3, seed=seed), seed=seed) for seed in range(5)]
    # under equal laws an AUC of 2 × 150 held-out samples has the deviation √((n + m + 1) / 12nm) = .033
    assert abs(sum(found) / 5 - 0.5) < 4 * 0.033 / math.sqrt(2 * 5)
    assert metrics.two_sample_auc(drawn(300, 3), drawn(200, 3, seed=1) + 3) > 0.95
    assert metrics.two_sample_auc(drawn(300, 3), 0.3 * drawn(300, 3, seed=1)) > 0.8


def test_the_classifier_takes_some_of_many_and_follows_its_seed():
    real, fake = drawn(2, 200, 2)
    assert metrics.two_sample_auc(real, fake, most=100) == metrics.two_sample_auc(real, fake, most=100)
    with pytest.raises(InputError, match="needs 2 samples or more, not 1"):
        metrics.two_sample_auc(real[:1], fake)


# ------------------------------------------------------------------------------------------------ mixtures in the plane


def test_modes_of_a_mixture_are_found_with_equal_masses(draw):
    law = gaussians(grid_modes(), 0.05)
    found = metrics.modes(law.draw(5000, draw)[0], law.modes, law.std)
    assert found.found == 25 and found.stray < 0.003
    z = (found.masses - 0.04) / math.sqrt(0.04 * 0.96 / 5000)
    assert z.abs().max() < 4
    assert float(found.masses.sum()) + found.stray == pytest.approx(1)


def test_what_is_lost_and_what_is_stray_shows(draw):
    law = gaussians(ring_modes(), 0.05)
    points, labels = law.draw(4000, draw)
    kept = points[labels < 2]
    found = metrics.modes(kept, law.modes, law.std)
    assert found.found == 2 and found.variation == pytest.approx(0.75, abs=0.02)
    centre = metrics.modes(torch.zeros(10, 2, dtype=torch.float64), law.modes, law.std)
    assert (centre.found, centre.stray, centre.variation) == (0, 1, 1)


def test_the_likelihood_of_a_mixture_is_its_entropy(draw):
    law = gaussians(ring_modes(), 0.05)
    points, _ = law.draw(4000, draw)
    entropy = math.log(8) + math.log(2 * math.pi * 0.05**2) + 1  # its modes are 15 deviations apart
    z = (metrics.negative_log_likelihood(points, law.modes, law.std) - entropy) / math.sqrt(1 / 4000)
    assert abs(z) < 4
