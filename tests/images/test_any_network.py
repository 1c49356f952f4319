"""A trained network of `transformers`, or in an artefact, wherever condensing and measuring need one."""

import dataclasses

import pytest
import torch
from torch import nn

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.images.complexity import class_complexity
from attar.images.data.whiten import Transform
from attar.images.networks.embedding import embedder
from attar.images.networks.pretrained import PREFIX, labelling_classifier
from attar.images.protocols import PROTOCOLS

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
QUIET = Engine(device="cpu", quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shapes):
    """A tiny classifier with random weights and batch norm, which names its classes in another order."""
    place = tmp_path_factory.mktemp("resnet")
    names = list(reversed(shapes.classes))
    config = transformers.ResNetConfig(
        embedding_size=4,
        hidden_sizes=[4, 8],
        depths=[1, 1],
        layer_type="basic",
        downsample_in_first_stage=False,
        num_labels=3,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ResNetForImageClassification(config).save_pretrained(place)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(place)
    return f"{PREFIX}{place}"


@pytest.fixture(scope="module")
def student(shapes, tmp_path_factory):
    """A classifier of attar's with its weights in a folder."""
    place = tmp_path_factory.mktemp("student")
    method = attar.Classifier(network="convnet:norm=batch,width=8,depth=2", epochs=1, batch=32)
    attar.train(shapes, method, engine=QUIET, out=place)
    return str(place)


METHODS = {
    "herding": lambda place: attar.Herding(ipc=1, observer={"folder": place}),
    "k-center": lambda place: attar.KCenter(ipc=1, observer={"folder": place}),
    "k-means": lambda place: attar.KMeans(ipc=1, observer={"folder": place}),
    "relabel": lambda place: attar.Relabelled(ipc=1, teachers=1, chosen_by="herding", teacher={"folder": place}),
    "rded": lambda place: attar.RDED(ipc=1, candidates=4, observer={"folder": place}),
    "sre2l": lambda place: attar.SRe2L(ipc=1, labels="hard", block_steps=2, teacher={"folder": place}),
    "cda": lambda place: attar.CDA(ipc=1, labels="hard", block_steps=2, teacher={"folder": place}),
    "edf": lambda place: attar.EDF.from_json(
        {
            **{"ipc": 1, "steps": 2, "student_steps": 2, "last_start": 1, "zca": False},
            "architecture": {"width": 8, "depth": 2},
            "experts": {"experts": 1, "epochs": 2},
            "observer": {"folder": place},
        }
    ),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("whose", ["transformers", "attar"])
def test_condensing_takes_it(name, whose, folder, student, shapes):
    small = attar.condense(shapes, METHODS[name](folder if whose == "transformers" else student), engine=QUIET)
    assert len(small.images) == 3


@pytest.mark.parametrize("whose", ["transformers", "attar"])
def test_complexity_takes_it(whose, folder, student, shapes):
    found = class_complexity(shapes, folder if whose == "transformers" else student)
    assert len(found.by_class) == 3


def test_it_is_teacher_and_student(folder, shapes, tmp_path):
    method = attar.KD(student=f"{folder},pretrained=true", epochs=1, batch=32)
    made = attar.distill(shapes, method, teacher=folder, engine=QUIET, out=tmp_path / "s")
    assert made.scores.keys() >= {"student", "teacher"}
    alone = attar.distill(shapes, attar.KD(student=folder, epochs=1, batch=32), teacher=[folder, folder], engine=QUIET)
    assert alone.scores["teacher"] == made.scores["teacher"]


def test_labels_are_stored_from_it(folder, shapes, tmp_path):
    small = attar.condense(shapes, attar.Random(ipc=2), out=tmp_path / "set", engine=QUIET)
    labels = attar.label(small, attar.StoreLabels(epochs=2, teacher=folder), engine=QUIET)
    assert labels.soft.epochs == 2


def test_embeddings_are_the_input_of_the_last_linear_layer(folder, shapes):
    network = labelling_classifier(folder, shapes)
    images = shapes.inputs(torch.arange(5))
    with torch.no_grad():
        features, logits = embedder(network)(images), network(images)
    head = network.model.classifier[-1]
    torch.testing.assert_close(head(features)[:, list(network.columns)], logits)
    assert not head._forward_hooks


def test_a_network_without_a_last_linear_layer_is_refused(shapes):
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InputError, match="no linear layer gives the logits of Sequential"):
        embedder(network)(shapes.inputs(torch.arange(2)))


@pytest.mark.parametrize(
    "method",
    [
        lambda place: attar.RDED(ipc=1, candidates=4, labels="teacher", observer={"folder": place}),
        lambda place: attar.SRe2L(ipc=1, block_steps=2, teacher={"folder": place}),
    ],
)
def test_a_set_carries_a_network_that_was_trained_otherwise(method, student, shapes, tmp_path):
    other = dataclasses.replace(shapes, transform=Transform((0.4,) * 3, (0.3,) * 3), prepared=None)
    small = attar.condense(other, method(student), out=tmp_path / "set", engine=QUIET)
    again = attar.open_artefact(tmp_path / "set")
    made = attar.open_artefact(student)
    pixels = shapes.test.pixels[torch.arange(4)]
    with torch.no_grad():
        answers = again.teacher.network(other.transform.forward(pixels))
    torch.testing.assert_close(answers, made.logits(made.transform.forward(pixels)), rtol=1e-4, atol=1e-4)
    assert again.bytes == small.bytes
    assert (
        "(convnet:norm=batch,width=8,depth=2) labels augmented images" in (tmp_path / "set" / "README.md").read_text()
    )
    protocol = dataclasses.replace(PROTOCOLS["rded"], epochs=1, batch=3)
    networks = {"networks": ("convnet:norm=batch,width=4,depth=2",), "repeats": 1, "ceiling": "skip"}
    found = attar.evaluate(again, other, protocol=protocol, engine=QUIET, **networks)
    assert found.networks[0].score.value >= 0
    assert attar.label(again, attar.StoreLabels(epochs=1), engine=QUIET).soft.epochs == 1


def test_a_set_does_not_carry_a_network_of_transformers(folder, shapes):
    with pytest.raises(InputError, match="cannot be saved with a set"):
        attar.condense(shapes, attar.RDED(ipc=1, labels="teacher", observer={"folder": folder}), engine=QUIET)


def test_a_network_without_batch_norm_cannot_be_recovered_from(shapes, tmp_path):
    place = tmp_path / "student"
    attar.train(shapes, attar.Classifier(network="mlp:width=4", epochs=1, batch=32), engine=QUIET, out=place)
    with pytest.raises(InputError, match="batch norm"):
        attar.condense(shapes, attar.SRe2L(ipc=1, labels="hard", teacher={"folder": str(place)}), engine=QUIET)
