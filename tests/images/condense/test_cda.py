import dataclasses
from itertools import pairwise

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.images.condense.cda import smallest_crop
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.trained import Auxiliary

SMALL = Architecture(width=8, norm="batch")
ENGINE = Engine(device="cpu", compile="off", quiet=True)
TEACHER = Auxiliary(architecture=SMALL, protocol=Protocol(name="brief", epochs=3))
SETTINGS = {"ipc": 2, "block_steps": 6, "teacher": TEACHER}
FALLING = ("step", "linear", "cosine")


def images(source, method):
    return attar.condense(source, method, engine=ENGINE).images


def bounds(curriculum, milestone=1.0, iterations=4000):
    method = attar.CDA(curriculum=curriculum, milestone=milestone, block_steps=iterations)
    return [method.smallest_at(iteration) for iteration in range(iterations)]


def test_no_milestone_and_the_constant_curriculum_are_sre2l_bit_for_bit(digits):
    plain = images(digits, attar.SRe2L(**SETTINGS, crop="on"))
    assert torch.equal(images(digits, attar.CDA(**SETTINGS, milestone=0.0)), plain)
    assert torch.equal(images(digits, attar.CDA(**SETTINGS, curriculum="constant")), plain)
    assert not torch.equal(images(digits, attar.CDA(**SETTINGS)), plain)


def test_a_step_at_the_end_never_crops(digits):
    never = images(digits, attar.SRe2L(**SETTINGS, crop="off"))
    assert torch.equal(images(digits, attar.CDA(**SETTINGS, curriculum="step")), never)


@pytest.mark.parametrize("milestone", [0.25, 1.0])
@pytest.mark.parametrize("curriculum", FALLING)
def test_the_bound_falls_from_one_to_the_smallest_crop(curriculum, milestone):
    found = bounds(curriculum, milestone)
    assert found[0] == 1.0
    assert all(later <= earlier for earlier, later in pairwise(found))
    assert all(bound == 0.08 for bound in found[int(milestone * 4000) :])


def test_its_values_are_those_of_the_scripts():
    at = (0, 1000, 2000, 3000, 3999)
    linear, cosine = bounds("linear"), bounds("cosine")
    assert [linear[i] for i in at] == pytest.approx([1, 0.77, 0.54, 0.31, 0.0802], abs=1e-4)
    assert [cosine[i] for i in at] == pytest.approx([1, 0.8653, 0.54, 0.2147, 0.08], abs=1e-4)
    assert linear[2000] == pytest.approx(cosine[2000])


def test_the_reverse_is_the_cosine_the_other_way_round():
    forward, back = bounds("cosine", 0.5), bounds("reverse", 0.5)
    assert back[0] == pytest.approx(0.08)
    assert all(back[i] == pytest.approx(forward[2000 - i]) for i in range(1, 2000))
    assert set(back[2000:]) == {1.0}


def test_a_smaller_least_crop_moves_the_end_only():
    assert smallest_crop("cosine", 0.0, least=0.3) == 1.0
    assert smallest_crop("cosine", 1.0, least=0.3) == pytest.approx(0.3)


def test_the_curriculum_begins_again_in_every_block(digits, runtime, monkeypatch):
    method = attar.CDA(**{**SETTINGS, "block": 5, "block_steps": 3}).resolve(digits, runtime)
    state, asked = method.build(digits, runtime), []
    real = attar.CDA.smallest_at
    monkeypatch.setattr(attar.CDA, "smallest_at", lambda self, i: asked.append(i) or real(self, i))
    for _ in range(method.total_steps):
        method.step(state, runtime)
    assert asked == [0, 1, 2] * 4


def test_published_cells_are_the_scripts():
    tiny, imagenet, larger = (
        attar.CDA.paper(name, ipc=ipc) for name, ipc in (("tiny-imagenet", 50), ("imagenet", 50), ("imagenet-21k", 20))
    )
    assert all((c.curriculum, c.milestone, c.block, c.crop) == ("cosine", 1.0, 100, "on") for c in (tiny, imagenet))
    assert (tiny.image_lr, tiny.statistics_weight, tiny.block_steps, tiny.jitter_from) == (0.4, 0.05, 4000, 0)
    assert (imagenet.image_lr, imagenet.statistics_weight, imagenet.jitter) == (0.25, 0.01, 32)
    assert (larger.image_lr, larger.statistics_weight, larger.block_steps) == (0.05, 0.25, 2000)
    assert attar.CDA.paper("cifar100", ipc=1).crop == "on"
    with pytest.raises(InputError, match="CDA has no cell of 'digits'"):
        attar.CDA.paper("digits", ipc=1)


def test_unknown_curricula_are_refused():
    with pytest.raises(InputError, match="did you mean 'cosine'"):
        dataclasses.replace(attar.CDA(), curriculum="cosin")
