"""`attar bench comp-dd`: measure methods on the visually easy and on the visually hard classes.

This is the procedure of Comp-DD (Wang, Li et al., CVPR 2025, arXiv:2410.17193) on any data. The maps of a classifier
show how little of its images each class fills. The easiest and the hardest classes form a subset each, on which methods
are measured.
"""

import dataclasses
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from attar.bench.cells import Cell, share
from attar.bench.face import Face
from attar.bench.grid import row_named
from attar.bench.tables import Plan, run
from attar.core import store
from attar.core.errors import InputError, unknown
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score, welch
from attar.core.settings import Range, Role
from attar.images.complexity import ClassComplexity, Looking, class_complexity, classifier_of, select
from attar.images.data import comp_dd
from attar.images.networks.architecture import parse
from attar.images.networks.pretrained import PREFIX
from attar.images.protocols import Chosen, protocol_named
from attar.images.sources import ImageSource, load
from attar.images.trained import trained

HALVES = ("easy", "hard")
METHODS = ("random", *(f"{name}:steps=100,student_steps=5" for name in ("mtt", "datm", "edf")))
"""The paper's rivals and its method. Half of the digits makes three steps an epoch, so that students take few."""


@dataclass(frozen=True, kw_only=True)
class CompDDTable(Face):
    """Find the visually easy and hard classes, and measure methods on each half.

    The paper's scale: --data IMAGENET --size 128 --category bird --methods random mtt datm edf --ipc 1 10 50
    --protocol field, with the methods' published settings.
    """

    data: str = "digits"
    """Data set: anything that `attar data` reads."""
    size: Annotated[int, Range(1)] | None = None
    """Side in pixels to which every picture is scaled (Comp-DD: 128)."""
    methods: tuple[str, ...] = METHODS
    """Methods, each with its settings, such as edf:steps=200."""
    classes: Annotated[int, Range(1)] = 5
    """Number of easy classes, and of hard classes (Comp-DD: 10)."""
    ipc: tuple[Annotated[int, Range(1)], ...] = (1,)
    """Images per class."""
    sets: Annotated[int, Range(1)] = 3
    """Number of condensed sets per cell, each with its own seed."""
    networks: Annotated[int, Range(1)] = 2
    """Number of networks trained on each set."""
    pool: tuple[str, ...] | None = None
    """Names of the classes to choose among; similar ones are best. Default: all classes."""
    category: str | None = None
    """Category of Comp-DD, for ImageNet's 1,000 classes. Its published lists of classes replace the scores."""
    scorer: str = "convnet:norm=batch"
    """Network that scores the images: an architecture to train (resnet18:norm=batch), the folder of a trained network,
    or transformers:NAME."""
    scorer_protocol: str = "ceiling"
    """Protocol by which the scoring network is trained."""
    looking: Looking = field(default_factory=Looking)
    """Map that the scoring network gives, and which of its places count."""
    architecture: str = "convnet"
    """Network that is trained on the sets."""
    protocol: Annotated[Chosen | Any, Role()] = field(default_factory=lambda: Chosen.by("quick"))
    """Protocol by which networks are trained on the sets."""
    ceiling: Literal["auto", "run", "skip"] = "auto"
    """Whether to train networks on a whole half, as the ceiling. auto does if that takes under ten minutes."""
    seed: int = 0
    """Seed of the scoring network."""
    out: Path | None = None
    """Folder of the runs and of comp-dd.json. Default: runs/comp-dd. A stopped table is continued there."""

    def measure(self, engine: Engine) -> None:
        """Print the table, and write what it holds."""
        if not self.methods:
            raise InputError("--methods needs at least one method.")
        protocol = protocol_named(self.protocol)
        rows, kind = tuple(row_named(text, self.sets, self.networks) for text in self.methods), parse(self.architecture)
        source, console = load(self.data, size=self.size), Console(soft_wrap=True, highlight=False)
        folder = self.out or Path("runs") / "comp-dd"
        store.make_folder(folder)
        console.print(str(source))
        if self.category is not None:
            how, halves = {"category": self.category}, listed(source, self.category)
        else:
            among = labels_of(source, self.pool)
            select(dict.fromkeys(among, 0.0), self.classes)  # too few are refused before a network is trained
            runtime = Runtime(engine, self.seed, say=console.print)
            measured, how = measure(source, self.scorer, self.scorer_protocol, self.looking, folder, runtime)
            halves = halved(source, measured, among, self.classes)
            console.print(as_text(complexity_table(measured, halves)))
        facts = {}
        for name, half in halves.items():
            console.print(f"\n{name}: {half}")
            about = f"{self.architecture}; {self.sets} sets of {self.networks} networks"
            plan = Plan(half.source, self.ipc, rows, protocol, kind, about)
            facts[name] = {**half.to_json(), **run(plan, half.source.name, folder / name, self.ceiling, engine)}
        console.print(as_text(table(facts)))
        console.print("hard - easy: difference of the accuracies, with 95 % intervals by Welch over condensed sets.")
        whole = {"data": source.name, "fingerprint": source.fingerprint, **how, **facts}
        store.write_json(folder / "comp-dd.json", whole)
        self.keep(whole)


