"""Edits of images: what they leave alone, runs that are killed, what is refused, and what is measured."""

import dataclasses

import pytest
import torch
from PIL import Image

import attar
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.scenes import judging
from attar.scenes.edit import ImageEdit, ImageWork, read_mask
from attar.scenes.edited import EditedImages
from attar.scenes.editing import rms, teacher_named, within
from edit_cases import ENGINE, digits, scene_teacher, teacher
from promises import dying

SMALL = {"source_prompt": "3", "target_prompt": "8", "edits": 6, "steps": 4}


@pytest.fixture(autouse=True)
def quick_judge(monkeypatch):
    """The classifier that measures edits learns for one epoch."""
    monkeypatch.setattr(judging, "LEARNING", dataclasses.replace(judging.LEARNING, epochs=1))
    monkeypatch.setattr(judging, "EPOCHS", 1)


def run(out=None, mask=None, *, by=None, data=None, **settings):
    method = ImageEdit(**{**SMALL, **settings})
    given = {} if mask is None else {"mask": mask}
    return attar.distill(data or digits(), method, teacher=by or teacher(), out=out, engine=ENGINE, **given)


def test_images_of_the_source_are_edited_and_the_folder_opens(tmp_path):
    made = run(tmp_path / "made")
    assert made.edited.shape == made.before.shape == (6, 1, 8, 8)
    assert torch.equal(made.before, digits().test[(digits().test.labels == 3).nonzero()[:6, 0]])
    assert not torch.equal(made.edited, made.before)
    opened = attar.open_artefact(tmp_path / "made")
    assert isinstance(opened, EditedImages)
    assert torch.equal(opened.edited, made.edited) and opened.scores == made.scores
    assert {"target_accuracy", "spread", "rms_to_source", "direction"} <= set(made.scores)
    assert (tmp_path / "made" / "preview.png").is_file()
    assert "3" in (tmp_path / "made" / "README.md").read_text(encoding="utf-8")


def test_a_run_that_was_killed_ends_in_the_same_images(tmp_path):
    whole = run(tmp_path / "whole")
    method = ImageEdit(**SMALL)
    often = dataclasses.replace(ENGINE, checkpoint_seconds=0)
    with dying(method, 3):
        attar.distill(digits(), method, teacher=teacher(), out=tmp_path / "killed", engine=often)
    again = attar.distill(digits(), method, teacher=teacher(), out=tmp_path / "killed", engine=often)
    assert torch.equal(again.edited, whole.edited)


def test_what_lies_outside_a_mask_does_not_change(tmp_path):
    mask = torch.zeros(8, 8)
    mask[:, 4:] = 1
    made = run(mask=mask)
    assert torch.equal(made.edited[..., :4], made.before[..., :4])
    assert not torch.isclose(made.edited[..., 4:], made.before[..., 4:]).all()
    Image.fromarray((mask * 255).byte().numpy()).save(tmp_path / "mask.png")
    assert torch.equal(run(mask=str(tmp_path / "mask.png")).edited, made.edited)


def test_the_same_prompt_changes_nothing():
    made = run(target_prompt="3")
    assert torch.equal(made.edited, made.before)
    assert not torch.equal(run(target_prompt="3", score="sds").edited, made.before)


def test_the_mask_of_differences_is_made(runtime):
    work = ImageWork(digits(), teacher(), "difference")
    method = ImageEdit(**SMALL, mask_percentile=75.0, mask_draws=2).resolve(work, runtime)
    mask = method.build(work, runtime).mask
    assert mask.shape == (6, 8, 8) and (mask.flatten(1).sum(dim=1) == 16).all()


def test_guidance_needs_a_teacher_that_knows_samples_without_a_label(runtime):
    assert ImageEdit(**SMALL).resolve(ImageWork(digits(), teacher()), runtime).guidance == 1
    assert run(guidance=3.0, by=teacher(0.2)).origin.settings["guidance"] == 3
    with pytest.raises(InputError, match="guidance is 3, but the teacher never saw a sample without its label"):
        run(guidance=3.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target_prompt": None}, "give --target-prompt, one of 0, 1, 2"),
        ({"source_prompt": None}, "give --source-prompt, one of 0, 1, 2"),
        ({"target_prompt": "eight"}, "unknown class of the teacher 'eight'"),
        ({"mask": torch.ones(5, 5)}, "must be 8×8 as of the latents"),
        ({"mask": torch.zeros(8, 8)}, "the mask is empty"),
        ({"mask": "nowhere.png"}, "nowhere.png is no mask"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(settings, said):
    with pytest.raises(InputError) as refused:
        run(**settings)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_teacher_of_other_samples_is_refused():
    with pytest.raises(InputError, match="Give a teacher that learned from these latents"):
        run(by=scene_teacher())


def test_prompts_without_classes_or_an_encoder_are_refused():
    nobody = dataclasses.replace(teacher(), classes=())
    with pytest.raises(InputError, match="the teacher knows neither classes nor texts"):
        run(by=nobody)


def test_samples_that_are_no_images_are_refused():
    from attar.samplers.reading import Reading

    ring = Reading(points=100).load("ring")
    with pytest.raises(InputError, match="image-edit edits labelled images"):
        run(data=ring)


def test_a_teacher_is_trained_where_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    runtime = Runtime(ENGINE, 5)
    one = teacher_named("mlp:width=8,depth=1", digits(), runtime, steps=2)
    assert one.origin.settings["label_dropout"] == 0
    other = teacher_named("mlp:width=8,depth=1", digits(), runtime, steps=2, guided=True)
    assert other.origin.settings["label_dropout"] == 0.1
    with pytest.raises(InputError, match="is no folder of a sampler"):
        teacher_named(str(tmp_path / "nothing"), digits(), runtime, steps=None)


def test_masks_are_read_from_a_folder(tmp_path):
    for name, side in (("a", 4), ("b", 4)):
        Image.new("L", (side, side), 255 if name == "b" else 0).save(tmp_path / f"{name}.png")
    assert read_mask(tmp_path).sum(dim=(1, 2)).tolist() == [0, 16]
    Image.new("L", (5, 5)).save(tmp_path / "c.png")
    with pytest.raises(InputError, match="of several sizes"):
        read_mask(tmp_path)
    (tmp_path / "d.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(InputError, match="is no picture"):
        read_mask(tmp_path / "d.png")


def test_a_mask_grows(runtime):
    mask = torch.zeros(8, 8)
    mask[3, 3] = 1
    work = ImageWork(digits(), teacher(), mask)
    method = ImageEdit(**SMALL, mask_growth=1).resolve(work, runtime)
    assert (method.build(work, runtime).mask.flatten(1).sum(dim=1) == 9).all()


def test_the_scores_of_an_edit_are_read_with_those_before(tmp_path):
    run(tmp_path / "made")
    found = attar.evaluate(tmp_path / "made", engine=ENGINE)
    columns = {cell.column: cell for cell in found.rows[0].cells}
    assert columns["target accuracy"].beside[0].label == "before the edit"
    assert columns["spread (rms)"].score.value > 0


def test_spread_and_distance():
    images = torch.tensor([[1.0, 3.0], [3.0, 3.0]]).view(2, 1, 1, 2)
    assert within(images) == pytest.approx(0.5**0.5)
    assert rms(images, images + 2) == 2
