import torch

from attar.classifiers.views import View, order_of


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


def test_an_epoch_goes_through_all_images_in_an_order_of_its_own():
    assert sorted(order_of(1, 0, 30).tolist()) == list(range(30))
    assert order_of(1, 0, 30).tolist() != order_of(1, 1, 30).tolist() != order_of(2, 1, 30).tolist()
