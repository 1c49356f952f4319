"""A table of one's own: any methods with any settings, at any numbers of images per class, on any data."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from attar.bench.face import Face
from attar.bench.tables import Fleet, Plan, Row, run
from attar.core.errors import InputError, unknown
from attar.core.flags import flags_of
from attar.core.registry import find
from attar.core.runtime import Engine
from attar.core.settings import Range, Settings, words
from attar.images.networks.architecture import parse
from attar.images.training import protocol_named


@dataclass(frozen=True, kw_only=True)
class GridTable(Face):
    """Measure methods by images per class and seed, under one protocol."""

    data: str = "digits"
    """Anything that `attar data` reads."""
    methods: tuple[str, ...] = ("random", "dm", "datadam")
    """Methods with settings of their own, such as dm:steps=200,lr=2 or datadam:norm=batch."""
    ipc: tuple[Annotated[int, Range(1)], ...] = (1, 10)
    """Images per class."""
    sets: Annotated[int, Range(1)] = 3
    """Condensed sets per cell, each with a seed of its own."""
    networks: Annotated[int, Range(1)] = 2
    """Networks per set."""
    architecture: str = "convnet"
    """What is trained on them, such as convnet:norm=batch."""
    protocol: str = "quick"
    """How networks are trained."""
    ceiling: Literal["auto", "run", "skip"] = "auto"
    """The score of all the data: auto trains it when that takes under ten minutes."""
    out: Path | None = None
    """Folder for the runs and table.json; runs/grid unless given. A stopped grid goes on there."""
    workers: Annotated[int, Range(1)] = 1
    """Sets condensed and scored at once, by Ray."""
    address: str | None = None
    """A Ray cluster to work on."""

    def measure(self, engine: Engine) -> None:
        """Print the table, and write what it holds."""
        if not self.methods or not self.ipc:
            raise InputError("--methods and --ipc need one value or more.")
        protocol_named(self.protocol)
        rows = tuple(row_named(text, self.sets, self.networks) for text in self.methods)
        about = f"{self.architecture}; {self.sets} sets of {self.networks} networks"
        plan = Plan(self.data, self.ipc, rows, self.protocol, parse(self.architecture), about)
        folder, fleet = self.out or Path("runs") / "grid", Fleet(self.workers, self.address)
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
