import itertools
import json
import math

import pytest
import torch
from scipy import stats
from torch import nn

from attar.core.errors import InputError
from attar.images.networks.architecture import (
    Architecture,
    captured,
    from_factory,
    mixes_images,
    multiply_adds,
    parameter_count,
    parse,
    redraw_,
)

NORMS = ("none", "batch", "layer", "instance", "group")
ACTIVATIONS = ("sigmoid", "relu", "leakyrelu")
POOLINGS = ("none", "max", "avg")
CIFAR = (3, 32, 32)


def build(shape, classes=10, seed=0, **settings):
    return Architecture(**settings).build(shape, classes, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "settings, shape, classes, count",
    [
        ({}, CIFAR, 10, 320_010),
        ({}, CIFAR, 100, 504_420),
        ({}, (1, 28, 28), 10, 317_706),
        ({}, (3, 64, 64), 200, 857_160),
        ({"network": "mlp"}, CIFAR, 10, 411_146),
    ],
)
def test_it_has_as_many_parameters_as_the_papers_networks(settings, shape, classes, count):
    assert parameter_count(build(shape, classes, **settings)) == count


@pytest.mark.parametrize("side, depth", [(8, 2), (16, 2), (28, 3), (32, 3), (64, 4), (128, 5)])
def test_the_depth_follows_from_the_side(side, depth):
    assert Architecture().resolve((3, side, side)).depth == depth
    assert Architecture(depth=1).resolve((3, side, side)).depth == 1


def test_a_digit_of_28_pixels_is_padded_to_32():
    network = build((1, 28, 28), width=4)
    maps, embedding = network.features(torch.zeros(2, 1, 28, 28))
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 32, 32), (4, 16, 16), (4, 8, 8)]
    assert embedding.shape == (2, 4 * 4 * 4)


# The grid of neural architecture search: 720 networks.


def test_the_search_grid_has_720_distinct_settings():
    grid = itertools.product((32, 64, 128, 256), (1, 2, 3, 4), NORMS, ACTIVATIONS, POOLINGS)
    names = ("width", "depth", "norm", "activation", "pooling")
    settings = {json.dumps(Architecture(**dict(zip(names, row, strict=True))).to_json()) for row in grid}
    assert len(settings) == 720


@pytest.mark.parametrize("norm", NORMS)
def test_every_kind_of_network_in_the_grid_computes(norm, generator):
    images = torch.randn(2, 3, 16, 16, generator=generator)
    for depth, activation, pooling in itertools.product((1, 4), ACTIVATIONS, POOLINGS):
        network = build((3, 16, 16), width=4, depth=depth, norm=norm, activation=activation, pooling=pooling)
        maps, embedding = network.features(images)
        assert len(maps) == depth
        assert torch.equal(network.classifier(embedding), network(images))
        assert network(images).isfinite().all()


def test_features_are_the_maps_before_pooling_and_the_last_pooled_one(generator):
    network = build(CIFAR, width=4)
    images = torch.randn(2, *CIFAR, generator=generator)
    maps, embedding = network.features(images)
    assert [m.shape[2] for m in maps] == [32, 16, 8]
    assert min(m.min() for m in maps) >= 0
    torch.testing.assert_close(embedding, nn.functional.avg_pool2d(maps[-1], 2).flatten(1))
    torch.testing.assert_close(maps[1], network.blocks[1](nn.functional.avg_pool2d(maps[0], 2)))


def test_an_mlp_has_an_embedding_and_no_maps(generator):
    network = build((1, 8, 8), network="mlp", width=16)
    images = torch.randn(3, 1, 8, 8, generator=generator)
    maps, embedding = network.features(images)
    assert maps == []
    assert embedding.shape == (3, 16)
    first, second = network.hidden
    torch.testing.assert_close(embedding, second(first(images.flatten(1)).relu()).relu())
    torch.testing.assert_close(network(images), network.classifier(embedding))


# Normalisation.


