"""Every reducer: the sheet's table of values, what all of them promise, and the rivals on random mixtures."""

import json
import math

import pytest
import torch
from scipy.stats import binomtest

from attar.core.errors import InputError
from attar.mixtures import (
    COWA,
    GMRC,
    METHODS,
    OGGMR,
    BruteForce,
    GaussianMixture,
    Runnalls,
    Salmond,
    West,
    Williams,
    best_weights,
    distance,
    merge,
    random_mixture,
    reduce,
)
from attar.mixtures.direct import Direct
from attar.mixtures.sources import digits_mixture

GREEDY = {
    "salmond": Salmond,
    "west-ise": lambda **settings: West(enhanced=False, **settings),
    "west-kl": lambda **settings: West(enhanced=False, near="kl", **settings),
    "enhanced-west": West,
    "runnalls": Runnalls,
    "gmrc-clusters": lambda **settings: GMRC(optimise=False, **settings),
    "williams-local": lambda **settings: Williams(merge_cost="local", optimise=False, **settings),
    "williams-global": lambda **settings: Williams(optimise=False, **settings),
    "oggmr-greedy": lambda **settings: OGGMR(optimise=False, **settings),
    "brute-force": BruteForce,
}
TABLE = {
    "salmond": (0.018314, 0.019185, 0.124453, 0.006408),
    "west-ise": (0.038123, 0.041831, 0.180219, 0.021452),
    "west-kl": (0.015900, 0.016480, 0.115675, 0.015266),
    "enhanced-west": (0.026635, 0.027716, 0.150103, 0.001258),
    "runnalls": (0.026635, 0.027716, 0.150103, 0.001258),
    "gmrc-clusters": (0.026635, 0.027716, 0.150103, 0.001258),
    "williams-local": (0.002952, 0.002995, 0.048327, 0.001258),
    "williams-global": (0.002952, 0.002995, 0.048327, 0.001114),
    "oggmr-greedy": (0.002952, 0.002995, 0.048327, 0.001114),
    "brute-force": (0.002952, 0.002995, 0.048327, 0.000406),
}


def measured(f, g):
    return [float(distance(f, g, kind)) for kind in ("ise", "nise")] + [float(distance(f, g, normalised=True))]


@pytest.mark.parametrize("name", TABLE)
def test_the_standard_mixture_merged_into_five_and_six(name, standard):
    *of_five, nise_of_six = TABLE[name]
    five = GREEDY[name](n_components=5).reduce(standard).mixture
    assert measured(standard, five) == pytest.approx(of_five, abs=1e-5)
    six = GREEDY[name](n_components=6).reduce(standard).mixture
    assert float(distance(standard, six, "nise")) == pytest.approx(nise_of_six, abs=1e-5)


def test_the_standard_mixture_as_one_gaussian(standard):
    assert measured(standard, merge(standard)) == pytest.approx([0.138669, 0.161589, 0.358371], abs=1e-5)


def test_runnalls_components(standard):
    found = Runnalls(n_components=5).reduce(standard)
    by_mean = found.mixture.means.flatten().argsort()
    rows = torch.stack([tensor.flatten() for tensor in found.mixture.tensors().values()], dim=1)[by_mean]
    expected = [
        [0.19, 0.48, 0.0174],
        [0.40, 0.85, 0.06948],
        [0.15, 1.435333, 0.039605],
        [0.18, 2.2, 0.0305],
        [0.08, 2.77, 0.0115],
    ]
    torch.testing.assert_close(rows, torch.tensor(expected, dtype=torch.float64), atol=1e-5, rtol=0)
    assert found.assignment.tolist() == [0, 1, 2, 3, 0, 2, 2, 0, 4, 2]


def test_best_weights_on_merged_gaussians(standard):
    on_runnalls = best_weights(standard, Runnalls(n_components=5).reduce(standard).mixture)
    assert measured(standard, on_runnalls) == pytest.approx([0.020204, 0.020920, 0.130410], abs=1e-5)
    on_williams = best_weights(standard, Williams(n_components=5, optimise=False).reduce(standard).mixture)
    assert measured(standard, on_williams) == pytest.approx([0.002474, 0.002535, 0.045220], abs=1e-5)


@pytest.mark.parametrize(
    "method, expected",
    [
        (Williams(n_components=5), (0.000170, 0.000175, 0.011695)),
        (GMRC(n_components=5), (0.000170, 0.000175, 0.011695)),
        (Direct(n_components=5, criterion="ise"), (0.000170, 0.000175, 0.011695)),
        (Direct(n_components=5), (0.000170, 0.000175, 0.011688)),
        (OGGMR(n_components=5), (0.000175, 0.000179, 0.011589)),
    ],
    ids=["williams", "gmrc", "ise", "nise", "angle"],
)
def test_the_standard_mixture_optimised(method, expected, standard):
    assert measured(standard, method.reduce(standard).mixture) == pytest.approx(expected, abs=1e-6)


