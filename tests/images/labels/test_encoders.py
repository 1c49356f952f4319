import pytest
import torch
import torch.nn.functional as F

from attar.core.errors import InputError
from attar.images.data.whiten import Transform
from attar.images.labels.captions import CAPTION, TinyClip, captions_of, library
from attar.images.labels.encoders import Look, encoder_for, open_encoder
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.trained import trained
from clip_files import save_clip

BRIEF = TinyClip(clip_width=16, clip_layers=1, clip_epochs=1)
GREY = Transform((0.4,), (0.2,))


def test_a_clip_sees_colour_at_its_size_and_in_its_own_normalisation(generator):
    pixels = torch.rand(2, 1, 8, 8, generator=generator)
    seen = Look(12, GREY)(GREY.forward(pixels))
    assert seen.shape == (2, 3, 12, 12)
    large = F.interpolate(pixels, size=(12, 12), mode="bilinear", antialias=True)
    blue = (large[:, 0] - 0.40821073) / 0.27577711
    torch.testing.assert_close(seen[:, 2], blue, rtol=1e-4, atol=1e-4)


def test_an_encoder_trained_here_sees_images_as_they_are(generator):
    images = torch.randn(2, 1, 8, 8, generator=generator)
    assert Look()(images) is images
    assert Look(8)(images) is images


def test_a_clip_in_a_folder_is_the_librarys(few_digits, runtime, tmp_path):
    folder = save_clip(tmp_path, captions_of(CAPTION, few_digits.classes))
    encoder = encoder_for(folder, few_digits, BRIEF, CAPTION, runtime)
    images = few_digits.inputs(torch.arange(3))
    model = library().CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        wanted = model.get_image_features(pixel_values=encoder.look(images)).pooler_output
        assert torch.equal(encoder.tower(encoder.look(images)), wanted)
    assert encoder.scale == pytest.approx(float(model.logit_scale.detach().exp()))
    head = encoder.text_head(CAPTION, few_digits.classes)
    tokens = encoder.clip.tokens(captions_of(CAPTION, few_digits.classes))
    with torch.no_grad():
        wanted = F.normalize(model.get_text_features(**tokens).pooler_output, dim=1)
    torch.testing.assert_close(head, wanted)


def test_class_means_are_means_of_directions(few_digits, runtime):
    encoder = encoder_for("tiny", few_digits, BRIEF, CAPTION, runtime)
    head = encoder.mean_head(few_digits, runtime)
    with torch.no_grad():
        seen = F.normalize(encoder.tower(few_digits.inputs(few_digits.rows_of[3])), dim=1)
    torch.testing.assert_close(head[3], F.normalize(seen.mean(dim=0), dim=0))


def test_a_network_trained_here_encodes_but_reads_nothing(few_digits, runtime, tmp_path):
    network = trained(few_digits, Architecture(width=8), runtime, Protocol(name="brief", epochs=1))
    network.save(tmp_path)
    encoder = open_encoder(str(tmp_path), few_digits.shape, few_digits.transform)
    images = few_digits.inputs(torch.arange(2))
    with torch.no_grad():
        torch.testing.assert_close(encoder.tower(encoder.look(images)), network.network.embed(images))
    with pytest.raises(InputError, match=r"does not read text\. Give --class-features mean\."):
        encoder.text_head(CAPTION, few_digits.classes)
    with pytest.raises(InputError, match=r"was trained on images of \(1, 8, 8\), but these are \(3, 8, 8\)\."):
        open_encoder(str(tmp_path), (3, 8, 8), few_digits.transform)
