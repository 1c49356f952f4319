"""Edits by prompts: a text-to-image pipeline of diffusers as the teacher, with weights drawn at random."""

import dataclasses
import json
import shutil

import pytest
import torch
from PIL import Image
from torch import nn

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.scenes import judging
from attar.scenes.codecs import codec_in
from attar.scenes.direction import ByCLIP
from attar.scenes.edit import ImageEdit
from attar.scenes.editing import teacher_levels, teacher_named
from attar.scenes.ednerf import EditWork, EdNeRF, EdNeRFRefit
from attar.scenes.latent_field import TrainLatentField
from attar.scenes.reading import Reading
from attar.scenes.work import latents_of
from clip_files import save_clip, save_clipseg
from edit_cases import ENGINE, digits, field, objects
from promises import dying
from text_pipelines import save_pipeline

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

TEXTS = {"source_prompt": "a red house", "target_prompt": "a blue tree"}
SMALL = {**TEXTS, "steps": 4, "batch": 2, "mask_draws": 2}
FIELD = {"voxels": 6, "steps": 6, "batch": 2, "ray_samples": 8, "refine_width": 8}
IMAGES = {**TEXTS, "edits": 5, "steps": 3}
SIDE = 16
"""Pixels of a side of the pipeline's pictures."""


@pytest.fixture(autouse=True)
def quick_judge(monkeypatch):
    """The classifier that measures edits learns for one epoch."""
    monkeypatch.setattr(judging, "LEARNING", dataclasses.replace(judging.LEARNING, epochs=1))
    monkeypatch.setattr(judging, "EPOCHS", 1)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return save_pipeline(tmp_path_factory.mktemp("pipelines") / "sd")


@pytest.fixture(scope="module")
def made(pipeline, tmp_path_factory):
    """A field in the latents of the pipeline's own autoencoder."""
    folder = tmp_path_factory.mktemp("fields") / "made"
    method = TrainLatentField(**FIELD)
    return attar.train(objects(), method, autoencoder=str(pipeline / "vae"), out=folder, engine=ENGINE)


