import json

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.images import layout
from attar.images.condense.distribution import class_counts, squared_distance
from attar.images.networks.architecture import Architecture
from matching_reference import ENGINE, begin, mmd_by_class

NARROW = Architecture(width=8)
BATCH_NORM = Architecture(width=8, norm="batch")


def dm(**settings):
    return attar.DM(**{"ipc": 2, "steps": 3, "real_batch": 6, "architecture": NARROW, **settings})


# The loss.


@pytest.mark.parametrize("norm", ["instance", "none", "layer"])
def test_all_classes_at_once_give_the_loss_of_one_class_after_another(norm, shapes):
    run = begin(dm(architecture=Architecture(width=8, norm=norm)), shapes)
    expected = mmd_by_class(run)
    assert run.step()["loss"].item() == pytest.approx(expected, rel=2e-6)


def test_with_batch_norm_the_classes_share_their_statistics(shapes):
    run = begin(dm(architecture=BATCH_NORM), shapes)
    apart = mmd_by_class(run)
    (_, real, labels), (_, synthetic, of) = run.features([0, 1, 2])
    means = [torch.stack([x[y == c].mean(dim=0) for c in range(3)]) for x, y in ((real, labels), (synthetic, of))]
    together = float((means[0] - means[1]).square().sum())
    assert run.step()["loss"].item() == pytest.approx(together, rel=1e-5)
    assert abs(apart - together) > 0.01 * together


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_real_images_as_synthetic_ones_have_no_loss_and_no_gradient(norm, shapes):
    run = begin(dm(ipc=6, architecture=Architecture(width=8, norm=norm)), shapes)
    run.state.images.data.copy_(shapes.inputs(run.rows))
    assert run.step()["loss"] == 0
    assert run.state.images.grad.abs().max() == 0


def test_without_siamese_draws_the_same_images_have_a_loss(shapes):
    run = begin(dm(ipc=6, siamese=False), shapes)
    run.state.images.data.copy_(shapes.inputs(run.rows))
    assert run.step()["loss"] > 0


def test_the_distance_is_summed_over_classes_and_features():
    first, second = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    assert squared_distance(first, second) == 1 + 4 + 9
    assert attar.DM().terms([first], [second]) == {"loss": 14}


def test_a_class_smaller_than_the_batch_is_averaged_over_what_it_has(shapes):
    fewer = shapes.without(shapes.rows_of[1][:17])
    run = begin(dm(real_batch=6), fewer)
    assert len(run.rows) == 6 + 3 + 6
    assert run.step()["loss"].item() == pytest.approx(mmd_by_class(begin(dm(real_batch=6), fewer)), rel=1e-5)
    assert class_counts(fewer.targets[run.rows], 3).tolist() == [6, 3, 6]


@pytest.mark.parametrize("at_once", [1, 4, 7])
def test_the_loss_and_its_gradient_do_not_depend_on_how_many_images_go_at_once(at_once, shapes, monkeypatch):
    whole = begin(dm(ipc=3), shapes)
    monkeypatch.setattr(layout, "at_once", lambda *a: at_once)
    parts = begin(dm(ipc=3), shapes)
    assert (whole.state.at_once, parts.state.at_once) == (64, at_once)
    assert parts.step()["loss"].item() == pytest.approx(whole.step()["loss"].item(), rel=1e-5)
    torch.testing.assert_close(parts.state.images.grad, whole.state.images.grad, rtol=1e-4, atol=1e-6)


def test_a_network_that_mixes_images_sees_them_all_together(shapes, monkeypatch):
    whole = begin(dm(architecture=BATCH_NORM), shapes).step()["loss"]
    monkeypatch.setattr(layout, "at_once", lambda *a: 2)
    assert begin(dm(architecture=BATCH_NORM), shapes).step()["loss"] == whole


# The gradient.


def with_embedding(run, embed):
    """Look at images in another way than through the network."""
    run.state.views = run.state.real_views = lambda batch: [embed(batch.flatten(1))]
    return run


