"""The networks by whose ImageNet weights others are known: their sizes to the parameter, and what every one must do."""

import numpy as np
import pytest
import torch
from PIL import Image

from attar.core.errors import InputError
from attar.images.networks.architecture import TABLES, captured, parameter_count
from attar.images.networks.imagenet import RELEASED, PaddedBehind
from attar.images.networks.pretrained import network_named
from attar.images.networks.scaled import Scaled, scaled

PUBLISHED = {
    "resnet18-imagenet": 11_689_512,
    "resnet34-imagenet": 21_797_672,
    "resnet50-imagenet": 25_557_032,
    "resnet101-imagenet": 44_549_160,
    "resnet152-imagenet": 60_192_808,
    "vgg11-imagenet": 132_863_336,
    "vgg13-imagenet": 133_047_848,
    "vgg16-imagenet": 138_357_544,
    "vgg19-imagenet": 143_667_240,
    "vgg11-bn-imagenet": 132_868_840,
    "vgg13-bn-imagenet": 133_053_736,
    "vgg16-bn-imagenet": 138_365_992,
    "vgg19-bn-imagenet": 143_678_248,
    "mobilenetv2-imagenet": 3_504_872,
    "efficientnet-lite0": 4_652_008,
    "vit_b16": 86_567_656,
}
"""Parameters on 1,000 classes at 224 pixels, as the packages state them."""
OF_CIFAR = {"resnet32x4": 7_433_860, "wrn40_2": 2_255_156, "resnet18-cifar": 11_220_132, "resnet50-cifar": 23_705_252}
"""Parameters on 100 classes at 32 pixels."""


def built(name, shape, classes):
    """A network without memory for its parameters, where that can be."""
    with torch.device("meta"):
        return {**TABLES, **RELEASED}[name](shape, classes)


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_has_as_many_parameters_as_are_published(name):
    assert parameter_count(built(name, (3, 224, 224), 1000)) == PUBLISHED[name]


@pytest.mark.parametrize("name", OF_CIFAR)
def test_on_cifar_too(name):
    assert parameter_count(built(name, (3, 32, 32), 100)) == OF_CIFAR[name]


@pytest.mark.parametrize("name", ["mobilenetv2-imagenet", "efficientnet-lite0", "resnet18-cifar", "resnet50-cifar"])
def test_it_gives_maps_an_embedding_and_a_gradient(name, generator):
    network = network_named(name)((3, 32, 32), 5)
    images = torch.randn(2, 3, 32, 32, generator=generator, requires_grad=True)
    maps, embedding = network.features(images)
    (embedding.sum() + sum(one.mean() for one in maps)).backward()
    assert images.grad.abs().sum() > 0
    sides = [one.shape[2] for one in maps]
    assert sides == sorted(sides, reverse=True) and len(maps) == (4 if "resnet" in name else 5)
    with captured(network, list(network.before_activation)):
        assert network(images).shape == (2, 5)


def test_a_deep_vgg_gives_five_maps(monkeypatch, generator):
    monkeypatch.setattr("attar.images.networks.imagenet.HIDDEN", 16)
    network = network_named("vgg11-bn-imagenet")((3, 32, 32), 5).eval()
    maps, embedding = network.features(torch.randn(1, 3, 32, 32, generator=generator))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
        (512, 2, 2),
    ]
    assert embedding.shape == (1, 16)
    modules = dict(network.named_modules())
    assert all(type(modules[name]).__name__ == "ReLU" for name in network.before_activation)
    with pytest.raises(InputError, match="at least 32×32; these are 16×16"):
        network_named("vgg11-bn-imagenet")((3, 16, 16), 5)


@pytest.mark.parametrize("size, kernel, stride", [(8, 3, 2), (7, 3, 2), (8, 5, 2), (9, 5, 2), (8, 3, 1), (6, 5, 1)])
def test_odd_padding_goes_behind(size, kernel, stride):
    layer = PaddedBehind(1, 1, kernel, stride, bias=False)
    image = torch.arange(float(size * size)).view(1, 1, size, size)
    out = -(-size // stride)
    added = (out - 1) * stride + kernel - size
    before = added // 2
    padded = torch.zeros(1, 1, size + added, size + added)
    padded[:, :, before : before + size, before : before + size] = image
    wanted = torch.nn.functional.conv2d(padded, layer.weight, stride=stride)
    torch.testing.assert_close(layer(image), wanted)
    assert layer(image).shape[2:] == (out, out)


def test_a_network_that_sees_scaled_images(generator, monkeypatch):
    network = network_named("resnet8@16")((3, 8, 8), 4)
    assert isinstance(network, Scaled)
    images = torch.randn(2, 3, 8, 8, generator=generator, requires_grad=True)
    network.eval()
    torch.testing.assert_close(network(images), network.network(scaled(images, 16)))
    network(images).sum().backward()
    assert images.grad.abs().sum() > 0
    with torch.no_grad():
        many = torch.randn(9, 3, 8, 8, generator=generator)
        whole = network(many)
        monkeypatch.setattr("attar.images.networks.scaled.AT_ONCE", 4 * 16**2)
        torch.testing.assert_close(network(many), whole)
    assert not any(key.startswith("classifier") for key in network.state_dict())
    network.keep_outputs_([2, 0])
    assert network(images).shape == (2, 2)
    with captured(network, list(network.before_activation)) as seen:
        network(images)
    assert len(seen) == 3


def test_scaling_is_that_of_pillow(generator):
    pixels = torch.randint(60, 190, (6, 6, 3), dtype=torch.uint8, generator=generator)  # nothing is cut off
    theirs = torch.tensor(np.array(Image.fromarray(pixels.numpy()).resize((21, 21), Image.Resampling.BICUBIC)))
    ours = scaled(pixels.permute(2, 0, 1)[None].float(), 21)[0].permute(1, 2, 0)
    assert (ours - theirs.float()).abs().max() < 2  # Pillow rounds to whole levels twice


@pytest.mark.parametrize("word", ["resnet8@", "resnet8@wide", "resnet8@0", "resnet8@99999"])
def test_a_side_that_is_none_is_refused(word):
    with pytest.raises(InputError, match="Give a side in pixels, such as 224"):
        network_named(word)
