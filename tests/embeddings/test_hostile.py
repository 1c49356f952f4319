"""Odd settings, data and modules: a line of refusal, or what is right."""

import math

import numpy as np
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from torch import nn

import attar
from attar.core.errors import InputError
from attar.core.registry import METHODS
from attar.embeddings.data.load import load
from attar.embeddings.fewshot.icnn import ICNNLoss
from attar.embeddings.fewshot.protonet import protonet_loss
from attar.embeddings.fewshot.prototriplet import ProtoTripletLoss
from attar.embeddings.losses import DCL, BarlowTwins, InfoNCE, NTXent, Prototypical, SupCon, Triplet
from attar.embeddings.metrics import agreement_at, average_precision, mean_average_precision
from attar.embeddings.multilabel.asl import AsymmetricLoss
from attar.embeddings.multilabel.kernels import kmcl_loss
from attar.embeddings.selfsup.global_contrast import GlobalContrast
from fuzzing import is_one_line
from small import EMBEDDINGS, one_label

ENGINE = attar.Engine(device="cpu", compile="off", quiet=True)
Z = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) // 2
ROWS = torch.arange(18).view(6, 3) % 2
SMALL = {"encoder": "convnet:norm=batch,width=2,depth=1", "epochs": 1}


def refused(wrong):
    """What the single line says. Of values of another type, hints that are checked at run time may say it first."""
    with pytest.raises((InputError, BeartypeCallHintViolation)) as error:
        wrong()
    said = str(error.value)
    assert isinstance(error.value, BeartypeCallHintViolation) or (is_one_line(error.value) and "\n" not in said)
    return said


def trained(name, data, **settings):
    return attar.train(data, METHODS[name].load().from_json({**EMBEDDINGS[name], **settings}), engine=ENGINE)


ODD_LABELS = (
    LABELS[:5],
    LABELS - 1,
    LABELS.float(),
    LABELS.bool(),
    LABELS[None, :, None],
    torch.full((6, 2), math.nan),
    torch.full((6, 2), 0.5),
    -torch.ones(6, 2),
    LABELS[:0],
    LABELS.tolist(),
    LABELS.numpy(),
    "abc",
)
WITH_LABELS = {
    "supcon": SupCon(0.1),
    "jaccard": SupCon(0.1, positives="jaccard"),
    "triplet": Triplet(),
    "hard": Triplet(mining="hard"),
    "icnn": ICNNLoss(),
    "prototypical": lambda z, labels: Prototypical()(z, labels, ref_emb=Z, ref_labels=LABELS),
    "support": lambda z, labels: Prototypical()(Z, LABELS, ref_emb=z, ref_labels=labels),
    "prototypes": lambda z, labels: protonet_loss(z, labels, Z[:3]),
    "prototriplet": lambda z, labels: ProtoTripletLoss()(z, labels, Z[:3]),
}


@pytest.mark.parametrize("name", WITH_LABELS)
def test_odd_labels_are_refused(name):
    for labels in ODD_LABELS:
        refused(lambda labels=labels: WITH_LABELS[name](Z, labels))


@pytest.mark.parametrize("loss", [protonet_loss, ProtoTripletLoss()])
def test_a_label_without_a_prototype_is_refused(loss):
    assert refused(lambda: loss(Z, LABELS + 1, Z[:3])) == "a label is 3, but there are 3 prototypes, from 0."


OF_VIEWS = (NTXent(), DCL(), DCL(0.1, 0.5), InfoNCE(), InfoNCE(queue=3, width=4), BarlowTwins())


@pytest.mark.parametrize("odd", [Z[0], Z[None], Z[:, :3], Z.numpy(), Z.tolist(), Z.to(torch.complex64), None])
def test_what_are_no_embeddings_is_refused(odd):
    for loss in OF_VIEWS:
        refused(lambda loss=loss: loss(Z, odd))
    for loss in (SupCon(), Triplet()):
        refused(lambda loss=loss: loss(Z, LABELS, ref_emb=odd, ref_labels=LABELS))
    refused(lambda: GlobalContrast(6)(Z, odd, torch.arange(6)))


@pytest.mark.parametrize("temperature", [0, -1, math.nan, math.inf, 1e-300, 1e300, "x", None, torch.tensor(-1.0)])
def test_a_temperature_that_is_none_is_refused(temperature):
    for loss in (NTXent, SupCon, InfoNCE, DCL, Prototypical):
        kind = {"temperature": temperature}
        refused(lambda loss=loss, kind=kind: loss(**kind)(*((Z, LABELS) if loss is SupCon else (Z, Z))))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: DCL(0.1, 0.0)(Z, Z),
        lambda: DCL(0.1, -1.0)(Z, Z),
        lambda: BarlowTwins(-1.0)(Z, Z),
        lambda: Triplet(-1.0)(Z, LABELS),
        lambda: Triplet(math.nan)(Z, LABELS),
        lambda: Triplet(mining="nearest")(Z, LABELS),
        lambda: AsymmetricLoss(-1.0)(Z[:, :3], ROWS),
        lambda: AsymmetricLoss(clip=2.0)(Z[:, :3], ROWS),
        lambda: AsymmetricLoss(reduction="all")(Z[:, :3], ROWS),
        lambda: AsymmetricLoss()(Z[:, :3], ROWS - 1),
        lambda: AsymmetricLoss()(Z[:, :3], torch.full((6, 3), math.nan)),
        lambda: kmcl_loss(Z[:, :3], Z[:, :3].exp(), ROWS[:5], features=4),
        lambda: kmcl_loss(Z[:, :3], Z[:, :3].exp(), LABELS, features=4),
        lambda: kmcl_loss(Z[:, :3], Z[:, :3].exp(), ROWS * 0.5, features=4),
        lambda: kmcl_loss(Z[:, :3], Z[:, :2].exp(), ROWS, features=4),
        lambda: average_precision(Z[:, :3], ROWS * 0.5),
        lambda: average_precision(Z[:, 0], ROWS[:, 0]),
        lambda: agreement_at(Z[:, :3], ROWS - 1, 0.5),
    ],
)
def test_settings_and_labels_without_sense_are_refused(wrong):
    refused(wrong)


