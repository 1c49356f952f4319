"""Complexity of maps, of images and of classes, and which classes it calls easy and hard."""

import math

import pytest
import torch
from torch import nn

import attar
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images import layout
from attar.images.cam import grad_cam, resized, unit_range
from attar.images.complexity import class_complexity, complexity, select
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.trained import trained

BRIEF = Protocol(name="brief", epochs=2)
SMALL = Architecture(width=8, norm="batch")


@pytest.fixture
def observer(digits, runtime):
    return trained(digits, SMALL, runtime, BRIEF)


@pytest.fixture
def maps(generator):
    return unit_range(torch.rand(6, 7, 5, generator=generator))


class Light(nn.Module):
    """One filter, the picture itself, of which every class has the mean."""

    def __init__(self, brightness=1.0):
        super().__init__()
        self.picture = nn.Conv2d(1, 1, 1, bias=False)
        self.picture.weight.data.fill_(brightness)
        self.weights = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, images):
        return self.picture(images).mean(dim=(2, 3)) * self.weights


@pytest.fixture
def squares():
    """Bright squares of side 2 (class 0) and 4 (class 1) on black 8×8 pictures, in many places."""
    pixels, labels = torch.zeros(18, 8, 8), torch.arange(18) % 2
    for number, label in enumerate(labels.tolist()):
        top, side = number // 6, 2 + 2 * label
        pixels[number, top : top + side, top + 1 : top + 1 + side] = 1.0
    return attar.load(((pixels, labels), (pixels[:4], labels[:4])), statistics="measured")


# Of maps.


@pytest.mark.parametrize("places", [1, 7, 20, 35])
def test_it_is_one_minus_the_share_of_places_that_reach_half(places):
    maps = torch.full((1, 7, 5), 0.49)
    maps.flatten()[:places] = 0.5
    assert float(complexity(maps)) == pytest.approx(1 - places / 35)
    assert float(complexity(maps, strict=True)) == 1


def test_above_and_at_the_threshold_differ_only_on_it(maps):
    assert torch.equal(complexity(maps), complexity(maps, strict=True))
    assert float(complexity(torch.tensor([[[0.0, 0.5, 1.0]]]))) == pytest.approx(1 / 3)
    assert float(complexity(torch.tensor([[[0.0, 0.5, 1.0]]]), strict=True)) == pytest.approx(2 / 3)


def test_a_higher_threshold_leaves_out_more(maps):
    rising = torch.stack([complexity(maps, threshold) for threshold in (0.1, 0.5, 0.9)])
    assert (rising.diff(dim=0) > 0).all()


def test_positive_affine_changes_of_the_raw_map_are_no_matter(maps):
    assert torch.equal(complexity(unit_range(3.0 * maps + 2.0)), complexity(maps))


def test_where_the_places_are_is_no_matter(maps, generator):
    shuffled = maps.flatten(1)[:, torch.randperm(35, generator=generator)].view_as(maps)
    for other in (shuffled, maps.flip(1), maps.flip(2), maps.transpose(1, 2)):
        assert torch.equal(complexity(other), complexity(maps))


def test_it_lies_from_zero_to_below_one_in_steps_of_a_place(maps):
    values = complexity(maps)
    assert ((values >= 0) & (values < 1)).all()
    torch.testing.assert_close(values * 35, (values * 35).round())


def test_a_map_that_is_the_same_everywhere_has_one():
    assert complexity(unit_range(torch.full((2, 7, 7), 0.3))).tolist() == [1, 1]


# Of images and classes.


def test_small_objects_are_more_complex_by_their_area(squares, runtime):
    found = class_complexity(squares, Light(), runtime=runtime)
    assert found.by_class == pytest.approx((1 - 4 / 64, 1 - 16 / 64))
    assert found.looking.layer == "picture"
    assert not found.undefined.any()


def test_a_class_has_the_mean_of_its_images(digits, observer, runtime):
    found = class_complexity(digits, observer, runtime=runtime)
    for label, rows in enumerate(digits.rows_of):
        assert found.by_class[label] == pytest.approx(float(found.images[rows].mean()), abs=1e-6)


def test_images_are_those_of_plain_maps_of_the_predicted_class(few_digits, observer, runtime):
    network = observer.network.eval()
    inputs = few_digits.inputs(torch.arange(len(few_digits.train)))
    predicted = network(inputs).argmax(dim=1)
    wanted = complexity(grad_cam(network, inputs, predicted))
    torch.testing.assert_close(class_complexity(few_digits, observer, runtime=runtime).images, wanted)
    own = complexity(grad_cam(network, inputs, few_digits.targets))
    torch.testing.assert_close(class_complexity(few_digits, observer, runtime=runtime, target="label").images, own)
    assert not torch.equal(own, wanted)


@pytest.mark.parametrize("kind", ["grad-cam", "smooth"])
def test_how_many_go_together_is_no_matter(kind, digits, observer, runtime, monkeypatch):
    few = digits.subset(torch.arange(40))
    found = class_complexity(few, observer, runtime=runtime, kind=kind)
    monkeypatch.setattr(layout, "at_once", lambda *a: 7)
    other = class_complexity(few, observer, runtime=runtime, kind=kind)
    torch.testing.assert_close(other.images, found.images)


def test_noise_is_an_images_own_and_comes_from_the_seed(digits, observer, engine):
    def images(seed, count=24):
        few = digits.subset(torch.arange(count))
        return class_complexity(few, observer, runtime=Runtime(engine, seed), kind="smooth").images

    assert torch.equal(images(0), images(0))
    assert not torch.equal(images(0), images(1))
    assert torch.equal(images(0, 9), images(0)[:9])


