import copy

import pytest
import torch
from torch import nn

from attar.core.errors import InputError
from attar.images.labels.encoders import Embedding, Look
from attar.images.labels.lowrank import adapt_, delta, fold_, layers_of, packed, unpacked
from attar.images.labels.projector import Labeller
from attar.images.networks.architecture import Architecture

SIZES = {"int8": 1, "float16": 2, "float32": 4}


class Bottleneck(nn.Module):
    """The convolutions of one block of a ResNet-50."""

    def __init__(self, into, width):
        super().__init__()
        self.conv1 = nn.Conv2d(into, width, 1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, 4 * width, 1)


class ResNet50(nn.Module):
    """The convolutions of a CLIP ResNet-50: a stem of three, four stages of bottlenecks."""

    def __init__(self):
        super().__init__()
        self.stem1, self.stem2, self.stem3 = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 64, 3)
        into = 64
        for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
            sizes = [into] + [4 * width] * (blocks - 1)
            setattr(self, f"layer{stage}", nn.Sequential(*[Bottleneck(size, width) for size in sizes]))
            into = 4 * width


class Mixed(nn.Module):
    """A little of everything that can be adapted."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.kernel = nn.Conv2d(8, 12, 3, padding=1, stride=2)
        self.point = nn.Conv2d(12, 12, 1)
        self.linear = nn.Linear(12, 16)

    def forward(self, images):
        return self.linear(self.point(self.kernel(self.stem(images)).relu()).mean(dim=(2, 3)))


def randomised(factors, generator):
    with torch.no_grad():
        for factor in factors.values():
            factor.copy_(torch.randn(factor.shape, generator=generator))
    return factors


def test_layers_that_look_at_pixels_or_at_one_place_are_left_alone():
    assert layers_of(Mixed()) == ["kernel", "linear"]
    assert layers_of(Mixed(), r"stem|kernel") == ["stem", "kernel"]
    with pytest.raises(InputError, match="adapted is 'conv', which matches no layer of stem, kernel, point, linear"):
        layers_of(Mixed(), "conv")
    with pytest.raises(InputError, match="is not a regular expression"):
        layers_of(Mixed(), "(")


@pytest.mark.parametrize("form", ["loralib", "peft"])
def test_new_deltas_change_nothing(form, generator):
    network, images = Mixed(), torch.randn(2, 3, 8, 8, generator=generator)
    before = network(images)
    adapt_(network, dict.fromkeys(layers_of(network), 2), form, generator)
    assert torch.equal(network(images), before)


@pytest.mark.parametrize("form", ["loralib", "peft"])
def test_folded_deltas_give_the_same_answers(form, generator):
    network, images = Mixed().requires_grad_(False), torch.randn(4, 3, 8, 8, generator=generator)
    plain = copy.deepcopy(network)
    factors = randomised(adapt_(network, dict.fromkeys(layers_of(network), 2), form, generator), generator)
    assert not torch.allclose(network(images), plain(images))
    shared = plain.kernel.weight
    kept = shared.clone()
    fold_(plain, factors)
    torch.testing.assert_close(plain(images), network(images), rtol=1e-5, atol=1e-5)
    assert torch.equal(shared, kept)


def test_only_the_factors_are_learned(generator):
    network = Mixed().requires_grad_(False)
    factors = adapt_(network, {"kernel": 2, "linear": 3}, "loralib", generator)
    learned = {id(p) for p in network.parameters() if p.requires_grad}
    assert learned == {id(p) for p in factors.values()}


def test_layers_of_rank_zero_stay_as_they_are(generator):
    network = Mixed()
    assert adapt_(network, {"kernel": 0, "linear": 0}, "loralib", generator) == {}
    assert type(network.linear) is nn.Linear


def test_ranks_are_no_more_than_asked(generator):
    for form, size in (("loralib", 3), ("peft", 1)):
        network = Mixed()
        shapes = {"kernel": network.kernel.weight.shape, "linear": network.linear.weight.shape}
        factors = randomised(adapt_(network, {"kernel": 2, "linear": 3}, form, generator), generator)
        deltas = {name: delta(factors[f"{name}.up"], factors[f"{name}.down"], shapes[name]) for name in shapes}
        assert torch.linalg.matrix_rank(deltas["linear"]) == 3
        # loralib's is of rank k·r as the matrix (k·out x k·in) that it is, peft's of rank r as (out x in·k²).
        matrix = deltas["kernel"].reshape(size * 12, -1)
        assert torch.linalg.matrix_rank(matrix) == 2 * size


def test_the_factors_draw_from_their_generator_alone():
    networks, drawn = (Mixed(), Mixed()), []
    before = torch.get_rng_state()
    for network in networks:
        drawn.append(adapt_(network, {"linear": 2}, "peft", torch.Generator().manual_seed(1)))
    assert torch.equal(drawn[0]["linear.down"], drawn[1]["linear.down"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("classes, rank, count", [(1000, 128, 802_816), (100, 64, 615_680)])
def test_the_papers_numbers_of_parameters(classes, rank, count):
    with torch.device("meta"):
        encoder, head = ResNet50(), torch.empty(classes, 1024)
        labeller = Labeller(Look(), encoder, head, scale=100.0)
    kernels = [f"encoder.{name}" for name in layers_of(encoder, r"layer\d\.\d+\.conv2")]
    assert len(kernels) == 16
    factors = adapt_(labeller, dict.fromkeys(kernels, 8) | {"head": rank}, "loralib", torch.Generator())
    assert sum(factor.numel() for factor in factors.values()) == count


def test_the_two_forms_of_a_convolution_have_their_numbers_of_parameters(generator):
    for form, count in (("loralib", 2 * 9 * (8 + 12)), ("peft", 2 * (8 * 9 + 12))):
        factors = adapt_(Mixed(), {"kernel": 2}, form, generator)
        assert sum(factor.numel() for factor in factors.values()) == count


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_storing_what_was_stored_changes_nothing(storage, generator):
    network = Embedding(Architecture(width=8, norm="batch").build((3, 8, 8), 4, generator))
    factors = randomised(adapt_(network, dict.fromkeys(layers_of(network), 3), "peft", generator), generator)
    stored = packed(factors, storage)
    values = unpacked(stored)
    assert {name: value.shape for name, value in values.items()} == {n: f.shape for n, f in factors.items()}
    error = {"float32": 0.0, "float16": 1e-3, "int8": 1 / 127}[storage]
    for name, factor in factors.items():
        assert (values[name] - factor).abs().max() <= error * factor.abs().max()
    numbers = sum(factor.numel() for factor in factors.values())
    scales = sum(3 for _ in factors) if storage == "int8" else 0
    assert sum(tensor.nbytes for tensor in stored.values()) == SIZES[storage] * numbers + 4 * scales


def test_a_factor_of_zeros_is_stored_in_8_bits():
    assert torch.equal(unpacked(packed({"up": torch.zeros(4, 2)}, "int8"))["up"], torch.zeros(4, 2))
