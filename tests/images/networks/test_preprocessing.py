"""Image processors of transformers, repeated as differentiable arithmetic."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from attar.core.errors import InputError
from attar.images.networks.preprocessing import Preprocess, Preprocessing, cropped, preprocessing_of

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
CLIP_CROP = {"size": {"shortest_edge": 20}, "crop_size": {"height": 12, "width": 14}}
KNOWN = {
    "ViT": lambda: transformers.ViTImageProcessor(size={"height": 16, "width": 24}, resample=3),
    "ViT as it is": lambda: transformers.ViTImageProcessor(do_resize=False, do_rescale=False),
    "no work at all": lambda: transformers.ViTImageProcessor(do_resize=False, do_rescale=False, do_normalize=False),
    "CLIP": lambda: transformers.CLIPImageProcessor(**CLIP_CROP),
    "a crop beyond the picture": lambda: transformers.BitImageProcessor(do_resize=False, crop_size=41),
    "ConvNeXt below 384": lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 32}),
    "ConvNeXt": lambda: transformers.ConvNextImageProcessor(),
    "MobileViT, blue first": lambda: transformers.MobileViTImageProcessor(size={"shortest_edge": 36}),
    "EfficientNet, normalised twice": lambda: transformers.EfficientNetImageProcessor(size={"height": 30, "width": 30}),
    "LeViT": lambda: transformers.LevitImageProcessor(size={"shortest_edge": 28}, crop_size=28),
    "PoolFormer": lambda: transformers.PoolFormerImageProcessor(size={"shortest_edge": 27}, crop_size=24),
    "at most": lambda: transformers.DetrImageProcessor(size={"shortest_edge": 30, "longest_edge": 40}, do_pad=False),
}


def noise(shape, seed=1):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def plain(given, resized, resample, *, rows_first=False):
    return Preprocessing(given, resized, None, resample, rows_first, (0, 1, 2), (1.0,) * 3, (0.0,) * 3)


@pytest.mark.parametrize("resample", range(6))
@pytest.mark.parametrize("sizes", [(8, 8, 32, 32), (8, 8, 24, 24), (33, 17, 20, 13), (7, 9, 7, 30), (224, 200, 17, 64)])
def test_scaling_is_pillows_to_the_last_level(sizes, resample):
    height, width, *wanted = sizes
    picture = noise((3, height, width))
    theirs = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize(tuple(wanted[::-1]), resample=resample)
    ways = [plain((height, width), tuple(wanted), resample, rows_first=first) for first in (False, True)]
    found = [Preprocess(way)(picture[None].float())[0].permute(1, 2, 0) for way in ways]
    assert any(torch.equal(one, torch.from_numpy(np.array(theirs)).float()) for one in found)
    assert max((one - found[0]).abs().max() for one in found) <= (40 if resample in (1, 3) else 2)


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 33, 20), (3, 20, 33)])
@pytest.mark.parametrize("name", KNOWN)
def test_the_result_is_the_processors(name, shape):
    processor = KNOWN[name]()
    found = preprocessing_of(processor, shape, name)
    assert Preprocessing.from_json(json.loads(json.dumps(found.to_json()))) == found
    picture = noise(shape, seed=2)
    (wanted,) = processor(picture.numpy(), input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(Preprocess(found)(picture[None].float())[0], wanted.float(), rtol=1e-5, atol=1e-5)


def test_a_grey_picture_may_stay_grey():
    processor = transformers.ViTImageProcessor(size={"height": 12, "width": 12}, image_mean=[0.3], image_std=[0.2])
    found = preprocessing_of(processor, (1, 8, 8), "grey")
    picture = noise((1, 8, 8))
    (wanted,) = processor(picture.numpy(), input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(Preprocess(found)(picture[None].float())[0], wanted.float())


class Posterised(transformers.ViTImageProcessor):
    """It does something that is not known here."""

    def rescale(self, image, scale, **settings):
        return super().rescale(image // 64 * 85, scale, **settings)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Posterised(size={"height": 8, "width": 8}), "it does more than scale, crop, rescale and normalise"),
        (lambda: transformers.ViTImageProcessor(image_std=[0.5, 0.5]), "does not take images of 3×8×8"),
        (lambda: transformers.PerceiverImageProcessor(), "its result is 3×224×224, and attar's repetition of it 3×256"),
        (lambda: transformers.Siglip2ImageProcessor(), "it scales by rules of its own, which attar cannot repeat"),
        (lambda: transformers.ViTImageProcessor(size={"longest_edge": 9}), "does not take images of 3×8×8"),
    ],
)
def test_what_cannot_be_repeated_is_refused(make, words):
    with pytest.raises(InputError, match=words) as refusal:
        preprocessing_of(make(), (3, 8, 8), "a model")
    assert str(refusal.value).startswith("the image processor of a model (")
    assert "\n" not in str(refusal.value)


def test_gradients_pass_the_rounding():
    levels = noise((2, 3, 8, 8)).float().requires_grad_()
    scaled = Preprocess(plain((8, 8), (16, 16), 2))(levels)
    (found,) = torch.autograd.grad(scaled[:, :, 4:12, 4:12].sum(), levels)
    smooth = torch.nn.functional.interpolate(levels, size=(16, 16), mode="bilinear", antialias=True)
    (wanted,) = torch.autograd.grad(smooth[:, :, 4:12, 4:12].sum(), levels)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_learned_pixels_beyond_the_range_keep_their_gradient():
    levels = torch.full((1, 3, 8, 8), 400.0, requires_grad=True)
    scaled = Preprocess(plain((8, 8), (20, 20), 3))(levels)
    assert scaled.max() == 400
    scaled.sum().backward()
    assert levels.grad.abs().sum() > 0


def test_a_crop_is_in_the_middle():
    image = torch.arange(35.0).view(1, 1, 5, 7)
    assert torch.equal(cropped(image, (3, 4)), image[:, :, 1:4, 1:5])
    around = cropped(image, (8, 7))
    assert torch.equal(around[:, :, 2:7], image)
    assert around.sum() == image.sum()
