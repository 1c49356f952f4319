"""An encoder with the data that it is measured on: features of both parts, computed once, and what its heads say."""

import copy
import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attar.core.progress import Line
from attar.core.runtime import Runtime
from attar.embeddings.encoders import AT_ONCE, Features, features_of
from attar.embeddings.sources import Labels, Rows, Source


@dataclass(frozen=True)
class EncodedSource:
    """A trained encoder and the samples in the split that it was trained with."""

    made: Any
    """A `TrainedEncoder`."""
    source: Source
    """Its samples, normalised as in training."""
    runtime: Runtime

    @classmethod
    def of(cls, made: Any, source: Source, runtime: Runtime) -> "EncodedSource":
        """The encoder on the device of the run, in evaluation mode."""
        encoder, heads = (copy.deepcopy(module).to(runtime.device).eval() for module in (made.encoder, made.heads))
        there = dataclasses.replace(made, encoder=encoder, heads=heads)
        return cls(there, dataclasses.replace(source, transform=made.normalise), runtime)

    def features(self, part: Literal["train", "test"]) -> Features:
        """The features of all samples of a part, on the CPU."""
        return self.train if part == "train" else self.test

    @cached_property
    def train(self) -> Features:
        """The features of the training samples."""
        return represented(self.made.encoder, self.source, "train", self.runtime)

    @cached_property
    def test(self) -> Features:
        """The features of the test samples."""
        return represented(self.made.encoder, self.source, "test", self.runtime)

    @cached_property
    def said(self) -> dict[str, Tensor]:
        """What the heads say of the test samples, on the CPU."""
        return self.answers(self.test)

    @torch.no_grad()
    def answers(self, features: Features) -> dict[str, Tensor]:
        """What the heads say of features."""
        parts = [
            self.made.method.outputs(part.to(self.runtime.device), self.made.heads) for part in features.split(AT_ONCE)
        ]
        return {name: torch.cat([part[name].float().cpu() for part in parts]) for name in (parts[0] if parts else {})}

    @cached_property
    def classifies(self) -> bool:
        """Whether there is a classifier of these classes among its heads."""
        width = self.made.encoder.width
        return self.made.classes == self.source.classes and "logits" in self.answers(torch.zeros(2, width))

    @cached_property
    def held(self) -> Rows:
        """The training rows that the method has held out."""
        return self.source.held_out(self.made.method.held_out)[1]

    @property
    def labels(self) -> Labels | None:
        """The labels of the test samples."""
        return self.source.test.labels

    @property
    def words(self) -> str:
        """Raw samples in a word."""
        return "raw features" if self.source.tabular else "raw pixels"


def represented(encoder: nn.Module, source: Source, part: Literal["train", "test"], runtime: Runtime) -> Features:
    """The features that an encoder gives of all samples of a part, on the CPU. A line shows the progress."""
    rows, found = torch.arange(len(source.part(part))), []
    with Line(f"features of {part} samples", len(rows), quiet=runtime.engine.quiet) as line:
        for some in rows.split(AT_ONCE):
            found.append(features_of(encoder, source, some, runtime, part).cpu())
            line.at(int(some[-1]) + 1)
    return torch.cat(found)
