"""Where real sets of graphs lie, a small network, and the machine of these tests."""

import os
from pathlib import Path

import pytest

from attar.core.runtime import Engine
from attar.graphs.networks import Architecture

NARROW = Architecture(width=8)
ENGINE = Engine(device="cpu", compile="off", quiet=True)


def tu_folder(name: str) -> Path:
    root = os.environ.get("ATTAR_DATA")
    if root is None or not (Path(root) / "tu" / name).exists():
        pytest.skip(f"set ATTAR_DATA to the folder that holds tu/{name}")
    return Path(root) / "tu" / name
