"""Text encoders read captions, do not see what is filled up, and are built again from their facts."""

import json
import shutil

import pytest
import torch

from attar.core.errors import InputError
from attar.embeddings.texts import mean_over, text_encoder_built, text_encoder_named, vocabulary_of

CAPTIONS = ("a red dog", "Two dogs, and a red cat.", "a cat", "nothing")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def again(encoder):
    found = text_encoder_built(json.loads(json.dumps(encoder.facts)))
    found.load_state_dict(encoder.state_dict())
    return found.eval()


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    import tokenizers

    folder = tmp_path_factory.mktemp("bert")
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *vocabulary_of(CAPTIONS, 50)])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(**sizes, vocab_size=len(words), max_position_embeddings=64)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


NAMES = ["words", "words:width=16,depth=0", "bytes:width=16,heads=2,length=9", "words:width=8,depth=2,heads=1"]
FOREIGN = ["transformers:{bert}", "transformers:{bert},pretrained=true,length=8"]


@pytest.mark.parametrize("name", [*NAMES, *FOREIGN])
def test_a_text_encoder_comes_back_from_its_facts(name, bert_folder, tmp_path):
    folder = shutil.copytree(bert_folder, tmp_path / "bert")
    encoder = text_encoder_named(name.format(bert=folder), CAPTIONS, rng()).eval()
    shutil.rmtree(folder)
    other = again(encoder)
    tokens = encoder.tokens(CAPTIONS)
    assert torch.equal(tokens, other.tokens(CAPTIONS))
    with torch.no_grad():
        found = encoder(tokens)
        torch.testing.assert_close(found, other(tokens))
    assert found.shape == (4, encoder.width) and found.isfinite().all()


@pytest.mark.parametrize("name", [*NAMES, *FOREIGN])
def test_what_is_filled_up_changes_nothing(name, bert_folder):
    encoder = text_encoder_named(name.format(bert=bert_folder), CAPTIONS, rng()).eval()
    together = encoder.tokens(CAPTIONS)
    with torch.no_grad():
        for row, caption in enumerate(CAPTIONS):
            alone = encoder(encoder.tokens([caption]))[0]
            torch.testing.assert_close(encoder(together)[row], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_alone_decides_the_weights(name):
    torch.manual_seed(4)
    before = torch.get_rng_state()
    first, same, other = (text_encoder_named(name, CAPTIONS, rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.parameters(), same.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.vectors.weight, other.vectors.weight)


def test_a_vocabulary_begins_with_the_most_frequent_words():
    assert vocabulary_of(CAPTIONS, 4) == ["a", "cat", "red", ","]
    encoder = text_encoder_named("words:vocabulary=2,depth=0", CAPTIONS, rng())
    assert encoder.tokens(["A cat, a dog", ""]).tolist() == [[2, 3, 1, 2, 1], [1, 0, 0, 0, 0]]
    assert text_encoder_named("bytes", CAPTIONS, rng()).tokens(["ab", "é"]).tolist() == [[99, 100], [197, 171]]


def test_without_blocks_the_order_does_not_count_and_with_them_it_does():
    for depth, counts in ((0, False), (1, True)):
        encoder = text_encoder_named(f"words:depth={depth}", CAPTIONS, rng()).eval()
        with torch.no_grad():
            one, other = encoder(encoder.tokens(["a red dog", "dog red a"]))
        assert counts != torch.allclose(one, other, atol=1e-6)


def test_foreign_features_are_means_over_the_last_states(bert_folder):
    transformers = pytest.importorskip("transformers")
    encoder = text_encoder_named(f"transformers:{bert_folder},pretrained=true", CAPTIONS, rng()).eval()
    model = transformers.BertModel.from_pretrained(bert_folder, add_pooling_layer=False).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_folder)
    given = tokenizer(list(CAPTIONS), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).last_hidden_state
        wanted = mean_over(states, given["attention_mask"].bool())
        torch.testing.assert_close(encoder(encoder.tokens(CAPTIONS)), wanted)


@pytest.mark.parametrize("name", ["words", "bytes", "transformers:{bert},pretrained=true"])
def test_everything_is_trained(name, bert_folder):
    encoder = text_encoder_named(name.format(bert=bert_folder), CAPTIONS, rng())
    encoder(encoder.tokens(CAPTIONS)).square().sum().backward()
    assert all(weights.grad is not None for weights in encoder.parameters())


@pytest.mark.parametrize(
    ("name", "captions", "message"),
    [
        ("word", CAPTIONS, "unknown text encoder 'word'"),
        ("words:width=10", CAPTIONS, "width is 10; it must be a multiple of heads, 4."),
        ("words:size=3", CAPTIONS, "unknown setting of Small 'size'"),
        ("words", ["", "  "], "no caption has a word. Give captions with words, or the text encoder bytes."),
        ("transformers:{bert},length=0", CAPTIONS, "length is '0'; it must be a whole number from 1 to 4096."),
        ("transformers:{bert},length=65", CAPTIONS, "{bert} does not take texts of 65 tokens"),
        ("transformers:{bert}/none", CAPTIONS, "'{bert}/none' is not a model of transformers in a folder"),
    ],
)
def test_names_that_are_no_text_encoder_are_told(name, captions, message, bert_folder):
    with pytest.raises(InputError) as refusal:
        text_encoder_named(name.format(bert=bert_folder), captions, rng())
    assert str(refusal.value).startswith(message.format(bert=bert_folder))
