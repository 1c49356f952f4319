"""A folder with something of every kind in it."""

import dataclasses
import json

import pytest

import attar
import small
from attar.core.cell import Beside, Cell
from attar.core.score import Score
from attar.core.scores import keep_scores
from attar.images.networks.architecture import Architecture

DM = {"ipc": 1, "steps": 6, "real_batch": 4, "architecture": Architecture(width=4)}


@pytest.fixture(scope="session")
def folder(digits, engine, tmp_path_factory):
    """Two seeds of one method, another with other settings, one without steps; scores with rivals; and a table."""
    top = tmp_path_factory.mktemp("runs")
    snapped = dataclasses.replace(engine, snapshots=3)
    for seed in (0, 1):
        attar.condense(digits, attar.DM(**DM), out=top / f"dm-{seed}", seed=seed, engine=snapped)
    attar.condense(digits, attar.DM(**{**DM, "lr": 0.5}), out=top / "dm-slow", engine=engine)
    attar.condense(digits, attar.Random(ipc=12), out=top / "random", engine=engine)
    for name, values in (("dm-0", (61.0, 63.0)), ("dm-1", (70.0, 72.0)), ("dm-slow", (50.0, 52.0))):
        beside = (Beside("random, as many bytes", Score(99.7), 20, 5000), Beside("no augmentation", Score(40.0)))
        full, chance = Score(98.0), 10.0
        cell = Cell.of([values], column="convnet", protocol="quick", full=full, chance=chance, beside=beside)
        keep_scores(top / name, [cell if name != "dm-1" else dataclasses.replace(cell, beside=())])
    cells = [
        {"label": name, "ipc": 1, "values": [[value], [value + 1]], "bytes": 9, "seconds": 1.0}
        for name, value in (("random", 14), ("DM", 26))
    ]
    table = {"data": "cifar10", "protocol": {"name": "field"}, "full": None, "cells": cells}
    (top / "table.json").write_text(json.dumps(table), encoding="utf-8")
    return top


ENTRIES = (
    *("dm", "graph-random", "runnalls", "conv", "kd", "language", "table-random", "simclr", "edm"),
    "latent-field",
    "kelvin-helmholtz",
)
"""One of each kind."""


@pytest.fixture(scope="session")
def every_kind(engine, tmp_path_factory):
    """One finished run of each kind."""
    top = tmp_path_factory.mktemp("kinds")
    for entry in ENTRIES:
        small.run(small.method_of(entry), small.kind_of(entry), out=top / entry, engine=engine)
    return top
