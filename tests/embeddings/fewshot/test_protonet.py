"""Prototypical networks: reductions, and distances squared or not."""

import pytest
import torch
import torch.nn.functional as F

from attar.embeddings.fewshot.protonet import ProtoNet
from attar.embeddings.losses.prototypes import proto_logits, protonet_loss, prototypical


@pytest.fixture
def episode(generator):
    support = torch.randn(4, 3, 6, dtype=torch.float64, generator=generator)
    queries = torch.randn(8, 6, dtype=torch.float64, generator=generator)
    return support, queries, torch.arange(8) % 4


def test_with_one_support_it_is_the_softmax_over_nearest_neighbours(episode):
    support, queries, labels = episode
    squares = (queries[:, None] - support[:, 0]).square().sum(dim=2)
    torch.testing.assert_close(proto_logits(queries, support[:, 0]), -squares)
    torch.testing.assert_close(protonet_loss(queries, labels, support[:, 0]), F.cross_entropy(-squares, labels))


@pytest.mark.parametrize("distance", ["squared", "unsquared"])
def test_adding_a_constant_changes_nothing(distance, episode):
    support, queries, labels = episode
    loss = protonet_loss(queries, labels, support.mean(dim=1), distance=distance, temperature=2.0)
    moved = protonet_loss(queries + 9, labels, support.mean(dim=1) + 9, distance=distance, temperature=2.0)
    torch.testing.assert_close(moved, loss)


@pytest.mark.parametrize("distance", ["squared", "unsquared"])
def test_it_is_the_loss_of_plain_samples(distance, episode):
    support, queries, labels = episode
    found = protonet_loss(queries, labels, support.mean(dim=1), distance=distance, temperature=2.0)
    flat, classes = support.flatten(0, 1), torch.arange(4).repeat_interleave(3)
    plain = prototypical(queries, labels, flat, classes, squared=distance == "squared", temperature=2.0)
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)  # the distance is smoothed


@pytest.mark.parametrize("distance", ["squared", "unsquared"])
def test_the_method_predicts_by_what_it_learns(distance, episode):
    support, queries, _ = episode
    method = ProtoNet(distance=distance, temperature=3.0)
    logits = proto_logits(queries, support.mean(dim=1), distance=distance, temperature=3.0)
    torch.testing.assert_close(-method.distances(queries, support.mean(dim=1)), logits)
