"""The loop that gradient and attention matching share: each step draws a random network and updates the graphs once.

Memory grows with the number of synthetic graphs, the square of their nodes, and the real graphs of one step.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.engine import Metrics
from attar.core.processes import ALONE, Processes
from attar.core.runtime import Runtime
from attar.core.selection import draw_by_class, labels_of
from attar.core.settings import Range
from attar.core.sharing import Share
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

Distance = Literal["mse", "cos", "ours"]
EPSILON = 1e-12
"""Smallest squared length by which something is divided."""
ADDED = 1e-6
"""What the released code adds to a product of two lengths before it divides by it."""
DROP = 0.1
"""Factor by which step sizes are multiplied when they drop."""


@dataclass(frozen=True)
class RealBatch:
    """Some real graphs in groups: one group per class, or one for all classes. Several processes divide each group."""

    collection: GraphCollection
    rows: tuple[Int[Tensor, " _row"], ...]
    """Rows of the graphs of each group that this process works on."""
    device: torch.device
    processes: Processes = ALONE
    """Those among which the groups are divided."""
    whole: tuple[int, ...] = ()
    """The number of graphs of each whole group."""

    @classmethod
    def of(
        cls,
        collection: GraphCollection,
        groups: Sequence[Int[Tensor, " _row"]],
        device: torch.device,
        processes: Processes = ALONE,
    ) -> "RealBatch":
        """The part of this process. Where a group has fewer graphs than there are processes, each works on all."""
        whole = tuple(len(rows) for rows in groups)
        processes = processes if min(whole) >= processes.count else ALONE
        mine = tuple(Share(len(rows), processes).of(rows) for rows in groups)
        return cls(collection, mine, device, processes, whole)

    @cached_property
    def graphs(self) -> JoinedGraphs:
        """All graphs as one batch."""
        return self.collection.joined(torch.cat(self.rows), self.device)

    @cached_property
    def parts(self) -> list[tuple[JoinedGraphs, Int[Tensor, " graph"]]]:
        """Each group as a batch, with its labels."""
        labels = self.collection.labels
        return [(self.collection.joined(rows, self.device), labels[rows].to(self.device)) for rows in self.rows]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """The number of graphs of each group."""
        return tuple(len(rows) for rows in self.rows)

    @cached_property
    def node_counts(self) -> tuple[int, ...]:
        """The number of nodes of each group."""
        return tuple(int(self.collection.sizes[rows].sum()) for rows in self.rows)


@dataclass(frozen=True, kw_only=True)
class GraphMatching(Sized):
    """Settings and loop of the methods that learn graphs by matching."""

    steps: Annotated[int, Range(1)] = 1000
    """Steps in all. Each step draws a new random network."""
    lr_adjacency: Annotated[float, Range(0)] = 0.1
    """Learning rate of Adam for the logits of edges."""
    lr_features: Annotated[float, Range(0)] = 0.01
    """Learning rate of Adam for the features of nodes."""
    drop_at: Annotated[int, Range(0)] = 400
    """Step after which both learning rates drop to a tenth and Adam is reset. 0 for never."""
    real_batch: Annotated[int, Range(1)] = 256
    """Real samples per class and step, in graphs."""
    sparsity_weight: Annotated[float, Range(0)] = 0.1
    """Weight β of the penalty for more edges than the real graphs have."""
    theory_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the pooled features in DosCond's bound. The released scripts use 1 for ogbg-molhiv, otherwise 0."""
    distance: Distance = "mse"
    """Distance between what is matched. mse: squared error relative to the real side. cos: 1 - cosine of the whole.
    ours: as in the released code, the sum over rows of 1 - cosine, with 1e-6 added to each product of lengths."""
    class_agnostic: bool = False
    """Whether all classes are matched together, as in the released scripts for ogbg-molbace and CIFAR10."""
    coldest: Annotated[float, Range(1e-4, 1)] = 0.01
    """Lowest temperature of relaxed edges."""
    cooling: Annotated[int, Range(1)] = 200
    """Number of edge samples until the lowest temperature is reached."""
    symmetric: bool = True
    """Whether an edge and its reverse always share a logit. If not, they share it only at the end, as in the released
    scripts for CIFAR10."""
    architecture: Architecture = field(default_factory=Architecture)
    """Architecture of the network in which graphs are compared."""

    name = "graph-matching"
    shares = True

    @abstractmethod
    def match(self, state: Learned, runtime: Runtime) -> dict[str, Tensor]:
        """Compare and update, once or several times; return the loss and its parts."""

    @property
    def total_steps(self) -> int:
        """The number of steps."""
        return self.steps

    @property
    def continuous(self) -> bool:
        """Whether the adjacency itself is learned instead of logits."""
        return False

    def work(self, source: GraphSource) -> float:
        """Zero, so that nothing is compiled: the real graphs of every step differ in their nodes and edges."""
        return 0.0

    def build(self, source: GraphSource, runtime: Runtime) -> Learned:
        """The state before the first step: the starting graphs, their optimiser, and a network."""
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
            batch=self._batch(source, source.rows_of, runtime, runtime.processes) if everything else None,
        )

    def step(self, state: Learned, runtime: Runtime) -> Metrics:
        """Draw a network, match, and drop the learning rates at step `drop_at`."""
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
        """The condensed graphs in their present state."""
        edges = self.edge_logits(state).detach()
        logits = torch.logit(edges, eps=1e-6) if self.continuous else edges
        return condensed(state.features, symmetric(logits), state.labels, state.source, self, runtime)

    # ------------------------------------------------------------------------------------------------ parts of a step

    def draw_real(self, state: Learned, runtime: Runtime, *, most: int | None = None) -> RealBatch:
        """Draw real graphs of every class: `real_batch` of them, but at most all that a class has.

        Args:
            state: The state.
            runtime: The machine.
            most: Another number, of graphs that are not divided among processes.
        """
        if most is None and state.batch is not None:
            return state.batch
        wanted, generator = most or self.real_batch, runtime.generator("batches")
        rows = draw_by_class(state.source.rows_of, wanted, generator)
        return self._batch(state.source, rows, runtime, ALONE if most else runtime.processes)

    def _batch(
        self, source: GraphSource, rows: Sequence[Tensor], runtime: Runtime, processes: Processes = ALONE
    ) -> RealBatch:
        groups = (torch.cat(list(rows)),) if self.class_agnostic else tuple(rows)
        return RealBatch.of(source.train, groups, runtime.device, processes)

    def edge_logits(self, state: Learned) -> Adjacency:
        """The logits Ω, or the adjacency if it is continuous; made symmetric if the setting says so."""
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

    def update(
        self, state: Learned, graphs: PaddedGraphs, matched: Float[Tensor, ""], runtime: Runtime
    ) -> dict[str, Tensor]:
        """Add the terms that do not depend on real graphs, and take one step of Adam.

        Args:
            state: The state.
            graphs: All synthetic graphs.
            matched: The terms of the groups that this process has matched. They are added up over all processes.
            runtime: The machine.
        """
        edges, processes, loss = self.edge_logits(state), runtime.processes, matched
        sparse = sparsity(edges if self.continuous else torch.sigmoid(edges), state.density)
        if processes.first:  # once in the sum over processes
            loss = loss + self.sparsity_weight * sparse
            if self.theory_weight:
                bound = bound_term(graphs, self.architecture.pooling, len(state.counts))
                loss = loss + self.theory_weight * bound
        state.optimizer.zero_grad(set_to_none=True)
        state.edges.grad, state.features.grad = summed_gradients(loss, [state.edges, state.features], processes)
        state.optimizer.step()
        if self.continuous:
            state.edges.data.clamp_(0, 1)
        loss, matched = processes.sum_(torch.stack([loss, matched]).detach())
        return {"loss": loss, "matched": matched, "sparsity": sparse}

    def groups(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """The number of synthetic graphs of each matched group: counts by class, or their sum."""
        return (sum(counts),) if self.class_agnostic else counts


def summed_gradients(loss: Float[Tensor, ""], leaves: Sequence[Tensor], processes: Processes) -> list[Tensor]:
    """The gradients of a loss, added up over processes. In some of them it may be a constant."""
    if not loss.requires_grad:
        found = [torch.zeros_like(leaf, memory_format=torch.contiguous_format) for leaf in leaves]
    else:
        several = processes.count > 1
        found = list(torch.autograd.grad(loss, leaves, materialize_grads=several))
    return [processes.sum_(one.contiguous()) for one in found]


def of_groups(graphs: PaddedGraphs, counts: tuple[int, ...], groups: Sequence[int]) -> PaddedGraphs:
    """The synthetic graphs of some groups, given the number of graphs of each."""
    if len(groups) == len(counts):
        return graphs
    features, adjacency = graphs.features.split(counts), graphs.adjacency.split(counts)
    return PaddedGraphs(*(torch.cat([parts[group] for group in groups]) for parts in (features, adjacency)))


def row_cosines(given: Float[Tensor, "*rows entry"], wanted: Float[Tensor, "*rows entry"]) -> Float[Tensor, ""]:
    """Σ over rows of 1 - ⟨a, b⟩ / (‖a‖ ‖b‖ + 10⁻⁶), the distance that DosCond's and GSTAM's code call `ours`.

    It depends on the scale where rows are short: a row of zeros counts 1, and so does nearly one of length 10⁻⁴.
    """
    lengths = given.norm(dim=-1) * wanted.norm(dim=-1)
    return (1 - (given * wanted).sum(dim=-1) / (lengths + ADDED)).sum()
