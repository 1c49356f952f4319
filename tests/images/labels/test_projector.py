import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.artefact import CondensedImages
from attar.images.labels.captions import CAPTION, TinyClip, captions_of
from attar.images.labels.encoders import Embedding, Look, encoder_for
from attar.images.labels.lowrank import adapt_
from attar.images.labels.projector import Labeller, Projector, label_bytes, match_
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.trained import Auxiliary, trained
from attar.images.training import TrainNetwork
from clip_files import save_clip

ENGINE = Engine(device="cpu", compile="off", quiet=True)
SMALL = Architecture(width=8, norm="batch")
BRIEF = Protocol(name="brief", epochs=2)
OBSERVER = Auxiliary(architecture=SMALL, protocol=BRIEF)
TINY = TinyClip(clip_width=16, clip_layers=1, clip_epochs=1)
NAMES = tuple("0123456789")
BYTES = {"int8": 1, "float16": 2, "float32": 4}


def hello(**settings):
    few = {"ipc": 1, "candidates": 20, "fit_steps": 3, "rank": 2, "tiny": TINY, "observer": OBSERVER}
    return attar.HeLlO(**{**few, **settings})


@pytest.fixture(scope="module")
def labelled(digits):
    """A set with its projector, over the small CLIP."""
    return attar.condense(digits, hello(), engine=ENGINE)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The folder of a CLIP that knows the words of the digits' captions."""
    return save_clip(tmp_path_factory.mktemp("clip"), captions_of(CAPTION, NAMES))


@pytest.fixture
def images(digits):
    return digits.inputs(torch.arange(16))


# What it computes.


def test_before_any_fit_it_is_clips_zero_shot_classifier(digits, runtime, images, clip):
    encoder = encoder_for(clip, digits, TINY, CAPTION, runtime)
    head = encoder.text_head(CAPTION, digits.classes)
    labeller = Labeller(encoder.look, encoder.tower, head, scale=encoder.scale)
    adapt_(labeller, {"encoder.projection": 2, "head": 3}, "loralib", runtime.generator("factors"))
    with torch.no_grad():
        read = encoder.clip.read(encoder.clip.tokens(captions_of(CAPTION, digits.classes)))
        seen = encoder.tower(encoder.look(images))
        wanted = encoder.scale * F.cosine_similarity(seen.unsqueeze(1), read.unsqueeze(0), dim=2)
        torch.testing.assert_close(labeller(images), wanted, rtol=1e-5, atol=1e-5)


def test_an_unfitted_set_carries_the_zero_shot_classifier_up_to_scale_and_offset(digits, runtime, images):
    small = attar.condense(digits, hello(fit_steps=0), engine=ENGINE)
    encoder = encoder_for("tiny", digits, TINY, CAPTION, runtime)
    zero_shot = Labeller(encoder.look, encoder.tower, encoder.text_head(CAPTION, digits.classes), scale=1.0)
    network = small.teacher.network
    with torch.no_grad():
        torch.testing.assert_close(network(images), network.scale * zero_shot(images) + network.offset)


def test_scale_and_offset_are_matched_to_the_teachers(generator):
    labeller = Labeller(Look(), torch.nn.Flatten(), torch.randn(3, 4, generator=generator), scale=100.0)
    images = torch.randn(50, 4, 1, 1, generator=generator)
    wanted = 7 * torch.randn(50, 3, generator=generator) - 5
    labeller.offset.fill_(2.0)
    match_(labeller, labeller(images), wanted)
    assert float(labeller(images).std()) == pytest.approx(float(wanted.std()), rel=1e-4)
    assert float(labeller(images).mean()) == pytest.approx(float(wanted.mean()), rel=1e-4)


