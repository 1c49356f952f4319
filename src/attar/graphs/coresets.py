"""Real graphs chosen class by class: baselines that every method that learns graphs has to beat.

They are random selection, the graphs that the learning methods start from, herding (Welling, ICML 2009), and greedy
K-center (Sener and Savarese, ICLR 2018, arXiv:1708.00489). Embeddings are the readout, before the linear head, of a GCN
trained on all training graphs.
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
from attar.graphs.protocols import Protocol
from attar.graphs.sources import GraphSource, Rows
from attar.graphs.starts import Counts, Sized
from attar.graphs.synthetic import started
from attar.graphs.trained import trained
from attar.graphs.training import TESTED_AT_ONCE

EMBEDDING = Protocol(name="embedding", epochs=50)
"""Protocol of the network whose embeddings are compared. The papers do not give one."""


@dataclass(frozen=True, kw_only=True)
class Observer(Settings):
    """A network that is trained on all training graphs, in addition to the method."""

    architecture: Architecture = field(default_factory=Architecture)
    """Architecture of the network."""
    protocol: Protocol = EMBEDDING
    """Settings of its training. All selections with the same seed use the same network."""


@dataclass(frozen=True, kw_only=True)
class GraphStart(Sized, Selection):
    """The real graphs that the learning methods start from with the same seed, and that they have to improve on.

    DosCond's code reports it as the performance before optimising. Use it as the baseline of a comparison.
    """

    name = "graph-start"

    def select(self, source: GraphSource, runtime: Runtime) -> CondensedGraphs:
        """Return the starting graphs unchanged."""
        return started(self.begin(source, runtime), self.counts(source), source, self, runtime)


@dataclass(frozen=True, kw_only=True)
class GraphCoreset(Counts, Selection):
    """A selection of real graphs, each with all its nodes."""

    @abstractmethod
    def rows(self, source: GraphSource, counts: tuple[int, ...], runtime: Runtime) -> list[Rows]:
        """The rows of the chosen graphs, by class."""

    def resolve(self, source: GraphSource, runtime: Runtime) -> Self:
        """Fill in the settings that depend on the data.

        Raises:
            InputError: More graphs are chosen than a class has.
        """
        made = super().resolve(source, runtime)
        made.check_enough(source)
        return made

    def select(self, source: GraphSource, runtime: Runtime) -> CondensedGraphs:
        """Choose graphs and return them as a condensed set."""
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
    """Real graphs drawn at random, without replacement, with all their nodes: the lowest baseline."""

    name = "graph-random"

    def rows(self, source: GraphSource, counts: tuple[int, ...], runtime: Runtime) -> list[Rows]:
        """Draw rows at random."""
        return draw_by_class(source.rows_of, counts, runtime.generator("choice"))


@dataclass(frozen=True, kw_only=True)
class EmbeddingCoreset(GraphCoreset):
    """A selection by the embeddings of a network trained on all training graphs."""

    observer: Annotated[Observer, Role()] = Observer()
    """Network whose embeddings are compared."""

    moved = MappingProxyType({"architecture": "observer.architecture", "protocol": "observer.protocol"})
    shares = True

    @abstractmethod
    def choose(self, embeddings: Features, count: int) -> Int[Tensor, " {count}"]:
        """The places of the chosen graphs among the embeddings of one class."""

    def rows(self, source: GraphSource, counts: tuple[int, ...], runtime: Runtime) -> list[Rows]:
        """Train the network or find it in the cache, embed each class, and choose."""
        observer = self.observer
        found = trained(source, observer.architecture, observer.protocol, runtime, seed=runtime.seed)
        return [
            rows[self.choose(embed(found.network, source, rows, runtime), count)]
            for rows, count in zip(source.rows_of, counts, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class GraphHerding(EmbeddingCoreset):
    """Real graphs whose mean embedding is close to the class mean (Welling, ICML 2009).

    Herding Dynamical Weights to Learn. Prefer it if the graphs must be real, for up to ten per class.
    """

    name = "graph-herding"

    def choose(self, embeddings: Features, count: int) -> Int[Tensor, " {count}"]:
        """Choose graphs one by one, so that their mean stays close to the class mean."""
        return herding(embeddings, count)


@dataclass(frozen=True, kw_only=True)
class GraphKCenter(EmbeddingCoreset):
    """Real graphs that cover the embeddings of a class: each new graph is the farthest from those already chosen.

    Sener and Savarese, Active Learning for CNNs: A Core-Set Approach, ICLR 2018, arXiv:1708.00489. With one graph per
    class it equals herding.
    """

    name = "graph-k-center"

    def choose(self, embeddings: Features, count: int) -> Int[Tensor, " {count}"]:
        """Choose graphs one by one, each the farthest from those already chosen."""
        return k_center(embeddings, count)


@torch.no_grad()
def embed(network: GraphNetwork, source: GraphSource, rows: Rows, runtime: Runtime) -> Features:
    """The readouts of training graphs."""
    parts = rows.split(TESTED_AT_ONCE)
    return torch.cat([network.embed(source.train.joined(part, runtime.device)).cpu() for part in parts])
