"""Tables of methods under one protocol: condense, score, and compare with random selection and published figures.

Each cell is a run folder with a score beside it, so a stopped table continues where it was.
"""

import dataclasses
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console

from attar.bench.face import Face
from attar.bench.published import datasets, published
from attar.core import store
from attar.core.errors import InputError
from attar.core.fleet import ALONE, Fleet, Task, crew
from attar.core.runtime import Engine, Runtime
from attar.core.score import Interval, Score, kept, welch
from attar.core.seeds import derived_seed
from attar.core.settings import Hidden, Range, Role
from attar.images.artefact import CondensedImages
from attar.images.condense.ast import AST, SMOOTH
from attar.images.condense.atom import ATOM
from attar.images.condense.cda import CDA
from attar.images.condense.coresets import ClassMean, Herding, KCenter, KMeans, Random
from attar.images.condense.datadam import DataDAM
from attar.images.condense.datm import DATM
from attar.images.condense.dc import DC
from attar.images.condense.dcc import DCC
from attar.images.condense.dm import DM
from attar.images.condense.dsa import DSA
from attar.images.condense.edf import EDF
from attar.images.condense.ftd import FTD
from attar.images.condense.hello import HeLlO
from attar.images.condense.mtt import MTT
from attar.images.condense.rded import RDED
from attar.images.condense.relabel import Relabelled
from attar.images.condense.sre2l import SRe2L
from attar.images.condense.tesla import TESLA
from attar.images.experts import Experts
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Chosen, Protocol, protocol_named
from attar.images.rates import trained_at, uses
from attar.images.score import full_score, train_and_test
from attar.images.sources import ImageSource, held_out, load
from attar.verbs import condense

Labels = Literal["hard", "soft", "taught"]

CHOICE = Protocol(name="choice", epochs=300)
"""How snapshots are judged on held-out images: long enough to rank them."""


QUICKLY = "ConvNet of depth 2; scored after 100 epochs at ten times the step size, where the field trains for 1,000"
"""How the tables of digits are measured."""

FOOT = "± over sets and networks; seconds of one set; 95 % intervals by Welch over condensed sets."
"""What stands below a table."""
FOOT_PREPARED = "Seconds after a plus are those of networks that the method needs. They are trained once and kept."
FOOT_RATES = (
    "Sets with a learned step size are compared with random images at the protocol's step size or at theirs, whichever "
    "are better."
)
"""What stands below it if it has such rows."""


@dataclass(frozen=True)
class Row:
    """One line of a table: a method, how many sets are condensed, and how many networks are trained on each."""

    label: str
    settings: Callable[[int], Any]
    """The method for a number of images per class."""
    sets: int
    networks: int
    most: int = 10**9
    """The largest ipc the row has."""
    chosen: bool = False
    """Whether the iterate is chosen on held-out training images, beside the last one."""
    labels: Labels = "hard"
    """What networks learn: classes, one soft label an image, or what a network says of every augmented image."""
    protocol: str | None = None
    """How networks are trained, where it is not the table's protocol."""
    least: int = 1
    """The smallest ipc the row has."""


@dataclass(frozen=True)
class Plan:
    """What a table holds."""

    data: str | ImageSource
    ipcs: tuple[int, ...]
    rows: tuple[Row, ...]
    protocol: str | Protocol
    architecture: Architecture
    about: str
    whole: int = 3
    """Networks that are trained on all the data."""

    @property
    def grid(self) -> list[tuple[Row, int]]:
        """Every row with every number of images per class that it has: by what networks learn, random images first."""
        rows = sorted(self.rows, key=lambda row: (KINDS.index(row.labels), row.label != "random"))
        return [(row, ipc) for ipc in self.ipcs for row in rows if row.least <= ipc <= row.most]


