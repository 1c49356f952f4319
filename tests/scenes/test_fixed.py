"""Rays as sparse matrices against `grid_sample`: values, gradients, samples outside, awkward sizes."""

import pytest
import torch

from attar.scenes.fields import GridField
from attar.scenes.fixed import FixedRays, TrainingRays, corners
from attar.scenes.rendering import Rays, render
from attar.scenes.simulated import camera_of, cameras_around

BOX = ((-1.0, -0.5, -2.0), (1.0, 1.5, 0.5))


def drawn_field(sizes, channels=4, seed=0, dtype=torch.float32):
    field = GridField(BOX, sizes, channels).to(dtype)
    with torch.no_grad():
        field.values.normal_(generator=torch.Generator().manual_seed(seed))
    return field


def drawn_rays(count=17, seed=1, dtype=torch.float32):
    """Rays through the box, past it, along an axis, and of no length."""
    draw = torch.Generator().manual_seed(seed)
    origins = 3 * torch.randn(count, 3, generator=draw, dtype=dtype)
    at = torch.rand(count, 3, generator=draw, dtype=dtype) - 0.5
    directions = at - origins
    directions[0] = torch.tensor([0.0, 0.0, 1.0])
    directions = directions / directions.norm(dim=1, keepdim=True)
    starts, ends = torch.full((2, count), 0.3, dtype=dtype)
    ends = starts + 6
    ends[1] = starts[1]
    return Rays(origins, directions, starts, ends)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (7, 5, 11), (24, 24, 24), (3, 17, 2)])
@pytest.mark.parametrize("samples", [1, 13])
def test_values_and_gradients_are_those_of_grid_sample(sizes, samples):
    field, rays = drawn_field(sizes), drawn_rays()
    fixed = FixedRays.of(rays, field, samples)
    wanted, found = render(field, rays, samples), fixed.render(field)
    for name in ("features", "opacity"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=0, atol=1e-5)
    cotangent = torch.randn(found.features.shape, generator=torch.Generator().manual_seed(2))
    one, other = (torch.autograd.grad((each.features * cotangent).sum(), field.values)[0] for each in (found, wanted))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (7, 5, 11), (31, 3, 8)])
def test_raw_values_inside_the_box_are_those_of_grid_sample_to_a_millionth(sizes):
    field, rays = drawn_field(sizes), drawn_rays(40)
    fixed = FixedRays.of(rays, field, 16)
    points = rays.points(fixed.distances)
    inside = (field.inside(points) > 0) & (fixed.lengths > 0)
    assert 20 < int(inside.sum()) < inside.numel()
    wanted = field.raw(points)[inside]
    torch.testing.assert_close(fixed.raw(field)[inside], wanted, rtol=0, atol=1e-6)
    double, exact = drawn_field(sizes, dtype=torch.float64), drawn_rays(40, dtype=torch.float64)
    fixed = FixedRays.of(exact, double, 16)
    points = exact.points(fixed.distances)
    inside = (double.inside(points) > 0) & (fixed.lengths > 0)
    torch.testing.assert_close(fixed.raw(double)[inside], double.raw(points)[inside], rtol=0, atol=1e-12)


def test_samples_outside_the_box_are_dropped():
    field, rays = drawn_field((4, 4, 4)), drawn_rays()
    fixed = FixedRays.of(rays, field, 9)
    outside = fixed.lengths == 0
    assert outside.any() and not fixed.raw(field)[outside].any()
    assert fixed.matrix.values().numel() == 8 * int((~outside).sum()) == fixed.turned.values().numel()


def test_weights_of_corners_add_up_to_one_and_are_no_less_than_zero():
    unit = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    unit[0], unit[1] = torch.ones(3), -torch.ones(3)
    nodes, shares = corners(unit, (5, 2, 9))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(200, dtype=torch.float64), rtol=0, atol=1e-14)
    assert shares.min() >= 0 and nodes.min() >= 0 and nodes.max() < 5 * 2 * 9


def test_views_are_those_of_their_poses_in_any_order():
    field = GridField(((-1.0,) * 3, (1.0,) * 3), (6, 6, 6), 3)
    with torch.no_grad():
        field.values.normal_(generator=torch.Generator().manual_seed(0))
    camera, poses = camera_of(8), cameras_around(5)
    fast, plain = (TrainingRays(camera, poses, 1.2, 5.2, field, 12, sparse=sparse) for sparse in (True, False))
    assert len(fast) == len(plain) == 5 and plain.fixed is None
    for views in ([3], [4, 0, 2]):
        torch.testing.assert_close(fast.maps(field, views), plain.maps(field, views), rtol=0, atol=1e-5)
        assert fast.maps(field, views).shape == (len(views), 3, 8, 8)


def test_the_memory_of_the_matrices_is_told():
    field, rays = drawn_field((8, 8, 8)), drawn_rays()
    fixed = FixedRays.of(rays, field, 9)
    rows, nonzero = fixed.lengths.numel(), fixed.matrix.values().numel()
    assert fixed.bytes == 2 * nonzero * 8 + 4 * (rows + 1 + 512 + 1)
