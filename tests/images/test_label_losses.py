"""A loss of labels in the training of evaluation networks and teachers."""

import dataclasses
import re

import pytest
import torch
import torch.nn.functional as F

from attar.classifiers.losses import EnsLoss, LogHinge
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import Generators
from attar.images.protocols import PROTOCOLS, Chosen, Protocol
from attar.images.targets import labels_loss, loss_of
from attar.images.training import TrainNetwork
from images.helpers import NARROW, PLAIN, assert_same, train
from images.test_training import SoftExamples

BY = {name: dataclasses.replace(PLAIN, loss=name) for name in ("ensloss", "log-hinge", "bce")}


def test_nothing_else_is_told_of_a_protocol():
    assert PROTOCOLS["quick"].told == "quick"
    assert Chosen(name="quick", loss="ensloss").whole().told == "quick, loss ensloss"
    older = {name: value for name, value in PLAIN.to_json().items() if name != "loss"}
    assert Protocol.from_json(older) == PLAIN


def test_training_is_that_loss_in_plain_torch(shapes, engine):
    for name, family in (("ensloss", EnsLoss), ("log-hinge", LogHinge)):
        method = TrainNetwork(architecture=NARROW, protocol=BY[name])
        state, losses = train(method, shapes, Runtime(engine, 4))
        generators, loss, shown = Generators(4), family(), []
        if loss.pseudo:
            loss.generator = generators("loss")
        network = method.resolve(shapes).architecture.build(shapes.shape, 3, generators("network")).train()
        optimizer = torch.optim.SGD(network.parameters(), PLAIN.lr, PLAIN.momentum, weight_decay=PLAIN.weight_decay)
        images = shapes.inputs(torch.arange(len(shapes.train)))
        for _ in range(PLAIN.epochs):
            for rows in torch.randperm(len(images), generator=generators("shuffle")).split(PLAIN.batch):
                logits = network(images[rows])
                values = loss.values(logits, shapes.targets[rows])
                optimizer.zero_grad()
                values.mean().backward()
                optimizer.step()
                told = F.cross_entropy(logits, shapes.targets[rows]) if loss.pseudo else values.mean()
                shown.append(float(told.detach()))
        assert_same(state.network, network, rtol=1e-4, atol=1e-5)
        assert losses == pytest.approx(shown, rel=1e-4)


def test_a_batch_is_sorted_whole(shapes, engine):
    method = TrainNetwork(architecture=NARROW, protocol=BY["ensloss"]).resolve(shapes)
    assert method.build(shapes, Runtime(engine)).at_once == len(shapes.train)


def test_the_usual_loss_is_computed_as_before(shapes, engine):
    assert labels_loss(shapes, PLAIN, Runtime(engine)) is None
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    assert torch.equal(loss_of(logits, targets, PLAIN), F.cross_entropy(logits, targets, reduction="sum"))


def test_soft_labels_mixes_and_teachers_are_refused_in_one_line(shapes, few_digits, engine):
    soft = SoftExamples(few_digits, torch.Generator().manual_seed(0))
    with pytest.raises(
        InputError, match=re.escape("ensloss needs one class for each image, but the labels are soft.")
    ) as told:
        train(TrainNetwork(architecture=NARROW, protocol=BY["ensloss"]), soft, Runtime(engine))
    assert "\n" not in str(told.value)
    with pytest.raises(InputError, match=re.escape("hinge needs one class for each image. Do not set mix.")):
        Protocol(name="own", epochs=1, loss="hinge", mix="cutmix")
    with pytest.raises(
        InputError, match=re.escape("loss is hinge, but this protocol learns from a teacher. Do not set loss.")
    ):
        Chosen(name="rded", mix="none", loss="hinge").whole()
