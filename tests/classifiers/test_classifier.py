"""Classifiers trained on labels with any loss: what a step minimises, what is shown, and what is refused."""

import dataclasses
import json
import re

import pytest
import torch
import torch.nn.functional as F

import attar
from attar.classifiers.classifier import Classifier
from attar.classifiers.discovery import Discover
from attar.classifiers.kd import KD
from attar.classifiers.labelled import label_loss
from attar.classifiers.losses import BCE, EnsLoss
from attar.classifiers.pair import Batch
from attar.classifiers.skd import SubclassKD
from attar.classifiers.watched import Answers
from attar.cli import main
from attar.core.errors import InputError
from attar.core.losses import Loss, as_shown
from attar.core.runtime import Engine
from attar.core.seeds import derived_seed

ENGINE = Engine(device="cpu", quiet=True)
SMALL = {"network": "convnet:norm=batch,width=4", "epochs": 3, "batch": 50}


@pytest.fixture(scope="module")
def pair_of_digits(few_digits):
    return few_digits.with_classes([3, 8])


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 2, generator=draw, requires_grad=True)
    labels = torch.randint(2, (8,), generator=draw)
    said = Answers(logits, logits, [])
    return Batch(said, said, labels, torch.arange(8), 1.0, epoch=4, seed=7)


