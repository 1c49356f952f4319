import pytest
import torch

from attar.core.errors import InputError
from attar.language.chunkers import phrases
from attar.language.losses import Places
from attar.language.models import byte_tokenizer
from attar.language.sources import load
from attar.language.tokens import Batch, Tokeniser


@pytest.fixture
def by(tokenizer):
    return Tokeniser(tokenizer, 96, 48, 8)


def test_a_pair_is_its_prompt_its_response_and_an_end(by, source, tokenizer):
    batch = by.read(source, "train").batch([3])
    row = source.train[3]
    assert tokenizer.decode(batch.prompt_ids[0]) == row["prompt"]
    assert tokenizer.decode(batch.response_ids[0]) == row["response"] + "<|endoftext|>"
    assert batch.response_ids[0][-1] == tokenizer.eos_token_id


def test_an_end_that_a_response_brings_along_is_not_doubled(by, tokenizer):
    rows = [{"prompt": "a", "completion": "b<|endoftext|>"}, {"prompt": "a", "completion": "<|endoftext|>"}] * 3
    read = by.read(load(rows, validation=1, test=1), "train")
    assert sorted(len(row["response"]) for row in read.rows) == [1, 1, 2, 2]


def test_long_prompts_lose_their_beginning_and_long_responses_their_end(tokenizer):
    source = load([{"prompt": "x" * 30 + "y", "completion": "z" * 50}] * 3)
    batch = Tokeniser(tokenizer, 20, 8, 0).read(source, "train").batch([0])
    assert batch.ids.shape == (1, 20)
    assert batch.prompts.tolist() == [8]
    assert tokenizer.decode(batch.prompt_ids[0]) == "x" * 7 + "y"
    assert tokenizer.decode(batch.response_ids[0]) == "z" * 12


def test_labels_are_the_responses_whatever_the_padding_token_is():
    batch = Batch.of([[1, 0], [3]], [[0, 5], [0, 0, 0]], pad=0)
    assert batch.ids.tolist() == [[1, 0, 0, 5], [3, 0, 0, 0]]
    assert batch.labels.tolist() == [[-100, -100, 0, 5], [-100, 0, 0, 0]]
    assert batch.mask.all()
    short = batch.rows([0])
    assert short.response_ids == [[0, 5]]
    wide = Batch.of([[1]], [[2]], pad=2)
    assert Batch.of([[1], [1]], [[2], [2, 2]], pad=2).labels.tolist() == [[-100, 2, -100], [-100, 2, 2]]
    assert wide.labels.tolist() == [[-100, 2]]


def test_every_token_of_a_text_is_learned_from_once(tokenizer):
    text = "".join(chr(97 + n % 26) for n in range(200))
    source = load({"train": [{"text": text}], "validation": ["ab"], "test": ["ab"]})
    whole = tokenizer(text)["input_ids"]
    for context in (0, 5):
        tokens = Tokeniser(tokenizer, 16, 8, context).read(source, "train")
        learned = [token for row in tokens.rows for token in row["response"]]
        assert learned == whole[1:]
        prompts = [row["prompt"] for row in tokens.rows]
        assert prompts[0] == whole[:1]
        assert all(len(prompt) == max(context, 1) for prompt in prompts[1:])


def test_texts_are_parted_by_the_end(tokenizer):
    source = load({"train": ["ab", "cd"], "validation": ["ab"], "test": ["ab"]})
    tokens = Tokeniser(tokenizer, 16, 8, 4).read(source, "train")
    (row,) = tokens.rows
    assert tokenizer.decode(row["prompt"] + row["response"]) == "ab<|endoftext|>cd"


def test_conversations_without_a_template(by, tokenizer):
    turns = [("user", "hi"), ("assistant", "ho"), ("user", "well"), ("assistant", "bye")]
    source = load([{"messages": [{"role": role, "content": said} for role, said in turns]}] * 3)
    batch = by.read(source, "train").batch([0])
    assert tokenizer.decode(batch.prompt_ids[0]) == "user: hi\nassistant: ho\nuser: well\nassistant: "
    assert tokenizer.decode(batch.response_ids[0]) == "bye<|endoftext|>"


def test_conversations_with_a_template(source):
    tokenizer = byte_tokenizer(source.texts(), 300)
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|endoftext|>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    batch = Tokeniser(tokenizer, 96, 48, 8).read(load([{"messages": turns}] * 3), "train").batch([0])
    assert tokenizer.decode(batch.prompt_ids[0]) == "[user]hi<|endoftext|>[assistant]"
    assert tokenizer.decode(batch.response_ids[0]) == "ho<|endoftext|>"


def test_spans_are_of_the_response(tokenizer, source):
    tokens = Tokeniser(tokenizer, 96, 48, 8, phrases, 8).read(source, "train")
    batch = tokens.batch([0, 1])
    assert (batch.spans[0, : batch.prompts[0]] == -1).all()
    assert (batch.spans >= 0).any()
    places = Places.of(batch.labels, batch.spans)
    assert 0 < places.joined.sum() < len(places)
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.spans, batch.spans)


def test_nothing_to_learn_from_is_refused(tokenizer):
    rows = {"train": [{"text": ""}, {"text": ""}], "validation": ["ab"], "test": ["ab"]}
    with pytest.raises(InputError) as refusal:
        Tokeniser(byte_tokenizer(["x"], 258), 16, 8, 4).read(load({**rows, "train": [{"text": "a"}]}), "train")
    assert str(refusal.value) == "data has no token to learn from in its part train: every response is empty."
