"""Make the methods' pictures: ten digits per class (one for the class mean), as the documentation shows them."""

import io
from pathlib import Path

from PIL import Image

import attar
from attar.core.engine import resolved_json
from attar.core.registry import METHODS
from attar.core.runtime import Engine

STEPS = {"dm": 200, "datadam": 200, "atom": 200}

for name, entry in METHODS.items():
    settings = {"ipc": 1 if name == "class-mean" else 10}
    if name in STEPS:
        settings["steps"] = STEPS[name]
    method = entry.load()(**settings)
    small = attar.condense("digits", method, engine=Engine(quiet=True))
    picture = Image.open(io.BytesIO(small.picture())).quantize(32)
    picture.save(Path(__file__).parent / "previews" / f"{name}.png", optimize=True)
    print(name, resolved_json(method))
