import math

import pytest
import torch
from torch import Tensor

from attar.core.errors import InputError
from attar.images.views.augment import (
    OPERATIONS,
    Draw,
    augment,
    default_strategy,
    draw_batch,
    draw_each,
    strategy,
)

MANY = 2000


def draw_of(name: str, uniform: Tensor) -> Draw:
    number = OPERATIONS.index(name)
    return Draw(torch.full((len(uniform),), number), uniform, number)


def apply(name: str, images: Tensor, uniform: Tensor, **options: bool) -> Tensor:
    return augment(images, draw_of(name, uniform), **options)


@pytest.fixture
def images(generator):
    return torch.randn(6, 3, 8, 10, dtype=torch.float64, generator=generator)


@pytest.fixture
def uniform(generator):
    return torch.rand(6, 3, dtype=torch.float64, generator=generator)


# The definitions, image by image and pixel by pixel.


def color_as_loops(image, u):
    out = image + (u[0] - 0.5) * 1.0
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            grey = out[:, i, j].mean()
            out[:, i, j] = (out[:, i, j] - grey) * (2 * u[1]) + grey
    mean = out.mean()
    return (out - mean) * (u[2] + 0.5) + mean


def crop_as_loops(image, u):
    _, height, width = image.shape
    reach = [int(0.125 * side + 0.5) for side in (height, width)]
    shift = [math.floor(float(u[axis]) * (2 * reach[axis] + 1)) - reach[axis] for axis in (0, 1)]
    out = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            if 0 <= i + shift[0] < height and 0 <= j + shift[1] < width:
                out[:, i, j] = image[:, i + shift[0], j + shift[1]]
    return out


