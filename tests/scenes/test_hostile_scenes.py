"""Scenes as people have them: odd folders, settings that do not fit, and damaged results. Each is one clear line."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.samplers.artefact import StoredSampler
from attar.scenes import fixed, latent_field
from attar.scenes.artefact import LatentField, StoredScene
from attar.scenes.ednerf import EdNeRF
from attar.scenes.latent_field import TrainLatentField
from attar.scenes.posed import loaded
from attar.scenes.poses import spread
from attar.scenes.reading import Reading
from attar.scenes.simulated import simulated
from attar.scenes.sources import Views
from edit_cases import ENGINE, field, objects, scene_teacher, teacher

FIELD = {"voxels": 6, "steps": 3, "batch": 2, "ray_samples": 8, "refine_width": 8}


@pytest.fixture(scope="module")
def scene():
    return simulated("spheres", 16, 8, 2)


def pixels_of(image):
    return ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.fixture
def folder(scene, tmp_path):
    """A folder of eight views, and what its transforms.json says."""
    images = torch.cat([scene.train.images, scene.test.images])
    poses = torch.cat([scene.train.poses, scene.test.poses])
    place, camera = tmp_path / "my views ü", scene.camera
    (place / "images").mkdir(parents=True)
    frames = []
    for number, (image, pose) in enumerate(zip(images, poses, strict=True)):
        Image.fromarray(pixels_of(image)).save(place / "images" / f"{number}.png")
        frames.append({"file_path": f"images/{number}.png", "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]})
    facts = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": 8.0, "cy": 8.0, "w": 16, "h": 16, "frames": frames}
    told(place, facts)
    return place, facts


def told(place, facts):
    (place / "transforms.json").write_text(facts if isinstance(facts, str) else json.dumps(facts), encoding="utf-8")


def refusal(data, **settings):
    with pytest.raises(InputError) as refused:
        Reading(**settings).load(str(data))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def refused(capsys, *words):
    """What the command says on standard error, on one line, as it exits with code 2."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1, said
    return said


# ------------------------------------------------------------------------------------------------------ transforms.json


@pytest.mark.parametrize("text", ["{oops", "", "[]", "5", '{"frames": 5}', '{"frames": ["a"]}', "\ufffe"])
def test_files_that_are_no_descriptions_are_refused(folder, text, capsys):
    told(folder[0], text)
    assert "transforms.json" in refused(capsys, "data", folder[0]) or "no file_path" in refusal(folder[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_filenames": 5}, "train_filenames of"),
        ({"fl_x": -3}, "fl_x in"),
        ({"fl_x": 0}, "is 0; it must be above 0"),
        ({"fl_y": 0}, "fl_y in"),
        ({"w": -16}, "w in"),
        ({"fl_x": 10**30}, "it must be above 0"),
        ({"fl_x": None}, "it must be a number"),
        ({"w": 32}, "their camera is 16×32, of another form"),
    ],
)
def test_cameras_that_are_none_are_refused(folder, changes, said):
    place, facts = folder
    told(place, facts | changes)
    assert said in refusal(place)


@pytest.mark.parametrize("angle", [0, -1, 3.2, 7, "x"])
def test_angles_of_view_lie_between_nothing_and_a_half_turn(folder, angle):
    place, facts = folder
    told(place, {"camera_angle_x": angle, "frames": facts["frames"]})
    assert "camera_angle_x in" in refusal(place)


@pytest.mark.parametrize("sizes", [{}, {"w": 16, "h": 16}, {"w": 800, "h": 800}, {"w": 800}, {"h": 32}])
def test_an_angle_of_view_is_that_of_the_pictures_whatever_size_the_file_names(folder, scene, sizes):
    place, facts = folder
    told(place, {"camera_angle_x": 2 * np.arctan(8 / scene.camera.fx), "frames": facts["frames"], **sizes})
    camera = Reading().load(str(place)).camera
    assert camera.fx == pytest.approx(scene.camera.fx) and camera.fy == pytest.approx(scene.camera.fy)
    assert (camera.width, camera.height, camera.cx, camera.cy) == (16, 16, 8, 8)


