"""What graph-condensing methods learn: the features of a few graphs, and logits of every edge.

During learning an edge is a weight between 0 and 1, drawn anew for each step from a relaxed coin that hardens as the
run goes on (binary concrete: Maddison, Mnih and Teh, ICLR 2017, arXiv:1611.00712); at the end an edge is there or not.
Feature learning, this parametrisation and its schedule are DosCond's (Jin et al., KDD 2022, arXiv:2206.07746), and
GSTAM took them over.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.runtime import Runtime
from attar.core.selection import labels_of
from attar.core.state import rebuilt
from attar.graphs.artefact import CondensedGraphs, Origin
from attar.graphs.networks import GraphNetwork
from attar.graphs.sources import GraphSource
from attar.graphs.starts import Start
from attar.graphs.structures import PaddedGraphs, Pooling

Adjacency = Float[Tensor, "graph node node"]

START_LOGIT = 5.0
"""Logit of an edge that the graph at the start has; of one that it has not, its negative."""
NOISE_LOGIT = 10.0
"""Logits of a start from noise are not larger."""
EDGE_OF_UNIFORM = 1e-6
"""Uniform numbers are kept so far from 0 and 1, where their logit is infinite."""
THEORY_FACTOR = 3 / 20 / math.sqrt(2)
"""The constant before the pooled features in DosCond's bound on the loss gap."""


@dataclass
class Learned:
    """A few graphs on their way."""

    features: Tensor
    edges: Tensor
    """Logits of edges; or, where the adjacency is continuous, the adjacency itself."""
    optimizer: torch.optim.Adam
    draws: int
    """How many relaxed samples were drawn so far, which is what the temperature falls with."""
    steps: int
    labels: Tensor = rebuilt()
    counts: tuple[int, ...] = rebuilt()
    density: float = rebuilt()
    source: GraphSource = rebuilt()
    network: GraphNetwork = rebuilt()
    batch: Any = rebuilt(default=None)
    """The real graphs of a step, where it is the same in all."""


def start_logits(adjacency: Adjacency, *, real: bool) -> Adjacency:
    """Ω = 10 A - 5 of real graphs; of uniform noise its logit, from -10 to 10."""
    if real:
        return START_LOGIT * (2 * adjacency - 1)
    return torch.logit(adjacency.clamp(EDGE_OF_UNIFORM, 1 - EDGE_OF_UNIFORM)).clamp(-NOISE_LOGIT, NOISE_LOGIT)


def symmetric(logits: Adjacency) -> Adjacency:
    """(Ω + Ωᵀ) / 2."""
    return (logits + logits.mT) / 2


def without_loops(adjacency: Adjacency) -> Adjacency:
    """A (1 - I)."""
    return adjacency * (1 - torch.eye(adjacency.shape[-1]).to(adjacency))


def temperature(draws: int, *, coldest: float = 0.01, cooling: int = 200) -> float:
    """τ_k = max(τ_end, τ_end^(k / cooling)) after k draws: from 1 down to τ_end, where it stays."""
    return float(max(coldest, coldest ** (draws / cooling)))


def relaxed(logits: Adjacency, tau: float, generator: torch.Generator) -> Adjacency:
    """A = σ((Ω + log ε - log(1 - ε)) / τ) (1 - I), ε uniform and the same for both directions of an edge.

    Args:
        logits: Ω, symmetric.
        tau: Temperature.
        generator: Draws ε.
    """
    noise = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
    noise = noise.triu() + noise.triu(1).mT
    noise = torch.logit(noise.clamp(EDGE_OF_UNIFORM, 1 - EDGE_OF_UNIFORM))
    return without_loops(torch.sigmoid((logits + noise) / tau))


def discrete(logits: Adjacency) -> Bool[Tensor, "graph node node"]:
    """An edge where σ(Ω) > 1/2, which is where Ω > 0; none from a node to itself."""
    return (logits > 0) & ~torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)


def sparsity(weights: Adjacency, density: float) -> Float[Tensor, ""]:
    """ReLU(mean of the edges' weights - s0)."""
    return torch.relu(weights.mean() - density)


def bound_term(graphs: PaddedGraphs, pooling: Pooling, classes: int) -> Float[Tensor, ""]:
    """(1/√2) (3/20) ((C - 1) / C) ‖pool(Â³ X)‖_F / n: the pooled features in DosCond's bound of the loss gap."""
    spread = graphs.normalised(graphs.normalised(graphs.smoothed))
    pooled = graphs.pool(spread, pooling)
    return THEORY_FACTOR * (classes - 1) / classes * pooled.norm() / len(pooled)


def condensed(
    features: Tensor,
    logits: Adjacency,
    labels: Int[Tensor, " graph"],
    source: GraphSource,
    method: Any,
    runtime: Runtime,
) -> CondensedGraphs:
    """The graphs as they are now, each edge there or not; all nodes count, those without an edge too."""
    logits = logits.detach().cpu().clone()
    return CondensedGraphs(
        feat=features.detach().cpu().clone(),
        adjacency=discrete(logits),
        sizes=torch.full((len(labels),), features.shape[1]),
        labels=labels,
        classes=source.classes,
        origin=Origin.of(source, method, runtime),
        logits=logits,
    )


def started(
    start: Start, counts: tuple[int, ...], source: GraphSource, method: Any, runtime: Runtime
) -> CondensedGraphs:
    """The graphs that learning starts from, as a condensed set."""
    labels = labels_of(counts, len(counts))
    return CondensedGraphs(
        feat=start.features,
        adjacency=start.adjacency > 0.5,
        sizes=torch.full((len(labels),), start.features.shape[1]),
        labels=labels,
        classes=source.classes,
        origin=Origin.of(source, method, runtime),
    )
