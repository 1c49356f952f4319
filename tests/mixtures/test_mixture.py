import numpy as np
import pytest
import torch

from attar.core.errors import InputError
from attar.mixtures import GaussianMixture, random_mixture
from attar.mixtures.mixture import COVARIANCES

EYE = torch.eye(2, dtype=torch.float64)
WEIGHTS, MEANS = [0.25, 0.75], [[0.0, 0.0], [2.0, 1.0]]
OF_TYPE = {
    "full": [[[1.0, 0.3], [0.3, 2.0]], [[0.5, 0.0], [0.0, 0.5]]],
    "tied": [[1.0, 0.3], [0.3, 2.0]],
    "diag": [[1.0, 2.0], [0.5, 0.25]],
    "spherical": [1.0, 0.5],
}


def typed(kind):
    return GaussianMixture(WEIGHTS, MEANS, OF_TYPE[kind], kind)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_the_full_form_of_every_type_has_the_same_density(kind):
    f, points = typed(kind), torch.linspace(-2, 3, 14, dtype=torch.float64).view(7, 2)
    parts = [
        torch.distributions.MultivariateNormal(mean, covariance).log_prob(points).exp()
        for mean, covariance in zip(f.means, f.full().covariances, strict=True)
    ]
    expected = 0.25 * parts[0] + 0.75 * parts[1]
    torch.testing.assert_close(f.log_prob(points).exp(), expected)
    torch.testing.assert_close(f.full().log_prob(points).exp(), expected)


def test_numbers_are_stored_once(generator):
    assert [typed(kind).parameters for kind in COVARIANCES] == [2 + 4 + 6, 2 + 4 + 3, 2 + 4 + 4, 2 + 4 + 2]


def test_it_is_double_precision_unless_asked():
    f = GaussianMixture(torch.tensor([1.0]), torch.zeros(1, 2), EYE.float()[None])
    assert f.weights.dtype == f.means.dtype == f.covariances.dtype == torch.float64
    single = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float32)
    assert single.full().means.dtype == torch.float32


def test_one_dimension_needs_no_brackets():
    f = GaussianMixture([0.5, 0.5], [0.0, 1.0], [1.0, 2.0])
    assert (f.n_components, f.dimension, tuple(f.covariances.shape)) == (2, 1, (2, 1, 1))


def test_overall_moments_are_those_of_many_samples(generator):
    f = random_mixture(6, 3, torch.Generator().manual_seed(1))
    points = f.sample(200_000, generator)
    torch.testing.assert_close(points.mean(0), f.mean(), atol=0.02, rtol=0)
    torch.testing.assert_close(points.T.cov(), f.covariance(), atol=0.03, rtol=0)


def test_batches_are_taken_apart_by_index(generator):
    one, two = random_mixture(3, 2, generator), random_mixture(3, 2, generator)
    both = GaussianMixture(
        *(torch.stack(pair) for pair in zip(*(f.tensors().values() for f in (one, two)), strict=True))
    )
    assert both.batch_shape == (2,)
    assert torch.equal(both[1].means, two.means)
    torch.testing.assert_close(both.covariance()[0], one.covariance())
    with pytest.raises(InputError, match="single mixture"):
        one[0]


def test_an_affine_map_moves_density_with_it(generator):
    f = random_mixture(4, 2, generator)
    matrix, shift = torch.tensor([[2.0, 0.5], [0.0, 0.3]], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    points = torch.randn(5, 2, dtype=torch.float64, generator=generator)
    moved = f.affine(matrix, shift).log_prob(points @ matrix.T + shift)
    torch.testing.assert_close(moved, f.log_prob(points) - matrix.det().log())


def test_gradients_go_through():
    mean = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    GaussianMixture([1.0], mean, EYE[None]).log_prob(torch.ones(3, 2, dtype=torch.float64)).sum().backward()
    assert torch.equal(mean.grad, torch.full((1, 2), 3.0, dtype=torch.float64))


@pytest.mark.parametrize(
    "weights, means, covariances, kind, sentence",
    [
        ([0.5, 0.6], MEANS, OF_TYPE["diag"], "diag", "the weights sum to 1.1; they must sum to 1."),
        ([-0.5, 1.5], MEANS, OF_TYPE["diag"], "diag", "weights[0] is -0.5; weights must not be negative."),
        ([np.nan, 1], MEANS, OF_TYPE["diag"], "diag", "weights[0] is nan; every number must be finite."),
        (WEIGHTS, [[0, np.inf], [0, 0]], OF_TYPE["diag"], "diag", "means[0, 1] is inf; every number must be finite."),
        (WEIGHTS, MEANS, [[1, 1], [1, -1]], "diag", "the variance of component 1 is -1; it must be positive."),
        (
            WEIGHTS,
            MEANS,
            [[[1, 0], [0, 1]], [[1, 1], [1, 1]]],
            "full",
            "the covariance of component 1 is not positive definite; check it, or fit with a larger reg_covar.",
        ),
        (WEIGHTS, MEANS, [[[1, 0.5], [0, 1]]] * 2, "full", "the covariance of component 0 is not symmetric."),
        (
            WEIGHTS,
            MEANS,
            [[0, 1], [1, 0]],
            "tied",
            "the covariance of the tied mixture is not positive definite; check it, or fit with a larger reg_covar.",
        ),
        (
            WEIGHTS,
            MEANS,
            OF_TYPE["tied"],
            "full",
            "covariances have shape (2, 2); full covariances of 2 components in 2 dimensions must have (2, 2, 2).",
        ),
        ([1.0], MEANS, OF_TYPE["diag"], "diag", "weights have shape (1,); with these means it must be (2,)."),
        (
            WEIGHTS,
            MEANS,
            OF_TYPE["diag"],
            "diagonal",
            "unknown covariance_type 'diagonal'; did you mean 'diag'? Known: diag, full, spherical, tied.",
        ),
    ],
)
def test_a_mixture_that_is_none_is_refused(weights, means, covariances, kind, sentence):
    with pytest.raises(InputError) as refusal:
        GaussianMixture(weights, means, covariances, kind)
    assert str(refusal.value) == sentence


def test_a_wishart_draw_with_too_few_degrees_is_not_mended_in_silence(generator):
    rows = torch.randn(1, 4, 3, dtype=torch.float64, generator=generator)
    with pytest.raises(InputError, match="component 0 is not positive definite"):
        GaussianMixture([1.0], torch.zeros(1, 4), rows @ rows.mT)


def test_weights_may_be_off_by_single_precision():
    weights = torch.full((3,), 1 / 3, dtype=torch.float32)
    GaussianMixture(weights + 1e-7, torch.zeros(3, 1), torch.ones(3), "spherical")


def test_it_names_itself():
    assert repr(typed("tied")) == "GaussianMixture(2 components, 2-D, tied)"
