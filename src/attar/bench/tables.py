"""Tables of methods under one protocol: condense, score, and compare with random selection and published figures.

Each cell is a run folder with a score beside it, so a stopped table continues where it was.
"""

import dataclasses
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console

from attar.bench.cells import KINDS, Cell, foot, lines
from attar.bench.face import Face
from attar.bench.rows import DIGIT_EXPERTS, Row, cifar_rows, demo_rows, digits_rows, family_rows
from attar.core import store
from attar.core.errors import InputError
from attar.core.fleet import ALONE, Fleet, Task, crew
from attar.core.runtime import Engine, Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Hidden, Range, Role
from attar.images.artefact import CondensedImages
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Chosen, Protocol, protocol_named
from attar.images.rates import trained_at, uses
from attar.images.score import full_score, train_and_test
from attar.images.sources import ImageSource, held_out, load
from attar.verbs import condense

CHOICE = Protocol(name="choice", epochs=300)
"""How snapshots are judged on held-out images: long enough to rank them."""
QUICKLY = "ConvNet of depth 2; scored after 100 epochs at ten times the step size, where the field trains for 1,000"
"""How the tables of digits are measured."""


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
