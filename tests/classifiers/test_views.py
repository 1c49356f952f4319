import pytest
import torch

from attar.classifiers.views import View, order_of
from attar.images.views.crops import resized_crop


def images():
    return torch.randn(6, 2, 4, 5, generator=torch.Generator().manual_seed(0))


def test_a_view_is_a_crop_of_the_padded_image_or_its_mirror():
    view = View.drawn(3, 7, 20, shift=2, flips=True)
    rows = torch.tensor([1, 4, 19, 0, 8, 11])
    shown = view.shown(images(), rows)
    for place, row in enumerate(rows.tolist()):
        padded = torch.nn.functional.pad(images()[place], (2, 2, 2, 2))
        top, left = int(view.down[row]), int(view.right[row])
        crop = padded[:, top : top + 4, left : left + 5]
        assert torch.equal(shown[place], crop.flip(2) if view.mirrored[row] else crop)


def test_the_number_of_a_view_is_all_it_depends_on():
    first, again, other = (View.drawn(0, number, 50, shift=2, flips=True) for number in (4, 4, 5))
    rows = torch.arange(6)
    assert torch.equal(first.shown(images(), rows), again.shown(images(), rows))
    assert not torch.equal(first.shown(images(), rows), other.shown(images(), rows))


def test_every_shift_and_side_comes_up():
    view = View.drawn(0, 0, 2000, shift=2, flips=True)
    assert set(view.down.tolist()) == set(view.right.tolist()) == set(range(5))
    assert 0.4 < view.mirrored.float().mean() < 0.6
    assert not View.drawn(0, 0, 2000, shift=2, flips=False).mirrored.any()


def test_no_shift_and_no_flip_is_the_image_itself():
    assert View.drawn(0, 0, 6, shift=0, flips=False).shown(images(), torch.arange(6)).data_ptr is not None
    assert torch.equal(View.drawn(0, 0, 6, shift=0, flips=False).shown(images(), torch.arange(6)), images())


def square(side=4):
    return torch.randn(40, 2, side, side, generator=torch.Generator().manual_seed(1))


def inputs(rows, device):
    return square()[rows]


def drawn(number=0, **settings):
    return View.drawn(0, number, 40, **{"shift": 0, "flips": False, "size": (4, 4), **settings})


def test_a_crop_is_of_the_wanted_area_and_aspect_and_takes_the_place_of_the_shift():
    view = View.drawn(0, 0, 500, shift=0, flips=True, smallest_crop=0.25, size=(4, 5))
    width, height = (view.boxes[:, 2:] - view.boxes[:, :2]).unbind(dim=1)
    assert 0.25 <= (width * height).min() + 1e-6 < (width * height).max() <= 1
    assert 3 / 4 - 1e-5 <= (5 * width / (4 * height)).min() < (5 * width / (4 * height)).max() <= 4 / 3 + 1e-5
    rows = torch.tensor([1, 4, 19, 0, 8, 11])
    shown = view.shown(images(), rows)
    for place, row in enumerate(rows.tolist()):
        crop = resized_crop(images()[place : place + 1], view.boxes[row : row + 1])[0]
        assert torch.allclose(shown[place], crop.flip(2) if view.mirrored[row] else crop, atol=1e-5)
    whole = View.drawn(0, 0, 6, shift=0, flips=False, smallest_crop=1.0)
    assert torch.allclose(whole.shown(images(), torch.arange(6)), images(), atol=1e-5)


def test_turns_are_by_quarters_and_with_flips_the_eight_symmetries():
    view, rows = drawn(turns=True), torch.arange(40)
    shown = view.shown(square(), rows)
    for image, turned, number in zip(square(), shown, view.turned.tolist(), strict=True):
        assert torch.equal(turned, image.rot90(number, (1, 2)))
    assert set(view.turned.tolist()) == {0, 1, 2, 3}
    one = square()[:1].expand(40, -1, -1, -1)
    assert len(drawn(turns=True, flips=True).shown(one, rows).flatten(1).unique(dim=0)) == 8


def test_mixup_averages_and_cutmix_pastes_with_labels_by_what_is_seen():
    rows, targets = torch.arange(40), torch.arange(40) % 5
    for settings in ({"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}):
        view = drawn(**settings)
        mixing, seen, labels = view.mixing, view.seen(inputs, rows, torch.device("cpu")), view.labels(targets, rows, 5)
        averaged = mixing.weight < 1
        assert averaged.any() == ("mixup" in settings)
        assert averaged.all() == ("cutmix" not in settings)
        for row in range(40):
            own, other = square()[row], square()[mixing.partner[row]]
            share = float(mixing.share[row])
            if averaged[row]:
                wanted = share * own + (1 - share) * other
            else:
                left, top, right, bottom = mixing.pasted[row].tolist()
                wanted = own.clone()
                wanted[:, top:bottom, left:right] = other[:, top:bottom, left:right]
                assert share == pytest.approx(1 - (right - left) * (bottom - top) / 16)
            assert torch.allclose(seen[row], wanted, atol=1e-6)
            told = torch.zeros(5)
            told[targets[row]] += share
            told[targets[mixing.partner[row]]] += 1 - share
            assert torch.allclose(labels[row], told, atol=1e-6)
    assert torch.equal(drawn().labels(targets, rows, 5), targets)


def test_shares_are_beta():
    for alpha, spread in ((0.8, 1 / (4 * (2 * 0.8 + 1))), (1.0, 1 / 12)):
        share = View.drawn(0, 0, 20_000, shift=0, flips=False, mixup=alpha).mixing.share
        assert share.mean().item() == pytest.approx(0.5, abs=0.01)
        assert share.var().item() == pytest.approx(spread, rel=0.05)


def test_partners_are_seen_as_they_are_alone():
    view, rows = drawn(number=3, mixup=1.0, smallest_crop=0.3, flips=True, turns=True), torch.tensor([7, 3])
    alone = view.shown(square(), torch.arange(40))
    share = view.mixing.share[rows].view(-1, 1, 1, 1)
    wanted = share * alone[rows] + (1 - share) * alone[view.mixing.partner[rows]]
    assert torch.allclose(view.seen(inputs, rows, torch.device("cpu")), wanted, atol=1e-6)


def test_what_else_a_view_does_leaves_shifts_and_sides_as_they_were():
    plain, full = drawn(flips=True), drawn(flips=True, turns=True, smallest_crop=0.5, mixup=1.0)
    assert torch.equal(plain.mirrored, full.mirrored)
    rows = torch.arange(9)
    assert torch.equal(plain.seen(inputs, rows, torch.device("cpu")), plain.shown(square()[:9], rows))


def test_an_epoch_goes_through_all_images_in_an_order_of_its_own():
    assert sorted(order_of(1, 0, 30).tolist()) == list(range(30))
    assert order_of(1, 0, 30).tolist() != order_of(1, 1, 30).tolist() != order_of(2, 1, 30).tolist()
