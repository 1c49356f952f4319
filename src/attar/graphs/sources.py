"""Labelled sets of graphs, split for training, validation and testing.

`train` is condensed. `validation` serves for choices, such as the epoch to stop at. `test` is read once. A set that
comes without a split is split at random by a seed: in each class a fifth is for testing and a tenth of the rest for
validation. Or it is split into k folds, of which one is for testing and one for validation.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.errors import InputError, near_path, unknown
from attar.core.notebook import Told
from attar.core.provenance import asked
from attar.core.seeds import derived_seed
from attar.core.selection import rows_by_class, shuffled
from attar.graphs.collection import GraphCollection
from attar.graphs.motifs import motifs
from attar.graphs.ogb import MOLECULES, PARTS, download, find_ogb, read_ogb
from attar.graphs.pyg import read_pyg
from attar.graphs.tu import RawSet, find_tu, read_tu

Rows = Int[Tensor, " _row"]
Metric = Literal["accuracy", "roc-auc"]


@dataclass(frozen=True)
class Split:
    """The way in which a set is split into training, validation and test graphs."""

    kind: Literal["given", "80/20", "fold"]
    seed: int = 0
    fold: int = 0
    folds: int = 0

    def __str__(self) -> str:
        if self.kind == "fold":
            return f"fold {self.fold + 1} of {self.folds} by seed {self.seed}"
        return "given" if self.kind == "given" else f"80/20 by seed {self.seed}"


@dataclass(frozen=True)
class GraphSource(Told):
    """A labelled set of graphs."""

    name: str
    classes: tuple[str, ...]
    graphs: GraphCollection
    """All graphs, as they were read."""
    rows: tuple[Rows, Rows, Rows]
    """Rows of the training, validation and test graphs."""
    split: Split
    metric: Metric = "accuracy"
    given: tuple[Rows, Rows, Rows] | None = None
    """Rows of the split that the set came with; None if it came without one."""
    attributes: tuple[int, ...] = ()
    """Columns of the features that hold measured numbers instead of one-hot node labels."""
    unused: tuple[str, ...] = ()
    """What came with the graphs and is not used, by name."""

    @cached_property
    def standardised(self) -> GraphCollection:
        """All graphs; measured columns have mean 0 and standard deviation 1 over the nodes of the training graphs."""
        if not self.attributes:
            return self.graphs
        columns, features = list(self.attributes), self.graphs.features.clone()
        seen = self.graphs.select(self.rows[0]).features[:, columns]
        spread = seen.std(dim=0, correction=0).clamp_min(1e-6)
        features[:, columns] = (features[:, columns] - seen.mean(dim=0)) / spread
        return dataclasses.replace(self.graphs, features=features)

    @cached_property
    def train(self) -> GraphCollection:
        """The training graphs, which are condensed."""
        return self.standardised.select(self.rows[0])

    @cached_property
    def validation(self) -> GraphCollection:
        """The validation graphs, by which an epoch is chosen."""
        return self.standardised.select(self.rows[1])

    @cached_property
    def test(self) -> GraphCollection:
        """The test graphs, which are read once."""
        return self.standardised.select(self.rows[2])

    @property
    def features(self) -> int:
        """The number of features of a node."""
        return self.graphs.features.shape[1]

    @property
    def outputs(self) -> int:
        """The number of a network's outputs: one per class, or a single one if the score is ROC-AUC."""
        return 1 if self.metric == "roc-auc" else len(self.classes)

    @property
    def bytes(self) -> int:
        """Size of the training graphs in bytes, stored as an artefact stores graphs."""
        return self.train.bytes

    @cached_property
    def rows_of(self) -> tuple[Rows, ...]:
        """The rows of the training graphs by class."""
        return rows_by_class(self.train.labels, range(len(self.classes)))

    @cached_property
    def content(self) -> str:
        """A digest of all graphs with their labels, which does not depend on the split."""
        digest = hashlib.blake2b(digest_size=16)
        graphs = self.graphs
        sizes = [len(graphs.features), graphs.features.shape[1], graphs.edges.shape[1], len(graphs)]
        digest.update(json.dumps([self.classes, self.metric, sizes]).encode())
        for tensor in (graphs.features, graphs.edges, graphs.sizes, graphs.labels):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all graphs and of their split."""
        digest = hashlib.blake2b(self.content.encode(), digest_size=16)
        for rows in self.rows:
            digest.update(rows.numpy().tobytes() + b"/")
        return digest.hexdigest()

    def at(self, split: Split) -> Self:
        """The same graphs with another split.

        Raises:
            InputError: The set came without a given split, or there are more folds than a class has graphs.
        """
        if split == self.split:
            return self
        if split.kind == "given":
            if self.given is None:
                raise InputError(f"{self.name} has no given split; use another kind of split.")
            return dataclasses.replace(self, rows=self.given, split=split)
        rows = _fold(self, split) if split.kind == "fold" else _by_fifths(self.graphs.labels, split.seed)
        return dataclasses.replace(self, rows=rows, split=split)

    def fold(self, fold: int, *, folds: int = 10, seed: int = 0) -> Self:
        """The split for fold number `fold` of a stratified cross-validation.

        That fold is for testing, the next one for validation, and the rest for training.

        Raises:
            InputError: There are fewer than three folds, or more than a class has graphs.
        """
        return self.at(Split("fold", seed, fold, folds))

    def __str__(self) -> str:
        parts = ", ".join(f"{len(r):,} {n}" for r, n in zip(self.rows, ("training", "validation", "test"), strict=True))
        sizes = self.graphs.sizes.float()
        return (
            f"{self.name}: {parts} graphs, {len(self.classes)} classes, {float(sizes.mean()):.1f} nodes on average and "
            f"{int(sizes.max())} at most, {self.features} features a node, split {self.split}"
            + (f"; not used: {', '.join(self.unused)}" if self.unused else "")
        )


def load(data: Any, *, split_seed: int = 0) -> GraphSource:
    """Load labelled graphs.

    Args:
        data: `"motifs"` (drawn, not downloaded); the folder of a TU set, or `folder/NAME`; a molecule set of OGB by
            name (`"ogbg-molhiv"`) or its folder; or a data set or list of PyTorch Geometric's `Data` with `x`,
            `edge_index` and `y` (without `x`, the degree is the feature).
        split_seed: Seed of the split of a set that came without one. In each class a fifth is for testing and a tenth
            of the rest for validation.

    Returns:
        A source. Its features are one-hot node labels, then measured attributes, if there are any. Without both they
        are one-hot degrees.

    Raises:
        InputError: The name is unknown, a file is truncated, a value is not a finite number, or there is only one
            class.
    """
    if isinstance(data, GraphSource):
        return data
    raw, given = _read(data)
    metric: Metric = "roc-auc" if given and len(raw.classes) == 2 else "accuracy"
    _check_classes(raw)
    train, validation, test = (given[part] for part in PARTS) if given else _by_fifths(raw.graphs.labels, split_seed)
    rows = train, validation, test
    source = GraphSource(
        name=raw.name,
        classes=raw.classes,
        graphs=raw.graphs,
        rows=rows,
        split=Split("given") if given else Split("80/20", split_seed),
        metric=metric,
        given=rows if given else None,
        attributes=raw.attributes,
        unused=raw.unused,
    )
    _check_training(source)
    return asked(source, data, split_seed=split_seed)


def _read(data: Any) -> tuple[RawSet, dict[str, Tensor] | None]:
    if not isinstance(data, (str, Path)):
        return read_pyg(data), None
    if data == "motifs":
        return motifs(), None
    if not str(data):
        raise InputError("data has no name; give a name or a path.")
    path = Path(data)
    found = find_tu(path)
    if found is not None:
        return read_tu(*found), None
    if find_ogb(path):
        return read_ogb(path)
    if str(data).startswith("ogbg-"):
        return read_ogb(download(str(data)))
    if path.exists():
        raise InputError(f"{data} is not a set of graphs: it has neither NAME_A.txt nor raw/num-node-list.csv.gz.")
    if "/" in str(data) and (near := near_path(data)):
        raise InputError(f"unknown set of graphs {str(data)!r}; did you mean {near!r}?")
    raise unknown("set of graphs", str(data), ["motifs", *MOLECULES], hint="Or give the folder of a TU set.")


def _by_fifths(labels: Tensor, seed: int) -> tuple[Rows, Rows, Rows]:
    """Split each class: a fifth for testing, a tenth of the rest for validation, but one of each if it has three."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "split"))
    parts: tuple[list[Tensor], ...] = ([], [], [])
    for rows in rows_by_class(labels, labels.unique().tolist()):
        rows = shuffled(rows, generator)
        testing = max(len(rows) // 5, int(len(rows) > 1))
        choosing = max((len(rows) - testing) // 10, int(len(rows) > 2))
        cuts = rows.split([testing, choosing, len(rows) - testing - choosing])
        for part, cut in zip(parts, (cuts[2], cuts[1], cuts[0]), strict=True):
            part.append(cut)
    train, validation, test = (torch.cat(part).sort().values for part in parts)
    return train, validation, test


def _fold(source: GraphSource, split: Split) -> tuple[Rows, Rows, Rows]:
    folds = stratified_folds(source.graphs.labels, split.folds, split.seed, source.classes)
    if not 0 <= split.fold < split.folds:
        raise InputError(f"fold is {split.fold}; it must be from 0 to {split.folds - 1}.")
    test, validation = folds[split.fold], folds[(split.fold + 1) % split.folds]
    rest = [rows for rows in folds if rows is not test and rows is not validation]
    return torch.cat(rest).sort().values, validation, test


def stratified_folds(
    labels: Int[Tensor, " graph"], folds: int, seed: int, classes: Sequence[str] | None = None
) -> list[Rows]:
    """The rows of each fold. They are dealt class by class, so two folds differ by at most one graph of a class.

    Raises:
        InputError: There are fewer than three folds, or more than a class has graphs.
    """
    if folds < 3:
        raise InputError(f"folds is {folds}; it must be at least 3: one to test, one to validate, the rest to train.")
    counts = torch.bincount(labels)
    if int(counts.min()) < folds:
        fewest = int(counts.argmin())
        name = classes[fewest] if classes else fewest
        raise InputError(f"folds is {folds}, but class {name!r} has {int(counts.min())} graphs; give fewer folds.")
    generator = torch.Generator().manual_seed(derived_seed(seed, "folds"))
    dealt = torch.cat([shuffled(rows, generator) for rows in rows_by_class(labels, range(len(counts)))])
    return [dealt[fold::folds].sort().values for fold in range(folds)]


def _check_classes(raw: RawSet) -> None:
    if len(raw.classes) < 2:
        raise InputError(f"{raw.name} has only one class; condensing needs two or more.")


def _check_training(source: GraphSource) -> None:
    for part, rows in zip(("training", "validation", "test"), source.rows, strict=True):
        counts = torch.bincount(source.graphs.labels[rows], minlength=len(source.classes))
        if int(counts.min()) == 0 and (part == "training" or source.metric == "roc-auc"):
            raise InputError(f"class {source.classes[int(counts.argmin())]!r} of {source.name} has no {part} graphs.")
