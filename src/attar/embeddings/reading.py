"""Reading samples for encoders: the settings, and the description of a source."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from attar.core.provenance import ARTEFACT
from attar.core.settings import Range
from attar.images.reading import Pictures

if TYPE_CHECKING:
    from attar.embeddings.sources import Part, Source

BUNDLED = "mosaics"
TEXT = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
"""Endings of tables. Samples of a mixture and rows of text are recognised before, by their kinds."""
CHARACTER = re.compile(r"character[0-9]+")
"""Names of Omniglot's folders of drawings."""
SHOWN = 3
"""Captions and further classes that a description shows."""


def looks_like(data: str) -> bool:
    """Whether a name, file or folder is that of feature tables, of several labels, or of Omniglot's drawings."""
    if data == BUNDLED:
        return True
    path = Path(data)
    if _is_folder(path):
        return _holds_tables(path)
    if path.suffix.lower() == ".parquet":
        return not _one_label(path)
    return path.suffix.lower() in TEXT or is_omniglot(data)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # no name that a file can have
        return False


def is_omniglot(data: str) -> bool:
    """Whether names are those of zip files of Omniglot, joined by commas, or of a folder of such files or drawings."""
    paths = [Path(word) for word in data.split(",") if word]
    if paths and all(path.suffix.lower() == ".zip" for path in paths):
        return True
    if len(paths) != 1 or not _is_folder(paths[0]):
        return False
    return any(paths[0].glob("*.zip")) or _has_characters(paths[0], 3)


def _has_characters(folder: Path, depth: int) -> bool:
    """Whether folders of characters lie so deep in a folder. Only a few folders of each are looked into."""
    if CHARACTER.fullmatch(folder.name):
        return True
    with os.scandir(folder) as entries:
        inside = [Path(entry.path) for entry in islice(entries, 100) if entry.is_dir()]
    return depth > 0 and any(_has_characters(one, depth - 1) for one in inside[:5])


def _holds_tables(folder: Path) -> bool:
    if is_omniglot(str(folder)):
        return True
    files = sorted(folder.glob("*.parquet"))
    if files:
        return not _one_label(files[0])
    is_artefact = (folder / ARTEFACT).is_file()
    return not is_artefact and any(file.suffix.lower() in TEXT[:4] for file in folder.iterdir())


def _one_label(file: Path) -> bool:
    """Whether a parquet file has images with one label each, which other kinds read too, or of no usual name."""
    from pyarrow import ArrowException, parquet, types

    try:
        schema = parquet.read_schema(file)
    except (ArrowException, OSError, ValueError):
        return True
    kinds = {field.name.lower(): field.type for field in schema}
    if not {"image", "img", "images"} & kinds.keys():
        return any(types.is_struct(kind) or types.is_binary(kind) for kind in kinds.values())
    labels = [kind for name, kind in kinds.items() if name in ("label", "labels", "fine_label", "target", "class", "y")]
    return bool(labels) and not types.is_nested(labels[0]) and not {"caption", "captions", "text"} & kinds.keys()


@dataclass(frozen=True, kw_only=True)
class Reading(Pictures):
    """Settings of reading samples."""

    label: str | None = None
    """Column of the labels. Several columns of 0 and 1 are named with commas: a,b,c. none: there are no labels.
    Default: label, labels, fine_label, target, class or y; else columns of 0 and 1, which in a table of features stand
    at its end."""
    captions: str | None = None
    """Column of a text for each image. Default: caption, captions or text, if there is one."""
    novel: tuple[str, ...] = ()
    """Classes that are only tested on (few-shot): names, beginnings of names, numbers from 0, or a share such as 0.5,
    which is drawn by the split seed. All samples of the other classes are training samples."""
    imbalance: Annotated[float, Range(1)] = 1.0
    """Ratio of the largest to the smallest class of training samples, which are left out so that sizes fall
    geometrically from the first class to the last. 1: none are left out."""
    limit: Annotated[int, Range(1)] | None = None
    """Number of training samples, drawn by the split seed in proportion to the classes. Default: all."""
    mosaics: Annotated[int, Range(0)] = 0
    """Number of training mosaics of 2×2 images to make of images with one label. A mosaic has several labels and a
    caption. 0: none, but 1,024 of the bundled mosaics."""
    test_mosaics: Annotated[int, Range(1)] = 1500
    """Number of test mosaics, if mosaics are made."""

    def load(self, data: Any) -> "Source":
        """Load the source that `data` names."""
        from attar.embeddings.data.load import loaded

        return loaded(data, self)

    def describe(self, source: "Source") -> str:
        """A description of the source: its labels, and its classes with their numbers of samples."""
        lines = [str(source), f"fingerprint {source.fingerprint}"]
        if source.tabular:
            mean, std = source.transform.mean, source.transform.std
            lines.append(f"features with means {_span(mean)} and standard deviations {_span(std)}")
        else:
            lines.append(f"mean {source.transform.mean}, standard deviation {source.transform.std}")
        if source.labelled == "several":
            lines += [_labels_of(words, part) for words, part in (("training", source.train), ("test", source.test))]
        lines += [f"  caption {row}: {text}" for row, text in enumerate(source.train.captions[:SHOWN])]
        return "\n".join([*lines, *_classes(source)])


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.4g} to {max(values):.4g}"


def _labels_of(words: str, part: "Part") -> str:
    """How many labels samples have."""
    assert part.labels is not None
    counts = part.labels.sum(dim=1)
    bare = int((counts == 0).sum())
    share = f", {bare / max(len(counts), 1):.1%} without a label" if bare else ""
    return f"{counts.double().mean():.2f} labels a {words} sample, at most {int(counts.max())}{share}"


def _classes(source: "Source") -> list[str]:
    """A line for each class, with its samples."""
    if not source.classes:
        return []
    train = [len(rows) for rows in source.rows_of]
    test = _counts(source.test, len(source.test_classes))
    if source.novel:
        lines = [f"  {name:<24} {count:,} training samples" for name, count in zip(source.classes, train, strict=True)]
        return lines + [f"  {name:<24} {count:,} test samples" for name, count in zip(source.novel, test, strict=True)]
    rows = zip(source.classes, train, test, strict=True)
    return [f"  {name:<24} {count:,} training samples, {tested:,} test samples" for name, count, tested in rows]


def _counts(part: "Part", classes: int) -> list[int]:
    if part.labels is None:
        return [0] * classes
    found = part.labels.sum(dim=0) if part.labels.ndim == 2 else part.labels.bincount(minlength=classes)
    counts: list[int] = found.tolist()
    return counts
