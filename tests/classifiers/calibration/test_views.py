import pytest
import torch

from attar.classifiers.calibration.ca import CorrectnessAware
from attar.classifiers.calibration.views import IN_COLOUR, IN_GREY, blur, copies, dim, grey, jitter, rotation, usual


@pytest.fixture
def images():
    return torch.rand(5, 3, 12, 10, generator=torch.Generator().manual_seed(0))


def test_copies_are_chosen_by_channels_and_always_the_same(images):
    assert usual(3) == IN_COLOUR and usual(1) == usual(4) == IN_GREY
    for given in (images, images[:, :1]):
        once, twice = copies(given), copies(given)
        assert len(once) == 3
        for first, second in zip(once, twice, strict=True):
            assert first.shape == given.shape and torch.equal(first, second)
            assert first.min() >= 0 and first.max() <= 1
            assert not torch.allclose(first, given, atol=1e-3)
        assert torch.equal(copies(given[:2])[0], once[0][:2]), "an image's copy does not depend on the others"
    assert CorrectnessAware(cues="logits").copies(images) == []
    assert len(CorrectnessAware(transforms=("dim",)).copies(images)) == 1


def test_a_rotation_by_a_quarter_turns_and_by_nothing_stays(images):
    square = images[:, :, :10]
    assert torch.allclose(rotation(square, 90.0), torch.rot90(square, 1, (2, 3)), atol=1e-5)
    assert torch.allclose(rotation(images, 0.0), images, atol=1e-6)
    assert torch.allclose(rotation(rotation(images, 180.0), 180.0), images, atol=1e-4)


def test_grey_is_luminance_and_the_identity_of_grey(images):
    weights = torch.tensor([0.299, 0.587, 0.114])
    assert torch.allclose(grey(images)[:, 0], (images * weights.view(3, 1, 1)).sum(dim=1), atol=1e-6)
    assert torch.allclose(grey(images[:, :1]), images[:, :1])


def test_strengths_are_fixed(images):
    assert torch.allclose(dim(images), 0.6 * images)
    assert torch.allclose(jitter(images, 0.0), images, atol=1e-6)
    flat = torch.full((1, 3, 4, 4), 0.5)
    assert torch.allclose(jitter(flat), torch.full_like(flat, 0.7), atol=1e-6)
    assert torch.allclose(blur(flat), flat) and blur(images).std() < images.std()


def test_gradients_pass(images):
    images.requires_grad_()
    torch.stack(copies(images, (*IN_COLOUR, "dim", "blur"))).sum().backward()
    assert torch.isfinite(images.grad).all()
