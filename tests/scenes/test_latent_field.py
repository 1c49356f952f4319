"""Stage A: what it is without its parts, that refinement helps, that it can be killed, and its artefact and scores."""

import dataclasses
import io

import pytest
import torch
from PIL import Image

import attar
from attar.core.errors import InputError, Interrupted
from attar.core.runtime import Runtime
from attar.scenes.artefact import LatentField, StoredScene
from attar.scenes.codecs import Identity, OwnCodec
from attar.scenes.latent_field import TrainLatentField, map_error
from attar.scenes.reading import Reading
from attar.scenes.score import decibels, range_of, squared_error
from attar.scenes.scoring import Scoring
from attar.scenes.simulated import simulated
from attar.scenes.work import Work
from promises import files_of

SMALL = {"voxels": 8, "steps": 12, "batch": 2, "ray_samples": 12, "refine_width": 8}


@pytest.fixture(scope="module")
def scene():
    return simulated("spheres", 16, 8, 2)


def trained(scene, codec, engine, steps=None, **settings):
    """The state after some steps, and the method."""
    runtime, work = Runtime(engine, 0), Work(scene, codec)
    method = TrainLatentField(**{**SMALL, **settings}).resolve(work, runtime)
    state = method.build(work, runtime)
    told = [method.step(state, runtime) for _ in range(method.steps if steps is None else steps)]
    return state, method, runtime, told


def small_codec():
    from attar.scenes.codecs import codec_named

    return codec_named("conv:width=8,latents=2,halvings=1", torch.Generator().manual_seed(0)).requires_grad_(False)


def test_the_error_of_maps_is_a_mean_over_rays_of_squared_distances():
    one, other = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0)).unbind()
    assert float(map_error(one, other)) == pytest.approx(float((one - other).square().mean()) * 4, rel=1e-6)


def test_without_refinement_it_is_a_plain_latent_field(scene, engine):
    codec = small_codec()
    plain, method, runtime, told = trained(scene, codec, engine, refine_weight=0.0)
    assert plain.refinement is None and "refined" not in told[-1]
    made = method.result(plain, runtime)
    assert torch.equal(made.render_latents(scene.test.poses), made.render_latents(scene.test.poses, refined=False))
    # A run whose layer has not begun to learn has the same field to the last bit.
    late, *_ = trained(scene, codec, engine, refine_after=1.0)
    assert torch.equal(late.field.values, plain.field.values)
    assert late.refinement is not None and not late.refinement.leave.weight.any()


def test_the_field_learns_alone_first(scene, engine):
    *_, told = trained(scene, small_codec(), engine, refine_after=0.5)
    assert ["refined" in one for one in told] == [False] * 6 + [True] * 6


def test_with_the_identity_it_is_an_rgb_field(scene, engine):
    state, method, runtime, told = trained(
        scene, Identity(), engine, refine_weight=0.0, steps=120, voxels=16, ray_samples=24, variation_weight=0.0, lr=0.3
    )
    made = method.result(state, runtime)
    assert state.latents is not None and torch.equal(state.latents, scene.train.images)
    views = made.render(scene.train.poses)
    torch.testing.assert_close(views, made.render_latents(scene.train.poses).clamp(-1, 1))
    first = squared_error(scene.train.images.mean(dim=(0, 2, 3), keepdim=True).expand(6, 3, 16, 16), scene.train.images)
    assert squared_error(views, scene.train.images) < 0.4 * first
    assert float(told[-1]["loss"]) < 0.3 * float(told[0]["loss"])


@pytest.mark.parametrize("tensors", ["vm", "cp"])
def test_fields_of_low_rank_learn_too(scene, engine, tensors):
    how = {"steps": 100, "voxels": 12, "ray_samples": 16, "lr": 0.3, "field_rank": 6, "variation_weight": 0.0}
    *_, told = trained(scene, Identity(), engine, refine_weight=0.0, tensors=tensors, **how)
    assert float(told[-1]["alone"]) < 0.8 * float(told[0]["alone"])


def test_matrices_change_nothing_but_the_last_digits(scene, engine):
    fields = [trained(scene, small_codec(), engine, sparse_rays=fast)[0].field for fast in (True, False)]
    torch.testing.assert_close(fields[0].values, fields[1].values, rtol=0, atol=1e-3)


class Normed:
    """Latents that depend on the whole picture, as those behind a GroupNorm do."""

    def encode(self, images):
        return (images - images.mean(dim=(1, 2, 3), keepdim=True)) / images.std(dim=(1, 2, 3), keepdim=True)

    def decode(self, latents):
        return latents.clamp(-1, 1)


def test_refinement_gains_on_held_out_views(scene, engine):
    """What a usual run of a trained autoencoder gains is 6 dB of latents, in half a minute."""
    codec = OwnCodec(Normed(), scene.train.images)
    state, method, runtime, _ = trained(
        scene, codec, engine, steps=150, voxels=10, ray_samples=16, lr=0.1, batch=4, refine_lr=3e-3
    )
    made, wanted = method.result(state, runtime), Work(scene, codec).held_out
    errors = [squared_error(made.render_latents(scene.test.poses, refined=on), wanted) for on in (True, False)]
    assert decibels(errors[0], 1.0) - decibels(errors[1], 1.0) > 1.0


