import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.seeds import uniform
from attar.images.condense.recover import (
    UNIFORMS,
    Watch,
    mean_length,
    resampling,
    seen_through,
    statistics_gaps,
    total_variation,
    view_from,
)
from attar.images.networks.architecture import Architecture, norms_of
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.score import train_and_test
from attar.images.trained import Auxiliary, trained

SMALL = Architecture(width=8, norm="batch")
BRIEF = Protocol(name="brief", epochs=10, batch=64, lr=0.1, augmented=False)
"""Ten epochs after which a teacher is right about 97 of 100 digits."""
TEACHER = Auxiliary(architecture=SMALL, protocol=BRIEF)
ENGINE = Engine(device="cpu", compile="off", quiet=True)


def sre2l(**settings):
    return attar.SRe2L(**{"ipc": 2, "block_steps": 5, "teacher": TEACHER, **settings})


def recovering(method, source, runtime):
    """A method, resolved, and its state before the first step."""
    method = method.resolve(source, runtime)
    return method, method.build(source, runtime)


@pytest.fixture
def seen(generator):
    """What a layer of three channels sees."""
    return 2 + 3 * torch.randn(6, 3, 5, 4, generator=generator, dtype=torch.float64)


# What batch norm remembers.


def test_the_gaps_are_those_of_the_definition(seen, generator):
    mean, variance = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    of_variance, of_mean = statistics_gaps(seen, mean, variance)
    flat = seen.transpose(0, 1).flatten(1)
    torch.testing.assert_close(
        of_variance[0], (flat.var(dim=1, unbiased=False) - variance).norm().double(), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(of_mean[0], (flat.mean(dim=1) - mean).norm().double(), rtol=1e-5, atol=0)


def test_after_one_training_pass_only_bessels_correction_is_left(seen):
    layer = nn.BatchNorm2d(3, momentum=1.0).double()
    layer(seen)
    count = seen.numel() // 3
    of_variance, of_mean = statistics_gaps(seen, layer.running_mean, layer.running_var)
    biased = seen.transpose(0, 1).flatten(1).var(dim=1, unbiased=False)
    assert float(of_mean) == pytest.approx(0, abs=1e-5)
    assert float(of_variance) == pytest.approx(float(biased.norm()) / (count - 1), rel=1e-3)
    of_variance, _ = statistics_gaps(seen, layer.running_mean, biased)
    assert float(of_variance) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_their_gradient_is_that_of_autograd(layout, generator):
    seen = torch.randn(6, 3, 5, 4, generator=generator).to(memory_format=layout).requires_grad_()
    mean, variance = torch.randn(2, 3, generator=generator)
    ours = torch.autograd.grad(sum(gap.sum() for gap in statistics_gaps(seen, mean, variance, groups=2)), seen)[0]
    plain = sum(
        (part.var(dim=(0, 2, 3), unbiased=False) - variance).norm() + (part.mean(dim=(0, 2, 3)) - mean).norm()
        for part in seen.chunk(2)
    )
    torch.testing.assert_close(ours, torch.autograd.grad(plain, seen)[0], rtol=1e-4, atol=1e-6)


def test_large_means_cancel_nothing():
    seen = 1e4 + torch.randn(64, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    mean = seen.mean(dim=(0, 2, 3))
    of_variance, _ = statistics_gaps(seen, mean, torch.zeros(2))
    assert float(of_variance) == pytest.approx(float(seen.double().var(dim=(0, 2, 3), unbiased=False).norm()), rel=1e-3)


def test_groups_are_watched_apart_and_the_first_layer_counts_more(generator):
    network = SMALL.build((1, 8, 8), 10, generator).eval()
    images = torch.randn(8, 1, 8, 8, generator=generator)
    once, weighted = Watch(network), Watch(network, first=10.0)
    once.groups = weighted.groups = 2
    network(images)
    apart = once.taken()
    assert apart.shape == (2,)
    first = network.blocks[0][0](images).unflatten(0, (2, -1))
    gaps = (first.var(dim=(1, 3, 4), unbiased=False) - 1).norm(dim=1) + first.mean(dim=(1, 3, 4)).norm(dim=1)
    torch.testing.assert_close(weighted.taken() - apart, 9 * gaps, rtol=1e-4, atol=1e-5)
    once.groups = weighted.groups = 1
    for number, half in enumerate(images.chunk(2)):
        network(half)
        weighted.taken()
        torch.testing.assert_close(once.taken()[0], apart[number])


@pytest.mark.parametrize("scale", ["channel", "layer"])
def test_a_scaled_term_does_not_grow_with_the_network(scale):
    sizes = []
    for width in (8, 128):
        network = Architecture(width=width, norm="batch").build((1, 8, 8), 10, torch.Generator().manual_seed(0)).eval()
        watch = Watch(network, scale=scale, first=10.0)
        with torch.no_grad():
            network(torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
        sizes.append(float(watch.taken()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.3)


# Views.


def view(draw, size=(8, 8), **settings):
    """The two matrices of a view."""
    found = view_from(uniform(0, f"draw {draw}", UNIFORMS), size, **{"smallest": 0.08, **settings})
    return found.matrices(size)


def through(images, found):
    return seen_through(images, *(matrix.unsqueeze(0) for matrix in found))


@pytest.mark.parametrize("start, stop", [(0, 8), (2, 7), (3, 4), (0, 1)])
def test_resampling_is_interpolation_of_the_piece(start, stop, generator):
    line = torch.randn(8, generator=generator)
    wanted = F.interpolate(line[None, None, start:stop], size=8, mode="linear", align_corners=False)[0, 0]
    torch.testing.assert_close(resampling(8, start, stop) @ line, wanted)


def test_the_whole_image_is_the_identity():
    for size in ((8, 8), (4, 8)):
        rows, columns = view(0, size=size, smallest=1.0, flips=False)
        assert torch.equal(rows, torch.eye(size[0]))
        assert torch.equal(columns, torch.eye(size[1]))


def test_a_view_is_a_crop_then_a_flip_then_a_roll(generator):
    images = torch.randn(2, 3, 8, 8, generator=generator)
    plain, whole = view(3, flips=False), view(3, jitter=(1, 3))
    cropped, rolled = through(images, plain), through(images, whole)
    candidates = [
        flipped.roll((down, right), dims=(2, 3))
        for flipped in (cropped, cropped.flip(3))
        for down in (1, 2, 3)
        for right in (1, 2, 3)
    ]
    assert any(torch.allclose(rolled, candidate, atol=1e-5) for candidate in candidates)


def test_half_of_the_views_are_mirrored_and_every_shift_occurs():
    eye, shifts, mirrored = torch.eye(8), set(), 0
    for draw in range(200):
        rows, columns = view(draw, smallest=1.0, jitter=(-1, 1))
        shifts.add(next(s for s in (-1, 0, 1) if torch.equal(rows, eye.roll(s, dims=0))))
        mirrored += any(torch.equal(columns, eye.flip(0).roll(s, dims=0)) for s in (-1, 0, 1))
    assert shifts == {-1, 0, 1}
    assert 80 < mirrored < 120


def test_no_gradient_reaches_pixels_outside_the_crop():
    found = view_from(uniform(0, "a", UNIFORMS), (8, 8), smallest=0.08, flips=False)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[found.top : found.bottom, found.left : found.right] = True
    assert not inside.all()
    images = torch.randn(2, 1, 8, 8).requires_grad_()
    through(images, found.matrices((8, 8))).square().sum().backward()
    assert torch.equal(images.grad != 0, inside.expand(2, 1, 8, 8))


def test_crops_have_the_mean_area_that_was_simulated():
    areas = []
    for draw in range(1000):
        found = view_from(uniform(1, str(draw), UNIFORMS), (64, 64), smallest=0.54)
        areas.append((found.bottom - found.top) * (found.right - found.left) / 64**2)
    assert sum(areas) / len(areas) == pytest.approx(0.71, abs=0.02)


# Priors.


def test_total_variation_is_zero_on_flat_images_and_counts_four_directions():
    assert float(total_variation(torch.full((2, 3, 4, 4), 0.7))) == 0
    step = torch.zeros(1, 1, 2, 2)
    step[..., 1] = 1.0
    assert float(total_variation(step)) == pytest.approx(2**0.5 + 0 + 1 + 1)
    assert float(mean_length(torch.ones(5, 1, 2, 2))) == pytest.approx(2.0)


# Recovering.


def test_without_the_term_and_without_views_cross_entropy_falls_to_nothing(digits, runtime):
    settings = {"statistics_weight": 0.0, "jitter": 0, "crop": "off", "block_steps": 60, "ipc": 1}
    method, state = recovering(sre2l(**settings), digits, runtime)
    losses = [float(method.step(state, runtime)["cross_entropy"]) for _ in range(60)]
    assert losses[-1] < 0.01
    assert sum(losses[:20]) > sum(losses[20:40]) > sum(losses[40:])


def test_images_stay_in_range_and_are_cut_off_to_bytes(digits, runtime):
    method, state = recovering(sre2l(image_lr=5.0, ipc=1), digits, runtime)
    for _ in range(4):
        method.step(state, runtime)
    unit = digits.transform.inverse(state.images.detach())
    assert -1e-6 <= float(unit.min()) < 0.01
    assert 0.99 < float(unit.max()) <= 1 + 1e-6
    cut = method.result(state, runtime).images
    nearest = dataclasses.replace(method, rounding="nearest").result(state, runtime).images
    assert cut.dtype == torch.uint8
    assert torch.equal(cut, (unit.clamp(0, 1) * 255).floor().byte())
    assert torch.equal(nearest, (unit.clamp(0, 1) * 255).round().byte())
    assert not torch.equal(cut, nearest)


def test_the_step_size_falls_by_a_cosine_and_adam_forgets_between_blocks(digits, runtime):
    method, state = recovering(sre2l(block=5, block_steps=4, image_lr=0.2), digits, runtime)
    rates, ages = [], []
    for _ in range(8):
        method.step(state, runtime)
        rates.append(state.optimizer.param_groups[0]["lr"])
        ages.append(int(state.optimizer.state[state.images]["step"]))
    assert rates[:4] == rates[4:] == pytest.approx([0.2, 0.2 * 0.5 * (1 + 2**-0.5), 0.1, 0.2 * 0.5 * (1 - 2**-0.5)])
    assert ages == [1, 2, 3, 4, 1, 2, 3, 4]


def test_blocks_hold_different_classes_and_fill_the_set(digits, runtime):
    method = sre2l(ipc=(3, 1, 2, 2, 2, 2, 2, 2, 2, 4), block=4).resolve(digits, runtime)
    blocks = [block for group in method.plan for block in group]
    labels = attar.condense(digits, dataclasses.replace(method, block_steps=1), engine=ENGINE).labels
    assert [len(block.rows) for block in blocks] == [4, 4, 2, 4, 4, 1, 2, 1]
    assert sorted(torch.cat([block.rows for block in blocks]).tolist()) == list(range(22))
    assert all(len(labels[block.rows].unique()) == len(block.rows) for block in blocks)
    assert method.total_steps == 8 * 5


def test_blocks_side_by_side_become_what_they_become_alone(digits, runtime):
    alone, together = (
        attar.condense(
            digits, sre2l(ipc=3, block=5, crop="on", rounding="nearest", blocks_at_once=count), engine=ENGINE
        )
        for count in (1, 4)
    )
    gap = (alone.images.int() - together.images.int()).abs()
    assert int(gap.max()) <= 1
    assert float((gap > 0).float().mean()) < 0.01


def test_the_teacher_is_not_changed_and_goes_along(digits, runtime):
    before = {name: value.clone() for name, value in teacher_of(digits, runtime).network.state_dict().items()}
    small = attar.condense(digits, sre2l(), engine=ENGINE)
    for name, value in small.teacher.network.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(module._forward_pre_hooks for module in small.teacher.network.modules())
    assert attar.condense(digits, sre2l(labels="hard"), engine=ENGINE).teacher is None


def teacher_of(digits, runtime):
    return trained(digits, SMALL.resolve(digits.shape), runtime, BRIEF)


def test_the_statistics_term_brings_statistics_nearer(digits, runtime):
    ends = []
    for weight in (0.0, 1.0):
        method, state = recovering(sre2l(statistics_weight=weight, block_steps=40, ipc=1), digits, runtime)
        gaps = [float(method.step(state, runtime.with_seed(0))["statistics"]) for _ in range(40)]
        ends.append(sum(gaps[-5:]) / 5)
    assert ends[1] < 0.7 * ends[0]


def test_real_images_are_a_start(digits, runtime):
    method, state = recovering(sre2l(start="real", ipc=1), digits, runtime)
    method._begin(state.plan[0], state, runtime)
    rows = state.starts
    assert torch.equal(digits.targets[rows], torch.arange(10))
    assert torch.equal(state.images.detach(), digits.inputs(rows))


def test_the_loss_has_its_priors(digits, runtime):
    values = {}
    for weights in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        method = sre2l(variation_weight=weights[0], length_weight=weights[1], jitter=0, crop="off")
        method, state = recovering(method, digits, runtime.with_seed(0))
        values[weights] = float(method.step(state, runtime.with_seed(0))["loss"])
    start = torch.randn(10, 1, 8, 8, generator=runtime.with_seed(0).generator("start"))
    assert values[1.0, 0.0] - values[0.0, 0.0] == pytest.approx(float(total_variation(start)), rel=1e-4)
    assert values[0.0, 1.0] - values[0.0, 0.0] == pytest.approx(float(mean_length(start)), rel=1e-4)


def test_students_learn_from_the_teacher(digits):
    small = attar.condense(digits, sre2l(), engine=ENGINE)
    how = dataclasses.replace(PROTOCOLS["rded"], epochs=2, augmentation="crop")
    assert len(train_and_test(small, digits, SMALL, how, 1, Runtime(ENGINE, 0))) == 1


# Teachers of one's own, presets, refusals.


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory):
    """A tiny ResNet of transformers with ten classes, saved as its library saves it."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = tmp_path_factory.mktemp("resnet")
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic", "num_labels": 10}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes)).save_pretrained(folder)
    return str(folder)


def test_a_classifier_of_transformers_is_a_teacher(resnet_folder, shapes, digits):
    settings = {
        "teacher": Auxiliary(folder=f"transformers:{resnet_folder}"),
        "labels": "hard",
        "ipc": 1,
        "block_steps": 2,
    }
    small = attar.condense(digits, sre2l(**settings), engine=ENGINE)
    assert small.images.shape == (10, 1, 8, 8)
    assert small.teacher is None
    with pytest.raises(InputError, match="has 10 classes, but arrays has 3"):
        attar.condense(shapes, sre2l(**settings), engine=ENGINE)
    with pytest.raises(InputError, match="cannot be saved with a set, because it is not one of attar's networks"):
        attar.condense(digits, sre2l(**{**settings, "labels": "teacher"}), engine=ENGINE)


@pytest.mark.parametrize(
    "settings, mirrored",
    [({}, False), ({"crop": "on"}, True), ({"mirror": "on"}, True), ({"crop": "on", "mirror": "off"}, False)],
)
def test_views_of_whole_images_are_only_rolled(settings, mirrored, shapes, runtime):
    """As in the script for CIFAR: the roll alone."""
    method = sre2l(jitter=3, smallest_crop=1.0, **settings).resolve(shapes, runtime)
    state = method.build(shapes, runtime)
    seen = [method._view(block, step, state, runtime)[1] for block in range(4) for step in range(10)]
    rolls = [torch.eye(16).roll(shift, dims=0) for shift in range(4)]
    plain = [any(torch.equal(columns, roll) for roll in rolls) for columns in seen]
    assert all(plain) is (not mirrored)
    assert method.mirror == ("on" if mirrored else "off")


def test_digits_are_never_mirrored(digits, runtime):
    assert sre2l(crop="on").resolve(digits, runtime).mirror == "off"


def test_a_teacher_is_read_from_its_folder(digits, runtime, tmp_path):
    teacher_of(digits, runtime).save(tmp_path)
    own = attar.condense(digits, sre2l(teacher=Auxiliary(folder=str(tmp_path))), engine=ENGINE)
    assert torch.equal(own.images, attar.condense(digits, sre2l(), engine=ENGINE).images)


@pytest.mark.parametrize("architecture", [Architecture(width=8), Architecture(network="mlp")])
def test_a_teacher_without_batch_norm_is_refused_before_it_is_trained(architecture, digits, monkeypatch):
    monkeypatch.setattr("attar.images.trained.found_or_trained", lambda *a: pytest.fail("trained"))
    with pytest.raises(InputError) as refusal:
        attar.condense(digits, sre2l(teacher=dataclasses.replace(TEACHER, architecture=architecture)), engine=ENGINE)
    assert str(refusal.value) == (
        "the teacher has no batch norm, but images are recovered from batch-norm statistics; choose a teacher with "
        "batch norm (--teacher.norm batch), or a method that does not need it, such as dm."
    )


def test_what_does_not_fit_is_refused(digits, runtime):
    with pytest.raises(InputError, match=r"jitter is 1; it must be at least jitter_from, 2\."):
        attar.condense(digits, sre2l(jitter=1, jitter_from=2), engine=ENGINE)
    with pytest.raises(InputError, match="sre2l clips pixels to their range, but these data are whitened"):
        attar.condense(digits.whitened(), sre2l(), engine=ENGINE)


def test_published_cells_are_the_scripts():
    tiny, cifar, imagenet = (attar.SRe2L.paper(name, ipc=50) for name in ("tiny-imagenet", "cifar100", "imagenet"))
    assert (tiny.image_lr, tiny.statistics_weight, tiny.block_steps, tiny.jitter_from, tiny.jitter) == (
        0.1,
        1.0,
        4000,
        -4,
        4,
    )
    assert (cifar.image_lr, cifar.statistics_weight, cifar.block_steps, cifar.crop) == (0.25, 0.01, 1000, "off")
    assert (imagenet.block, imagenet.first_weight, imagenet.jitter, imagenet.smallest_crop) == (100, 10.0, 32, 0.08)
    assert all(cell.teacher.architecture.norm == "batch" for cell in (tiny, cifar, imagenet))
    assert [cell.mirror for cell in (tiny, cifar, imagenet)] == ["on", "off", "on"]
    with pytest.raises(InputError, match="SRe2L has no cell of 'mnist'"):
        attar.SRe2L.paper("mnist", ipc=1)


def test_only_norms_that_remember_count():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False), nn.GroupNorm(1, 2))
    assert norms_of(network) == [network[0]]