@dataclass(frozen=True)
class Half:
    """Classes of one difficulty."""

    source: ImageSource
    """Their images."""
    numbers: tuple[int, ...]
    """What numbers they have in the whole data."""
    complexity: float
    """The mean complexity of their images, in per cent."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"numbers": list(self.numbers), "classes": list(self.source.classes), "complexity": self.complexity}

    def __str__(self) -> str:
        return f"{', '.join(self.source.classes)} (complexity {self.complexity:.1f} %)"


def measure(
    source: ImageSource, scorer: str, protocol: str, looking: Looking, folder: Path, runtime: Runtime
) -> tuple[ClassComplexity, dict[str, Any]]:
    """The complexity of every image, by a network that is read or trained, kept in the folder; and how it came about.

    Raises:
        InputError: No such network.
    """
    named = scorer.startswith(PREFIX) or Path(scorer).is_dir()
    network = scorer if named else trained(source, parse(scorer), runtime, protocol_named(protocol))
    module = classifier_of(network, source, runtime.say)
    how = {"scorer": scorer, "looking": looking.to_json(), "seed": runtime.seed}
    key = store.digest_of(module.state_dict(), {**how, "data": source.fingerprint})

    def fresh() -> dict[str, Any]:
        found = class_complexity(source, module, runtime=runtime, **looking.to_json())
        return {"layer": found.looking.layer, "images": found.images.tolist()}

    found = store.remembered(folder / f"complexity-{key}.json", fresh)
    looking = dataclasses.replace(looking, layer=found["layer"])
    measured = ClassComplexity(torch.tensor(found["images"]), source.targets, source.classes, looking)
    by_class = dict(zip(source.classes, measured.by_class, strict=True))
    return measured, {**how, "looking": looking.to_json(), "complexity": by_class}


def labels_of(source: ImageSource, pool: tuple[str, ...] | None) -> list[int]:
    """The numbers of the classes to choose among.

    Raises:
        InputError: A name that is no class.
    """
    for name in pool or ():
        if name not in source.classes:
            raise unknown("class", name, source.classes)
    return [label for label, name in enumerate(source.classes) if pool is None or name in pool]


def halved(source: ImageSource, measured: ClassComplexity, among: list[int], classes: int) -> dict[str, Half]:
    """The easiest and the hardest classes of a pool."""
    scores = measured.by_class
    halves = {}
    for name, labels in zip(HALVES, select({label: scores[label] for label in among}, classes), strict=True):
        part = dataclasses.replace(source.with_classes(labels), name=f"{source.name}, {name}")
        halves[name] = Half(part, labels, 100 * statistics.fmean(scores[label] for label in labels))
    return halves


def listed(source: ImageSource, category: str) -> dict[str, Half]:
    """The published easy and hard classes of a category, with their published complexity.

    Raises:
        InputError: No such category, or a source that is not ImageNet.
    """
    known = comp_dd.statistics(category)
    halves = {}
    for name, complexity in zip(HALVES, known.complexity, strict=True):
        part = comp_dd.subset(source, f"{category}-{name}", twice="last")
        halves[name] = Half(part, comp_dd.numbers(f"{category}-{name}", twice="last"), complexity)
    return halves


def complexity_table(measured: ClassComplexity, halves: dict[str, Half]) -> Table:
    """Every class with its complexity, hardest first."""
    grid = Table(show_edge=False, pad_edge=False)
    for heading in ("class", "complexity %", "images", "flat maps", "half"):
        grid.add_column(heading, justify="left" if heading in ("class", "half") else "right", no_wrap=True)
    counts, flat = (
        torch.bincount(labels, minlength=len(measured.classes)).tolist()
        for labels in (measured.labels, measured.labels[measured.undefined])
    )
    scores = measured.by_class
    for label in sorted(range(len(scores)), key=lambda label: (-scores[label], label)):
        where = next((name for name, half in halves.items() if label in half.numbers), "")
        grid.add_row(
            measured.classes[label], f"{100 * scores[label]:.1f}", f"{counts[label]:,}", f"{flat[label]:,}", where
        )
    return grid


def table(facts: dict[str, Any]) -> Table:
    """Both halves side by side."""
    grid = Table(show_edge=False, pad_edge=False)
    for heading in ("per class", "method", "easy %", "hard %", "hard - easy", "easy kept", "hard kept", "bytes"):
        grid.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    full = {name: Score(**facts[name]["full"]) if facts[name]["full"] else None for name in HALVES}
    easy, hard = (getattr(full[name], "number", "not trained") for name in HALVES)
    grid.add_row("all", "full data", easy, hard, "", *("100.0" if full[name] else "" for name in HALVES), "")
    cells = [[Cell.from_json(cell) for cell in facts[name]["cells"]] for name in HALVES]
    for easier, harder in zip(*cells, strict=True):
        scores = (easier.score, harder.score)
        grid.add_row(
            str(easier.ipc),
            easier.label,
            *(score.number for score in scores),
            str(welch(harder.by_set, easier.by_set)),
            *(share(score, full[name]) for score, name in zip(scores, HALVES, strict=True)),
            " and ".join(dict.fromkeys(f"{cell.bytes:,}" for cell in (easier, harder))),
        )
    return grid
