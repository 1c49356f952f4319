"""MobileNets and ShuffleNets: sizes to the parameter, and the blocks' arithmetic."""

import pytest
import torch
from torch import nn

from attar.images.networks.architecture import IMAGENET, multiply_adds, parameter_count, parse
from attar.images.networks.mobile import ChannelShuffle, HalvingUnit, InvertedResidual, ShuffleBlock, SplitUnit

CIFAR = (3, 32, 32)


@pytest.mark.parametrize(
    "name, count, millions, shapes, features",
    [
        ("mobilenetv2", 812_836, 0.81, [(12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2)], 1280),
        ("shufflenetv1", 949_258, 0.95, [(240, 16, 16), (480, 8, 8), (960, 4, 4)], 960),
        ("shufflenetv2", 1_355_528, 1.36, [(116, 16, 16), (232, 8, 8), (464, 4, 4)], 1024),
    ],
)
def test_sizes_are_those_of_the_benchmarks(name, count, millions, shapes, features):
    network = parse(name).build(CIFAR, 100, torch.Generator().manual_seed(0)).eval()
    assert parameter_count(network) == count
    assert round(count / 1e6, 2) == millions
    maps, embedding = network.features(torch.zeros(1, *CIFAR))
    assert [tuple(m.shape[1:]) for m in maps] == shapes
    assert embedding.shape == (1, features)


def test_mobilenetv1_is_imagenets():
    with torch.device("meta"):
        network = IMAGENET["mobilenetv1"]((3, 224, 224), 1000).eval()
        maps, embedding = network.features(torch.zeros(1, 3, 224, 224))
    assert parameter_count(network) == 4_231_976
    assert round(multiply_adds(network, (3, 224, 224)) / 1e9, 2) == 0.57
    assert [tuple(m.shape[1:]) for m in maps] == [(128, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7)]
    assert embedding.shape == (1, 1024)
    grouped = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(grouped) == 13
    assert all(m.groups == m.in_channels == m.out_channels for m in grouped)


def test_a_shuffle_deals_the_groups_out_and_another_gathers_them():
    x = torch.arange(6.0)[None, :, None, None].expand(2, 6, 3, 2)
    dealt = ChannelShuffle(2)(x)
    assert dealt[0, :, 0, 0].tolist() == [0, 3, 1, 4, 2, 5]
    assert torch.equal(ChannelShuffle(3)(dealt), x)


def test_half_of_the_channels_pass_a_unit_as_they_are(generator):
    x = torch.randn(2, 8, 4, 4, generator=generator)
    assert torch.equal(SplitUnit(8).eval()(x)[:, ::2], x[:, :4])


@pytest.mark.parametrize("side", [7, 8])
def test_a_unit_that_halves_has_as_many_filters_as_asked(side, generator):
    x = torch.randn(2, 24, side, side, generator=generator)
    assert HalvingUnit(24, 116)(x).shape == (2, 116, 4, 4)
    block = ShuffleBlock(24, 240, groups=3, halved=True)
    out = block(x)
    assert out.shape == (2, 240, 4, 4)
    assert torch.equal(out[:, -24:], nn.functional.avg_pool2d(x, 3, 2, padding=1).relu())


def test_an_inverted_residual_adds_its_input_only_where_shapes_stay(generator):
    x = torch.randn(2, 4, 6, 6, generator=generator)
    block = InvertedResidual(4, 4, 6, stride=1).eval()
    nn.init.zeros_(block.layers[-1].weight)
    assert torch.equal(block(x), x)
    assert not InvertedResidual(4, 6, 6, stride=1).added
    assert InvertedResidual(4, 4, 6, stride=2)(x).shape == (2, 4, 3, 3)


def test_multiply_adds_of_a_convolution_in_each_channel_are_counted_once_per_channel():
    block = nn.Sequential(InvertedResidual(2, 2, 3, stride=1))
    assert multiply_adds(block, (2, 5, 5)) == 25 * (2 * 6 + 6 * 9 + 6 * 2)
