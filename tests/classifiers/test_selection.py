"""Which epoch's student is kept, and that no test image has a say in it."""

import copy
import dataclasses

import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

import attar
from attar.classifiers.crd import CRD
from attar.classifiers.dhkd import DHKD
from attar.classifiers.discovery import Discover
from attar.classifiers.kd import KD
from attar.classifiers.nd import ND
from attar.classifiers.pair import Pair
from attar.classifiers.selection import Best, parted, score_held_out
from attar.classifiers.skd import SubclassKD
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.networks.architecture import Architecture
from promises import EVERY_STEP, dying

TINY = {"student": "convnet:norm=batch,width=4", "epochs": 4, "batch": 50}
PARITY = (0, 1) * 5
CHOOSING = {
    "kd": KD(**TINY, keep="accuracy", lr=0.5),
    "skd": SubclassKD(**TINY, group=PARITY, keep="f1"),
    "crd": CRD(**TINY, features=8, keep="f1"),
    "nd": ND(**TINY, base="dkd", keep="accuracy", views=2),
    "dhkd": DHKD(**TINY, keep="accuracy"),
    "discover": Discover(**TINY, subclasses=2, keep="f1"),
}


@pytest.fixture(scope="module")
def teacher(digits):
    architecture = Architecture(norm="batch", width=8)
    return architecture.build(digits.shape, 10, torch.Generator().manual_seed(3)).eval()


@pytest.fixture(params=CHOOSING)
def method(request):
    return CHOOSING[request.param]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_share_of_every_class_is_held_out_and_stands_where_the_test_images_were(few_digits):
    source = parted(few_digits, 0.25, 0)
    assert torch.bincount(source.targets).tolist() == [9] * 10
    assert torch.bincount(source.test.labels).tolist() == [3] * 10
    both = torch.cat([split.pixels[torch.arange(len(split))] for split in (source.train, source.test)])
    whole = few_digits.train.pixels[torch.arange(120)]
    assert torch.equal(both.flatten(1).unique(dim=0), whole.flatten(1).unique(dim=0))
    again, other = (parted(few_digits, 0.25, seed).fingerprint for seed in (0, 1))
    assert again == source.fingerprint != other


@pytest.mark.parametrize("share, what", [(0.0, "none"), (0.01, "none"), (1.0, "all of a class")])
def test_a_share_of_nothing_or_all_is_refused(share, what, few_digits):
    with pytest.raises(
        InputError, match=f"^held_out of {share:g} takes {what} of 120 training images. Give another share.$"
    ):
        attar.distill(few_digits, KD(**TINY, keep="f1", held_out=share), teacher="mlp")


def test_of_equals_the_later_is_kept():
    best, student = Best(nn.Linear(1, 1)), nn.Linear(1, 1)
    for epoch, score in enumerate([0.0, 3.0, 2.0, 3.0, 1.0], start=1):
        nn.init.constant_(student.weight, epoch)
        best.see(student, epoch, score)
    assert (best.epoch, best.score, best.network.weight.item()) == (4, 3.0, 4.0)
    assert best.told("f1") == {"epoch": 4, "held_out_f1": 3.0}
    assert Best(student).told("f1") == {}


@pytest.mark.parametrize("group, average", [(None, "macro"), (PARITY, "binary")])
def test_f1_is_of_the_second_of_two_classes_or_the_mean_of_more(group, average, few_digits, teacher, runtime):
    source = parted(few_digits, 0.25, 0)
    found = score_held_out(teacher, source, runtime, group, "f1")
    with torch.no_grad():
        p = teacher(source.transform.forward(source.test.pixels[torch.arange(30)])).softmax(dim=1)
    if group is None:
        said, right = p.argmax(dim=1), source.test.labels
    else:
        said, right = (p[:, 1::2].sum(dim=1) > p[:, ::2].sum(dim=1)).long(), source.test.labels % 2
    assert found == pytest.approx(100 * f1_score(right, said, average=average, zero_division=0.0))
    accuracy = score_held_out(teacher, source, runtime, group, "accuracy")
    assert accuracy == pytest.approx(100 * (said == right).double().mean().item())


def test_the_best_epochs_student_is_kept(method, few_digits, teacher):
    runtime, pair = Runtime(EVERY_STEP, 0), Pair(few_digits, teacher)
    method = method.resolve(pair, runtime)
    assert method.images == 110
    state = method.build(pair, runtime)
    group = method.group_of(method.outputs(few_digits))
    seen = []
    while state.done < method.total_steps:
        method.step(state, runtime)
        if state.done % method.batches == 0:
            score = score_held_out(state.student, state.pair.source, runtime, group, method.keep)
            seen.append((score, len(seen) + 1, copy.deepcopy(state.student.state_dict())))
    score, epoch, weights = max(seen, key=lambda row: row[:2])
    made = method.result(state, runtime)
    assert made.scores == {"epoch": epoch, f"held_out_{method.keep}": score}
    assert all(torch.equal(value, weights[name]) for name, value in made.network.state_dict().items())
    assert made.origin.fingerprint == few_digits.fingerprint


@pytest.mark.parametrize("step", [2, 7])
def test_killed_and_resumed_equals_uninterrupted(method, step, few_digits, teacher, tmp_path):
    attar.distill(few_digits, method, teacher=teacher, out=tmp_path / "whole", engine=EVERY_STEP)
    with dying(method, step + 1):
        attar.distill(few_digits, method, teacher=teacher, out=tmp_path / "killed", engine=EVERY_STEP)
    attar.distill(few_digits, method, teacher=teacher, out=tmp_path / "killed", engine=EVERY_STEP)
    assert files(tmp_path / "whole") == files(tmp_path / "killed")


def test_no_test_image_has_a_say(few_digits, teacher):
    method = CHOOSING["kd"]
    others = dataclasses.replace(few_digits, test=few_digits.train.select(torch.arange(7)))
    made = [attar.distill(source, method, teacher=teacher, engine=EVERY_STEP) for source in (few_digits, others)]
    assert made[0].scores["epoch"] == made[1].scores["epoch"]
    for name, value in made[0].network.state_dict().items():
        assert torch.equal(made[1].network.state_dict()[name], value)


def test_the_last_epochs_student_holds_nothing_out(few_digits, teacher):
    made = [
        attar.distill(few_digits, KD(**TINY, held_out=share), teacher=teacher, engine=EVERY_STEP)
        for share in (0.1, 0.5)
    ]
    assert made[0].origin.settings["images"] == 120
    assert set(made[0].scores) == {"student", "teacher", "kept"}
    for name, value in made[0].network.state_dict().items():
        assert torch.equal(made[1].network.state_dict()[name], value)


def test_a_student_tells_which_epoch_it_is_of(few_digits, teacher, tmp_path):
    method = CHOOSING["skd"]
    made = attar.distill(few_digits, method, teacher=teacher, out=tmp_path, engine=EVERY_STEP)
    words = f"epoch {made.scores['epoch']} of 4: {made.scores['held_out_f1']:.1f} % F1 on held-out training images"
    assert words in str(made)
    assert words in (tmp_path / "README.md").read_text(encoding="utf-8")
    again = attar.distill(few_digits, method, teacher=teacher, out=tmp_path, engine=EVERY_STEP)
    assert again.scores == made.scores
    assert again.scores["student"] > 0
    (told,) = attar.evaluate(again, few_digits).networks
    assert told.score.value == made.scores["student"]
    assert {"F1 of the second class", "AUC of the second class"} <= told.further.keys()
