import itertools
import sys
from types import ModuleType, SimpleNamespace

import pytest

from attar.core.errors import InputError
from attar.language.rouge import longest_common, porter, rouge_l


def by_hand(first, second):
    """Every subsequence of the one is looked for in the other."""
    for size in range(len(first), 0, -1):
        for some in itertools.combinations(first, size):
            there = iter(second)
            if all(word in there for word in some):
                return size
    return 0


@pytest.mark.parametrize(
    ("first", "second"), [("abcbdab", "bdcaba"), ("abc", "abc"), ("abc", "xyz"), ("", "abc"), ("aab", "baa")]
)
def test_the_longest_common_subsequence_is_the_longest(first, second):
    assert longest_common(first, second) == by_hand(first, second)


def test_it_is_the_f_measure_of_common_words():
    assert rouge_l("the cat sat", ["the cat sat"]) == 1
    assert rouge_l("The cat, sat!", ["the dog sat down"]) == pytest.approx(2 * (2 / 3 * 2 / 4) / (2 / 3 + 2 / 4))
    assert rouge_l("police kill the gunman", ["police killed the gunman"]) == 0.75
    assert rouge_l("", ["something"]) == rouge_l("a", ["b"]) == rouge_l("a", []) == 0


def test_the_best_reference_counts():
    assert rouge_l("the cat", ["no match here", "the cat"]) == 1


def test_words_of_four_letters_and_more_are_stemmed():
    stem = {"killed": "kill"}.get
    assert rouge_l("police kill", ["police killed"], lambda word: stem(word, word)) == 1
    assert rouge_l("was", ["wax"], lambda word: word[:2]) == 0


def test_the_field_s_stemmer_is_nltk_s(monkeypatch):
    module = ModuleType("nltk.stem.porter")
    module.PorterStemmer = lambda: SimpleNamespace(stem=lambda word: word.removesuffix("ed"))
    for name in ("nltk", "nltk.stem"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "nltk.stem.porter", module)
    assert porter()("killed") == "kill"
    monkeypatch.setitem(sys.modules, "nltk.stem.porter", None)
    with pytest.raises(InputError, match="stemming needs nltk"):
        porter()
