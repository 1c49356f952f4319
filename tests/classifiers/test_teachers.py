"""Several teachers as one: what is averaged, and what cannot be compared with several."""

import math

import pytest
import torch
from torch import nn

import attar
from attar.classifiers.tasks import Teacher
from attar.classifiers.teachers import Averaged, averaged, mixed
from attar.classifiers.watched import Watched
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.networks.pretrained import facts_of
from attar.tables import tasks as tables

QUIET = Engine(device="cpu", quiet=True)


def linear(seed, classes=10, pixels=64):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)).eval()


def test_the_mean_of_probabilities_or_of_logits(generator):
    logits = torch.randn(3, 5, 4, generator=generator)
    weights = torch.tensor([0.5, 0.3, 0.2])
    wanted = sum(w * z.softmax(dim=1) for w, z in zip(weights, logits, strict=True))
    torch.testing.assert_close(mixed(logits, weights, "probabilities").exp(), wanted)
    torch.testing.assert_close(mixed(logits, weights, "probabilities").softmax(dim=1), wanted)
    torch.testing.assert_close(mixed(logits, weights, "logits"), (weights[:, None, None] * logits).sum(dim=0))
    sharp = torch.stack([200 * logits[0], logits[1]])  # a probability that is zero in single precision
    assert mixed(sharp, torch.tensor([1.0, 1.0]) / 2, "probabilities").isfinite().all()


def test_weights_are_shares_and_a_weight_of_zero_leaves_a_teacher_out(generator):
    images = torch.randn(2, 1, 8, 8, generator=generator)
    one, other = linear(0), linear(1)
    both = averaged([one, other], (3.0, 1.0), "logits")
    torch.testing.assert_close(both(images), 0.75 * one(images) + 0.25 * other(images))
    alone = averaged([one, other], (0.0, 2.0), "probabilities")
    assert alone is other
    for weights, words in (
        ((1.0,), "teachers: 2, but weights: 1"),
        ((0.0, 0.0), "all weights"),
        ((math.inf, 1.0), "inf"),
        ((-1.0, 3.0), "0 or more"),
    ):
        with pytest.raises(InputError, match=words):
            averaged([one, other], weights, "logits")


def test_a_student_of_several_learns_from_their_mean(few_digits):
    several = [linear(0), linear(1)]
    how = {"student": "mlp:width=4", "epochs": 1, "batch": 32}
    made = attar.distill(few_digits, attar.KD(**how), teacher=several, engine=QUIET)
    by_hand = attar.distill(few_digits, attar.KD(**how), teacher=averaged(several, (), "probabilities"), engine=QUIET)
    images = few_digits.inputs(torch.arange(4))
    assert torch.equal(made.logits(images), by_hand.logits(images))
    assert made.origin.teacher.parameters == 2 * 650
    logits = attar.distill(
        few_digits, attar.KD(**how), teacher={"network": tuple(several), "combine": "logits"}, engine=QUIET
    )
    assert not torch.equal(made.logits(images), logits.logits(images))


def test_what_is_averaged_is_told_apart():
    one, other = (averaged([linear(0), linear(1)], (), how) for how in ("logits", "probabilities"))
    assert facts_of(one) != facts_of(other)
    assert isinstance(one, Averaged)


def test_there_is_no_embedding(generator):
    answers = Watched(averaged([linear(0), linear(1)], (), "logits"))(torch.randn(2, 1, 8, 8, generator=generator))
    assert answers.embedding.shape == (2, 0) and answers.stages == []


@pytest.mark.parametrize("method", [attar.CRD, attar.RKD, attar.PKT, attar.FitNets, attar.AttentionTransfer, attar.VID])
def test_features_of_several_are_refused(method, few_digits):
    with pytest.raises(InputError, match="compares features with those of one teacher, but 2 are given"):
        attar.distill(few_digits, method(epochs=1), teacher=[linear(0), linear(1)], engine=QUIET)


@pytest.mark.parametrize("method", [attar.DKD, attar.DIST])
def test_methods_on_logits_take_several(method, few_digits):
    made = attar.distill(
        few_digits, method(student="mlp:width=4", epochs=1, batch=64), teacher=[linear(0), linear(1)], engine=QUIET
    )
    assert made.scores["teacher"] >= 0


def test_the_command_takes_several(tmp_path, monkeypatch, capsys, few_digits):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        made = attar.distill(few_digits, attar.Alone(student="mlp:width=4", epochs=1), seed=seed, engine=QUIET)
        made.save(tmp_path / f"t{seed}")
    words = "distill kd --data digits --teacher t0 t1 --teacher.weights 2 1 --student mlp:width=4 --epochs 1 --out s"
    main([*words.split(), "--quiet"])
    assert "s: " in capsys.readouterr().out
    card = (tmp_path / "s" / "README.md").read_text()
    assert "--teacher t0 t1 --teacher.weights 2.0 1.0" in card
    with pytest.raises(SystemExit):
        main(["distill", "crd", "--data", "digits", "--teacher", "t0", "t1", "--epochs", "1", "--out", "c", "--quiet"])
    assert "compares features with those of one teacher" in capsys.readouterr().err


def test_one_teacher_is_given_as_before(few_digits):
    assert Teacher.from_names(network="x").network == "x"
    with pytest.raises(InputError, match="teachers: 1, but weights: 2"):
        Teacher(network=linear(0), weights=(1.0, 2.0)).found(few_digits, Runtime(QUIET))


def test_rows_have_one_teacher():
    task = tables.Distill.from_names(teacher=["x", "y"])
    with pytest.raises(InputError, match="2 teachers are given, but students of rows have one"):
        task.prepare(None, attar.KD(student="mlp:width=4"), Runtime(QUIET))
