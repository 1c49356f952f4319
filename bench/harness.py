"""What the speed scripts share: the same images for both sides, and a process of its own for each measurement.

Each side is timed in its own process because attar's Runtime changes how the C library hands memory back, for the
whole process, and that alone makes eager code faster.
"""

import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.convolution.timing import cpu_model
from attar.images.sources import ImageSource, load

RESULTS = Path(__file__).parent / "results"
CLASSES, SIDE = 10, 32
AGREE = 1.1
"""Processes that measure the same thing differ by no more than this factor."""
TRIES = 4
"""How often a measurement is made, until its processes agree."""


def write_images(folder: Path, per_class: int, testing: int) -> str:
    """Put 8-bit images of CIFAR-10 (or random ones of its shape) where every worker finds them; say which they are."""
    generator = torch.Generator().manual_seed(0)
    root = os.environ.get("ATTAR_DATA")
    if root:
        source = load(Path(root) / "cifar10")
        picks = [rows[torch.randperm(len(rows), generator=generator)[:per_class]] for rows in source.rows_of]
        test_rows = torch.randperm(len(source.test), generator=generator)[:testing]
        train, labels = source.train.pixels[torch.cat(picks)], source.train.labels[torch.cat(picks)]
        test, test_labels = source.test.pixels[test_rows], source.test.labels[test_rows]
    else:
        train, labels = _random(per_class * CLASSES, generator)
        test, test_labels = _random(testing, generator)
    arrays = {"train": train, "labels": labels, "test": test, "test_labels": test_labels}
    np.savez(folder / "images.npz", **{name: tensor.numpy() for name, tensor in arrays.items()})
    return "CIFAR-10" if root else "random images of CIFAR-10's shape"


