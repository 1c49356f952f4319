import math

import pytest
import torch
from scipy import stats

from attar.images.views.crops import crop_and_flip, cutmix, draw_boxes, mixup, resized_crop, shuffle_tiles


@pytest.fixture
def images(generator):
    return torch.randn(6, 3, 12, 12, generator=generator)


def test_boxes_lie_inside_with_the_wanted_area_and_aspect(generator):
    boxes = draw_boxes(5000, generator)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, aspect = width * height, width / height
    assert boxes.min() >= 0
    assert boxes.max() <= 1 + 1e-6
    assert area.min() >= 0.08 - 1e-6
    assert aspect.min() >= 3 / 4 - 1e-5
    assert aspect.max() <= 4 / 3 + 1e-5
    # Boxes that would stick out are drawn again, so only the smaller areas are uniform.
    inside = area[area < 0.7].double().numpy()
    assert stats.kstest((inside - 0.08) / 0.62, "uniform").pvalue > 1e-3


def test_squares_are_square_in_pixels_of_an_oblong_image(generator):
    boxes = draw_boxes(100, generator, aspect=1.0, oblong=2.0)
    width, height = (boxes[:, 2] - boxes[:, 0]) * 2, boxes[:, 3] - boxes[:, 1]
    torch.testing.assert_close(width, height)


def test_where_nothing_fits_the_middle_square_is_taken(generator):
    (box,) = draw_boxes(1, generator, smallest=0.99, largest=1.0, aspect=1.0, oblong=2.0)
    torch.testing.assert_close(box, torch.tensor([0.25, 0.0, 0.75, 1.0]))


def test_a_whole_crop_is_the_image_and_flipped_its_mirror(images):
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(6, 1)
    torch.testing.assert_close(resized_crop(images, whole), images, rtol=1e-4, atol=1e-5)
    flipped = torch.arange(6) % 2 == 0
    wanted = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
    torch.testing.assert_close(resized_crop(images, whole, flipped=flipped), wanted, rtol=1e-4, atol=1e-5)


def test_a_crop_of_a_slope_is_the_slope_of_the_box():
    ramp = (torch.arange(16) + 0.5).div(16).expand(1, 1, 16, 16)
    crop = resized_crop(ramp, torch.tensor([[0.25, 0.0, 0.75, 0.5]]))
    wanted = 0.25 + 0.5 * (torch.arange(16) + 0.5) / 16
    torch.testing.assert_close(crop[0, 0, 3], wanted, rtol=1e-5, atol=1e-6)


def test_digits_are_not_mirrored(generator):
    ramp = torch.arange(16.0).expand(40, 1, 16, 16)
    rises = [
        crop_and_flip(ramp, generator, flips=flips)[:, 0, 8].diff(dim=1).mean(dim=1) > 0 for flips in (True, False)
    ]
    assert 8 < int(rises[0].sum()) < 32
    assert rises[1].all()


def test_shuffling_tiles_keeps_every_tile(images, generator):
    def tiles_of(image):
        return sorted(float(tile.sum()) for row in image.chunk(2, dim=1) for tile in row.chunk(2, dim=2))

    shuffled = shuffle_tiles(images, 2, generator)
    assert not torch.equal(shuffled, images)
    for before, after in zip(images, shuffled, strict=True):
        assert tiles_of(after) == pytest.approx(tiles_of(before))
    assert shuffle_tiles(images, 1, generator) is images


def test_cutmix_pastes_one_box_of_the_partner_and_says_what_is_left(images, generator):
    for _ in range(20):
        mixed, partner, share = cutmix(images, generator)
        own, pasted = (mixed == images).all(dim=1), (mixed == images[partner]).all(dim=1)
        assert (own | pasted).all()
        moved = partner != torch.arange(6)
        if moved.any():
            assert float(own[moved].float().mean()) == pytest.approx(share, abs=1e-6)


def test_cutmix_keeps_half_on_average_before_clipping(generator):
    shares = [cutmix(torch.zeros(1, 1, 32, 32), generator)[2] for _ in range(2000)]
    assert 0.5 < sum(shares) / 2000 < 0.75  # a box at the border loses a part, so more than half is kept


def test_mixup_averages_with_shares_of_the_beta_distribution(images, generator):
    mixed, partner, share = mixup(images, generator)
    torch.testing.assert_close(mixed, share * images + (1 - share) * images[partner])
    shares = [mixup(images[:1], generator)[2] for _ in range(2000)]
    assert stats.kstest(shares, stats.beta(0.8, 0.8).cdf).pvalue > 1e-3
    assert math.isclose(sum(shares) / 2000, 0.5, abs_tol=0.03)
