import math

import pytest
import torch

from attar.core.errors import InputError
from attar.mixtures import DIVERGENCES, KINDS, METRICS, GaussianMixture, distance, inner, log_inner, pairwise
from attar.mixtures.distances import check_kind, log_overlap
from attar.mixtures.mixture import COVARIANCES
from attar.mixtures.sources import random_mixture

REAL = torch.float64
INVARIANT = ("angle", "chord", "nise", "sqrt_nise", "cauchy_schwarz", "tanimoto")


def normal(mean, variance=1.0):
    return GaussianMixture([1.0], [float(mean)], [float(variance)])


def typed(kind, n, generator, dimension=2):
    f = random_mixture(n, dimension, generator)
    covariances = {
        "full": f.covariances,
        "tied": f.covariances[0],
        "diag": f.covariances.diagonal(dim1=-2, dim2=-1),
        "spherical": f.covariances[:, 0, 0],
    }
    return GaussianMixture(f.weights, f.means, covariances[kind], kind)


# The inner product.


def test_the_inner_product_is_an_integral(generator):
    f, g = random_mixture(4, 1, generator), random_mixture(3, 1, generator)
    points = torch.linspace(-20, 25, 400_001, dtype=REAL)
    product = (f.log_prob(points[:, None]) + g.log_prob(points[:, None])).exp()
    assert float(inner(f, g)) == pytest.approx(float(torch.trapezoid(product, points)), abs=1e-10)


def test_the_inner_product_is_a_mean_over_samples(generator):
    f, g = random_mixture(4, 2, generator), random_mixture(3, 2, generator)
    values = g.log_prob(f.sample(100_000, generator)).exp()
    assert abs(float(inner(f, g) - values.mean())) < 3 * float(values.std()) / math.sqrt(len(values))


def test_the_standard_mixtures_energy(standard):
    assert float(inner(standard, standard)) == pytest.approx(0.4852794018, abs=1e-10)
    assert float(standard.mean()) == pytest.approx(1.2641, abs=1e-10)
    assert float(standard.covariance()) == pytest.approx(0.57233519, abs=1e-8)


@pytest.mark.parametrize("one", COVARIANCES)
@pytest.mark.parametrize("other", COVARIANCES)
def test_every_pair_of_covariance_types_agrees_with_full_ones(one, other, generator):
    f, g = typed(one, 4, generator), typed(other, 3, generator)
    torch.testing.assert_close(log_overlap(f, g), log_overlap(f.full(), g.full()))
    torch.testing.assert_close(log_inner(f, g), log_inner(f.full(), g.full()))


def test_batches_broadcast(generator):
    ones, g = [random_mixture(3, 2, generator) for _ in range(4)], random_mixture(5, 2, generator)
    tensors = [torch.stack(list(parts)) for parts in zip(*(f.tensors().values() for f in ones), strict=True)]
    batch = GaussianMixture(*tensors)
    expected = torch.stack([distance(f, g) for f in ones])
    torch.testing.assert_close(distance(batch, g), expected)
    torch.testing.assert_close(distance(g, batch, "nise"), torch.stack([distance(g, f, "nise") for f in ones]))
    grid = GaussianMixture(*(tensor.view(2, 2, *tensor.shape[1:]) for tensor in tensors))
    assert distance(grid, batch[:2]).shape == (2, 2)


def test_large_tables_are_made_in_parts(monkeypatch, spread):
    whole = log_inner(spread, spread)
    monkeypatch.setattr("attar.mixtures.distances.AT_ONCE", 25 * 9 * 2)
    torch.testing.assert_close(log_inner(spread, spread), whole)


