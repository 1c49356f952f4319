import pytest
import torch

from attar.core.errors import InputError
from attar.mixtures import BruteForce, distance, merge_groups, random_mixture
from attar.mixtures.brute_force import partitions, portions


@pytest.mark.parametrize("n, groups, count", [(10, 5, 42_525), (10, 6, 22_827), (4, 2, 7), (6, 1, 1), (5, 5, 1)])
def test_every_partition_comes_once(n, groups, count):
    rows = {tuple(row) for portion in portions(n, groups) for row in portion.tolist()}
    assert partitions(n, groups) == count == len(rows)
    assert all(set(row) == set(range(groups)) for row in rows)


@pytest.mark.parametrize("kind", ["angle", "ise", "tanimoto"])
def test_it_finds_the_nearest_of_all(kind):
    f = random_mixture(6, 2, torch.Generator().manual_seed(0))
    found = BruteForce(n_components=3, criterion=kind).reduce(f)
    by_hand = [
        float(distance(f, merge_groups(f, torch.tensor(row), 3), kind))
        for portion in portions(6, 3)
        for row in portion.tolist()
    ]
    assert found.distance(f, kind) == pytest.approx(min(by_hand), rel=1e-9)
    assert found.trace[0] == pytest.approx(min(by_hand), rel=1e-9)
    assert found.evaluations == len(by_hand)


@pytest.mark.parametrize("n, groups, count", [(13, 2, "4,095"), (30, 10, "173,373,343,599,189,364,594,756")])
def test_what_would_take_for_ever_is_refused(n, groups, count, generator):
    with pytest.raises(InputError) as refusal:
        BruteForce(n_components=groups).reduce(random_mixture(n, 1, generator))
    assert str(refusal.value) == (
        f"{n} components into {groups} are {count} partitions; "
        "brute-force takes at most 12 components and 2,000,000 partitions. Use oggmr."
    )