def test_the_least_angle_of_five_components(standard):
    g = OGGMR(n_components=5).reduce(standard).mixture
    rows = torch.stack([tensor.flatten() for tensor in g.tensors().values()], dim=1)[g.means.flatten().argsort()]
    expected = [
        [0.2747, 0.4925, 0.0231],
        [0.2551, 0.9108, 0.0133],
        [0.2113, 1.3630, 0.0586],
        [0.1779, 2.2025, 0.0293],
        [0.0809, 2.7694, 0.0117],
    ]
    torch.testing.assert_close(rows, torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=0)
    assert abs(float(g.mean() - standard.mean())) == pytest.approx(0.0075, abs=1e-4)
    assert float(distance(standard, OGGMR(n_components=6).reduce(standard).mixture, "nise")) < 4e-6


# What all of them promise.

SMALL = [*METHODS]


def settings(name, **more):
    return METHODS[name](**more)


@pytest.mark.parametrize("name", SMALL)
def test_settings_survive_json(name):
    method = settings(name, n_components=3)
    assert type(method).from_json(json.loads(json.dumps(method.to_json()))) == method


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_mixture(name, standard):
    one, again = (settings(name, n_components=4).reduce(standard, seed=3) for _ in range(2))
    for first, second in zip(one.mixture.tensors().values(), again.mixture.tensors().values(), strict=True):
        assert torch.equal(first, second)
    assert (one.trace, one.evaluations) == (again.trace, again.evaluations)


@pytest.mark.parametrize("name", SMALL)
def test_the_result_is_a_mixture_of_no_more_components(name):
    f = random_mixture(9, 2, torch.Generator().manual_seed(2))
    found = settings(name, n_components=4).reduce(f)
    g = found.mixture
    GaussianMixture(*g.tensors().values())  # checks weights and covariances
    assert g.n_components <= 4
    assert found.assignment.shape == (9,)
    assert set(found.assignment.tolist()) <= set(range(g.n_components))
    assert found.evaluations > 0 < found.seconds
    assert float(distance(f, g)) < float(distance(f, merge(f)))


@pytest.mark.parametrize("name", SMALL)
def test_a_mixture_that_is_small_enough_stays_as_it_is(name, standard):
    found = settings(name, n_components=10).reduce(standard)
    assert all(map(torch.equal, found.mixture.tensors().values(), standard.tensors().values()))
    assert found.assignment.tolist() == list(range(10))


@pytest.mark.parametrize("name", ["salmond", "west", "runnalls", "brute-force"])
def test_merging_everything_gives_the_overall_moments(name, spread):
    f = spread.select(range(8))
    g = settings(name, n_components=1).reduce(f).mixture
    torch.testing.assert_close(g.means[0], f.mean())
    torch.testing.assert_close(g.covariances[0], f.covariance())


@pytest.mark.parametrize("name", [name for name in SMALL if name != "brute-force"])
def test_every_covariance_type_is_taken(name, standard):
    flat = GaussianMixture(standard.weights, standard.means, standard.covariances[:, :, 0], "diag")
    full, diagonal = (settings(name, n_components=5).reduce(f).mixture for f in (standard, flat))
    torch.testing.assert_close(full.means, diagonal.means, atol=1e-4, rtol=1e-3)
    assert diagonal.covariance_type == "full"


def test_a_mixture_with_gradients_is_taken(standard):
    means = standard.means.clone().requires_grad_()
    f = GaussianMixture(standard.weights, means, standard.covariances)
    for method in (Salmond(n_components=5), OGGMR(n_components=5)):
        assert not method.reduce(f).mixture.means.requires_grad


@pytest.mark.parametrize("name", SMALL)
def test_more_components_than_there_are_is_refused(name, standard):
    with pytest.raises(InputError) as refusal:
        settings(name, n_components=11).reduce(standard)
    assert str(refusal.value) == "n_components is 11, but the mixture has 10; ask for that or fewer."


def test_a_batch_is_refused(standard):
    batch = GaussianMixture(*(tensor.expand(3, *tensor.shape) for tensor in standard.tensors().values()))
    with pytest.raises(InputError, match=r"batch of mixtures, \(3,\). Reduce them one by one"):
        Runnalls(n_components=5).reduce(batch)