@dataclass(frozen=True)
class Cell:
    """One measured line."""

    label: str
    ipc: int
    values: tuple[tuple[float, ...], ...]
    """Test accuracy in per cent, by condensed set and network."""
    bytes: int
    seconds: float
    """Seconds of condensing one set, with what was prepared for it: networks trained beside it, now or earlier."""
    labels: Labels = "hard"
    """What its networks learned."""
    prepared: float = 0.0
    """Those of the seconds in which networks were prepared."""
    random: tuple[tuple[float, ...], ...] = ()
    """If the sets have learned a step size, the accuracy of random images, as many, at theirs."""

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Cell":
        """The inverse of `dataclasses.asdict`, also for cells of earlier versions."""
        by_set = {name: tuple(map(tuple, facts.get(name, ()))) for name in ("values", "random")}
        return cls(**{**facts, **by_set})

    @property
    def by_set(self) -> list[float]:
        """The mean accuracy of each set, the unit of comparison."""
        return [statistics.fmean(values) for values in self.values]

    @property
    def score(self) -> Score:
        """Over all sets and networks, as the field prints it."""
        return Score.of([value for values in self.values for value in values])

    @property
    def time(self) -> str:
        """The seconds of one set, and after a plus those of the networks prepared for it."""
        own = f"{self.seconds - self.prepared:.1f}"
        return f"{own} + {self.prepared:.1f}" if self.prepared else own


def digits_rows(steps: int) -> tuple[Row, ...]:
    """Every method on digits; learning methods with so many steps."""
    return (
        Row("random", lambda ipc: Random(ipc=ipc), sets=10, networks=1),
        Row("class mean", lambda ipc: ClassMean(ipc=ipc), sets=1, networks=3, most=1),
        Row("herding", lambda ipc: Herding(ipc=ipc), sets=1, networks=3),
        Row("K-center", lambda ipc: KCenter(ipc=ipc), sets=1, networks=3),
        Row("k-means, pixels", lambda ipc: KMeans(ipc=ipc, space="pixel"), sets=1, networks=3),
        Row("k-means, embeddings", lambda ipc: KMeans(ipc=ipc), sets=1, networks=3),
        Row("DM", lambda ipc: DM(ipc=ipc, steps=steps), sets=4, networks=2),
        Row("DataDAM", lambda ipc: DataDAM(ipc=ipc, steps=steps), sets=4, networks=2),
        Row("ATOM", lambda ipc: ATOM(ipc=ipc, steps=steps), sets=4, networks=2),
        Row("RDED", lambda ipc: RDED(ipc=ipc), sets=4, networks=2, labels="soft"),
    )


def demo_rows(steps: int) -> tuple[Row, ...]:
    """The few rows of `make demo`, which takes two minutes: two learning methods, and what they have to beat."""
    return (
        Row("random", lambda ipc: Random(ipc=ipc), sets=10, networks=1),
        Row("class mean", lambda ipc: ClassMean(ipc=ipc), sets=1, networks=3, most=1),
        Row("K-center", lambda ipc: KCenter(ipc=ipc), sets=1, networks=3, least=10),
        Row("DM", lambda ipc: DM(ipc=ipc, steps=steps), sets=4, networks=1),
        Row("DataDAM", lambda ipc: DataDAM(ipc=ipc, steps=steps), sets=4, networks=1, least=10),
    )