def test_marks_of_0_and_1_are_those_of_yes_and_no():
    scores = Z[:, :3]
    assert mean_average_precision(scores, ROWS.float()) == mean_average_precision(scores, ROWS.bool())
    assert agreement_at(scores, ROWS, 0.5) == agreement_at(scores, ROWS.bool(), 0.5)


@pytest.mark.parametrize(
    "given",
    [
        (LABELS, LABELS + 9, LABELS),
        (LABELS - 1, LABELS, LABELS),
        (LABELS.float(), LABELS, LABELS),
        (LABELS[:2], LABELS, LABELS),
        (LABELS, LABELS),
        ((0, 1), (1, 2), (3, 4)),
        "abc",
        5,
    ],
)
def test_odd_pairs_of_a_miner_are_refused(given):
    for loss in (SupCon(), Triplet()):
        refused(lambda loss=loss: loss(Z, None, given))


@pytest.mark.parametrize("index", [[0, 1, 2, 3, 4, 5], np.arange(6), None, torch.arange(5), torch.arange(6) + 1])
def test_odd_numbers_of_samples_are_refused(index):
    refused(lambda: GlobalContrast(6)(Z, Z + 1, index))


@pytest.mark.parametrize(
    "setting",
    [
        {"rho": -1.0},
        {"rho": math.nan},
        {"eta": -1.0},
        {"beta": 2.0},
        {"gamma_decay": -1.0},
        {"largest_step": -1.0},
        {"gradient_limit": -1.0},
        {"hinge": -1.0},
        {"temperature_range": 5},
        {"dtype": torch.float16},
        {"dtype": torch.int32},
    ],
)
def test_a_memory_is_not_made_of_odd_settings(setting):
    refused(lambda: GlobalContrast(6, temperatures="individual", **setting))


def test_a_batch_that_is_not_finite_leaves_no_trace_in_a_queue():
    loss = InfoNCE(queue=4, width=4)
    before = loss.queue.keys.clone()
    odd = Z[:3].clone()
    odd[1] = math.nan
    assert loss(odd, odd).isnan()
    assert torch.equal(loss.queue.keys[1], before[1]) and loss.queue.keys.isfinite().all()
    assert loss(Z, Z).isfinite()


def test_correlations_of_what_is_not_finite_are_not_taken_for_those_of_constants():
    assert BarlowTwins()(Z, Z * math.nan).isnan()
    assert BarlowTwins()(Z, torch.ones_like(Z)).isfinite()


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_any_momentum_below_one_is_one_for_adam(optimizer):
    data = one_label()
    assert trained("simclr", data, **SMALL, optimizer=optimizer, momentum=0).summary
    said = refused(lambda: trained("simclr", data, **SMALL, optimizer=optimizer, momentum=1))
    assert said == "momentum is 1; with Adam it must be below 1."
    assert trained("simclr", data, **SMALL, optimizer="lars", momentum=1).summary


@pytest.mark.parametrize("name", ["simclr", "simsiam", "barlow", "moco"])
def test_a_single_sample_is_refused(name):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8), dtype=np.uint8)
    data = load(((images[:1], [0]), (images, [0, 0])))
    assert "1 sample to learn from" in refused(lambda: trained(name, data, **SMALL))


class Flat(nn.Module):
    """A linear encoder."""

    def __init__(self, pixels=64, change=lambda features: features):
        super().__init__()
        self.layer, self.change = nn.Linear(pixels, 4), change

    def forward(self, images):
        """Features."""
        return self.change(self.layer(images.flatten(1)))


@pytest.mark.parametrize(
    "module",
    [
        Flat(65),
        Flat(change=lambda features: (features,)),
        Flat(change=lambda features: features[..., None]),
        Flat(change=lambda features: features[:1]),
        Flat(change=lambda features: features[:, :0]),
        Flat(change=lambda features: features.long()),
        Flat().double(),
        Flat,
        "conv4",
    ],
)
def test_an_own_module_that_is_no_encoder_is_refused(module):
    settings = {key: value for key, value in EMBEDDINGS["simclr"].items() if key != "encoder"}
    method = METHODS["simclr"].load().from_json({**settings, "epochs": 1})
    refused(lambda: attar.train(one_label(), method, module=module, engine=ENGINE))


def test_an_own_module_in_half_precision_is_trained_in_single_precision():
    method = METHODS["simclr"].load().from_json({"epochs": 1, "batch": 60})
    found = attar.train(one_label(), method, module=Flat().half(), engine=ENGINE)
    assert all(value.dtype == torch.float32 for value in found.encoder.parameters())
