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
from attar.language.models import device_of, longest_input
from attar.language.stops import EndWords

Probabilities = Float[Tensor, "sequence word"]


@dataclass(frozen=True, kw_only=True)
class Sampling(Settings):
    """How a model samples its answers."""

    sampling_temperature: Annotated[float, Range(0)] = 1.0
    """Temperature of the softmax from which tokens are sampled; 0 takes the most probable token. It has no part in
    losses, whose temperature is --temperature; off-policy it is that of the answers that are scored."""
    nucleus: Annotated[float, Range(0, 1)] = 1.0
    """Probability mass of the most probable tokens from which is sampled (top-p)."""
    new_tokens: Annotated[int, Range(1)] | None = None
    """Largest number of tokens of an answer. Default: what --max-length leaves after the prompt."""

    moved = MappingProxyType({"temperature": "sampling_temperature"})


@dataclass(frozen=True)
class Voice:
    """A model together with its sampling settings."""

    model: nn.Module
    words: int
    """Size of the vocabulary. Further logits are padding."""
    stops: tuple[int, ...]
    """Tokens that end an answer."""
    sampling: Sampling = Sampling()
    ended: EndWords | None = None
    """Plain words that end an answer too."""

    def ends(self, said: Sequence[int]) -> bool:
        """Whether an answer ends here."""
        return said[-1] in self.stops or (self.ended is not None and self.ended(said))

    def probabilities(self, logits: Float[Tensor, "sequence column"]) -> Probabilities:
        """The distribution from which tokens are sampled.

        Raises:
            InputError: Logits are not finite.
        """
        logits = logits[:, : self.words].float()
        if logits.isnan().any():
            raise InputError("the logits of a model that generates hold NaN. Check the model or its precision.")
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
    """Generate an answer to each prompt, with its end token.

    Args:
        voice: The model and its sampling. It runs in evaluation mode; the mode is restored.
        prompts: Tokens, at least one for each prompt, of any lengths.
        limits: Largest number of tokens of each answer; 0 gives none.
        generator: Draws the tokens, on the model's device.
        also: A function of the reader and the model's distribution that returns the distribution to sample from
            instead.

    Raises:
        InputError: A prompt has no token.
    """
    if not prompts or max(limits) == 0:
        return [[] for _ in prompts]
    if not all(prompts):
        raise InputError("a prompt has no token, but a model needs at least one.")
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
                    open_[row] = len(said[row]) < limits[row] and not voice.ends(said[row])
            if not any(open_):
                return said
            reader.go_on(tokens)


class Reader:
    """A model that reads a batch of texts token by token, with its cache.

    Prompts are padded on the left, so that all texts continue in the same column. Positions count from a text's own
    start.
    """

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]]) -> None:
        device = device_of(model)
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
        # Texts that have ended are read on with the others, past the model's known positions.
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
    """The argument names of a model's forward. With adapters, those of the model below them."""
    below: nn.Module = getattr(model, "get_base_model", lambda: model)()
    return frozenset(inspect.signature(below.forward).parameters)


@contextmanager
def answering(*models: nn.Module | None) -> Iterator[None]:
    """Put models into evaluation mode, and restore their modes afterwards."""
    present = [model for model in models if model is not None]
    modes = [model.training for model in present]
    for model in present:
        model.eval()
    try:
        yield
    finally:
        for model, training in zip(present, modes, strict=True):
            model.train(training)
