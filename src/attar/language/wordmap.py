"""Tokens of two vocabularies that stand for the same text.

A token's text is what it adds when it is decoded after another one, so that "▁fox" and "Ġfox" are both " fox". A token
that is no text by itself (a byte of an emoji, a special token) has a partner only if the other vocabulary writes it in
the same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from attar.language.offsets import PARTIAL
from attar.language.vocabulary import size_of

Ids = Int[Tensor, " pair"]


@dataclass(frozen=True)
class WordMap:
    """Pairs of tokens of the same text, and the tokens of either vocabulary that are in no pair."""

    student: Ids
    """The student's tokens of the pairs."""
    teacher: Ids
    """The teacher's, in the same order."""
    student_rest: Int[Tensor, " alone"]
    teacher_rest: Int[Tensor, " teacher_alone"]

    @classmethod
    def of(cls, pairs: Mapping[int, int], student_words: int, teacher_words: int) -> "WordMap":
        """From the teacher's token of each of the student's tokens that have one, and the sizes of the vocabularies."""
        known = {mine: theirs for mine, theirs in sorted(pairs.items()) if mine < student_words}
        known = {mine: theirs for mine, theirs in known.items() if theirs < teacher_words}
        taken = set(known.values())
        rest = [word for word in range(student_words) if word not in known]
        theirs_rest = [word for word in range(teacher_words) if word not in taken]
        parts = (list(known), list(known.values()), rest, theirs_rest)
        return cls(*(torch.tensor(part, dtype=torch.long) for part in parts))

    @classmethod
    def between(cls, student: Any, teacher: Any) -> "WordMap":
        """The map between all tokens of two tokenizers of transformers."""
        return cls.of(same_words(student, teacher), size_of(student), size_of(teacher))

    @property
    def words(self) -> tuple[int, int]:
        """The sizes of the student's and the teacher's vocabulary."""
        return len(self.student) + len(self.student_rest), len(self.teacher) + len(self.teacher_rest)

    def to(self, device: torch.device) -> "WordMap":
        """The map on another device."""
        parts = (self.student, self.teacher, self.student_rest, self.teacher_rest)
        return WordMap(*(part.to(device) for part in parts))


def same_words(student: Any, teacher: Any) -> dict[int, int]:
    """The teacher's token for each of the student's tokens that has one of the same text; no token has two partners.

    Args:
        student: The student's tokenizer, from transformers.
        teacher: The teacher's.
    """
    mine, theirs = student.get_vocab(), teacher.get_vocab()
    if mine == theirs:
        return {number: number for number in mine.values()}
    found: dict[int, int] = {}
    texts, others = texts_of(student), texts_of(teacher)
    written = {word: number for number, (word, _) in others.items()}
    for number, (word, text) in texts.items():
        other = written.get(word)
        if other is not None and others[other][1] == text:
            found[number] = other
    free, taken = set(others) - set(found.values()), set(found)
    # Of several tokens of one text the last one is taken: the first may stand for bytes that have no other token.
    by_text = {others[number][1]: number for number in sorted(free) if others[number][1] is not None}
    for number, (_, text) in sorted(texts.items(), reverse=True):
        if number not in taken and text is not None and text in by_text:
            found[number] = by_text.pop(text)
    return found


def texts_of(tokenizer: Any) -> dict[int, tuple[str, str | None]]:
    """How each token is written, and the text that it adds; None for one that is no text by itself."""
    vocabulary, special = tokenizer.get_vocab(), set(tokenizer.all_special_ids)
    before = list(tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"])[-1:]
    start = tokenizer.decode(before, clean_up_tokenization_spaces=False)
    numbers = sorted(vocabulary.values())
    decoded = tokenizer.batch_decode([[*before, n] for n in numbers], clean_up_tokenization_spaces=False)
    names = {number: word for word, number in vocabulary.items()}
    found: dict[int, tuple[str, str | None]] = {}
    for number, whole in zip(numbers, decoded, strict=True):
        text = whole.removeprefix(start) if whole.startswith(start) else ""
        plain = bool(text) and PARTIAL not in text and number not in special
        found[number] = (names[number], text if plain else None)
    return found
