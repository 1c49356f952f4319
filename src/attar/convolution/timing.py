"""Timing of calls that take turns: medians of times and of ratios, with intervals that do not depend on outliers."""

import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

WARM_UP = 3
"""Number of untimed calls before the first timed call. They absorb compiling, packing and first accesses to memory."""


@dataclass(frozen=True)
class Median:
    """A median with a 95 % interval between two order statistics, which is valid for any distribution."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Median":
        """The median of measurements. With fewer than six, the interval is from zero to infinity."""
        from scipy import stats

        ordered = sorted(values)
        rank = int(stats.binom.ppf(0.025, len(ordered), 0.5))
        low, high = (ordered[rank - 1], ordered[-rank]) if rank else (0.0, float("inf"))
        return cls(statistics.median(ordered), low, high, len(ordered))

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def ratio(rival: Sequence[float], ours: Sequence[float]) -> Median:
    """The time of the rival divided by ours, as a median over pairs."""
    return Median.of([theirs / own for theirs, own in zip(rival, ours, strict=True)])


def seconds_in_turns(calls: Mapping[str, Callable[[int], Any]], runs: int) -> dict[str, list[float]]:
    """Seconds of every call in every run, by name.

    Each run makes every call once, in a random order that depends only on the number of the run. So a slow moment of
    the machine, or a cold cache after another call, affects all calls alike.

    Args:
        calls: Functions to time, by name. Their argument is the number of the run.
        runs: Number of runs.
    """
    names = list(calls)
    for name in names:
        for turn in range(WARM_UP):
            calls[name](turn)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for run in range(runs):
        for name in random.Random(run).sample(names, len(names)):
            start = time.perf_counter()
            calls[name](run)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def machine() -> dict[str, Any]:
    """Facts on which times depend: processor, vector instructions, threads, and whether denormal numbers are zero."""
    return {
        "cpu": cpu_model(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "flush_to_zero": bool((torch.full((64,), 1e-38) * 1e-2 == 0).all()),
        "torch": torch.__version__,
    }


def cpu_model() -> str:
    """The processor by its model, family and stepping, as the system names it."""
    facts = Path("/proc/cpuinfo")
    if not facts.exists():
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in facts.read_text(encoding="utf-8").splitlines())
    found = {name.strip(): value.strip() for name, _, value in lines}
    words = [found.get("model name", platform.machine())]
    words += [f"{name} {found[name]}" for name in ("cpu family", "model", "stepping") if name in found]
    return ", ".join(words)
