"""The loop that gradient and attention matching share: a fresh random network a step, then one update of the graphs.

Memory grows with the synthetic graphs, the square of their nodes included, and with the real graphs of one step.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.engine import Metrics
from attar.core.errors import unknown
from attar.core.runtime import Runtime
from attar.core.selection import draw_by_class, labels_of
from attar.core.settings import Range
from attar.core.training import set_lr
from attar.graphs.artefact import CondensedGraphs
from attar.graphs.collection import GraphCollection
from attar.graphs.networks import Architecture, redraw_
from attar.graphs.sources import GraphSource
from attar.graphs.starts import Sized
from attar.graphs.structures import JoinedGraphs, PaddedGraphs
from attar.graphs.synthetic import (
    Adjacency,
    Learned,
    bound_term,
    condensed,
    relaxed,
    sparsity,
    start_logits,
    symmetric,
    temperature,
    without_loops,
)

T = TypeVar("T")
Distance = Literal["mse", "cos", "ours"]
EPSILON = 1e-12
"""What a squared length is at least where something is divided by it."""
DROP = 0.1
"""Factor on the step sizes when they drop."""


@dataclass(frozen=True)
class RealBatch:
    """Some real graphs, group after group: a class each, or all classes together."""

    collection: GraphCollection
    rows: tuple[Int[Tensor, " _row"], ...]
    """Of each group."""
    device: torch.device

    @cached_property
    def graphs(self) -> JoinedGraphs:
        """All of them as one batch."""
        return self.collection.joined(torch.cat(self.rows), self.device)

    @cached_property
    def parts(self) -> list[tuple[JoinedGraphs, Int[Tensor, " graph"]]]:
        """Each group as a batch, with its labels."""
        labels = self.collection.labels
        return [(self.collection.joined(rows, self.device), labels[rows].to(self.device)) for rows in self.rows]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Graphs of each group."""
        return tuple(len(rows) for rows in self.rows)

    @cached_property
    def node_counts(self) -> tuple[int, ...]:
        """Nodes of each group."""
        return tuple(int(self.collection.sizes[rows].sum()) for rows in self.rows)


