"""Where an answer ends: one set of tokens for student and teacher, in training, in sampling and in the saved student.

A tokenizer names one end token, a model's generation settings may name several, and a chat template closes a turn with
a token of its own (<|im_end|>) or with plain words (</s> in a vocabulary that has no such token). All of them end an
answer. A response of a conversation is learned up to the token with which the template closes it. Where a template
closes it with plain words, or not at all, the tokenizer's end token is learned after them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from attar.language.vocabulary import size_of, special_tokens, width

MARK = "attarmark"
"""A response that stands in no template."""
CONVERSATION = ({"role": "user", "content": "Hello"}, {"role": "assistant", "content": MARK})
SYSTEM = {"role": "system", "content": "Hello"}
"""A turn without which some templates refuse a conversation, and with which others do."""


@dataclass(frozen=True)
class Closing:
    """How a chat template closes a response."""

    text: str
    """What the template writes after it."""
    tokens: tuple[int, ...]
    """The same as tokens, up to the token that ends the response; all of them, if none does."""
    after: tuple[int, ...] = ()
    """Tokens that follow that token. They are not learned."""
    stop: int | None = None
    """The token that ends a response."""

    @property
    def words(self) -> str:
        """The plain words that end a response; empty, if a token does."""
        return "" if self.stop is not None else self.text.strip()


def closing_of(tokenizer: Any) -> Closing | None:
    """How a tokenizer's chat template closes a response, found by rendering one; None without a template."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    found = (_after_mark(tokenizer, turns) for turns in (CONVERSATION, (SYSTEM, *CONVERSATION)))
    text = next((text for text in found if text is not None), None)
    if text is None:
        return None
    tokens = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    special = special_tokens(tokenizer)
    place = next((place for place, token in enumerate(tokens) if token in special), None)
    if place is None:
        return Closing(text, tuple(tokens))
    return Closing(text, tuple(tokens[: place + 1]), tuple(tokens[place + 1 :]), tokens[place])


def _after_mark(tokenizer: Any, turns: Sequence[dict[str, str]]) -> str | None:
    """What a chat template writes after the response of a conversation; None if it refuses it or changes its words."""
    try:
        whole = tokenizer.apply_chat_template(list(turns), tokenize=False)
    except Exception:  # a template raises what it likes, and so it does again for the first row of the data
        return None
    _, found, text = whole.rpartition(MARK)
    return text if found else None


def stops_of(model: nn.Module | None, tokenizer: Any, *more: nn.Module | None) -> tuple[int, ...]:
    """The tokens that end an answer of any of some models, in order.

    They are the tokenizer's, the one with which its chat template closes a response, and all that the models'
    generation settings name.
    """
    closing = closing_of(tokenizer)
    found = {tokenizer.eos_token_id, None if closing is None else closing.stop}
    for one in (model, *more):
        named = getattr(getattr(one, "generation_config", None), "eos_token_id", None)
        found |= set(named) if isinstance(named, (list, tuple)) else {named}
    size = size_of(tokenizer)
    return tuple(sorted(token for token in found if token is not None and token < size))


@dataclass(frozen=True)
class EndWords:
    """The plain words with which a chat template closes a response."""

    tokenizer: Any = field(repr=False)
    words: str
    reach: int
    """Number of tokens in which the words lie, however they are cut."""

    def __call__(self, said: Sequence[int]) -> bool:
        """Whether an answer ends with them."""
        return bool(self.tokenizer.decode(said[-self.reach :]).rstrip().endswith(self.words))

    def without(self, text: str) -> str:
        """A text without them at its end."""
        return text.rstrip().removesuffix(self.words).rstrip() if text.rstrip().endswith(self.words) else text


def ended_by_words(tokenizer: Any) -> EndWords | None:
    """The plain words with which a tokenizer's chat template closes a response; None if it has none."""
    closing = closing_of(tokenizer)
    if closing is None or not closing.words:
        return None
    return EndWords(tokenizer, closing.words, 2 * len(closing.tokens) + 2)


def write_stops(model: nn.Module, tokenizer: Any, stops: Sequence[int], words: int) -> None:
    """Write into a model's generation settings where its answers end, and which tokens it never says.

    Args:
        model: A model, changed in place; nothing is done to one without generation settings.
        tokenizer: Its tokenizer.
        stops: The tokens that end an answer.
        words: Size of the vocabulary that it has learned. Further tokens are suppressed, and numbers without a token.
    """
    settings = getattr(model, "generation_config", None)
    if settings is None:
        return
    if stops:
        settings.eos_token_id = list(stops) if len(stops) > 1 else stops[0]
    known, size = set(tokenizer.get_vocab().values()), width(model)
    if settings.pad_token_id is None:
        fitting = (token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None)
        settings.pad_token_id = next((token for token in fitting if token < size), None)
    unsaid = [number for number in range(size) if number >= words or number not in known]
    if unsaid:
        settings.suppress_tokens = sorted({*(settings.suppress_tokens or ()), *unsaid})
