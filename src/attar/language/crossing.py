"""A teacher that reads its own tokens of the student's texts.

The teacher gets the prompt and the answer as text, in its own tokens, with its own chat template, special tokens and
end. Prompt and answer are always cut into tokens apart, for either model, so no token reaches across the border. Where
the student's answer ends with one of its end tokens, the teacher's ends with its own, and the two are compared as one
span. What the student's length cuts off, the teacher does not read either; its prompt is cut only where its own model
needs it.

The text of a reference is the data's, also where the student's tokenizer has no token for a character. The text of an
answer that the student has sampled is what its tokens decode to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import nn

from attar.language.aligned import Aligned
from attar.language.alignment import Alignment
from attar.language.generation import Sampling, Voice, generate
from attar.language.models import longest_input
from attar.language.offsets import NOWHERE, Offsets, Span, shared_spans
from attar.language.pair import LanguagePair
from attar.language.stops import ended_by_words, stops_of
from attar.language.tokens import Batch, Tokeniser
from attar.language.wordmap import WordMap, same_words

LONGER = 8
"""Number of the teacher's tokens for one of the student's, up to which its prompts are not cut."""
REMEMBERED = 2**14
"""Number of answers whose spans are remembered."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Known:
    """What the data say about a prompt."""

    prompt: Ids
    """The prompt in the teacher's tokens."""
    response: str | None
    """The text of the reference, as far as it is known."""


@dataclass(frozen=True)
class Told:
    """A sequence in the teacher's tokens, and its spans."""

    prompt: Ids
    response: Ids
    spans: tuple[Span, ...]
    """In tokens of both responses."""


@dataclass(frozen=True)
class Beside:
    """A batch in the teacher's tokens, and its spans."""

    batch: Batch
    aligned: Aligned


