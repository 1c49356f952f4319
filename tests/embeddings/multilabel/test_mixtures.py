"""Gaussian mixtures: closed forms against quadrature and definitions, invariances, gradients, points far from zero."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from attar.embeddings.contrast import contrast
from attar.embeddings.losses import nt_xent, sup_con
from attar.embeddings.multilabel import mixtures as module
from attar.embeddings.multilabel.mixtures import (
    Mixtures,
    log_correlation,
    log_density,
    log_inner_products,
    log_norms,
    pruned,
    similarity,
    spread_of,
)
from attar.embeddings.multilabel.probmcl import mixture_contrast, negative_log_likelihood
from attar.embeddings.positives import positive_weights


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


def made(draw, samples=5, components=3, d=4, *, diagonal=False, dtype=torch.float64):
    shape = (samples, components, d)
    weights = torch.randn(shape[:2], dtype=dtype, generator=draw).log_softmax(dim=1)
    variances = 0.5 + torch.rand(shape if diagonal else shape[:2], dtype=dtype, generator=draw)
    return Mixtures(weights, torch.randn(shape, dtype=dtype, generator=draw), variances)


def defined(a, b):
    """log ∫ p q by a broadcast over samples, components and coordinates."""
    spread = [m.variances if m.diagonal else m.variances[..., None].expand_as(m.means) for m in (a, b)]
    both = spread[0][:, None, :, None] + spread[1][None, :, None, :]
    apart = a.means[:, None, :, None] - b.means[None, :, None, :]
    log_density = -(apart.square() / both + (2 * math.pi * both).log()).sum(dim=-1) / 2
    weights = a.log_weights[:, None, :, None] + b.log_weights[None, :, None, :]
    return (weights + log_density).logsumexp(dim=(2, 3))


def correlated(a, b):
    own = [defined(one, one).diagonal() for one in (a, b)]
    return defined(a, b) - (own[0][:, None] + own[1]) / 2


def density(points, mixture, sample):
    """p of one sample in one dimension."""
    log_weights, means, variances = (part[sample] for part in mixture)
    return (log_weights.exp() * Normal(means[:, 0], variances.sqrt()).log_prob(points[:, None]).exp()).sum(dim=1)


def test_the_inner_product_is_an_integral(draw):
    mixture = made(draw, 2, 3, 1)
    points = torch.linspace(-30, 30, 20001, dtype=torch.float64)
    product = density(points, mixture, 0) * density(points, mixture, 1)
    integral = torch.trapezoid(product, points).log()
    torch.testing.assert_close(log_inner_products(mixture)[0, 1], integral, rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", [2**16, 40, 1])
@pytest.mark.parametrize("diagonal", [False, True])
def test_blocks_are_the_broadcast(draw, monkeypatch, diagonal, block):
    monkeypatch.setattr(module, "BLOCK", block)
    first, second = made(draw, 7, 3, diagonal=diagonal), made(draw, 4, 2, diagonal=diagonal)
    torch.testing.assert_close(log_inner_products(first), defined(first, first), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_norms(first), defined(first, first).diagonal(), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_correlation(first), correlated(first, first), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_correlation(first, second), correlated(first, second), rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", [2**16, 20])
@pytest.mark.parametrize("diagonal", [False, True])
def test_gradients_are_those_of_the_broadcast(draw, monkeypatch, diagonal, block):
    monkeypatch.setattr(module, "BLOCK", block)
    first, second = made(draw, 4, 2, 3, diagonal=diagonal), made(draw, 3, 3, 3, diagonal=diagonal)
    leaves = [part.requires_grad_() for part in (*first, *second)]
    assert torch.autograd.gradcheck(lambda *parts: log_correlation(Mixtures(*parts)), leaves[:3])
    both = lambda *parts: log_correlation(Mixtures(*parts[:3]), Mixtures(*parts[3:]))  # noqa: E731
    assert torch.autograd.gradcheck(both, leaves)


def test_correlations_are_a_similarity(draw):
    log = log_correlation(made(draw, 30, 4, 3))
    torch.testing.assert_close(log, log.T, rtol=0, atol=1e-12)
    assert not log.diagonal().any()
    assert log.max() <= 0 and log.isfinite().all()
    angle = log.exp().clamp(max=1).arccos()
    assert (angle[:, :, None] <= angle[:, None] + angle.T[None] + 1e-7).all(), "the triangle inequality"


@pytest.mark.parametrize("s, t", [(0.7, 0.7), (0.7, 2.0)])
def test_two_gaussians_have_a_short_formula(draw, s, t):
    means = torch.randn(2, 1, 5, dtype=torch.float64, generator=draw)
    pair = Mixtures(torch.zeros(2, 1).double(), means, torch.tensor([[s], [t]]).double())
    gap = (means[0] - means[1]).square().sum()
    expected = 5 / 2 * math.log(2 * math.sqrt(s * t) / (s + t)) - gap / (2 * (s + t))
    torch.testing.assert_close(log_correlation(pair)[0, 1], expected)


def test_renaming_and_splitting_components_changes_nothing(draw):
    mixture, points = made(draw), torch.randn(5, 4, dtype=torch.float64, generator=draw)
    order = torch.randperm(3, generator=draw)
    renamed = Mixtures(*(part[:, order] for part in mixture))
    log_weights, means, variances = (torch.cat([part, part[:, :1]], dim=1) for part in mixture)
    log_weights[:, 0] -= math.log(2)
    log_weights[:, 3] -= math.log(2)
    for other in (renamed, Mixtures(log_weights, means, variances)):
        torch.testing.assert_close(log_correlation(other), log_correlation(mixture))
        torch.testing.assert_close(log_correlation(mixture, other).diagonal(), torch.zeros(5).double())
        torch.testing.assert_close(log_density(points, other), log_density(points, mixture))


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_density_is_torchs(draw, diagonal):
    mixture, points = made(draw, diagonal=diagonal), torch.randn(5, 4, dtype=torch.float64, generator=draw)
    spread = mixture.variances if diagonal else mixture.variances[..., None].expand_as(mixture.means)
    parts = Independent(Normal(mixture.means, spread.sqrt()), 1)
    oracle = MixtureSameFamily(Categorical(logits=mixture.log_weights), parts).log_prob(points)
    torch.testing.assert_close(log_density(points, mixture), oracle)
    torch.testing.assert_close(negative_log_likelihood(points, mixture), -oracle.mean())


def of_points(z, variance):
    return Mixtures(torch.zeros(len(z), 1).to(z), z[:, None], torch.full((len(z), 1), variance).to(z))


def test_one_component_of_fixed_variance_is_supcon(draw):
    z = F.normalize(torch.randn(12, 6, dtype=torch.float64, generator=draw))
    labels = torch.randint(3, (12,), generator=draw)
    s, tau = 0.8, 0.3
    for score in ("overlap", "jaccard", "dice", "cosine"):
        positives = positive_weights(F.one_hot(labels).bool(), score, 0.5)
        torch.testing.assert_close(mixture_contrast(of_points(z, s), positives, tau), sup_con(z, labels, 2 * s * tau))
    first, second = z[:6], z[6:]
    alone = positive_weights(torch.eye(6).bool().repeat(2, 1), "overlap", 0.5)
    torch.testing.assert_close(
        mixture_contrast(of_points(z, s), alone, tau), nt_xent(first, second, temperature=2 * s * tau)
    )


def test_the_threshold_has_its_limits():
    labels = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]).bool()
    views = torch.arange(5)
    equal = positive_weights(labels, "jaccard", 1.0, same=views)
    assert equal.nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 2], [3, 3], [4, 4]]
    within = positive_weights(labels, "overlap", 1.0, same=views)
    assert within[0, 2] and within[2, 1] and not within[3, 0]
    twice = positive_weights(labels.repeat(2, 1), "overlap", 0.5, same=views.repeat(2))
    assert twice[4].nonzero().flatten().tolist() == [4, 9], "a sample without labels has its other view"


def test_the_similarities_agree_with_the_logarithm(draw):
    mixture = made(draw)
    log = log_correlation(mixture)
    torch.testing.assert_close(similarity(mixture), log)
    torch.testing.assert_close(similarity(mixture, how="correlation"), log.exp())
    off = ~torch.eye(5).bool()
    angle = similarity(mixture, how="angle")
    torch.testing.assert_close(angle[off], (1 - 2 / math.pi * log.exp().arccos())[off])
    means = mixture.means.requires_grad_()
    for how in ("log", "correlation", "angle"):
        (gradient,) = torch.autograd.grad(similarity(mixture, how=how).sum(), means)
        assert gradient.isfinite().all(), "also that of a sample with itself"


@pytest.mark.parametrize("diagonal", [False, True])
def test_far_from_zero_single_precision_is_enough(draw, diagonal):
    exact = made(draw, 12, 4, 16, diagonal=diagonal)
    far = Mixtures(exact.log_weights.float(), exact.means.float() + 100, exact.variances.float())
    shifted = Mixtures(exact.log_weights, far.means.double(), exact.variances)
    torch.testing.assert_close(log_correlation(far), log_correlation(shifted).float(), rtol=1e-4, atol=2e-4)
    torch.testing.assert_close(log_correlation(shifted), log_correlation(exact), rtol=1e-4, atol=1e-4)


def test_variances_of_any_size_are_compared(draw):
    exact = made(draw, 6, 2, 16, diagonal=True)
    scale = torch.logspace(-8, 8, 16, dtype=torch.float64)
    scaled = Mixtures(exact.log_weights, exact.means * scale.sqrt(), exact.variances * scale)
    torch.testing.assert_close(log_correlation(scaled), log_correlation(exact))
    single = Mixtures(*(part.float() for part in scaled))
    torch.testing.assert_close(log_correlation(single), log_correlation(exact).float(), rtol=1e-4, atol=1e-4)
    uneven = exact._replace(variances=exact.variances * 10 ** (16 * torch.rand(6, 2, 16, generator=draw).double() - 8))
    single = Mixtures(*(part.float() for part in uneven))
    torch.testing.assert_close(log_correlation(single), correlated(uneven, uneven).float(), rtol=1e-3, atol=1e-3)


def test_half_precision_and_autocast_compute_in_single(draw):
    mixture = made(draw, dtype=torch.float32)
    expected = log_correlation(mixture)
    means = mixture.means.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = log_correlation(mixture._replace(means=means))
        found.square().sum().backward()
    assert torch.equal(found.detach(), expected)
    plain = mixture.means.clone().requires_grad_()
    log_correlation(mixture._replace(means=plain)).square().sum().backward()
    assert torch.equal(means.grad, plain.grad)
    half = Mixtures(*(part.bfloat16() for part in mixture))
    assert log_correlation(half).dtype == torch.float32


def test_pruning_leaves_what_counts(draw):
    log_weights = torch.tensor([[0.6, 0.3999, 1e-4], [1.0, 1e-9, 1e-9], [2e-4, 0.5, 0.4998]]).double().log()
    mixture = made(draw, 3)._replace(log_weights=log_weights)
    few = pruned(mixture, 1e-3)
    assert few.log_weights.shape == (3, 2)
    torch.testing.assert_close(few.log_weights.exp().sum(dim=1), torch.ones(3).double())
    torch.testing.assert_close(log_correlation(few), log_correlation(mixture), rtol=0, atol=1e-3)
    assert pruned(few, 1e-3).log_weights[1, 1] == -math.inf
    assert pruned(mixture, 1e-12) is mixture
    assert pruned(mixture, 1.0).log_weights.shape == (3, 1)
    leaves = [part.clone().requires_grad_() for part in mixture]
    gradients = torch.autograd.grad(log_correlation(pruned(Mixtures(*leaves), 1e-3)).sum(), leaves)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_spread_is_the_variance_of_samples(draw):
    mixture = made(draw, 1, 3, 2, diagonal=True)
    picked = Categorical(logits=mixture.log_weights[0]).sample((200_000,))
    torch.manual_seed(0)
    samples = Normal(mixture.means[0], mixture.variances[0].sqrt()).sample((200_000,))
    own = samples.gather(1, picked[:, None, None].expand(-1, 1, 2))[:, 0]
    spread = spread_of(mixture)
    torch.testing.assert_close(spread.total[0], own.var(dim=0).mean(), rtol=0.02, atol=0)
    torch.testing.assert_close(spread.entropy[0], Categorical(logits=mixture.log_weights[0]).entropy())
    torch.testing.assert_close(spread.total, spread.variance + spread.means)


def test_the_likelihood_of_labels_counts_the_components_of_present_classes(draw):
    mixture, points = made(draw), torch.randn(5, 4, dtype=torch.float64, generator=draw)
    every = torch.ones(5, 3).bool()
    assert negative_log_likelihood(points, mixture, every) == 0
    labels = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]]).bool()
    joint = module.log_joint(points, mixture).exp()
    share = (joint * labels).sum(dim=1) / joint.sum(dim=1)
    expected = -share[labels.any(dim=1)].log().mean()
    torch.testing.assert_close(negative_log_likelihood(points, mixture, labels), expected)
    assert negative_log_likelihood(points, mixture, ~every) == 0


def test_the_contrast_is_the_core_on_similarities(draw):
    mixture = made(draw, 8)
    positives = torch.rand(8, 8, generator=draw) < 0.4
    others = ~torch.eye(8).bool()
    expected = contrast(similarity(mixture, how="angle") / 0.2, positives & others, others)
    torch.testing.assert_close(mixture_contrast(mixture, positives, 0.2, "angle"), expected)
