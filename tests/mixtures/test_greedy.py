import numpy as np
import pytest
import torch

from attar.mixtures import KINDS, distance, merge_groups, random_mixture
from attar.mixtures.gaussians import Gaussians
from attar.mixtures.greedy import GlobalSearch, merge_cheapest, merge_globally, pair_costs
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.runnalls import kl_bound
from attar.mixtures.williams import local_ise


def renumbered(labels):
    """Groups numbered in the order of their first components."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].tolist()


def plainly(f, n_components, kind):
    """Greedy merging as the definition has it: every candidate made and measured from nothing."""
    labels = np.arange(f.n_components)
    while len(set(labels)) > n_components:
        names = sorted(set(labels))
        tried = []
        for place, i in enumerate(names):
            for j in names[place + 1 :]:
                candidate = torch.tensor(renumbered(np.where(labels == j, i, labels)))
                g = merge_groups(f, candidate, len(names) - 1)
                tried.append((float(distance(f, g, kind)), i, j))
        _, i, j = min(tried)
        labels = np.where(labels == j, i, labels)
    return renumbered(labels)


@pytest.mark.parametrize("kind", KINDS)
def test_the_global_search_makes_the_merges_of_the_definition(kind):
    f = random_mixture(9, 2, torch.Generator().manual_seed(7))
    found = merge_globally(Gaussians.of(f), 3, kind)
    assert renumbered(found.labels) == plainly(f, 3, kind)
    g = found.components.mixture()
    assert found.trace[-1] == pytest.approx(float(distance(f, g, kind)), rel=1e-9)
    torch.testing.assert_close(g.covariances, merge_groups(f, torch.from_numpy(found.labels), 3).covariances)


@pytest.mark.parametrize("seed", range(4))
def test_it_does_so_on_larger_mixtures_too(seed):
    f = random_mixture(12, 4, torch.Generator().manual_seed(seed))
    assert renumbered(merge_globally(Gaussians.of(f), 6, "angle").labels) == plainly(f, 6, "angle")


@pytest.mark.parametrize("filtered", [False, True])
def test_what_is_kept_between_rounds_is_what_recomputing_gives(filtered, spread):
    f = Gaussians.of(spread)
    keep = 60 if filtered else None
    search = GlobalSearch(f, "ise", keep=keep, filter_cost=kl_bound if filtered else None)
    for _ in range(15):
        search.merge_best()
    chosen, values = search.candidates()
    unit = np.exp(search.scale)
    for place in chosen[:: max(len(chosen) // 12, 1)]:
        i, j = int(search.pool.first[place]), int(search.pool.second[place])
        labels = torch.tensor(renumbered(np.where(search.state.labels == j, i, search.state.labels)))
        expected = float(distance(spread, merge_groups(spread, labels, 9), "ise"))
        assert values[np.flatnonzero(chosen == place)[0]] * unit == pytest.approx(expected, abs=1e-12)
    g = GaussianMixture(*search.state.renumbered(search.alive).components.mixture().tensors().values())
    assert search.ise * unit == pytest.approx(float(distance(spread, g, "ise")), abs=1e-12)


def test_the_filter_looks_at_the_cheapest_pairs_and_no_others(spread):
    search = GlobalSearch(Gaussians.of(spread), "angle", keep=12, filter_cost=kl_bound)
    for _ in range(14):
        chosen, _ = search.candidates()
        alive = np.flatnonzero(search.alive)
        first, second = np.triu_indices(len(alive), 1)
        costs = pair_costs(search.parts, alive[first], alive[second], kl_bound)
        wanted = {(int(alive[first[at]]), int(alive[second[at]])) for at in np.argsort(costs)[:12]}
        assert {(int(search.pool.first[at]), int(search.pool.second[at])) for at in chosen} == wanted
        search.merge_best()


def test_a_filter_that_lets_everything_pass_changes_nothing(spread):
    parts = Gaussians.of(spread)
    free = merge_globally(parts, 6, "angle")
    filtered = merge_globally(parts, 6, "angle", keep=300, filter_cost=kl_bound)
    assert renumbered(free.labels) == renumbered(filtered.labels)


def test_a_narrow_filter_is_cheaper_and_little_worse(spread):
    f = random_mixture(90, 2, torch.Generator().manual_seed(0))
    parts = Gaussians.of(f)
    free = merge_globally(parts, 15, "angle")
    filtered = merge_globally(parts, 15, "angle", keep=0, filter_cost=kl_bound)
    assert filtered.evaluations < 0.5 * free.evaluations
    assert filtered.trace[-1] < 1.2 * free.trace[-1]


@pytest.mark.parametrize("cost", ["runnalls", "williams"])
def test_the_local_search_merges_the_cheapest_pair_every_time(cost, spread):
    parts = Gaussians.of(spread)
    of_pair = kl_bound if cost == "runnalls" else local_ise(parts)
    found = merge_cheapest(parts, 5, of_pair)
    labels, trace = np.arange(25), []
    while len(set(labels)) > 5:
        names = sorted(set(labels))
        now = Gaussians.of(merge_groups(spread, torch.tensor(renumbered(labels)), len(names)))
        i, j = np.triu_indices(len(names), 1)
        costs = pair_costs(now, i, j, of_pair)
        trace.append(float(costs.min()))
        labels = np.where(labels == names[j[costs.argmin()]], names[i[costs.argmin()]], labels)
    assert renumbered(found.labels) == renumbered(labels)
    np.testing.assert_allclose(found.trace, trace, rtol=1e-9, atol=1e-15)


def test_costs_are_counted(spread):
    pairs = 25 * 24 // 2
    assert merge_cheapest(Gaussians.of(spread), 23, kl_bound).evaluations == pairs + 23 + 22
    assert merge_globally(Gaussians.of(spread), 23, "ise").evaluations == pairs + 23


def test_high_dimensions_neither_overflow_nor_tie():
    generator = torch.Generator().manual_seed(0)
    f = random_mixture(12, 40, generator, size=1e-6)
    tiny = GaussianMixture(f.weights, f.means * 1e-9, f.covariances * 1e-20)
    found = merge_globally(Gaussians.of(tiny), 4, "nise")
    assert np.isfinite(found.trace).all()
    assert len(set(found.labels)) == 4
