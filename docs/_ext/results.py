"""The recorded figures in `bench/results/`, and how they are printed."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "bench" / "results"
DISTURBED = 1.1
"""Processes that differ by more than this factor did not measure the same thing."""
Facts = dict[str, Any]


def recorded(name: str) -> dict[str, Any]:
    """A file of `bench/results/`."""
    facts: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return facts


def there(name: str) -> bool:
    """Whether a file of `bench/results/` has been recorded."""
    return (RESULTS / f"{name}.json").exists()


def filled(made: Mapping[str, tuple[str, Callable[[], str]]], words: Mapping[str, str]) -> dict[str, Callable[[], str]]:
    """Tables by the names of their marks, each with words above it; nothing while nothing is recorded.

    Args:
        made: The record and the function of each table.
        words: What stands above each.
    """

    def of(name: str) -> Callable[[], str]:
        record, table = made[name]
        return lambda: f"{words[name]}\n\n{table()}" if there(record) else ""

    return {name: of(name) for name in made}


def machines(name: str) -> list[Facts]:
    """A file of `bench/results/` and those of the same name that were recorded on other machines."""
    others = sorted(RESULTS.glob(f"on-*/{name}.json"))
    return [recorded(name), *(json.loads(path.read_text(encoding="utf-8")) for path in others)]


def lowest(name: str, part: Callable[[Facts], Facts], ratio: Callable[[Facts], float]) -> Facts:
    """A part of a record, of the machine on which attar's lead is smallest.

    Args:
        name: The file's name.
        part: The part of a record.
        ratio: The lead in that part.
    """
    return min((part(facts) for facts in machines(name)), key=ratio)


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
