"""`attar bench continual`: methods as memories of class-incremental learning, beside the published figures."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table

from attar.bench.face import Face
from attar.bench.grid import method_named
from attar.bench.published import downstream
from attar.core import store
from attar.core.errors import InputError
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.score import paired
from attar.core.settings import Range
from attar.images.continual import Continual, ContinualLearning, learn
from attar.images.networks.architecture import parse
from attar.images.sources import load
from attar.images.training import protocol_named


@dataclass(frozen=True, kw_only=True)
class ContinualTable(Face):
    """Let classes come in turn and compare what each method's memory keeps of them.

    The papers' scale: --data CIFAR-100 --ipc 20 --steps 5 (or 10) --orders 5 --networks 3 --protocol field.
    """

    data: str = "digits"
    """Anything that `attar data` reads."""
    methods: tuple[str, ...] = ("random", "herding", "dm:steps=100", "datadam:steps=100")
    """Methods with settings of their own, such as dm:steps=200; differences are to the first."""
    ipc: Annotated[int, Range(1)] = 5
    """Images per class in the memory."""
    steps: Annotated[int, Range(1)] = 5
    """Equal steps in which the classes come."""
    orders: Annotated[int, Range(1)] = 3
    """Orders of the classes."""
    networks: Annotated[int, Range(1)] = 1
    """Networks trained on each memory."""
    architecture: str = "convnet"
    """The network, by words."""
    protocol: str = "quick"
    """How networks are trained on a memory."""
    out: Path | None = None
    """Folder for memories and scores; runs/continual unless given. A stopped table goes on there."""

    def measure(self, engine: Engine) -> None:
        """Print the table, and write what it holds."""
        if not self.methods:
            raise InputError("--methods needs one method or more.")
        made = {text: method_named(text, self.ipc) for text in self.methods}
        settings = ContinualLearning(
            steps=self.steps,
            orders=self.orders,
            networks=self.networks,
            architecture=parse(self.architecture),
            protocol=protocol_named(self.protocol),
        )
        source, console = load(self.data), Console(soft_wrap=True, highlight=False)
        folder = self.out or Path("runs") / "continual"
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
            "settings": {"ipc": self.ipc, **settings.to_json()},
            "machine": Runtime(engine).describe(),
            "methods": {text: dataclasses.asdict(result) for text, result in results.items()},
        }
        store.make_folder(folder)
        store.write_json(folder / "continual.json", facts)
        self.keep(facts)


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
