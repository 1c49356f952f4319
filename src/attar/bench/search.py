"""`attar bench search`: condensed sets as proxies of architecture search, beside published figures."""

import dataclasses
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table

from attar.bench.face import Face
from attar.bench.grid import method_named
from attar.core import store
from attar.core.errors import InputError
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.settings import Range
from attar.images.artefact import CondensedImages
from attar.images.search import ArchitectureSearch, search, summary
from attar.images.sources import ImageSource, load
from attar.verbs import condense


@dataclass(frozen=True, kw_only=True)
class SearchTable(Face):
    """Rank networks by training them on condensed sets, and compare with their ranking by all the data.

    The papers' scale: --data CIFAR-10 --ipc 50 --sampled 720 --runs 5 --proxy-epochs 200 --whole-epochs 100.
    """

    data: str = "digits"
    """Data set: anything that `attar data` reads."""
    methods: tuple[str, ...] = ("random", "dm:steps=100", "datadam:steps=100")
    """Methods that make the proxies, each with its settings, such as dm:steps=200."""
    ipc: Annotated[int, Range(1)] = 10
    """Images per class in a proxy."""
    settings: ArchitectureSearch = field(default_factory=ArchitectureSearch)
    """Networks that are compared, and how long they are trained."""
    seed: int = 0
    """Seed of the condensed sets and of the trainings."""
    out: Path | None = None
    """Folder of sets and accuracies. Default: runs/search. A stopped search is continued there."""

    def measure(self, engine: Engine) -> None:
        """Print the table, and write what it holds."""
        if not self.methods:
            raise InputError("--methods needs at least one method.")
        source, console = load(self.data), Console(soft_wrap=True, highlight=False)
        folder = (self.out or Path("runs") / "search").resolve()
        machine = dataclasses.replace(engine, quiet=True)
        console.print(str(source))

        def proxy(text: str, rest: ImageSource) -> CondensedImages:
            place = folder / "sets" / text.replace(":", "-").replace(",", "-").replace("=", "-")
            return condense(rest, method_named(text, self.ipc), out=place, seed=self.seed, engine=machine)

        proxies = {text: partial(proxy, text) for text in self.methods}
        for text in self.methods:
            method_named(text, self.ipc)
        rows = summary(
            search(proxies, source, self.settings, seed=self.seed, out=folder, engine=machine, say=console.print)
        )
        console.print(as_text(table(rows)))
        console.print(
            "best: test accuracy of the network that is judged best, after training on all the data. "
            "ρ: Spearman's rank correlation with the ranking by all the data."
        )
        facts: dict[str, Any] = {
            "data": source.name,
            "fingerprint": source.fingerprint,
            "settings": {"ipc": self.ipc, "seed": self.seed, **self.settings.to_json()},
            "machine": Runtime(engine).describe(),
            "rows": rows,
        }
        store.write_json(folder / "search.json", facts)
        self.keep(facts)


def table(rows: list[dict[str, Any]]) -> Table:
    """The papers' measures of every way of judging."""
    grid = Table(show_edge=False, pad_edge=False)
    top = rows[0]["top_5"]
    headings = (
        "judged by",
        "best %",
        "ρ all",
        "ρ top 20 %",
        f"ρ top 5 % ({top})",
        "ρ top 10",
        "minutes",
        "images",
        "bytes",
    )
    for heading in headings:
        grid.add_column(heading, justify="left" if heading == "judged by" else "right", no_wrap=True)
    for row in rows:
        correlations = (row[name] for name in ("rho_all", "rho_top_20", "rho_top_5", "rho_top_10_networks"))
        printed = ("–" if rho is None else f"{rho:+.2f}" for rho in correlations)
        grid.add_row(
            row["way"],
            f"{row['best']:.1f}",
            *printed,
            f"{row['minutes']:.1f}",
            f"{row['images']:,}",
            f"{row['bytes']:,}",
        )
    return grid
