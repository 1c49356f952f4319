"""The variables that graph-condensing methods learn: the features of a few graphs, and a logit for every edge.

During learning an edge is a weight between 0 and 1. Each step draws it from a relaxed Bernoulli distribution (binary
concrete: Maddison, Mnih and Teh, ICLR 2017, arXiv:1611.00712) whose temperature falls during the run. At the end an
edge exists or not. The learning of features, the parametrisation and its schedule are from DosCond (Jin et al., KDD
2022, arXiv:2206.07746). GSTAM uses them too.
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
"""First logit of an edge of the starting graph. A missing edge has the negative of it."""
NOISE_LOGIT = 10.0
"""Largest absolute logit at a start from noise."""
EDGE_OF_UNIFORM = 1e-6
"""Smallest distance of uniform numbers from 0 and 1, at which the logit is infinite."""
THEORY_FACTOR = 3 / 20 / math.sqrt(2)
"""Factor of the pooled features in DosCond's bound of the loss gap."""


@dataclass
class Learned:
    """The state of learning: the graphs, their optimiser, and what is rebuilt when a run resumes."""

    features: Tensor
    edges: Tensor
    """Logits of edges; the adjacency itself if it is continuous."""
    optimizer: torch.optim.Adam
    draws: int
    """Number of relaxed samples drawn so far, which sets the temperature."""
    steps: int
    labels: Tensor = rebuilt()
    counts: tuple[int, ...] = rebuilt()
    density: float = rebuilt()
    source: GraphSource = rebuilt()
    network: GraphNetwork = rebuilt()
    batch: Any = rebuilt(default=None)
    """Real graphs of every step, if all steps use the same."""


def start_logits(adjacency: Adjacency, *, real: bool) -> Adjacency:
    """The first logits: Ω = 10 A - 5 for real graphs, the logit of A, limited to ±10, for uniform noise."""
    if real:
        return START_LOGIT * (2 * adjacency - 1)
    return torch.logit(adjacency.clamp(EDGE_OF_UNIFORM, 1 - EDGE_OF_UNIFORM)).clamp(-NOISE_LOGIT, NOISE_LOGIT)


def symmetric(logits: Adjacency) -> Adjacency:
    """The symmetric part of the logits, (Ω + Ωᵀ) / 2."""
    return (logits + logits.mT) / 2


def without_loops(adjacency: Adjacency) -> Adjacency:
    """The adjacency with a zero diagonal, A (1 - I)."""
    return adjacency * (1 - torch.eye(adjacency.shape[-1]).to(adjacency))


def temperature(draws: int, *, coldest: float = 0.01, cooling: int = 200) -> float:
    """The temperature after k draws, τ_k = max(τ_end, τ_end^(k / cooling)). It falls from 1 and stays at τ_end."""
    return float(max(coldest, coldest ** (draws / cooling)))


def relaxed(logits: Adjacency, tau: float, generator: torch.Generator) -> Adjacency:
    """Draw A = σ((Ω + log ε - log(1 - ε)) / τ) (1 - I). ε is uniform and the same for both directions of an edge.

    Args:
        logits: The symmetric logits Ω.
        tau: The temperature τ.
        generator: The generator that draws ε.
    """
    noise = torch.rand(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
    noise = noise.triu() + noise.triu(1).mT
    noise = torch.logit(noise.clamp(EDGE_OF_UNIFORM, 1 - EDGE_OF_UNIFORM))
    return without_loops(torch.sigmoid((logits + noise) / tau))


def discrete(logits: Adjacency) -> Bool[Tensor, "graph node node"]:
    """The final edges: those with σ(Ω) > 1/2, that is Ω > 0. There is no edge from a node to itself."""
    return (logits > 0) & ~torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)


def sparsity(weights: Adjacency, density: float) -> Float[Tensor, ""]:
    """The penalty for too many edges, ReLU(mean of the edges' weights - s0)."""
    return torch.relu(weights.mean() - density)


def bound_term(graphs: PaddedGraphs, pooling: Pooling, classes: int) -> Float[Tensor, ""]:
    """The pooled features in DosCond's bound of the loss gap: (1/√2) (3/20) ((C - 1) / C) ‖pool(Â³ X)‖_F / n."""
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
    """The condensed set in its present state, with discrete edges. Nodes without an edge are kept."""
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
    """The starting graphs of a learning method, as a condensed set."""
    labels = labels_of(counts, len(counts))
    return CondensedGraphs(
        feat=start.features,
        adjacency=start.adjacency > 0.5,
        sizes=torch.full((len(labels),), start.features.shape[1]),
        labels=labels,
        classes=source.classes,
        origin=Origin.of(source, method, runtime),
    )
