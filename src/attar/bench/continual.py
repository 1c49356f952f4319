"""`attar bench continual`: methods as memories of class-incremental learning, beside published figures."""

import dataclasses
from dataclasses import dataclass, field
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
from attar.core.settings import Range, Role
from attar.images.continual import Continual, ContinualLearning, learn
from attar.images.networks.architecture import parse
from attar.images.protocols import Chosen, protocol_named
from attar.images.sources import load


@dataclass(frozen=True, kw_only=True)
class ContinualTable(Face):
    """Learn classes in turn and compare how much each method's memory keeps of the earlier ones.

    The papers' scale: --data CIFAR-100 --ipc 20 --steps 5 (or 10) --orders 5 --networks 3 --protocol field.
    """

    data: str = "digits"
    """Data set: anything that `attar data` reads."""
    methods: tuple[str, ...] = ("random", "herding", "dm:steps=100", "datadam:steps=100")
    """Methods, each with its settings, such as dm:steps=200. Differences are to the first one."""
    ipc: Annotated[int, Range(1)] = 5
    """Images per class in the memory."""
    steps: Annotated[int, Range(1)] = 5
    """Number of equal steps in which the classes arrive."""
    orders: Annotated[int, Range(1)] = 3
    """Number of random orders of the classes."""
    networks: Annotated[int, Range(1)] = 1
    """Number of networks trained on each memory."""
    architecture: str = "convnet"
    """Network that is trained, such as convnet:norm=batch."""
    protocol: Annotated[Chosen | Any, Role()] = field(default_factory=lambda: Chosen.by("quick"))
    """Protocol by which networks are trained on a memory."""
    out: Path | None = None
    """Folder of memories and scores. Default: runs/continual. A stopped table is continued there."""

    def measure(self, engine: Engine) -> None:
        """Print the table, and write what it holds."""
        if not self.methods:
            raise InputError("--methods needs at least one method.")
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
        console.print(
            "± is the standard deviation over orders and networks. "
            "Differences to the first row: 95 % intervals, in pairs of orders."
        )
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
    headings = ("memory", *(f"{seen} classes" for seen in first.seen), "over the first", "bytes", "published %")
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == "memory" else "right", no_wrap=True)
    known: dict[str, Any] = downstream("continual", data)
    for text, result in results.items():
        scores = [result.after(step) for step in range(len(result.seen))]
        over = "" if result is first else str(paired(result.final_by_order, first.final_by_order))
        printed = known.get(text.partition(":")[0])
        grid.add_row(text, *(s.number for s in scores), over, f"{result.bytes:,}", f"{printed:.1f}" if printed else "")
    return grid
