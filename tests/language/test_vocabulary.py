import pytest
import torch

from attar.core.errors import InputError
from attar.language.models import byte_tokenizer, fresh_model
from attar.language.vocabulary import check_same, shared_words, width


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
