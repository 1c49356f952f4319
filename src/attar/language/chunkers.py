"""Where phrases begin and end in a text: chunkers give spans of characters, which become spans of tokens.

A chunker is any function from a text to half-open, rising intervals of characters; `CHUNKERS` holds those that go by a
name, and a further one joins by an entry there.
"""

import importlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from attar.core.errors import InputError, named

Span = tuple[int, int]
Chunker = Callable[[str], list[Span]]

NONE = -1
"""The number of the span of a token that lies in none."""

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[^\w\s]|_+")

_STOP = """
a about after again all also although am among an and any are as at be because been before being between both
but by can could did do does doing during each either else every few for from further had has have having he her
here hers him his how i if in into is it its just let like many may me might more most must my neither no nor
not now of off on once one only onto or other our ours out over own per shall she should since so some such than
that the their theirs them then there these they this those though through thus till to too under until up upon
us very was we were what when where whether which while who whom whose why will with within without would yet
you your yours
"""
STOP_WORDS = frozenset(_STOP.split())


def phrases(text: str) -> list[Span]:
    """Runs of words between punctuation and stop words, which stand alone."""
    found: list[Span] = []
    start = end = None
    for match in WORD.finditer(text):
        word = match.group()
        if word[0].isalnum() and word.lower() not in STOP_WORDS:
            start, end = match.start() if start is None else start, match.end()
        elif start is not None and end is not None:
            found.append((start, end))
            start = end = None
    return [*found, (start, end)] if start is not None and end is not None else found


def windows(words: int) -> Chunker:
    """Chunker of so many words each, whatever they are: the ablation of phrases."""

    def chunk(text: str) -> list[Span]:
        matches = list(WORD.finditer(text))
        groups = [matches[start : start + words] for start in range(0, len(matches), words)]
        return [(group[0].start(), group[-1].end()) for group in groups]

    return chunk


def nltk_phrases() -> Chunker:
    """Chunker of noun, verb and prepositional phrases by NLTK's part-of-speech tagger, whose data have to be there.

    Raises:
        InputError: NLTK or its data are missing.
    """
    nltk = _plug_in("nltk", lambda: importlib.import_module("nltk"))
    grammar = nltk.RegexpParser("NP: {<DT|PRP.*>?<JJ.*>*<NN.*>+}\nPP: {<IN><NP>}\nVP: {<MD>?<VB.*>+<RP>?}")

    def chunk(text: str) -> list[Span]:
        matches = list(WORD.finditer(text))
        try:
            tagged = nltk.pos_tag([match.group() for match in matches])
        except LookupError:
            raise InputError(
                "NLTK's tagger is missing. Download it: nltk.download('averaged_perceptron_tagger_eng')."
            ) from None
        found, place = [], 0
        for node in grammar.parse(tagged) if tagged else []:
            width = 1 if isinstance(node, tuple) else len(node.leaves())
            if not isinstance(node, tuple):
                found.append((matches[place].start(), matches[place + width - 1].end()))
            place += width
        return found

    return chunk


def spacy_phrases(model: str = "en_core_web_sm") -> Chunker:
    """Chunker of the noun chunks of a spaCy pipeline.

    Raises:
        InputError: SpaCy or the pipeline is missing.
    """
    try:
        pipeline = _plug_in("spacy", lambda: importlib.import_module("spacy")).load(model)
    except OSError:
        raise InputError(
            f"spaCy's pipeline {model} is missing. Download it: python -m spacy download {model}."
        ) from None
    return lambda text: [(chunk.start_char, chunk.end_char) for chunk in pipeline(text).noun_chunks]


def _plug_in(name: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except ModuleNotFoundError:
        raise InputError(
            f"this chunker needs {name}. Install it: pip install {name}, or give --chunker phrases."
        ) from None


CHUNKERS: dict[str, Callable[[], Chunker]] = {
    "phrases": lambda: phrases,
    "nltk": nltk_phrases,
    "spacy": spacy_phrases,
}
"""By name, what makes a chunker; an entry adds one."""


@cache
def chunker_named(name: str) -> Chunker:
    """A chunker by name: phrases, windows:N (N words each), nltk, spacy, or what `CHUNKERS` was given.

    Raises:
        InputError: No such chunker, or what it is made of is missing.
    """
    kind, _, words = name.partition(":")
    if kind == "windows":
        if not words.isdigit() or int(words) < 1:
            raise InputError(f"chunker is {name!r}. Give the number of words: windows:3.")
        return windows(int(words))
    return named("chunker", name, CHUNKERS, hint="windows:N makes windows of N words.")()


def token_spans(ids: Sequence[int], tokenizer: Any, chunk: Chunker, longest: int) -> list[int]:
    """The number of the span that each token lies in, `NONE` for none; a span goes on for at most `longest` tokens.

    A token lies where its last character does, since many begin with the space before a word.

    Args:
        ids: A response.
        tokenizer: Of transformers.
        chunk: The chunker.
        longest: Tokens in a span.
    """
    text, ends = _ends(list(ids), tokenizer)
    spans = chunk(text)
    found, place, number, length, previous = [], 0, -1, 0, NONE
    for begin, end in ends:
        while place < len(spans) and spans[place][1] < end:
            place += 1
        inside = end > begin and place < len(spans) and spans[place][0] < end
        here = place if inside else NONE
        fresh = here != previous or length == longest
        if inside and fresh:
            number, length = number + 1, 0
        length += 1
        found.append(number if inside else NONE)
        previous = here
    return found


def _ends(ids: list[int], tokenizer: Any) -> tuple[str, list[Span]]:
    """The text of tokens, and each one's interval of characters.

    Where the text's own tokens are these, the tokenizer says; tokens that were sampled may be others, and then the text
    is grown token by token.
    """
    special = set(tokenizer.all_special_ids)
    plain = [token for token in ids if token not in special]
    text = tokenizer.decode(plain)
    if getattr(tokenizer, "is_fast", False):
        coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        if coded["input_ids"] == plain:
            offsets = iter(coded["offset_mapping"])
            found, last = [], 0
            for token in ids:
                interval = (last, last) if token in special else tuple(next(offsets))
                found.append(interval)
                last = interval[1]
            return text, found
    found, last = [], 0
    for count, token in enumerate(ids, start=1):
        reached = last
        if token not in special:
            reached = max(last, len(tokenizer.decode([t for t in ids[:count] if t not in special])))
        found.append((last, reached))
        last = reached
    return text, found