def test_the_baseline_of_distillation_is_the_same_training(few_digits):
    made = attar.train(few_digits, Classifier(**SMALL), engine=ENGINE)
    alone = attar.distill(few_digits, attar.Alone(student=SMALL["network"], epochs=3, batch=50), engine=ENGINE)
    for one, other in zip(made.network.parameters(), alone.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("loss", ["ensloss", "log-hinge", "bce", "focal", "exponential"])
def test_classifiers_learn_by_any_loss(loss, digits, tmp_path):
    source = digits.with_classes([3, 8])
    method = Classifier(network="mlp:width=32", epochs=15, batch=32, lr=0.01, loss=loss, clip_norm=10.0, shift=0)
    made = attar.train(source, method, out=tmp_path / "made", engine=ENGINE)
    assert made.scores["student"] > 90
    shown = [
        json.loads(line)
        for line in (tmp_path / "made" / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert all(row["loss"] == pytest.approx(row["labels"]) for row in shown)
    assert shown[-1]["loss"] < shown[0]["loss"]
    assert loss != "ensloss" or all(row["loss"] >= 0 for row in shown), "never a pseudo-loss"


def test_a_pseudo_loss_shows_cross_entropy_and_keeps_its_gradient(batch):
    logits, labels = batch.student.logits, batch.labels
    with torch.random.fork_rng():
        torch.manual_seed(3)
        shown = label_loss(batch, Loss(name="ensloss"), 0.0)
        torch.manual_seed(3)
        own = EnsLoss().values(logits, labels).mean()
    assert torch.isclose(shown, F.cross_entropy(logits, labels)) and not torch.isclose(shown, own)
    assert torch.equal(*(torch.autograd.grad(loss, logits)[0] for loss in (shown, own)))
    built = BCE()
    assert torch.equal(as_shown(built, logits, labels), built.values(logits, labels))


def test_masks_of_dropout_have_losses_of_their_own_and_uncounted_samples_none(batch):
    branches = torch.randn(3, 8, 2, generator=torch.Generator().manual_seed(1))
    several = dataclasses.replace(batch, branches=branches)
    for loss, smoothing in ((Loss(name="bce"), 0.2), (Loss(), 0.2)):
        alone = [F.cross_entropy(one, batch.labels, label_smoothing=smoothing) for one in branches]
        assert torch.isclose(label_loss(several, loss, smoothing), torch.stack(alone).mean())
        mean = F.cross_entropy(branches.mean(dim=0), batch.labels, label_smoothing=smoothing)
        assert torch.isclose(label_loss(several, loss, smoothing, "logits"), mean)
    fewer = dataclasses.replace(batch, labels=torch.cat([batch.labels[:5], torch.full((3,), -100)]))
    wanted = F.cross_entropy(fewer.student.logits, fewer.labels)
    assert torch.isclose(label_loss(fewer, Loss(name="bce"), 0.0), wanted)


def test_lam_is_drawn_anew_every_period():
    usual, often = Loss(name="ensloss", lam=0.3), Loss(name="ensloss", period=2)
    assert usual.at(9, 0) is usual
    drawn = [often.at(epoch, 5).lam for epoch in range(40)]
    assert drawn[0] == drawn[1] != drawn[2] and -1 <= min(drawn) < -0.5 < 0.5 < max(drawn) <= 1
    assert drawn[0] == 2 * derived_seed(5, "lam 0") / 2**63 - 1 != often.at(0, 6).lam
    assert Loss(name="bce").at(3, 0).lam == 0


def test_the_command_knows_them(tmp_path, pair_of_digits, capsys):
    words = ["train", "classifier", "--loss", "ensloss", "--loss.tail", "log2", "--loss.lam", "0.5", "--epochs", "1"]
    main([*words, "--network", "mlp:width=8", "--device", "cpu", "--quiet", "--out", str(tmp_path / "made")])
    settings = json.loads((tmp_path / "made" / "run" / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert settings["loss"] == Loss(name="ensloss", tail="log2", lam=0.5).to_json()
    words = ["distill", "kd", "--label-loss", "hinge", "--teacher", str(tmp_path / "made"), "--epochs", "1"]
    main([*words, "--student", "mlp:width=8", "--device", "cpu", "--quiet", "--out", str(tmp_path / "student")])
    settings = json.loads((tmp_path / "student" / "run" / "settings.json").read_text(encoding="utf-8"))["settings"]
    assert settings["label_loss"]["name"] == "hinge"


def test_the_best_epoch_is_chosen_by_a_score(few_digits):
    made = attar.train(few_digits, Classifier(**SMALL, loss="ensloss", keep="f1", held_out=0.3), engine=ENGINE)
    assert {"epoch", "held_out_f1"} <= made.scores.keys()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: Classifier(loss="ensloss", mixup=0.2), "ensloss needs one class for each image. Do not set mixup"),
        (lambda: Classifier(loss="hinge", smoothing=0.1), "smoothing is 0.1, but hinge does not smooth labels."),
        (lambda: KD(label_loss="focal", cutmix=1.0), "focal needs one class for each image."),
        (lambda: Loss(name="ensloss", lam=-1.0, clip=None), "lam is -1, and derivatives with λ below 0 can be infini"),
        (lambda: Loss(name="ensloss", period=3, clip=None), "period is 3, and derivatives with λ below 0 can be infin"),
        (lambda: SubclassKD(label_loss="bce"), "label_loss is bce, but skd has a loss of its own for labels."),
        (lambda: Discover(label_loss="bce"), "label_loss is bce, but discover has a loss of its own for labels."),
        (lambda: Classifier(loss="log"), "log"),
        (lambda: Loss(gamma=3.0), "gamma is 3.0, but only focal has it. Do not set it."),
        (lambda: Loss(name="focal", lam=0.5), "lam is 0.5, but only ensloss has it. Do not set it."),
        (lambda: Loss(name="bce", period=2), "period is 2, but only ensloss has it. Do not set it."),
        (lambda: Loss(name="ensloss", tail="log2", tail_power=2.0), "tail_power is 2, but only the inverse tail"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_in_one_line(call, words):
    with pytest.raises(InputError, match=re.escape(words)) as told:
        call()
    assert "\n" not in str(told.value)


def test_smoothed_labels_go_with_bce():
    assert Classifier(loss="bce", smoothing=0.1).loss == Loss(name="bce")
    assert KD(label_loss="bce", smoothing=0.1).label_loss == Loss(name="bce")
