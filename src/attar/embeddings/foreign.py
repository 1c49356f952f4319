"""Encoders of `transformers` for images and texts, whose configuration is kept so that no folder is needed later."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from attar.core.errors import InputError, unknown
from attar.core.foreign import NO_CODE, check_no_code, check_plain

PREFIX = "transformers:"
LENGTH = 64
"""Tokens of a text that are read, if no option says otherwise."""
ENDLESS = 10**6
"""From here on a tokenizer's largest length stands for none."""


@dataclass(frozen=True)
class Foreign:
    """What decides a model of `transformers` besides its weights, and these if they were asked for."""

    name: str
    """Its folder or name on the hub."""
    config: Mapping[str, Any]
    tokenizer: str | None = None
    """Its fast tokenizer, in the form of the tokenizers library."""
    length: int = LENGTH
    model: nn.Module | None = field(default=None, compare=False)
    """The model with its weights."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without weights."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("name", "model")}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """The inverse, with what else there is in the facts left out.

        Raises:
            InputError: The configuration names code.
        """
        check_plain(facts["config"], "the artefact")
        known = {f.name for f in dataclasses.fields(cls)} - {"model"}
        return cls(**{name: value for name, value in facts.items() if name in known})


def foreign_named(text: str, *, text_options: Mapping[str, Any] | None = None, text_model: bool = False) -> Foreign:
    """A model by words."""
    raise NotImplementedError
