"""What stands beside a score: raw samples, a random encoder, ExtraTrees, BCE, and the gate to long ones."""

import dataclasses

import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier
from torch import nn

import attar
from attar.core.runtime import Engine, Runtime
from attar.core.training import affordable
from attar.embeddings import rivals
from attar.embeddings.answers import constant_answer, of_several
from attar.embeddings.encoded import EncodedSource
from attar.embeddings.metrics import agreement_at
from attar.embeddings.multilabel.endtoend import MultiLabel
from attar.embeddings.rivals import bce_answers, random_of, raw_of, trees_judge
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.sources import Features, Part, Source, Standard
from attar.images.data.pixels import InMemory


def signs(samples=90):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(samples, 6, generator=generator)
    parts = [Part(Features(rows[some]), rows[some, :3] > 0.4) for some in torch.arange(samples).split(60)]
    return Source("signs", ("a", "b", "c"), *parts, Standard.of(rows[:60]))


def machine(said=None):
    return Runtime(Engine(quiet=True), 0, say=None if said is None else said.append)


def test_raw_features_are_normalised_and_large_images_are_scaled_down(few_digits):
    source = Source.of_images(few_digits)
    made = attar.train(source, SimCLR(epochs=1, encoder="convnet:norm=batch,width=8"))
    raw = raw_of(EncodedSource.of(made, source, machine()))
    assert (raw.label, raw.train.shape) == ("raw pixels", (120, 64))
    torch.testing.assert_close(raw.test[3], source.inputs(torch.tensor([3]), part="test").flatten())
    wide = Part(InMemory(torch.zeros(2, 3, 64, 48)), torch.zeros(2, dtype=torch.long))
    large = dataclasses.replace(source, train=wide, test=wide)
    assert raw_of(EncodedSource(made, large, machine())).train.shape == (2, 3 * 32 * 32)


def test_a_random_encoder_is_of_the_same_architecture_and_the_same_each_time():
    source = signs()
    made = attar.train(source, SimCLR(epochs=1))
    one, two = (random_of(EncodedSource.of(made, source, machine())) for _ in range(2))
    assert one.test.shape == (30, made.encoder.width) and torch.equal(one.test, two.test)
    assert not torch.equal(one.test, EncodedSource.of(made, source, machine()).test)


def test_an_encoder_of_one_s_own_has_no_random_one():
    source = signs()
    made = attar.train(source, SimCLR(epochs=1), module=nn.Linear(6, 5))
    labels = [other.label for other in attar.evaluate(made, source, measures=["map"]).networks[0].beside]
    assert labels == ["raw features, linear probe", "raw features, kNN", "ExtraTrees on raw features"]


def test_a_forest_is_that_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(rivals, "TREES", 10)
    source = signs()
    rows, labels = source.train.samples.tensor, source.train.labels
    several = trees_judge(True, 3)(rows, labels)(rows[:7])
    right = ExtraTreesClassifier(10, random_state=0).fit(rows.numpy(), labels.numpy().astype(int))
    expected = torch.stack([torch.from_numpy(one[:, 1]) for one in right.predict_proba(rows[:7].numpy())], dim=1)
    assert torch.equal(several, expected)
    labels = labels.clone()
    labels[:, 1], labels[:, 2] = False, True
    found = trees_judge(True, 3)(rows, labels)(rows)
    assert not found[:, 1].any() and found[:, 2].eq(1).all()
    one = trees_judge(False, 5)(rows, torch.arange(60) % 3)(rows)
    assert one.shape == (60, 5) and not one[:, 3:].any()


def test_the_constant_guess_is_the_best_of_all_constant_guesses():
    source = signs()
    labels = source.train.labels
    found = agreement_at(constant_answer(labels, 60).scores, labels, constant_answer(labels, 60).threshold).of1
    best = 0.0
    for code in range(1, 8):
        guess = torch.tensor([bool(code >> k & 1) for k in range(3)]).expand(60, 3)
        best = max(best, agreement_at(guess.double(), labels, 0.5).of1)
    assert found == pytest.approx(best)
    told = of_several(constant_answer(labels, 30), source.test.labels)
    assert told["mAP"] == pytest.approx(100 * float(source.test.labels.double().mean(dim=0).mean()))


def test_what_takes_long_is_left_out_and_said_unless_it_is_asked_for():
    said = []
    assert affordable("a forest", 599, "auto", machine(said)) and not said
    assert not affordable("a forest", 660, "auto", machine(said))
    assert said == [
        "a forest is not measured beside it: it would take about 11 minutes here. Measure it with --beside run."
    ]
    assert affordable("a forest", 660, "run", machine(said)) and not affordable("a forest", 0, "skip", machine(said))


def test_bce_is_trained_once_for_each_seed_and_kept(monkeypatch):
    source = signs()
    members = [attar.train(source, SimCLR(epochs=3, batch=30), seed=seed) for seed in (4, 5)]
    first = bce_answers(members, source, "auto", None, machine())
    assert len(first) == 2 and not torch.equal(first[0].scores, first[1].scores)
    same = {"epochs": 3, "batch": 30, "held_out": 0.0, "view": members[0].method.view}
    alone = attar.train(source, MultiLabel(loss="bce", **same), seed=4)
    right = torch.from_numpy(alone.predict_proba(source.test.samples.tensor.numpy()))
    torch.testing.assert_close(first[0].scores, right)
    monkeypatch.setattr(rivals, "seconds_for", lambda *_: 1e6)
    again = bce_answers(members, source, "auto", None, machine())
    assert torch.equal(again[1].scores, first[1].scores)
    other = [attar.train(source, SimCLR(epochs=4, batch=30))]
    said = []
    assert bce_answers(other, source, "auto", None, machine(said)) == [] and "BCE" in said[0]
    assert bce_answers([alone], source, "run", None, machine()) == []
