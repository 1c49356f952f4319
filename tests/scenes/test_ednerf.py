"""ED-NeRF's edit of a latent field: what stays as it is, small runs of it and of its rivals, and what is refused."""

import dataclasses

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.scenes import judging
from attar.scenes.artefact import LatentField
from attar.scenes.ednerf import EditWork, EdNeRF, EdNeRFRefit, kept_loss
from edit_cases import ENGINE, field, objects, scene_teacher, teacher
from promises import dying

SMALL = {"target_prompt": "blue cube", "steps": 4, "batch": 2}


@pytest.fixture(autouse=True)
def quick_judge(monkeypatch):
    """The classifier that measures edits learns for one epoch."""
    monkeypatch.setattr(judging, "LEARNING", dataclasses.replace(judging.LEARNING, epochs=1))
    monkeypatch.setattr(judging, "EPOCHS", 1)


def run(method=None, out=None, data=None, **beside):
    given = {"field": field(), **beside}
    by = given.pop("teacher", None) or scene_teacher()
    return attar.distill(data or objects(), method or EdNeRF(**SMALL), teacher=by, out=out, engine=ENGINE, **given)


def started(method, **settings):
    runtime = Runtime(ENGINE, 0)
    work = EditWork(objects(), field(), scene_teacher(), **settings)
    method = method.resolve(work, runtime)
    return method, method.build(work, runtime), runtime


@pytest.mark.parametrize("method", [EdNeRF, EdNeRFRefit])
def test_a_field_is_edited_measured_and_opens(tmp_path, method):
    made = run(method(**SMALL), tmp_path / "made")
    assert isinstance(made, LatentField) and made.origin.method == method.name
    assert made.origin.settings["source_prompt"] == "red ball"
    before = field()
    assert not torch.equal(made.render(before.poses), before.render(before.poses))
    told = {"target_accuracy", "background", "background_before", "view_consistency", "direction"}
    assert told <= set(made.scores)
    opened = attar.open_artefact(tmp_path / "made")
    assert torch.equal(opened.render(before.poses), made.render(before.poses))
    assert opened.scores == made.scores


@pytest.mark.parametrize("method", [EdNeRF(**SMALL), EdNeRF(**SMALL, score="sds"), EdNeRFRefit(**SMALL)])
def test_a_run_that_was_killed_ends_in_the_same_field(tmp_path, method):
    whole = run(method, tmp_path / "whole")
    often = dataclasses.replace(ENGINE, checkpoint_seconds=0)
    how = {"teacher": scene_teacher(), "field": field(), "engine": often, "out": tmp_path / "killed"}
    with dying(method, 3):
        attar.distill(objects(), method, **how)
    again = attar.distill(objects(), method, **how)
    for name, tensor in whole.learned.items():
        assert torch.equal(again.learned[name], tensor)


def test_the_same_prompt_gives_no_gradient_at_the_start():
    method, state, runtime = started(EdNeRF(**{**SMALL, "target_prompt": "red ball", "batch": 4}))
    rows = torch.arange(4)
    gradient = method.gradient(
        state.before, method.source(state, rows), scene_teacher(), state.prompts, state.levels, runtime
    )
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_without_weights_nothing_is_learned():
    method, state, runtime = started(EdNeRF(**SMALL, edit_weight=0.0, keep_outside=0.0, variation_weight=0.0))
    before = [parameter.detach().clone() for parameter in state.field.parameters()]
    method.step(state, runtime)
    assert all(torch.equal(one, other) for one, other in zip(before, state.field.parameters(), strict=True))


def test_the_refinement_layer_stays_unless_it_may_learn():
    for learns in (False, True):
        method, state, runtime = started(EdNeRF(**SMALL, edit_refinement=learns))
        before = {name: tensor.clone() for name, tensor in state.refinement.state_dict().items()}
        for _ in range(2):
            method.step(state, runtime)
        same = all(torch.equal(before[name], tensor) for name, tensor in state.refinement.state_dict().items())
        assert same is not learns


def test_maps_edited_in_two_dimensions_stay_outside_the_mask():
    method, state, runtime = started(EdNeRFRefit(**SMALL))
    assert state.mask.shape == (4, 8, 8) and 0 < state.mask.mean() < 1
    for _ in range(2):
        method.step(state, runtime)
    outside = (state.mask == 0)[:, None].expand_as(state.maps)
    assert torch.equal(state.maps[outside], state.before[outside])
    assert not torch.isclose(state.maps[~outside], state.before[~outside]).all()


def test_what_is_kept_is_weighed_inside_and_outside(generator):
    rendered, refined, latents = torch.randn(3, 2, 3, 4, 4, generator=generator)
    mask = (torch.rand(2, 4, 4, generator=generator) < 0.5).float()
    error = ((rendered - latents) ** 2 + (refined - latents) ** 2).sum(dim=1)
    wanted = (0.5 * mask * error + 2 * (1 - mask) * error).mean()
    torch.testing.assert_close(kept_loss(rendered, refined, latents, mask, 0.5, 2.0), wanted)
    assert kept_loss(rendered, refined, latents, None, 0.0, 1.0) == 0


def test_keeping_draws_the_field_to_the_latents_outside_the_mask():
    method, state, runtime = started(EdNeRF(**SMALL, edit_weight=0.0, variation_weight=0.0, lr=0.1))
    losses = [float(method.step(state, runtime)["kept"]) for _ in range(60)]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


@pytest.mark.parametrize(
    ("settings", "beside", "said"),
    [
        ({"target_prompt": None}, {}, "give --target-prompt, one of red ball, red cube"),
        ({"target_prompt": "green ball"}, {}, "unknown class of the teacher 'green ball'"),
        ({}, {"teacher": teacher}, "Give a teacher that learned from these latents"),
        ({}, {"mask": torch.ones(3, 3)}, "must be 8×8 as of the latents, or 16×16 as of the pictures"),
        ({}, {"mask": torch.ones(3, 8, 8)}, "the mask is of 3 views, but there are 4"),
        ({}, {"field": "nowhere/field"}, "nowhere/field"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(settings, beside, said):
    beside = {name: value() if name == "teacher" else value for name, value in beside.items()}
    with pytest.raises(InputError) as refused:
        run(EdNeRF(**{**SMALL, **settings}), **beside)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_images_and_scenes_are_told_apart():
    from edit_cases import digits

    with pytest.raises(InputError, match="Use image-edit"):
        run(data=digits())


def test_a_field_of_other_views_is_refused():
    from attar.scenes.simulated import simulated

    with pytest.raises(InputError, match="the field was made from other views"):
        run(data=simulated("objects", 16, 5, 1))


def test_a_scene_without_classes_needs_a_teacher():
    from attar.scenes.editing import teacher_named
    from attar.scenes.simulated import simulated
    from attar.scenes.work import latents_of

    plain = latents_of(simulated("spheres", 16, 6, 2), field().autoencoder)
    with pytest.raises(InputError, match="has no classes that a teacher could learn here"):
        teacher_named(None, plain, Runtime(ENGINE, 0), steps=None)
