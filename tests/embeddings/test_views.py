"""Views are drawn for each sample, the same for the same seed; recipes are filled in by what the samples are."""

import dataclasses

import pytest
import torch

from attar.core.errors import InputError
from attar.embeddings.sources import Features, Part, Source, Standard
from attar.embeddings.views import NOTHING, RECIPES, Views, drawn_view, image_view
from attar.images.data.pixels import InMemory
from attar.images.data.whiten import Transform


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(shape=(3, 32, 32), flips=True, count=32):
    part = Part(InMemory(torch.rand(count, *shape, generator=rng())))
    return Source("pictures", (), part, part, Transform((0.5,) * shape[0], (0.5,) * shape[0]), flips=flips)


def table(features=8):
    rows = torch.randn(50, features, generator=rng()) * torch.arange(1.0, features + 1)
    part = Part(Features(rows))
    return Source("numbers", (), part, part, Standard.of(rows))


ALL = [*(name for name in RECIPES if name != "table"), "amcl"]


@pytest.mark.parametrize("recipe", ALL)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 70, 64), (4, 12, 20)])
def test_recipes_draw_views_of_any_images(recipe, shape):
    source = pictures(shape)
    plain = source.train.samples.tensor
    how = Views(recipe=recipe).resolve(source)
    found = drawn_view(plain, how, source, rng())
    assert found.shape == plain.shape and found.isfinite().all()
    assert found.min() >= -1e-6 and found.max() <= 1 + 1e-6
    assert torch.equal(found, drawn_view(plain, how, source, rng()))
    if recipe != "none":
        assert not torch.equal(found, drawn_view(plain, how, source, rng(1)))
        one = plain[:1].repeat(40, 1, 1, 1)
        assert len(drawn_view(one, how, source, rng()).flatten(1).unique(dim=0)) > 12


def test_gradients_pass_through_everything():
    source = pictures()
    plain = source.train.samples.tensor.clone().requires_grad_()
    changes = {"cutout": 0.3, "affine": (30, 0.1, 0.1), "rand_augment": 2, "blur": 0.5, "solarise": 0.3}
    how = Views(recipe="simclr", **changes).resolve(source)
    drawn_view(plain, how, source, rng()).square().sum().backward()
    assert plain.grad.isfinite().all()
    assert (plain.grad.flatten(1).abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("kinds", "is_kind"),
    [
        ("c", lambda new, old: (new[:, 0] == new[:, 1]).all(dim=(1, 2)).float().mean() - 0.2),
        ("e", lambda new, old: (new == old.flip(3)).all(dim=(1, 2, 3)).float().mean() - 0.5),
        ("d", lambda new, old: (new != old).any(dim=1).any(dim=(1, 2)).float().mean() - 0.8),
        ("b", lambda new, old: (new != old).any(dim=1).any(dim=(1, 2)).float().mean() - 0.5),
        ("a", lambda new, old: (new != old).any(dim=1).any(dim=(1, 2)).float().mean() - 1.0),
    ],
)
def test_each_kind_changes_its_share_of_images(kinds, is_kind):
    source = pictures(shape=(3, 8, 8), count=3000)
    plain = source.train.samples.tensor
    found = drawn_view(plain, Views(recipe="amcl", kinds=kinds).resolve(source), source, rng())
    assert abs(is_kind(found, plain)) < 0.04


def test_kinds_join():
    how = Views(recipe="amcl", kinds="ae").resolve(pictures())
    assert (how.crop, how.smallest_crop, how.flip, how.jitter, how.grey, how.blur) == (1, 0.08, 0.5, 0, 0, 0)
    whole = Views(recipe="amcl").resolve(pictures())
    assert (whole.crop, whole.flip, whole.jitter, whole.grey, whole.blur) == (1, 0.5, 0.8, 0.2, 0.5)


@pytest.mark.parametrize("recipe", ["simclr", "amcl"])
def test_digits_are_never_mirrored(recipe):
    source = pictures(flips=False)
    half = torch.zeros(500, 3, 8, 8)
    half[:, :, :, 4:] = 1
    how = Views(recipe=recipe, jitter=0.0, grey=0.0, blur=0.0).resolve(source)
    assert how.flip == 0
    found = drawn_view(half, how, source, rng())
    assert (found[..., -1] >= found[..., 0] - 1e-6).all()


