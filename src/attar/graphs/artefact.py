"""A condensed set of graphs on disk and in memory.

`graphs.safetensors` holds all that training needs: features, edges, sizes and labels, one graph after the other.
`logits.safetensors` holds the logits of the edges, if they were learned. `artefact.json` states the origin.
`README.md`, `preview.png` and the parquet export are for viewing the set and for `datasets`.
"""

import builtins
import dataclasses
import importlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core import artefact as core
from attar.core import store
from attar.core.card import EXPORT, SCORES, per_class
from attar.core.cell import Cell
from attar.core.divergence import LARGEST
from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.runtime import Runtime
from attar.graphs.card import card
from attar.graphs.collection import GraphCollection
from attar.graphs.preview import preview
from attar.graphs.sources import GraphSource, Split
from attar.graphs.structures import PaddedGraphs

SCHEMA = 1
KIND = "graphs"
FILES = ["graphs.safetensors", "logits.safetensors", "artefact.json", "README.md", "preview.png", EXPORT]


@dataclass(frozen=True)
class Origin(core.Origin):
    """The origin of a condensed set. Its fingerprint covers the graphs and their split."""

    content: str
    """Digest of all graphs of the source, which does not depend on the split."""
    full_graphs: int
    full_bytes: int
    split: Split
    metric: str

    @classmethod
    def of(cls, source: GraphSource, method: Any, runtime: Runtime) -> Self:
        """The origin of a set that `method` makes from `source`."""
        facts = {"content": source.content, "split": source.split, "metric": source.metric}
        sizes = {"full_graphs": len(source.train), "full_bytes": source.bytes}
        return cls.made(source, method, runtime, **facts, **sizes)


