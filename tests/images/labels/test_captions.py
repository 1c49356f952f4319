import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from attar.core.errors import InputError
from attar.images.labels.captions import (
    CAPTION,
    TinyClip,
    captions_of,
    clip_named,
    contrastive_loss,
    squared,
    tiny_clip,
    word_tokenizer,
)
from clip_files import save_clip

BRIEF = TinyClip(clip_width=16, clip_layers=1, clip_epochs=1)


def test_the_loss_is_its_definition(generator):
    images, captions = torch.randn(6, 4, generator=generator), torch.randn(3, 4, generator=generator)
    labels, scale = torch.tensor([0, 2, 2, 0, 0, 2]), torch.tensor(5.0)
    logits = [[5 * float(F.cosine_similarity(i, c, dim=0)) for c in captions] for i in images]
    of_images = [math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(logits, labels, strict=True)]
    of_captions = []
    for label in (0, 2):  # nobody shows class 1
        column = [row[label] for row in logits]
        total = math.log(sum(map(math.exp, column)))
        mine = [total - value for value, own in zip(column, labels, strict=True) if own == label]
        of_captions.append(sum(mine) / len(mine))
    wanted = 0.5 * (sum(of_images) / 6 + sum(of_captions) / 2)
    assert float(contrastive_loss(images, captions, labels, scale)) == pytest.approx(wanted, rel=1e-5)


def test_a_caption_has_the_name_of_its_class():
    assert captions_of(CAPTION, ["tench", "tree_frog"]) == ["a photo of a tench", "a photo of a tree frog"]
    with pytest.raises(InputError, match=r"caption is 'a photo'; it must contain \{name\} in place of the class\."):
        captions_of("a photo", ["tench"])


def test_the_tokenizer_knows_the_words_of_the_captions():
    tokenizer = word_tokenizer(["a photo of a Tree frog", "a photo of a 7"])
    found = tokenizer(["a photo of a 7", "a photo of a tree frog", "a walrus"], padding=True, return_tensors="pt")
    words = [tokenizer.convert_ids_to_tokens(row) for row in found["input_ids"]]
    assert words[0] == ["<start>", "a", "photo", "of", "a", "7", "<end>", "<pad>"]
    assert words[1] == ["<start>", "a", "photo", "of", "a", "tree", "frog", "<end>"]
    assert words[2][:4] == ["<start>", "a", "<unknown>", "<end>"]


def test_it_learns_what_captions_say_of_images(few_digits, runtime):
    how = TinyClip(clip_width=32, clip_layers=1, clip_epochs=40, clip_batch=60)
    clip = tiny_clip(few_digits, how, CAPTION, runtime)
    with torch.no_grad():
        read = F.normalize(clip.read(clip.tokens(captions_of(CAPTION, few_digits.classes))), dim=1)
        seen = F.normalize(clip.vision(few_digits.inputs(torch.arange(120))), dim=1)
    right = ((seen @ read.T).argmax(dim=1) == few_digits.train.labels).float().mean()
    assert right > 0.6


def test_it_is_seeded_and_leaves_the_global_generator_alone(few_digits, runtime):
    before = torch.get_rng_state()
    digests = [tiny_clip(few_digits, BRIEF, CAPTION, runtime.with_seed(seed)).digest for seed in (0, 1, 0)]
    assert digests[0] == digests[2] != digests[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_no_square_is_scaled_to_one(generator):
    images = torch.randn(1, 3, 8, 8, generator=generator)
    assert squared(images, 8) is images
    assert squared(images[:, :, :6], 8).shape == (1, 3, 8, 8)


def test_what_is_no_clip_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError) as refusal:
        clip_named("nobody/nothing")
    assert str(refusal.value).startswith("'nobody/nothing' is not a CLIP in a folder or on the hub (")
    assert "\n" not in str(refusal.value)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    with pytest.raises(InputError, match="is not a CLIP in a folder or on the hub \\(it is a vit\\)"):
        clip_named(str(tmp_path))


def test_a_clip_that_is_a_pickle_is_not_opened(tmp_path):
    folder = Path(save_clip(tmp_path / "clip", ["a photo of a cat"]))
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="is not a CLIP in a folder or on the hub"):
        clip_named(str(folder))


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(InputError, match="clip_width is 20; it must be a multiple of 8"):
        TinyClip(clip_width=20)
