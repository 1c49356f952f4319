"""A condensed set of graphs on disk and in memory.

`graphs.safetensors` is the truth, and all that training needs: features, edges, sizes and labels, one graph after the
other. `logits.safetensors` holds what the edges were decided by, where they were learned. `artefact.json` says where it
came from; `README.md`, `preview.png` and the parquet export are for looking at it, and for `datasets`.
"""

import builtins
import dataclasses
import importlib
import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core import store
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.graphs.card import SCORES, card, remembered_scores
from attar.graphs.collection import GraphCollection
from attar.graphs.preview import preview
from attar.graphs.sources import GraphSource, Split
from attar.graphs.structures import PaddedGraphs

SCHEMA = 1
KIND = "graphs"
EXPORT = "data/train-00000-of-00001.parquet"
FILES = ["graphs.safetensors", "logits.safetensors", "artefact.json", "README.md", "preview.png", EXPORT]


@dataclass(frozen=True)
class Origin:
    """Where a condensed set came from."""

    source: str
    content: str
    """Digest of all its graphs, however split."""
    fingerprint: str
    """Digest of the graphs and their split."""
    full_graphs: int
    full_bytes: int
    method: str
    settings: dict[str, Any]
    seed: int
    split: Split
    metric: str
    machine: dict[str, Any]

    @classmethod
    def of(cls, source: GraphSource, method: Any, runtime: Runtime) -> Self:
        """The origin of what `method` makes of `source`."""
        return cls(
            source=source.name,
            content=source.content,
            fingerprint=source.fingerprint,
            full_graphs=len(source.train),
            full_bytes=source.bytes,
            method=method.name,
            settings=method.to_json(),
            seed=runtime.seed,
            split=source.split,
            metric=source.metric,
            machine=runtime.describe(),
        )