@pytest.mark.parametrize("name", ["", ".", "..", "/", 5, None, "a\0b"])
def test_names_that_are_none_are_refused(folder, name):
    place, facts = folder
    facts["frames"][2]["file_path"] = name
    told(place, facts)
    assert "frame 2 of" in refusal(place) and "names no picture: its file_path is" in refusal(place)


def test_absolute_names_and_names_that_go_up_are_read(folder, scene):
    place, facts = folder
    for number, frame in enumerate(facts["frames"]):
        name = frame["file_path"]
        frame["file_path"] = str(place / name) if number % 2 else f"../{place.name}/{name}"
    told(place, facts)
    found = Reading().load(str(place))
    assert len(found.train) == 7 and found.name == "my views ü"


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ([[10**39] * 4] * 4, "it must be 0, 0, 0, 1"),
        ("x", "no matrix of 4 × 4 numbers"),
        ([["a"] * 4] * 4, "no matrix of 4 × 4 numbers"),
        (None, "no matrix of 4 × 4 numbers"),
        (np.zeros((3, 4)).tolist(), "is no rotation"),
    ],
)
def test_matrices_that_are_no_poses_are_refused(folder, matrix, said):
    place, facts = folder
    facts["frames"][1]["transform_matrix"] = matrix
    told(place, facts)
    assert said in refusal(place)


def test_transposed_matrices_are_found(folder):
    place, facts = folder
    for frame in facts["frames"]:
        frame["transform_matrix"] = np.array(frame["transform_matrix"]).T.tolist()
    told(place, facts)
    assert "Is the matrix transposed?" in refusal(place)


def test_one_view_needs_distances_and_has_none_held_out(folder, capsys):
    place, facts = folder
    told(place, facts | {"frames": facts["frames"][:1]})
    assert "Give --near-plane and --far-plane" in refusal(place)
    found = Reading(near_plane=1.0, far_plane=5.0).load(str(place))
    assert (len(found.train), len(found.test)) == (1, 0)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 36])
def test_so_many_views_are_held_out_as_are_asked_for(count):
    for wanted in range(count + 1):
        rows = spread(count, wanted)
        assert len(rows) == len(rows.unique()) == wanted
        assert not wanted or (int(rows.min()) >= 0 and int(rows.max()) < count)
    assert spread(36, 6).tolist() == [3, 9, 15, 20, 26, 32]


def test_seven_of_eight_views_are_held_out(folder):
    found = Reading(held_out_views=7).load(str(folder[0]))
    assert (len(found.train), len(found.test)) == (1, 7)
    assert len(simulated("spheres", 16, 8, 7).test) == 7


# ------------------------------------------------------------------------------------------------------------- pictures


def test_pictures_of_all_modes_are_read(folder, scene):
    place, _ = folder
    path = place / "images" / "0.png"
    grey = Image.open(path).convert("L")
    wanted = torch.from_numpy(np.array(grey)).float() / 127.5 - 1
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    for picture in (grey, deep, grey.convert("LA"), grey.convert("RGBA")):
        picture.save(path)
        found = Reading(held_out_views=1).load(str(place)).train.images[0]
        torch.testing.assert_close(found, wanted.expand(3, 16, 16), rtol=0, atol=0.01)


