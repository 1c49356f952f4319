"""What condensing a set far above the memory budget holds in memory, and how that grows with images and with steps.

    python bench/streaming_memory.py --quick    # does it run
    python bench/streaming_memory.py            # 1 and 3 GB of encoded images, 10 and 60 steps, twice; some minutes

Parquet files of PNG images are written below a temporary folder by repeating what is in $ATTAR_DATA/tiny-imagenet-43,
or random images without it, and DM condenses each in a process of its own. What counts is anonymous memory, RssAnon of
/proc/self/status: pages of mapped files can be dropped at any time and are not the process's own. The highest is told
for opening (where parquet is copied, if it is the first time), for the fingerprint, and for building and stepping. The
numbers go to bench/results/streaming_memory.json.
"""

import argparse
import io
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pyarrow
import torch
from PIL import Image
from pyarrow import parquet

from attar.core.runtime import Engine, Runtime
from attar.images.condense.dm import DM
from attar.images.networks.architecture import Architecture
from attar.images.sources import load

MEMORY = 0.5
"""Budget in GB for decoded pixels, below every set here once it is decoded."""
TARGET = 1500
"""Megabytes of anonymous memory that condensing from 3 GB may take."""
GROUP = 20_000
"""Rows of a row group: as many as other writers of parquet make them, many more than a step draws."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--gigabytes", type=float, nargs=2, default=[1.0, 3.0], help="encoded bytes of the two sets")
    parser.add_argument("--steps", type=int, nargs=2, default=[10, 60], help="steps of the two runs")
    parser.add_argument("--rounds", type=int, default=2, help="times that everything is run, from an empty cache each")
    args = parser.parse_args()
    if args.quick:
        args.gigabytes, args.steps, args.rounds = [0.02, 0.06], [1, 3], 1
    small, large = args.gigabytes
    few, many = args.steps
    cases = [(small, few), (large, few), (large, many)]
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _check_room(folder, (1 + args.rounds) * (small + large))
        images = [write_set(folder / f"{size:g}", size) for size in args.gigabytes]
        memory = 0.001 if args.quick else MEMORY
        for number in range(args.rounds):
            os.environ["ATTAR_CACHE"] = str(folder / f"cache-{number}")
            rounds.append([])
            for size, steps in cases:
                place = folder / f"{size:g}"
                run = harness.in_own_process(__file__, "condense", place, steps=steps, memory=memory)
                rounds[-1].append(run)
                print(describe(run), flush=True)
    if not args.quick:
        setting = {"images": images[0], "format": "PNG in parquet", "ipc": 1, "network": "ConvNet D4 W32 instance norm"}
        result = {"machine": harness.machine(), "setting": setting, "target_mb": TARGET, "rounds": rounds}
        harness.record("streaming_memory.json", result | {"condensing_grows_mb": [grows(runs) for runs in rounds]})


def grows(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Megabytes of anonymous memory that more images and more steps add while condensing."""
    fewer_images, few_steps, many_steps = (run["peak_anonymous_mb"]["condensing"] for run in runs)
    return {"with_images": few_steps - fewer_images, "with_steps": many_steps - few_steps}


def describe(run: dict[str, Any]) -> str:
    peaks = ", ".join(f"{phase} {peak:.0f}" for phase, peak in run["peak_anonymous_mb"].items())
    return (
        f"{run['encoded_gb']:.2g} GB encoded ({run['images']:,} images, {run['decoded_gb']:.2g} GB decoded), "
        f"{run['steps']} steps: at most, in MB of its own, {peaks}; {run['steps_per_second']:.2f} steps/s; "
        f"opened in {run['opening_seconds']:.0f} s, fingerprint in {run['fingerprint_seconds']:.0f} s"
    )


