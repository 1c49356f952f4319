"""What every network of the distillation benchmark must do, and how layers are drawn."""

import math

import pytest
import torch
from torch import nn

from attar.classifiers.watched import BEFORE, Watched
from attar.core.errors import InputError
from attar.images.networks.architecture import BENCHMARK, Architecture, mixes_images, multiply_adds, parse, redraw_
from attar.images.networks.blocks import AveragePool, HeStaged, InstanceNorm, Staged, draw_uniform_, halved, normalised

TABLES = [*BENCHMARK, "resnet18-imagenet", "mobilenetv1"]  # ImageNet's other residual networks are longer, no more


def build(name, shape=(3, 8, 8), classes=5, seed=0):
    return parse(name).build(shape, classes, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TABLES)
def test_gradients_reach_the_pixels_through_maps_and_embedding(name, generator):
    model = build(name).eval()
    images = torch.randn(2, 3, 8, 8, generator=generator, requires_grad=True)
    maps, embedding = model.features(images)
    assert isinstance(model, Staged)
    assert torch.equal(model.classifier(embedding), model(images))
    for value in [*maps, embedding]:
        (gradient,) = torch.autograd.grad(value.square().sum(), images, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", TABLES)
def test_it_trains_on_grey_images_of_any_shape(name, generator):
    model = build(name, (1, 11, 8), 3).train()
    images = torch.randn(3, 1, 11, 8, generator=generator)
    nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2])).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert mixes_images(model)
    assert multiply_adds(model, (1, 11, 8)) > 0


@pytest.mark.parametrize("name", TABLES)
def test_a_seed_draws_every_parameter_and_another_draws_others(name):
    first, other = (build(name, seed=seed).state_dict() for seed in (0, 1))
    again = build(name, seed=1)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(7)
    redraw_(again, torch.Generator().manual_seed(0))
    assert all(torch.equal(first[key], value) for key, value in again.state_dict().items())
    drawn = [key for key in first if first[key].flatten()[:9].unique().numel() > 2]
    assert {key for key in first if key.endswith("weight") and first[key].ndim > 1} <= set(drawn)
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


@pytest.mark.parametrize("name", TABLES)
def test_stages_are_found_by_name_and_before_their_activation(name, generator):
    model = build(name).eval()
    images = torch.randn(2, 3, 8, 8, generator=generator)
    maps, embedding = model.features(images)
    by_name = Watched(model, [f"stages.{number}" for number in range(len(maps))])(images)
    assert all(torch.equal(given, wanted) for given, wanted in zip(by_name.stages, maps, strict=True))
    assert torch.equal(by_name.embedding, embedding)
    before = Watched(model, [BEFORE])(images).stages
    assert [stage.shape for stage in before] == [stage.shape for stage in maps]
    assert torch.equal(before[-1].relu(), maps[-1]) == (name != "mobilenetv2")  # whose maps are linear
    same = [torch.equal(given, wanted) for given, wanted in zip(before, maps, strict=True)]
    assert all(same) if name in ("mobilenetv2", "shufflenetv2") else not any(same)


@pytest.mark.parametrize("name", ["resnet20", "wrn16_1", "vgg8-bn", "mobilenetv2", "shufflenetv1", "shufflenetv2"])
def test_images_below_eight_pixels_are_refused(name):
    with pytest.raises(InputError) as refusal:
        build(name, (1, 7, 9))
    assert str(refusal.value) == f"{name} needs images of at least 8×8; these are 9×7."


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"network": "resnet20", "norm": "instance"}, "norm is instance, but resnet20 has batch norm only;"),
        ({"network": "vgg8-bn", "norm": "none"}, "norm is none, but vgg8-bn has batch norm only;"),
        ({"network": "wrn16_2", "activation": "swish"}, "activation is swish, but wrn16_2 has ReLU only;"),
        ({"network": "resnet8x4", "width": 8}, "width is 8, but resnet8x4 has only one width;"),
        ({"network": "mobilenetv2", "depth": 8}, "depth is 8, but mobilenetv2 has only one depth;"),
    ],
)
def test_what_such_a_network_does_not_have_is_refused(settings, sentence):
    with pytest.raises(InputError) as refusal:
        Architecture(**settings)
    assert str(refusal.value) == f"{sentence} do not set it."


def test_batch_norm_may_be_said():
    assert parse("resnet20:norm=batch").resolve((3, 8, 8)) == parse("resnet20").resolve((3, 8, 8))


