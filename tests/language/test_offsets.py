import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.language.offsets import NOWHERE, Offsets, shared_spans, text_spans
from tokenizer_cases import HARD, LOSSLESS, tokenizer_named

PAIRS = [(one, other) for one in LOSSLESS for other in LOSSLESS]
ANY = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


def pieces(name, text, spans, side):
    """The texts that the spans cover, by the tokens of one side."""
    offsets = Offsets(tokenizer_named(name))
    ids, _ = offsets.coded(text)
    return [offsets.decoded(ids[span[side] : span[side + 1]]) for span in spans]


def check_exactly_once(one, other, text):
    """Both tokenizations are cut into the same pieces of text, which follow one another and are all of it."""
    spans = text_spans(text, tokenizer_named(one), tokenizer_named(other))
    for name, side in ((one, 0), (other, 2)):
        ids, _ = Offsets(tokenizer_named(name)).coded(text)
        covered = [place for span in spans for place in range(span[side], span[side + 1])]
        assert covered == list(range(len(ids)))
    assert pieces(one, text, spans, 0) == pieces(other, text, spans, 2)
    assert "".join(pieces(one, text, spans, 0)) == text


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_spans_cover_a_hard_text_exactly_once(one, other):
    check_exactly_once(one, other, HARD)


@pytest.mark.parametrize("names", [("bytes300", "bytes400"), ("bytes300", "slow"), ("slow", "pieces")])
@settings(max_examples=60, deadline=None)
@given(text=ANY)
def test_spans_cover_any_text_exactly_once(names, text):
    text = text.replace("\ufffd", "").replace("▁", "")
    if not any(mark in text for mark in ("</s>", "<|", "<0x", "<unk>", "<pad>")):
        check_exactly_once(*names, text)


def test_equal_tokenizers_have_a_span_for_each_character_or_token():
    for name in LOSSLESS:
        ids, ends = Offsets(tokenizer_named(name)).coded("the old fox")
        spans = text_spans("the old fox", tokenizer_named(name), tokenizer_named(name))
        assert spans == [(n, n + 1, n, n + 1) for n in range(len(ids))]
        assert ends[-1] == len("the old fox")


def test_spans_are_the_smallest():
    assert shared_spans([3, 5, 9], [2, 3, 7, 9]) == [(0, 1, 0, 2), (1, 3, 2, 4)]
    assert shared_spans([1, NOWHERE, NOWHERE, 2], [1, 2]) == [(0, 1, 0, 1), (1, 4, 1, 2)]
    assert shared_spans([0, 2, 2, 4], [2, 4]) == [(0, 3, 0, 1), (3, 4, 1, 2)]
    assert shared_spans([2, 4, 6], [1, 4, 5]) == [(0, 2, 0, 2)]
    assert shared_spans([], [1]) == shared_spans([2], [1]) == []


def test_the_bytes_of_a_character_end_nowhere_but_the_last():
    for name in ("bytes300", "slow"):
        offsets = Offsets(tokenizer_named(name))
        ids, ends = offsets.coded("a🦉b")
        assert ends[0] == 1
        assert ends[-2:] == [2, 3]
        assert ends[1:-2] == [NOWHERE] * (len(ids) - 3)


def test_sampled_tokens_are_read_one_by_one():
    """The tokens of a model are seldom those that the tokenizer would choose."""
    offsets = Offsets(tokenizer_named("bytes400"))
    letters = [offsets.coded(letter)[0][0] for letter in "the fox"]
    assert offsets.coded("the fox")[0] != letters
    assert offsets.ends(letters) == ("the fox", list(range(1, 8)))
    half = offsets.coded("🦉")[0][:2]
    assert offsets.ends([*letters, *half])[1] == [*range(1, 8), NOWHERE, NOWHERE]


def test_unknown_characters_have_their_place():
    text = "the ☃ fox"
    spans = text_spans(text, tokenizer_named("characters"), tokenizer_named("bytes300"))
    assert "".join(pieces("bytes300", text, spans, 2)) == text
    assert "☃" in pieces("bytes300", text, spans, 2)
    _, ends = Offsets(tokenizer_named("words")).coded(text)
    assert ends == [3, 5, 9]


def test_a_text_in_other_words_ends_where_its_words_do():
    """A tokenizer without spaces shares the ends of words."""
    spans = text_spans("the old fox.", tokenizer_named("words"), tokenizer_named("bytes300"))
    assert [span[1] for span in spans] == [1, 2, 3, 4]
    assert pieces("bytes300", "the old fox.", spans, 2) == ["the", " old", " fox", "."]
