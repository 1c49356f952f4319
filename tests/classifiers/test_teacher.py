"""Teachers that were made elsewhere: their preprocessing, their classes, and what their score is here."""

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import attar
from attar.classifiers.pair import Pair
from attar.classifiers.tasks import Teacher
from attar.classifiers.teacher import accuracy_on_classes, teacher_named
from attar.classifiers.watched import Watched
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.networks.preprocessing import Preprocess
from attar.images.networks.pretrained import labelling_classifier
from attar.images.protocols import Protocol

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
QUIET = Engine(device="cpu", quiet=True)
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
AS_THEY_ARE = {"size": {"height": 8, "width": 8}}
PROCESSORS = {
    "ImageNet's statistics": lambda: transformers.ViTImageProcessor(**AS_THEY_ARE, **IMAGENET),
    "levels": lambda: transformers.ViTImageProcessor(**AS_THEY_ARE, image_mean=[0.0] * 3, image_std=[1 / 255] * 3),
    "halves": lambda: transformers.ViTImageProcessor(**AS_THEY_ARE),
    "not normalised": lambda: transformers.ViTImageProcessor(**AS_THEY_ARE, do_normalize=False),
    "not rescaled": lambda: transformers.ViTImageProcessor(
        **AS_THEY_ARE, do_rescale=False, image_mean=[127.5] * 3, image_std=[60.0] * 3
    ),
    "scaled and cropped": lambda: transformers.BitImageProcessor(
        size={"shortest_edge": 14}, crop_size={"height": 12, "width": 12}, **IMAGENET
    ),
}


def pictures(split):
    """The images as pictures in colour, as somebody with a processor has them."""
    pixels = split.pixels[torch.arange(len(split))]
    pixels = pixels if pixels.dtype == torch.uint8 else (255 * pixels).round().to(torch.uint8)
    return [Image.fromarray(np.asarray(one[0])).convert("RGB") for one in pixels]


def made_elsewhere(folder, source, processor, *, names=None, order=None, epochs=6):
    """Train a small model of transformers with its own processor, save both, and return its own logits and accuracy."""
    train, test = (
        processor(pictures(split), return_tensors="pt")["pixel_values"] for split in (source.train, source.test)
    )
    labels = source.train.labels if order is None else torch.tensor(order).argsort()[source.train.labels]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.ResNetConfig(
            embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=len(source.classes)
        )
        if names is not None:
            config.id2label, config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
        model = transformers.ResNetForImageClassification(config)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(epochs):
            for rows in torch.randperm(len(train)).split(64):
                optimizer.zero_grad()
                F.cross_entropy(model(pixel_values=train[rows]).logits, labels[rows]).backward()
                optimizer.step()
    with torch.no_grad():
        logits = model.eval()(pixel_values=test).logits
    logits = logits if order is None else logits[:, torch.tensor(order).argsort()]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return logits, 100 * float((logits.argmax(dim=1) == source.test.labels).double().mean())


def answers(teacher, source):
    with torch.no_grad():
        return teacher(source.transform.forward(source.test.pixels[torch.arange(len(source.test))]))


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_teacher_scores_here_what_it_scores_with_its_own_processor(name, digits, tmp_path):
    half = digits.subset(torch.arange(0, len(digits.train), 2))
    logits, own = made_elsewhere(tmp_path, half, PROCESSORS[name]())
    assert own > 60
    for source in (half, half.whitened()):
        teacher = teacher_named(str(tmp_path), source, Runtime(QUIET))
        torch.testing.assert_close(answers(teacher, source), logits, rtol=1e-4, atol=1e-4)
        assert abs(accuracy_on_classes(teacher, source, Runtime(QUIET)) - own) <= 0.1


