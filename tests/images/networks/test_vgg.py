"""VGG with batch norm: sizes to the parameter, and where maps are pooled."""

import pytest
import torch
from torch import nn

from attar.images.networks.architecture import parameter_count, parse


def build(name, shape=(3, 32, 32)):
    return parse(name).build(shape, 100, torch.Generator().manual_seed(0)).eval()


@pytest.mark.parametrize(
    "name, count",
    [
        ("vgg8-bn", 3_965_028),  # 3.96 M in the tables, which cut it off
        ("vgg11-bn", 9_277_284),
        ("vgg13-bn", 9_462_180),
        ("vgg16-bn", 14_774_436),
        ("vgg19-bn", 20_086_692),
    ],
)
def test_it_has_as_many_parameters_as_the_benchmarks(name, count):
    network = build(name)
    assert parameter_count(network) == count
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert f"vgg{len(convolutions) + 3}-bn" == name  # the paper's have three linear layers


@pytest.mark.parametrize(
    "side, sides", [(8, [4, 2, 1, 1]), (32, [16, 8, 4, 4]), (64, [32, 16, 8, 4]), (70, [35, 17, 8, 4])]
)
def test_maps_are_pooled_before_the_last_stage_only_from_64_pixels(side, sides):
    maps, embedding = build("vgg8-bn", (3, side, side)).features(torch.zeros(1, 3, side, side))
    assert [tuple(m.shape[1:]) for m in maps] == [(f, s, s) for f, s in zip((128, 256, 512, 512), sides, strict=True)]
    assert embedding.shape == (1, 512)


def test_the_condensers_vgg11_is_another_network():
    own, benchmark = build("vgg11:norm=batch"), build("vgg11-bn")
    assert parameter_count(own) == parameter_count(benchmark)
    assert len(own.features(torch.zeros(1, 3, 32, 32))[0]) == 5
    assert len(benchmark.features(torch.zeros(1, 3, 32, 32))[0]) == 4
