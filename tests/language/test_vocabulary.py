import copy

import pytest
import torch

from attar.core.errors import InputError
from attar.language.models import byte_tokenizer, fresh_model
from attar.language.vocabulary import check_same, shared_words, size_of, width


def test_padding_beyond_the_tokenizer_is_cut_off(teacher, student, tokenizer):
    padded = fresh_model("gpt2:layers=1,width=16,heads=1", tokenizer, 32, torch.Generator())
    padded.resize_token_embeddings(320, mean_resizing=False)
    assert width(padded) == 320
    assert shared_words(tokenizer, teacher=padded, student=student) == 300


def test_a_model_with_fewer_words_is_refused(teacher, source):
    large = byte_tokenizer(source.texts(), 310)
    with pytest.raises(InputError) as refusal:
        shared_words(large, teacher=teacher, student=None)
    assert str(refusal.value) == (
        "the teacher has logits for 300 tokens, but the tokenizer has 310. Give teacher and "
        "student of one model family."
    )


def test_other_tokens_are_refused(tokenizer):
    other = byte_tokenizer(["zzz zzz zzz qqq qqq"] * 5, 262)
    with pytest.raises(InputError, match="teacher and student have different vocabularies: 300 and 262 tokens"):
        check_same(tokenizer, other)
    check_same(tokenizer, tokenizer)
    check_same(None, tokenizer)


def with_more(tokenizer, *tokens, special=True):
    found = copy.deepcopy(tokenizer)
    found.add_special_tokens({"additional_special_tokens": list(tokens)}) if special else found.add_tokens(list(tokens))
    return found


def test_special_tokens_at_the_end_of_either_vocabulary_are_left_out(tokenizer, teacher):
    padded, other = with_more(tokenizer, "[PAD]"), with_more(tokenizer, "<pad>", "<|tool|>")
    for one, two in ((padded, tokenizer), (tokenizer, padded), (padded, other), (other, padded)):
        assert check_same(one, two) == 300
        assert shared_words(one, two, teacher=teacher) == 300
    assert check_same(padded, copy.deepcopy(padded)) == 301
    assert size_of(padded) == 301
    assert shared_words(padded, None, teacher=teacher) == 300  # a pad token was added, and the model not widened


def test_other_tokens_at_the_end_are_refused(source, tokenizer):
    with pytest.raises(InputError, match="teacher and student have different vocabularies: 300 and 310 tokens, 10"):
        check_same(tokenizer, byte_tokenizer(source.texts(), 310))
    swapped = byte_tokenizer(source.texts(), 299)
    swapped.add_special_tokens({"additional_special_tokens": ["[PAD]"]})
    with pytest.raises(InputError, match="different vocabularies: 300 and 300 tokens"):
        check_same(tokenizer, swapped)  # whose last token is a word of the other one
