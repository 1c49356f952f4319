"""Sampling from a causal model, token by token with its key-value cache, by an explicit generator."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.settings import Range, Settings
from attar.language.models import longest_input

Probabilities = Float[Tensor, "sequence word"]


@dataclass(frozen=True, kw_only=True)
class Sampling(Settings):
    """How a model answers."""

    sampling_temperature: Annotated[float, Range(0)] = 1.0
    """Temperature of the softmax that tokens are drawn from; 0 takes the most probable one. Losses are at temperature 1
    whatever it is here."""
    nucleus: Annotated[float, Range(0, 1)] = 1.0
    """The mass of the most probable tokens that are drawn from (top-p)."""
    new_tokens: Annotated[int, Range(1)] | None = None
    """Tokens of an answer at most; what the length leaves unless given."""

    moved = MappingProxyType({"temperature": "sampling_temperature"})


@dataclass(frozen=True)
class Voice:
    """A model that can be asked to go on."""

    model: nn.Module
    words: int
    """Size of the vocabulary; further logits are padding."""
    stops: tuple[int, ...]
    """Tokens that end an answer."""
    sampling: Sampling = Sampling()

    def probabilities(self, logits: Float[Tensor, "sequence column"]) -> Probabilities:
        """The distribution that is drawn from.

        Raises:
            InputError: Logits that are not numbers.
        """
        logits = logits[:, : self.words].float()
        if logits.isnan().any():
            raise InputError("the logits of a model that generates hold NaN; see to the model, or to its precision.")
        if self.sampling.sampling_temperature == 0:
            return nn.functional.one_hot(logits.argmax(dim=1), self.words).float()
        p = (logits / self.sampling.sampling_temperature).softmax(dim=1)
        if self.sampling.nucleus < 1:
            ordered, order = p.sort(dim=1, descending=True, stable=True)
            before = ordered.cumsum(dim=1) - ordered
            ordered.masked_fill_(before >= max(self.sampling.nucleus, 1e-6), 0.0)
            p = torch.zeros_like(p).scatter_(1, order, ordered)
            p /= p.sum(dim=1, keepdim=True)
        return p


@torch.no_grad()
def generate(
    voice: Voice,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    generator: torch.Generator,
    *,
    also: Callable[["Reader", Probabilities], Probabilities] | None = None,
) -> list[list[int]]:
    """What a model says after each prompt, its end included.

    Args:
        voice: The model and how it is sampled. It is put in evaluation mode, and back.
        prompts: Tokens, at least one each, of any lengths.
        limits: How many tokens each answer may have; none for 0.
        generator: Draws the tokens, on the model's device.
        also: Given the reader and the model's distribution, what to draw from instead.

    Raises:
        InputError: A prompt without a token.
    """
    if not prompts or max(limits) == 0:
        return [[] for _ in prompts]
    if not all(prompts):
        raise InputError("a prompt has no token; a model needs one to go on from.")
    with answering(voice.model):
        reader = Reader(voice.model, prompts)
        said: list[list[int]] = [[] for _ in prompts]
        open_ = [limit > 0 for limit in limits]
        while True:
            p = voice.probabilities(reader.logits)
            p = p if also is None else also(reader, p)
            tokens = torch.multinomial(p, 1, generator=generator).squeeze(1).tolist()
            for row, token in enumerate(tokens):
                if open_[row]:
                    said[row].append(token)
                    open_[row] = token not in voice.stops and len(said[row]) < limits[row]
            if not any(open_):
                return said
            reader.go_on(tokens)


class Reader:
    """A model on its way through a batch of texts: what it has read is in its cache.

    Prompts are padded on the left, so that all go on in the same column; positions are counted from a text's own start.
    """

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]]) -> None:
        device = next(model.parameters()).device
        widest = max(map(len, prompts))
        ids = torch.zeros(len(prompts), widest, dtype=torch.long)
        self.mask: Bool[Tensor, "sequence token"] = torch.zeros(len(prompts), widest, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            ids[row, widest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
            self.mask[row, widest - len(prompt) :] = True
        self.model, self.past, self.told = model, None, accepted(model)
        self.last: Int[Tensor, " sequence"] | None = None
        """The tokens read last, none after the prompts."""
        self.mask = self.mask.to(device)
        self.logits: Float[Tensor, "sequence word"]
        self._read(ids.to(device), (self.mask.long().cumsum(dim=1) - 1).clamp(min=0))

    def go_on(self, tokens: Sequence[int] | Int[Tensor, " sequence"]) -> None:
        """Read one more token of each text."""
        self.last = torch.as_tensor(tokens, device=self.mask.device)
        ids = self.last.unsqueeze(1)
        # Texts that have ended are read on with the others, past what the model knows positions for.
        positions = self.mask.sum(dim=1, keepdim=True).clamp(max=longest_input(self.model) - 1)
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        self._read(ids, positions)

    def _read(self, ids: Tensor, positions: Tensor) -> None:
        more: dict[str, Any] = {"position_ids": positions} if "position_ids" in self.told else {}
        if "logits_to_keep" in self.told:
            more["logits_to_keep"] = 1
        found = self.model(
            input_ids=ids, attention_mask=self.mask.long(), past_key_values=self.past, use_cache=True, **more
        )
        self.past = found.past_key_values
        self.logits = found.logits[:, -1]


def accepted(model: nn.Module) -> frozenset[str]:
    """What a model's forward takes by name; of one with adapters, what the model below them takes."""
    below: nn.Module = getattr(model, "get_base_model", lambda: model)()
    return frozenset(inspect.signature(below.forward).parameters)


@contextmanager
def answering(*models: nn.Module | None) -> Iterator[None]:
    """Models in evaluation mode, and back in the modes they were in."""
    present = [model for model in models if model is not None]
    modes = [model.training for model in present]
    for model in present:
        model.eval()
    try:
        yield
    finally:
        for model, training in zip(present, modes, strict=True):
            model.train(training)
