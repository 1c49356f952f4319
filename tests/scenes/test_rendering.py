"""Volume rendering against its identities and against the numbers of released functions; rays and their boxes."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attar.scenes.fields import GridField
from attar.scenes.poses import looking
from attar.scenes.rendering import (
    Rays,
    composed,
    cut,
    maps,
    opacities,
    rays_of,
    render,
    rendered,
    transmittances,
    weights,
)
from attar.scenes.sources import Camera

GOLDEN = Path(__file__).parent / "golden"
NERFACC = load_file(GOLDEN / "volume_rendering.safetensors")
LATENT = load_file(GOLDEN / "volume_rendering_latent.safetensors")
BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def drawn(rays=7, samples=13, channels=4, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    density = 3 * torch.rand(rays, samples, generator=draw, dtype=dtype)
    lengths = torch.rand(rays, samples, generator=draw, dtype=dtype)
    features = torch.randn(rays, samples, channels, generator=draw, dtype=dtype)
    return density, lengths, features, torch.randn(channels, generator=draw, dtype=dtype)


def test_weights_and_what_is_left_add_up_to_one():
    density, lengths, _, _ = drawn()
    seen, left = weights(density, lengths)
    torch.testing.assert_close(seen.sum(dim=1) + left, torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-15)
    assert (seen >= 0).all() and (left >= 0).all()


def test_transmittance_is_the_product_of_what_each_sample_lets_through():
    density, lengths, _, _ = drawn()
    through = (1 - opacities(density, lengths)).cumprod(dim=1)
    torch.testing.assert_close(transmittances(density, lengths)[:, 1:], through, rtol=1e-13, atol=0)


@pytest.mark.parametrize("samples", [1, 8, 64])
@pytest.mark.parametrize("density", [0.0, 1e-8, 0.7, 40.0])
def test_a_constant_density_has_the_opacity_of_its_length(samples, density):
    rays = Rays(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([0.4]), torch.tensor([2.9]))
    distances, lengths = (one.double() for one in rays.intervals(samples))
    found = rendered(torch.full_like(lengths, density), lengths, lengths[..., None], torch.zeros(1).double(), distances)
    assert float(found.opacity[0]) == pytest.approx(-math.expm1(-density * 2.5), rel=1e-6)


def test_intervals_tile_the_ray():
    rays = Rays(torch.zeros(2, 3), torch.eye(3)[:2], torch.tensor([0.5, 1.0]), torch.tensor([2.0, 1.0]))
    distances, lengths = rays.intervals(6)
    torch.testing.assert_close(lengths.sum(dim=1), torch.tensor([1.5, 0.0]))
    torch.testing.assert_close(distances[0] - lengths[0] / 2, 0.5 + 0.25 * torch.arange(6))


def test_an_opaque_first_sample_gives_its_feature():
    density, lengths, features, background = drawn()
    density[:, 0], lengths[:, 0] = 1e4, 1.0
    torch.testing.assert_close(composed(density, lengths, features, background), features[:, 0], rtol=0, atol=1e-12)


def test_an_empty_ray_gives_the_background():
    density, lengths, features, background = drawn()
    found = composed(torch.zeros_like(density), lengths, features, background)
    torch.testing.assert_close(found, background.expand(7, 4), rtol=0, atol=0)


def test_it_is_linear_in_features_and_background():
    density, lengths, features, background = drawn()
    _, _, others, behind = drawn(seed=1)
    both = composed(density, lengths, 2 * features - others, 2 * background - behind)
    parts = 2 * composed(density, lengths, features, background) - composed(density, lengths, others, behind)
    torch.testing.assert_close(both, parts, rtol=0, atol=1e-13)


def test_it_has_the_numbers_of_nerfacc():
    given = {name.removeprefix("in."): one for name, one in NERFACC.items() if name.startswith("in.")}
    density, features = given["density"].requires_grad_(), given["features"].requires_grad_()
    lengths, middles = given["t_end"] - given["t_start"], (given["t_end"] + given["t_start"]) / 2
    found = rendered(density, lengths, features, given["background"], middles)
    close = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(opacities(density, lengths).detach(), NERFACC["out.alphas"], **close)
    seen, left = weights(density, lengths)
    torch.testing.assert_close(seen.detach(), NERFACC["out.weights"], **close)
    torch.testing.assert_close(seen.detach(), NERFACC["out.weights_from_alpha"], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(left.detach(), NERFACC["out.t_end"], **close)
    torch.testing.assert_close(found.features.detach(), NERFACC["out.colour"], **close)
    torch.testing.assert_close(found.opacity.detach(), NERFACC["out.opacity"][:, 0], rtol=1e-12, atol=1e-13)
    # A very thin ray's opacity is 1 - T_end, which keeps fewer digits than the sum of its weights.
    torch.testing.assert_close(found.depth.detach(), NERFACC["out.depth_expected"][:, 0], rtol=1e-6, atol=1e-12)
    gradients = torch.autograd.grad((found.features * given["cotangent"]).sum(), (density, features))
    torch.testing.assert_close(gradients[0], NERFACC["out.grad.density"], **close)
    torch.testing.assert_close(gradients[1], NERFACC["out.grad.features"], **close)


@pytest.mark.parametrize("how", ["plain", "jitter"])
def test_it_has_the_numbers_of_latent_nerf_for_its_intervals(how):
    lengths = LATENT[f"out.{how}.deltas"]
    found = composed(LATENT["in.density"], lengths, LATENT["in.features"], LATENT["in.background"])
    torch.testing.assert_close(found, LATENT[f"out.{how}.image"], rtol=0, atol=1e-13)
    torch.testing.assert_close(
        opacities(LATENT["in.density"], lengths), LATENT[f"out.{how}.alphas"], rtol=0, atol=1e-14
    )


def test_intervals_of_latent_nerf_reach_beyond_the_end_and_ours_do_not():
    near, far = LATENT["in.near"], LATENT["in.far"]
    theirs = LATENT["out.plain.deltas"].sum(dim=1)
    torch.testing.assert_close(theirs, (far - near) * (1 + 1 / 8))
    rays = Rays(torch.zeros(4, 3), torch.eye(3)[[0, 1, 2, 0]], near.float(), far.float())
    torch.testing.assert_close(rays.intervals(8)[1].sum(dim=1), (far - near).float())


def test_rays_are_cut_to_the_box():
    origins = torch.tensor([[-3.0, 0.0, 0.0], [-3.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-3.0, 0.0, 0.0]])
    directions = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    starts, ends = cut(origins, directions, 0.5, 3.5, BOX)
    torch.testing.assert_close(starts[[0, 2]], torch.tensor([2.0, 0.5]))
    torch.testing.assert_close(ends[[0, 2]], torch.tensor([3.5, 1.0]))
    assert (ends >= starts).all() and float(ends[1]) == float(starts[1]) and float(ends[3]) == float(starts[3])


def test_the_ray_through_the_middle_looks_where_the_camera_looks():
    camera = Camera(5, 5, 4.0, 4.0, 2.5, 2.5)
    places = torch.tensor([[2.0, 1.0, 0.5]])
    poses = looking(places, torch.zeros(1, 3), torch.tensor([0.0, 0.0, 1.0]))
    rays = rays_of(camera, poses, 0.1, 9.0, BOX)
    torch.testing.assert_close(rays.directions[12], -places[0] / places[0].norm())
    up_left = rays.directions[0] - rays.directions[12]
    assert float(up_left @ poses[0, :, 1]) > 0 > float(up_left @ poses[0, :, 0])


def test_a_ball_of_density_is_seen_where_it_is():
    field = GridField(BOX, (33, 33, 33), 1)
    places = torch.linspace(-1, 1, 33)
    x, y, z = torch.meshgrid(places, places, places, indexing="ij")
    with torch.no_grad():
        field.values[..., 0] = torch.where((x - 0.4) ** 2 + y**2 + z**2 < 0.09, 20.0, -20.0)
        field.values[..., 1] = x
    camera = Camera(21, 21, 30.0, 30.0, 10.5, 10.5)
    poses = looking(torch.tensor([[0.0, -4.0, 0.0]]), torch.zeros(1, 3), torch.tensor([0.0, 0.0, 1.0]))
    field.requires_grad_(False)
    found = render(field, rays_of(camera, poses, 1.0, 7.0, BOX), 64)
    opacity = found.opacity.view(21, 21)
    assert float(opacity[10, 13]) > 0.99 and float(opacity[10, 7]) < 1e-3
    assert float(found.depth.view(21, 21)[10, 13]) == pytest.approx(3.73, abs=0.1)
    assert maps(field, camera, poses, 1.0, 7.0, 64).shape == (1, 1, 21, 21)
