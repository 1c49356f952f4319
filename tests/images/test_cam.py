"""Class activation maps: closed forms, invariances, and a network that is left as it was."""

import copy

import pytest
import torch
from torch import nn

from attar.core.errors import InputError
from attar.images.cam import grad_cam, last_maps, resized, smooth_grad_cam_pp, unit_range
from attar.images.networks.architecture import Architecture

CLASSES = torch.tensor([2, 0, 1, 2])


class Pooled(nn.Module):
    """Convolutions, the mean over places, a linear layer."""

    def __init__(self, filters=5, classes=3):
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(2, filters, 3), nn.ReLU())
        self.classifier = nn.Linear(filters, classes)

    def forward(self, images):
        return self.classifier(self.maps(images).mean(dim=(2, 3)))


@pytest.fixture
def images(generator):
    return torch.randn(4, 2, 9, 7, generator=generator)


@pytest.fixture
def pooled():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Pooled().eval()
    with torch.no_grad():
        network.classifier.weight.mul_(30)  # or the 10⁻⁸ of the range would be seen
    return network


def read_out(places, classes=3):
    """One filter, and a linear layer on its places."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(2, 1, 3), nn.Flatten(), nn.Linear(places, classes))


def min_max(maps):
    """Each map from 0 to 1, one after another."""
    return torch.stack([(one - one.min()) / (one.max() - one.min() + 1e-8) for one in maps])


# What it is.


def test_of_one_filter_with_a_linear_read_out_it_is_known(images):
    network = read_out(7 * 5)
    maps = network[0](images)[:, 0]
    weights = network[2].weight[CLASSES].mean(dim=1)
    wanted = min_max((weights[:, None, None] * maps).relu())
    torch.testing.assert_close(grad_cam(network, images, CLASSES, "0"), wanted.detach())


def test_of_averaged_maps_it_is_the_classic_map_of_the_class_weights(images, pooled):
    maps = pooled.maps(images)
    classic = torch.einsum("bk,bkhw->bhw", pooled.classifier.weight[CLASSES], maps).relu()
    torch.testing.assert_close(grad_cam(pooled, images, CLASSES), min_max(classic).detach())


def test_maps_run_from_zero_to_one_or_are_zero(images, pooled):
    for maps in (grad_cam(pooled, images, CLASSES), smooth_grad_cam_pp(pooled, images, CLASSES, torch.Generator())):
        assert maps.shape == (4, 7, 5)
        assert maps.amin(dim=(1, 2)).tolist() == [0] * 4
        peaks = maps.amax(dim=(1, 2))
        assert ((peaks == 0) | (peaks > 1 - 1e-5)).all()
        assert peaks.max() <= 1


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_positive_factor_on_the_scores_changes_nothing(factor, images, pooled):
    other = copy.deepcopy(pooled)
    with torch.no_grad():
        other.classifier.weight.mul_(factor)
    torch.testing.assert_close(
        grad_cam(other, images, CLASSES), grad_cam(pooled, images, CLASSES), rtol=1e-4, atol=1e-5
    )


def test_a_positive_factor_on_the_activations_changes_nothing(images, pooled):
    other = copy.deepcopy(pooled)
    with torch.no_grad():
        for parameter in other.maps.parameters():
            parameter.mul_(2.5)
    torch.testing.assert_close(
        grad_cam(other, images, CLASSES), grad_cam(pooled, images, CLASSES), rtol=1e-4, atol=1e-5
    )


def test_a_class_is_the_output_of_its_number(images, pooled):
    outputs = torch.tensor([2, 0, 1])
    other = copy.deepcopy(pooled)
    with torch.no_grad():
        other.classifier.weight.copy_(pooled.classifier.weight[outputs])
        other.classifier.bias.copy_(pooled.classifier.bias[outputs])
    assert torch.equal(grad_cam(other, images, CLASSES), grad_cam(pooled, images, outputs[CLASSES]))


def test_images_do_not_see_each_other(images, pooled):
    alone = torch.cat([grad_cam(pooled, images[i : i + 1], CLASSES[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(grad_cam(pooled, images, CLASSES), alone)


def test_a_convolution_sees_a_mirrored_image_mirrored(images, pooled):
    pooled.maps[0].weight.data = pooled.maps[0].weight.data + pooled.maps[0].weight.data.flip(3)
    torch.testing.assert_close(
        grad_cam(pooled, images.flip(3), CLASSES), grad_cam(pooled, images, CLASSES).flip(2), rtol=1e-4, atol=1e-5
    )


def test_what_follows_may_work_in_place(images):
    network, careful = (nn.Sequential(*read_out(35)[:1], nn.ReLU(inplace), *read_out(35)[1:]) for inplace in (1, 0))
    assert torch.equal(grad_cam(network, images, CLASSES, "0"), grad_cam(careful, images, CLASSES, "0"))


# SmoothGrad-CAM++.


def restated(network, images, classes, noises):
    """The sheet's formulas with loops over images and filters, for the maps of `Pooled`."""

    def look(image, label):
        maps = network.maps(image.unsqueeze(0)).detach().requires_grad_()
        score = network.classifier(maps.mean(dim=(2, 3)))[0, label]
        return maps.detach()[0], torch.autograd.grad(score, maps)[0][0]

    found = []
    for number, (image, label) in enumerate(zip(images, classes, strict=True)):
        clean, _ = look(image, label)
        seen = [look(image + noise[number], label) for noise in noises]
        total = torch.zeros_like(clean[0])
        for k in range(len(clean)):
            second = sum(slopes[k] ** 2 for _, slopes in seen) / len(seen)
            third = sum(slopes[k] ** 3 for _, slopes in seen) / len(seen)
            share = second / (2 * second + (clean[k] * third).sum() + 1e-8)
            last, slopes = seen[-1]
            total += (share * slopes[k].relu()).sum() * last[k]
        found.append(total.relu())
    return min_max(torch.stack(found))