@dataclass(frozen=True)
class CondensedGraphs(core.CondensedSet):
    """A condensed set: a few graphs per class that replace many."""

    feat: Float[Tensor, "graph node feature"]
    adjacency: Bool[Tensor, "graph node node"]
    """Edges, symmetric, with an empty diagonal."""
    sizes: Int[Tensor, " graph"]
    """Number of nodes of each graph, without padding."""
    labels: Int[Tensor, " graph"]
    """Class number of each graph, in rising order."""
    classes: tuple[str, ...]
    origin: Origin
    logits: Float[Tensor, "graph node node"] | None = None
    """Logits of the edges, if they were learned. An edge exists if its logit is above zero."""
    folder: Path | None = field(default=None, compare=False)
    """Folder in which the set was last saved."""

    kind = KIND
    files = (*FILES, SCORES)
    largest = LARGEST

    @property
    def learned(self) -> dict[str, Tensor]:
        """The learned tensors: features and the logits of edges."""
        return {"features": self.feat, **({} if self.logits is None else {"edge logits": self.logits})}

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def graphs(self) -> GraphCollection:
        """The graphs without padding."""
        return GraphCollection.from_dense(self.feat, self.adjacency, self.sizes, self.labels)

    def padded(self) -> PaddedGraphs:
        """The graphs as a dense batch."""
        own = torch.arange(self.feat.shape[1]) < self.sizes.unsqueeze(1)
        return PaddedGraphs(self.feat, self.adjacency.to(self.feat.dtype), own)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of graphs and labels."""
        return store.digest_of(self._tensors(), list(self.classes))

    @property
    def bytes(self) -> int:
        """Size of the file that training needs, in bytes."""
        from safetensors.torch import save

        if self.folder is not None:
            return (self.folder / "graphs.safetensors").stat().st_size
        return len(save(self._tensors()))

    def save(self, folder: str | Path) -> Self:
        """Write the set to a folder and return the saved copy. Each file is written whole or not at all."""
        folder = Path(folder)
        store.make_folder(folder / "data")
        digest = store.write_tensors(folder / "graphs.safetensors", self._tensors(), {"schema": SCHEMA})
        logits = None
        if self.logits is not None:
            logits = store.write_tensors(folder / "logits.safetensors", {"logits": self.logits}, {"schema": SCHEMA})
        store.write_bytes(folder / EXPORT, self._parquet())
        store.write_bytes(folder / "preview.png", self.picture())
        facts = {
            "digest": digest,
            "logits": logits,
            "classes": list(self.classes),
            "origin": dataclasses.asdict(self.origin),
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder does not hold a condensed set of graphs, or a file is truncated, altered, a pickle,
                or of a newer schema.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "condensed set")
        tensors, _ = core.read_tensors(folder / "graphs.safetensors", facts["digest"])
        graphs, logits = _graphs(tensors), None
        if facts["logits"]:
            learned, _ = core.read_tensors(folder / "logits.safetensors", facts["logits"])
            logits = learned["logits"]
        padded = graphs.padded()
        origin = {**facts["origin"], "split": Split(**facts["origin"]["split"])}
        return cls(
            feat=padded.features,
            adjacency=padded.adjacency.bool(),
            sizes=graphs.sizes,
            labels=graphs.labels,
            classes=tuple(facts["classes"]),
            origin=Origin(**origin),
            logits=logits,
            folder=folder,
        )

    def picture(self) -> builtins.bytes:
        """The preview as PNG."""
        return preview(self.graphs, self.classes)

    def shown(self, images: int = 10) -> core.Shown:
        """The numbers of graphs and nodes, and the preview."""
        full = self.origin.full_bytes
        return core.Shown(
            size=f"{len(self)} graphs, {per_class(self.labels, len(self.classes))} per class",
            count=len(self),
            bytes=self.bytes,
            share=100 * self.bytes / full if full else None,
            facts={
                "made from": f"{self.origin.full_graphs:,} graphs, {full:,} bytes",
                "nodes per graph": _span(self.sizes),
                "edges": f"{int(self.adjacency.sum()) // 2:,}",
                "features per node": f"{self.feat.shape[2]}",
                "scored by": self.origin.metric,
            },
            pictures=(core.Picture("", self.picture()),),
        )

    def to_pyg(self) -> list[Any]:
        """The graphs as `torch_geometric.data.Data(x, edge_index, y)`, with isolated nodes.

        Raises:
            InputError: PyTorch Geometric is not installed.
        """
        try:
            data = importlib.import_module("torch_geometric.data")
        except ModuleNotFoundError:
            raise InputError(f"to_pyg needs torch_geometric: {install('graphs')}.") from None
        found = []
        for row in range(len(self)):
            one = self.graphs.select(torch.tensor([row]))
            found.append(data.Data(x=one.features, edge_index=one.edges, y=one.labels, num_nodes=len(one.features)))
        return found

    def card(self, scores: list[Cell]) -> str:
        """The README of the set."""
        return card(self, scores)

    def __str__(self) -> str:
        share = 100 * self.bytes / self.origin.full_bytes
        return f"{len(self)} graphs of {_span(self.sizes)} nodes, {self.bytes:,} bytes ({share:.2g} % of the full set)"

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors in stored form. Each edge is stored once, and nodes are numbered through the whole set."""
        first, second = self.graphs.edges
        return {
            "features": self.graphs.features.float(),
            "edges": self.graphs.edges[:, first < second].int(),
            "sizes": self.graphs.sizes.int(),
            "labels": self.graphs.labels,
        }

    def _parquet(self) -> builtins.bytes:
        """A parquet table with a row per graph, in the columns of graph sets on the hub, with types for `datasets`."""
        import pyarrow

        whole = [self.graphs.select(torch.tensor([row])) for row in range(len(self))]
        rows = pyarrow.list_(pyarrow.list_(pyarrow.float32()))
        columns = {
            "node_feat": pyarrow.array([one.features.tolist() for one in whole], rows),
            "edge_index": pyarrow.array(
                [one.edges.tolist() for one in whole], pyarrow.list_(pyarrow.list_(pyarrow.int64()))
            ),
            "num_nodes": pyarrow.array(self.sizes.tolist(), pyarrow.int64()),
            "label": pyarrow.array(self.labels.numpy()),
        }

        def nested(kind: str) -> dict[str, Any]:
            return {"feature": {"feature": {"dtype": kind, "_type": "Value"}, "_type": "List"}, "_type": "List"}

        features = {
            "node_feat": nested("float32"),
            "edge_index": nested("int64"),
            "num_nodes": {"dtype": "int64", "_type": "Value"},
            "label": {"names": list(self.classes), "_type": "ClassLabel"},
        }
        return core.parquet(columns, features)


def _span(sizes: Int[Tensor, " graph"]) -> str:
    low, high = int(sizes.min()), int(sizes.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _graphs(tensors: dict[str, Tensor]) -> GraphCollection:
    edges = tensors["edges"].long()
    return GraphCollection.of(tensors["features"], edges, tensors["sizes"], tensors["labels"])
