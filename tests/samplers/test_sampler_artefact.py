"""A sampler in memory and in its folder: samples, labels, levels, what is saved, and what is refused."""

import dataclasses
import json

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.samplers import artefact
from attar.samplers.artefact import Sampler, StoredSampler
from attar.samplers.sources import Source, pixels_of

QUICK = {"network": "mlp:width=16,depth=1", "steps": 8, "batch": 32, "sampling_levels": 4}


@pytest.fixture(scope="module")
def made(engine):
    return attar.train("ring", attar.EDM(**QUICK), engine=engine)


@pytest.fixture(scope="module")
def pictured(engine, digits):
    return attar.train(digits, attar.EDM(**QUICK), engine=engine)


@pytest.fixture
def folder(made, tmp_path):
    made.save(tmp_path / "ring")
    return tmp_path / "ring"


def as_student(made, **how):
    """The boundary form of a sampler, of few steps."""
    low = made.grid.ends[0]
    given = {"solver": "few-step", "steps": 2, "given": tuple(made.grid.few(2).tolist()), "floor": low}
    return dataclasses.replace(made, denoiser=made.denoiser.student(low).eval(), **{**given, **how})


# ------------------------------------------------------------------------------------------------------------- samples


def test_samples_follow_the_seed(made):
    assert torch.equal(made.sample(20, seed=3), made.sample(20, seed=3))
    assert not torch.equal(made.sample(20, seed=3), made.sample(20, seed=4))
    assert made.sample(20).shape == (20, 2) and made.sample(20).dtype == torch.float32


@pytest.mark.parametrize("form", [lambda made: made, as_student])
def test_samples_do_not_depend_on_how_many_are_made_at_once(form, made, monkeypatch):
    sampler = form(made)
    labels = sampler.labels_for(40)
    noise = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    whole = sampler.sample(40, labels, noise=noise)
    first = sampler.sample(16, labels[:16], noise=noise[:16])
    torch.testing.assert_close(whole[:16], first, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(artefact, "PORTION", 16)
    parts = sampler.sample(40, labels, noise=noise)
    torch.testing.assert_close(parts[:16], first, rtol=1e-4, atol=1e-5)


def test_churned_samples_follow_the_seed(made):
    from attar.samplers.sampling import Churn

    stirred = dataclasses.replace(made, churn=Churn(churn=20))
    assert torch.equal(stirred.sample(30, seed=1), stirred.sample(30, seed=1))
    assert not torch.equal(stirred.sample(30, seed=1), made.sample(30, seed=1))


def test_labels_are_in_the_shares_of_the_training_samples(made):
    uneven = dataclasses.replace(made, class_shares=(0.5, 0.25, 0.25, 0, 0, 0, 0, 0))
    assert torch.bincount(uneven.labels_for(40), minlength=8).tolist() == [20, 10, 10, 0, 0, 0, 0, 0]
    counts = torch.bincount(uneven.labels_for(7), minlength=8)
    assert counts.sum() == 7 and (counts - 7 * torch.tensor(uneven.class_shares)).abs().max() <= 1
    assert not torch.equal(uneven.labels_for(40), uneven.labels_for(40, seed=1))
    assert dataclasses.replace(made, classes=()).labels_for(40) is None


def test_calls_are_counted(made):
    seen = []
    made.denoiser.network.register_forward_hook(lambda *told: seen.append(1))
    try:
        made.sample(3)
        assert len(seen) == made.calls == 2 * 4 - 1
        seen.clear()
        made.sample(3, steps=9)
        assert len(seen) == made.calls_at(9) == 17
        seen.clear()
        as_student(made).sample(3)
        assert len(seen) <= 7
    finally:
        made.denoiser.network._forward_hooks.clear()
    assert as_student(made).calls == 2


def test_given_levels_hold_for_their_own_number_of_steps(made):
    student = as_student(made, given=(3.0, 0.7))
    assert student.levels().tolist() == [3.0, 0.7]
    torch.testing.assert_close(student.levels(4), made.grid.few(4))


def test_images_are_pixels(pictured):
    images = pictured.images(labels=torch.tensor([3, 3, 7]))
    assert images.shape == (3, 1, 8, 8) and images.dtype == torch.uint8
    assert torch.equal(images, pixels_of(pictured.sample(labels=torch.tensor([3, 3, 7]))))
    assert pixels_of(torch.tensor([[[[-1.2, -1.0, 0.0, 1.0, 5.0]]]])).flatten().tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "n is 0; give 1 or more, or labels."),
        ({"n": -3}, "n is -3; give 1 or more"),
        ({"n": 3, "steps": 0}, "steps is 0; give 1 or more."),
        ({"labels": torch.tensor([8])}, "labels must be class numbers below 8."),
        ({"labels": torch.tensor([-1])}, "labels must be class numbers below 8."),
        ({"labels": torch.tensor([0.5])}, "give 1 whole numbers."),
        ({"labels": torch.tensor([[1]])}, "give 1 whole numbers."),
        ({"n": 3, "labels": torch.tensor([1, 2])}, "give 3 whole numbers."),
        ({"noise": torch.zeros(3, 3)}, "noise is [3, 3]; give [3, 2]."),
        ({"n": 2, "noise": torch.zeros(3, 2)}, "noise is [3, 2]; give [2, 2]."),
    ],
)
def test_what_cannot_be_sampled_is_refused(made, given, told):
    with pytest.raises(InputError) as raised:
        made.sample(**given)
    assert told in str(raised.value)


