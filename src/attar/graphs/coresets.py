"""Real graphs chosen class by class: the floor that every method that learns graphs has to leave behind.

Random selection; the very graphs that the learning methods start from; herding (Welling, ICML 2009); greedy K-center
(Sener and Savarese, ICLR 2018, arXiv:1708.00489). Embeddings are the readout, before the linear head, of a GCN trained
on all training graphs.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Self

import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.runtime import Runtime
from attar.core.selection import Features, Selection, draw_by_class, herding, k_center, labels_of
from attar.core.settings import Role, Settings
from attar.graphs.artefact import CondensedGraphs, Origin
from attar.graphs.networks import Architecture, GraphNetwork
from attar.graphs.sources import GraphSource, Rows
from attar.graphs.starts import Counts, Sized
from attar.graphs.synthetic import started
from attar.graphs.trained import trained
from attar.graphs.training import TESTED_AT_ONCE, Protocol

EMBEDDING = Protocol(name="embedding", epochs=50)
"""How the network is trained that graphs are chosen by; the papers do not say."""


@dataclass(frozen=True, kw_only=True)
class Observer(Settings):
    """A network that is trained on all training graphs, beside the method."""

    architecture: Architecture = field(default_factory=Architecture)
    """The network."""
    protocol: Protocol = EMBEDDING
    """How it is trained; the same network serves every selection with the same seed."""


@dataclass(frozen=True, kw_only=True)
class GraphStart(Sized, Selection):
    """The real graphs that the learning methods start from with the same seed: what they have to improve on.

    In DosCond's code, the performance before optimising. Prefer it to nothing; it is the fair zero of any comparison.
    """

    name = "graph-start"

    def select(self, source: GraphSource, runtime: Runtime) -> CondensedGraphs:
        """Start, and stop there."""
        return started(self.begin(source, runtime), self.counts(source), source, self, runtime)


@dataclass(frozen=True, kw_only=True)
class GraphCoreset(Counts, Selection):
    """Real graphs of their own sizes."""

    @abstractmethod
    def rows(self, source: GraphSource, counts: tuple[int, ...], runtime: Runtime) -> list[Rows]:
        """The rows to take, by class."""

    def resolve(self, source: GraphSource, runtime: Runtime) -> Self:
        """Fill in what was left open.

        Raises:
            InputError: More graphs than a class has.
        """
        made = super().resolve(source, runtime)
        made.check_enough(source)
        return made

    def select(self, source: GraphSource, runtime: Runtime) -> CondensedGraphs:
        """Take them."""
        counts = self.counts(source)
        graphs = source.train.select(torch.cat(self.rows(source, counts, runtime)))
        padded = graphs.padded()
        return CondensedGraphs(
            feat=padded.features,
            adjacency=padded.adjacency.bool(),
            sizes=graphs.sizes,
            labels=labels_of(counts, len(counts)),
            classes=source.classes,
            origin=Origin.of(source, self, runtime),
        )


@dataclass(frozen=True, kw_only=True)
class GraphRandom(GraphCoreset):
    """Real graphs drawn at random, without replacement, with all their nodes: the floor."""

    name = "graph-random"

    def rows(self, source: GraphSource, counts: tuple[int, ...], runtime: Runtime) -> list[Rows]:
        """Draw."""
        return draw_by_class(source.rows_of, counts, runtime.generator("choice"))


@dataclass(frozen=True, kw_only=True)
class EmbeddingCoreset(GraphCoreset):
    """A selection by the embeddings of a network trained on all training graphs."""

    observer: Annotated[Observer, Role()] = Observer()
    """The network whose embeddings are compared."""

    moved = MappingProxyType({"architecture": "observer.architecture", "protocol": "observer.protocol"})

    @abstractmethod
    def choose(self, embeddings: Features, count: int) -> Int[Tensor, " {count}"]:
        """The places, among one class's embeddings, of the graphs to take."""

    def rows(self, source: GraphSource, counts: tuple[int, ...], runtime: Runtime) -> list[Rows]:
        """Train or find the network, embed each class, choose."""
        observer = self.observer
        found = trained(source, observer.architecture, observer.protocol, runtime, seed=runtime.seed)
        return [
            rows[self.choose(embed(found.network, source, rows, runtime), count)]
            for rows, count in zip(source.rows_of, counts, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class GraphHerding(EmbeddingCoreset):
    """Real graphs whose mean embedding follows the class's (Welling, Herding Dynamical Weights to Learn, ICML 2009).

    Prefer it when the graphs must be real ones, at up to ten per class.
    """

    name = "graph-herding"

    def choose(self, embeddings: Features, count: int) -> Int[Tensor, " {count}"]:
        """Follow the mean."""
        return herding(embeddings, count)


@dataclass(frozen=True, kw_only=True)
class GraphKCenter(EmbeddingCoreset):
    """Real graphs that cover a class's embeddings: each next one is the farthest from those taken.

    Sener and Savarese, Active Learning for CNNs: A Core-Set Approach, ICLR 2018, arXiv:1708.00489. With one graph a
    class it is herding.
    """

    name = "graph-k-center"

    def choose(self, embeddings: Features, count: int) -> Int[Tensor, " {count}"]:
        """Cover."""
        return k_center(embeddings, count)


@torch.no_grad()
def embed(network: GraphNetwork, source: GraphSource, rows: Rows, runtime: Runtime) -> Features:
    """The readout of training graphs."""
    parts = rows.split(TESTED_AT_ONCE)
    return torch.cat([network.embed(source.train.joined(part, runtime.device)).cpu() for part in parts])