def _random(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    images = torch.randint(256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return images, torch.arange(CLASSES).repeat_interleave(-(-count // CLASSES))[:count]


def read_source(folder: str) -> ImageSource:
    """The images as a source, normalised as the field does CIFAR-10."""
    arrays = np.load(Path(folder) / "images.npz")
    pairs = ((arrays["train"], arrays["labels"]), (arrays["test"], arrays["test_labels"]))
    return load(pairs, statistics="cifar10")


def in_own_process(script: str, worker: str, folder: Path, **settings: Any) -> Any:
    """Run one worker of a script in a fresh process and return what it reports."""
    # A cache of compiled code for each worker and its settings, so that the first of several rounds starts cold.
    cache = folder / "-".join([worker, *map(str, settings.values())])
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
    given = json.dumps({"folder": str(folder), **settings})
    command = [sys.executable, script, "--worker", worker, given]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_worker(workers: dict[str, Callable[..., Any]]) -> bool:
    """In a process started by `in_own_process`: do the work, print the report."""
    if sys.argv[1:2] != ["--worker"]:
        return False
    print(json.dumps(workers[sys.argv[2]](**json.loads(sys.argv[3]))))
    return True


def in_turns(
    script: str, folder: Path, sides: dict[str, tuple[str, dict[str, Any]]], rounds: int, *, against: str = "rival"
) -> dict[str, Any]:
    """Time sides in turn, each time in a process of its own: medians, the ratio to one of them, the highest peaks.

    Args:
        script: Holds the workers.
        folder: Where the images lie.
        sides: By name, the worker and its settings; what a worker returns has seconds, first_extra_seconds, peak_mb.
        rounds: How often each has its turn.
        against: The side that the others are compared with.
    """

    def measure() -> dict[str, list[Any]]:
        reports: dict[str, list[Any]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, (worker, settings) in sides.items():
                reports[side].append(in_own_process(script, worker, folder, **settings))
        return reports

    reports = until_agreed(measure)
    seconds = {side: [report["seconds"] for report in rows] for side, rows in reports.items()}
    middle = {side: statistics.median(values) for side, values in seconds.items()}
    return {
        "ratio": {side: middle[against] / middle[side] for side in sides if side != against},
        "seconds": middle,
        "seconds_of_each_process": seconds,
        "peak_mb": {side: max(report["peak_mb"] for report in rows) for side, rows in reports.items()},
        "held_mb": {side: max(report.get("held_mb", 0.0) for report in rows) for side, rows in reports.items()},
        "compile_seconds": {side: reports[side][0]["first_extra_seconds"] for side in sides if side != against},
        "graph_breaks": {side: max(report.get("graph_breaks", 0) for report in rows) for side, rows in reports.items()},
        "convolution_share": {side: convolution_share(rows) for side, rows in reports.items() if _alone(rows)},
    }


def convolution_share(reports: list[dict[str, Any]]) -> float:
    """Seconds of a step's convolutions alone over seconds of the step, each measured in one process."""
    return statistics.median(sum(report["convolutions"].values()) / report["seconds"] for report in reports)


def _alone(reports: list[dict[str, Any]]) -> bool:
    return all("convolutions" in report for report in reports)


def until_agreed(measure: Callable[[], dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """Reports of the processes of each side, measured again while those of a side disagree by more than a tenth.

    Args:
        measure: Gives the reports by side, each with its `seconds`.

    Raises:
        SystemExit: They never agreed. Nothing is recorded then.
    """
    for _ in range(TRIES):
        reports = measure()
        seconds = {side: [report["seconds"] for report in rows] for side, rows in reports.items()}
        apart = {side: values for side, values in seconds.items() if max(values) > AGREE * min(values)}
        if not apart:
            return reports
        told = "; ".join(f"{side} {', '.join(f'{value:.3g}' for value in values)} s" for side, values in apart.items())
        print(f"processes disagree by more than a tenth, so they are measured again: {told}", flush=True)
    raise SystemExit(f"processes disagreed in {TRIES} measurements, so nothing is recorded. Is the machine quiet?")


def described(name: str, row: dict[str, Any]) -> str:
    """One line about what `in_turns` found."""
    sides = ", ".join(
        f"{side} {row['seconds'][side]:.3f} s and {row['peak_mb'][side]:.0f} MB" for side in row["seconds"]
    )
    ratios = ", ".join(f"{side} {ratio:.2f}x" for side, ratio in row["ratio"].items())
    shares = ", ".join(
        f"{side} takes {1 / share:.2f} times its convolutions" for side, share in row["convolution_share"].items()
    )
    return f"{name}: {sides}; {ratios}" + (f"; {shares}" if shares else "")


def seconds_each(step: Callable[[], Any], warm_up: int, steps: int) -> tuple[float, list[float]]:
    """Seconds of the first call, and of each of `steps` calls after the warm-up."""
    taken = []
    for _ in range(warm_up + steps):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return taken[0], taken[warm_up:]


def timed(step: Callable[[], Any], warm_up: int, steps: int) -> dict[str, float]:
    """Median seconds of a step, what the first took above that (compiling), and the process's peak memory."""
    first, taken = seconds_each(step, max(warm_up, 1), steps)
    median = statistics.median(taken)
    return {"seconds": median, "first_extra_seconds": first - median, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """The most memory this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def machine() -> dict[str, Any]:
    """What the numbers were measured on: no names, no dates."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "model": cpu_model(),
        "flags": [name for name, told in FLAGS.items() if _can(told)],
        "amx": _can("_is_amx_tile_supported"),
    }


def _can(question: str) -> bool:
    return bool(getattr(torch.cpu, question, lambda: False)())


FLAGS = {
    "avx2": "_is_avx2_supported",
    "avx512": "_is_avx512_supported",
    "avx512_vnni": "_is_avx512_vnni_supported",
    "avx512_bf16": "_is_avx512_bf16_supported",
    "amx_tile": "_is_amx_tile_supported",
}
"""Instructions on which the speed of convolutions depends, with PyTorch's question for each."""


def place(name: str, here: dict[str, Any]) -> Path:
    """Where a result file lies: the first machine's in `results`, another's in a folder of that machine."""
    first = RESULTS / name
    if not first.exists() or _same(json.loads(first.read_text(encoding="utf-8")).get("machine"), here):
        return first
    model = str(here.get("model") or here["cpu"]).lower()
    return RESULTS / f"on-{re.sub(r'[^a-z0-9]+', '-', model).strip('-')}" / name


def _same(there: Any, here: dict[str, Any]) -> bool:
    """Whether two descriptions are of one kind of machine. Early ones have no model."""
    known = there if isinstance(there, dict) else {}
    return all(known.get(name, here.get(name)) == here.get(name) for name in ("cpu", "model", "amx"))


def record(name: str, result: dict[str, Any], *, beside: bool = False, by_machine: bool = False) -> None:
    """Write a result file.

    Args:
        name: Its name.
        result: What was measured, with the `machine` if it depends on it.
        beside: Whether what the file holds of other parts and cells stays, down to the second level.
        by_machine: Whether each machine has a file of its own (see `place`), as for all that is measured in seconds.
    """
    path = place(name, result["machine"]) if by_machine else RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if beside and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        both = {key: value | result[key] for key, value in before.items() if isinstance(result.get(key), dict)}
        result = before | result | both
    path.write_text(json.dumps(rounded(result), indent=2) + "\n", encoding="utf-8")
    print(f"recorded in {path}")


def rounded(value: Any) -> Any:
    """The same with every float at four significant digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value
