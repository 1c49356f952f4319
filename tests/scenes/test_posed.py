"""Scenes from files: what is written is read again, and what cannot be used is refused in one line."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from attar.core.errors import InputError
from attar.scenes.posed import loaded, straightened
from attar.scenes.reading import Reading, looks_like
from attar.scenes.simulated import simulated
from attar.scenes.sources import Camera, Views


@pytest.fixture(scope="module")
def scene():
    return simulated("spheres", 16, 8, 2)


def pixels_of(image):
    return ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def views_of(scene):
    """All views in one row, the held-out ones last."""
    return torch.cat([scene.train.images, scene.test.images]), torch.cat([scene.train.poses, scene.test.poses])


def write(folder, scene, **changes):
    """A folder as nerfstudio writes it."""
    images, poses = views_of(scene)
    (folder / "images").mkdir(parents=True)
    frames = []
    for number, (image, pose) in enumerate(zip(images, poses, strict=True)):
        name = f"images/frame_{number:05d}.png"
        Image.fromarray(pixels_of(image)).save(folder / name)
        frames.append({"file_path": name, "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]})
    camera = scene.camera
    facts = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy, "w": 16, "h": 16}
    facts |= {"camera_model": "OPENCV", "frames": frames}
    for path, value in changes.items():
        facts[path] = value
    (folder / "transforms.json").write_text(json.dumps(facts), encoding="utf-8")
    return facts


def read(folder, **settings):
    return Reading(**settings).load(str(folder))


def refusal(data, **settings):
    with pytest.raises(InputError) as refused:
        Reading(**settings).load(data)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_folder_of_nerfstudio_comes_back(scene, tmp_path):
    write(tmp_path, scene)
    found = read(tmp_path, held_out_views=2)
    images, poses = views_of(scene)
    order = [row for row in range(8) if row not in (2, 5)]
    assert found.camera == scene.camera and len(found.test) == 2
    torch.testing.assert_close(found.train.poses, poses[order])
    assert float((found.train.images - images[order]).abs().max()) < 1 / 127


def test_the_box_is_where_the_cameras_look(scene, tmp_path):
    write(tmp_path, scene)
    found = read(tmp_path)
    low, high = (torch.tensor(corner) for corner in found.box)
    torch.testing.assert_close((low + high) / 2, torch.zeros(3), rtol=0, atol=1e-3)
    assert 1.0 < float((high - low)[0] / 2) < 1.5
    assert found.near < 3.2 - 1.2 and found.far > 3.2 + 1.2
    given = read(tmp_path, near_plane=0.5, far_plane=4.0, box=(-1.0, -1.0, -1.0, 1.0, 1.0, 2.0))
    assert (given.near, given.far, given.box) == (0.5, 4.0, ((-1.0, -1.0, -1.0), (1.0, 1.0, 2.0)))


def test_a_file_of_instant_ngp_is_read(scene, tmp_path):
    facts = write(tmp_path, scene)
    angle = 2 * math.atan(8 / scene.camera.fx)
    frames = [{**frame, "file_path": "./" + frame["file_path"][:-4]} for frame in facts["frames"]]
    (tmp_path / "transforms.json").write_text(
        json.dumps({"camera_angle_x": angle, "aabb_scale": 4, "frames": frames}), encoding="utf-8"
    )
    found = Reading().load(tmp_path / "transforms.json")
    assert (found.camera.width, found.camera.height) == (16, 16)
    assert found.camera.fx == pytest.approx(scene.camera.fx) == found.camera.fy
    assert (found.camera.cx, found.camera.cy) == (8.0, 8.0)


def test_the_split_of_the_files_is_kept(scene, tmp_path):
    facts = write(tmp_path, scene)
    names = [frame["file_path"] for frame in facts["frames"]]
    facts |= {"train_filenames": names[:5], "val_filenames": names[5:7], "test_filenames": names[7:]}
    (tmp_path / "transforms.json").write_text(json.dumps(facts), encoding="utf-8")
    assert (len(read(tmp_path).train), len(read(tmp_path).test)) == (5, 3)


def test_files_of_each_split_are_read(scene, tmp_path):
    facts = write(tmp_path, scene)
    (tmp_path / "transforms.json").unlink()
    for split, rows in (("train", slice(0, 6)), ("test", slice(6, 8))):
        part = {**facts, "frames": facts["frames"][rows]}
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps(part), encoding="utf-8")
    found = read(tmp_path)
    assert looks_like(str(tmp_path)) and (len(found.train), len(found.test)) == (6, 2)


def test_a_folder_of_llff_comes_back(scene, tmp_path):
    images, poses = views_of(scene)
    (tmp_path / "images").mkdir()
    rows = []
    for number, (image, pose) in enumerate(zip(images, poses, strict=True)):
        Image.fromarray(pixels_of(image)).save(tmp_path / "images" / f"{number:03d}.png")
        down_right_back = torch.stack([-pose[:, 1], pose[:, 0], pose[:, 2], pose[:, 3]], dim=1)
        size = torch.tensor([[16.0], [16.0], [scene.camera.fx]])
        rows.append([*torch.cat([down_right_back, size], dim=1).flatten().tolist(), 2.0, 4.5])
    np.save(tmp_path / "poses_bounds.npy", np.array(rows))
    found = read(tmp_path, held_out_views=1)
    torch.testing.assert_close(torch.cat([found.train.poses[:4], found.test.poses]), poses[[0, 1, 2, 3, 4]])
    assert found.camera.fx == pytest.approx(scene.camera.fx)
    assert (found.near, found.far) == (pytest.approx(1.8), pytest.approx(4.95))
    assert all(low < -1 and high > 1 for low, high in zip(*found.box, strict=True))
    np.save(tmp_path / "poses_bounds.npy", np.full((8, 17), np.nan))
    assert "infinite or not numbers" in refusal(str(tmp_path))
    np.save(tmp_path / "poses_bounds.npy", np.zeros((3, 17)))
    assert "has 8 pictures, but poses_bounds.npy has 3 poses" in refusal(str(tmp_path))


def test_pictures_are_scaled_with_their_camera(scene, tmp_path):
    write(tmp_path, scene)
    found = read(tmp_path, size=8)
    assert found.train.images.shape[2:] == (8, 8)
    assert found.camera == scene.camera.scaled(8, 8)


def test_pictures_smaller_than_the_file_says_have_a_smaller_camera(scene, tmp_path):
    write(tmp_path, scene, w=32, h=32)
    assert read(tmp_path).camera == Camera(16, 16, *(value / 2 for value in (scene.camera.fx, scene.camera.fy)), 4, 4)


def test_white_lies_behind_transparent_pixels(scene, tmp_path):
    write(tmp_path, scene)
    clear = np.zeros((16, 16, 4), np.uint8)
    Image.fromarray(clear).save(tmp_path / "images" / "frame_00000.png")
    assert torch.equal(read(tmp_path, held_out_views=1).train.images[0], torch.ones(3, 16, 16))


def test_a_lens_is_straightened():
    camera = Camera(33, 33, 30.0, 30.0, 16.5, 16.5)
    across = (torch.arange(33) + 0.5 - 16.5) / 30
    picture = across.expand(1, 3, 33, 33)
    found = straightened(picture, camera, (0.2, 0.0, 0.0, 0.0))
    x, y = float(across[25]), float(across[20])
    assert float(found[0, 0, 20, 25]) == pytest.approx(x * (1 + 0.2 * (x * x + y * y)), abs=1e-5)
    assert torch.equal(straightened(picture, camera, (0.0,) * 4).round(decimals=4), picture.round(decimals=4))


def test_names_and_folders_are_known(scene, tmp_path):
    assert looks_like("spheres") and looks_like("objects") and not looks_like("digits")
    assert not looks_like(str(tmp_path))
    write(tmp_path / "x", scene)
    assert looks_like(str(tmp_path / "x")) and looks_like(str(tmp_path / "x" / "transforms.json"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frames": []}, "names no frames"),
        ({"camera_model": "OPENCV_FISHEYE"}, "which is not pinhole"),
        ({"fl_x": None}, "fl_x in"),
        ({"fl_x": "wide"}, "is wide; it must be a number"),
        ({"frames": [{"file_path": "images/frame_00000.png"}]}, "no transform_matrix"),
    ],
)
def test_files_that_say_too_little_are_refused(scene, tmp_path, changes, sentence):
    write(tmp_path, scene, **changes)
    assert sentence in refusal(str(tmp_path))


def test_pictures_and_poses_that_cannot_be_used_are_refused(scene, tmp_path):
    facts = write(tmp_path, scene)
    frames = facts["frames"]

    def with_pose(matrix):
        odd = {**facts, "frames": [*frames[:-1], {**frames[-1], "transform_matrix": matrix}]}
        (tmp_path / "transforms.json").write_text(json.dumps(odd), encoding="utf-8")
        return refusal(str(tmp_path))

    good = frames[-1]["transform_matrix"]
    assert f"pose 7 of {tmp_path} is no rotation (off by 7)" in with_pose(
        [[2 * x for x in row[:3]] + row[3:] for row in good[:3]]
    )
    assert "is no rotation" in with_pose([[-x for x in row[:3]] + row[3:] for row in good[:3]])
    assert "infinite or not numbers" in with_pose([[float("nan")] * 4] * 4)
    assert "no matrix of 4 × 4 numbers" in with_pose([[1, 0], [0, 1]])
    (tmp_path / "transforms.json").write_text(json.dumps(facts), encoding="utf-8")
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(tmp_path / "images" / "frame_00003.png")
    assert "frame_00003.png is 8×16, but frame_00000.png is 16×16" in refusal(str(tmp_path))
    (tmp_path / "images" / "frame_00003.png").write_bytes(b"no picture")
    assert "cannot be read as a picture" in refusal(str(tmp_path))
    (tmp_path / "images" / "frame_00003.png").unlink()
    assert "1 of 8 pictures are missing, the first is" in refusal(str(tmp_path))


def test_settings_that_do_not_fit_are_refused(scene, tmp_path):
    write(tmp_path, scene)
    assert "held-out-views is 8, but there are 8 views" in refusal(str(tmp_path), held_out_views=8)
    assert "box has 2 numbers; give six" in refusal(str(tmp_path), box=(1.0, 2.0))
    assert "every largest coordinate must be above" in refusal(str(tmp_path), box=(1.0,) * 6)
    assert "Give --near-plane below --far-plane" in refusal(str(tmp_path), near_plane=3.0, far_plane=2.0)
    assert "is no scene: give spheres or objects" in refusal(str(tmp_path / "nothing"))
    assert "a scene cannot be made of a list" in refusal([1, 2])


def test_cameras_side_by_side_need_their_distances(scene, tmp_path):
    poses = torch.eye(3, 4).repeat(8, 1, 1)
    poses[:, 0, 3] = torch.arange(8) / 10
    flat = Views(scene.train.images[:1].expand(8, -1, -1, -1), poses)
    write(tmp_path, type(scene)("flat", flat, flat.select(torch.zeros(0).long()), scene.camera, 1, 2, scene.box))
    assert "do not look at one point" in refusal(str(tmp_path))
    found = read(tmp_path, near_plane=1.0, far_plane=2.0)
    assert -2.0 <= found.box[0][2] < -1.5 and found.box[1][2] < 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda views: Views(views.images * 3, views.poses), "give values between -1 and 1"),
        (lambda views: Views(views.images * float("nan"), views.poses), "infinite or not numbers"),
        (lambda views: Views(views.images[:, :, :8], views.poses), "by the poses and the camera they must be"),
        (lambda views: Views(views.images, views.poses * 2), "is no rotation"),
    ],
)
def test_scenes_of_ones_own_are_checked(scene, change, sentence):
    import dataclasses

    with pytest.raises(InputError, match=sentence):
        loaded(dataclasses.replace(scene, train=change(scene.train)), Reading())
    with pytest.raises(InputError, match="masks of spheres are"):
        loaded(dataclasses.replace(scene, masks=torch.zeros(6, 8, 8)), Reading())
    assert loaded(scene, Reading()) is scene
