"""`attar bench velocity`: how fast the tangent kernel turns while networks train on condensed sets, side by side."""

import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from attar.core import store
from attar.core.errors import InputError
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.seeds import derived_seed
from attar.images.networks.architecture import parse
from attar.images.protocols import protocol_named
from attar.images.sources import load
from attar.images.velocity import PROBES, kernel_velocity
from attar.verbs import open_artefact

EPOCHS = (0, 1, 2, 5, 10, 20, 50)


def command(
    sets: tuple[str, ...],
    data: str = "digits",
    epochs: tuple[int, ...] = EPOCHS,
    networks: int = 3,
    probes: int = PROBES,
    architecture: str = "convnet",
    protocol: str = "dc",
    record: Path | None = None,
    engine: Engine = Engine(),  # noqa: B008
) -> None:
    """Measure the kernel velocity of training on condensed sets, such as one by DC and one by DCC.

    Args:
        sets: Folders of condensed sets.
        data: The data they were condensed from; probe images are test images.
        epochs: When to look.
        networks: Networks trained on each set; the mean is shown.
        probes: Images in whose answers the kernel is taken.
        architecture: The network, without batch norm.
        protocol: How it is trained.
        record: A file to write the figures to as well.
        engine: How the machine is used.
    """
    if min(networks, probes) < 1 or min(epochs, default=-1) < 0:
        raise InputError("networks and probes must be at least 1, and epochs at least 0.")
    source, how, kind = load(data), protocol_named(protocol), parse(architecture)
    rows = {}
    for name in sets:
        small = open_artefact(name)
        found = [
            kernel_velocity(
                small,
                source,
                kind,
                how,
                sorted(epochs),
                Runtime(engine, derived_seed(0, f"velocity {network}")),
                probes=probes,
            )
            for network in range(networks)
        ]
        rows[name] = [statistics.fmean(values) for values in zip(*found, strict=True)]
    grid = Grid(title=None, show_edge=False, pad_edge=False)
    for heading in ("set", *(f"epoch {epoch}" for epoch in sorted(epochs))):
        grid.add_column(heading, justify="left" if heading == "set" else "right", no_wrap=True)
    for name, values in rows.items():
        grid.add_row(name, *(f"{value:.2g}" for value in values))
    Console(soft_wrap=True, highlight=False).print(as_text(grid))
    if record is not None:
        store.write_json(record, {"epochs": sorted(epochs), "velocity": rows, "networks": networks, "probes": probes})