@pytest.mark.parametrize("content", [b"", b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_no_pictures_are_refused(folder, content):
    place, _ = folder
    (place / "images" / "3.png").write_bytes(content)
    assert "3.png cannot be read as a picture: it " in refusal(place)


# ----------------------------------------------------------------------------------------------------------------- LLFF


def rows_of(scene):
    """What LLFF writes of the scene's poses."""
    poses = torch.cat([scene.train.poses, scene.test.poses])
    size = torch.tensor([[16.0], [16.0], [scene.camera.fx]]).expand(8, 3, 1)
    turned = torch.cat([-poses[:, :, 1:2], poses[:, :, :1], poses[:, :, 2:], size], dim=2)
    return np.concatenate([turned.reshape(8, 15).numpy(), np.tile([2.0, 4.5], (8, 1))], axis=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: b"", "is damaged: "),
        (lambda rows: b"hello", "is damaged: "),
        (lambda rows: b"PK\x03\x04aaaa", "is damaged: "),
        (lambda rows: rows.astype(str), "holds no array of numbers"),
        (lambda rows: rows.astype(complex), "holds no array of numbers"),
        (lambda rows: np.float64(3), "it must have 17 numbers"),
        (lambda rows: rows[:, :15], "it must have 17 numbers"),
        (lambda rows: rows[:3], "has 8 pictures, but poses_bounds.npy has 3 poses"),
        (lambda rows: np.where(np.arange(17) == 14, 0.0, rows), "the focal length 0; they must be above 0"),
        (lambda rows: np.where(np.arange(17) == 9, 32.0, rows), "of another form"),
        (lambda rows: rows + (np.arange(8)[:, None] == 3) * (np.arange(17) == 14), "have several cameras"),
        (lambda rows: np.where(np.arange(17) >= 15, 4.0 - rows, rows), "Give --near-plane below --far-plane"),
        (lambda rows: rows * np.array([-1] * 3 + [1] * 14), "is no rotation"),
    ],
)
def test_folders_of_llff_that_cannot_be_used_are_refused(folder, scene, change, said):
    place, _ = folder
    (place / "transforms.json").unlink()
    made = change(rows_of(scene))
    if isinstance(made, bytes):
        (place / "poses_bounds.npy").write_bytes(made)
    else:
        np.save(place / "poses_bounds.npy", made)
    assert said in refusal(place)


def test_an_archive_of_arrays_is_no_file_of_llff(folder):
    place, _ = folder
    (place / "transforms.json").unlink()
    np.savez(place / "x.npz", rows=np.zeros((8, 17)))
    (place / "x.npz").rename(place / "poses_bounds.npy")
    assert "holds no array of numbers" in refusal(place)


# ------------------------------------------------------------------------------------------------- scenes of one's own


def test_scenes_in_double_precision_are_used(scene):
    double = dataclasses.replace(scene, train=Views(scene.train.images.double(), scene.train.poses.double()))
    found = loaded(double, Reading())
    assert torch.equal(found.train.images, scene.train.images) and found.train.poses.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"camera": {"fx": 0.0}}, "the camera of spheres has the focal lengths 0 and"),
        ({"camera": {"cx": float("nan")}}, "and the centre nan"),
        ({"box": ((-1.0, -1.0, -1.0), (1.0, 1.0, float("inf")))}, "every largest coordinate must be above"),
        ({"label": 2}, "spheres has 0 classes, other views of 0, and the label 2"),
        ({"classes": ("a", "b"), "others": ()}, None),
        ({"others": (simulated("spheres", 16, 8, 2).train,)}, "other views of 1"),
    ],
)
def test_scenes_that_do_not_fit_themselves_are_refused(scene, changes, said):
    if "camera" in changes:
        changes = {"camera": dataclasses.replace(scene.camera, **changes["camera"])}
    odd = dataclasses.replace(scene, **changes)
    if said is None:
        assert loaded(odd, Reading()) is odd
        return
    with pytest.raises(InputError, match=said):
        loaded(odd, Reading())


# ---------------------------------------------------------------------------------------------------------------- edits


def edit(**beside):
    method = EdNeRF(**{"target_prompt": "blue cube", "steps": 2, "batch": 2, **beside.pop("settings", {})})
    given = {"field": field(), "teacher": scene_teacher(), **beside}
    return attar.distill(given.pop("data", objects()), method, engine=ENGINE, **given)


