"""The other networks of the field's tables: their sizes to the parameter, and what every one must do."""

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.images.networks.architecture import (
    IMAGENET,
    TABLES,
    Architecture,
    mixes_images,
    multiply_adds,
    parameter_count,
    parse,
    redraw_,
)
from attar.images.networks.architecture import NETWORKS as ALL
from attar.images.networks.blocks import Network
from attar.images.protocols import Protocol
from attar.verbs import evaluate

NETWORKS = [name for name in ALL if name not in TABLES]  # those are asked the same in test_blocks
CIFAR = (3, 32, 32)
SMALLEST = {"lenet": 16}


def build(text, shape=CIFAR, classes=10, seed=0):
    return parse(text).build(shape, classes, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "text, shape, classes, count",
    [
        ("alexnet", CIFAR, 10, 1_872_202),
        ("alexnet:norm=batch", CIFAR, 10, 1_874_122),
        ("vgg11", CIFAR, 10, 9_231_114),
        ("vgg11:norm=batch", CIFAR, 10, 9_231_114),
        ("resnet18", CIFAR, 10, 11_173_962),
        ("resnet18:norm=batch", CIFAR, 10, 11_173_962),
        ("resnet18-ap", CIFAR, 10, 11_250_762),
        ("lenet", CIFAR, 10, 62_006),
        ("vit", CIFAR, 10, 1_806_538),
        # ImageNet's ResNet-18 has 11,689,512 with 1,000 classes.
        ("resnet18:norm=batch", (3, 224, 224), 1000, 11_689_512),
    ],
)
def test_it_has_as_many_parameters_as_the_papers_network(text, shape, classes, count):
    assert parameter_count(build(text, shape, classes)) == count


@pytest.mark.parametrize(
    "network, features", [("alexnet", 3072), ("vgg11", 512), ("resnet18", 512), ("resnet18-ap", 8192)]
)
def test_digits_of_28_pixels_and_colour_of_32_end_in_equal_maps(network, features):
    for shape in ((1, 28, 28), CIFAR):
        expected = 512 * 9 if (network, shape[0]) == ("resnet18-ap", 1) else features
        assert build(network, shape).classifier.in_features == expected


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 128, 128), (3, 224, 224)])
@pytest.mark.parametrize("network", NETWORKS)
def test_it_takes_images_of_every_usual_size(network, shape):
    if shape[1] < SMALLEST.get(network, 8):
        with pytest.raises(InputError, match=f"{network} needs images of at least 12×12; these are 8×8"):
            build(network, shape)
        return
    text = f"{network}:width=6" if network in ("convnet", "mlp", "resnet18", "resnet18-ap", "vit") else network
    with torch.no_grad():
        assert build(text, shape, 3)(torch.zeros(1, *shape)).shape == (1, 3)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_reach_the_pixels_through_maps_and_embedding(network, generator):
    images = torch.randn(2, 3, 16, 16, generator=generator, requires_grad=True)
    model = build(network, (3, 16, 16))
    assert isinstance(model, Network)
    maps, embedding = model.features(images)
    assert torch.equal(model.classifier(embedding), model(images))
    assert all(m.shape[0] == 2 and m.ndim == 4 for m in maps)
    for value in [*maps, embedding]:
        (gradient,) = torch.autograd.grad(value.square().sum(), images, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("network", NETWORKS)
def test_a_seed_draws_every_parameter_and_another_draws_others(network):
    first, again, other = (build(network, (3, 16, 16), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].unique().numel() > 2]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)
    if network == "vit":
        assert {"token", "places"} < set(drawn)