def run(pipeline, made, method=None, out=None, **beside):
    given = {"teacher": str(pipeline), "field": made, **beside}
    return attar.distill(objects(), method or EdNeRF(**SMALL), out=out, engine=ENGINE, **given)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The digits as pictures in files, twice as large."""
    place = tmp_path_factory.mktemp("data") / "photos"
    source = digits().images
    for name, split in (("train", source.train), ("test", source.test)):
        for label in range(10):
            (place / name / str(label)).mkdir(parents=True)
        for row in range(100):
            pixels = split.pixels[torch.tensor([row])][0, 0]
            large = pixels.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)
            Image.fromarray(as_bytes(large)).save(place / name / str(int(split.labels[row])) / f"{row:03d}.png")
    return place


def as_bytes(pixels):
    return (pixels if pixels.dtype == torch.uint8 else (pixels * 255).round().to(torch.uint8)).numpy()


def edited(pipeline, photos, out=None, **settings):
    method = ImageEdit(**{**IMAGES, **settings})
    return attar.distill(str(photos), method, teacher=str(pipeline), out=out, engine=ENGINE)


# ----------------------------------------------------------------------------------------------------------- the field


def test_a_pipeline_lends_its_autoencoder(pipeline, made):
    assert (made.autoencoder.channels, made.factor) == (4, 2)
    model = diffusers.AutoencoderKL.from_pretrained(pipeline / "vae")
    pictures = objects().train.images
    wanted = model.encode(pictures).latent_dist.mean * model.config.scaling_factor
    torch.testing.assert_close(made.autoencoder.encode(pictures), wanted)
    whole = attar.train(objects(), TrainLatentField(**FIELD), autoencoder=str(pipeline), engine=ENGINE)
    assert torch.equal(whole.field.values, made.field.values)


@pytest.mark.parametrize("method", [EdNeRF(**SMALL), EdNeRF(**SMALL, score="sds"), EdNeRFRefit(**SMALL)])
def test_a_scene_is_edited_by_texts(pipeline, made, tmp_path, method):
    found = run(pipeline, made, method, tmp_path / "edit")
    assert found.origin.settings["guidance"] == 7.5
    assert not torch.equal(found.field.values, made.field.values)
    assert {"rms_to_source", "background"} <= set(found.scores) and "target_accuracy" not in found.scores
    opened = attar.open_artefact(tmp_path / "edit")
    assert torch.equal(opened.render(made.poses), found.render(made.poses))
    assert attar.evaluate(tmp_path / "edit", engine=ENGINE, data=objects()).columns[0] == "background"


def test_a_run_that_was_killed_ends_in_the_same_field(pipeline, made, tmp_path):
    method = EdNeRF(**SMALL)
    whole = run(pipeline, made, method)
    often = dataclasses.replace(ENGINE, checkpoint_seconds=0)
    how = {"teacher": str(pipeline), "field": made, "engine": often, "out": tmp_path / "killed"}
    with dying(method, 3):
        attar.distill(objects(), method, **how)
    again = attar.distill(objects(), method, **how)
    assert torch.equal(again.field.values, whole.field.values)


def test_prompts_that_are_classes_of_the_scene_are_measured(pipeline, made):
    found = run(pipeline, made, EdNeRF(**{**SMALL, "source_prompt": None, "target_prompt": "blue cube"}))
    assert found.origin.settings["source_prompt"] == "red ball"
    assert {"target_accuracy", "direction", "view_consistency"} <= set(found.scores)


def test_the_gradient_is_that_of_the_pipeline_guided_from_the_empty_prompt(pipeline, made, generator):
    """DDS by diffusers' own network, at one step t: x_t = α z + σ_t ε in both branches."""
    step, runtime = 400, Runtime(ENGINE, 0)
    work = EditWork(
        objects(), made, teacher_named(str(pipeline), latents_of(objects(), made.autoencoder), runtime, steps=None)
    )
    method = EdNeRF(**SMALL, noise_from=step, noise_to=step).resolve(work, runtime)
    z, source = torch.randn(2, 3, 4, 8, 8, generator=generator)
    found = method.gradient(
        z, source, work.teacher, method.prompts(work.teacher, None), teacher_levels(work.teacher), runtime
    )
    whole = diffusers.StableDiffusionPipeline.from_pretrained(pipeline, safety_checker=None)
    noise = torch.randn(z.shape, generator=Runtime(ENGINE, 0).generator("noise"))
    kept = whole.scheduler.alphas_cumprod[step]

    def told(text):
        ids = whole.tokenizer(
            [text], padding="max_length", max_length=12, truncation=True, return_tensors="pt"
        ).input_ids
        return whole.text_encoder(ids)[0].expand(3, -1, -1)

    @torch.no_grad()
    def predicted(clean, text):
        x = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        free, bound = (whole.unet(x, step, told(one)).sample for one in ("", text))
        return free + 7.5 * (bound - free)

    wanted = predicted(z, "a blue tree") - predicted(source, "a red house")
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_clipseg_masks_a_scene(pipeline, made, tmp_path):
    folder = save_clipseg(tmp_path / "clipseg", ["a red house", "a blue tree"])
    found = run(pipeline, made, EdNeRF(**SMALL), mask=f"clipseg:{folder}")
    assert {"rms_to_source"} <= set(found.scores)


def test_clip_measures_an_edit(pipeline, made, tmp_path):
    clip = ByCLIP(save_clip(tmp_path / "clip", ["a red house", "a blue tree"]))
    found = run(pipeline, made)
    path = made.orbit(4)
    scores = judging.view_scores(found.render(path), made.render(path), clip, "a blue tree", "a red house")
    assert set(scores) == {"direction", "target_similarity", "source_similarity", "view_consistency"}
    assert all(-1.001 <= value <= 1.001 for value in scores.values())


# ------------------------------------------------------------------------------------------------------------- images


def test_images_are_edited_in_the_latents_of_the_pipeline(pipeline, photos, tmp_path):
    found = edited(pipeline, photos, tmp_path / "made")
    assert found.edited.shape == found.before.shape == (5, 1, 16, 16)
    assert not torch.equal(found.edited, found.before)
    assert set(found.scores) == {"spread", "spread_before", "rms_to_source"}
    assert attar.open_artefact(tmp_path / "made").scores == found.scores
    first = Reading().load(str(photos)).test[torch.arange(5)]
    model = diffusers.AutoencoderKL.from_pretrained(pipeline / "vae")
    with torch.no_grad():
        wanted = model.decode(model.encode(first.expand(-1, 3, -1, -1)).latent_dist.mean).sample.mean(
            dim=1, keepdim=True
        )
    torch.testing.assert_close(found.before, wanted, rtol=1e-4, atol=1e-5)


