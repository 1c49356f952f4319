"""Simulated scenes: geometry, classes, masks, and poses that look at the middle."""

import torch

from attar.scenes.poses import centre_of, checked, orbit
from attar.scenes.simulated import CLASSES, VARIANTS, cameras_around, simulated


def test_scenes_are_made_once_and_are_the_same_each_time():
    scene = simulated("spheres", 16, 8, 2)
    assert simulated("spheres", 16, 8, 2) is scene
    simulated.cache_clear()
    assert simulated("spheres", 16, 8, 2).fingerprint == scene.fingerprint
    assert simulated("objects", 16, 8, 2).fingerprint != scene.fingerprint
    assert (len(scene.train), len(scene.test)) == (6, 2)


def test_objects_have_classes_with_views_of_each():
    scene = simulated("objects", 16, 8, 2)
    assert scene.classes == CLASSES and len(scene.others) == len(CLASSES)
    assert all(len(views) == VARIANTS * 8 for views in scene.others)
    own = scene.others[scene.label or 0]
    assert torch.equal(own.images[0], scene.train.images[0])
    for one in scene.others:
        assert torch.equal(one.poses[:8], own.poses[:8])
        assert one.images.min() >= -1 and one.images.max() <= 1


def test_masks_say_where_the_object_is():
    scene = simulated("objects", 32, 8, 2)
    assert scene.masks is not None and scene.masks.shape == (6, 32, 32)
    red = scene.train.images[:, 0] - scene.train.images[:, 2]
    inside, outside = (red[scene.masks == value].mean() for value in (1, 0))
    assert 0.05 < float(scene.masks.mean()) < 0.3 and float(inside) > 0.5 > float(outside) + 0.3


def test_background_is_the_same_whatever_the_class():
    scene = simulated("objects", 32, 8, 2)
    first, last = scene.others[0].images[:8], scene.others[-1].images[:8]
    corner = (slice(None), slice(None), slice(0, 4), slice(0, 4))
    assert torch.equal(first[corner], last[corner]) and not torch.equal(first, last)


def test_all_cameras_look_at_the_middle():
    poses = checked(cameras_around(20))
    centre = centre_of(poses)
    assert centre is not None
    torch.testing.assert_close(centre, torch.zeros(3), rtol=0, atol=1e-5)


def test_an_orbit_goes_round_at_the_mean_height():
    poses = cameras_around(20)
    path = checked(orbit(poses, 12))
    torch.testing.assert_close(centre_of(path), torch.tensor([0.0, 0.0, 0.0]), rtol=0, atol=0.2)
    turns = torch.atan2(path[:, 1, 3], path[:, 0, 3])
    steps = torch.diff(torch.cat([turns, turns[:1]])).abs()
    steps = torch.minimum(steps, 2 * torch.pi - steps)
    torch.testing.assert_close(steps, torch.full((12,), torch.pi / 6), rtol=0.05, atol=0)


def test_cameras_side_by_side_sway():
    poses = torch.eye(3, 4).repeat(5, 1, 1)
    poses[:, 0, 3] = torch.arange(5) / 10
    path = checked(orbit(poses, 6))
    assert torch.equal(path[:, :, :3], torch.eye(3).expand(6, 3, 3)) and float(path[:, 0, 3].std()) > 0.05