class NotTrained:
    """A folder of a field that is never read."""


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"settings": {"target_prompt": "blue cub"}, "teacher": None}, "did you mean 'blue cube'?"),
        ({"settings": {"target_prompt": " "}}, "give --target-prompt, one of red ball"),
        ({"mask": "nowhere.png"}, "nowhere.png is no mask"),
        ({"mask": 5}, "the mask is a int"),
        ({"mask": "clipseg:nowhere"}, "nowhere is no folder"),
        ({"data": simulated("spheres", 16, 6, 2), "teacher": None}, "spheres has no classes"),
    ],
)
def test_prompts_and_masks_are_looked_at_before_anything_is_trained(beside, said):
    """The field is an object that would be refused later."""
    with pytest.raises(InputError) as failed:
        edit(**{"field": NotTrained(), **beside})
    assert said in str(failed.value) and "\n" not in str(failed.value)


def test_a_field_of_another_size_is_refused():
    with pytest.raises(InputError, match="was made of pictures of 16×16, but those of objects are 32×32"):
        edit(data=simulated("objects", 32, 6, 2))


def test_a_field_of_another_scene_with_the_same_cameras_is_refused():
    """Simulated scenes share their cameras."""
    of_spheres = dataclasses.replace(field(), scene=dataclasses.replace(field().scene, name="spheres"))
    with pytest.raises(InputError, match="the field was made of spheres, not of objects"):
        edit(field=of_spheres)


def test_a_field_that_no_machine_holds_is_refused(scene, engine, monkeypatch):
    monkeypatch.setattr(latent_field, "machine_bytes", lambda: 10**9)
    with pytest.raises(InputError, match="1000×1000×1000 voxels takes 64 GB in training, but"):
        attar.train(scene, TrainLatentField(**FIELD | {"voxels": 1000}), autoencoder="identity", engine=engine)


def test_without_memory_for_matrices_rays_are_rendered_as_usual(scene, monkeypatch):
    monkeypatch.setattr(fixed, "machine_bytes", lambda: 10**6)
    dense = field().field
    rays = fixed.TrainingRays(scene.camera, scene.train.poses, 1.2, 5.2, dense, 8)
    assert rays.fixed is None
    monkeypatch.setattr(fixed, "machine_bytes", lambda: None)
    assert fixed.TrainingRays(scene.camera, scene.train.poses, 1.2, 5.2, dense, 8).fixed is not None


def test_a_folder_of_another_kind_is_told(tmp_path):
    teacher().save(tmp_path / "teacher")
    for load in (StoredScene.load, lambda path: edit(field=str(path))):
        with pytest.raises(InputError, match="holds an artefact of kind 'samplers', not 'scenes'"):
            load(tmp_path / "teacher")
    field().save(tmp_path / "field")
    with pytest.raises(InputError, match="holds an artefact of kind 'scenes', not 'samplers'"):
        StoredSampler.load(tmp_path / "field")


# --------------------------------------------------------------------------------------------------------------- scores


def test_a_field_is_measured_on_its_own_scene_alone(scene, engine):
    method = TrainLatentField(**FIELD)
    made = attar.train(scene, method, autoencoder="identity", engine=engine)
    with pytest.raises(InputError, match="the field was made of spheres, not of objects"):
        attar.evaluate(made, simulated("objects", 16, 8, 2), engine=engine, beside="skip")
    moved = attar.train(simulated("spheres", 16, 9, 2), method, autoencoder="identity", engine=engine)
    with pytest.raises(InputError, match="was made of spheres with 7 training views; spheres has 6"):
        attar.evaluate(moved, scene, engine=engine, beside="skip")


def test_names_with_spaces_and_letters_of_all_kinds(folder, tmp_path, capsys):
    place, _ = folder
    out = tmp_path / "mein Feld ß 日本"
    words = ["--steps", "2", "--voxels", "4", "--ray-samples", "4", "--device", "cpu"]
    main(["train", "latent-field", "--data", str(place), "--autoencoder", "identity", *words, "--out", str(out)])
    main(["evaluate", str(out), "--data", str(place), "--device", "cpu", "--beside", "skip"])
    assert "rgb" in capsys.readouterr().out
    shutil.rmtree(place)
    assert "which was not found. Give --data" in refused(capsys, "evaluate", out)


