"""ROUGE-L: the longest common subsequence of two texts' words, as an F-measure.

Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004. Words are runs of lower-case letters and digits, as
the field's scorer has them; its stemmer can be given.
"""

import importlib
import re
from collections.abc import Callable, Sequence

from attar.core.errors import InputError

Stem = Callable[[str], str]

WORD = re.compile(r"[a-z0-9]+")
STEMMED = 4
"""Letters from which the field's scorer stems a word."""


def rouge_l(candidate: str, references: Sequence[str], stem: Stem | None = None) -> float:
    """The best F-measure over the references, 0 to 1: 2 P R / (P + R), with P and R the common share of either text.

    Args:
        candidate: What was generated.
        references: What it is held against.
        stem: Shortens words of four letters and more before they are compared.
    """
    words = _words(candidate, stem)
    return max((_f_measure(words, _words(reference, stem)) for reference in references), default=0.0)


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    best = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = best[place]
            best[place] = diagonal + 1 if word == other else max(above, best[place - 1])
            diagonal = above
    return best[-1]


def porter() -> Stem:
    """NLTK's Porter stemmer, which the field's scorer uses.

    Raises:
        InputError: NLTK is not installed.
    """
    try:
        stemmer = importlib.import_module("nltk.stem.porter").PorterStemmer()
    except ModuleNotFoundError:
        raise InputError("stemming needs nltk. Install it: pip install nltk, or compare words as they are.") from None
    return lambda word: str(stemmer.stem(word))


def _words(text: str, stem: Stem | None) -> list[str]:
    words = WORD.findall(text.lower())
    return words if stem is None else [stem(word) if len(word) >= STEMMED else word for word in words]


def _f_measure(first: list[str], second: list[str]) -> float:
    common = longest_common(first, second)
    return 2 * common / (len(first) + len(second)) if common else 0.0
