import pytest
import torch
import torch.nn.functional as F

from attar.classifiers.reviewkd import Review, fused_channels, hierarchical_loss, pool_weights, review_loss


def test_weights_of_the_scales():
    assert pool_weights(8) == {8: 1.0, 4: 0.5, 2: 0.25, 1: 0.125}
    assert pool_weights(4) == {4: 1.0, 2: 0.5, 1: 0.25}
    assert pool_weights(1) == {1: 1.0}


def test_the_loss_of_a_constant_difference_is_its_square_at_every_scale():
    maps = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    own = maps.clone().requires_grad_()
    loss = hierarchical_loss(own, maps)
    loss.backward()
    assert loss.item() == 0
    assert own.grad.abs().max() == 0
    assert torch.isclose(hierarchical_loss(maps + 3, maps), torch.tensor(9.0))


def test_a_difference_that_pools_away_counts_once():
    maps = torch.zeros(1, 1, 4, 4)
    board = (torch.arange(4)[:, None] + torch.arange(4)) % 2 * 2.0 - 1
    assert torch.isclose(hierarchical_loss(board.expand(1, 1, 4, 4), maps), torch.tensor(1 / 1.75))


def restated(student, teacher):
    """The loss as the authors write it: every scale from the full maps."""
    height = student.shape[2]
    total, whole, weight = F.mse_loss(student, teacher), 1.0, 1.0
    for side in (4, 2, 1):
        if side < height:
            weight /= 2
            one, other = (F.adaptive_avg_pool2d(maps, (side, side)) for maps in (student, teacher))
            total, whole = total + weight * F.mse_loss(one, other), whole + weight
    return total / whole


SHAPES = [(side, side) for side in range(1, 34)] + [(7, 8), (8, 7), (12, 6), (6, 12), (4, 14), (2, 9), (16, 5), (1, 8)]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_scale_is_that_of_the_full_maps(shape):
    draw = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 2, 3, *shape, generator=draw, dtype=torch.float64)
    student.requires_grad_()
    found, wanted = hierarchical_loss(student, teacher), restated(student, teacher)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    one, two = (torch.autograd.grad(loss, student)[0] for loss in (found, wanted))
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("pooled", [False, True])
def test_every_stage_comes_out_in_the_teachers_shape(pooled):
    student = [(8, 16, 16), (16, 8, 8), (32, 4, 4)] + [(32, 1, 1)] * pooled
    teacher = [(12, 32, 32), (24, 16, 16), (48, 8, 8)] + [(48, 1, 1)] * pooled
    review = Review(student, teacher)
    draw = torch.Generator().manual_seed(0)
    outs = review([torch.randn(2, *shape, generator=draw) for shape in student])
    assert [tuple(out.shape[1:]) for out in outs] == teacher
    wanted = [torch.randn(2, *shape, generator=draw) for shape in teacher]
    review_loss(outs, wanted).backward()
    assert all(parameter.grad is not None for parameter in review.parameters())


def test_fusions_are_as_wide_as_asked():
    shapes = [(8, 4, 4), (8, 1, 1)]
    assert [fusion.reduce[0].out_channels for fusion in Review(shapes, shapes, 5).fusions] == [5, 5]


def test_a_shallow_stage_hears_of_the_deep_ones():
    shapes = [(4, 8, 8), (8, 4, 4)]
    review = Review(shapes, shapes).eval()
    maps = [torch.randn(1, *shape, generator=torch.Generator().manual_seed(3)) for shape in shapes]
    before = review(maps)
    after = review([maps[0], maps[1] + 1])
    assert not torch.allclose(before[0], after[0])
    shallow = review([maps[0] + 1, maps[1]])
    assert torch.equal(before[1], shallow[1])


@pytest.mark.parametrize(
    ("student", "channels"),
    [
        ([(64, 8, 8), (64, 1, 1)], 64),
        ([(464, 4, 4), (1024, 1, 1)], 512),
        ([(80, 2, 2), (1280, 1, 1)], 512),
        ([(16, 8, 8), (16 * 4 * 4, 1, 1)], 16),
        ([(1024, 4, 4)], 512),
        ([(24, 4, 4)], 24),
    ],
)
def test_fusions_are_as_wide_as_the_last_stage_unless_it_is_a_map_laid_flat(student, channels):
    assert fused_channels(student) == channels
