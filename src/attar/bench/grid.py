"""`attar bench grid`: any methods with any settings, at any numbers of images per class, on any data."""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from attar.bench.face import Face
from attar.bench.rows import Row
from attar.bench.tables import Plan, run
from attar.core.errors import InputError, unknown
from attar.core.flags import flags_of
from attar.core.fleet import Fleet
from attar.core.registry import find
from attar.core.runtime import Engine
from attar.core.settings import Range, Role, Settings, words
from attar.images.networks.architecture import parse
from attar.images.protocols import Chosen, protocol_named


@dataclass(frozen=True, kw_only=True)
class GridTable(Face):
    """Measure methods by images per class and seed, under one protocol."""

    data: str = "digits"
    """Data set: anything that `attar data` reads."""
    methods: tuple[str, ...] = ("random", "dm", "datadam")
    """Methods, each with its settings, such as dm:steps=200,lr=2 or datadam:norm=batch."""
    ipc: tuple[Annotated[int, Range(1)], ...] = (1, 10)
    """Images per class."""
    sets: Annotated[int, Range(1)] = 3
    """Number of condensed sets per cell, each with its own seed."""
    networks: Annotated[int, Range(1)] = 2
    """Number of networks trained on each set."""
    architecture: str = "convnet"
    """Network that is trained on the sets, such as convnet:norm=batch."""
    protocol: Annotated[Chosen | Any, Role()] = field(default_factory=lambda: Chosen.by("quick"))
    """Protocol by which networks are trained."""
    ceiling: Literal["auto", "run", "skip"] = "auto"
    """Whether to train networks on all the data, as the ceiling. auto does if that takes under ten minutes."""
    out: Path | None = None
    """Folder of the runs and of table.json. Default: runs/grid. A stopped grid is continued there."""
    workers: Annotated[int, Range(1)] = 1
    """Number of Ray workers, each of which condenses and scores one set at a time."""
    address: str | None = None
    """Address of a Ray cluster to work on. Default: this machine."""
    task_gpus: Annotated[float, Range(0)] | None = None
    """GPUs, or a share of one, for each task of Ray. Default: one where there are GPUs, unless --device is cpu."""

    def measure(self, engine: Engine) -> None:
        """Print the table, and write what it holds."""
        if not self.methods or not self.ipc:
            raise InputError("--methods and --ipc need at least one value.")
        protocol = protocol_named(self.protocol)
        rows = tuple(row_named(text, self.sets, self.networks) for text in self.methods)
        about = f"{self.architecture}; {self.sets} sets of {self.networks} networks"
        plan = Plan(self.data, self.ipc, rows, protocol, parse(self.architecture), about)
        folder, fleet = self.out or Path("runs") / "grid", Fleet(self.workers, self.address, self.task_gpus)
        facts = run(plan, self.data, folder, self.ceiling, engine, fleet)
        self.keep(facts)


def row_named(text: str, sets: int, networks: int) -> Row:
    """The line of a method with settings after a colon.

    Raises:
        InputError: As `method_named`.
    """
    most = _most(text)
    soft = getattr(method_named(text, 1), "labels", "hard") == "soft"
    return Row(text, partial(method_named, text), sets, networks, most, labels="soft" if soft else "hard")


def method_named(text: str, ipc: int) -> Any:
    """A method by name, with settings after a colon: `datadam:power=1,norm=batch`.

    Settings of its network and its experts are given like those of the method, those of a network beside it with its
    role in front (`herding:observer.width=8`); what is not given stays as the method has it.

    Raises:
        InputError: A method or a setting that is not there, or a value out of its range.
    """
    name, given = words(text)
    settings = find(name, "condense").load()
    places = {flag.name[2:].replace("-", "_"): flag.path for flag in flags_of(settings) if flag.name != "--ipc"}
    values = settings().to_json() | {"ipc": ipc}
    for key, value in given.items():
        if key not in places:
            raise unknown(f"setting of {name}", key, places)
        *homes, last = places[key]
        place = values
        for home in homes:
            place = place[home]
        place[last] = _value(value)
    made: Settings = settings.from_json(values)
    return made


def _value(text: str) -> Any:
    """A number, true, false or null as such, anything else as a word."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _most(text: str) -> int:
    """The largest ipc that a method takes."""
    try:
        method_named(text, 2)
    except InputError as error:
        if str(error).startswith("ipc is 2"):
            return 1
        raise
    return 10**9