@dataclass(frozen=True)
class CondensedGraphs:
    """A few graphs per class that stand for many."""

    feat: Float[Tensor, "graph node feature"]
    adjacency: Bool[Tensor, "graph node node"]
    """Symmetric, with nothing on the diagonal."""
    sizes: Int[Tensor, " graph"]
    """Nodes that count of each graph: all of a learned graph, its own of a chosen one."""
    labels: Int[Tensor, " graph"]
    """Class numbers, rising."""
    classes: tuple[str, ...]
    origin: Origin
    logits: Float[Tensor, "graph node node"] | None = None
    """What the edges were decided by, where they were learned: there is an edge where this is above zero."""
    folder: Path | None = field(default=None, compare=False)
    """Where it was last saved."""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def graphs(self) -> GraphCollection:
        """The same without padding."""
        return GraphCollection.from_dense(self.feat, self.adjacency, self.sizes, self.labels)

    def padded(self) -> PaddedGraphs:
        """The same as a dense batch."""
        own = torch.arange(self.feat.shape[1]) < self.sizes.unsqueeze(1)
        return PaddedGraphs(self.feat, self.adjacency.to(self.feat.dtype), own)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of graphs and labels."""
        return store.digest_of(self._tensors(), list(self.classes))

    @property
    def bytes(self) -> int:
        """Size of the file that training needs."""
        from safetensors.torch import save

        if self.folder is not None:
            return (self.folder / "graphs.safetensors").stat().st_size
        return len(save(self._tensors()))

    def save(self, folder: str | Path) -> "CondensedGraphs":
        """Write it to a folder, every file whole or not at all; return it as saved there."""
        folder = Path(folder)
        store.make_folder(folder / "data")
        digest = store.write_tensors(folder / "graphs.safetensors", self._tensors(), {"schema": SCHEMA})
        logits = None
        if self.logits is not None:
            logits = store.write_tensors(folder / "logits.safetensors", {"logits": self.logits}, {"schema": SCHEMA})
        store.write_bytes(folder / EXPORT, self._parquet())
        store.write_bytes(folder / "preview.png", self.picture())
        facts = {
            "kind": KIND,
            "schema": SCHEMA,
            "digest": digest,
            "logits": logits,
            "classes": list(self.classes),
            "origin": dataclasses.asdict(self.origin),
        }
        facts["facts_digest"] = store.digest_of({}, facts)
        store.write_json(folder / "artefact.json", facts)
        saved = dataclasses.replace(self, folder=folder)
        saved.write_card(folder)
        return saved

    @classmethod
    def load(cls, folder: str | Path) -> "CondensedGraphs":
        """Read what `save` wrote.

        Raises:
            InputError: Not a condensed set of graphs, or truncated, altered, a pickle, or of a newer schema.
        """
        folder = Path(folder)
        if not (folder / "artefact.json").is_file():
            unfinished = (folder / "run" / "settings.json").is_file()
            hint = "; its run is not finished: the same command goes on with it" if unfinished else ""
            raise InputError(f"{folder} holds no condensed set (no artefact.json){hint}.")
        facts = store.read_json(folder / "artefact.json")
        _check_facts(facts, folder)
        graphs = _graphs(_checked(folder / "graphs.safetensors", facts["digest"]))
        logits = _checked(folder / "logits.safetensors", facts["logits"])["logits"] if facts["logits"] else None
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
        """The preview, as PNG."""
        return preview(self.graphs, self.classes)

    def to_pyg(self) -> list[Any]:
        """The graphs as `torch_geometric.data.Data(x, edge_index, y)`, isolated nodes included.

        Raises:
            InputError: PyTorch Geometric is not installed.
        """
        try:
            data = importlib.import_module("torch_geometric.data")
        except ModuleNotFoundError:
            raise InputError("this needs torch_geometric: pip install 'attar[graphs]'.") from None
        found = []
        for row in range(len(self)):
            one = self.graphs.select(torch.tensor([row]))
            found.append(data.Data(x=one.features, edge_index=one.edges, y=one.labels, num_nodes=len(one.features)))
        return found

    def write_card(self, folder: Path) -> None:
        """Write its README, with the scores that lie beside it."""
        store.write_bytes(folder / "README.md", card(self, EXPORT, remembered_scores(folder)).encode())

    def remember(self, scores: list[dict[str, Any]]) -> None:
        """Keep scores beside a saved set, in place of older ones of the same networks, and write them on its card.

        Args:
            scores: As `NetworkScore.to_json` gives them.
        """
        assert self.folder is not None, "save it first"
        replaced = {(row["network"], row["protocol"]) for row in scores}
        kept = [row for row in remembered_scores(self.folder) if (row["network"], row["protocol"]) not in replaced]
        store.write_json(self.folder / SCORES, [*kept, *scores])
        self.write_card(self.folder)

    def __str__(self) -> str:
        low, high = int(self.sizes.min()), int(self.sizes.max())
        nodes = f"{low} nodes" if low == high else f"{low} to {high} nodes"
        share = 100 * self.bytes / self.origin.full_bytes
        return f"{len(self)} graphs of {nodes}, {self.bytes:,} bytes ({share:.2g} % of the full set)"

    def _tensors(self) -> dict[str, Tensor]:
        """As they are stored: each edge once, nodes numbered through the whole set."""
        first, second = self.graphs.edges
        return {
            "features": self.graphs.features.float(),
            "edges": self.graphs.edges[:, first < second].int(),
            "sizes": self.graphs.sizes.int(),
            "labels": self.graphs.labels,
        }

    def _parquet(self) -> builtins.bytes:
        """A row a graph, in the columns that graph sets have on the hub, with a note by which `datasets` knows them."""
        import json

        import pyarrow
        from pyarrow import parquet

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
        note = json.dumps({"info": {"features": features}})
        sink = io.BytesIO()
        parquet.write_table(pyarrow.table(columns).replace_schema_metadata({"huggingface": note}), sink)
        return sink.getvalue()


def _graphs(tensors: dict[str, Tensor]) -> GraphCollection:
    edges = tensors["edges"].long()
    return GraphCollection.of(tensors["features"], edges, tensors["sizes"], tensors["labels"])


def _checked(path: Path, digest: str) -> dict[str, Tensor]:
    tensors, _ = store.read_tensors(path)
    if store.digest_of(tensors, {"schema": SCHEMA}) != digest:
        raise InputError(f"{path} is not the file that artefact.json describes.")
    return tensors


def _check_facts(facts: Any, folder: Path) -> None:
    path = folder / "artefact.json"
    if not isinstance(facts, dict) or "facts_digest" not in facts:
        raise InputError(f"{path} is damaged: it is not an artefact's description.")
    if facts.get("kind") != KIND:
        raise InputError(f"{folder} holds {facts.get('kind', 'images')!r}, not graphs.")
    if facts.get("schema", 0) > SCHEMA:
        raise InputError(f"{path} has schema {facts['schema']}; this attar reads up to {SCHEMA}. Upgrade attar.")
    rest = {name: value for name, value in facts.items() if name != "facts_digest"}
    if store.digest_of({}, rest) != facts["facts_digest"]:
        raise InputError(f"{path} was altered after it was written: its contents do not match its digest.")