def test_auto_is_what_fits_the_samples():
    small, large, rows = pictures(), pictures((3, 96, 96)), table()
    assert Views().resolve(small) == Views(recipe="simclr").resolve(small)
    assert Views().resolve(small).blur == 0 and Views().resolve(large).blur == 0.5
    assert Views().resolve(pictures((1, 28, 28))).grey == 0
    resolved = Views().resolve(rows)
    assert (resolved.recipe, resolved.corruption, resolved.crop) == ("table", 0.3, 0)


@pytest.mark.parametrize("recipe", [*ALL, "auto"])
def test_resolved_settings_are_whole_stay_as_they_are_and_survive_json(recipe):
    how = Views(recipe=recipe, smallest_crop=0.5).resolve(pictures())
    assert how.whole and how.smallest_crop == 0.5
    assert how.resolve(pictures()) == how
    assert Views.from_json(how.to_json()) == how
    assert set(NOTHING) | {"recipe", "kinds"} == {field.name for field in dataclasses.fields(Views)}


def test_settings_change_a_recipe():
    how = Views(recipe="kmcl", rand_augment=0, cutout=1.0, cutout_fill="black").resolve(pictures())
    assert not drawn_view(torch.ones(300, 3, 16, 16), how, pictures(), rng())[:, :, 7, 7].any()


def test_part_of_the_images_is_cropped():
    plain = torch.rand(2000, 3, 8, 8, generator=rng())
    how = Views(recipe="none", crop=0.25).resolve(pictures())
    same = torch.isclose(image_view(plain, how, rng()), plain, atol=1e-5).flatten(1).all(dim=1)
    assert same.float().mean() == pytest.approx(0.75, abs=0.03)


def test_rows_of_a_table_get_values_of_others_and_noise():
    source = table()
    plain = source.train.samples.tensor[:20]
    found = drawn_view(plain, Views().resolve(source), source, rng())
    assert ((found != plain).sum(dim=1) <= 2).all() and (found != plain).any()
    noisy = drawn_view(plain.repeat(500, 1), Views(recipe="none", noise=0.5).resolve(source), source, rng())
    spread = (noisy - plain.repeat(500, 1)).std(dim=0)
    torch.testing.assert_close(spread, 0.5 * torch.tensor(source.transform.std), rtol=0.05, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Views(kinds="ax"), "kinds is 'ax'; give letters of abcde, each once."),
        (lambda: Views(kinds="aa"), "kinds is 'aa'; give letters of abcde, each once."),
        (lambda: Views(kinds=""), "kinds is ''; give letters of abcde, each once."),
        (lambda: Views(sigma=(2.0, 1.0)), "sigma is 2 1; give the smallest, above 0, and the largest: 0.1 2."),
        (lambda: Views(affine=(45,)), "affine is 45; it must be 3 numbers from 0 to at most 180 1 0.99."),
        (
            lambda: Views(colours=(0.4, 0.4, 0.4, 0.6)),
            "colours is 0.4 0.4 0.4 0.6; it must be 4 numbers from 0 to at most 10 10 10 0.5.",
        ),
        (
            lambda: Views(recipe="simclr").resolve(table()),
            "view.recipe is simclr, but numbers is a table. Give table, or none.",
        ),
        (
            lambda: Views(recipe="table").resolve(pictures()),
            "view.recipe is table, but pictures is a set of images. Give simclr, or none.",
        ),
        (
            lambda: Views(blur=0.5).resolve(table()),
            "view.blur is 0.5, but numbers is a table; it is for images.",
        ),
        (
            lambda: Views(corruption=0.5).resolve(pictures()),
            "view.corruption is 0.5, but pictures is a set of images; it is for tables.",
        ),
        (
            lambda: Views(flip=0.5).resolve(pictures(flips=False)),
            "view.flip is 0.5, but images of pictures are not to be mirrored.",
        ),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(InputError) as refusal:
        make()
    assert str(refusal.value) == message
