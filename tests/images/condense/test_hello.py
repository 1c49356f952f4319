import dataclasses

import pytest
import torch
import torch.nn.functional as F

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.condense.hello import fitting_loss, lost_detail, mean_answer
from attar.images.labels.captions import TinyClip
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.repeats import accuracy
from attar.images.score import train_and_test
from attar.images.targets import targeted, teacher_of
from attar.images.trained import Auxiliary, trained
from attar.images.training import TrainNetwork
from promises import EVERY_STEP, dying

ENGINE = Engine(device="cpu", compile="off", quiet=True)
SMALL = Architecture(width=8, norm="batch")
BRIEF = Protocol(name="brief", epochs=2)
OBSERVER = Auxiliary(architecture=SMALL, protocol=BRIEF)
TINY = TinyClip(clip_width=16, clip_layers=1, clip_epochs=1)


def hello(**settings):
    few = {"ipc": 1, "candidates": 20, "fit_steps": 3, "rank": 2, "tiny": TINY, "observer": OBSERVER}
    return attar.HeLlO(**{**few, **settings})


# The fit.


def test_the_loss_is_its_definition(generator):
    logits, teachers = torch.randn(2, 5, 3, generator=generator)
    labels = torch.tensor([0, 2, 1, 1, 0])
    terms = fitting_loss(logits, teachers, labels, 0.1)
    wanted = F.mse_loss(logits, teachers) + 0.1 * F.cross_entropy(logits, labels)
    torch.testing.assert_close(terms["loss"], wanted)


def test_weak_teachers_answer_together(generator):
    images = torch.randn(2, 3, 1, 1, generator=generator)
    first, second = torch.nn.Flatten(), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 3))
    torch.testing.assert_close(mean_answer([first, second], images), (first(images) + second(images)) / 2)


def test_the_images_are_rdeds(digits):
    ours = attar.condense(digits, hello(ipc=2), engine=ENGINE)
    theirs = attar.condense(digits, attar.RDED(ipc=2, candidates=20, labels="hard", observer=OBSERVER), engine=ENGINE)
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.labels, theirs.labels)


def test_the_fit_comes_nearer_to_the_teachers(digits):
    runtime = Runtime(ENGINE, 0)
    method = hello(fit_steps=60, rank=4, fit_lr=0.01).resolve(digits, runtime)
    state = method.build(digits, runtime)
    errors = [float(method.step(state, runtime)["squared_error"]) for _ in range(60)]
    assert sum(errors[-10:]) < 0.8 * sum(errors[:10])


@pytest.fixture(scope="module")
def labellers(digits, tmp_path_factory):
    """Sets by how much of the projector is fitted; its encoder has only ever seen the digits below five."""
    folder, runtime = tmp_path_factory.mktemp("encoder"), Runtime(ENGINE, 0)
    rows = [torch.nonzero(split.labels < 5).flatten() for split in (digits.train, digits.test)]
    train, test = (split.select(row) for split, row in zip((digits.train, digits.test), rows, strict=True))
    known = dataclasses.replace(digits, classes=digits.classes[:5], train=train, test=test)
    trained(known, Architecture(width=32, norm="batch"), runtime, PROTOCOLS["ceiling"]).save(folder)
    network, protocol = Architecture(width=16, norm="batch"), Protocol(name="teachers", epochs=12, batch=64)
    teachers = {"observer": Auxiliary(architecture=network, protocol=protocol), "stages": (6, 12)}
    fits = {
        "nothing": {"rank": 0, "head_rank": 0, "fit_steps": 0},
        "head": {"rank": 0, "fit_steps": 200},
        "both": {"rank": 4, "fit_steps": 200},
    }
    settings = {**teachers, "encoder": str(folder), "class_features": "mean", "fit_lr": 1e-2}
    return {name: attar.condense(digits, hello(**settings, **fit), engine=ENGINE) for name, fit in fits.items()}


def test_deltas_on_the_encoder_label_better_than_on_the_head_and_those_better_than_none(labellers, digits):
    runtime = Runtime(ENGINE, 0)
    right = {
        name: accuracy(small.teacher.network, digits.test, digits.transform, runtime)
        for name, small in labellers.items()
    }
    assert right["nothing"] + 3 < right["head"]
    assert right["head"] + 1 < right["both"]


def test_students_of_a_projector_beat_those_of_hard_labels(labellers, digits):
    taught = dataclasses.replace(PROTOCOLS["hello"], epochs=300)
    hard = dataclasses.replace(taught, target="label")
    network = Architecture(width=32, norm="batch")
    scores = [train_and_test(labellers["both"], digits, network, how, 1, Runtime(ENGINE, 0)) for how in (taught, hard)]
    assert scores[0][0] > scores[1][0] + 5


# The images' update.