HARD = {
    "weights of zero": lambda w, m, s: (torch.tensor([0.0, 0.2, 0.0, 0.2, 0.2, 0.2, 0.2]).double(), m, s),
    "all the same": lambda w, m, s: (w, m[[0] * 7], s[[0] * 7]),
    "far apart": lambda w, m, s: (w, 1e6 * m, s),
    "in tiny units": lambda w, m, s: (w, 1e-8 * m, 1e-16 * s),
    "one a needle": lambda w, m, s: (w, m, torch.cat([1e-14 * s[:1], s[1:]])),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("how", HARD)
def test_hard_mixtures_are_reduced_all_the_same(how, name):
    f = random_mixture(7, 2, torch.Generator().manual_seed(0))
    f = GaussianMixture(*HARD[how](*f.tensors().values()))
    limit = {"iterations": 15} if "iterations" in METHODS[name].__dataclass_fields__ else {}
    found = settings(name, n_components=3, **limit).reduce(f)
    GaussianMixture(*found.mixture.tensors().values())
    assert all(map(math.isfinite, found.trace))
    assert distance(f, found.mixture).isfinite()


def test_one_function_for_all(standard):
    by_name = reduce(standard, 5, "west", enhanced=False, near="kl")
    by_settings = reduce(standard, 5, West(enhanced=False, near="kl"))
    assert torch.equal(by_name.mixture.means, by_settings.mixture.means)
    with pytest.raises(InputError, match="unknown method 'ogmr'; did you mean 'oggmr'"):
        reduce(standard, 5, "ogmr")
    with pytest.raises(InputError, match="unknown setting of West 'close'"):
        reduce(standard, 5, "west", close="kl")
    with pytest.raises(InputError, match="n_components is 0; it must be at least 1"):
        reduce(standard, 0)


# Rivals, small: the whole comparison is in bench/mixtures.py.


def angles(method, mixtures):
    return [method.reduce(f).distance(f) for f in mixtures]


def wins(ours, theirs):
    """How often ours is strictly nearer where they differ, with Wilson's 95 % interval."""
    apart = [(one, other) for one, other in zip(ours, theirs, strict=True) if abs(one - other) > 1e-9]
    nearer = sum(one < other for one, other in apart)
    return binomtest(nearer, len(apart)).proportion_ci(method="wilson")


def test_merging_by_the_angle_against_every_greedy_rival_on_random_mixtures():
    generator = torch.Generator().manual_seed(0)
    mixtures = [random_mixture(10, 4, generator) for _ in range(24)]
    ours = angles(OGGMR(n_components=5, optimise=False), mixtures)
    for rival in (Salmond, Runnalls, West, COWA, GREEDY["gmrc-clusters"]):
        assert wins(ours, angles(rival(n_components=5), mixtures)).low > 0.5
    best = angles(BruteForce(n_components=5), mixtures[:4])
    assert all(one <= other + 1e-9 for one, other in zip(best, ours, strict=False))


def test_optimised_it_beats_every_partition_and_other_criteria_in_its_own():
    generator = torch.Generator().manual_seed(1)
    mixtures = [random_mixture(10, 4, generator) for _ in range(4)]
    ours = angles(OGGMR(n_components=5, iterations=60), mixtures)
    assert all(one < other for one, other in zip(ours, angles(BruteForce(n_components=5), mixtures), strict=True))
    for criterion in ("nise", "ise"):
        same_start = angles(OGGMR(n_components=5, criterion=criterion, iterations=60), mixtures)
        assert sum(ours) <= 1.05 * sum(same_start)


@pytest.mark.parametrize(
    "method, of_ten, of_twenty",
    [
        (Salmond, 0.0481, 0.0312),
        (GREEDY["williams-local"], 0.0514, 0.0163),
        (Runnalls, 0.0522, 0.0261),
        (West, 0.1011, 0.0662),
    ],
    ids=["salmond", "williams", "runnalls", "enhanced-west"],
)
def test_digits(method, of_ten, of_twenty):
    f = digits_mixture()
    for count, nise in ((10, of_ten), (20, of_twenty)):
        assert method(n_components=count).reduce(f).distance(f, "nise") == pytest.approx(nise, rel=0.1)


def test_optimising_the_digits_about_halves_what_is_left():
    f = digits_mixture()
    runnalls = Runnalls(n_components=10).reduce(f).distance(f, "nise")
    direct = Direct(n_components=10, start_from=("runnalls",)).reduce(f).distance(f, "nise")
    ours = OGGMR(n_components=10).reduce(f).distance(f, "nise")
    assert direct == pytest.approx(0.0280, rel=0.1)
    assert max(direct, ours) < 0.65 * runnalls
    assert abs(direct - ours) < 0.1 * direct