class Head(HeStaged):
    head_spread = 0.01


@pytest.mark.parametrize("groups", [1, 64])
def test_convolutions_of_he_have_the_spread_of_their_fan_out(groups, generator):
    layer = nn.Conv2d(64, 128, 3, groups=groups)
    HeStaged().draw_layer_(layer, generator)
    wanted = math.sqrt(2 / (128 * 9))
    assert layer.weight.std().item() == pytest.approx(wanted, rel=0.1)
    assert layer.weight.abs().max() > 2.5 * wanted  # no uniform distribution
    assert not layer.bias.any()


def test_a_last_layer_is_drawn_as_pytorch_does_or_with_a_given_spread(generator):
    layer = nn.Linear(400, 300)
    HeStaged().draw_layer_(layer, generator)
    assert 0.045 < layer.weight.abs().max() <= 0.05
    assert layer.bias.any()
    Head().draw_layer_(layer, generator)
    assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not layer.bias.any()


def test_a_draw_does_not_depend_on_the_layout_in_memory():
    plain, other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    for draw_ in (draw_uniform_, HeStaged().draw_layer_):
        for layer in (plain, other):
            draw_(layer, torch.Generator().manual_seed(0))
        assert torch.equal(plain.weight, other.weight)


SIDES = [(8, 8), (7, 5), (3, 2), (2, 9), (1, 2)]


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_instance_norm_written_out_is_group_norm_with_both_derivatives(sides, channels_last, generator):
    maps = torch.randn(2, 3, *sides, generator=generator, dtype=torch.float64) * 5 + 3
    maps = maps.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    weight, bias = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    given = [one.requires_grad_() for one in (maps, weight, bias)]
    pull, again = torch.randn(2, 2, 3, *sides, generator=generator, dtype=torch.float64)

    def derivatives(norm):
        found = norm(*given)
        first = torch.autograd.grad((found * pull).sum(), given, create_graph=True)
        return [found, *first, *torch.autograd.grad((first[0] * again).sum() + first[1].sum(), given[:2])]

    plain = derivatives(lambda x, w, b: nn.functional.group_norm(x, 3, w, b))
    for mine, wanted in zip(derivatives(normalised), plain, strict=True):
        assert torch.allclose(mine, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_instance_norm_written_out_computes_in_float32(dtype, generator):
    maps = torch.randn(2, 3, 32, 32, generator=generator).to(dtype)
    maps = maps + 7  # a mean that is large against the spread
    found = normalised(maps, torch.ones(3), torch.zeros(3))
    wanted = nn.functional.group_norm(maps.float(), 3)
    assert found.dtype == dtype
    assert torch.allclose(found.float(), wanted, atol=2 * torch.finfo(dtype).eps * float(wanted.abs().max()))
    flat = torch.full((1, 3, 8, 8), 9.0, dtype=dtype)
    assert normalised(flat, torch.ones(3), torch.zeros(3)).abs().max() < 0.1


@pytest.mark.parametrize("sides", [(8, 8), (7, 6), (2, 3), (3, 9)])
def test_the_mean_of_a_reshaped_tensor_is_average_pooling(sides, generator):
    maps = torch.randn(2, 3, *sides, generator=generator, dtype=torch.float64).requires_grad_()
    found, wanted = halved(maps), nn.functional.avg_pool2d(maps, 2)
    assert torch.allclose(found, wanted, rtol=1e-12)
    pull = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    mine, plain = (torch.autograd.grad((one * pull).sum(), maps)[0] for one in (found, wanted))
    assert torch.allclose(mine, plain, rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 11, 8), (1, 9, 8)])
def test_a_convnet_as_the_compiler_sees_it_is_the_same_function(shape, generator, monkeypatch):
    network = Architecture(width=3, depth=3).build(shape, 4, generator)
    assert isinstance(network.blocks[0][1], InstanceNorm)
    assert isinstance(network.pool, AveragePool)
    images = torch.randn(5, *shape, generator=generator).requires_grad_()
    plain = network(images)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    written_out = network(images)
    assert torch.allclose(plain, written_out, rtol=1e-4, atol=1e-6)
    wanted, mine = (torch.autograd.grad(one.square().sum(), images)[0] for one in (plain, written_out))
    assert not torch.equal(wanted, mine)
    assert torch.allclose(wanted, mine, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))
