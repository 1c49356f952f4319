"""Make the methods' pictures, as the documentation shows them.

Digits ten per class (one for the class mean), graphs, mixtures, the columns of tables, how reliable a calibrated
classifier is, and a simulated plasma. Of all methods, or of those that are named.
"""

import io
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import attar
from attar import tables
from attar.core.engine import resolved_json
from attar.core.registry import METHODS
from attar.core.runtime import Engine
from attar.images.condense.ast import SMOOTH
from attar.images.experts import Experts
from attar.tables.pictures import marginals_picture

EXPERTS = Experts(experts=2, epochs=8, lr=0.05, batch=64)
TRAJECTORY = {"steps": 15, "student_steps": 10, "last_start": 6, "lr": 50.0, "lr_lr": 1e-4, "experts": EXPERTS}
MATCHES = {"network_draws": 5, "network_epochs": 10}
BRIEF = {
    "dm": {"steps": 200},
    "datadam": {"steps": 200},
    "atom": {"steps": 200},
    "ftd": {**TRAJECTORY, "lr": 10.0, "lr_lr": 1e-6},
    "ast": {**TRAJECTORY, "lr_lr": 1e-7, "student_lr": 0.002, "experts": replace(SMOOTH, experts=2, epochs=8)},
    "sre2l": {"block_steps": 300},
    "cda": {"block_steps": 300},
    "hello": {"fit_steps": 50},
    **dict.fromkeys(("dc", "dsa", "dcc"), MATCHES),
    **dict.fromkeys(("mtt", "tesla", "datm", "edf"), TRAJECTORY),
}
"""So few steps that all pictures are there in some minutes."""
QUIET = Engine(quiet=True)


def of_images(name: str, kind: Any) -> tuple[Any, bytes]:
    """Digits."""
    method = kind(**{"ipc": 1 if name == "class-mean" else 10, **BRIEF.get(name, {})})
    return method, attar.condense("digits", method, engine=QUIET).picture()


def of_graphs(name: str, kind: Any) -> tuple[Any, bytes]:
    """Drawn graphs."""
    learned = {"steps": 300} if name in ("gstam", "doscond") else {}
    method = kind(gpc=4, **learned)
    return method, attar.condense("motifs", method, engine=QUIET).picture()


def of_mixtures(name: str, kind: Any) -> tuple[Any, bytes]:
    """The digits' mixture of 40, or the one in one dimension for what tries every partition."""
    method = kind(n_components=5 if name == "brute-force" else 10)
    data = "standard-1d" if name == "brute-force" else "digits"
    return method, attar.compress(data, method, engine=QUIET).picture()


def of_convolutions(name: str, kind: Any) -> tuple[Any, bytes]:
    """A small network of digits."""
    method = kind(network="convnet:norm=none,pooling=max,width=64", epochs=5)
    return method, attar.compress("digits", method, engine=QUIET).picture()


def of_tables(name: str, kind: Any) -> tuple[Any, bytes]:
    """Rows of the bundled table."""
    settings = {"fair": {"tables": 3, "teaching": tables.FairTeacher(epochs=100)}, "tvae": {"epochs": 60}}
    settings["tabfairgan"] = {"epochs": 60, "fair_epochs": 5}
    method = kind(rows=1000, **settings.get(name, {}))
    source = tables.applicants()
    made = attar.condense(source, method, engine=QUIET)
    return method, marginals_picture(made.tables, source.train)


@cache
def classifier() -> tuple[Any, Any]:
    """A classifier of few digits, which is too confident, with its data."""
    digits = attar.load("digits")
    few = digits.subset(torch.cat([rows[:60] for rows in digits.rows_of]))
    method = attar.Classifier(network="mlp:width=64", epochs=60, shift=0, weight_decay=0.0, reserved=0.5)
    return few, attar.train(few, method, engine=QUIET).network


def of_calibrators(name: str, kind: Any) -> tuple[Any, bytes]:
    """A reliability diagram on digits."""
    data, network = classifier()
    method = kind()
    return method, attar.calibrate(data, method, classifier=network, engine=QUIET).picture()


def of_plasmas(name: str, kind: Any) -> tuple[Any, bytes]:
    """A run with so many cells that the rolls are seen (a minute with Numba), columns, or lines of a small run."""
    if name == "kelvin-helmholtz":
        method = kind(cells=(128, 128))
        return method, attar.simulate(method, engine=QUIET).picture()
    if name == "columns":
        method = kind(count=200)
        return method, attar.simulate(method, engine=QUIET).picture()
    run = attar.simulate(attar.KelvinHelmholtz(cells=(32, 64), end=20.0, outputs=2), engine=QUIET)
    method = kind.from_json({"transfer": {"lines": ["ca-k"], "incident": "zero"}, "at_snapshots": [1, 2]})
    return method, attar.simulate(method, run, engine=QUIET).picture()


MAKERS = {
    ("images", "condense"): of_images,
    ("graphs", "condense"): of_graphs,
    ("mixtures", "compress"): of_mixtures,
    ("convolution", "compress"): of_convolutions,
    ("tables", "condense"): of_tables,
    ("classifiers", "calibrate"): of_calibrators,
    ("plasma", "simulate"): of_plasmas,
}
"""What makes the picture, by kind and verb."""

for name, entry in METHODS.items():
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    made = MAKERS.get((entry.kind, entry.verb))
    if made is None:
        continue
    method, picture = made(name, entry.load())
    picture = Image.open(io.BytesIO(picture)).convert("RGB").quantize(32)
    picture.save(Path(__file__).parent / "previews" / f"{name}.png", optimize=True)
    print(name, resolved_json(method), flush=True)