def test_nothing_is_lost_where_nothing_was_scaled(generator):
    patches = torch.rand(3, 1, 4, 4, generator=generator)
    see = torch.nn.Flatten()
    assert float(lost_detail(see, patches, see(patches), (4, 4))) == 0
    even = torch.full((3, 1, 4, 4), 0.3)
    assert float(lost_detail(see, even[:, :, ::2, ::2], see(even), (4, 4))) == pytest.approx(0, abs=1e-12)


def test_the_update_brings_back_what_the_encoder_saw(shapes):
    runtime = Runtime(ENGINE, 0)
    method = hello(ipc=2, factor=2, candidates=16, image_steps=20).resolve(shapes, runtime)
    assert method.total_steps == 3 + 3 * 20
    state = method.build(shapes, runtime)
    before = state.images.clone()
    losses = [float(method.step(state, runtime)["loss"]) for _ in range(method.total_steps)][3:]
    for label in range(3):
        mine = losses[20 * label : 20 * (label + 1)]
        assert mine[-1] < 0.8 * mine[0]
    assert all(not torch.equal(one, two) for one, two in zip(before, state.images, strict=True))
    assert (before.float() - state.images.float()).abs().mean() < 64


def test_an_update_that_was_killed_goes_on_where_it_was(shapes, tmp_path):
    from attar.core.engine import run

    method = hello(ipc=2, factor=2, candidates=16, image_steps=3).resolve(shapes, Runtime(ENGINE, 0))
    whole = run(method, shapes, Runtime(ENGINE, 0), out=tmp_path / "whole")
    with dying(method, 8):
        run(method, shapes, Runtime(EVERY_STEP, 0), out=tmp_path / "killed")
    resumed = run(method, shapes, Runtime(EVERY_STEP, 0), out=tmp_path / "killed")
    assert torch.equal(whole.images, resumed.images)
    assert (tmp_path / "killed" / "run" / "checkpoint.safetensors").exists() is False


def test_where_an_image_is_one_crop_there_is_nothing_to_update(digits, runtime):
    assert hello(image_steps=20).resolve(digits, runtime).total_steps == 3


# Students.


def test_students_match_logits_and_a_tenth_of_the_labels(digits):
    small = attar.condense(digits, hello(), engine=ENGINE)
    runtime = Runtime(ENGINE, 0)
    protocol = dataclasses.replace(PROTOCOLS["hello"], augmented=False, mix="none")
    method = TrainNetwork(architecture=SMALL, protocol=protocol).resolve(small)
    state = method.build(small, runtime)
    rows = torch.arange(10)
    beside = {"teacher": state.teacher, "at_once": state.at_once}
    images, targets = targeted(small.network_input, rows, small, protocol, runtime, **beside)
    logits, answers = state.network(images), small.teacher.network(images)
    torch.testing.assert_close(targets[:, 0], answers)
    wanted = 10 * F.mse_loss(logits, answers) + 0.1 * F.cross_entropy(logits, small.labels, reduction="sum")
    torch.testing.assert_close(state.loss(images, targets), wanted)


def test_mixed_images_have_mixed_labels_beside_the_answers(digits):
    small = attar.condense(digits, hello(), engine=ENGINE)
    runtime = Runtime(ENGINE, 0)
    teacher = teacher_of(small, runtime)
    given = (small.network_input, torch.arange(10), small, PROTOCOLS["hello"], runtime)
    images, targets = targeted(*given, teacher=teacher, at_once=4)
    torch.testing.assert_close(targets[:, 0], small.teacher.network(images))
    torch.testing.assert_close(targets[:, 1].sum(dim=1), torch.ones(10))
    assert ((targets[:, 1] > 0).sum(dim=1) <= 2).all()


# Settings.


def test_published_cells_have_the_papers_ranks():
    cells = [attar.HeLlO.paper(data, ipc=10) for data in ("imagenet-100", "imagenet")]
    assert [(cell.rank, cell.head_rank, cell.factor) for cell in cells] == [(8, 64, 2), (8, 128, 2)]
    with pytest.raises(InputError, match="HeLlO has no cell of 'cifar10'"):
        attar.HeLlO.paper("cifar10", ipc=1)


@pytest.mark.parametrize("classes, rank", [(10, 10), (100, 64), (200, 128)])
def test_the_heads_rank_follows_the_classes(classes, rank, runtime):
    pixels = torch.randint(256, (2 * classes, 1, 8, 8), dtype=torch.uint8)
    source = attar.load(((pixels, torch.arange(2 * classes) % classes), (pixels[:2], torch.arange(2))))
    assert hello().resolve(source, runtime).head_rank == rank


def test_nine_weak_teachers_end_with_the_training(digits, runtime):
    resolved = hello(observer=Auxiliary(architecture=SMALL)).resolve(digits, runtime)
    assert len(resolved.stages) == 9
    assert resolved.stages[-1] == 30
    with pytest.raises(InputError, match=r"stages has 31, but the teacher is trained for 30 epochs"):
        hello(stages=(1, 31), observer=Auxiliary(architecture=SMALL)).resolve(digits, runtime)
