"""ResNets, WideResNets and ResNet-50: their sizes to the parameter."""

import pytest
import torch
from torch import nn

import attar
from attar.images.networks.architecture import IMAGENET, multiply_adds, parameter_count, parse
from attar.images.networks.resnets import PreactivationBlock
from attar.images.protocols import Protocol
from attar.verbs import evaluate

CIFAR = (3, 32, 32)


def build(name, shape=CIFAR, classes=100):
    return parse(name).build(shape, classes, torch.Generator().manual_seed(0)).eval()


@pytest.mark.parametrize(
    "name, count, millions",
    [
        ("resnet8", 83_892, None),
        ("resnet14", 181_108, None),
        ("resnet20", 278_324, 0.28),
        ("resnet32", 472_756, 0.47),
        ("resnet44", 667_188, None),
        ("resnet56", 861_620, 0.86),
        ("resnet110", 1_736_564, 1.74),
        ("resnet8x4", 1_233_540, 1.23),
        ("resnet32x4", 7_433_860, 7.43),
        ("resnet50", 23_705_252, 23.71),
        ("wrn16_1", 180_916, None),
        ("wrn16_2", 703_284, 0.70),
        ("wrn40_1", 569_780, 0.57),
        ("wrn40_2", 2_255_156, 2.26),
    ],
)
def test_it_has_as_many_parameters_as_the_benchmarks(name, count, millions):
    assert parameter_count(build(name)) == count
    assert millions is None or round(count / 1e6, 2) == millions


def test_resnet50_is_imagenets_on_large_images():
    network = build("resnet50", (3, 224, 224), 1000)
    assert parameter_count(network) == 25_557_032
    maps, _ = network.features(torch.zeros(1, 3, 160, 160))
    assert [m.shape[2] for m in maps] == [40, 20, 10, 5]


@pytest.mark.parametrize(
    "name, count, billions",
    [
        ("resnet18-imagenet", 11_689_512, 1.81),
        ("resnet34-imagenet", 21_797_672, 3.66),
        ("resnet50-imagenet", 25_557_032, 4.09),
        ("resnet101-imagenet", 44_549_160, 7.80),
        ("resnet152-imagenet", 60_192_808, 11.51),
    ],
)
def test_imagenets_have_their_sizes_and_four_stages(name, count, billions):
    with torch.device("meta"):
        network = IMAGENET[name]((3, 224, 224), 1000).eval()
        maps, embedding = network.features(torch.zeros(1, 3, 224, 224))
    assert parameter_count(network) == count
    assert round(multiply_adds(network, (3, 224, 224)) / 1e9, 2) == billions
    wide = 1 if name in ("resnet18-imagenet", "resnet34-imagenet") else 4
    assert [tuple(m.shape[1:]) for m in maps] == [(64 * wide * 2**s, 56 // 2**s, 56 // 2**s) for s in range(4)]
    assert embedding.shape == (1, 512 * wide)
    deep = [key for key, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert f"resnet{len([key for key in deep if 'shortcut' not in key])}-imagenet" == name


def test_their_stem_is_imagenets_on_small_images_too():
    maps, _ = build("resnet18-imagenet", (3, 64, 64)).features(torch.zeros(1, 3, 64, 64))
    assert [m.shape[2] for m in maps] == [16, 8, 4, 2]


@pytest.mark.parametrize(
    "name, filters, sides",
    [
        ("resnet20", [16, 32, 64], [32, 16, 8]),
        ("resnet8x4", [64, 128, 256], [32, 16, 8]),
        ("wrn16_2", [32, 64, 128], [32, 16, 8]),
        ("resnet50", [256, 512, 1024, 2048], [32, 16, 8, 4]),
    ],
)
def test_every_stage_shows_its_last_map(name, filters, sides):
    maps, embedding = build(name).features(torch.zeros(1, *CIFAR))
    assert [tuple(m.shape[1:]) for m in maps] == [(f, s, s) for f, s in zip(filters, sides, strict=True)]
    assert embedding.shape[1] == filters[-1]


@pytest.mark.parametrize("name, layers", [("resnet20", 20), ("resnet110", 110), ("wrn16_2", 14), ("wrn40_2", 38)])
def test_a_name_counts_layers_without_those_of_shortcuts_and_with_them_where_wide(name, layers):
    modules = dict(build(name).named_modules())
    deep = [key for key, m in modules.items() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len([key for key in deep if "shortcut" not in key]) == layers
    if name.startswith("wrn"):
        assert f"wrn{len(deep) - 1}_2" == name  # all but the linear one


def test_multiply_adds_are_those_of_the_paper():
    # He et al. do not say; 41 million is what a ResNet-20 of 32 pixels comes to, and 4.1 thousand million ResNet-50.
    assert round(multiply_adds(build("resnet20"), CIFAR) / 1e6) == 41
    assert round(multiply_adds(build("resnet50", (3, 224, 224), 1000), (3, 224, 224)) / 1e9, 1) == 4.1


def test_a_block_whose_convolutions_are_zero_passes_its_input(generator):
    x = torch.randn(2, 4, 5, 5, generator=generator)
    block = PreactivationBlock(4, 4, stride=1).eval()
    nn.init.zeros_(block.second.weight)
    assert torch.equal(block(x), x)
    wider = PreactivationBlock(4, 6, stride=2).eval()
    nn.init.zeros_(wider.second.weight)
    assert torch.equal(wider(x), wider.shortcut(wider.first_norm(x).relu()))


def test_it_learns_shapes_from_a_few_images(shapes, engine):
    small = attar.condense(shapes, attar.Random(ipc=16), engine=engine)
    how = Protocol(name="brief", epochs=8, lr=0.05, batch=16)
    settings = {"repeats": 1, "protocol": how, "ceiling": "skip", "beside": "skip", "engine": engine}
    score = evaluate(small, shapes, networks=["resnet8"], **settings)
    assert score.networks[0].score.value > 50  # chance is a third