def test_it_stays_finite_where_densities_vanish():
    far = log_inner(normal(0), normal(1000))
    assert float(far) == pytest.approx(-0.25e6 - 0.5 * math.log(4 * math.pi))
    assert float(distance(normal(0), normal(1000))) == pytest.approx(math.pi / 2)
    assert float(distance(normal(0), normal(1000), "cauchy_schwarz")) == pytest.approx(0.25e6)
    many = GaussianMixture(torch.ones(1), torch.zeros(1, 2000), torch.full((1, 2000), 1e-3), "diag")
    assert all(distance(many, many, kind) == 0 for kind in KINDS if kind not in ("ise", "l2"))
    assert log_inner(many, many).isfinite()


# The distances.


@pytest.mark.parametrize(
    "kind, far, near",
    [
        ("nise", 0.632121, 0.442398),
        ("cauchy_schwarz", 1.0, 0.5),
        ("tanimoto", 0.774600, 0.724531),
        ("ise", 0.356636, 0.249597),
        ("angle", 1.194069, 1.356089),
        ("chord", 1.124385, 1.330261),
        ("l2", 0.597190, 0.706536),
        ("sqrt_nise", 0.795060, 0.940636),
    ],
)
def test_three_normals_in_a_row_break_the_triangle_of_what_is_no_metric(kind, far, near):
    zero, one, two = (normal(mean) for mean in (0, 1, 2))
    across = float(distance(zero, two, kind))
    around = float(distance(zero, one, kind) + distance(one, two, kind))
    assert (across, around) == (pytest.approx(far, abs=1e-6), pytest.approx(near, abs=1e-6))
    assert (across > around) is (kind in DIVERGENCES)


def test_the_definitions(generator):
    f, g = random_mixture(4, 2, generator), random_mixture(3, 2, generator)
    a, b, c = (float(inner(*pair)) for pair in ((f, f), (f, g), (g, g)))
    rho, ise = b / math.sqrt(a * c), a - 2 * b + c
    expected = {
        "angle": math.acos(rho),
        "chord": math.sqrt(2 - 2 * rho),
        "l2": math.sqrt(ise),
        "sqrt_nise": math.sqrt(ise / (a + c)),
        "nise": ise / (a + c),
        "ise": ise,
        "cauchy_schwarz": -math.log(rho),
        "tanimoto": ise / (a + c - b),
    }
    assert set(expected) == set(KINDS)
    for kind, value in expected.items():
        assert float(distance(f, g, kind)) == pytest.approx(value, rel=1e-9)
    assert float(distance(f, g, normalised=True)) == pytest.approx(math.acos(rho) / (math.pi / 2))


def test_two_gaussians_of_equal_covariance(generator):
    covariance = random_mixture(1, 3, generator).covariances
    away = torch.tensor([[0.3, -0.2, 0.5]], dtype=REAL)
    f, g = (GaussianMixture([1.0], mean, covariance) for mean in (torch.zeros(1, 3), away))
    rho = torch.exp(-0.25 * away @ torch.linalg.solve(covariance[0], away.mT))
    torch.testing.assert_close(distance(f, g).cos(), rho.squeeze())
    assert float(distance(normal(0), normal(1))) == pytest.approx(0.6780446, abs=1e-7)
    assert float(distance(normal(0), normal(1)).cos()) == pytest.approx(0.7788008, abs=1e-7)


def test_two_gaussians_of_equal_mean():
    s, t = 0.3, 2.5
    rho = math.sqrt(2 * math.sqrt(s * t) / (s + t))
    assert float(distance(normal(1, s), normal(1, t)).cos()) == pytest.approx(rho)


@pytest.mark.parametrize("kind", METRICS)
def test_a_metric_is_one_on_thousands_of_random_triples(kind):
    generator = torch.Generator().manual_seed(0)
    for dimension in (1, 2, 3):
        f, g, h = (many(1000, dimension, generator) for _ in range(3))
        near = GaussianMixture(f.weights, f.means + 1e-4, f.covariances)
        for one, two, three in ((f, g, h), (f, near, g), (near, f, near)):
            sides = [distance(*pair, kind) for pair in ((one, two), (two, three), (one, three))]
            assert all((side >= 0).all() for side in sides)
            assert (sides[2] <= sides[0] + sides[1] + 2e-7).all()
        torch.testing.assert_close(distance(f, g, kind), distance(g, f, kind))
        assert (distance(f, g, kind) > 1e-3).all()


