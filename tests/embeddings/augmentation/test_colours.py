"""Changes of colour equal kornia's and Pillow's, image by image."""

import kornia.augmentation
import kornia.enhance
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from attar.embeddings.augmentation import colours
from attar.embeddings.augmentation.blur import blurred, sharpened


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(12, 3, 9, 7, generator=rng())


def test_a_jitter_is_that_of_kornia(images):
    theirs = kornia.augmentation.ColorJitter(0.4, 0.4, 0.4, 0.1, p=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        wanted = theirs(images)
    drawn = theirs._params
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    factors = torch.stack([drawn[name] for name in names])
    order = drawn["order"].expand(len(images), 4)
    torch.testing.assert_close(colours.jittered(images, order, factors), wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.0, 0.13, 0.5])
def test_a_turn_of_hue_is_that_of_kornia(images, turn):
    images[0], images[1, :, 0, 0], images[2] = 0.3, 0.0, (images[2] > 0.5).float()  # grey, black, corners of the cube
    wanted = kornia.enhance.adjust_hue(images, 2 * torch.pi * turn)
    torch.testing.assert_close(colours.hue(images, torch.full((12,), turn)), wanted, atol=2e-5, rtol=0)


def test_a_hue_turned_by_a_third_moves_the_channels(images):
    turned = colours.hue(images.double(), torch.full((12,), 1 / 3, dtype=torch.float64))
    torch.testing.assert_close(turned, images.double().roll(1, dims=1))


def test_each_image_has_an_order_of_its_own(images):
    order, factors = colours.drawn_jitter(len(images), (0.4, 0.4, 0.4, 0.1), rng())
    assert len(order.unique(dim=0)) > 6
    alone = [colours.jittered(images[i : i + 1], order[i : i + 1], factors[:, i : i + 1]) for i in range(len(images))]
    torch.testing.assert_close(colours.jittered(images, order, factors), torch.cat(alone))


def test_factors_fill_their_ranges():
    _, factors = colours.drawn_jitter(5000, (0.4, 2.0, 0.1, 0.25), rng())
    low, high = factors.amin(dim=1), factors.amax(dim=1)
    torch.testing.assert_close(low, torch.tensor([0.6, 0.0, 0.9, -0.25]), atol=0.01, rtol=0)
    torch.testing.assert_close(high, torch.tensor([1.4, 3.0, 1.1, 0.25]), atol=0.01, rtol=0)


def test_one_channel_has_brightness_and_contrast_only():
    grey = torch.rand(2, 1, 5, 5, generator=rng())
    order, factors = torch.arange(4).expand(2, 4), torch.tensor([[1.2], [0.7], [0.1], [0.3]]).expand(4, 2)
    wanted = colours.contrast(colours.brightness(grey, factors[0]), factors[1])
    torch.testing.assert_close(colours.jittered(grey, order, factors), wanted)


def test_factors_of_one_change_nothing(images):
    order, factors = torch.arange(4).expand(12, 4), torch.tensor([[1.0], [1.0], [1.0], [0.0]]).expand(4, 12)
    torch.testing.assert_close(colours.jittered(images, order, factors), images, atol=1e-6, rtol=0)


def test_gradients_are_finite_where_a_colour_has_no_hue():
    images = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).repeat(1, 3, 2, 2).requires_grad_()
    order, factors = colours.drawn_jitter(3, (0.4, 0.4, 0.4, 0.1), rng())
    colours.jittered(images, order, factors).sum().backward()
    assert images.grad.isfinite().all() and images.grad.abs().sum() > 0


# --------------------------------------------------------------------------------------------------------------- Pillow


@pytest.fixture
def levels():
    levels = torch.randint(40, 200, (4, 3, 16, 15), generator=rng())
    levels[1, 0], levels[2, 1, :8] = 90, 41  # one level; half of one level
    return levels


def by_pillow(levels, change):
    made = [change(Image.fromarray(one.permute(1, 2, 0).byte().numpy())) for one in levels]
    return torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1) for one in made])


def ours(levels, change):
    return (change(levels.float() / 255) * 255).round().int()


def test_equalising_is_pillows(levels):
    assert torch.equal(ours(levels, colours.equalised), by_pillow(levels, ImageOps.equalize).int())


def test_autocontrast_is_pillows(levels):
    gap = ours(levels, colours.autocontrasted) - by_pillow(levels, ImageOps.autocontrast).int()
    assert gap.abs().max() <= 1  # Pillow cuts levels off, we round them


@pytest.mark.parametrize("bits", [8, 7, 4, 1])
def test_posterizing_is_pillows(levels, bits):
    found = ours(levels, lambda x: colours.posterized(x, torch.full((4,), bits, dtype=torch.int32)))
    assert torch.equal(found, by_pillow(levels, lambda image: ImageOps.posterize(image, bits)).int())


@pytest.mark.parametrize("threshold", [0, 100, 128])
def test_solarising_is_pillows(levels, threshold):
    found = ours(levels, lambda x: colours.solarised(x, torch.full((4,), threshold / 255)))
    assert torch.equal(found, by_pillow(levels, lambda image: ImageOps.solarize(image, threshold)).int())


@pytest.mark.parametrize("factor", [0.1, 1.0, 1.9])
def test_sharpness_saturation_and_brightness_are_pillows(levels, factor):
    pairs = {
        sharpened: ImageEnhance.Sharpness,
        colours.saturation: ImageEnhance.Color,
        colours.brightness: ImageEnhance.Brightness,
        colours.contrast: ImageEnhance.Contrast,
    }
    for change, theirs in pairs.items():
        found = ours(levels, lambda x, change=change: change(x, torch.full((4,), factor)))
        wanted = by_pillow(levels, lambda image, theirs=theirs: theirs(image).enhance(factor)).int()
        assert (found - wanted).abs().max() <= 2, change  # Pillow rounds in between


def test_equalising_passes_gradients():
    images = torch.rand(2, 3, 8, 8, generator=rng()).requires_grad_()
    (colours.equalised(images) + colours.posterized(images, torch.tensor([3, 4]))).sum().backward()
    torch.testing.assert_close(images.grad, torch.full_like(images, 2.0))


# ----------------------------------------------------------------------------------------------------------------- blur


def test_blur_is_that_of_kornia():
    images, sigma = torch.rand(3, 2, 60, 64, generator=rng()), torch.tensor([0.1, 0.7, 2.0])
    wanted = kornia.filters.gaussian_blur2d(images, (7, 7), sigma[:, None].expand(3, 2))
    torch.testing.assert_close(blurred(images, sigma), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [1, 2, 8, 32])
def test_blur_keeps_constant_images_of_any_size(side):
    images = torch.full((2, 3, side, side), 0.4)
    torch.testing.assert_close(blurred(images, torch.tensor([0.1, 2.0])), images)