@pytest.fixture(scope="module")
def edits():
    """An edit of a scene, one by a teacher whose classes are others, and one of images."""
    from attar.scenes.edit import ImageEdit
    from edit_cases import digits

    scene = edit()
    plain = dataclasses.replace(scene, scores={"rms_to_source": 0.1}, origin=dataclasses.replace(scene.origin, seed=1))
    method = ImageEdit(source_prompt="3", target_prompt="8", edits=4, steps=2)
    return scene, plain, attar.distill(digits(), method, teacher=teacher(), engine=ENGINE)


def test_edits_are_compared_with_edits_of_their_form(edits, engine):
    scene, plain, images = edits
    with pytest.raises(InputError, match="give edits of scenes alone, or edits of images alone"):
        attar.evaluate([scene, images], objects(), engine=engine)
    with pytest.raises(InputError, match="give latent fields alone, or autoencoders alone"):
        attar.evaluate([field(), images], objects(), engine=engine)
    assert attar.evaluate([scene, plain], objects(), engine=engine).columns == ("distance from the source (rms)",)


@pytest.mark.parametrize("changes", [{"samples": 0}, {"factor": 0}, {"factor": 99}, {"scene": {}}, {"form": ["a"]}])
def test_descriptions_that_make_no_sense_are_refused(changes, tmp_path):
    from attar.core.artefact import ARTEFACT, write_facts

    field().save(tmp_path / "made")
    facts = json.loads((tmp_path / "made" / ARTEFACT).read_text(encoding="utf-8"))
    for name in ("kind", "schema", "facts_digest"):
        facts.pop(name)
    write_facts(tmp_path / "made", "scenes", 1, facts | changes)
    with pytest.raises(InputError, match=r"is damaged: it does not describe|is of the form") as failed:
        attar.open_artefact(tmp_path / "made")
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("form", ["transforms.json", "poses_bounds.npy"])
def test_the_command_sees_that_a_folder_is_a_scene(folder, scene, form, capsys):
    """Its pictures alone would be images of one class."""
    place, _ = folder
    if form == "poses_bounds.npy":
        (place / "transforms.json").unlink()
        np.save(place / form, rows_of(scene))
    for data in (place, place / form):
        main(["data", str(data)])
        assert capsys.readouterr().out.startswith("my views ü: 7 training and 1 held-out views, 16×16")


# --------------------------------------------------------------------------------------------------------- from Python


def called(function, *given):
    """A call whose arguments the checker of types in the tests does not look at."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function(*given)


def test_pictures_and_latents_of_another_form_are_refused():
    codec = field().autoencoder
    for images in (torch.zeros(3, 16, 16), torch.zeros(2, 1, 16, 16)):
        with pytest.raises(InputError, match="give \\[image, 3, height, width\\], between -1 and 1"):
            called(type(codec).encode, codec, images)
    with pytest.raises(InputError, match="give \\[image, 2, height, width\\]"):
        called(type(codec).decode, codec, torch.zeros(1, 3, 8, 8))


def test_poses_of_another_form_are_refused_and_double_ones_are_rendered():
    made = field()
    for poses, said in (
        (made.poses[0], "give \\[view, 3, 4\\]"),
        (made.poses.numpy(), "are of type ndarray; give a tensor"),
        (made.poses[:0], "there is no pose"),
    ):
        with pytest.raises(InputError, match=said):
            called(LatentField.render_latents, made, poses)
    torch.testing.assert_close(made.render(made.poses.double()), made.render(made.poses), rtol=0, atol=1e-5)


def test_long_prompts_are_cut_in_pictures_and_titles(edits):
    import io

    long = dataclasses.replace(edits[2], target_prompt="a very tall tree " * 50, source_prompt="x" * 500)
    assert len(str(long)) < 250 and len(long.title) < 250
    assert Image.open(io.BytesIO(long.picture())).width < 1200