def test_gradients_pass_the_processor(few_digits, tmp_path):
    made_elsewhere(tmp_path, few_digits, PROCESSORS["scaled and cropped"](), epochs=0)
    teacher = labelling_classifier(f"transformers:{tmp_path}", few_digits)
    images = few_digits.inputs(torch.arange(4)).requires_grad_()
    teacher(images).square().sum().backward()
    assert images.grad.isfinite().all()
    assert (images.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_without_a_processor_it_is_said_what_is_assumed_and_whitened_images_are_refused(few_digits, tmp_path):
    made_elsewhere(tmp_path, few_digits, PROCESSORS["halves"](), epochs=0)
    (tmp_path / "preprocessor_config.json").unlink()
    told = []
    teacher_named(str(tmp_path), few_digits, Runtime(QUIET, say=told.append))
    mean, std = few_digits.transform.mean[0], few_digits.transform.std[0]
    assert "does not name its classes, so class '0' is taken to be output 0 of" in told[0]
    assert told[1].endswith(f"so it is given images normalised as the data are: mean {mean:g}, std {std:g}.")
    with pytest.raises(InputError, match=r"nothing tells how it takes whitened images\. Save its processor beside it"):
        teacher_named(str(tmp_path), few_digits.whitened(), Runtime(QUIET))


@pytest.mark.parametrize(
    "text", ["no JSON", '{"image_processor_type": "Nothing"}', '{"image_processor_type": "ImageGPTImageProcessor"}']
)
def test_a_processor_that_cannot_be_read_is_refused_in_one_line(text, few_digits, tmp_path):
    made_elsewhere(tmp_path, few_digits, PROCESSORS["halves"](), epochs=0)
    (tmp_path / "preprocessor_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"image processor|is not JSON") as refusal:
        teacher_named(str(tmp_path), few_digits, Runtime(QUIET))
    assert "\n" not in str(refusal.value)


def test_another_processor_gives_other_stored_answers_and_another_run(few_digits, tmp_path):
    found = []
    for name in ("halves", "levels"):
        made_elsewhere(tmp_path, few_digits, PROCESSORS[name](), epochs=0)
        teacher = teacher_named(str(tmp_path), few_digits, Runtime(QUIET))
        pair, method = Pair(few_digits, teacher), attar.KD(epochs=1, views=1, student="convnet:norm=batch,width=4")
        method = method.resolve(pair, Runtime(QUIET))
        found.append((pair.fingerprint, method.build(pair, Runtime(QUIET)).answers.key))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_a_pretrained_student_keeps_its_processor_when_it_is_read_again(few_digits, tmp_path):
    made_elsewhere(tmp_path / "model", few_digits, PROCESSORS["scaled and cropped"](), epochs=1)
    method = attar.Alone(student=f"transformers:{tmp_path / 'model'},pretrained=true", epochs=1, batch=60, lr=1e-3)
    made = attar.distill(few_digits, method, out=tmp_path / "run", engine=QUIET)
    PROCESSORS["halves"]().save_pretrained(tmp_path / "model")
    images = few_digits.inputs(torch.arange(5))
    assert torch.equal(attar.open_artefact(tmp_path / "run").logits(images), made.logits(images))


def test_a_pretrained_network_sees_condensed_images_through_its_processor(few_digits, tmp_path):
    made_elsewhere(tmp_path, few_digits, PROCESSORS["levels"](), epochs=1)
    seen = []

    def look(self, levels):
        seen.append((float(levels.amin()), float(levels.amax())))
        return forward(self, levels)

    forward = Preprocess.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Preprocess, "forward", look)
        small = attar.condense(few_digits, attar.Random(ipc=2), engine=QUIET)
        protocol = Protocol(name="brief", epochs=1, augmented=False)
        how = {"repeats": 1, "protocol": protocol, "ceiling": "skip", "beside": "skip", "engine": QUIET}
        attar.evaluate(small, few_digits, networks=[f"transformers:{tmp_path},pretrained=true"], **how)
    assert max(high for _, high in seen) == pytest.approx(255, abs=0.01)
    assert min(low for low, _ in seen) == pytest.approx(0, abs=0.01)


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def test_outputs_are_matched_by_name(digits, tmp_path):
    source = dataclasses.replace(digits, classes=DIGITS)
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    names = [DIGITS[place].upper() for place in order]
    logits, own = made_elsewhere(tmp_path, source, PROCESSORS["halves"](), names=names, order=order, epochs=2)
    teacher = teacher_named(str(tmp_path), source, Runtime(QUIET))
    torch.testing.assert_close(answers(teacher, source), logits, rtol=1e-4, atol=1e-4)
    assert accuracy_on_classes(teacher, source, Runtime(QUIET)) == pytest.approx(own, abs=0.1)
    few = source.with_classes([7, 2])
    chosen = teacher_named(str(tmp_path), few, Runtime(QUIET))
    assert torch.equal(chosen(few.inputs(torch.arange(3))), teacher(few.inputs(torch.arange(3)))[:, [7, 2]])
    assert Watched(chosen)(few.inputs(torch.arange(3))).embedding.shape == (3, 32)
    with pytest.raises(InputError, match=r"has the classes THREE, ONE, FOUR, ZERO, … \(10\), but digits has cat, dog"):
        teacher_named(str(tmp_path), dataclasses.replace(few, classes=("cat", "dog")), Runtime(QUIET))


@pytest.mark.parametrize(
    "numbers, columns",
    [
        ({"dog": 0, "cat": 1, "cow": 2}, (1, 0)),
        ({"cow": "0", "dog": "1", "cat": "2"}, (2, 1)),
        ({"cow": 0, "dog": 1}, None),
        ({"cow": 0, "dog": 1, "cat": "last"}, None),
    ],
)
def test_names_may_stand_in_label2id_alone(numbers, columns, few_digits, tmp_path):
    made_elsewhere(tmp_path, few_digits.with_classes([0, 1, 2]), PROCESSORS["halves"](), epochs=0)
    facts = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    facts["id2label"] = {str(place): f"LABEL_{place}" for place in range(3)}
    (tmp_path / "config.json").write_text(json.dumps({**facts, "label2id": numbers}), encoding="utf-8")
    data = dataclasses.replace(few_digits.with_classes([0, 1]), classes=("cat", "dog"))
    if columns is None:
        with pytest.raises(InputError, match="has 3 classes, but digits has 2, and their names do not tell"):
            labelling_classifier(str(tmp_path), data)
    else:
        assert labelling_classifier(str(tmp_path), data).columns == columns


def test_the_outputs_of_attars_own_networks_are_matched_by_name_too(digits, tmp_path):
    source = dataclasses.replace(digits, classes=DIGITS)
    made = attar.distill(
        source, attar.Alone(epochs=3, student="convnet:norm=batch,width=8"), out=tmp_path, engine=QUIET
    )
    others = source.with_classes([8, 0, 5])
    teacher = teacher_named(str(tmp_path), others, Runtime(QUIET))
    images = others.inputs(torch.arange(6))
    torch.testing.assert_close(teacher(images), made.logits(images)[:, [8, 0, 5]])
    assert len(Watched(teacher)(images).stages) == 2
    assert accuracy_on_classes(teacher, others, Runtime(QUIET)) > 80
    with pytest.raises(InputError, match=r"the teacher in .* has the classes zero, one, two, three"):
        teacher_named(str(tmp_path), dataclasses.replace(others, classes=("x", "y", "z")), Runtime(QUIET))


def test_a_student_that_knows_other_images_is_given_them_as_it_knows_them(digits, tmp_path):
    whitened = digits.whitened()
    made = attar.distill(whitened, attar.Alone(epochs=1, student="resnet8"), out=tmp_path, engine=QUIET)
    teacher = teacher_named(str(tmp_path), digits, Runtime(QUIET))
    rows = torch.arange(20)
    wanted = made.logits(whitened.inputs(rows))
    torch.testing.assert_close(teacher(digits.inputs(rows)), wanted, rtol=1e-3, atol=1e-3)
    for layers in ((), ("before-activation",)):
        wanted = Watched(made.network, layers)(whitened.inputs(rows)).stages
        found = Watched(teacher, layers)(digits.inputs(rows)).stages
        assert len(found) == 3
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert accuracy_on_classes(teacher, digits, Runtime(QUIET)) == pytest.approx(made.scores["student"], abs=0.1)


def test_a_module_of_transformers_that_names_its_classes_is_matched_too(few_digits):
    source = dataclasses.replace(few_digits, classes=DIGITS)
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic", num_channels=1
    )
    config.id2label = dict(enumerate(reversed(DIGITS)))
    network = transformers.ResNetForImageClassification(config).eval()
    found = Teacher(network=network).found(source, Runtime(QUIET))
    images = source.inputs(torch.arange(3))
    assert torch.equal(found(images), network(images).logits.flip(1))
    assert Watched(found)(images).embedding.shape == (3, 4)
    config.id2label = {0: "cow", **dict(enumerate(DIGITS[1:], start=1))}
    with pytest.raises(InputError, match=r"the network has the classes cow, one, two, three, … .*'zero' is not found"):
        Teacher(network=network).found(source, Runtime(QUIET))
    config.id2label = dict(enumerate(DIGITS))
    assert Teacher(network=network).found(source, Runtime(QUIET)) is network
