import pytest
import torch

from attar.core.errors import InputError
from attar.mixtures import KINDS, OGGMR, Runnalls, Williams, distance, random_mixture


def test_merging_by_ise_is_williams_global(spread):
    ours = OGGMR(n_components=6, optimise=False, criterion="ise").reduce(spread)
    theirs = Williams(n_components=6, optimise=False).reduce(spread)
    assert torch.equal(ours.mixture.means, theirs.mixture.means)
    assert ours.trace == theirs.trace


@pytest.mark.parametrize("kind", KINDS)
def test_optimised_it_is_never_worse_than_greedy(kind, standard):
    greedy = OGGMR(n_components=4, optimise=False, criterion=kind).reduce(standard)
    found = OGGMR(n_components=4, criterion=kind).reduce(standard)
    assert found.distance(standard, kind) <= greedy.distance(standard, kind)
    assert torch.equal(found.assignment, greedy.assignment)


@pytest.mark.parametrize("kind", ["angle", "nise", "ise"])
def test_solving_for_weights_helps_in_the_criterion_itself(kind, standard):
    plain = OGGMR(n_components=5, optimise=False, criterion=kind).reduce(standard)
    weighted = OGGMR(n_components=5, optimise=False, criterion=kind, weights_qp=True).reduce(standard)
    assert weighted.distance(standard, kind) < plain.distance(standard, kind)
    assert torch.equal(weighted.mixture.means, plain.mixture.means)


def test_more_starts_are_never_worse_and_are_counted():
    f = random_mixture(10, 3, torch.Generator().manual_seed(4))
    ends = [OGGMR(n_components=4, starts=starts, iterations=30).reduce(f) for starts in (1, 3, 4)]
    distances = [end.distance(f) for end in ends]
    assert distances == sorted(distances, reverse=True)
    assert ends[0].evaluations < ends[1].evaluations < ends[2].evaluations
    again = OGGMR(n_components=4, starts=4, iterations=30).reduce(f)
    assert torch.equal(again.mixture.means, ends[2].mixture.means)


def test_without_optimising_the_best_of_several_mergings_counts(standard):
    found = OGGMR(n_components=5, optimise=False, starts=2).reduce(standard)
    both = [OGGMR(n_components=5, optimise=False), Runnalls(n_components=5)]
    assert found.distance(standard) == min(one.reduce(standard).distance(standard) for one in both)


def test_large_mixtures_are_filtered_unless_told():
    f = random_mixture(80, 2, torch.Generator().manual_seed(0))
    auto, free, given = (OGGMR(n_components=30, optimise=False, pair_filter=keep).reduce(f) for keep in (None, 0, 320))
    assert auto.evaluations < free.evaluations
    assert free.distance(f) <= 1.05 * min(auto.distance(f), given.distance(f))
    small = f.select(range(40))
    plain, free = (OGGMR(n_components=30, optimise=False, pair_filter=keep).reduce(small) for keep in (None, 0))
    assert plain.evaluations == free.evaluations


def test_the_trace_is_the_distance_after_every_merge_and_iteration(standard):
    found = OGGMR(n_components=5).reduce(standard)
    merges = [OGGMR(n_components=left, optimise=False).reduce(standard).distance(standard) for left in (9, 8, 7, 6, 5)]
    assert found.trace[:5] == pytest.approx(merges, rel=1e-6)
    assert found.trace[-1] == pytest.approx(float(distance(standard, found.mixture)), rel=1e-6)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"n_components": 0}, "n_components is 0; it must be at least 1."),
        ({"starts": 0}, "starts is 0; it must be at least 1."),
        ({"pair_filter": -1}, "pair_filter is -1; it must be at least 0."),
        (
            {"criterion": "nisse"},
            "unknown criterion 'nisse'; did you mean 'nise'? "
            "Known: angle, cauchy_schwarz, chord, ise, l2, nise, sqrt_nise, tanimoto.",
        ),
    ],
)
def test_a_setting_out_of_its_range_is_refused(settings, sentence):
    with pytest.raises(InputError) as refusal:
        OGGMR(**settings)
    assert str(refusal.value) == sentence