def test_each_synthetic_embedding_is_pulled_alike_toward_the_real_mean(shapes):
    run = begin(dm(ipc=4), shapes)
    seen = {}
    run.state.at_once = 1000
    views, real_views = run.state.views, run.state.real_views

    def watched(batch):
        seen["synthetic"] = views(batch)[0]
        seen["synthetic"].retain_grad()
        return [seen["synthetic"]]

    def watched_too(batch):
        seen["real"] = real_views(batch)[0]
        return [seen["real"]]

    run.state.views, run.state.real_views = watched, watched_too
    run.step()
    for label in range(3):
        mine = run.state.labels == label
        gap = seen["real"][shapes.targets[run.rows] == label].mean(dim=0) - seen["synthetic"][mine].mean(dim=0)
        wanted = (-2 / 4 * gap.detach()).expand(4, -1)
        torch.testing.assert_close(seen["synthetic"].grad[mine], wanted, rtol=1e-4, atol=1e-6)


def test_one_step_on_pixels_themselves_is_the_class_mean(shapes):
    method = dm(ipc=1, lr=0.5, momentum=0.0, real_batch=20, augmentation="none", start="noise")
    run = with_embedding(begin(method, shapes), lambda flat: flat)
    run.step()
    means = torch.stack([shapes.inputs(rows).mean(dim=0) for rows in shapes.rows_of])
    torch.testing.assert_close(run.state.images.detach(), means)


def test_one_step_through_a_rotation_of_pixel_space_is_the_class_mean_too(shapes, generator):
    rotation = torch.linalg.qr(torch.randn(768, 768, generator=generator))[0]
    method = dm(ipc=1, lr=0.5, momentum=0.0, real_batch=20, augmentation="none", start="noise")
    run = with_embedding(begin(method, shapes), lambda flat: flat @ rotation)
    run.step()
    means = torch.stack([shapes.inputs(rows).mean(dim=0) for rows in shapes.rows_of])
    torch.testing.assert_close(run.state.images.detach(), means, rtol=1e-4, atol=1e-4)


def test_through_a_linear_embedding_only_the_mean_matters(shapes, generator):
    matrix = torch.randn(768, 16, generator=generator) / 28
    method = dm(ipc=2, real_batch=20, augmentation="none")
    run = with_embedding(begin(method, shapes), lambda flat: flat @ matrix)
    shift = torch.randn(3, 1, 3, 16, 16, generator=generator)
    means = torch.stack([shapes.inputs(rows).mean(dim=0) for rows in shapes.rows_of]).unsqueeze(1)
    run.state.images.data.copy_(torch.cat([means + shift, means - shift], dim=1).flatten(0, 1))
    assert run.step()["loss"].item() == pytest.approx(0, abs=1e-8)
    assert run.state.images.grad.abs().max() < 1e-5


# The run.


def test_a_step_is_one_of_sgd_with_momentum(shapes):
    run = begin(dm(lr=0.3, momentum=0.5), shapes)
    images, velocity = run.state.images.detach().clone(), torch.zeros_like(run.state.images)
    for _ in range(3):
        run.step()
        velocity = 0.5 * velocity + run.state.images.grad
        images = images - 0.3 * velocity
    torch.testing.assert_close(run.state.images.detach(), images)


def test_every_step_draws_a_new_network_new_images_and_new_augmentations(shapes):
    run = begin(dm(lr=0.0), shapes)
    losses = [run.step()["loss"].item() for _ in range(4)]
    assert len(set(losses)) == 4


def test_the_loss_falls(few_digits):
    run = begin(dm(ipc=1, real_batch=12, steps=40, start="noise"), few_digits)
    losses = [run.step()["loss"].item() for _ in range(40)]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_it_starts_from_real_images_of_each_class(shapes):
    run = begin(dm(), shapes)
    for image, label in zip(run.state.images.detach(), run.state.labels, strict=True):
        assert any(torch.equal(image, real) for real in shapes.inputs(shapes.rows_of[label]))


def test_it_starts_from_noise_of_unit_spread(shapes):
    images = begin(dm(start="noise", ipc=30), shapes).state.images
    assert images.mean().abs() < 0.02
    assert abs(images.std() - 1) < 0.02