def family_rows(steps: int, sets: int, networks: int, experts: Experts) -> tuple[Row, ...]:
    """Every family, those that learn from soft labels and from a teacher kept apart: what `digits-all` holds.

    Args:
        steps: Of the learning methods: as many matches of gradients and students at one image per class, half and a
            fifth as many at more; three times as many iterations.
        sets: Condensed sets per cell of the learning methods.
        networks: Networks per set; one where a network teaches, which takes three times as many epochs.
        experts: How the experts of trajectory matching are trained.
    """

    def row(label: str, settings: Callable[[int], Any], **others: Any) -> Row:
        return Row(label, settings, sets, networks, **others)

    def taught(label: str, settings: Callable[[int], Any], protocol: str = "rded") -> Row:
        return Row(label, settings, sets, 1, labels="taught", protocol=protocol)

    def matches(ipc: int) -> dict[str, Any]:
        return {"network_draws": max(1, steps // (1 if ipc == 1 else 2 * ipc))}

    def students(ipc: int) -> dict[str, Any]:
        count = {"steps": max(1, steps // (1 if ipc == 1 else 5)), "student_steps": 20}
        return {**count, "last_start": 20, "lr": 10.0 if ipc == 1 else 50.0, "lr_lr": 1e-4}

    dcc_loops: dict[str, Any] = {"network_draws": max(1, steps // 10), "matches": 10, "network_epochs": 5}
    flat = dataclasses.replace(experts, flat_radius=0.01)
    gentle = {"student_lr": 0.002, "lr_lr": 1e-7, "lr": 10.0}  # with momentum a step counts tenfold
    smooth = Experts(**{**SMOOTH.to_json(), "experts": experts.experts, "epochs": experts.epochs})
    recover: dict[str, Any] = {"block_steps": 3 * steps}
    untouched: dict[str, Any] = {"start": "real", "block_steps": 1, "image_lr": 0.0, "rounding": "nearest"}
    return (
        row("DC", lambda ipc: DC(ipc=ipc, start="real", **matches(ipc))),
        row("DSA", lambda ipc: DSA(ipc=ipc, **matches(ipc))),
        row("DSA, DCC's loops", lambda ipc: DSA(ipc=ipc, **dcc_loops), most=1),
        row("DCC", lambda ipc: DCC(ipc=ipc, network_draws=max(1, steps // (10 if ipc == 1 else 2 * ipc)))),
        row("MTT", lambda ipc: MTT(ipc=ipc, experts=experts, **students(ipc))),
        row("TESLA", lambda ipc: TESLA(ipc=ipc, experts=experts, **{**students(ipc), "lr": 10.0})),
        row("FTD", lambda ipc: FTD(ipc=ipc, experts=flat, **students(ipc))),
        row("AST", lambda ipc: AST(ipc=ipc, experts=smooth, **{**students(ipc), **gentle})),
        row("relabelled random", lambda ipc: Relabelled(ipc=ipc), labels="soft"),
        row("relabelled k-means", lambda ipc: Relabelled(ipc=ipc, chosen_by="k-means", space="pixel"), labels="soft"),
        row("DATM", lambda ipc: DATM(ipc=ipc, experts=flat, **students(ipc)), labels="soft"),
        row("EDF", lambda ipc: EDF(ipc=ipc, experts=flat, **students(ipc)), labels="soft"),
        taught("random, taught", lambda ipc: SRe2L(ipc=ipc, **untouched)),
        taught("RDED, taught", lambda ipc: RDED(ipc=ipc, labels="teacher")),
        taught("SRe2L", lambda ipc: SRe2L(ipc=ipc, **recover)),
        taught("CDA", lambda ipc: CDA(ipc=ipc, **recover)),
        taught("HeLlO", lambda ipc: HeLlO(ipc=ipc, fit_steps=3 * steps), protocol="hello"),
    )


def cifar_rows(steps: int, sets: int, networks: int) -> tuple[Row, ...]:
    """The rivals of the published tables on CIFAR-10."""
    return (
        Row("random", lambda ipc: Random(ipc=ipc), sets=sets, networks=networks),
        Row("class mean", lambda ipc: ClassMean(ipc=ipc), sets=1, networks=networks, most=1),
        Row("DM", lambda ipc: DM(ipc=ipc, steps=steps), sets=sets, networks=networks, chosen=True),
        Row("DataDAM", lambda ipc: DataDAM(ipc=ipc, steps=steps), sets=sets, networks=networks, chosen=True),
        Row("ATOM", lambda ipc: ATOM(ipc=ipc, steps=steps), sets=sets, networks=networks, chosen=True),
        Row("RDED", lambda ipc: RDED(ipc=ipc), sets=sets, networks=networks),
    )


DIGIT_EXPERTS = Experts(experts=5, epochs=21, lr=0.05, batch=64)
"""Experts that learn digits in so few epochs; the field's step size and batch are for sets forty times as large."""
KINDS: tuple[Labels, ...] = ("hard", "soft", "taught")
"""The order in which rows stand; what learns from other labels is not to be compared."""
NAMES = {
    "class mean": "class-mean",
    "full data": "whole",
    "relabelled random": "relabel",
    "relabelled k-means": "relabel",
}
"""Rows whose published name is not their label in lower case."""
_HEADINGS = ("per class", "labels", "method", "accuracy %", "over random", "kept", "bytes", "seconds", "published %")
_LEFT = ("labels", "method")
"""Columns of words, which begin at the left."""


@dataclass(frozen=True, kw_only=True)
class MethodsTable(Face):
    """Measure a table of methods under one protocol, beside the published figures where there are any."""

    table: Annotated[Literal["demo", "digits", "digits-all", "cifar10"], Hidden()] = "digits"
    """Which of the tables."""
    data: str | None = None
    """Folder of CIFAR-10 as parquet files (cifar10 only)."""
    out: Path | None = None
    """Folder of the runs and of table.json. Default: runs/bench-TABLE. A stopped table is continued there."""
    ipc: tuple[Annotated[int, Range(1)], ...] | None = None
    """Images per class. Default: 1 for cifar10, 1 and 10 for the other tables."""
    steps: Annotated[int, Range(1)] | None = None
    """Number of steps of the learning methods. Default: 40 for demo, 120 for digits, 2,000 for cifar10."""
    sets: Annotated[int, Range(1)] = 3
    """Number of condensed sets per cell (digits-all and cifar10 only)."""
    networks: Annotated[int, Range(1)] = 3
    """Number of networks trained on each set (digits-all and cifar10 only)."""
    protocol: Annotated[Chosen, Role()] = field(default_factory=lambda: Chosen.by())
    """Protocol by which networks are trained. Default: field for cifar10, quick for the other tables."""
    ceiling: Literal["auto", "run", "skip"] = "auto"
    """Whether to train networks on all the data, as the ceiling. auto does if that takes under ten minutes."""
    workers: Annotated[int, Range(1)] = 1
    """Number of Ray workers, each of which condenses and scores one set at a time."""
    address: str | None = None
    """Address of a Ray cluster to work on. Default: this machine."""
    task_gpus: Annotated[float, Range(0)] | None = None
    """GPUs, or a share of one, for each task of Ray. Default: one where there are GPUs, unless --device is cpu."""

    def measure(self, engine: Engine) -> None:
        """Print the table, and write what it holds."""
        if self.table == "demo":
            rows = demo_rows(self.steps or 40)
            ipcs, protocol = self.ipc or (1, 10), self.protocol.whole("quick")
            plan = Plan("digits", ipcs, rows, protocol, Architecture(), QUICKLY, whole=1)
        elif self.table != "cifar10":
            about = QUICKLY
            rows = digits_rows(self.steps or 120)
            if self.table == "digits-all":
                about += "; what is taught by a network learns for 300 epochs by RDED's protocol, HeLlO's by its own"
                rows += family_rows(self.steps or 120, self.sets, self.networks, DIGIT_EXPERTS)
            plan = Plan("digits", self.ipc or (1, 10), rows, self.protocol.whole("quick"), Architecture(), about)
        else:
            if self.data is None:
                raise InputError("--data must be given: a folder of CIFAR-10 as parquet files.")
            about = (
                "ConvNet of depth 3, instance normalisation, a JPEG copy of CIFAR-10 if that is what the folder holds"
            )
            rows = cifar_rows(self.steps or 2000, self.sets, self.networks)
            plan = Plan(self.data, self.ipc or (1,), rows, self.protocol.whole("field"), Architecture(), about)
        fleet = Fleet(self.workers, self.address, self.task_gpus)
        facts = run(plan, self.table, self.out or Path("runs") / f"bench-{self.table}", self.ceiling, engine, fleet)
        self.keep(facts)


DEMO, DIGITS, DIGITS_ALL, CIFAR10 = (MethodsTable(table=name) for name in ("demo", "digits", "digits-all", "cifar10"))
"""The tables, with their usual settings."""


def run(
    plan: Plan, name: str, out: Path, ceiling: Literal["auto", "run", "skip"], engine: Engine, fleet: Fleet = ALONE
) -> dict[str, Any]:
    """Measure every cell, print the table, write `table.json` and return what it holds."""
    fleet.check()
    source, console = load(plan.data), Console(soft_wrap=True, highlight=False)
    store.make_folder(out)
    protocol = protocol_named(plan.protocol)
    console.print(str(source))
    console.print(f"{protocol.told} protocol: {protocol.epochs} epochs. {plan.about}.")
    start = time.perf_counter()
    full = full_score(source, plan.architecture, plan.whole, ceiling, Runtime(engine, say=console.print))
    full_seconds = time.perf_counter() - start
    if fleet != ALONE:
        send_out(plan, source, out, engine, fleet, console.print)
    # What the workers have made is found in its folders, and what is not there is made now.
    cells: list[Cell] = []

    def measured() -> Iterator[Cell]:
        for row, ipc in plan.grid:
            for cell in measure(row, ipc, source, plan, out, engine):
                cells.append(cell)
                yield cell

    for line in lines(measured(), full, full_seconds, source, name, max(len(row.label) for row in plan.rows)):
        console.print(line)
    for words in foot(cells):
        console.print(words)
    facts = {
        "data": source.name,
        "fingerprint": source.fingerprint,
        "protocol": protocol.to_json(),
        "architecture": plan.architecture.resolve(source.shape).to_json(),
        "machine": Runtime(engine).describe(),
        "full": dataclasses.asdict(full) if full else None,
        "cells": [dataclasses.asdict(cell) for cell in cells],
    }
    store.write_json(out / "table.json", facts)
    console.print(f"figures: {out / 'table.json'}. Each set, with its picture and card: {out}/METHOD-IPC-SEED")
    return facts


def send_out(
    plan: Plan, source: ImageSource, out: Path, engine: Engine, fleet: Fleet, say: Callable[[str], None]
) -> None:
    """Have a fleet condense and score every set of the table, each in its own folder."""
    folder = out.resolve()
    # What is decoded each time that it is drawn lies in files, which each machine reads itself.
    given = (plan, None) if source.streamed else (dataclasses.replace(plan, data=source.name), source)
    tasks = [
        Task(f"{row.label}, {ipc} per class, seed {seed}", partial(_set_of, row, ipc, seed, folder, engine), given)
        for row, ipc in plan.grid
        for seed in range(row.sets)
    ]
    with crew(fleet, Runtime(engine)) as hired:
        hired.do(tasks, folder=folder, say=say)


def _set_of(row: Row, ipc: int, seed: int, out: Path, engine: Engine, plan: Plan, source: ImageSource | None) -> None:
    """One set on a worker."""
    measure_set(row, ipc, seed, source or _source(plan.data), plan, out, dataclasses.replace(engine, quiet=True))


@cache
def _source(data: str | ImageSource) -> ImageSource:
    return load(data)


@dataclass(frozen=True)
class Measured:
    """One condensed set: what its networks score, and those of the chosen iterate where one is chosen."""

    last: tuple[float, ...]
    chosen: tuple[float, ...] | None
    bytes: int
    seconds: float
    prepared: float
    lr: float | None
    """The step size that the set has learned, if it has."""


def measure_set(row: Row, ipc: int, seed: int, source: ImageSource, plan: Plan, out: Path, engine: Engine) -> Measured:
    """Condense and score one set, or find it in its folder."""
    data = source.without(held_out(source, 0)) if row.chosen else source
    folder = out / f"{_folder_name(row.label)}-{ipc}-{seed}"
    machine = dataclasses.replace(engine, snapshots=4) if row.chosen else engine
    small = condense(data, row.settings(ipc), out=folder, seed=seed, engine=machine)
    last = tested(folder, small, source, plan, row, engine)
    chosen = None
    if row.chosen:
        best = choose(folder, source, plan, engine)
        chosen = tested(best, CondensedImages.load(best), source, plan, row, engine)
    cost = store.read_cost(folder / "run" / "cost.json")
    return Measured(last, chosen, small.bytes, cost["seconds"] or 0.0, cost["prepared"] or 0.0, small.lr)


def measure(row: Row, ipc: int, source: ImageSource, plan: Plan, out: Path, engine: Engine) -> list[Cell]:
    """The cell of a row, and for rows that choose an iterate the one chosen as well."""
    sets = [measure_set(row, ipc, seed, source, plan, out, engine) for seed in range(row.sets)]
    seconds, prepared = (statistics.fmean(getattr(each, name) for each in sets) for name in ("seconds", "prepared"))
    random = random_at([each.lr for each in sets], row, ipc, source, plan, out, engine)
    rest = (sets[-1].bytes, seconds, row.labels, prepared, random)
    cells = [Cell(row.label, ipc, tuple(each.last for each in sets), *rest)]
    if row.chosen:
        label = f"{row.label}, iterate chosen on held-out images"
        cells.append(Cell(label, ipc, tuple(each.chosen or () for each in sets), *rest))
    return cells


def random_at(
    rates: Sequence[float | None], row: Row, ipc: int, source: ImageSource, plan: Plan, out: Path, engine: Engine
) -> tuple[tuple[float, ...], ...]:
    """Accuracies on the table's random sets at the step sizes that other sets have learned, which take turns.

    They are kept beside those sets. There are none if the protocol does not use a learned step size, or if the table
    has no random images.
    """
    protocol = protocol_named(row.protocol or plan.protocol)
    known = [rate for rate in rates if rate is not None and uses(protocol, rate)]
    rival = next((other for other in plan.rows if other.label == "random"), None)
    if not known or rival is None:
        return ()
    rival, values = dataclasses.replace(rival, protocol=row.protocol), []
    for seed in range(rival.sets):
        turn = seed % len(known)
        folder = out / f"{_folder_name(rival.label)}-{ipc}-{seed}"
        small = condense(source, rival.settings(ipc), out=folder, seed=seed, engine=engine)
        small = dataclasses.replace(small, lr=known[turn])
        kept = out / f"{_folder_name(row.label)}-{ipc}-{turn}"
        values.append(tested(kept, small, source, plan, rival, engine, what=f"random-{seed}"))
    return tuple(values)


def tested(
    folder: Path,
    small: CondensedImages,
    source: ImageSource,
    plan: Plan,
    row: Row,
    engine: Engine,
    *,
    what: str = "score",
) -> tuple[float, ...]:
    """Test accuracies of a set's networks; the i-th network of the j-th set has the same seed for every method."""
    seed = derived_seed(small.origin.seed, "evaluation")
    protocol, networks = protocol_named(row.protocol or plan.protocol), row.networks

    def fresh() -> list[float]:
        return train_and_test(small, source, plan.architecture, protocol, networks, Runtime(engine, seed))

    file = _score_file(folder, trained_at(protocol, small.lr), networks, plan.architecture, what)
    return tuple(store.remembered(file, fresh))


def choose(folder: Path, source: ImageSource, plan: Plan, engine: Engine) -> Path:
    """The snapshot of a run with the best accuracy on held-out training images (never the test set)."""
    rows = held_out(source, 0)
    judged = dataclasses.replace(source, test=source.train.select(rows))
    best, best_value = folder, -1.0
    for snapshot in sorted((folder / "run" / "snapshots").iterdir()):
        small = CondensedImages.load(snapshot)

        def fresh(small: CondensedImages = small) -> list[float]:
            return train_and_test(small, judged, plan.architecture, CHOICE, 2, Runtime(engine, 1))

        file = _score_file(snapshot, trained_at(CHOICE, small.lr), 2, plan.architecture)
        value = statistics.fmean(store.remembered(file, fresh))
        if value > best_value:
            best, best_value = snapshot, value
    return best


def lines(
    cells: Iterable[Cell], full: Score | None, full_seconds: float | None, source: ImageSource, name: str, width: int
) -> Iterator[str]:
    """The table as people read it, line by line: a cell is asked for when its line is, so it is shown once measured.

    Args:
        cells: In the order of `Plan.grid`.
        full: The score of all the data.
        full_seconds: How long that took.
        source: The data.
        name: The table's name, by which published figures are found.
        width: Letters of the longest label.
    """
    widths = [len(_HEADINGS[0]), 6, max(width, 9), 12, 20, 5, 11, 13, 11]
    columns = list(zip(_HEADINGS, widths, strict=True))[: None if name in datasets() else -1]

    def line(values: Sequence[str]) -> str:
        words = zip(values, columns, strict=False)
        return " │ ".join(f"{word:{'<' if head in _LEFT else '>'}{wide}}" for word, (head, wide) in words).rstrip()

    rule = "─┼─".join("─" * wide for _, wide in columns)
    yield line([head for head, _ in columns])
    yield rule
    yield line(_whole(full, full_seconds, source, name))
    before, random = None, None
    for cell in cells:
        if before is None or (cell.ipc, cell.labels) != (before.ipc, before.labels):
            yield rule
        if before is None or cell.ipc != before.ipc:
            random = None
        random = cell if cell.label == "random" else random
        yield line(_measured(cell, random, full, name))
        before = cell


def _whole(full: Score | None, seconds: float | None, source: ImageSource, name: str) -> tuple[str, ...]:
    """The line of all the data."""
    known = [published(name, ipc) for ipc in (1, 10, 50)] if name in datasets() else []
    papers = [cells["whole"] for cells in known if "whole" in cells]
    accuracy, kept_share = (full.number, "100.0") if full else ("not trained", "")
    took = "" if seconds is None else f"{seconds:.1f}"
    paper = f"{papers[0].value:.1f}" if papers else ""
    return ("all", "hard", "full data", accuracy, "", kept_share, f"{source.bytes:,}", took, paper)


def _measured(cell: Cell, random: Cell | None, full: Score | None, name: str) -> tuple[str, ...]:
    """The line of a cell."""
    known = published(name, cell.ipc) if name in datasets() else {}
    gain = str(over(cell, random)) if random and cell is not random else ""
    sizes = (f"{cell.bytes:,}", cell.time)
    paper = str(known.get(NAMES.get(cell.label, cell.label.lower()), ""))
    return (str(cell.ipc), cell.labels, cell.label, cell.score.number, gain, share(cell.score, full), *sizes, paper)


def foot(cells: Sequence[Cell]) -> Iterator[str]:
    """What stands below a table of these cells, line by line."""
    yield FOOT
    if any(cell.prepared for cell in cells):
        yield FOOT_PREPARED
    if any(cell.random for cell in cells):
        yield FOOT_RATES


def share(score: Score, full: Score | None) -> str:
    """What is kept of the full-data score, in figures; nothing where that is not known."""
    found = kept(score, full) if full else None
    return "" if found is None else f"{found:.1f}"


def over(cell: Cell, random: Cell) -> Interval:
    """How far a cell lies above random selection, with sets as the unit where there are several.

    Sets with a learned step size are compared with the better of random images at the protocol's step size and at
    theirs.
    """
    several = len(cell.values) > 1
    at_theirs = [statistics.fmean(values) for values in cell.random]
    rival = max((by_set for by_set in (random.by_set, at_theirs) if by_set), key=statistics.fmean)
    return welch(cell.by_set if several else list(cell.values[0]), rival)


def _folder_name(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def _score_file(
    folder: Path, protocol: Protocol, networks: int, architecture: Architecture, what: str = "score"
) -> Path:
    """By protocol and number of networks, and by what the architecture has that the field's does not."""
    inside = folder / "run" if (folder / "run").is_dir() else folder
    usual = Architecture().to_json()
    other = [f"{name}-{value}" for name, value in architecture.to_json().items() if value != usual[name]]
    return inside / f"{'-'.join([what, protocol.slug, str(networks), *other])}.json"
