"""Molecule sets of the Open Graph Benchmark (Hu et al., NeurIPS 2020, arXiv:2005.00687), from their own text files.

The `ogb` package is used only to find the address of a set, because its own loader stores pickles. The nine atom
columns become plain numbers, without the benchmark's atom encoder. Bond features are dropped. The authors of DosCond
and GSTAM do the same.
"""

import gzip
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attar.core import cache, store
from attar.core.errors import InputError, unknown
from attar.core.extras import install
from attar.graphs.collection import GraphCollection
from attar.graphs.tu import RawSet, whole_numbers

MOLECULES = ("ogbg-molbace", "ogbg-molbbbp", "ogbg-molhiv")
"""Names of the sets with one binary label."""
PARTS = ("train", "valid", "test")


def find_ogb(path: Path) -> bool:
    """Whether a folder holds a downloaded set."""
    return (path / "raw" / "num-node-list.csv.gz").is_file()


def download(name: str) -> Path:
    """The folder of a set in attar's cache; the set is downloaded if it is not there.

    Raises:
        InputError: The name is unknown, the `ogb` package is not installed, or there is no connection.
    """
    if name not in MOLECULES:
        raise unknown("molecule set", name, MOLECULES)
    folder = store.cache_folder() / name.replace("-", "_")
    cache.use(folder)
    if not find_ogb(folder):
        _fetch(name, folder)
    return folder


def read_ogb(folder: Path) -> tuple[RawSet, dict[str, Tensor]]:
    """Read a set and the rows of its scaffold split: `train`, `valid` and `test`.

    Raises:
        InputError: A file is missing, truncated, or does not fit the others.
    """
    raw = folder / "raw"
    sizes, edge_counts = (_column(raw / f"num-{kind}-list.csv.gz") for kind in ("node", "edge"))
    features, labels = _table(raw / "node-feat.csv.gz"), _column(raw / "graph-label.csv.gz")
    edges = _whole(raw / "edge.csv.gz").reshape(-1, 2)
    lengths = {"node-feat": (len(features), sizes.sum()), "edge": (len(edges), edge_counts.sum())}
    lengths |= {"graph-label": (len(labels), len(sizes)), "num-edge-list": (len(edge_counts), len(sizes))}
    for name, (have, wanted) in lengths.items():
        if have != wanted:
            raise InputError(f"{raw / name}.csv.gz has {have} lines, but {wanted} are expected; a file is truncated.")
    if len(edges) and (edges.min() < 0 or (edges.max(axis=1) >= np.repeat(sizes, edge_counts)).any()):
        raise InputError(f"{raw / 'edge.csv.gz'} names a node that its graph does not have; the file may be truncated.")
    if not np.isfinite(features).all():
        raise InputError(f"{raw / 'node-feat.csv.gz'} holds values that are not finite numbers.")
    starts = np.repeat(np.cumsum(sizes) - sizes, edge_counts)
    values, numbers = np.unique(labels, return_inverse=True)
    graphs = GraphCollection.of(
        torch.from_numpy(features).float(),
        torch.from_numpy((edges + starts[:, None]).T.copy()),
        torch.from_numpy(sizes),
        torch.from_numpy(numbers),
    )
    rows = {part: torch.from_numpy(_column(folder / "split" / "scaffold" / f"{part}.csv.gz")) for part in PARTS}
    if sorted(torch.cat(list(rows.values())).tolist()) != list(range(len(sizes))):
        raise InputError(f"{folder / 'split' / 'scaffold'} does not list each of {len(sizes)} graphs exactly once.")
    name = folder.name.replace("_", "-")
    unused = ("edge-feat",) if (raw / "edge-feat.csv.gz").exists() else ()
    return RawSet(name, tuple(str(value) for value in values), graphs, unused=unused), rows


def _fetch(name: str, folder: Path) -> None:
    import csv
    import importlib.util
    import tempfile
    import urllib.request
    import zipfile

    package = importlib.util.find_spec("ogb")
    if package is None or package.origin is None:
        raise InputError(
            f"downloading {name} needs the ogb package: {install('graphs', 'ogb')}. "
            "Or give the folder of a downloaded copy."
        )
    with (Path(package.origin).parent / "graphproppred" / "master.csv").open(newline="", encoding="utf-8") as file:
        table = {row[0]: row for row in csv.reader(file)}
    column = table[""].index(name)
    url, inside = table["url"][column], table["download_name"][column]
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        try:
            archive, _ = urllib.request.urlretrieve(url, Path(scratch) / "set.zip")
        except OSError as error:
            raise InputError(f"{name} could not be downloaded from {url}: {error}.") from None
        with zipfile.ZipFile(archive) as file:
            wanted = [member for member in file.namelist() if member.endswith(".csv.gz")]
            file.extractall(scratch, wanted)
        (Path(scratch) / inside).rename(folder)


def _column(path: Path) -> np.ndarray:
    return _whole(path).reshape(-1)


def _whole(path: Path) -> np.ndarray:
    return whole_numbers(_table(path), path)


def _table(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path} is missing.")
    try:
        lines = io.StringIO(gzip.decompress(path.read_bytes()).decode()).read().splitlines()
        return np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.empty((0, 1))
    except (ValueError, OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is damaged or truncated: {error}.") from None