@dataclass(frozen=True, kw_only=True)
class GraphMatching(Sized):
    """Settings and loop of the methods that learn graphs."""

    steps: Annotated[int, Range(1)] = 1000
    """Steps in all, each with a network of its own."""
    lr_adjacency: Annotated[float, Range(0)] = 0.1
    """Adam's step size on the logits of edges."""
    lr_features: Annotated[float, Range(0)] = 0.01
    """Adam's step size on the features of nodes."""
    drop_at: Annotated[int, Range(0)] = 400
    """After so many steps both step sizes become a tenth and Adam starts anew; 0 for never."""
    real_batch: Annotated[int, Range(1)] = 256
    """Real samples per class and step, which are graphs."""
    sparsity_weight: Annotated[float, Range(0)] = 0.1
    """Weight β of having more edges than the graphs at the start."""
    theory_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the pooled features in DosCond's bound; 1 for ogbg-molhiv in the released scripts, 0 elsewhere."""
    distance: Distance = "mse"
    """Distance between what is matched: squared error relative to the real one, 1 - cosine of everything together, or
    the authors' own, cosines piece by piece."""
    class_agnostic: bool = False
    """Whether all classes are matched together, as the released scripts do for ogbg-molbace and CIFAR10."""
    coldest: Annotated[float, Range(1e-4, 1)] = 0.01
    """Temperature at which relaxed edges end up."""
    cooling: Annotated[int, Range(1)] = 200
    """Samples until they do."""
    symmetric: bool = True
    """Whether an edge and its reverse share a logit all along, or only at the end, as released for CIFAR10."""
    architecture: Architecture = field(default_factory=Architecture)
    """The network in which graphs are compared."""

    name = "graph-matching"

    @abstractmethod
    def match(self, state: Learned, runtime: Runtime) -> dict[str, Tensor]:
        """Compare and update, once or more often; the loss and its parts."""

    @property
    def total_steps(self) -> int:
        """Iterations in all."""
        return self.steps

    @property
    def continuous(self) -> bool:
        """Whether the adjacency itself is learned, and no logits."""
        return False

    def work(self, source: GraphSource) -> float:
        """Nothing that is compiled: the real graphs of every step have another number of nodes and edges."""
        return 0.0

    def build(self, source: GraphSource, runtime: Runtime) -> Learned:
        """Graphs at their start, and a network to be drawn anew."""
        start, counts = self.begin(source, runtime), self.counts(source)
        edges = start.adjacency if self.continuous else start_logits(start.adjacency, real=self.start == "real")
        features = start.features.clone().to(runtime.device).requires_grad_()
        edges = edges.clone().to(runtime.device).requires_grad_()
        network = self.architecture.build(source.features, source.outputs, torch.Generator()).to(runtime.device)
        groups = [{"params": [edges], "lr": self.lr_adjacency}, {"params": [features], "lr": self.lr_features}]
        everything = max(len(rows) for rows in source.rows_of) <= self.real_batch
        return Learned(
            features=features,
            edges=edges,
            optimizer=torch.optim.Adam(groups),
            draws=0,
            steps=0,
            labels=labels_of(counts, len(counts)),
            counts=counts,
            density=start.density,
            source=source,
            network=network,
            batch=self._batch(source, source.rows_of, runtime) if everything else None,
        )

    def step(self, state: Learned, runtime: Runtime) -> Metrics:
        """Draw a network, match, and let the step sizes drop when it is time."""
        redraw_(state.network, runtime.generator("network", str(runtime.device)))
        if self.architecture.norm == "batch":
            state.network.freeze_statistics(self.draw_real(state, runtime, most=16).graphs)
        found = self.match(state, runtime)
        state.steps += 1
        if state.steps == self.drop_at:
            state.optimizer.state.clear()
            set_lr(state.optimizer, self.lr_adjacency * DROP, self.lr_features * DROP)
        return {name: value.detach() for name, value in found.items()}

    def result(self, state: Learned, runtime: Runtime) -> CondensedGraphs:
        """The graphs as they are now."""
        edges = self.edge_logits(state).detach()
        logits = torch.logit(edges, eps=1e-6) if self.continuous else edges
        return condensed(state.features, symmetric(logits), state.labels, state.source, self, runtime)

    # ------------------------------------------------------------------------------------------------ parts of a step

    def draw_real(self, state: Learned, runtime: Runtime, *, most: int | None = None) -> RealBatch:
        """Real graphs of every class: `most`, or as many as the settings say, or all that a class has."""
        if most is None and state.batch is not None:
            return state.batch
        wanted, generator = most or self.real_batch, runtime.generator("batches")
        rows = draw_by_class(state.source.rows_of, wanted, generator)
        return self._batch(state.source, rows, runtime)

    def _batch(self, source: GraphSource, rows: Sequence[Tensor], runtime: Runtime) -> RealBatch:
        groups = (torch.cat(list(rows)),) if self.class_agnostic else tuple(rows)
        return RealBatch(source.train, groups, runtime.device)

    def edge_logits(self, state: Learned) -> Adjacency:
        """Ω, or the adjacency where that is continuous; symmetric if it is to be."""
        return symmetric(state.edges) if self.symmetric else state.edges

    def sample(self, state: Learned, runtime: Runtime) -> PaddedGraphs:
        """The synthetic graphs with a relaxed sample of their edges."""
        edges = self.edge_logits(state)
        if self.continuous:
            return PaddedGraphs(state.features, without_loops(edges))
        tau = temperature(state.draws, coldest=self.coldest, cooling=self.cooling)
        state.draws += 1
        generator = runtime.generator("edges", str(runtime.device))
        return PaddedGraphs(state.features, relaxed(edges, tau, generator))

    def update(self, state: Learned, graphs: PaddedGraphs, matched: Float[Tensor, ""]) -> dict[str, Tensor]:
        """Add what does not depend on real graphs, and take one step of Adam."""
        edges = self.edge_logits(state)
        sparse = sparsity(edges if self.continuous else torch.sigmoid(edges), state.density)
        loss = matched + self.sparsity_weight * sparse
        if self.theory_weight:
            bound = bound_term(graphs, self.architecture.pooling, len(state.counts))
            loss = loss + self.theory_weight * bound
        state.optimizer.zero_grad(set_to_none=True)
        state.edges.grad, state.features.grad = torch.autograd.grad(loss, [state.edges, state.features])
        state.optimizer.step()
        if self.continuous:
            state.edges.data.clamp_(0, 1)
        return {"loss": loss, "matched": matched, "sparsity": sparse}

    def groups(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """Synthetic graphs of each group that is matched: counts by class, or their sum."""
        return (sum(counts),) if self.class_agnostic else counts


def line_of(lines: Mapping[str, T], data: str, whose: str) -> tuple[str, T]:
    """A data set's line in the released scripts, and its name there: of TU sets in capitals, of OGB's without `ogbg-`.

    Raises:
        InputError: A data set that they do not have.
    """
    key = data.upper() if data.upper() in lines else data.removeprefix("ogbg-")
    if key not in lines:
        raise unknown(f"data set of {whose}", data, lines)
    return key, lines[key]
