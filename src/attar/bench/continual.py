"""`attar bench continual`: methods as memories of class-incremental learning, beside the published figures."""

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from attar.bench.grid import method_named
from attar.bench.published import downstream
from attar.core import store
from attar.core.errors import InputError
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.score import paired
from attar.images.continual import Continual, ContinualLearning, learn
from attar.images.networks.architecture import parse
from attar.images.protocols import protocol_named
from attar.images.sources import load


def command(
    data: str = "digits",
    methods: tuple[str, ...] = ("random", "herding", "dm:steps=100", "datadam:steps=100"),
    ipc: int = 5,
    steps: int = 5,
    orders: int = 3,
    networks: int = 1,
    architecture: str = "convnet",
    protocol: str = "quick",
    out: Path | None = None,
    record: Path | None = None,
    engine: Engine = Engine(),  # noqa: B008
) -> None:
    """Let classes come in turn and compare what each method's memory keeps of them.

    The papers' scale: --data CIFAR-100 --ipc 20 --steps 5 (or 10) --orders 5 --networks 3 --protocol field.

    Args:
        data: Anything that `attar data` reads.
        methods: Methods with settings of their own, such as dm:steps=200; differences are to the first.
        ipc: Images per class in the memory.
        steps: Equal steps in which the classes come.
        orders: Orders of the classes.
        networks: Networks trained on each memory.
        architecture: What is trained.
        protocol: How.
        out: Folder for memories and scores; runs/continual unless given. A stopped table goes on there.
        record: A file to write the figures to as well.
        engine: How the machine is used.
    """
    if not methods:
        raise InputError("give one method or more.")
    made = {text: method_named(text, ipc) for text in methods}
    settings = ContinualLearning(
        steps=steps,
        orders=orders,
        networks=networks,
        architecture=parse(architecture),
        protocol=protocol_named(protocol),
    )
    source, console = load(data), Console(soft_wrap=True, highlight=False)
    folder = out or Path("runs") / "continual"
    console.print(str(source))
    results = {}
    for text, method in made.items():
        place = folder / text.replace(":", "-").replace(",", "-").replace("=", "-")
        results[text] = learn(method, source, settings, out=place, engine=dataclasses.replace(engine, quiet=True))
    console.print(as_text(table(results, source.name)))
    console.print("± over orders and networks; differences to the first row in pairs of orders, 95 %.")
    facts = {
        "data": source.name,
        "fingerprint": source.fingerprint,
        "settings": {"ipc": ipc, **settings.to_json()},
        "machine": Runtime(engine).describe(),
        "methods": {text: dataclasses.asdict(result) for text, result in results.items()},
    }
    store.make_folder(folder)
    store.write_json(folder / "continual.json", facts)
    if record is not None:
        store.write_json(record, facts)


def table(results: dict[str, Continual], data: str) -> Table:
    """Rows of methods, columns of classes seen."""
    first = next(iter(results.values()))
    grid = Table(show_edge=False, pad_edge=False)
    headings = ("memory", *(f"{seen} classes" for seen in first.seen), "over the first", "published %")
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == "memory" else "right", no_wrap=True)
    known: dict[str, Any] = downstream("continual", data)
    for text, result in results.items():
        scores = [result.after(step) for step in range(len(result.seen))]
        over = "" if result is first else str(paired(result.final_by_order, first.final_by_order))
        printed = known.get(text.partition(":")[0])
        grid.add_row(text, *(s.number for s in scores), over, f"{printed:.1f}" if printed else "")
    return grid
