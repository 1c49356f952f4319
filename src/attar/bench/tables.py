"""Tables of methods under one protocol: condensed, scored, compared with random selection, beside the papers' figures.

Each cell is a run folder and a score kept beside it, so a table that was stopped goes on where it was.
"""

import dataclasses
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table as Grid
from tyro.conf import Positional

from attar.bench.published import datasets, published
from attar.core import store
from attar.core.errors import InputError
from attar.core.fleet import Task, run_all
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.score import Interval, Score, kept, welch
from attar.core.seeds import derived_seed
from attar.images.artefact import CondensedImages
from attar.images.condense.atom import ATOM
from attar.images.condense.coresets import ClassMean, Herding, KCenter, KMeans, Random
from attar.images.condense.datadam import DataDAM
from attar.images.condense.dm import DM
from attar.images.condense.rded import RDED
from attar.images.networks import Architecture
from attar.images.score import full_score, train_and_test
from attar.images.sources import ImageSource, held_out, load
from attar.images.training import PROTOCOLS, Protocol, protocol_named
from attar.verbs import condense

CHOICE = Protocol(name="choice", epochs=300)
"""How snapshots are judged on held-out images: long enough to rank them."""


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


@dataclass(frozen=True)
class Plan:
    """What a table holds."""

    data: str
    ipcs: tuple[int, ...]
    rows: tuple[Row, ...]
    protocol: str
    architecture: Architecture
    about: str

    @property
    def grid(self) -> list[tuple[Row, int]]:
        """Every row with every number of images per class that it has."""
        return [(row, ipc) for ipc in self.ipcs for row in self.rows if ipc <= row.most]


@dataclass(frozen=True)
class Fleet:
    """Who does the work: this process, or so many workers of Ray, or a cluster."""

    workers: int = 1
    address: str | None = None


ALONE = Fleet()


@dataclass(frozen=True)
class Cell:
    """One measured line."""

    label: str
    ipc: int
    values: tuple[tuple[float, ...], ...]
    """Test accuracy in per cent, by condensed set and network."""
    bytes: int
    seconds: float
    """Seconds of condensing one set."""

    @property
    def by_set(self) -> list[float]:
        """The mean accuracy of each set, the unit of comparison."""
        return [statistics.fmean(values) for values in self.values]

    @property
    def score(self) -> Score:
        """Over all sets and networks, as the field prints it."""
        return Score.of([value for values in self.values for value in values])


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
        Row("RDED", lambda ipc: RDED(ipc=ipc), sets=4, networks=2),
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


NAMES = {"class mean": "class-mean", "full data": "whole"}
"""Rows whose published name is not their label in lower case."""


def command(
    table: Positional[Literal["digits", "cifar10"]] = "digits",
    data: str | None = None,
    out: Path | None = None,
    ipc: tuple[int, ...] | None = None,
    steps: int | None = None,
    sets: int = 3,
    networks: int = 3,
    protocol: str | None = None,
    ceiling: Literal["auto", "run", "skip"] = "auto",
    record: Path | None = None,
    workers: int = 1,
    address: str | None = None,
    engine: Engine = Engine(),  # noqa: B008
) -> None:
    """Measure a table of methods under one protocol, beside the published figures where there are any.

    Args:
        table: digits (ships with scikit-learn; minutes) or cifar10 (needs --data; hours on a CPU).
        data: Where the data is, for tables that are not bundled.
        out: Folder for the runs and table.json; runs/bench-TABLE unless given. A stopped table goes on there.
        ipc: Images per class.
        steps: Steps of the learning methods.
        sets: Condensed sets per cell (cifar10).
        networks: Networks per set (cifar10).
        protocol: How networks are trained; quick for digits and field for cifar10 unless given.
        ceiling: The score of all the data: auto trains it when that takes under ten minutes.
        record: A file to write the figures to as well, such as bench/results/cifar10.json.
        workers: Sets condensed and scored at once, by Ray.
        address: A Ray cluster to work on.
        engine: How the machine is used.
    """
    if min((*(ipc or (1,)), sets, networks, steps or 1, workers)) < 1:
        raise InputError("ipc, steps, sets, networks and workers must be at least 1.")
    if table == "digits":
        about = (
            "ConvNet of depth 2; scored after 100 epochs at ten times the step size, where the field trains for 1,000"
        )
        plan = Plan("digits", ipc or (1, 10), digits_rows(steps or 120), protocol or "quick", Architecture(), about)
    else:
        if data is None:
            raise InputError("the cifar10 table needs --data, a folder of CIFAR-10 as parquet files.")
        about = "ConvNet of depth 3, instance normalisation, a JPEG copy of CIFAR-10 if that is what the folder holds"
        rows = cifar_rows(steps or 2000, sets, networks)
        plan = Plan(data, ipc or (1,), rows, protocol or "field", Architecture(), about)
    protocol_named(plan.protocol)
    fleet = Fleet(workers, address)
    facts = run(plan, table, out or Path("runs") / f"bench-{table}", ceiling, engine, fleet)
    if record is not None:
        store.write_json(record, facts)


