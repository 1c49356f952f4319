"""Find what lies below a folder: condensed sets with their runs, tables of methods, and what cannot be read."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attar.bench.tables import Cell
from attar.core import store
from attar.core.card import remembered_scores
from attar.core.errors import InputError
from attar.core.settings import flat
from attar.images.artefact import CondensedImages
from attar.images.card import command, per_class

GAP = 1
"""Pixels between pictures in a strip."""


@dataclass(frozen=True)
class Scored:
    """One score of a set."""

    network: str
    protocol: str
    value: float
    spread: float
    n: int
    kept: float | None = None
    kept_above_chance: float | None = None


@dataclass(frozen=True)
class Strip:
    """Pictures of one class side by side, as PNG."""

    label: str
    png: bytes
    shown: int
    total: int


@dataclass(frozen=True)
class Run:
    """A condensed set and what is known of its making."""

    name: str
    method: str
    data: str
    per_class: str
    seed: int
    images: int
    size: int
    """Bytes of the files that training needs."""
    share: float
    """Per cent of the full set's bytes."""
    settings: dict[str, Any]
    machine: dict[str, Any]
    command: str
    side: int
    strips: tuple[Strip, ...]
    scores: tuple[Scored, ...] = ()
    seconds: float | None = None
    memory: int | None = None
    curves: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    snapshots: tuple[tuple[int, bytes], ...] = ()

    @property
    def best(self) -> Scored | None:
        """The score it is sorted by: its first."""
        return self.scores[0] if self.scores else None


@dataclass(frozen=True)
class Table:
    """A table of methods, as `attar bench` writes it."""

    name: str
    data: str
    protocol: str
    full: float | None
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Found:
    """Everything below a folder."""

    folder: str
    runs: tuple[Run, ...]
    tables: tuple[Table, ...]
    skipped: tuple[tuple[str, str], ...]
    """What could not be shown, and why."""


def collect(folder: Path, *, images: int = 10) -> Found:
    """Read everything below a folder.

    Args:
        folder: Where runs lie.
        images: Pictures of a class that are shown at most.

    Raises:
        InputError: There is no such folder, or nothing of attar's in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.")
    runs, tables, skipped = [], [], []
    for path in _candidates(folder):
        name = str(path.relative_to(folder))
        try:
            if path.name == "table.json":
                tables.append(_table(path, name))
            else:
                runs.append(_run(path.parent, str(path.parent.relative_to(folder)), images))
        except InputError as error:
            skipped.append((name, str(error)))
    for settings in sorted(folder.rglob("run/settings.json")):
        place = settings.parents[1]
        if not (place / "artefact.json").exists() and not (place / "network.safetensors").exists():
            skipped.append((str(place.relative_to(folder)), "its run is unfinished; the same command goes on."))
    if not runs and not tables and not skipped:
        raise InputError(f"{folder} holds nothing to report: no condensed set, and no table of attar bench.")
    return Found(str(folder), tuple(runs), tuple(tables), tuple(skipped))


def _candidates(folder: Path) -> Iterator[Path]:
    """Artefacts and tables, but not the snapshots within runs."""
    for path in sorted([*folder.rglob("artefact.json"), *folder.rglob("table.json")]):
        if "snapshots" not in path.relative_to(folder).parts:
            yield path


def _run(folder: Path, name: str, images: int) -> Run:
    small = CondensedImages.load(folder)
    cost = _cost(folder)
    origin = small.origin
    return Run(
        name=name,
        method=origin.method,
        data=origin.source,
        per_class=per_class(small),
        seed=origin.seed,
        images=len(small.labels),
        size=small.bytes,
        share=100 * small.bytes / origin.full_bytes if origin.full_bytes else 0.0,
        settings=dict(flat(origin.settings)),
        machine=origin.machine,
        command=command(small),
        side=small.shape[1],
        strips=tuple(strips(small, images)),
        scores=tuple(_scores(folder)),
        seconds=cost.get("seconds"),
        memory=cost.get("peak_memory"),
        curves=curves(folder / "run" / "metrics.jsonl"),
        snapshots=tuple(_snapshots(folder)),
    )


def strips(small: CondensedImages, images: int) -> Iterator[Strip]:
    """A strip of pictures for every class."""
    labels = small.hard_labels.numpy()
    for number, name in enumerate(small.classes):
        rows = np.nonzero(labels == number)[0]
        if len(rows):
            yield Strip(name, _side_by_side(small.pixels[rows[:images]]), min(len(rows), images), len(rows))


def _side_by_side(pixels: np.ndarray) -> bytes:
    """`[image, height, width, channel]` as one PNG."""
    count, height, width, channels = pixels.shape
    sheet = np.zeros((height, count * (width + GAP) - GAP, 4), dtype=np.uint8)
    for place, image in enumerate(pixels):
        left = place * (width + GAP)
        sheet[:, left : left + width, :3] = image if channels == 3 else np.repeat(image, 3, axis=2)
        sheet[:, left : left + width, 3] = 255
    return png(sheet)


def png(pixels: np.ndarray) -> bytes:
    """`[height, width, channel]` as PNG."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _snapshots(folder: Path) -> Iterator[tuple[int, bytes]]:
    """What the set looked like after so many steps: up to five pictures of up to ten classes."""
    for place in sorted((folder / "run" / "snapshots").glob("step-*")):
        try:
            small = CondensedImages.load(place)
        except InputError:
            continue
        rows = [Image.open(io.BytesIO(strip.png)) for strip in strips(small, 5)][:10]
        width, height = max(row.width for row in rows), rows[0].height + GAP
        sheet = Image.new("RGBA", (width, height * len(rows) - GAP))
        for number, row in enumerate(rows):
            sheet.paste(row, (0, number * height))
        yield int(place.name.removeprefix("step-")), png(np.asarray(sheet))


def curves(file: Path) -> dict[str, tuple[tuple[int, float], ...]]:
    """Every logged metric by step; lines that a kill cut off are left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            values = json.loads(line)
            step = int(values.pop("step"))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            continue
        for name, value in values.items():
            found.setdefault(name, []).append((step, float(value)))
    return {name: tuple(points) for name, points in found.items() if len(points) > 1}


def _scores(folder: Path) -> Iterator[Scored]:
    """Scores that `attar evaluate` left with the set, and those of a table's run."""
    for row in remembered_scores(folder):
        score = row["score"]
        given = (row.get("kept"), row.get("kept_above_chance"))
        yield Scored(row["network"], row["protocol"], score["value"], score["spread"], score["n"], *given)
    for file in sorted((folder / "run").glob("score-*.json")):
        values = _plain(file)
        if isinstance(values, list) and values:
            _, protocol, _, *architecture = file.stem.split("-")
            network = "convnet" + (f" ({'-'.join(architecture)})" if architecture else "")
            yield Scored(network, protocol, float(np.mean(values)), float(np.std(values)), len(values))


def _cost(folder: Path) -> dict[str, Any]:
    cost = _plain(folder / "run" / "cost.json")
    return cost if isinstance(cost, dict) else {}


def _plain(file: Path) -> Any:
    try:
        return store.read_json(file)
    except InputError:
        return None


def _table(file: Path, name: str) -> Table:
    facts = store.read_json(file)
    try:
        cells = tuple(
            Cell(cell["label"], cell["ipc"], tuple(map(tuple, cell["values"])), cell["bytes"], cell["seconds"])
            for cell in facts["cells"]
        )
        full = facts["full"]["value"] if facts.get("full") else None
        return Table(name, facts["data"], facts["protocol"]["name"], full, cells)
    except (KeyError, TypeError):
        raise InputError(f"{file} is no table of attar bench.") from None