def test_smooth_maps_are_the_formulas(images, pooled):
    generator = torch.Generator().manual_seed(3)
    noises = [0.3 * torch.randn(images.shape, generator=generator) for _ in range(4)]
    ours = smooth_grad_cam_pp(pooled, images, CLASSES, torch.Generator().manual_seed(3))
    torch.testing.assert_close(ours, restated(pooled, images, CLASSES, noises), rtol=1e-4, atol=1e-5)


def test_smooth_maps_differ_by_seed_and_by_nothing_else(images, pooled):
    def maps(seed):
        return smooth_grad_cam_pp(pooled, images, CLASSES, torch.Generator().manual_seed(seed))

    assert torch.equal(maps(0), maps(0))
    assert not torch.equal(maps(0), maps(1))


def test_without_noise_the_number_of_copies_is_no_matter(images, pooled, generator):
    one, many = (smooth_grad_cam_pp(pooled, images, CLASSES, generator, copies=n, spread=0.0) for n in (1, 5))
    torch.testing.assert_close(one, many)


# Size and range.


def test_a_map_that_is_the_same_everywhere_becomes_zero():
    assert unit_range(torch.full((2, 3, 3), 7.0)).tolist() == torch.zeros(2, 3, 3).tolist()


def test_range_undoes_any_positive_affine_change(generator):
    maps = torch.rand(3, 4, 4, generator=generator)
    torch.testing.assert_close(unit_range(5 * maps - 2), unit_range(maps), rtol=1e-5, atol=1e-6)


def test_resizing_keeps_flat_maps_and_is_bilinear():
    torch.testing.assert_close(resized(torch.ones(1, 2, 2), 5, 3), torch.ones(1, 5, 3))
    steps = resized(torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]), 4, 4)
    assert steps[0, 0].tolist() == [0.0, 0.25, 0.75, 1.0]


# Where it looks, and what it leaves behind.


@pytest.mark.parametrize(
    "name, side, layer",
    [
        ("convnet", 8, "blocks.1"),
        ("convnet", 32, "blocks.2"),
        ("resnet18", 32, "stages.3"),
        ("resnet18", 8, "stages.2"),
    ],
)
def test_by_default_it_looks_at_the_last_maps_of_several_places(name, side, layer, generator):
    network = Architecture(network=name, width=4).build((1, side, side), 3, generator)
    assert last_maps(network, torch.zeros(1, 1, side, side)) == layer


def test_of_any_module_the_last_maps_are_found(pooled, images):
    assert last_maps(pooled, images[:1]) == "maps"
    shrinking = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, (7, 5)), nn.Flatten(), nn.Linear(4, 3))
    assert last_maps(shrinking, images[:1]) == "0"


def test_a_network_without_maps_is_refused(generator):
    network = Architecture(network="mlp", width=4).build((1, 8, 8), 3, generator)
    with pytest.raises(InputError, match=r"MLP has no convolutional maps\. Give a convolutional network"):
        grad_cam(network, torch.zeros(1, 1, 8, 8), torch.tensor([0]))


def test_an_unknown_layer_is_refused(pooled, images):
    with pytest.raises(InputError, match=r"unknown layer 'map'; did you mean 'maps'\?"):
        grad_cam(pooled, images, CLASSES, "map")


def test_the_network_is_left_as_it_was(images):
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 35, 3))
    network.train()
    network[1].eval()  # frozen, as in fine-tuning
    network[0].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    grad_cam(network, images, CLASSES)
    smooth_grad_cam_pp(network, images, CLASSES, torch.Generator())
    assert [module.training for module in network] == [True, False, True, True, True]
    assert not network[0].weight.requires_grad
    assert network[4].weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