def cutout_as_loops(image, u):
    _, height, width = image.shape
    out = image.clone()
    for i in range(height):
        for j in range(width):
            hit = []
            for axis, (place, side) in enumerate(((i, height), (j, width))):
                size = int(0.5 * side + 0.5)
                centre = math.floor(float(u[axis]) * (side + 1 - size % 2))
                hit.append(centre - size // 2 <= place < centre - size // 2 + size)
            if all(hit):
                out[:, i, j] = 0
    return out


def flip_as_loops(image, u):
    return (
        torch.stack([image[:, :, image.shape[2] - 1 - j] for j in range(image.shape[2])], dim=2)
        if u[0] < 0.5
        else image
    )


def resampled_as_loops(image, theta, align_corners):
    """Bilinear interpolation with zeros outside, at theta times the place of each pixel."""
    _, height, width = image.shape
    out = torch.zeros_like(image)

    def coordinate(index, side):
        return 2 * index / (side - 1) - 1 if align_corners else (2 * index + 1) / side - 1

    def place(coordinate, side):
        return (coordinate + 1) / 2 * (side - 1) if align_corners else ((coordinate + 1) * side - 1) / 2

    for i in range(height):
        for j in range(width):
            x, y = coordinate(j, width), coordinate(i, height)
            right = place(theta[0][0] * x + theta[0][1] * y, width)
            down = place(theta[1][0] * x + theta[1][1] * y, height)
            for row in (math.floor(down), math.floor(down) + 1):
                for column in (math.floor(right), math.floor(right) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        out[:, i, j] += image[:, row, column] * (1 - abs(down - row)) * (1 - abs(right - column))
    return out


def scale_as_loops(image, u, align_corners=False):
    horizontal, vertical = (float(u[axis]) * (1.2 - 1 / 1.2) + 1 / 1.2 for axis in (0, 1))
    return resampled_as_loops(image, [[horizontal, 0.0], [0.0, vertical]], align_corners)


def rotate_as_loops(image, u, align_corners=False):
    angle = (float(u[0]) - 0.5) * 2 * math.radians(15)
    theta = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return resampled_as_loops(image, theta, align_corners)


@pytest.mark.parametrize(
    "name, definition",
    [("color", color_as_loops), ("crop", crop_as_loops), ("cutout", cutout_as_loops), ("flip", flip_as_loops)],
)
def test_each_operation_is_its_definition(name, definition, images, uniform):
    wanted = torch.stack([definition(image, u) for image, u in zip(images, uniform, strict=True)])
    torch.testing.assert_close(apply(name, images, uniform), wanted)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("name, definition", [("scale", scale_as_loops), ("rotate", rotate_as_loops)])
def test_scale_and_rotate_are_their_definitions_in_both_corner_conventions(
    name, definition, align_corners, images, uniform
):
    wanted = torch.stack([definition(image, u, align_corners) for image, u in zip(images, uniform, strict=True)])
    torch.testing.assert_close(apply(name, images, uniform, align_corners=align_corners), wanted)


@pytest.mark.parametrize("name", ["scale", "rotate"])
def test_the_two_corner_conventions_agree_on_square_images(name, images, uniform):
    # Both turn and stretch about the centre in whole pixels: the convention cancels between grid and sampler.
    square = images[..., :8]
    inner, corner = (apply(name, square, uniform, align_corners=choice) for choice in (False, True))
    torch.testing.assert_close(inner, corner)


def test_the_two_corner_conventions_differ_when_an_oblong_image_is_turned(images, uniform):
    inner, corner = (apply("rotate", images, uniform, align_corners=choice) for choice in (False, True))
    assert (inner - corner).abs().max() > 0.01


# Ranges.


@pytest.mark.parametrize("side, reach", [(28, 4), (32, 4), (64, 8), (128, 16)])
def test_crop_shifts_by_up_to_an_eighth_both_ends_included(side, reach, generator):
    rows = torch.arange(1.0, side + 1).view(1, 1, side, 1).expand(MANY, 1, side, 1)
    narrow = apply("crop", rows, torch.rand(MANY, 3, generator=generator))
    middle = side // 2
    assert set((narrow[:, 0, middle, 0] - rows[:, 0, middle, 0]).int().tolist()) == set(range(-reach, reach + 1))


@pytest.mark.parametrize("side, hidden", [(28, 14), (32, 16), (64, 32)])
def test_cutout_hides_from_half_to_all_of_its_square(side, hidden, generator):
    holes = apply("cutout", torch.ones(MANY, 1, side, side), torch.rand(MANY, 3, generator=generator)) == 0
    for axis in (2, 3):
        sides = holes.any(dim=5 - axis).sum(dim=2).flatten()
        assert set(sides.tolist()) == set(range(hidden // 2, hidden + 1))


def test_cutout_of_an_odd_square_is_centred_on_every_pixel_and_no_other(generator):
    holes = apply("cutout", torch.ones(MANY, 1, 5, 5), torch.rand(MANY, 3, generator=generator)) == 0
    seen = {tuple(torch.nonzero(hole.any(dim=1)).flatten().tolist()) for hole in holes[:, 0]}
    assert seen == {(0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4)}


def test_scale_factors_run_from_five_sixths_to_six_fifths_independently(generator):
    down, right = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ramps = torch.stack([down, right]).expand(MANY, 2, 32, 32)
    out = apply("scale", ramps, torch.rand(MANY, 3, generator=generator))
    vertical, horizontal = out[:, 0, 17, 16] - out[:, 0, 16, 16], out[:, 1, 16, 17] - out[:, 1, 16, 16]
    for factor in (vertical, horizontal):
        assert factor.min() >= 1 / 1.2 - 1e-4
        assert factor.max() <= 1.2 + 1e-4
        torch.testing.assert_close(factor.aminmax(), (torch.tensor(1 / 1.2), torch.tensor(1.2)), atol=0.002, rtol=0)
    assert torch.corrcoef(torch.stack([vertical, horizontal]))[0, 1].abs() < 0.1


def test_rotation_turns_by_up_to_fifteen_degrees_either_way(generator):
    right = torch.arange(32.0).expand(MANY, 1, 32, 32)
    out = apply("rotate", right, torch.rand(MANY, 3, generator=generator))
    sine = -(out[:, 0, 17, 16] - out[:, 0, 16, 16])
    cosine = out[:, 0, 16, 17] - out[:, 0, 16, 16]
    angles = torch.rad2deg(torch.atan2(sine, cosine))
    torch.testing.assert_close(angles.aminmax(), (torch.tensor(-15.0), torch.tensor(15.0)), atol=0.1, rtol=0)
    assert angles.abs().max() <= 15.001


def test_brightness_moves_by_at_most_a_half(generator):
    shift = apply("color", torch.zeros(MANY, 3, 4, 4), torch.rand(MANY, 3, generator=generator))[:, 0, 0, 0]
    assert -0.5 <= shift.min() < -0.49
    assert 0.49 < shift.max() <= 0.5


@pytest.mark.parametrize("drawn, factor", [(0.0, 0.0), (0.5, 1.0), (1.0, 2.0)])
def test_saturation_multiplies_by_nought_to_two(drawn, factor, images):
    mean = images.mean(dim=1, keepdim=True)
    out = apply("color", images, torch.tensor([[0.5, drawn, 0.5]], dtype=torch.float64).expand(6, 3))
    torch.testing.assert_close(out, (images - mean) * factor + mean)


@pytest.mark.parametrize("drawn, factor", [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)])
def test_contrast_multiplies_by_a_half_to_one_and_a_half(drawn, factor, images):
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    out = apply("color", images, torch.tensor([[0.5, 0.5, drawn]], dtype=torch.float64).expand(6, 3))
    torch.testing.assert_close(out, (images - mean) * factor + mean)


def test_flip_mirrors_half_of_the_time(generator):
    row = torch.arange(4.0).expand(MANY, 1, 1, 4)
    flipped = apply("flip", row, torch.rand(MANY, 3, generator=generator))[:, 0, 0, 0] == 3
    assert 0.46 < flipped.float().mean() < 0.54


def test_each_operation_is_drawn_equally_often(generator):
    draw = draw_each(6000, OPERATIONS, generator)
    assert torch.bincount(draw.operation, minlength=6).sub(1000).abs().max() < 120


# Draws.


def test_a_class_is_flipped_as_a_whole_or_not_at_all(generator):
    labels = torch.arange(40).repeat_interleave(5)
    draw = draw_each(40, ("flip",), generator).repeat(labels)
    flipped = augment(torch.arange(4.0).expand(200, 1, 1, 4), draw)[:, 0, 0, 0].view(40, 5) == 3
    assert (flipped.all(dim=1) | ~flipped.any(dim=1)).all()
    assert 0 < flipped[:, 0].sum() < 40


@pytest.mark.parametrize("name", OPERATIONS)
def test_siamese_images_of_a_class_are_treated_alike(name, generator):
    real, synthetic = torch.arange(2).repeat_interleave(7), torch.arange(2)
    images = torch.randn(2, 3, 8, 8, generator=generator)
    draw = draw_each(2, (name,), generator)
    many, one = augment(images[real], draw.repeat(real)), augment(images, draw.repeat(synthetic))
    torch.testing.assert_close(many, one[real])


def test_a_class_draw_does_not_depend_on_the_number_of_images(generator):
    draw = draw_each(3, OPERATIONS, generator)
    few, many = draw.repeat(torch.arange(3)), draw.repeat(torch.arange(3).repeat_interleave(50))
    assert torch.equal(few.operation, many.operation[::50])
    assert torch.equal(few.uniform, many.uniform[::50])


def test_a_batch_draw_starts_alike_whatever_the_batch_size():
    few, many = (draw_batch(count, OPERATIONS, torch.Generator().manual_seed(3)) for count in (5, 100))
    assert few.only == many.only
    assert torch.equal(few.uniform, many.uniform[:5])


def test_a_batch_has_one_operation_with_parameters_for_each_image(generator):
    draw = draw_batch(50, OPERATIONS, generator)
    assert draw.operation.unique().tolist() == [draw.only]
    assert len(draw.uniform.unique(dim=0)) == 50


def test_a_mixed_draw_equals_one_by_one_application(generator):
    images = torch.randn(60, 3, 8, 8, generator=generator)
    draw = draw_each(60, OPERATIONS, generator)
    assert len(draw.operation.unique()) == 6
    alone = [augment(images[i : i + 1], draw.repeat(torch.tensor([i]))) for i in range(60)]
    torch.testing.assert_close(augment(images, draw), torch.cat(alone))


def test_a_draw_known_to_be_of_one_operation_gives_the_same_images(generator):
    images = torch.randn(9, 3, 8, 8, generator=generator)
    known = draw_batch(9, OPERATIONS, generator)
    assert torch.equal(augment(images, known), augment(images, Draw(known.operation, known.uniform)))


# Gradients.


@pytest.mark.parametrize("name", ["color", "scale", "rotate"])
def test_the_gradient_is_that_of_finite_differences(name, generator):
    images = torch.randn(2, 3, 5, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    draw = draw_of(name, torch.rand(2, 3, dtype=torch.float64, generator=generator))
    assert torch.autograd.gradcheck(lambda x: augment(x, draw), images)


@pytest.mark.parametrize("name", ["flip", "crop", "cutout", "scale", "rotate"])
def test_the_gradient_of_a_linear_operation_is_its_adjoint(name, images, uniform, generator):
    x, y = images.requires_grad_(), torch.randn(6, 3, 8, 10, dtype=torch.float64, generator=generator)
    there = (apply(name, x, uniform) * y).sum()
    (back,) = torch.autograd.grad(there, x)
    torch.testing.assert_close(there, (x * back).sum())


# Strategies.


def test_a_strategy_names_its_operations_in_order():
    assert strategy("color_crop_cutout_flip_scale_rotate") == OPERATIONS
    assert strategy("none") == strategy("") == ()


def test_digits_are_not_flipped_by_default():
    assert default_strategy(flips=True) == "color_crop_cutout_flip_scale_rotate"
    assert default_strategy(flips=False) == "color_crop_cutout_scale_rotate"


@pytest.mark.parametrize(
    "text, sentence",
    [
        (
            "crop_colour",
            "unknown augmentation 'colour'; did you mean 'color'? Known: color, crop, cutout, flip, rotate, scale.",
        ),
        ("blur", "unknown augmentation 'blur'. Known: color, crop, cutout, flip, rotate, scale."),
    ],
)
def test_an_unknown_word_is_refused(text, sentence):
    with pytest.raises(InputError) as refusal:
        strategy(text)
    assert str(refusal.value) == sentence


# A crop that shifts further.


def test_a_crop_may_shift_further(generator):
    images = torch.arange(1.0, 257.0).view(1, 1, 16, 16).repeat(400, 1, 1, 1)
    for text, reach in (("crop", 2), ("crop=0.25", 4), ("crop=0", 0), ("crop=1", 16)):
        moved = augment(images, draw_batch(400, strategy(text), generator))
        rows = (moved != 0).any(dim=3).squeeze(1)
        first, last = rows.int().argmax(dim=1), 15 - rows.flip(1).int().argmax(dim=1)
        gone = torch.where(rows.any(dim=1), torch.maximum(first, 15 - last), 16)
        assert int(gone.max()) == reach


def test_the_shift_goes_with_the_draws_of_classes(images, generator):
    usual, wide = (draw_each(2, strategy(text), torch.Generator().manual_seed(1)) for text in ("crop", "crop=0.5"))
    assert (usual.shift, wide.shift, wide.repeat(torch.tensor([0, 1, 1])).shift) == (0.125, 0.5, 0.5)
    assert torch.equal(usual.uniform, wide.uniform)
    others = draw_each(9, strategy("color_crop=0.25_flip"), generator)
    assert set(others.operation.tolist()) <= {OPERATIONS.index(name) for name in ("color", "crop", "flip")}


@pytest.mark.parametrize("text", ["crop=", "crop=2", "crop=-0.1", "crop=wide", "flip=0.5", "crop=nan"])
def test_shifts_that_are_no_shares_are_refused(text):
    with pytest.raises(InputError, match=r"only crop takes a number, from 0 to 1, as in crop=0\.25"):
        strategy(f"color_{text}")