def test_native_places_are_those_of_the_layer_and_pixels_those_of_the_image(few_digits, observer, runtime):
    native = class_complexity(few_digits, observer, runtime=runtime)
    torch.testing.assert_close(native.images * 16, (native.images * 16).round())
    pixels = class_complexity(few_digits, observer, runtime=runtime, resolution="image")
    inputs = few_digits.inputs(torch.arange(len(few_digits.train)))
    maps = grad_cam(observer.network, inputs, observer.network(inputs).argmax(dim=1))
    torch.testing.assert_close(pixels.images, complexity(resized(maps, 8, 8)))


def test_a_layer_is_taken_by_name(few_digits, observer, runtime):
    found = class_complexity(few_digits, observer, runtime=runtime, layer="blocks.0")
    torch.testing.assert_close(found.images * 64, (found.images * 64).round())
    assert found.looking.layer == "blocks.0"
    with pytest.raises(InputError, match=r"unknown layer 'blocks\.7'"):
        class_complexity(few_digits, observer, runtime=runtime, layer="blocks.7")


def test_flat_maps_are_marked_counted_and_told(squares, engine):
    told = []
    found = class_complexity(squares, Light(brightness=0.0), runtime=Runtime(engine, say=told.append))
    assert found.undefined.all()
    assert found.by_class == (1.0, 1.0)
    assert told == ["18 of 18 maps are constant; the complexity of their images is set to 1."]


def test_a_network_that_knows_more_classes_is_told_which(few_digits, observer, runtime):
    part = few_digits.with_classes([7, 2])
    found = class_complexity(part, observer, outputs=[7, 2], target="label", runtime=runtime)
    whole = class_complexity(few_digits, observer, target="label", runtime=runtime)
    for number, label in enumerate((7, 2)):
        assert found.by_class[number] == pytest.approx(whole.by_class[label])
    assert math.isfinite(class_complexity(part, observer, runtime=runtime).by_class[0])


def test_networks_come_as_modules_and_folders_and_are_left_alone(few_digits, observer, runtime, tmp_path):
    observer.save(tmp_path)
    module = observer.network.train()
    found = [class_complexity(few_digits, given, runtime=runtime) for given in (observer, module, str(tmp_path))]
    assert torch.equal(found[0].images, found[1].images)
    assert torch.equal(found[0].images, found[2].images)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_classifier_of_transformers_keeps_its_own_head(shapes, runtime, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=5
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.ResNetForImageClassification(config).save_pretrained(tmp_path)
    found = class_complexity(shapes, f"transformers:{tmp_path}", target="label", outputs=[4, 0, 2], runtime=runtime)
    network = transformers.ResNetForImageClassification.from_pretrained(tmp_path)

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network

        def forward(self, images):
            return self.model(images).logits

    wanted = grad_cam(Logits(), shapes.inputs(torch.arange(60)), torch.tensor([4, 0, 2])[shapes.targets])
    torch.testing.assert_close(found.images, complexity(wanted))


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"kind": "gradcam"}, "unknown kind 'gradcam'; did you mean 'grad-cam'?"),
        ({"target": "labels"}, "unknown target 'labels'; did you mean 'label'?"),
        ({"resolutions": "image"}, "unknown setting of Looking 'resolutions'; did you mean 'resolution'?"),
        ({"threshold": 2.0}, "threshold is 2.0; it must be from 0 to 1."),
        ({"target": "label"}, "the network has 2 outputs, but digits has 10 classes. Give outputs=..."),
        (
            {"target": "label", "outputs": [0, 1, 2]},
            "outputs must be 10 numbers from 0 to 1, one for each class.",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(settings, sentence, few_digits, runtime):
    with pytest.raises(InputError) as refusal:
        class_complexity(few_digits, Light(), runtime=runtime, **settings)
    assert sentence in str(refusal.value)


def test_a_name_that_is_no_trained_network_is_refused(few_digits, runtime):
    with pytest.raises(
        InputError, match=r"'resnet18' is not the folder of a trained network\. Give such a folder, or trans"
    ):
        class_complexity(few_digits, "resnet18", runtime=runtime)


# Easy and hard.


def test_the_least_and_the_most_complex_are_chosen_in_their_order():
    scores = {30 + label: score for label, score in enumerate([0.5, 0.1, 0.9, 0.3, 0.7, 0.2])}
    assert select(scores, 2) == ((31, 35), (32, 34))


def test_no_class_is_in_both_halves(generator):
    scores = dict(enumerate(torch.rand(20, generator=generator).tolist()))
    easy, hard = select(scores)
    assert set(easy) | set(hard) == set(range(20))
    assert max(scores[label] for label in easy) < min(scores[label] for label in hard)


def test_among_equals_the_lower_number_goes_first_and_halves_stay_apart():
    easy, hard = select(dict.fromkeys(reversed(range(20)), 0.5))
    assert easy == tuple(range(10))
    assert hard == tuple(range(10, 20))
    assert select({3: 0.5, 1: 0.5, 2: 0.9, 0: 0.1}, 2) == ((0, 1), (2, 3))


def test_a_pool_that_is_too_small_is_refused():
    with pytest.raises(InputError, match=r"count is 10, but there are 19 classes to choose .* Give 20 classes"):
        select(dict.fromkeys(range(19), 0.5))