def test_instance_norm_uses_the_statistics_of_one_image_and_channel(generator):
    network = build((3, 8, 8), width=4, depth=1)
    images = torch.randn(5, 3, 8, 8, generator=generator)
    x = network.blocks[0][0](images)
    mean, variance = x.mean(dim=(2, 3), keepdim=True), x.var(dim=(2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(network.blocks[0][1](x), (x - mean) / (variance + 1e-5).sqrt())


@pytest.mark.parametrize(
    "norm, mixes", [("none", False), ("instance", False), ("layer", False), ("group", False), ("batch", True)]
)
def test_only_batch_norm_mixes_images(norm, mixes, generator):
    network = build((3, 8, 8), width=4, norm=norm)
    images = torch.randn(5, 3, 8, 8, generator=generator)
    assert mixes_images(network) is mixes
    together, alone = network(images)[:2], network(images[:2])
    assert torch.allclose(together, alone, atol=1e-6) is not mixes


def test_group_norm_needs_a_width_of_fours():
    with pytest.raises(InputError) as refusal:
        build(CIFAR, norm="group", width=6)
    assert str(refusal.value) == "group norm has 4 groups, but 6 filters; give a multiple of 4."


def test_a_network_too_deep_for_the_image_is_refused():
    with pytest.raises(InputError) as refusal:
        build((1, 8, 8), width=4, depth=4)
    assert str(refusal.value) == (
        "depth is 4, too large for 8×8 images: the last map would be empty. Give a smaller depth."
    )


# Drawing anew.


@pytest.mark.parametrize("network", ["convnet", "mlp"])
def test_redrawn_parameters_are_distributed_like_those_of_torch(network):
    drawn = build((3, 16, 16), network=network, width=64)
    for module in drawn.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for parameter in (module.weight.detach(), module.bias.detach()):
                assert parameter.abs().max() <= bound
            assert module.weight.abs().max() > 0.98 * bound
            with torch.random.fork_rng():
                torch.manual_seed(1)
                ours = module.weight.detach().clone().flatten()
                module.reset_parameters()
            assert stats.ks_2samp(ours.numpy(), module.weight.detach().flatten().numpy()).pvalue > 0.001


def test_redrawing_resets_every_norm_and_its_running_statistics(generator):
    network = build((3, 8, 8), width=4, norm="batch")
    norm = network.blocks[0][1]
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    network(torch.randn(4, 3, 8, 8, generator=generator))
    redraw_(network, generator)
    assert norm.weight.eq(1).all() and norm.bias.eq(0).all()
    assert norm.running_mean.eq(0).all() and norm.running_var.eq(1).all()
    assert norm.num_batches_tracked == 0


def test_redrawing_keeps_addresses_and_changes_every_weight(generator):
    network = build((3, 8, 8), width=4, seed=1)
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in network.named_parameters() if ".1." not in name}
    redraw_(network, generator)
    for name, parameter in network.named_parameters():
        if name in before:
            address, value = before[name]
            assert parameter.data_ptr() == address
            assert not torch.equal(parameter, value)


def test_the_same_seed_draws_the_same_network_whatever_its_layout_in_memory():
    first, last = build((3, 8, 8), width=4, seed=1), build((3, 8, 8), width=4, seed=2)
    last.to(memory_format=torch.channels_last)
    for network in (first, last):
        redraw_(network, torch.Generator().manual_seed(3))
    torch.testing.assert_close(last.state_dict(), first.state_dict(), rtol=0, atol=0)


def test_a_layer_without_a_bias_is_redrawn_too(generator):
    layer = nn.Conv2d(3, 4, 3, bias=False)
    before = layer.weight.detach().clone()
    redraw_(layer, generator)
    assert not torch.equal(layer.weight, before)


def test_a_layer_of_another_kind_is_not_redrawn_in_silence(generator):
    with pytest.raises(TypeError, match="a PReLU cannot be redrawn; give a function that builds the network"):
        redraw_(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), generator)


def test_the_same_seed_gives_the_same_network():
    first, again, other = (build((3, 8, 8), seed=seed, width=4).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["blocks.0.0.weight"], other["blocks.0.0.weight"])


def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    build(CIFAR, width=4)
    build(CIFAR, network="mlp", width=4)
    from_factory(lambda shape, classes: nn.Linear(4, classes), CIFAR, 10, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


# Networks of one's own.


def test_a_factory_with_the_same_seed_gives_the_same_weights():
    def factory(shape, classes):
        return nn.Linear(math.prod(shape), classes)

    first, again, other = (from_factory(factory, (1, 8, 8), 10, seed).weight for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_factory_that_returns_no_module_is_refused():
    def size(shape, classes):
        return classes

    with pytest.raises(InputError) as refusal:
        from_factory(size, (1, 8, 8), 10, seed=0)
    assert str(refusal.value) == f"{size!r} returned a int, not a torch.nn.Module."


def test_captured_outputs_survive_an_activation_in_place(generator):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 2))
    images = torch.randn(2, 3, 8, 8, generator=generator)
    with captured(network, ["0", "3"]) as outputs:
        logits = network(images)
    torch.testing.assert_close(outputs["0"], network[0](images))
    assert outputs["0"].min() < 0
    torch.testing.assert_close(outputs["3"], logits)


