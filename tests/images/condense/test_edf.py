import dataclasses

import pytest
import torch

import attar
from attar.core.runtime import Engine, Runtime
from attar.images.condense.edf import pixel_weights
from attar.images.experts import Experts
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS
from attar.images.trained import Auxiliary, trained
from images.helpers import save_classifier

ENGINE = Engine(device="cpu", compile="off", quiet=True)
BRIEF = {
    "ipc": 2,
    "steps": 3,
    "student_steps": 3,
    "last_start": 2,
    "architecture": Architecture(width=8),
    "experts": Experts(experts=1),
    "refresh": 2,
    "observer": Auxiliary(
        architecture=Architecture(norm="batch"), protocol=dataclasses.replace(PROTOCOLS["ceiling"], epochs=2)
    ),
}


def condensed(source, **settings):
    return attar.condense(source, attar.EDF(**{**BRIEF, **settings}), engine=ENGINE)


def test_weights_are_one_below_the_mean_and_emphasis_plus_map_above():
    maps = torch.rand(6, 5, 5, generator=torch.Generator().manual_seed(0))
    found = pixel_weights(maps, 2.0)
    for image, weights in zip(maps, found, strict=True):
        below = image < image.mean()
        assert (weights[below] == 1).all()
        assert torch.equal(weights[~below], 2 + image[~below])
    assert (pixel_weights(maps, 1.0) >= 1).all()
    assert (pixel_weights(maps, 1.0, threshold=0.9) > 1).float().mean() < 0.2


def test_a_map_that_is_the_same_everywhere_only_scales_the_step_size():
    flat = torch.zeros(2, 4, 4)
    assert torch.equal(pixel_weights(flat, 1.0), torch.ones(2, 4, 4))
    assert torch.equal(pixel_weights(flat, 2.0), torch.full((2, 4, 4), 2.0))


def test_a_constant_map_and_no_dropout_are_datm(few_digits, monkeypatch):
    monkeypatch.setattr(
        "attar.images.condense.edf.grad_cam", lambda network, images, classes: torch.zeros(len(images), 2, 2)
    )
    edf = condensed(few_digits, parameter_dropout=0.0)
    datm = attar.condense(
        few_digits, attar.DATM(**{k: v for k, v in BRIEF.items() if k not in ("refresh", "observer")}), engine=ENGINE
    )
    assert torch.equal(edf.images, datm.images)


def test_gradients_are_larger_where_the_observer_looks(few_digits):
    runtime = Runtime(ENGINE)
    method = attar.EDF(**BRIEF, parameter_dropout=0.0).resolve(few_digits, runtime)
    state = method.build(few_digits, runtime)
    method.prepare(state, runtime)
    weights = state.extra["weights"]
    looked = weights > 1
    assert looked.any() and (~looked).any()
    energy = torch.rand_like(weights)
    share = [(e[looked].sum() / e.sum()).item() for e in (energy, energy * weights)]
    assert share[1] > share[0]


def test_maps_are_made_anew_at_the_asked_steps_only(few_digits, monkeypatch):
    from attar.images.condense import edf

    seen, real = [], edf.grad_cam
    monkeypatch.setattr(edf, "grad_cam", lambda *given: seen.append(1) or real(*given))
    condensed(few_digits, steps=5)
    assert len(seen) % 3 == 0 and seen  # at steps 0, 2 and 4, as often as the images are cut into parts


@pytest.mark.parametrize("change", [{"maps": "smooth"}, {"map_class": "label"}, {"threshold": 0.5}, {"emphasis": 2.0}])
def test_every_choice_runs_and_matters(change, few_digits):
    assert not torch.equal(condensed(few_digits, **change).images, condensed(few_digits).images)


def test_dropout_is_off_at_one_image_per_class(few_digits, runtime):
    usual = [attar.EDF(ipc=ipc).resolve(few_digits, runtime).parameter_dropout for ipc in (1, 10)]
    assert usual == [0.0, 0.25]


def test_an_observer_of_other_classes_is_refused(few_digits, shapes, tmp_path):
    other = trained(
        shapes, Architecture(width=8, norm="batch").resolve(shapes.shape), Runtime(ENGINE), PROTOCOLS["ceiling"]
    )
    other.save(tmp_path)
    with pytest.raises(attar.InputError, match=r"was trained on 3 classes of \(3, 16, 16\)"):
        condensed(few_digits, observer=Auxiliary(folder=str(tmp_path)))


def test_an_observer_may_be_a_classifier_of_transformers(few_digits, tmp_path):
    save_classifier(tmp_path, classes=10)
    observer = Auxiliary(folder=f"transformers:{tmp_path}")
    first, again = (condensed(few_digits, observer=observer).images for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, condensed(few_digits).images)
    smooth = condensed(few_digits, observer=observer, maps="smooth").images
    assert torch.isfinite(smooth).all() and not torch.equal(smooth, first)


def test_a_wide_crop_reaches_experts_and_students(few_digits):
    usual, wide = (condensed(few_digits, augmentation=text) for text in ("crop", "crop=0.5"))
    assert not torch.equal(usual.images, wide.images)
    assert wide.origin.settings["augmentation"] == "crop=0.5"