def test_a_killed_run_ends_in_the_same_bytes(scene, engine, tmp_path):
    method, codec = TrainLatentField(**SMALL), small_codec()
    whole = attar.train(scene, method, autoencoder=codec, out=tmp_path / "whole", engine=engine)
    often = dataclasses.replace(engine, checkpoint_seconds=0)
    stopping = StopsAt(**SMALL)
    with pytest.raises(Interrupted):
        attar.train(scene, stopping, autoencoder=codec, out=tmp_path / "cut", engine=often)
    again = attar.train(scene, method, autoencoder=codec, out=tmp_path / "cut", engine=engine)
    assert torch.equal(again.field.values, whole.field.values)
    found = [
        {name: data for name, data in files_of(tmp_path / one).items() if "run/" not in name}
        for one in ("cut", "whole")
    ]
    assert found[0] == found[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StopsAt(TrainLatentField):
    """A run that is killed after its seventh step."""

    def step(self, state, runtime):
        if state.done == 7:
            raise Interrupted("killed")
        return super().step(state, runtime)


@pytest.fixture(scope="module")
def made(scene, engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("field") / "made"
    return attar.train(scene, TrainLatentField(**SMALL), autoencoder=small_codec(), out=folder, engine=engine)


def test_an_artefact_opens_alone(scene, made):
    other = attar.open_artefact(made.folder)
    assert isinstance(other, LatentField) and other.scene.camera == scene.camera
    assert torch.equal(other.poses, scene.train.poses) and torch.equal(other.scene.held_out, scene.test.poses)
    assert torch.equal(other.render(scene.test.poses), made.render(scene.test.poses))
    assert other.render_latents(scene.test.poses).shape == (2, 2, 8, 8) and other.camera.width == 8
    assert other.novel(3).shape == (3, 3, 16, 16) and other.images(scene.test.poses).dtype == torch.uint8
    assert {"latent-field.safetensors", "artefact.json"} <= set(StoredScene.files_in(made.folder))


def test_its_preview_moves(made):
    with Image.open(io.BytesIO(made.moving())) as moving:
        assert moving.format == "PNG" and moving.n_frames == 24
    shown = made.shown()
    assert [picture.label for picture in shown.pictures] == ["a path around the scene", ""]
    assert "voxels" in shown.size and (made.folder / "preview.png").exists()


def test_copies_learn_and_the_artefact_stays(made):
    field, layer = made.thawed()
    assert all(one.requires_grad for one in field.parameters()) and layer is not None
    with torch.no_grad():
        field.values.add_(1)
    assert not torch.equal(field.values, made.field.values) and not made.field.values.requires_grad


def test_poses_that_are_none_are_refused(scene, made):
    for poses, sentence in (
        (scene.test.poses * 2, "no rotation"),
        (scene.test.poses * float("inf"), "infinite or not numbers"),
    ):
        with pytest.raises(InputError, match=sentence):
            made.render_latents(poses)
    with pytest.raises(InputError, match="count is 0; give 1 or more"):
        made.novel(0)


def test_scores_have_their_rivals(scene, made, engine, tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    found = attar.evaluate(made, scene, engine=engine)
    assert found.columns == ("rgb", "latents", "rgb, field alone", "latents, field alone")
    rgb, latents = found.networks[:2]
    held_out = Work(scene, made.autoencoder).held_out
    error = squared_error(made.render_latents(scene.test.poses), held_out)
    assert latents.score.value == pytest.approx(decibels(error, range_of(held_out)))
    assert latents.further["mean squared error"].score.value == pytest.approx(error)
    assert [one.label for one in rgb.beside] == ["the autoencoder alone", "a plain latent field"]
    assert [one.label for one in latents.beside] == ["a plain latent field"]
    assert "peak 2" in rgb.note
    Scoring().remember([made], found)
    assert (made.folder / "evaluation" / "held-out.png").exists() and "evaluation/held-out.png" in (
        made.folder / "README.md"
    ).read_text(encoding="utf-8")


def test_scores_refuse_what_does_not_fit(scene, made, engine):
    for other, sentence in (
        (simulated("spheres", 16, 8, 0), "no held-out view"),
        (simulated("spheres", 32, 8, 2), "the field was made of"),
    ):
        with pytest.raises(InputError, match=sentence):
            attar.evaluate(made, other, engine=engine)


def test_a_field_needs_pictures_that_fit_its_autoencoder(engine):
    scene = simulated("spheres", 18, 6, 2)
    codec = small_codec()
    codec.factor = 4
    with pytest.raises(InputError, match="Give --size"):
        attar.train(scene, TrainLatentField(**SMALL), autoencoder=codec, engine=engine)


def test_a_simulated_scene_is_found_again_by_its_name(engine, tmp_path):
    how = {"reading": Reading(size=16), "engine": engine}
    made = attar.train("objects", TrainLatentField(**SMALL), autoencoder="identity", out=tmp_path / "made", **how)
    assert attar.evaluate(made, engine=engine, beside="skip").columns[0] == "rgb"