@dataclass(frozen=True)
class Crossing:
    """The way from the student's tokens to the teacher's."""

    mine: Tokeniser
    theirs: Tokeniser
    ends: frozenset[int]
    """The student's tokens that end an answer."""
    their_ends: tuple[int, ...]
    """The teacher's."""
    end: int | None
    """The student's token with which a reference ends."""
    their_end: int | None
    """The teacher's."""
    words: WordMap
    alignment: Alignment
    known: Mapping[Ids, Known] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, pair: LanguagePair, mine: Tokeniser, alignment: Alignment) -> "Crossing":
        """The way between the tokenizers of a pair whose texts the student reads by `mine`."""
        theirs = their_tokeniser(pair, mine)
        end, their_end = (_end(by, chat=pair.data.form == "chat") for by in (mine, theirs))
        partners = same_words(mine.tokenizer, theirs.tokenizer)
        if end is not None and their_end is not None:
            partners = {one: other for one, other in partners.items() if other != their_end} | {end: their_end}
        assert theirs.words is not None
        words = WordMap.of(partners, pair.words, theirs.words)
        their_ends = tuple(t for t in stops_of(pair.teacher, theirs.tokenizer) if t < theirs.words)
        known = _known(pair, mine, theirs)
        return cls(mine, theirs, frozenset(pair.stops), their_ends, end, their_end, words, alignment, known)

    def beside(self, batch: Batch) -> Beside:
        """A batch of the student in the teacher's tokens, row by row, with the spans that are compared."""
        both = zip(batch.prompt_ids, batch.response_ids, strict=True)
        told = [self._remembered(tuple(prompt), tuple(response)) for prompt, response in both]
        theirs = Batch.of([one.prompt for one in told], [one.response for one in told], pad=self.theirs.pad)
        spans = [
            [(a + mine, b + mine, c + len(one.prompt), d + len(one.prompt)) for a, b, c, d in one.spans]
            for one, mine in zip(told, batch.prompts.tolist(), strict=True)
        ]
        return Beside(theirs, Aligned.of(spans, batch.ids, theirs.ids, self.words, self.alignment))

    def answers(
        self,
        teacher: nn.Module,
        prompts: Sequence[Sequence[int]],
        limits: Sequence[int],
        sampling: Sampling,
        generator: torch.Generator,
    ) -> list[list[int]]:
        """The teacher's answers to the student's prompts, in the student's tokens.

        Args:
            teacher: The teacher.
            prompts: Prompts in the student's tokens.
            limits: Largest number of the student's tokens of each answer.
            sampling: How the teacher samples; its limit counts the teacher's tokens.
            generator: Draws the tokens.
        """
        assert self.theirs.words is not None
        asked = [list(self._prompt(tuple(prompt))) for prompt in prompts]
        most = [self.theirs.max_length - len(prompt) for prompt in asked]
        most = [min(room, sampling.new_tokens or LONGER * limit) for room, limit in zip(most, limits, strict=True)]
        ended = ended_by_words(self.theirs.tokenizer)
        voice = Voice(teacher, self.theirs.words, self.their_ends, sampling, ended)
        said = generate(voice, asked, most, generator)
        return [self._retold(answer, limit) for answer, limit in zip(said, limits, strict=True)]

    def _retold(self, answer: Sequence[int], limit: int) -> list[int]:
        """An answer of the teacher in the student's tokens; its end token alone, if there is no text."""
        closed = answer[-1] in self.their_ends
        text = self._their_texts.decoded([token for token in answer if token not in self._their_special])
        end = [] if self.end is None else [self.end]
        return ([*self._texts.coded(text)[0], *(end if closed else [])][:limit] or end or [self.mine.pad])[:limit]

    @cached_property
    def _texts(self) -> Offsets:
        return Offsets(self.mine.tokenizer)

    @cached_property
    def _their_texts(self) -> Offsets:
        return Offsets(self.theirs.tokenizer)

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self.mine.tokenizer.all_special_ids)

    @cached_property
    def _their_special(self) -> frozenset[int]:
        return frozenset(self.theirs.tokenizer.all_special_ids)

    @cached_property
    def _remembered(self) -> Any:
        return lru_cache(REMEMBERED)(self._told)

    def _told(self, prompt: Ids, response: Ids) -> Told:
        known = self.known.get(prompt)
        begun = self._prompt(prompt)
        said, spans = self._response(response, None if known is None else known.response)
        room = self.theirs.max_length - len(begun)
        if self.alignment.align_by == "uld":
            spans = [(n, n + 1, n, n + 1) for n in range(min(len(response), len(said)))]
        return Told(begun, tuple(said[:room]), tuple(span for span in spans if span[3] <= room))

    def _prompt(self, prompt: Ids) -> Ids:
        """A prompt in the teacher's tokens, with room for an answer."""
        known = self.known.get(prompt)
        found = known.prompt if known is not None else tuple(self._response(prompt, None)[0])
        if not found:
            first = (self.theirs.tokenizer.bos_token_id, self.their_end, self.theirs.pad)
            found = (next(token for token in first if token is not None),)
        return found[-min(self.theirs.max_prompt, self.theirs.max_length - 1) :]

    def _response(self, ids: Ids, text: str | None) -> tuple[list[int], list[Span]]:
        """Tokens of the student as tokens of the teacher, up to each end token and beyond it, and the spans."""
        said: list[int] = []
        spans: list[Span] = []
        start = 0
        for stop in [*(n for n, token in enumerate(ids) if token in self.ends), len(ids)]:
            places, words, ends = self._read(ids[start:stop], text if start == 0 else None)
            theirs, their_ends = self._their_texts.coded(words)
            for a, b, c, d in shared_spans(ends, their_ends):
                first, last = start + places[a], start + places[b - 1]
                if last - first == b - a - 1:  # no special token is in between
                    spans.append((first, last + 1, len(said) + c, len(said) + d))
            said += theirs
            if stop < len(ids) and self.their_end is not None:
                spans.append((stop, stop + 1, len(said), len(said) + 1))
                said.append(self.their_end)
            start = stop + 1
        return said, spans

    def _read(self, ids: Ids, text: str | None) -> tuple[list[int], str, list[int]]:
        """Which tokens of the student are text, their text, and the end of each; the text is the data's where it is."""
        if text is not None:
            found, ends = self._texts.coded(text)
            if tuple(found[: len(ids)]) == ids:
                reached = max([0, *(end for end in ends[: len(ids)] if end != NOWHERE)])
                whole = text if len(found) == len(ids) else text[:reached]
                return list(range(len(ids))), whole, ends[: len(ids)]
        places = [place for place, token in enumerate(ids) if token not in self._special]
        words, ends = self._texts.ends([ids[place] for place in places])
        return places, words, ends


def their_tokeniser(pair: LanguagePair, mine: Tokeniser) -> Tokeniser:
    """The conversion of a pair's texts to the teacher's tokens, with room for longer sequences of them."""
    longest = min(longest_input(pair.teacher), LONGER * mine.max_length)
    return Tokeniser(
        pair.theirs,
        longest,
        max(1, longest * mine.max_prompt // mine.max_length),
        mine.context,
        words=pair.teacher_words,
    )


def _end(by: Tokeniser, *, chat: bool) -> int | None:
    """The token with which a reference ends."""
    stop = by.closing.stop if chat and by.closing is not None else None
    end = stop if stop is not None else by.tokenizer.eos_token_id
    return None if end is None else int(end)


def _known(pair: LanguagePair, mine: Tokeniser, theirs: Tokeniser) -> dict[Ids, Known]:
    """The teacher's tokens of each prompt of the data, and the text of its reference."""
    if pair.data.form == "text":  # blocks of the student's tokens, which are no rows of the data
        return {}
    one, other = pair.tokens("train", mine), theirs.read(pair.data, "train")
    end = mine.tokenizer.eos_token or "\0"
    found: dict[Ids, Known] = {}
    for prompt, their_prompt, row in zip(one.rows["prompt"], other.rows["prompt"], pair.data.train, strict=True):
        text = row["messages"][-1]["content"] if "messages" in row else row["response"].removesuffix(end)
        found.setdefault(tuple(prompt), Known(tuple(their_prompt), text))
    return found