def run(
    plan: Plan, name: str, out: Path, ceiling: Literal["auto", "run", "skip"], engine: Engine, fleet: Fleet = ALONE
) -> dict[str, Any]:
    """Measure every cell, print the table, write `table.json` and return what it holds."""
    source, console = load(plan.data), Console(soft_wrap=True, highlight=False)
    store.make_folder(out)
    protocol = PROTOCOLS[plan.protocol]
    console.print(str(source))
    console.print(f"{protocol.name} protocol: {protocol.epochs} epochs. {plan.about}.")
    start = time.perf_counter()
    full = full_score(source, plan.architecture, 3, ceiling, Runtime(engine, say=console.print))
    full_seconds = time.perf_counter() - start
    if fleet != ALONE:
        send_out(plan, source, out, engine, fleet, console.print)
    # What the workers have made is found in its folders, and what is not there is made now.
    cells = [cell for row, ipc in plan.grid for cell in measure(row, ipc, source, plan, out, engine)]
    measured = table(cells, full, full_seconds, source, name)
    console.print(as_text(measured))
    console.print("± over sets and networks; seconds of one set; 95 % intervals by Welch over condensed sets.")
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
    console.print(f"figures: {out / 'table.json'}; each set with its picture and card: {out}/METHOD-IPC-SEED")
    return facts


def send_out(
    plan: Plan, source: ImageSource, out: Path, engine: Engine, fleet: Fleet, say: Callable[[str], None]
) -> None:
    """Have a fleet condense and score every set of the table, each in its own folder."""
    tasks = [
        Task(
            f"{row.label}, {ipc} per class, seed {seed}", partial(_set_of, plan, row, ipc, seed, out.resolve(), engine)
        )
        for row, ipc in plan.grid
        for seed in range(row.sets)
    ]
    gpus = 1.0 if Runtime(engine).device.type == "cuda" else 0.0
    run_all(tasks, workers=fleet.workers, address=fleet.address, gpus=gpus, say=say)


def _set_of(plan: Plan, row: Row, ipc: int, seed: int, out: Path, engine: Engine) -> None:
    """One set on a worker, which keeps its source from task to task."""
    measure_set(row, ipc, seed, _source(plan.data), plan, out, dataclasses.replace(engine, quiet=True))


@cache
def _source(data: str) -> ImageSource:
    return load(data)


@dataclass(frozen=True)
class Measured:
    """One condensed set: what its networks score, and those of the chosen iterate where one is chosen."""

    last: tuple[float, ...]
    chosen: tuple[float, ...] | None
    bytes: int
    seconds: float


def measure_set(row: Row, ipc: int, seed: int, source: ImageSource, plan: Plan, out: Path, engine: Engine) -> Measured:
    """Condense and score one set, or find it in its folder."""
    data = source.without(held_out(source, 0)) if row.chosen else source
    folder = out / f"{_folder_name(row.label)}-{ipc}-{seed}"
    machine = dataclasses.replace(engine, snapshots=4) if row.chosen else engine
    small = condense(data, row.settings(ipc), out=folder, seed=seed, engine=machine)
    last = tested(folder, small, source, plan, row.networks, engine)
    chosen = None
    if row.chosen:
        best = choose(folder, source, plan, engine)
        chosen = tested(best, CondensedImages.load(best), source, plan, row.networks, engine)
    return Measured(last, chosen, small.bytes, store.read_json(folder / "run" / "cost.json")["seconds"])


