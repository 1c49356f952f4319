"""What parameterised and correctness-aware calibration share: a very small network, fitted by Adam.

It stops at the best step on calibration rows that are held out: run to the end, seventy parameters on some hundred rows
do worse than a single temperature.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.classifiers.calibration.calibration import Calibration, Learned
from attar.core.settings import Range

Features = Float[Tensor, "sample feature"]
PerFeature = Float[Tensor, " feature"]

Loss = Callable[[Learned, Int[Tensor, " row"]], Float[Tensor, ""]]
"""The loss of parameters on some rows, by their numbers."""

PATIENCE = 100
"""Passes over the rows without a better loss on the held-out rows, after which the fit stops."""
CONSTANT = 1e-6
"""A feature whose standard deviation is below this is not scaled."""


@dataclass(frozen=True, kw_only=True)
class ByDescent(Calibration):
    """Settings of the fit of such a network."""

    lr: Annotated[float, Range(0)] = 0.01
    """Step size of Adam."""
    epochs: Annotated[int, Range(1)] = 600
    """Passes over the training data, here the calibration rows; at most."""
    batch: Annotated[int, Range(1)] | None = None
    """Batch size. Default: all calibration rows."""
    held_out: Annotated[float, Range(0, 0.9)] = 0.2
    """Share of the training samples that is held out, here of the calibration rows, to choose the best step. 0:
    the last step."""

    def fitted(self, start: Learned, loss: Loss, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
        """The parameters after the fit; the arguments are those of `descended`."""
        return descended(
            start,
            loss,
            rows,
            lr=self.lr,
            epochs=self.epochs,
            batch=self.batch,
            held_out=self.held_out,
            generator=generator,
        )


def started(sizes: Sequence[int], generator: torch.Generator, *, output: float) -> dict[str, Tensor]:
    """Weights and biases of linear layers, hidden ones by Glorot's rule, with the same output for all samples.

    Args:
        sizes: Number of inputs, of units of each hidden layer, and of outputs.
        generator: Source of the draws.
        output: The output.
    """
    learned = {}
    last = len(sizes) - 2
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        bound = 0.0 if layer == last else math.sqrt(6 / (inputs + outputs))
        uniform = 2 * torch.rand(outputs, inputs, dtype=torch.float64, generator=generator) - 1
        learned[f"weight{layer}"] = bound * uniform
        learned[f"bias{layer}"] = torch.full((outputs,), output if layer == last else 0.0, dtype=torch.float64)
    return learned


def answered(learned: Learned, features: Features) -> Float[Tensor, " sample"]:
    """The network's output for each sample: linear layers with ReLU between them."""
    layers = sum(name.startswith("weight") for name in learned)
    for layer in range(layers):
        features = F.linear(features, learned[f"weight{layer}"], learned[f"bias{layer}"])
        features = features.relu() if layer < layers - 1 else features
    return features.squeeze(1)


def spread(features: Features) -> tuple[PerFeature, PerFeature]:
    """Mean and standard deviation of each feature, 1 for a constant one.

    A network on standardised features does not begin with units that no sample reaches.
    """
    mean = features.mean(dim=0)
    scale = (features - mean).square().mean(dim=0).sqrt()
    return mean, torch.where(scale < CONSTANT, torch.ones_like(scale), scale)


def folded(learned: Learned, mean: PerFeature, scale: PerFeature) -> dict[str, Tensor]:
    """The network on features as they are, of one on (features - mean) / scale."""
    weight = learned["weight0"] / scale
    return {**learned, "weight0": weight, "bias0": learned["bias0"] - weight @ mean}


def descended(
    start: Learned,
    loss: Loss,
    rows: int,
    *,
    lr: float,
    epochs: int,
    batch: int | None,
    held_out: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The parameters after Adam, or those with the lowest loss on held-out rows.

    Args:
        start: The parameters at the beginning.
        loss: The loss of some rows, by their numbers.
        rows: Number of calibration rows.
        lr: Step size.
        epochs: Passes over the rows.
        batch: Rows per step. None: all.
        held_out: Share of the rows that is held out. 0: the parameters after the last step.
        generator: Source of the draws.
    """
    learned = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimizer = torch.optim.Adam(list(learned.values()), lr)
    order = torch.randperm(rows, generator=generator)
    share = int(held_out * rows)
    kept, rest = order[:share], order[share:] if share else torch.arange(rows)
    best, lowest, since = _copied(learned), math.inf, 0
    for epoch in range(epochs + 1):
        if share:
            with torch.no_grad():
                value = float(loss(learned, kept))
            best, lowest, since = (_copied(learned), value, 0) if value < lowest else (best, lowest, since + 1)
        if epoch == epochs or since > PATIENCE:
            break
        for part in _parts(rest, batch, generator):
            optimizer.zero_grad()
            loss(learned, part).backward()
            optimizer.step()
    return best if share else _copied(learned)


def _parts(rows: Int[Tensor, " row"], batch: int | None, generator: torch.Generator) -> Sequence[Tensor]:
    if batch is None or batch >= len(rows):
        return [rows]
    return rows[torch.randperm(len(rows), generator=generator)].split(batch)


def _copied(learned: Learned) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learned.items()}