def many(count, dimension, generator):
    """Mixtures of three Gaussians, near each other and far apart."""
    weights = torch.rand(count, 3, dtype=REAL, generator=generator) + 0.05
    far = torch.rand(count, 1, 1, dtype=REAL, generator=generator) * 6
    means = far * torch.randn(count, 3, dimension, dtype=REAL, generator=generator)
    rows = torch.randn(count, 3, dimension, dimension + 2, dtype=REAL, generator=generator)
    return GaussianMixture(weights / weights.sum(-1, keepdim=True), means, rows @ rows.mT)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_what_is_no_metric_fails_on_random_triples_too(kind):
    generator = torch.Generator().manual_seed(0)
    f, g, h = (many(1000, 1, generator) for _ in range(3))
    assert (distance(f, h, kind) > distance(f, g, kind) + distance(g, h, kind) + 1e-6).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_density_in_other_words_has_no_distance(kind, spread):
    shuffled = spread.select(torch.randperm(25, generator=torch.Generator().manual_seed(0)))
    weights = torch.cat([spread.weights[:1] * 0.3, spread.weights[:1] * 0.7, spread.weights[1:]])
    split = [torch.cat([tensor[:1], tensor]) for tensor in (spread.means, spread.covariances)]
    zero = [torch.cat([tensor, tensor[:1] * 1.5]) for tensor in (spread.means, spread.covariances)]
    extra = GaussianMixture(torch.cat([spread.weights, spread.weights[:1] * 0]), *zero)
    tolerance = 1e-7 if kind in METRICS else 1e-13
    for same in (spread, shuffled, GaussianMixture(weights, *split), extra):
        assert float(distance(spread, same, kind)) <= tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_which_distances_an_affine_map_leaves_alone(kind, generator):
    f, g = random_mixture(4, 3, generator), random_mixture(3, 3, generator)
    matrix = torch.randn(3, 3, dtype=REAL, generator=generator)
    shift = torch.randn(3, dtype=REAL, generator=generator)
    before, after = distance(f, g, kind), distance(f.affine(matrix, shift), g.affine(matrix, shift), kind)
    assert (abs(float(before - after)) < 1e-10) is (kind in INVARIANT)
    if kind == "ise":
        torch.testing.assert_close(after * matrix.det().abs(), before)


# Gradients.


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind, generator):
    f, g = random_mixture(3, 2, generator), random_mixture(2, 2, generator)
    factor = torch.linalg.cholesky(g.covariances)

    def gap(weights, means, lower):
        lower = lower.tril()
        return distance(f, GaussianMixture(weights, means, lower @ lower.mT, check=False), kind)

    inputs = [tensor.clone().requires_grad_() for tensor in (g.weights, g.means, factor)]
    assert torch.autograd.gradcheck(gap, inputs)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_gradients_go_through_every_covariance_type(kind, generator):
    f, g = typed("full", 3, generator), typed(kind, 2, generator)

    def gap(means, covariances):
        if kind in ("full", "tied"):
            covariances = (covariances + covariances.mT) / 2
        return distance(f, GaussianMixture(g.weights, means, covariances, kind, check=False))

    assert torch.autograd.gradcheck(gap, [g.means.clone().requires_grad_(), g.covariances.clone().requires_grad_()])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_at_no_distance_and_at_zero_weight(kind, spread):
    weights = torch.cat([spread.weights, torch.zeros(1, dtype=REAL)]).requires_grad_()
    means = torch.cat([spread.means, torch.full((1, 3), 50.0, dtype=REAL)]).requires_grad_()
    covariances = torch.cat([spread.covariances, torch.eye(3, dtype=REAL)[None]])
    distance(spread, GaussianMixture(weights, means, covariances, check=False), kind).backward()
    assert weights.grad.isfinite().all()
    assert means.grad.isfinite().all()


