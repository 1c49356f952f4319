"""Recorded results of the authors' functions (maumruiz/FSL-Loss, 249405f), by case."""

from pathlib import Path

from safetensors.torch import load_file

HERE = Path(__file__).parents[1] / "golden"


def cases(name):
    """The tensors of each case."""
    found = {}
    for key, value in load_file(HERE / f"{name}.safetensors").items():
        case, _, rest = key.partition(".")
        found.setdefault(case, {})[rest] = value
    return found