@pytest.mark.parametrize("network", NETWORKS)
def test_redrawing_forgets_what_was_learned(network, generator):
    model = build(network, (3, 16, 16))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(7)
    redraw_(model, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_batch_norm_mixes_images_and_the_defaults_do_not():
    assert not any(mixes_images(build(network, (3, 16, 16))) for network in NETWORKS)
    assert all(mixes_images(build(f"{name}:norm=batch", (3, 16, 16))) for name in ("alexnet", "vgg11", "resnet18"))


def test_average_pooled_resnet_is_strided_resnet_at_full_resolution():
    strided, pooled = build("resnet18"), build("resnet18-ap")
    assert {m.stride for m in pooled.modules() if isinstance(m, torch.nn.Conv2d)} == {(1, 1)}
    assert sum(m.stride == (2, 2) for m in strided.modules() if isinstance(m, torch.nn.Conv2d)) == 6
    assert [m.shape for m in strided.features(torch.zeros(1, *CIFAR))[0]] == [
        m.shape for m in pooled.features(torch.zeros(1, *CIFAR))[0]
    ]


def test_multiply_adds_count_every_token_of_a_transformer():
    width, tokens = 6, 65
    block = tokens * (3 * width**2 + width**2 + 4 * width**2)
    patches, head = 64 * 3 * 16 * width, width * 10
    assert multiply_adds(build("vit:width=6,depth=1"), CIFAR) == patches + block + head


@pytest.mark.parametrize("network", ["lenet", "resnet18-ap:width=8", "vit:width=24,depth=2"])
def test_it_learns_shapes_from_a_few_images(network, shapes, engine):
    small = attar.condense(shapes, attar.Random(ipc=16), engine=engine)
    how = Protocol(name="brief", epochs=30, lr=0.02, batch=16)
    score = evaluate(
        small, shapes, networks=[network], repeats=1, protocol=how, ceiling="skip", beside="skip", engine=engine
    )
    assert score.networks[0].score.value > 50  # chance is a third


@pytest.mark.parametrize("network", ["resnet18:width=4", "vit:width=6,depth=1", "alexnet"])
def test_it_can_be_distilled_with(network, shapes, engine):
    method = attar.DataDAM(ipc=1, steps=2, real_batch=4, lr=0.1, architecture=parse(network))
    small = attar.condense(shapes, method, engine=engine)
    assert small.images.isfinite().all()


@pytest.mark.parametrize(
    "settings, sentence",
    [
        (
            {"network": "lenet", "norm": "batch"},
            "norm is batch, but the norm of lenet cannot be chosen; do not set it.",
        ),
        ({"network": "vgg11", "width": 8}, "width is 8, but vgg11 has only one width; do not set it."),
        ({"network": "resnet18", "depth": 2}, "depth is 2, but resnet18 has only one depth; do not set it."),
        ({"network": "mlp", "pooling": "max"}, "pooling is max, but it can be chosen for convnet only; do not set it."),
    ],
)
def test_what_a_network_does_not_have_is_refused(settings, sentence):
    with pytest.raises(InputError) as refusal:
        Architecture(**settings)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("name, count, width", [("vit_s16", 22_050_664, 384), ("vit_b16", 86_567_656, 768)])
def test_vits_of_patches_of_16_pixels_are_imagenets(name, count, width):
    with torch.device("meta"):
        network = IMAGENET[name]((3, 224, 224), 1000).eval()
        maps, embedding = network.features(torch.zeros(1, 3, 224, 224))
    assert parameter_count(network) == count
    assert [tuple(m.shape[1:]) for m in maps] == [(width, 14, 14)] * 12
    assert embedding.shape == (1, width)
    assert network.blocks[0].heads == width // 64


def test_a_vit_of_patches_needs_one_and_takes_several():
    with torch.no_grad():
        assert build("vit_s16", (1, 32, 48), 3).features(torch.zeros(2, 1, 32, 48))[0][0].shape == (2, 384, 2, 3)
    with pytest.raises(InputError, match=r"^vit_s16 needs images of at least 16×16; these are 8×8\.$"):
        build("vit_s16", (1, 8, 8))


def test_a_vit_of_a_width_without_three_heads_is_refused():
    with pytest.raises(InputError, match="a ViT of width 8 does not divide into 3 heads"):
        build("vit:width=8")
