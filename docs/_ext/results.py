"""The recorded figures in `bench/results/`, and how they are printed."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "bench" / "results"
DISTURBED = 2.0
"""Processes that differ by more than this factor did not measure the same thing."""


def recorded(name: str) -> dict[str, Any]:
    """A file of `bench/results/`."""
    facts: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return facts


def took(seconds: float) -> str:
    """A duration: in seconds from a tenth of one on, in milliseconds below."""
    if seconds >= 0.1:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.2g} ms"


def times(ratio: float) -> str:
    """How many times as fast."""
    return f"{ratio:.1f}×" if ratio < 9.95 else f"{ratio:.0f}×"


def gigabytes(megabytes: float) -> str:
    """Memory."""
    return f"{megabytes / 1000:.1f} GB"


def steady(processes: list[float]) -> bool:
    """Whether the processes of a measurement agree."""
    return max(processes) <= DISTURBED * min(processes)