def test_a_zero_weight_knows_which_way_to_grow():
    far, near = normal(5), GaussianMixture([1.0, 0.0], [0.0, 5.0], [1.0, 1.0])
    weights = near.weights.clone().requires_grad_()
    distance(far, GaussianMixture(weights, near.means, near.covariances, check=False), "ise").backward()
    assert weights.grad[1] < 0 < weights.grad[0]


# Names and matrices.


def test_a_matrix_of_distances(generator):
    mixtures = [random_mixture(n, 2, generator) for n in (2, 3, 4)]
    table = pairwise(mixtures)
    assert torch.equal(table, table.T)
    assert (table.diagonal() < 1e-7).all()
    assert float(table[0, 2]) == pytest.approx(float(distance(mixtures[0], mixtures[2])))


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_what_is_no_metric_is_refused_where_one_is_needed(kind, generator):
    f = random_mixture(2, 2, generator)
    sentence = f"{kind} breaks the triangle inequality; a metric is needed here. Use angle, chord, l2, sqrt_nise."
    for call in (lambda: distance(f, f, kind, metric=True), lambda: pairwise([f, f], kind)):
        with pytest.raises(InputError) as refusal:
            call()
        assert str(refusal.value) == sentence
    assert pairwise([f, f], kind, metric=False).shape == (2, 2)


def test_wrong_names_and_spaces_are_refused(generator):
    f, g = random_mixture(2, 2, generator), random_mixture(2, 3, generator)
    with pytest.raises(InputError, match="unknown distance 'angel'; did you mean 'angle'"):
        check_kind("angel")
    with pytest.raises(InputError, match="the mixtures have 2 and 3 dimensions; they must have equally many"):
        distance(f, g)
    with pytest.raises(InputError, match="only the angle is normalised"):
        distance(f, f, "nise", normalised=True)


@pytest.mark.parametrize("kind", ["angle", "chord", "nise", "sqrt_nise", "tanimoto", "cauchy_schwarz"])
@pytest.mark.parametrize("away", [3.0, 12.0, 30.0, 45.0])
def test_far_apart_the_gradient_is_its_closed_form_in_logs(kind, away):
    """Of two unit Gaussians in one dimension, where ρ = exp(-away²/4) and d log ρ / d away = -away / 2."""
    mean = torch.tensor([[away]], dtype=torch.float64, requires_grad=True)
    one, other = (GaussianMixture([1.0], at, torch.ones(1, 1, 1, dtype=torch.float64)) for at in (mean * 0, mean))
    (slope,) = torch.autograd.grad(distance(one, other, kind), mean)
    rho = math.exp(-(away**2) / 4)
    of_rho = {
        "angle": 1 / math.sqrt(1 - rho**2),
        "chord": 1 / math.sqrt(2 - 2 * rho),
        "nise": 1.0,
        "sqrt_nise": 0.5 / math.sqrt(1 - rho),
        "tanimoto": 2 / (2 - rho) - (2 - 2 * rho) / (2 - rho) ** 2,
        "cauchy_schwarz": 1 / rho,
    }[kind]
    assert float(slope) == pytest.approx(of_rho * rho * away / 2, rel=1e-6)


def test_only_logs_keep_a_gradient_where_the_overlap_underflows():
    def slope(measure):
        mean = torch.tensor([[1000.0]], dtype=REAL, requires_grad=True)
        one, other = (GaussianMixture([1.0], at, torch.ones(1, 1, 1, dtype=REAL)) for at in (mean * 0, mean))
        return float(torch.autograd.grad(measure(one, other), mean)[0])

    assert slope(log_inner) == pytest.approx(-500)
    assert slope(lambda f, g: distance(f, g, "cauchy_schwarz")) == pytest.approx(500)
    assert slope(lambda f, g: distance(f, g, "angle")) == slope(lambda f, g: distance(f, g, "nise")) == 0
