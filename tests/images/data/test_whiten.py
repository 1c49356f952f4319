import dataclasses

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.images.data import whiten
from attar.images.data.whiten import ThinWhitening, Transform, fit_zca


@pytest.fixture
def images(generator):
    """Correlated images: 300 of 2×3×4, in float64."""
    mixing = torch.randn(24, 24, dtype=torch.float64, generator=generator)
    return (torch.randn(300, 24, dtype=torch.float64, generator=generator) @ mixing + 1).view(300, 2, 3, 4)


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_whitening_shrinks_each_eigenvalue_to_its_share(images, epsilon):
    values, vectors = torch.linalg.eigh(images.flatten(1).T.cov())
    white = fit_zca(images, epsilon).forward(images).flatten(1)
    in_eigenbasis = vectors.T @ white.T.cov() @ vectors
    torch.testing.assert_close(in_eigenbasis, torch.diag(values / (values + epsilon)))
    torch.testing.assert_close(white.mean(dim=0), torch.zeros(24, dtype=torch.float64))


def test_the_inverse_undoes_whitening(images):
    whitening = fit_zca(images)
    torch.testing.assert_close(whitening.inverse(whitening.forward(images)), images)


def test_it_also_undoes_it_on_images_it_was_not_fitted_to(images, generator):
    whitening = fit_zca(images)
    others = torch.randn(5, 2, 3, 4, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(whitening.inverse(whitening.forward(others)), others)


def test_whitening_is_symmetric_so_that_images_stay_images(images):
    whitening = fit_zca(images)
    torch.testing.assert_close(whitening.forward_matrix, whitening.forward_matrix.T)


def test_it_agrees_with_kornia(images):
    try:
        from kornia.enhance import ZCAWhitening
    except (ImportError, Warning) as trouble:
        pytest.skip(f"kornia does not import cleanly: {trouble}")
    theirs = ZCAWhitening(dim=0, eps=0.1, unbiased=True).fit(images)
    torch.testing.assert_close(fit_zca(images, 0.1).forward(images), theirs(images))


def test_more_pixels_than_images_is_no_difficulty(images):
    whitening = fit_zca(images[:10])
    assert whitening.forward(images[:10]).isfinite().all()
    torch.testing.assert_close(whitening.inverse(whitening.forward(images)), images)


# Fewer images than pixels.


def full(images, epsilon):
    """ZCA by the matrix of pixels × pixels, whatever the number of images."""
    flat = images.flatten(1).double()
    values, vectors = torch.linalg.eigh(flat.T.cov())
    scale = (values.clamp_min(0) + epsilon).sqrt()
    return flat.mean(dim=0), vectors / scale @ vectors.T, vectors * scale @ vectors.T


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("count", [2, 3, 10, 23])
def test_the_thin_form_is_the_full_one(count, epsilon, images, generator):
    few, others = images[:count], torch.randn(5, 2, 3, 4, dtype=torch.float64, generator=generator)
    thin = fit_zca(few, epsilon)
    assert isinstance(thin, ThinWhitening)
    assert thin.vectors.shape[1] < count
    mean, forward, inverse = full(few, epsilon)
    for these in (few, others):
        flat = these.flatten(1)
        torch.testing.assert_close(thin.forward(these).flatten(1), (flat - mean) @ forward, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(thin.inverse(these).flatten(1), flat @ inverse + mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(thin.inverse(thin.forward(these)), these)


def test_the_thin_form_of_equal_or_constant_images_is_a_multiple_of_one(generator):
    image = torch.rand(1, 1, 4, 4, generator=generator).repeat(5, 1, 1, 1)
    white = fit_zca(image, 0.25)
    torch.testing.assert_close(white.forward(image), torch.zeros_like(image))
    torch.testing.assert_close(white.forward(image + 1), torch.full_like(image, 2.0))


def test_a_few_large_pictures_are_whitened_saved_and_read(tmp_path, engine):
    images = torch.rand(12, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    source = attar.load((images, [0, 1] * 6)).whitened()
    small = dataclasses.replace(
        attar.condense(source, attar.Random(ipc=1), engine=engine),
        images=source.inputs(torch.arange(2)),
        transform=source.transform,
    )
    small.save(tmp_path / "set")
    back = attar.open_artefact(tmp_path / "set").transform
    assert isinstance(back.whitening, ThinWhitening)
    assert (tmp_path / "set" / "whitening.safetensors").stat().st_size < 4 * 14 * 3 * 96 * 96
    raw = source.train.pixels[torch.arange(2)]
    assert torch.equal(back.forward(raw), source.transform.forward(raw))
    torch.testing.assert_close(back.inverse(back.forward(raw)), raw, rtol=0, atol=1e-3)  # a quarter of a grey level


def test_too_little_memory_is_told_in_one_line(images, monkeypatch):
    monkeypatch.setattr(whiten, "free_memory", lambda: 1000)
    for count in (10, 300):
        with pytest.raises(
            InputError, match=rf"^ZCA whitening of {count} images of 24 values takes .* GB of memory, but"
        ):
            fit_zca(images[:count])


@pytest.mark.parametrize("epsilon", [0, 0.0, -0.1, float("nan"), float("inf")])
def test_an_epsilon_that_is_not_above_zero_is_refused(epsilon, images, few_digits):
    for fit in (lambda: fit_zca(images, epsilon), lambda: few_digits.whitened(epsilon)):
        with pytest.raises(InputError, match="whitening needs a number from 1e-6 to 1e6"):
            fit()


# From pixels and back.


def test_network_input_is_normalised_by_channel():
    pixels = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    images = Transform((0.5,), (0.25,)).forward(pixels)
    torch.testing.assert_close(images, torch.tensor([-2.0, 0.0, 2.0]).view(1, 1, 1, 3))


def test_bytes_and_floats_of_the_same_picture_give_the_same_input(generator):
    pixels = torch.randint(256, (4, 3, 5, 5), dtype=torch.uint8, generator=generator)
    transform = Transform((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    torch.testing.assert_close(transform.forward(pixels), transform.forward(pixels.float() / 255))


@pytest.mark.parametrize("whitened", [False, True])
def test_every_byte_survives_the_way_there_and_back(whitened, generator):
    pixels = torch.randint(256, (200, 3, 4, 4), dtype=torch.uint8, generator=generator)
    transform = Transform((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    if whitened:
        transform = Transform(transform.mean, transform.std, fit_zca(transform.forward(pixels)))
    back = transform.inverse(transform.forward(pixels))
    assert torch.equal(back.mul(255).round().byte(), pixels)


def test_whitening_comes_after_normalisation(generator):
    pixels = torch.rand(50, 1, 4, 4, generator=generator)
    plain = Transform((0.5,), (0.3,))
    whitening = fit_zca(plain.forward(pixels))
    both = Transform((0.5,), (0.3,), whitening)
    torch.testing.assert_close(both.forward(pixels), whitening.forward(plain.forward(pixels)))


def test_a_source_is_whitened_by_its_training_images_alone(few_digits):
    source = few_digits.whitened()
    rows = torch.arange(len(few_digits.train))
    wanted = fit_zca(few_digits.inputs(rows), 0.1).forward(few_digits.inputs(rows))
    torch.testing.assert_close(source.inputs(rows), wanted)
    torch.testing.assert_close(source.transform.forward(few_digits.train.pixels[rows]), wanted, rtol=1e-4, atol=1e-4)
    assert source.fingerprint != few_digits.fingerprint


@pytest.mark.parametrize("epsilon", [1e-300, 1e-30, 1e-7, 1e7, 1e300])
@pytest.mark.parametrize("count", [10, 300])
def test_an_epsilon_that_32_bits_cannot_whiten_with_is_refused(epsilon, count, generator):
    images = torch.rand(count, 1, 8, 8, generator=generator)
    with pytest.raises(InputError, match=r"whitening needs a number from 1e-6 to 1e6, such as 0\.1\."):
        fit_zca(images, epsilon)


@pytest.mark.parametrize("epsilon", [1e-6, 1e6])
@pytest.mark.parametrize("count", [10, 300])
def test_the_outermost_epsilons_whiten_and_are_undone(epsilon, count, generator):
    images = torch.rand(count, 1, 8, 8, generator=generator)
    whitening = fit_zca(images, epsilon)
    torch.testing.assert_close(whitening.inverse(whitening.forward(images)), images, atol=1e-2, rtol=0)
