import sys
from types import ModuleType, SimpleNamespace

import pytest

from attar.core.errors import InputError
from attar.language.chunkers import CHUNKERS, chunker_named, phrases, token_spans


def said(text, spans):
    return [text[start:end] for start, end in spans]


def test_punctuation_and_stop_words_part_phrases():
    text = "The quick brown fox, who ran across the old bridge's end, didn't stop."
    assert said(text, phrases(text)) == ["quick brown fox", "ran across", "old bridge's end", "didn't stop"]
    assert phrases("") == phrases("of the, and ...") == []


def test_windows_are_so_many_words_whatever_they_are():
    text = "one two, three four five"
    assert said(text, chunker_named("windows:2")(text)) == ["one two", ", three", "four five"]


def test_tokens_lie_where_their_last_letter_does(tokenizer):
    ids = tokenizer("the small fox, and the toad")["input_ids"]
    spans = token_spans(ids, tokenizer, phrases, longest=100)
    inside = dict.fromkeys(spans, "")
    for token, number in zip(ids, spans, strict=True):
        inside[number] += tokenizer.decode([token])
    assert inside[0].strip() == "small fox"
    assert inside[1].strip() == "toad"
    assert "and the" in inside[-1]


def test_spans_are_cut_at_their_longest(tokenizer):
    ids = tokenizer("xyz" * 5)["input_ids"]
    spans = token_spans(ids, tokenizer, phrases, longest=4)
    assert spans == [number // 4 for number in range(len(ids))]


def test_sampled_tokens_that_a_tokenizer_would_not_choose_have_spans_too(tokenizer):
    text = "small fox and toad"
    letters = [tokenizer.convert_tokens_to_ids("Ġ" if letter == " " else letter) for letter in text]
    assert tokenizer(text)["input_ids"] != letters
    spans = token_spans([*letters, tokenizer.eos_token_id], tokenizer, phrases, longest=100)
    assert spans == [0] * 9 + [-1] * 5 + [1] * 4 + [-1]


def test_the_end_lies_in_no_span(tokenizer):
    ids = [*tokenizer("small fox")["input_ids"], tokenizer.eos_token_id]
    assert token_spans(ids, tokenizer, phrases, longest=100)[-1] == -1
    assert token_spans([], tokenizer, phrases, longest=100) == []


def test_noun_chunks_of_spacy_plug_in(monkeypatch):
    chunk = SimpleNamespace(start_char=4, end_char=9)
    spacy = ModuleType("spacy")
    spacy.load = lambda name: lambda text: SimpleNamespace(noun_chunks=[chunk])
    monkeypatch.setitem(sys.modules, "spacy", spacy)
    assert CHUNKERS["spacy"]()("the small fox") == [(4, 9)]

    def missing(name):
        raise OSError

    spacy.load = missing
    with pytest.raises(InputError, match="python -m spacy download en_core_web_sm"):
        CHUNKERS["spacy"]()


def test_phrases_of_nltk_plug_in(monkeypatch):
    class Tree(list):
        leaves = list.copy

    nltk = ModuleType("nltk")
    nltk.pos_tag = lambda words: [(word, "NN") for word in words]
    nltk.RegexpParser = lambda grammar: SimpleNamespace(parse=lambda tagged: [tagged[0], Tree(tagged[1:3]), tagged[3]])
    monkeypatch.setitem(sys.modules, "nltk", nltk)
    text = "see small foxes run"
    assert said(text, CHUNKERS["nltk"]()(text)) == ["small foxes"]
    assert CHUNKERS["nltk"]()("") == []


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "phrase",
            "unknown chunker 'phrase'; did you mean 'phrases'? Known: nltk, phrases, spacy. "
            "windows:N makes windows of N words.",
        ),
        ("windows:x", "chunker is 'windows:x'. Give the number of words: windows:3."),
    ],
)
def test_wrong_names_are_refused(name, sentence):
    with pytest.raises(InputError) as refusal:
        chunker_named(name)
    assert str(refusal.value) == sentence


def test_a_chunker_whose_package_is_missing_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(
        InputError, match=r"this chunker needs nltk\. Install it: pip install nltk, or give --chunker phrases"
    ):
        CHUNKERS["nltk"]()
