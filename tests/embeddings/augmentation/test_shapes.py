"""Affine maps, cutout, RandAugment and the corruption of rows."""

import pytest
import torch

from attar.embeddings.augmentation.affine import drawn_affine, turned, warped
from attar.embeddings.augmentation.corruption import corrupted
from attar.embeddings.augmentation.cutout import cut_out, fill_of
from attar.embeddings.augmentation.randaugment import CHANGES, rand_augmented


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(6, 3, 8, 8, generator=rng())


def test_a_quarter_turn_and_a_shift_by_whole_pixels_are_exact(images):
    none = torch.zeros(6, 2)
    turned_right = warped(images, turned(torch.full((6,), torch.pi / 2)), none)
    torch.testing.assert_close(turned_right, images.rot90(-1, (2, 3)), atol=1e-5, rtol=0)
    shifted = warped(images, torch.eye(2).repeat(6, 1, 1), torch.tensor([0.25, -0.125]).repeat(6, 1))
    wanted = torch.zeros_like(images)
    wanted[:, :, :-1, 2:] = images[:, :, 1:, :-2]
    torch.testing.assert_close(shifted, wanted, atol=1e-5, rtol=0)


def test_maps_of_oblong_images_are_in_pixels():
    images = torch.zeros(1, 1, 8, 16)
    images[:, :, 3:5, 11:13] = 1  # four pixels to the right of the middle
    down = warped(images, turned(torch.tensor([torch.pi / 2])), torch.zeros(1, 2))
    torch.testing.assert_close(down[0, 0, 7, 7:9], torch.ones(2))  # four pixels down is the lower border
    assert down.sum() == pytest.approx(2, abs=1e-4)
    near = warped(images, turned(torch.tensor([torch.pi / 2]), 0.5), torch.zeros(1, 2))
    rows, columns = (near[0, 0] > 0.1).nonzero().T
    assert set(rows.tolist()) <= {5, 6} and set(columns.tolist()) <= {7, 8} and len(rows)


def test_affine_draws_fill_their_ranges():
    matrices, shifts = drawn_affine(4000, 45, 0.15, 0.15, rng())
    scale = torch.linalg.det(matrices).sqrt()
    angle = torch.rad2deg(torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    for values, low, high in ((scale, 0.85, 1.15), (angle, -45, 45), (shifts, -0.15, 0.15)):
        reach = 0.01 * (high - low)
        assert low - 1e-4 <= values.min() < low + reach and high - reach < values.max() <= high + 1e-4


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_cutout_covers_a_square_cut_off_at_the_borders(images, share):
    side = int(8 * share)
    middle = cut_out(images, share, torch.full((6, 2), 0.5), torch.full((6, 3, 1, 1), 2.0))
    assert ((middle == 2).sum(dim=(2, 3)) == side**2).all()
    corner = cut_out(images, share, torch.zeros(6, 2), torch.full((6, 3, 1, 1), 2.0))
    assert ((corner == 2).sum(dim=(2, 3)) == (side - side // 2) ** 2).all()


def test_cutout_paints_with_the_colour_that_is_asked_for(images):
    assert not fill_of(images, "black", rng()).any()
    torch.testing.assert_close(fill_of(images, "mean", rng())[:, :, 0, 0], images.mean(dim=(2, 3)))
    random = fill_of(images, "random", rng())
    assert len(random.unique()) == 18


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_magnitude_zero_changes_nothing_or_only_levels(images, name):
    eight_bits = (images.repeat(1, 1, 4, 4) * 255).round() / 255
    found = CHANGES[name](eight_bits, torch.zeros(6))
    if name in ("autocontrast", "equalize"):
        assert not torch.equal(found, eight_bits)
    else:
        keep = eight_bits < 1 if name == "solarize" else torch.ones_like(eight_bits, dtype=torch.bool)
        torch.testing.assert_close(found[keep], eight_bits[keep], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (3, 2, 2), (4, 28, 20)])
def test_every_change_stays_in_range_and_differs_by_image(name, shape):
    images = torch.rand(4, *shape, generator=rng())
    found = CHANGES[name](images, torch.tensor([1.0, -1.0, 0.3, -0.3]))
    assert found.shape == images.shape and found.isfinite().all()
    assert found.min() >= -1e-6 and found.max() <= 1 + 1e-6


def test_rand_augment_draws_changes_for_each_image(images):
    same = images[:1].repeat(200, 1, 1, 1)
    found = rand_augmented(same, 1, 9, rng())
    assert len(found.flatten(1).unique(dim=0)) >= 18  # fourteen changes, nine of them with two signs, less those alike
    assert torch.equal(found, rand_augmented(same, 1, 9, rng()))
    assert rand_augmented(same, 0, 9, rng()) is same


# ----------------------------------------------------------------------------------------------------------------- rows


def test_corruption_replaces_an_exact_share_by_values_of_the_same_feature():
    table = torch.arange(500.0)[:, None] + 1000 * torch.arange(10)
    rows = torch.full((64, 10), -1.0)
    found = corrupted(rows, table, 0.3, rng())
    assert ((found >= 0).sum(dim=1) == 3).all()
    changed = found >= 0
    assert torch.equal((found // 1000)[changed], torch.arange(10).expand(64, 10)[changed].float())
    donors = torch.where(changed, found % 1000, -1.0)
    assert len(donors[changed].unique()) > 100, "the features of a row come from several rows"


def test_at_least_one_feature_is_replaced_and_none_at_a_share_of_zero():
    rows, table = torch.zeros(5, 2), torch.ones(3, 2)
    assert (corrupted(rows, table, 0.3, rng()).sum(dim=1) == 1).all()
    assert corrupted(rows, table, 0.0, rng()) is rows
    assert torch.equal(corrupted(rows, table, 1.0, rng()), torch.ones(5, 2))


def test_features_are_drawn_evenly():
    found = corrupted(torch.zeros(6000, 5), torch.ones(2, 5), 0.4, rng())
    torch.testing.assert_close(found.mean(dim=0), torch.full((5,), 0.4), atol=0.03, rtol=0)