def test_points_are_no_images(made):
    with pytest.raises(InputError, match=r"samples of ring are no images. Use sample."):
        made.images(3)


def test_labels_of_samples_without_classes_are_refused(made):
    bare = dataclasses.replace(made, classes=(), class_shares=())
    with pytest.raises(InputError, match=r"labels must be class numbers below 0"):
        bare.sample(labels=torch.tensor([0]))


# ---------------------------------------------------------------------------------------------------------- the folder


@pytest.mark.parametrize("form", [lambda made: made, as_student])
def test_what_is_saved_is_read_again(form, made, tmp_path):
    sampler = form(made)
    saved = sampler.save(tmp_path / "one")
    read = StoredSampler.load(tmp_path / "one")
    assert torch.equal(sampler.sample(30, seed=2), read.sample(30, seed=2))
    for name in ("network", "grid", "steps", "solver", "shape", "classes", "class_shares", "floor", "given", "origin"):
        assert getattr(read, name) == getattr(sampler, name), name
    assert read.denoiser.boundary == sampler.denoiser.boundary and read.bytes == sampler.bytes
    assert isinstance(attar.open_artefact(tmp_path / "one"), Sampler)
    saved.save(tmp_path / "two")
    for name in ("sampler.safetensors", "artefact.json", "README.md", "preview.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_card_names_the_levels_and_the_call(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "Noise levels: 5, " in text and "attar.open_artefact" in text and "![samples](preview.png)" in text


def test_the_same_run_gives_the_same_bytes(engine, tmp_path):
    for name in ("one", "two"):
        attar.train("ring", attar.EDM(**QUICK), engine=engine, out=tmp_path / name)
    files = [(tmp_path / name / "sampler.safetensors").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]


def test_a_network_of_ones_own_is_sampled_but_not_saved(made, tmp_path):
    own = dataclasses.replace(made, network=None)
    with pytest.raises(InputError, match=r"cannot be saved: name the network by words"):
        own.save(tmp_path / "own")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"form": "field"}, "is of the form 'field', which this version of attar does not know"),
        ({"kind": "images"}, "holds an artefact of kind 'images', not 'samplers'"),
        ({"schema": 99}, "Upgrade attar"),
        ({"steps": 5}, "was altered after it was written"),
    ],
)
def test_a_description_that_was_changed_is_refused(folder, change, told):
    facts = json.loads((folder / "artefact.json").read_text(encoding="utf-8"))
    (folder / "artefact.json").write_text(json.dumps({**facts, **change}), encoding="utf-8")
    with pytest.raises(InputError) as raised:
        StoredSampler.load(folder)
    assert told in str(raised.value)


def test_weights_that_were_swapped_truncated_or_lost_are_refused(folder, made, tmp_path):
    as_student(made).save(tmp_path / "other")
    weights = folder / "sampler.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"damaged or truncated"):
        StoredSampler.load(folder)
    weights.unlink()
    with pytest.raises(InputError, match=r"sampler.safetensors is missing"):
        StoredSampler.load(folder)


def test_a_network_that_diverged_is_not_saved(made, tmp_path):
    broken = dataclasses.replace(made, denoiser=made.denoiser.student(0.01).eval())
    with torch.no_grad():
        next(broken.denoiser.parameters()).fill_(torch.nan)
    with pytest.raises(InputError, match=r"not finite|is not written"):
        broken.save(tmp_path / "broken")


def test_what_a_page_shows(made, pictured):
    shown = made.shown()
    assert shown.size == "7 calls of a network" and shown.count == 7 and len(shown.pictures) == 1
    assert "noise levels" in shown.facts and pictured.shown().pictures
    student = dataclasses.replace(
        as_student(made), origin=dataclasses.replace(made.origin, teacher=9, teacher_calls=35)
    )
    assert "2 calls instead of 35" in str(student)
    assert student.shown().share == pytest.approx(100 * 2 / 35)


def test_latents_have_no_picture(engine):
    latents = torch.randn(60, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    source = Source.of_tensors(latents[:40], latents[40:], name="latents")
    method = attar.EDM(**QUICK)
    assert attar.train(source, method, engine=engine).picture() is None
