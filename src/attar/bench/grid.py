"""A table of one's own: any methods with any settings, at any numbers of images per class, on any data."""

import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

from attar.bench.tables import Fleet, Plan, Row, run
from attar.core import store
from attar.core.errors import InputError, unknown
from attar.core.flags import flags_of
from attar.core.registry import find
from attar.core.runtime import Engine
from attar.core.settings import Settings, words
from attar.images.networks.architecture import parse
from attar.images.protocols import protocol_named


def command(
    data: str = "digits",
    methods: tuple[str, ...] = ("random", "dm", "datadam"),
    ipc: tuple[int, ...] = (1, 10),
    sets: int = 3,
    networks: int = 2,
    architecture: str = "convnet",
    protocol: str = "quick",
    ceiling: Literal["auto", "run", "skip"] = "auto",
    out: Path | None = None,
    record: Path | None = None,
    workers: int = 1,
    address: str | None = None,
    engine: Engine = Engine(),  # noqa: B008
) -> None:
    """Measure methods by images per class and seed, under one protocol.

    Args:
        data: Anything that `attar data` reads.
        methods: Methods with settings of their own, such as dm:steps=200,lr=2 or datadam:norm=batch.
        ipc: Images per class.
        sets: Condensed sets per cell, each with a seed of its own.
        networks: Networks per set.
        architecture: What is trained on them, such as convnet:norm=batch.
        protocol: How networks are trained.
        ceiling: The score of all the data: auto trains it when that takes under ten minutes.
        out: Folder for the runs and table.json; runs/grid unless given. A stopped grid goes on there.
        record: A file to write the figures to as well.
        workers: Sets condensed and scored at once, by Ray.
        address: A Ray cluster to work on.
        engine: How the machine is used.
    """
    if min((*ipc, sets, networks, workers)) < 1:
        raise InputError("ipc, sets, networks and workers must be at least 1.")
    protocol_named(protocol)
    rows = tuple(row_named(text, sets, networks) for text in methods)
    about = f"{architecture}; {sets} sets of {networks} networks"
    plan = Plan(data, ipc, rows, protocol, parse(architecture), about)
    facts = run(plan, data, out or Path("runs") / "grid", ceiling, engine, Fleet(workers, address))
    if record is not None:
        store.write_json(record, facts)


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
