"""Text encoders for pairs of image and text: small ones that learn from captions alone, and those of `transformers`.

A small one splits captions into words or bytes, and takes the mean over the vectors of their tokens, after a few blocks
of a transformer or none. Its vocabulary is that of the training captions. Those of `transformers` have their own
tokenizer, and give the mean over the tokens' last hidden states.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError, reason_of, unknown
from attar.core.foreign import NO_CODE
from attar.core.seeds import seeded
from attar.core.settings import Range, Settings, words
from attar.embeddings.encoders import options
from attar.embeddings.foreign import (
    MODEL,
    config_from,
    fresh_model,
    kept_config,
    options_of,
    pretrained_model,
    without_pooler,
)
from attar.images.networks.pretrained import PREFIX, config_of, fetched, library

Tokens = Int[Tensor, "text length"]
"""Numbers of tokens from 1 on; 0 where there is none."""
States = Float[Tensor, "text length width"]
NONE, UNKNOWN, FIRST = 0, 1, 2
"""Numbers: of no token, of one that is not in the vocabulary, and of the vocabulary's first."""
SPREAD = 0.02
WORD = re.compile(r"\w+|[^\w\s]")
"""A word or a mark."""


class TextEncoder(nn.Module):
    """A network with one row of features for each text."""

    name: str
    """The words by which it is built."""
    width: int
    """Number of features."""

    @property
    def facts(self) -> dict[str, Any]:
        """What is needed to build it again before its weights are read, in plain values."""
        raise NotImplementedError

    def tokens(self, captions: Sequence[str]) -> Tokens:
        """Captions as numbers of tokens, as many columns as the longest has, up to the encoder's length."""
        raise NotImplementedError

    def forward(self, tokens: Tokens) -> Float[Tensor, "text width"]:
        """The features of texts."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Small(Settings):
    """Settings of a small text encoder, as words: words:width=128,depth=1,heads=4,length=64."""

    width: Annotated[int, Range(1, 4096)] = 128
    """Number of features of a token and of a text."""
    depth: Annotated[int, Range(0, 12)] = 1
    """Blocks of a transformer. 0: the mean of the tokens' vectors, without their order."""
    heads: Annotated[int, Range(1, 64)] = 4
    """Heads of attention."""
    length: Annotated[int, Range(1, 4096)] = 64
    """Tokens of a text that are read."""
    vocabulary: Annotated[int, Range(1)] = 20_000
    """Words that are known, the most frequent ones of the training captions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth and self.width % self.heads:
            raise InputError(f"width is {self.width}; it must be a multiple of heads, {self.heads}.")


class SmallText(TextEncoder):
    """Vectors of words or bytes, blocks of a transformer, and the mean over tokens.

    Args:
        name: The words by which it is built.
        how: The settings.
        vocabulary: The words, from the most frequent on; empty for bytes.
    """

    def __init__(self, name: str, how: Small, vocabulary: Sequence[str]) -> None:
        super().__init__()
        self.name, self.width, self.how, self.vocabulary = name, how.width, how, tuple(vocabulary)
        self.numbers = {word: number for number, word in enumerate(self.vocabulary, start=FIRST)}
        self.vectors = nn.Embedding(FIRST + (len(self.vocabulary) or 256), how.width)
        nn.init.normal_(self.vectors.weight, std=SPREAD)
        self.places, self.blocks = None, None
        if how.depth:
            self.places = nn.Parameter(SPREAD * torch.randn(how.length, how.width))
            block = nn.TransformerEncoderLayer(
                how.width, how.heads, 4 * how.width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.blocks = nn.TransformerEncoder(block, how.depth, nn.LayerNorm(how.width), enable_nested_tensor=False)

    @property
    def facts(self) -> dict[str, Any]:
        """Its words, and its vocabulary."""
        return {"name": self.name, "vocabulary": list(self.vocabulary)}

    def tokens(self, captions: Sequence[str]) -> Tokens:
        """Captions as numbers of words or bytes. One without any has an unknown token."""
        return stacked([self._numbers(caption) or [UNKNOWN] for caption in captions], self.how.length)

    def _numbers(self, caption: str) -> list[int]:
        if self.vocabulary:
            return [self.numbers.get(word, UNKNOWN) for word in words_in(caption)]
        return [FIRST + byte for byte in caption.encode()]

    def forward(self, tokens: Tokens) -> Float[Tensor, "text width"]:
        """The mean over the tokens of each text."""
        there = tokens != NONE
        states = self.vectors(tokens)
        if self.blocks is not None and self.places is not None:
            states = self.blocks(states + self.places[: tokens.shape[1]], src_key_padding_mask=~there)
        return mean_over(states, there)


class ForeignText(TextEncoder):
    """A text encoder of `transformers`: the mean over the last hidden states of the tokens.

    Args:
        name: The words by which it is built.
        model: The model without a head.
        tokenizer: Its fast tokenizer, in the form of the tokenizers library.
        length: Tokens of a text that are read.
    """

    def __init__(self, name: str, model: nn.Module, tokenizer: str, length: int) -> None:
        super().__init__()
        from tokenizers import Tokenizer

        config: Any = model.config
        self.name, self.length, self.config = name, length, kept_config(config)
        model = model.get_encoder() if getattr(config, "is_encoder_decoder", False) else model  # type: ignore[operator]
        self.model, self.width = without_pooler(model), getattr(config, "hidden_size", None) or 0
        self.tokenizer = Tokenizer.from_str(tokenizer)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(length)
        self._try()

    @property
    def facts(self) -> dict[str, Any]:
        """Its words, configuration, tokenizer and length."""
        tokenizer = self.tokenizer.to_str()
        return {"name": self.name, "config": self.config, "tokenizer": tokenizer, "length": self.length}

    def tokens(self, captions: Sequence[str]) -> Tokens:
        """Captions as numbers of its tokenizer, each one more than there."""
        found = self.tokenizer.encode_batch(list(captions))
        return stacked([[number + 1 for number in one.ids] or [UNKNOWN] for one in found], self.length)

    def forward(self, tokens: Tokens) -> Float[Tensor, "text width"]:
        """The mean over the tokens of each text."""
        there = tokens != NONE
        found = self.model(input_ids=(tokens - 1).clamp_min(0), attention_mask=there.long())
        return mean_over(found.last_hidden_state, there)

    @torch.no_grad()
    def _try(self) -> None:
        name = self.name.removeprefix(PREFIX).partition(",")[0]
        try:
            found = self.eval()(torch.ones(1, self.length, dtype=torch.long))
        except (ValueError, RuntimeError, TypeError, AttributeError, IndexError) as error:
            reason = reason_of(error)
            raise InputError(f"{name} does not take texts of {self.length} tokens ({reason}).") from None
        self.width = found.shape[1]
        self.train()


def words_in(text: str) -> list[str]:
    """The words and marks of a text, in small letters."""
    return WORD.findall(text.lower())


def vocabulary_of(captions: Sequence[str], most: int) -> list[str]:
    """The words of captions, the most frequent first, those that are equally frequent by the alphabet."""
    counts = Counter(word for caption in captions for word in words_in(caption))
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]


def stacked(rows: Sequence[Sequence[int]], length: int) -> Tokens:
    """Numbers of several texts, the first so many of each, as one tensor that is filled up with `NONE`."""
    longest = min(length, max(map(len, rows), default=1))
    found = torch.full((len(rows), longest), NONE)
    for place, row in enumerate(rows):
        kept = row[:longest]
        found[place, : len(kept)] = torch.tensor(kept)
    return found


def mean_over(states: States, there: Bool[Tensor, "text length"]) -> Float[Tensor, "text width"]:
    """The mean over the tokens that are there."""
    weights = there.to(states.dtype).unsqueeze(2)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)


def text_encoder_named(name: str, captions: Sequence[str], generator: torch.Generator) -> TextEncoder:
    """A text encoder by words: words, bytes (with options), or transformers:FOLDER[,pretrained=true].

    Args:
        name: The words.
        captions: The training captions, from which the vocabulary is made.
        generator: Draws the weights.

    Raises:
        InputError: There is no such encoder, an option is unknown, or a folder holds none.
    """
    if name.startswith(PREFIX):
        with seeded(generator):
            return _foreign(name)
    kind, how = _small(name)
    vocabulary = vocabulary_of(captions, how.vocabulary) if kind == "words" else []
    if kind == "words" and not vocabulary:
        raise InputError("no caption has a word. Give captions with words, or the text encoder bytes.")
    with seeded(generator):
        return SmallText(name, how, vocabulary)


def text_encoder_built(facts: Mapping[str, Any]) -> TextEncoder:
    """The encoder of which these are the `facts`, before its weights are read.

    Raises:
        InputError: The facts are of an encoder that is not known here.
    """
    name = str(facts["name"])
    if name.startswith(PREFIX):
        model = fresh_model(config_from(facts["config"]), name)
        return ForeignText(name, model, facts["tokenizer"], facts["length"])
    return SmallText(name, _small(name)[1], facts["vocabulary"])


def _foreign(text: str) -> ForeignText:
    """A text encoder of transformers by words, with its weights or fresh ones."""
    name, given = options_of(text, {"pretrained": "false", "length": "64"})
    pretrained, transformers = given["pretrained"] == "true", library()
    if not given["length"].isdigit() or not 1 <= int(given["length"]) <= 4096:
        raise InputError(f"length is {given['length']!r}; it must be a whole number from 1 to 4096.")
    config = config_of(transformers, name, pretrained=pretrained, what=MODEL)
    load = transformers.AutoTokenizer.from_pretrained
    tokenizer = fetched(name, lambda: load(name, use_fast=True, **NO_CODE), "a model with a tokenizer")
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"the tokenizer of {name} has no fast form (tokenizer.json). Save it with save_pretrained.")
    model = pretrained_model(name) if pretrained else fresh_model(config, name)
    return ForeignText(text, model, tokenizer.backend_tokenizer.to_str(), int(given["length"]))


def _small(name: str) -> tuple[str, Small]:
    kind, given = words(name)
    if kind not in ("words", "bytes"):
        raise unknown("text encoder", kind, ["words", "bytes", f"{PREFIX}FOLDER"])
    return kind, options(Small, given)