def test_it_starts_from_the_class_mean(shapes):
    images = begin(dm(start="class-mean", ipc=1), shapes).state.images.detach()
    torch.testing.assert_close(images[2], shapes.inputs(shapes.rows_of[2]).mean(dim=0))


def test_whitened_images_start_whitened_and_come_out_as_pixels(few_digits):
    small = attar.condense(few_digits, dm(zca=True, lr=0.0, steps=1), engine=ENGINE)
    assert small.transform.whitening is not None
    real = few_digits.train.pixels[few_digits.rows_of[0]].permute(0, 2, 3, 1)
    assert any((torch.from_numpy(small.pixels[0].copy()) == image).all() for image in real)


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(shapes):
    first, again, other = (attar.condense(shapes, dm(), seed=seed, engine=ENGINE) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_the_curve_is_the_loss_of_every_step(shapes, tmp_path):
    attar.condense(shapes, dm(), out=tmp_path / "run", engine=ENGINE)
    lines = [
        json.loads(line)
        for line in (tmp_path / "run" / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    run = begin(dm(), shapes)
    assert [line["loss"] for line in lines] == [run.step()["loss"].item() for _ in range(3)]


# Settings.


def test_open_settings_follow_from_the_data(shapes, digits, runtime):
    resolved = attar.DM().resolve(shapes, runtime)
    assert (resolved.steps, resolved.lr, resolved.real_batch) == (1000, 1.0, 64)
    assert resolved.augmentation == "color_crop_cutout_flip_scale_rotate"
    assert attar.DM().resolve(digits, runtime).augmentation == "color_crop_cutout_scale_rotate"
    assert attar.DM(ipc=51).resolve(digits, runtime).lr == 10.0


@pytest.mark.parametrize(
    "data, ipc, steps, lr",
    [
        ("mnist", 10, 20_000, 1.0),
        ("cifar10", 50, 20_000, 1.0),
        ("cifar10", 100, 20_000, 10.0),
        ("cifar100", 50, 20_000, 1.0),
        ("tiny-imagenet", 10, 10_000, 1.0),
    ],
)
def test_the_papers_settings_are_those_of_its_table(data, ipc, steps, lr):
    method = attar.DM.paper(data, ipc=ipc)
    assert (method.ipc, method.steps, method.lr, method.real_batch) == (ipc, steps, lr, 256)
    assert (method.momentum, method.start, method.zca) == (0.5, "real", False)
    depth = 4 if data == "tiny-imagenet" else 3
    assert method.architecture == Architecture(norm="instance", width=128, depth=depth)
    assert ("flip" in method.augmentation) is (data != "mnist")


def test_a_data_set_that_the_paper_lacks_is_refused():
    with pytest.raises(InputError) as refusal:
        attar.DM.paper("cifar-10", ipc=1)
    assert str(refusal.value) == (
        "DM has no cell of 'cifar-10'; did you mean 'cifar10'? "
        "Its cells are of mnist, cifar10, cifar100, tiny-imagenet."
    )


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"ipc": 0}, "ipc is 0; it must be at least 1."),
        ({"steps": 0}, "steps is 0; it must be at least 1."),
        ({"lr": -1.0}, "lr is -1.0; it must be at least 0."),
        ({"real_batch": 0}, "real_batch is 0; it must be at least 1."),
        ({"momentum": 1.5}, "momentum is 1.5; it must be from 0 to 1."),
        (
            {"start": "reel"},
            "unknown start 'reel'; did you mean 'real'? Known: class-mean, herding, k-center, k-means, noise, real.",
        ),
    ],
)
def test_a_setting_out_of_its_range_is_refused(settings, sentence):
    with pytest.raises(InputError) as refusal:
        attar.DM(**settings)
    assert str(refusal.value) == sentence


def test_an_unknown_augmentation_is_refused_before_anything_is_built(shapes, runtime):
    with pytest.raises(InputError, match="unknown augmentation 'blur'"):
        attar.DM(augmentation="blur").resolve(shapes, runtime)
