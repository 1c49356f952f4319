import pytest
import torch

from attar.core.errors import InputError
from attar.mixtures import GaussianMixture, merge, merge_groups
from attar.mixtures.merging import merge_shares


def test_everything_merged_has_the_overall_moments(spread):
    whole = merge(spread)
    assert float(whole.weights) == pytest.approx(1)
    torch.testing.assert_close(whole.means[0], spread.mean())
    torch.testing.assert_close(whole.covariances[0], spread.covariance())


def test_groups_preserve_weight_mean_and_covariance_of_the_whole(spread):
    labels = torch.arange(25) % 4
    small = merge_groups(spread, labels, 4)
    torch.testing.assert_close(small.weights.sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(small.mean(), spread.mean())
    torch.testing.assert_close(small.covariance(), spread.covariance())


def test_merging_sets_is_associative(spread):
    in_steps = merge_groups(merge_groups(spread, torch.arange(25) // 5, 5), torch.tensor([0, 0, 1, 1, 1]), 2)
    at_once = merge_groups(spread, (torch.arange(25) >= 10).long(), 2)
    for one, other in zip(in_steps.tensors().values(), at_once.tensors().values(), strict=True):
        torch.testing.assert_close(one, other)


def test_divided_components_preserve_moments_too(spread, generator):
    shares = torch.rand(25, 3, dtype=torch.float64, generator=generator)
    small = merge_shares(spread, shares / shares.sum(1, keepdim=True))
    torch.testing.assert_close(small.covariance(), spread.covariance())


def test_batches_are_merged_one_by_one(spread):
    pair = GaussianMixture(*(torch.stack([tensor, tensor.roll(1, 0)]) for tensor in spread.tensors().values()))
    torch.testing.assert_close(merge(pair).covariances[0], merge(spread).covariances)


def test_gradients_go_through(spread):
    means = spread.means.clone().requires_grad_()
    merge(GaussianMixture(spread.weights, means, spread.covariances, check=False)).means.sum().backward()
    torch.testing.assert_close(means.grad, spread.weights[:, None].expand(25, 3))


def test_an_empty_group_is_refused(spread):
    with pytest.raises(InputError, match="none of them empty"):
        merge_groups(spread, torch.zeros(25, dtype=torch.long), 2)