def measure(row: Row, ipc: int, source: ImageSource, plan: Plan, out: Path, engine: Engine) -> list[Cell]:
    """The cell of a row, and for rows that choose an iterate the one chosen as well."""
    sets = [measure_set(row, ipc, seed, source, plan, out, engine) for seed in range(row.sets)]
    size, seconds = sets[-1].bytes, statistics.fmean(each.seconds for each in sets)
    cells = [Cell(row.label, ipc, tuple(each.last for each in sets), size, seconds)]
    if row.chosen:
        label = f"{row.label}, iterate chosen on held-out images"
        cells.append(Cell(label, ipc, tuple(each.chosen or () for each in sets), size, seconds))
    return cells


def tested(
    folder: Path, small: CondensedImages, source: ImageSource, plan: Plan, networks: int, engine: Engine
) -> tuple[float, ...]:
    """Test accuracies of a set's networks; the i-th network of the j-th set has the same seed for every method."""
    seed = derived_seed(small.origin.seed, "evaluation")
    protocol = PROTOCOLS[plan.protocol]

    def fresh() -> list[float]:
        return train_and_test(small, source, plan.architecture, protocol, networks, Runtime(engine, seed))

    return tuple(store.remembered(_score_file(folder, protocol, networks, plan.architecture), fresh))


def choose(folder: Path, source: ImageSource, plan: Plan, engine: Engine) -> Path:
    """The snapshot of a run with the best accuracy on held-out training images (never the test set)."""
    rows = held_out(source, 0)
    judged = dataclasses.replace(source, test=source.train.select(rows))
    best, best_value = folder, -1.0
    for snapshot in sorted((folder / "run" / "snapshots").iterdir()):
        small = CondensedImages.load(snapshot)

        def fresh(small: CondensedImages = small) -> list[float]:
            return train_and_test(small, judged, plan.architecture, CHOICE, 2, Runtime(engine, 1))

        value = statistics.fmean(store.remembered(_score_file(snapshot, CHOICE, 2, plan.architecture), fresh))
        if value > best_value:
            best, best_value = snapshot, value
    return best


def table(cells: list[Cell], full: Score | None, full_seconds: float, source: ImageSource, name: str) -> Grid:
    """The table as people read it."""
    grid = Grid(title=None, show_edge=False, pad_edge=False)
    headings = ("per class", "method", "accuracy %", "over random", "kept", "bytes", "seconds", "published %")
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    known = published(name, cells[0].ipc) if name in datasets() else {}
    whole = f"{known['whole'].value:.1f}" if "whole" in known else ""
    accuracy = f"{full.value:.1f} ± {full.spread:.1f}" if full else "not trained"
    grid.add_row(
        "all", "full data", accuracy, "", "100.0" if full else "", f"{source.bytes:,}", f"{full_seconds:.1f}", whole
    )
    for ipc in sorted({cell.ipc for cell in cells}):
        grid.add_section()
        here = [cell for cell in cells if cell.ipc == ipc]
        random = next((cell for cell in here if cell.label == "random"), None)
        known = published(name, ipc) if name in datasets() else {}
        for cell in here:
            paper = known.get(NAMES.get(cell.label, cell.label.lower()))
            grid.add_row(
                str(ipc),
                cell.label,
                f"{cell.score.value:.1f} ± {cell.score.spread:.1f}",
                str(over(cell, random)) if random and cell is not random else "",
                f"{kept(cell.score, full):.1f}" if full else "",
                f"{cell.bytes:,}",
                f"{cell.seconds:.1f}",
                str(paper) if paper else "",
            )
    return grid


def over(cell: Cell, random: Cell) -> Interval:
    """How far a cell lies above random selection, with sets as the unit where there are several."""
    several = len(cell.values) > 1
    return welch(cell.by_set if several else list(cell.values[0]), random.by_set)


def _folder_name(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def _score_file(folder: Path, protocol: Protocol, networks: int, architecture: Architecture) -> Path:
    """By protocol and number of networks, and by what the architecture has that the field's does not."""
    inside = folder / "run" if (folder / "run").is_dir() else folder
    usual = Architecture().to_json()
    other = [f"{name}-{value}" for name, value in architecture.to_json().items() if value != usual[name]]
    return inside / f"{'-'.join(['score', protocol.name, str(networks), *other])}.json"
