"""The Proto-Triplet loss: its values, its limits, and the recorded results of the authors' function."""

import pytest
import torch
import torch.nn.functional as F

from attar.core.errors import InputError
from attar.embeddings.fewshot.prototriplet import ProtoTripletLoss, proto_triplet_loss
from attar.embeddings.losses.prototypes import protonet_loss
from embeddings.fewshot.helpers import cases

RECORDED = cases("proto_triplet")
QUERIES, PROTOTYPES = torch.tensor([[0.0, 0.0], [4.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 0.0]])


@pytest.mark.parametrize(("labels", "loss"), [([0, 1], 0.0), ([1, 0], 2.49999967)])
def test_queries_beside_their_own_prototype_cost_nothing_and_beside_the_other_much(labels, loss):
    found = proto_triplet_loss(QUERIES.double(), torch.tensor(labels), PROTOTYPES.double())
    assert float(found) == pytest.approx(loss, abs=1e-8)


@pytest.mark.parametrize("case", RECORDED)
def test_it_gives_the_recorded_loss_and_gradients(case):
    made = RECORDED[case]
    queries, prototypes = (made[f"in.{name}"].clone().requires_grad_() for name in ("queries", "prototypes"))
    loss = proto_triplet_loss(queries, made["in.labels"], prototypes)
    torch.testing.assert_close(loss, made["out.loss"], rtol=0, atol=1e-14)
    found = torch.autograd.grad(loss, (queries, prototypes))
    for gradient, name in zip(found, ("queries", "prototypes"), strict=True):
        torch.testing.assert_close(gradient, made[f"out.grad.{name}"], rtol=0, atol=1e-13)


def test_with_two_classes_it_is_the_triplet_loss(generator):
    queries, prototypes = (torch.randn(n, 4, dtype=torch.float64, generator=generator) for n in (10, 2))
    labels = torch.arange(10) % 2
    own, other = prototypes[labels], prototypes[1 - labels]
    plain = F.triplet_margin_with_distance_loss(
        queries,
        own,
        other,
        distance_function=lambda a, b: ((a - b).square().sum(dim=1) + 1e-6).sqrt(),
        margin=0.5,
    )
    torch.testing.assert_close(proto_triplet_loss(queries, labels, prototypes), plain)


def test_soft_and_squared_with_two_classes_it_is_the_cross_entropy_of_a_prototypical_network(generator):
    queries, prototypes = (torch.randn(n, 4, dtype=torch.float64, generator=generator) for n in (10, 2))
    labels = torch.arange(10) % 2
    soft = proto_triplet_loss(queries, labels, prototypes, 0.0, distance="squared", soft=True)
    torch.testing.assert_close(soft, protonet_loss(queries, labels, prototypes))
    module = ProtoTripletLoss(0.0, distance="squared", soft=True)
    assert torch.equal(module(queries, labels, prototypes), soft)


def test_below_every_margin_it_is_zero_without_a_gradient(generator):
    queries = torch.randn(6, 3, generator=generator, requires_grad=True)
    loss = proto_triplet_loss(queries, torch.arange(6) % 3, torch.randn(3, 3, generator=generator), -1e9)
    assert float(loss.detach()) == 0
    assert not torch.autograd.grad(loss, queries)[0].any()


def test_its_margin_has_the_unit_of_the_embeddings(generator):
    queries, prototypes = torch.randn(8, 3, generator=generator), torch.randn(4, 3, generator=generator)
    labels = torch.arange(8) % 4
    one, ten = (proto_triplet_loss(scale * queries, labels, scale * prototypes) for scale in (1, 10))
    assert abs(float(one) - float(ten)) > 0.5
    torch.testing.assert_close(
        proto_triplet_loss(10 * queries, labels, 10 * prototypes, 5.0), 10 * one, rtol=1e-4, atol=0
    )


def test_a_single_prototype_is_refused():
    with pytest.raises(InputError, match="needs two prototypes"):
        proto_triplet_loss(QUERIES, torch.tensor([0, 0]), PROTOTYPES[:1])
