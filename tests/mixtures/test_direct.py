import pytest

from attar.core.errors import InputError
from attar.mixtures.direct import Direct


def test_the_best_of_its_starts_counts(standard):
    starts = ("runnalls", "williams", "k-means")
    each = [Direct(n_components=3, start_from=(start,)).reduce(standard) for start in starts]
    best = Direct(n_components=3, start_from=starts).reduce(standard)
    assert best.distance(standard, "nise") == min(one.distance(standard, "nise") for one in each)


@pytest.mark.parametrize("criterion", ["ise", "nise", "cauchy_schwarz"])
def test_each_criterion_is_least_in_its_own_measure(criterion, standard):
    ends = {
        name: Direct(n_components=4, criterion=name).reduce(standard).distance(standard, criterion)
        for name in ("ise", "nise", "cauchy_schwarz")
    }
    assert ends[criterion] <= min(ends.values()) + 1e-9


def test_an_unknown_start_is_refused():
    with pytest.raises(InputError, match="unknown number 2 of start_from 'kmeans'; did you mean 'k-means'"):
        Direct(start_from=("em", "kmeans"))
    with pytest.raises(InputError, match=r"start_from is empty\. Name at least one of runnalls, williams, k-means, em"):
        Direct(start_from=())
