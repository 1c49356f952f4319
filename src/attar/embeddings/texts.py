"""Text encoders for pairs of image and text: small ones that learn from the captions alone, and those of `transformers`.

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

from attar.core.errors import InputError, unknown
from attar.core.settings import Range, Settings, words
from attar.embeddings.foreign import PREFIX, Foreign, foreign_named, model_of, tokenizer_of

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
        found: Its configuration, and its weights if it is to have them.
    """

    def __init__(self, name: str, found: Foreign) -> None:
        super().__init__()
        self.name, self.found = name, found
        model = model_of(found)
        self.model = model.get_encoder() if found.config.get("is_encoder_decoder") else model
        size = getattr(self.model.config, "hidden_size", None)
        if not isinstance(size, int) or found.tokenizer is None:
            raise InputError(f"{found.name} is no text encoder; give one with a hidden size, such as BERT.")
        self.width = size
        self.tokenizer = tokenizer_of(found.tokenizer, found.length)

    @property
    def facts(self) -> dict[str, Any]:
        """Its words, configuration and tokenizer."""
        return {"name": self.name, **self.found.to_json()}

    def tokens(self, captions: Sequence[str]) -> Tokens:
        """Captions as numbers of its tokenizer, each one more than there."""
        found = self.tokenizer.encode_batch(list(captions))
        return stacked([[number + 1 for number in one.ids] or [UNKNOWN] for one in found], self.found.length)

    def forward(self, tokens: Tokens) -> Float[Tensor, "text width"]:
        """The mean over the tokens of each text."""
        there = tokens != NONE
        found = self.model(input_ids=(tokens - 1).clamp_min(0), attention_mask=there.long())
        return mean_over(found.last_hidden_state, there)


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
        found = foreign_named(name, text=True)
        return _drawn(lambda: ForeignText(name, found), generator)
    kind, how = _small(name)
    vocabulary = vocabulary_of(captions, how.vocabulary) if kind == "words" else []
    if kind == "words" and not vocabulary:
        raise InputError("no caption has a word. Give captions with words, or the text encoder bytes.")
    return _drawn(lambda: SmallText(name, how, vocabulary), generator)


def text_encoder_built(facts: Mapping[str, Any]) -> TextEncoder:
    """The encoder of which these are the `facts`, before its weights are read.

    Raises:
        InputError: The facts are of an encoder that is not known here.
    """
    name = str(facts["name"])
    if name.startswith(PREFIX):
        return ForeignText(name, Foreign.from_json(facts))
    return SmallText(name, _small(name)[1], facts["vocabulary"])


def _small(name: str) -> tuple[str, Small]:
    kind, given = words(name)
    if kind not in ("words", "bytes"):
        raise unknown("text encoder", kind, ["words", "bytes", f"{PREFIX}FOLDER"])
    values = {key: int(value) if value.isdigit() else value for key, value in given.items()}
    return kind, Small.from_json(values)


def _drawn(build: Any, generator: torch.Generator) -> Any:
    """Call a function that draws from PyTorch's global generator, seeded; restore the generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return build()