def test_a_head_of_full_rank_reaches_the_least_squares_solution(generator):
    features, wanted = torch.randn(80, 6, generator=generator), torch.randn(80, 4, generator=generator)
    labeller = Labeller(Look(), torch.nn.Flatten(), torch.randn(4, 6, generator=generator), scale=1.0, normalised=False)
    images = features.view(80, 6, 1, 1)
    factors = adapt_(labeller, {"head": 4}, "loralib", generator)
    optimizer = torch.optim.LBFGS(factors.values(), max_iter=500, tolerance_change=0, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = F.mse_loss(labeller(images), wanted)
        error.backward()
        return error

    optimizer.step(loss)
    closed = torch.linalg.lstsq(features, wanted).solution
    best = F.mse_loss(features @ closed, wanted)
    assert float(loss().detach()) == pytest.approx(float(best), rel=1e-4)


def test_with_the_teacher_in_its_place_it_is_online_distillation(labelled, digits, runtime):
    teacher = trained(digits, SMALL.resolve(digits.shape), runtime, BRIEF)
    with torch.no_grad():
        teacher.network.classifier.bias.zero_()  # a labeller has one offset for all classes
    head = teacher.network.classifier.weight.detach().clone()
    projector = dataclasses.replace(labelled.teacher)
    encoder = Embedding(copy.deepcopy(teacher.network))
    projector.network = Labeller(Look(), encoder, head, scale=1.0, normalised=False)
    method = TrainNetwork(architecture=SMALL, protocol=dataclasses.replace(PROTOCOLS["hello"], batch=4))
    losses = []
    for taught in (dataclasses.replace(labelled, teacher=teacher), dataclasses.replace(labelled, teacher=projector)):
        machine, resolved = Runtime(ENGINE, 0), method.resolve(taught)
        state = resolved.build(taught, machine)
        losses.append([float(resolved.step(state, machine)["loss"]) for _ in range(6)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# On disk.


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_stored_bytes_follow_the_formula_and_labels_come_back_bit_for_bit(storage, digits, images, tmp_path):
    small = attar.condense(digits, hello(storage=storage), engine=ENGINE)
    width, classes = TINY.clip_width, len(digits.classes)
    layers = 4 * 2 * (width + width) + 2 * 2 * (width + 2 * width) + 2 * (width + width)
    factors, components = layers + classes * (width + classes), 2 * (7 * 2 + 10)
    wanted = BYTES[storage] * factors + (4 * components if storage == "int8" else 0) + 2 * 4
    assert small.teacher.bytes == wanted
    saved = small.save(tmp_path / "set")
    file = tmp_path / "set" / "teacher" / "projector.safetensors"
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    assert file.stat().st_size == header + wanted
    loaded = attar.open_artefact(tmp_path / "set")
    with torch.no_grad():
        assert torch.equal(loaded.teacher.network(images), small.teacher.network(images))
    names = ("images.safetensors", "teacher/projector.safetensors", "teacher/clip.safetensors")
    assert saved.bytes == sum((tmp_path / "set" / name).stat().st_size for name in names)


def test_a_loaded_set_saves_the_same_bytes_again(labelled, tmp_path):
    labelled.save(tmp_path / "one")
    attar.open_artefact(tmp_path / "one").save(tmp_path / "two")
    for name in ("projector", "clip"):
        one, two = (tmp_path / n / "teacher" / f"{name}.safetensors" for n in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_an_encoder_that_everybody_has_is_named_and_not_stored(digits, images, clip, tmp_path):
    small = attar.condense(digits, hello(encoder=clip), out=tmp_path / "set", engine=ENGINE)
    assert not (tmp_path / "set" / "teacher" / "clip.safetensors").exists()
    assert "is not counted" in (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    again = attar.condense(digits, hello(encoder=clip), engine=ENGINE)
    with torch.no_grad():
        assert torch.equal(small.teacher.network(images), again.teacher.network(images))


def test_a_stored_head_needs_no_words(digits, images, clip, tmp_path):
    small = attar.condense(digits, hello(encoder=clip, class_features="text-stored"), engine=ENGINE)
    plain = attar.condense(digits, hello(encoder=clip), engine=ENGINE)
    assert small.teacher.bytes == plain.teacher.bytes + 2 * 8 * 10
    assert small.teacher.tensors["head"].dtype == torch.float16


def test_what_is_no_longer_to_be_had_is_missed_only_when_labels_are_wanted(digits, tmp_path):
    folder = save_clip(tmp_path / "clip", captions_of(CAPTION, NAMES))
    attar.condense(digits, hello(encoder=folder), out=tmp_path / "set", engine=ENGINE)
    (tmp_path / "clip").rename(tmp_path / "elsewhere")
    small = attar.open_artefact(tmp_path / "set")
    assert small.picture()
    with pytest.raises(InputError, match="is not a CLIP in a folder or on the hub"):
        _ = small.teacher.network


def test_other_weights_or_words_under_the_encoders_name_are_refused(digits, tmp_path):
    folder = save_clip(tmp_path / "clip", captions_of(CAPTION, NAMES))
    small = attar.condense(digits, hello(encoder=folder), engine=ENGINE)
    small.save(tmp_path / "set")
    save_clip(tmp_path / "clip", captions_of(CAPTION, NAMES), seed=1)
    with pytest.raises(InputError) as refusal:
        _ = attar.open_artefact(tmp_path / "set").teacher.network
    assert str(refusal.value) == f"the weights of the encoder {folder} differ from those the projector needs."
    words = dataclasses.replace(small.teacher.base, words="other")
    base = dataclasses.replace(words, weights=encoder_digest(folder, digits))
    with pytest.raises(InputError, match="splits captions into other tokens than when the projector was fitted"):
        _ = Projector(base, small.teacher.tensors).network


def encoder_digest(folder, source):
    return encoder_for(folder, source, TINY, CAPTION, Runtime(ENGINE, 0)).digest


def test_an_exchanged_projector_is_noticed(labelled, digits, tmp_path):
    labelled.save(tmp_path)
    attar.condense(digits, hello(), seed=1, engine=ENGINE).teacher.save(tmp_path / "teacher")
    with pytest.raises(InputError, match="is not the file that artefact"):
        attar.open_artefact(tmp_path)


# Where it does not belong.


def test_a_projector_labels_no_other_classes(labelled, shapes, tmp_path):
    images = attar.condense(shapes, attar.Random(ipc=2), engine=ENGINE)
    wrong = dataclasses.replace(images, teacher=labelled.teacher)
    method = TrainNetwork(architecture=SMALL, protocol=PROTOCOLS["hello"]).resolve(wrong)
    with pytest.raises(InputError, match="the teacher was trained on other classes than the 3 of the set"):
        method.build(wrong, Runtime(ENGINE, 0))
    wrong.save(tmp_path)
    with pytest.raises(InputError, match="has 10 classes, which are not those of the set"):
        CondensedImages.load(tmp_path)


def test_a_projector_sees_no_whitened_images(digits):
    with pytest.raises(InputError, match="a projector cannot take whitened images"):
        attar.condense(digits.whitened(), hello(), engine=ENGINE)


# What it saves.


def test_stored_labels_take_as_many_bytes_as_the_field_says():
    assert label_bytes(300, 1000, 1000) / 2**20 == pytest.approx(572.2, abs=0.1)
    assert [round(label_bytes(300, 1000 * ipc, 1000) / 2**30, 2) for ipc in (10, 50, 200)] == [5.59, 27.94, 111.76]


def test_the_card_sets_its_bytes_beside_those_of_stored_labels(labelled, tmp_path):
    labelled.save(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"{labelled.teacher.bytes:,} bytes; soft labels for 300 epochs would take {2 * 300 * 10 * 10:,}" in text
    assert "Its encoder, tiny, is included and counted." in text
