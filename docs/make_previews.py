"""Make the methods' pictures: ten digits per class (one for the class mean), as the documentation shows them.

Of all methods, or of those that are named.
"""

import io
import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image

import attar
from attar.core.engine import resolved_json
from attar.core.registry import METHODS
from attar.core.runtime import Engine
from attar.images.condense.ast import SMOOTH
from attar.images.experts import Experts

EXPERTS = Experts(experts=2, expert_epochs=8, expert_lr=0.05, expert_batch=64)
TRAJECTORY = {"steps": 15, "student_steps": 10, "last_start": 6, "lr": 50.0, "lr_lr": 1e-4, "experts": EXPERTS}
MATCHES = {"networks": 5, "epochs": 10}
BRIEF = {
    "dm": {"steps": 200},
    "datadam": {"steps": 200},
    "atom": {"steps": 200},
    "ftd": {**TRAJECTORY, "lr": 10.0, "lr_lr": 1e-6},
    "ast": {**TRAJECTORY, "lr_lr": 1e-7, "student_lr": 0.002, "experts": replace(SMOOTH, experts=2, expert_epochs=8)},
    "sre2l": {"iterations": 300},
    "cda": {"iterations": 300},
    "hello": {"fit_steps": 50},
    **dict.fromkeys(("dc", "dsa", "dcc"), MATCHES),
    **dict.fromkeys(("mtt", "tesla", "datm", "edf"), TRAJECTORY),
}
"""So few steps that all pictures are there in some minutes."""

for name, entry in METHODS.items():
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    settings = {"ipc": 1 if name == "class-mean" else 10, **BRIEF.get(name, {})}
    method = entry.load()(**settings)
    small = attar.condense("digits", method, engine=Engine(quiet=True))
    picture = Image.open(io.BytesIO(small.picture())).quantize(32)
    picture.save(Path(__file__).parent / "previews" / f"{name}.png", optimize=True)
    print(name, resolved_json(method), flush=True)
