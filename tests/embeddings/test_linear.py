"""The linear classifier on frozen features, and the projector."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.training import set_lr
from attar.embeddings.artefact import TrainedEncoder
from attar.embeddings.encoders import WithModule
from attar.embeddings.heads import Projector
from attar.embeddings.linear import Linear, LinearClassifier, classification_loss
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.sources import Features, Part, Source, Standard


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def source(labels, features):
    part = Part(Features(features), labels)
    classes = tuple("abcdefgh"[: int(labels.max()) + 1 if labels.ndim == 1 else labels.shape[1]])
    return Source("numbers", classes, part, part, Standard.of(features))


def fitted(features, labels, how, classes):
    """The classifier as the loop trains it."""
    head = LinearClassifier(features.shape[1], classes)
    head.fit_scale_(features)
    optimizer = how.optimizer_of(head.parameters())
    for step in range(how.steps(len(features))):
        set_lr(optimizer, how.lr_at(step, len(features)))
        loss = classification_loss(head(features), labels, how.loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("loss", ["cross-entropy", "bce", "focal", "asl"])
def test_one_hot_features_are_told_apart_whatever_their_scale(loss, scale):
    labels = torch.randint(5, (60,), generator=rng())
    onehot = F.one_hot(labels, 5)
    given = labels if loss == "cross-entropy" else onehot.bool()
    head = fitted(scale * onehot.float(), given, Linear(epochs=100, loss=loss), 5)
    assert torch.equal(head(scale * onehot.float()).argmax(dim=1), labels)


def test_losses_are_sums_over_classes_and_means_over_samples():
    logits, labels = torch.randn(6, 4, generator=rng()), torch.rand(6, 4, generator=rng(1)) > 0.5
    wanted = nn.BCEWithLogitsLoss(reduction="sum")(logits, labels.float()) / 6
    torch.testing.assert_close(classification_loss(logits, labels, "bce"), wanted)
    one = labels.int().argmax(dim=1)
    torch.testing.assert_close(classification_loss(logits, one, "cross-entropy"), nn.CrossEntropyLoss()(logits, one))


def test_a_constant_feature_keeps_its_scale():
    head = LinearClassifier(3, 2)
    head.fit_scale_(torch.tensor([[1.0, 7.0, 0.0], [3.0, 7.0, 0.0]]))
    assert head.std.tolist() == [1, 1, 1] and head.mean.tolist() == [2, 7, 0]
    assert head(torch.tensor([[1.0, 8.0, 5.0]])).isfinite().all()


@pytest.mark.parametrize("several", [False, True])
def test_it_is_the_last_stage_of_a_run_and_is_saved(several, tmp_path):
    labels = torch.arange(40) % 4
    features = F.one_hot(labels, 4).float() + 0.01 * torch.randn(40, 4, generator=rng())
    given = F.one_hot(labels, 4).bool() if several else labels
    data, runtime = source(given, features), Runtime(Engine(), 0)
    method = SimCLR(encoder="mlp:width=32,features=16", epochs=1, batch=20, linear=Linear(epochs=60, batch=20, lr=0.05))
    method = method.resolve(data, runtime)
    assert method.linear.loss == ("asl" if several else "cross-entropy")
    assert method.total_steps == 2 + 120
    state = method.build(data, runtime)
    for _ in range(2):
        method.step(state, runtime)
    encoder = [weights.clone() for weights in state.encoder.parameters()]
    for _ in range(120):
        method.step(state, runtime)
    assert all(torch.equal(one, other) for one, other in zip(encoder, state.encoder.parameters(), strict=True))
    assert not torch.equal(state.heads["linear"].std, torch.ones(16))
    saved = method.result(state, runtime).save(tmp_path)
    found = TrainedEncoder.load(tmp_path).predict_proba(features.numpy())
    assert (found.argmax(axis=1) == labels.numpy()).all()
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(saved.predict_proba(features.numpy())))


def test_a_frozen_module_of_ones_own_is_classified():
    labels = torch.arange(30) % 3
    data = WithModule.of(source(labels, F.one_hot(labels, 3).float()), nn.Linear(3, 3))
    method, runtime = SimCLR(epochs=1, batch=30, lr=0.0, linear=Linear(epochs=50, lr=0.1)), Runtime(Engine(), 0)
    method = method.resolve(data, runtime)
    state = method.build(data, runtime)
    for _ in range(method.total_steps):
        method.step(state, runtime)
    kept = method.result(state, runtime)
    assert (kept.predict_proba(F.one_hot(labels, 3).float().numpy()).argmax(axis=1) == labels.numpy()).all()


@pytest.mark.parametrize(
    ("labels", "loss", "message"),
    [
        (torch.arange(4), "bce", "linear.loss is bce, but a sample of numbers has one label."),
        (
            torch.eye(4).bool(),
            "cross-entropy",
            "linear.loss is cross-entropy, but a sample of numbers has several labels.",
        ),
        (None, "auto", "linear.epochs is 3, but numbers has no labels."),
    ],
)
def test_losses_that_do_not_fit_the_labels_are_told(labels, loss, message):
    part = Part(Features(torch.rand(4, 2, generator=rng())), labels)
    data = Source("numbers", tuple("abcd") if labels is not None else (), part, part, Standard((0.0,) * 2, (1.0,) * 2))
    with pytest.raises(InputError) as refusal:
        Linear(epochs=3, loss=loss).resolve(data)
    assert str(refusal.value) == message


# ------------------------------------------------------------------------------------------------------------ projector


@pytest.mark.parametrize(
    ("layers", "norm", "last"), [(1, False, True), (2, True, False), (3, True, True), (3, False, False)]
)
def test_a_projector_has_its_layers_and_norms(layers, norm, last):
    how = Projector(
        projector_width=7, projector_layers=layers, projected=5, projector_norm=norm, projector_last_norm=last
    )
    made = how.build(6)
    assert [layer.out_features for layer in made if isinstance(layer, nn.Linear)] == [7] * (layers - 1) + [5]
    norms = [layer.affine for layer in made if isinstance(layer, nn.BatchNorm1d)]
    assert norms == [True] * (layers - 1) * norm + [False] * last
    found = made(torch.randn(64, 6, generator=rng()))
    if last:
        torch.testing.assert_close(found.mean(dim=0), torch.zeros(5), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.var(dim=0, correction=0), torch.ones(5), atol=1e-2, rtol=0)
