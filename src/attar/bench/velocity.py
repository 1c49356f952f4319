"""`attar bench velocity`: how fast the tangent kernel changes while networks train on condensed sets."""

import statistics
from dataclasses import dataclass, field
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table as Grid

from attar.bench.face import Face
from attar.core.errors import InputError
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Range, Role
from attar.images.networks.architecture import parse
from attar.images.protocols import Chosen, protocol_named
from attar.images.sources import load
from attar.images.velocity import PROBES, kernel_velocity
from attar.verbs import open_artefact

EPOCHS = (0, 1, 2, 5, 10, 20, 50)


@dataclass(frozen=True, kw_only=True)
class VelocityTable(Face):
    """Measure the kernel velocity of training on condensed sets, such as one by DC and one by DCC."""

    sets: tuple[str, ...]
    """Folders of condensed sets."""
    data: str = "digits"
    """Data that the sets were condensed from. The probe images are its test images."""
    epochs: tuple[Annotated[int, Range(0)], ...] = EPOCHS
    """Epochs after which the velocity is measured."""
    networks: Annotated[int, Range(1)] = 3
    """Number of networks trained on each set. The table shows their mean."""
    probes: Annotated[int, Range(1)] = PROBES
    """Number of probe images on which the kernel is computed."""
    architecture: str = "convnet"
    """Network that is trained. It must not have batch normalisation."""
    protocol: Annotated[Chosen | Any, Role()] = field(default_factory=lambda: Chosen.by("dc"))
    """Protocol by which the network is trained."""

    def measure(self, engine: Engine) -> None:
        """Print the table, and write what it holds."""
        if not self.epochs:
            raise InputError("--epochs needs at least one epoch.")
        source, how, kind = load(self.data), protocol_named(self.protocol), parse(self.architecture)
        rows = {}
        for name in self.sets:
            small = open_artefact(name)
            found = [
                kernel_velocity(
                    small,
                    source,
                    kind,
                    how,
                    sorted(self.epochs),
                    Runtime(engine, derived_seed(0, f"velocity {network}")),
                    probes=self.probes,
                )
                for network in range(self.networks)
            ]
            rows[name] = [statistics.fmean(values) for values in zip(*found, strict=True)]
        grid = Grid(title=None, show_edge=False, pad_edge=False)
        for heading in ("set", *(f"epoch {epoch}" for epoch in sorted(self.epochs))):
            grid.add_column(heading, justify="left" if heading == "set" else "right", no_wrap=True)
        for name, values in rows.items():
            grid.add_row(name, *(f"{value:.2g}" for value in values))
        Console(soft_wrap=True, highlight=False).print(as_text(grid))
        how_many = {"networks": self.networks, "probes": self.probes}
        self.keep({"epochs": sorted(self.epochs), "velocity": rows, **how_many})
