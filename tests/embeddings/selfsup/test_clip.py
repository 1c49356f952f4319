"""Image-text pairs: CLIP, its bimodal rivals, and the encoder of texts that is kept with that of images."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.embeddings.artefact import TrainedEncoder
from attar.embeddings.retrieval import chance_of_recall, recalls
from attar.embeddings.selfsup.clip import CLIP, LearnedTemperature, clip_loss
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.selfsup.sogclr import SogCLR
from attar.embeddings.views import Views
from embeddings_selfsup_runs import SMALL, digits, images_of, mosaics, trained

RUNTIME = Runtime(Engine(device="cpu", quiet=True), 0)
SHORT = {**SMALL, "epochs": 6, "text_encoder": "words:width=32,depth=0"}
LONGER = {**SHORT, "epochs": 20}
"""Several times above chance, so that the last digits of another machine do not matter."""


def test_the_loss_is_half_the_cross_entropy_each_way():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 6, 5, dtype=torch.float64, generator=generator)
    logits = F.normalize(images) @ F.normalize(texts).T / 0.2
    right = torch.arange(6)
    exact = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    torch.testing.assert_close(clip_loss(images, texts, 0.2), exact)
    learned = LearnedTemperature(0.2).double()
    clip_loss(images, texts, learned()).backward()
    slope = -(logits.softmax(1) * logits).sum() - (logits.T.softmax(1) * logits.T).sum() + 2 * logits.diagonal().sum()
    torch.testing.assert_close(learned.log.grad, slope / 12)
    with torch.no_grad():
        learned.log.fill_(-9.0)
    assert float(learned().detach()) == pytest.approx(0.01)


@pytest.mark.parametrize("method", [CLIP(**LONGER, learn_temperature=True), SogCLR(**LONGER)], ids=["clip", "sogclr"])
def test_captions_are_found_above_chance(method, tmp_path):
    source = mosaics()
    artefact, _, found, told = trained(method, source)
    captions = source.test.captions
    features = torch.from_numpy(artefact.transform(images_of(source.test)))
    images, texts = artefact.pair_features(features, captions)
    both = recalls(images, texts, captions)
    for by_count in both.values():
        assert by_count[5] > 2 * chance_of_recall(captions, 5)
    again = TrainedEncoder.load(artefact.save(tmp_path / "kept").folder)
    np.testing.assert_array_equal(again.text_features(captions), texts.numpy())
    np.testing.assert_allclose(again.image_features(images_of(source.test)), images.numpy(), atol=1e-6)
    assert again.paired and again.heads["text"].facts == artefact.heads["text"].facts
    assert again.text_features(["a word that nobody wrote"]).shape == (1, found.projector.projected)
    assert ("temperature" in told[-1]) == isinstance(method, CLIP)


def test_images_of_pairs_are_cropped_a_little_unless_a_recipe_is_given():
    found = CLIP().resolve(mosaics(), RUNTIME).view
    assert (found.crop, found.smallest_crop, found.flip, found.jitter) == (1.0, 0.9, 0.0, 0.0)
    own = CLIP(view=Views(smallest_crop=0.5)).resolve(mosaics(), RUNTIME).view
    assert own.smallest_crop == 0.5
    assert CLIP(view=Views(recipe="simclr")).resolve(mosaics(), RUNTIME).view.jitter == 0.8


def test_a_step_sees_one_view_and_its_captions():
    found = CLIP(**SHORT).resolve(mosaics(), RUNTIME)
    batch = found.drawn(found.build(mosaics(), RUNTIME), RUNTIME)
    assert len(batch.views) == 1
    assert batch.captions == tuple(mosaics().train.captions[row] for row in batch.rows.tolist())
    assert math.isfinite(found.total_steps)


def test_what_has_no_captions_or_no_text_encoder_is_refused():
    with pytest.raises(InputError, match="clip needs pairs of image and text, but digits has no captions"):
        CLIP().resolve(digits(), RUNTIME)
    artefact, _, _, _ = trained(SimCLR(**{**SMALL, "epochs": 1}), digits(5))
    with pytest.raises(InputError) as raised:
        artefact.text_features(["a three"])
    assert str(raised.value) == (
        "An encoder of digits, by simclr has no text encoder. Train one on image-text pairs, by clip or sogclr."
    )
    pairs, _, _, _ = trained(CLIP(**{**SHORT, "epochs": 1}), mosaics(40, 10))
    for wrong in ("a three", []):
        with pytest.raises(InputError, match="give a list with one string or more"):
            pairs.text_features(wrong)
