"""Where the tokens of a text end, and the smallest spans whose ends two tokenizations of one text share.

A token ends at a character, or nowhere: of several tokens that make up one character (the bytes of an emoji), all but
the last end nowhere. Fast tokenizers tell the characters of each token. For others, and for tokens that a tokenizer
would not choose itself (a model has sampled them), the text is decoded token by token.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

NOWHERE = -1
"""The end of a token within a character."""
PARTIAL = "\ufffd"
"""What bytes decode to that are no character yet."""

Span = tuple[int, int, int, int]
"""The first token of one tokenization and the end of its tokens, and the same of the other one; ends are exclusive."""


@dataclass(frozen=True)
class Offsets:
    """A tokenizer that says where the tokens of a text end."""

    tokenizer: Any
    """A tokenizer of transformers, fast or slow."""

    @cached_property
    def _backend(self) -> Any:
        """The tokenizer's core without what adds tokens, cuts texts, or counts spaces as no part of a token."""
        found = copy.deepcopy(self.tokenizer.backend_tokenizer)
        found.no_truncation()
        found.no_padding()
        found.post_processor = None
        return found

    def coded(self, text: str) -> tuple[list[int], list[int]]:
        """The tokens of a text, and the number of characters up to the end of each; `NOWHERE` within a character."""
        if not getattr(self.tokenizer, "is_fast", False):
            ids = list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            return ids, self._grown(ids, text)
        found = self._backend.encode(text, add_special_tokens=False)
        after = [*(start for start, _ in found.offsets[1:]), len(text)]
        ends = [end if end <= start else NOWHERE for (_, end), start in zip(found.offsets, after, strict=False)]
        return list(found.ids), ends

    def ends(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """The text that tokens stand for, and the end of each of them."""
        text = self.decoded(ids)
        own, ends = self.coded(text)
        return text, ends if own == list(ids) else self._grown(ids, text)

    def decoded(self, ids: Sequence[int]) -> str:
        """The text that tokens stand for."""
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    def _grown(self, ids: Sequence[int], text: str) -> list[int]:
        """The ends of tokens, found by decoding longer and longer beginnings."""
        found, reached = [], 0
        for count in range(1, len(ids) + 1):
            begun = self.decoded(ids[:count])
            whole = text.startswith(begun) and not begun.endswith(PARTIAL) and len(begun) > reached
            reached = len(begun) if whole else reached
            found.append(reached if whole else NOWHERE)
        return found


def shared_spans(one: Sequence[int], other: Sequence[int]) -> list[Span]:
    """The smallest spans whose ends two tokenizations of one text share, in order.

    Tokens without characters belong to the span before them, or to the first one. Tokens after the last shared end
    belong to none; if both tokenizations are of the whole text, there are none such.

    Args:
        one: The end of each token, in characters from the start of the text; `NOWHERE` within a character.
        other: The same for the other tokenization.
    """
    places, others = ({end: place for place, end in enumerate(ends, start=1) if end > 0} for ends in (one, other))
    found, last = [], (0, 0)
    for end in sorted(places.keys() & others.keys()):
        here = places[end], others[end]
        found.append((last[0], here[0], last[1], here[1]))
        last = here
    return found


def text_spans(text: str, one: Any, other: Any) -> list[Span]:
    """The smallest spans of a text whose ends two tokenizers share.

    Args:
        text: A text.
        one: A tokenizer of transformers.
        other: Another one.
    """
    return shared_spans(Offsets(one).coded(text)[1], Offsets(other).coded(text)[1])
