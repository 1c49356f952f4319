from itertools import pairwise

import pytest
import torch

from attar.mixtures import CTDGMR, GaussianMixture, distance, random_mixture
from attar.mixtures.barycentres import barycentres, cost_table, wasserstein
from attar.mixtures.merging import merge

COSTS = ["kl", "w2", "ise", "cauchy_schwarz"]
REAL = torch.float64


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("regularisation", [0.0, 0.05])
def test_the_objective_never_grows(cost, regularisation, spread):
    f = spread.select(range(12))
    found = CTDGMR(n_components=4, cost=cost, regularisation=regularisation, start="runnalls").reduce(f)
    values = found.trace[8:]
    assert len(values) >= 1
    assert all(later <= earlier + 1e-9 * abs(earlier) for earlier, later in pairwise(values))


@pytest.mark.parametrize("cost", COSTS)
def test_a_gaussian_costs_nothing_to_itself_and_something_to_others(cost, spread):
    table = cost_table(spread, spread, cost)
    assert table.diagonal().abs().max() < 1e-7
    assert (table[~torch.eye(25, dtype=torch.bool)] > 1e-6).all()


@pytest.mark.parametrize("cost", ["ise", "cauchy_schwarz"])
def test_costs_are_the_distances_of_single_gaussians(cost, spread):
    one, other = spread.select([3]), spread.select([8])
    assert float(cost_table(one, other, cost)) == pytest.approx(float(distance(one, other, cost)), rel=1e-9)


def test_wasserstein_in_one_dimension_is_that_of_means_and_deviations():
    f = GaussianMixture([0.5, 0.5], [0.0, 3.0], [1.0, 4.0])
    table = wasserstein(f, f)
    torch.testing.assert_close(table, torch.tensor([[0.0, 10.0], [10.0, 0.0]], dtype=REAL))
    plan = torch.tensor([[0.5], [0.5]], dtype=REAL)
    middle = barycentres(f, plan, "w2", merge(f))
    assert float(middle.means) == pytest.approx(1.5)
    assert float(middle.covariances) == pytest.approx(1.5**2)


@pytest.mark.parametrize("cost", COSTS)
def test_no_gaussian_is_nearer_than_the_barycentre(cost, generator):
    f = random_mixture(5, 2, generator)
    plan = f.weights[:, None].clone()
    middle = barycentres(f, plan, cost, merge(f))

    def total(g):
        return float((plan * cost_table(f, g, cost)).sum())

    best = total(middle)
    for _ in range(30):
        step = 1e-2 * torch.randn(2, 2, dtype=REAL, generator=generator)
        turn = torch.eye(2, dtype=REAL) + step
        moved = middle.covariances @ turn.mT
        other = GaussianMixture([1.0], middle.means + step[0], turn @ moved)
        assert best <= total(other) + 1e-12


@pytest.mark.parametrize("cost", ["ise", "cauchy_schwarz"])
def test_the_numeric_barycentre_of_one_gaussian_is_itself(cost, generator):
    f = random_mixture(1, 2, generator)
    away = GaussianMixture([1.0], f.means + 0.2, 1.5 * f.covariances)
    middle = barycentres(f, torch.ones(1, 1, dtype=REAL), cost, away)
    torch.testing.assert_close(middle.means, f.means, atol=1e-3, rtol=0)
    torch.testing.assert_close(middle.covariances, f.covariances, atol=1e-3, rtol=0)


def test_without_regularisation_components_go_whole_and_with_it_they_divide(spread):
    weights, costs = spread.weights, cost_table(spread, spread.select([0, 5, 10]), "kl")
    whole = CTDGMR().plan(weights, costs)
    divided = CTDGMR(regularisation=1.0).plan(weights, costs)
    for plan in (whole, divided):
        torch.testing.assert_close(plan.sum(1), weights)
    assert ((whole > 0).sum(1) == 1).all()
    assert ((divided > 0).sum(1) > 1).any()
    torch.testing.assert_close(CTDGMR(regularisation=1e-9).plan(weights, costs), whole)


@pytest.mark.parametrize("start", ["k-means", "em"])
def test_drawn_starts_depend_on_the_seed_and_the_best_counts(start, spread):
    one = CTDGMR(n_components=6, start=start).reduce(spread, seed=1)
    best = CTDGMR(n_components=6, start=start, starts=3).reduce(spread, seed=1)
    assert best.trace[-1] <= one.trace[-1]


def test_moments_are_preserved_with_the_kl_cost(spread):
    for regularisation in (0.0, 0.2):
        g = CTDGMR(n_components=5, regularisation=regularisation, rounds=400).reduce(spread).mixture
        torch.testing.assert_close(g.mean(), spread.mean(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("regularisation", [0.0, 0.1])
def test_as_many_components_come_out_as_were_asked_for(cost, regularisation):
    generator = torch.Generator().manual_seed(0)
    for seed in range(3):
        f = random_mixture(10, 2, generator)
        g = CTDGMR(n_components=5, cost=cost, regularisation=regularisation, rounds=20).reduce(f, seed=seed).mixture
        assert g.n_components == 5
        assert float(g.weights.min()) > 1e-9


@pytest.mark.parametrize("regularisation", [0.0, 0.1])
def test_components_that_are_alike_are_parted_where_more_are_asked_for_than_differ(regularisation):
    f = GaussianMixture([0.25] * 4, [0.0, 0.0, 0.0, 9.0], [1.0] * 4)
    g = CTDGMR(n_components=3, regularisation=regularisation).reduce(f).mixture
    assert g.n_components == 3
    torch.testing.assert_close(g.mean(), f.mean(), atol=1e-6, rtol=0)


def test_a_gaussian_that_is_left_out_begins_again_at_the_costliest_component():
    f = GaussianMixture([0.4, 0.3, 0.3], [0.0, 1.0, 5.0], [1.0] * 3)
    g = GaussianMixture([0.5, 0.5], [1.0, 90.0], [1.0] * 2)
    method = CTDGMR(n_components=2)
    plan, moved = method.full_plan(f, g, cost_table(f, g, "kl"))
    assert moved.means.flatten().tolist() == [1.0, 5.0]
    torch.testing.assert_close(plan.sum(0), torch.tensor([0.7, 0.3], dtype=REAL))