def test_captured_outputs_carry_a_gradient_and_the_hooks_go_away(generator):
    network = nn.Sequential(nn.Sequential(nn.Linear(3, 3)), nn.Tanh())
    x = torch.randn(2, 3, generator=generator, requires_grad=True)
    with captured(network, ["0.0"]) as outputs:
        network(x)
    outputs["0.0"].sum().backward()
    assert x.grad.abs().sum() > 0
    seen = outputs["0.0"]
    network(x + 1)
    assert outputs["0.0"] is seen


def test_a_module_that_is_not_there_is_refused():
    with pytest.raises(InputError) as refusal, captured(nn.Sequential(nn.Linear(3, 3)), ["fc"]):
        pass
    assert str(refusal.value) == "unknown module 'fc'. Known: 0."


# How much work a network is.


def test_multiply_adds_are_those_counted_by_hand():
    network = build((1, 8, 8), width=4, depth=2)
    assert multiply_adds(network, (1, 8, 8)) == 4 * 1 * 9 * 64 + 4 * 4 * 9 * 16 + 4 * 2 * 2 * 10
    padded = build((1, 28, 28), width=4, depth=1)
    assert multiply_adds(padded, (1, 28, 28)) == 4 * 9 * 32 * 32 + 4 * 16 * 16 * 10
    mlp = build((1, 8, 8), network="mlp", width=16)
    assert multiply_adds(mlp, (1, 8, 8)) == 64 * 16 + 16 * 16 + 16 * 10


def test_counting_leaves_the_network_as_it_was():
    network = build((3, 8, 8), width=4, norm="batch").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    multiply_adds(network, (3, 8, 8))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# Architectures in one word.


def test_an_architecture_is_written_in_one_word():
    assert parse("convnet") == Architecture()
    assert parse("mlp:width=64") == Architecture(network="mlp", width=64)
    assert parse("convnet:norm=batch,width=64,depth=2,pooling=max") == Architecture(
        norm="batch", width=64, depth=2, pooling="max"
    )


@pytest.mark.parametrize(
    "text, sentence",
    [
        (
            "convnt",
            "unknown network 'convnt'; did you mean 'convnet'? "
            "Known: alexnet, convnet, lenet, mlp, mobilenetv1, mobilenetv2, resnet101-imagenet, resnet110, resnet14, "
            "resnet152-imagenet, resnet18, resnet18-ap, resnet18-imagenet, resnet20, resnet32, resnet32x4, "
            "resnet34-imagenet, resnet44, resnet50, resnet50-imagenet, resnet56, resnet8, resnet8x4, shufflenetv1, "
            "shufflenetv2, vgg11, vgg11-bn, vgg13-bn, vgg16-bn, vgg19-bn, vgg8-bn, vit, vit_b16, vit_s16, wrn16_1, "
            "wrn16_2, wrn40_1, wrn40_2.",
        ),
        (
            "convnet:norn=batch",
            "unknown option of convnet 'norn'; did you mean 'norm'? Known: activation, depth, norm, pooling, width.",
        ),
        (
            "convnet:network=mlp",
            "unknown option of convnet 'network'; did you mean 'norm'? Known: activation, depth, norm, pooling, width.",
        ),
        ("convnet:width=wide", "width is 'wide'; it must be a whole number."),
        ("convnet:width=0", "width is 0; it must be at least 1."),
        ("convnet:depth=13", "depth is 13; it must be from 1 to 12."),
        (
            "convnet:norm=bach",
            "unknown norm 'bach'; did you mean 'batch'? Known: auto, batch, group, instance, layer, none.",
        ),
    ],
)
def test_a_word_that_is_none_is_refused(text, sentence):
    with pytest.raises(InputError) as refusal:
        parse(text)
    assert str(refusal.value) == sentence