def test_a_prompt_that_is_a_class_chooses_its_images(pipeline, photos):
    found = edited(pipeline, photos, source_prompt="3", target_prompt="8")
    assert {"target_accuracy", "direction"} <= set(found.scores)


def test_the_same_prompt_changes_nothing(pipeline, photos):
    found = edited(pipeline, photos, target_prompt="a red house")
    assert torch.equal(found.edited, found.before)


def test_a_mask_of_pictures_holds_in_the_latents(pipeline, photos):
    mask = torch.zeros(16, 16)
    mask[:, 8:] = 1
    method = ImageEdit(**IMAGES)
    found = attar.distill(str(photos), method, teacher=str(pipeline), engine=ENGINE, mask=mask)
    assert torch.equal(found.mask, mask.expand(5, 16, 16))


def test_the_command_edits_by_texts(pipeline, photos, tmp_path, capsys):
    words = ["distill", "image-edit", "--data", str(photos), "--size", "16", "--teacher", str(pipeline)]
    words += ["--source-prompt", "a red house", "--target-prompt", "a blue tree", "--edits", "3", "--steps", "2"]
    main([*words, "--device", "cpu", "--out", str(tmp_path / "made")])
    assert "edited into a blue tree" in capsys.readouterr().out
    main(["evaluate", str(tmp_path / "made"), "--data", str(photos), "--device", "cpu"])
    assert "spread" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------- what fails


def refusal(function, *given, **how):
    with pytest.raises(InputError) as refused:
        function(*given, **how)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_field_in_other_latents_is_refused(pipeline, made, tmp_path):
    other = save_pipeline(tmp_path / "other", seed=3)
    assert "the field lives in other latents" in refusal(run, other, made)
    assert "make the field with the teacher's own autoencoder" in refusal(run, pipeline, field())


def test_pictures_of_another_size_are_refused(pipeline, photos):
    assert "read the pictures with --size 16" in refusal(
        attar.distill, str(photos), ImageEdit(**IMAGES), teacher=str(pipeline), reading=Reading(size=8), engine=ENGINE
    )


@pytest.mark.parametrize("missing", ["target_prompt", "source_prompt"])
def test_prompts_are_asked_for(pipeline, photos, missing):
    flag = missing.replace("_", "-")
    assert f"an edit needs a prompt: give --{flag}" in refusal(edited, pipeline, photos, **{missing: " "})


def test_prompts_that_are_the_same_to_the_teacher_give_no_mask(pipeline, made):
    said = refusal(run, pipeline, made, EdNeRF(**SMALL | {"target_prompt": "a red house"}), mask="difference")
    assert "the mask is empty" in said and "the teacher sees no difference between the prompts" in said


def test_an_autoencoder_of_another_class_is_refused(pipeline, tmp_path):
    other = shutil.copytree(pipeline / "vae", tmp_path / "vae")
    config = json.loads((other / "config.json").read_text(encoding="utf-8"))
    (other / "config.json").write_text(json.dumps(config | {"_class_name": "VQModel"}), encoding="utf-8")
    said = refusal(attar.train, objects(), TrainLatentField(**FIELD), autoencoder=str(other), engine=ENGINE)
    assert "holds no AutoencoderKL of diffusers: its config.json names VQModel" in said


def test_an_autoencoder_in_half_precision_is_read_in_single(pipeline, tmp_path):
    model = diffusers.AutoencoderKL.from_pretrained(pipeline / "vae")
    model.half().save_pretrained(tmp_path / "half", variant="fp16")
    codec = codec_in(tmp_path / "half")
    assert codec.encode(objects().train.images[:1]).dtype == torch.float32


def test_a_network_without_its_encoder_is_refused(pipeline, made):
    assert "has no text_encoder" in refusal(run, pipeline / "unet", made)


def test_moments_of_an_autoencoder_are_used(pipeline, made):
    import copy

    codec = copy.deepcopy(made.autoencoder)
    pictures = objects().train.images
    plain = codec.encode(pictures)
    mean, std = [0.1, 0.2, 0.3, 0.4], [2.0, 1.0, 0.5, 4.0]
    codec.model.register_to_config(latents_mean=mean, latents_std=std)
    scale = codec.scale
    wanted = scale * (plain / scale - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)
    torch.testing.assert_close(codec.encode(pictures), wanted)
    torch.testing.assert_close(codec.decode(wanted), made.autoencoder.decode(plain))
    assert isinstance(codec, nn.Module)