def write_set(folder: Path, gigabytes: float) -> str:
    """Write a training and a test file; say which images they hold."""
    root = os.environ.get("ATTAR_DATA")
    train = encoded(root, "train", 21_500 if gigabytes > 0.1 else 1000)
    folder.mkdir()
    write(folder / "train.parquet", *train, math.ceil(gigabytes * 1e9 / sum(map(len, train[0]))))
    write(folder / "test.parquet", *encoded(root, "validation", 500), 1)
    return "Tiny-ImageNet, 43 classes, repeated" if root else "random images of 64 pixels, repeated"


def encoded(root: str | None, part: str, most: int) -> tuple[list[bytes], list[int]]:
    """Up to so many evenly spaced images as PNG, and their labels."""
    if not root:
        random = np.random.default_rng(0).integers(0, 256, (500, 64, 64, 3), dtype=np.uint8)
        return [png(Image.fromarray(image)) for image in random], [number % 43 for number in range(500)]
    table = parquet.read_table(next((Path(root) / "tiny-imagenet-43").glob(f"{part}-*.parquet")))
    table = table.take(sorted({number * len(table) // most for number in range(most)}))
    cells = table.column("image").to_pylist()
    return [png(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells], table.column("label").to_pylist()


def png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.convert("RGB").save(sink, "PNG", compress_level=1)
    return sink.getvalue()


def write(file: Path, images: list[bytes], labels: list[int], times: int) -> None:
    """The same images so many times, stored anew each time."""
    table = pyarrow.table({"image": images, "label": labels})
    # A dictionary would notice that they repeat.
    with parquet.ParquetWriter(file, table.schema, use_dictionary=False, compression="none") as writer:
        for _ in range(times):
            writer.write_table(table, row_group_size=GROUP)


def _check_room(folder: Path, gigabytes: float) -> None:
    free = shutil.disk_usage(folder).free / 1e9
    if free < 1.2 * gigabytes:
        raise SystemExit(f"{folder} has {free:.0f} GB left; this needs {1.2 * gigabytes:.0f}. Set TMPDIR elsewhere.")


# ------------------------------------------------------------------------------------------- in processes of their own


def condense(folder: str, steps: int, memory: float) -> dict[str, Any]:
    """Open a set and take some steps of DM, and report time and memory."""
    peaks: dict[str, float] = {}
    start = time.perf_counter()
    with peak_anonymous_mb(peaks, "opening"):
        source = load(folder, memory=memory)
    opened = time.perf_counter()
    with peak_anonymous_mb(peaks, "fingerprint"):
        _ = source.fingerprint
    fingerprinted = time.perf_counter()
    with peak_anonymous_mb(peaks, "condensing"):
        runtime = Runtime(Engine(device="cpu", compile="off"))
        method = DM(ipc=1, steps=steps, real_batch=16, architecture=Architecture(width=32)).resolve(source, runtime)
        state = method.build(source, runtime)
        built = time.perf_counter()
        for _ in range(steps):
            method.step(state, runtime)
        stepped = time.perf_counter()
    assert source.streamed
    return {
        "encoded_gb": (Path(folder) / "train.parquet").stat().st_size / 1e9,
        "decoded_gb": source.bytes / 1e9,
        "images": len(source.train),
        "steps": steps,
        "budget_gb": memory,
        "peak_anonymous_mb": peaks,
        "peak_resident_mb": harness.peak_mb(),
        "opening_seconds": opened - start,
        "fingerprint_seconds": fingerprinted - opened,
        "steps_per_second": steps / (stepped - built),
    }


@contextmanager
def peak_anonymous_mb(peaks: dict[str, float], phase: str) -> Iterator[None]:
    """Note under a phase's name the most anonymous memory that the process has in it, looked at all the time."""
    done = threading.Event()
    peaks[phase] = anonymous_mb()

    def watch() -> None:
        while not done.wait(0.005):
            peaks[phase] = max(peaks[phase], anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


if __name__ == "__main__" and not harness.run_worker({"condense": condense}):
    torch.set_num_threads(1)
    main()
