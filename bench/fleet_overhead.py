"""What Ray adds to many tiny runs, and how many bytes a task carries.

    python bench/fleet_overhead.py --quick     # 200 runs; half a minute
    python bench/fleet_overhead.py             # 1,000 runs on 2 workers; some minutes

A run picks one random digit of each class and writes it with its card and picture, in a run folder of its own: about
the smallest run that attar has. The same runs are timed in this process. What Ray adds to one is the time of a worker
for each run, less the time of the run alone; its start is told apart. Bytes are those that a task is pickled to, with
the data in the task and with the data sent once, for digits and for arrays of CIFAR-10's size. The numbers go to
bench/results/fleet_overhead.json.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import harness
import torch

import attar
from attar.core.fleet import Fleet, Task, crew
from attar.core.runtime import Engine, Runtime
from attar.images.sources import ImageSource, load

ENGINE = Engine(device="cpu", quiet=True)
TARGET = 0.3
"""Seconds that Ray may add to a run."""
ALONE = 100
"""Runs that are timed in this process."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few runs")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    runs = 200 if args.quick else args.runs
    with tempfile.TemporaryDirectory() as name:
        seconds = timed(Path(name), runs, args.workers)
    carried = {"digits": carries(load("digits")), "CIFAR-10": carries(of_cifar_size())}
    print(f"{runs:,} runs on {args.workers} workers, which took {seconds['start']:.1f} s to start:")
    print(f"{seconds['added']:.3f} s added to each run of {seconds['alone']:.3f} s (goal {TARGET} s)")
    for data, sizes in carried.items():
        print(f"{data}: a task is {sizes['task']:,} bytes, {sizes['once']:,} go once; before {sizes['before']:,} each")
    setting = {"runs": runs, "workers": args.workers, "goal": TARGET}
    harness.record(
        "fleet_overhead.json", {"machine": harness.machine(), **setting, "seconds": seconds, "bytes": carried}
    )


def tiny(folder: Path, seed: int, source: ImageSource) -> None:
    """One run."""
    attar.condense(source, attar.Random(ipc=1), out=folder / f"{seed}", seed=seed, engine=ENGINE)


def timed(folder: Path, runs: int, workers: int) -> dict[str, float]:
    """Seconds of a run alone, of a worker for each run, what is added, and of Ray's start."""
    source = load("digits")
    tiny(folder / "first", 0, source)

    def by_itself(place: str) -> float:
        began = time.perf_counter()
        for seed in range(ALONE):
            tiny(folder / place, seed, source)
        return (time.perf_counter() - began) / ALONE

    alone = by_itself("before")
    began = time.perf_counter()
    silent = lambda line: None  # noqa: E731
    with crew(Fleet(workers=workers), Runtime(ENGINE)) as hired:
        hired.do([Task(str(n), partial(tiny, folder / "warm", n), (source,)) for n in range(2 * workers)], say=silent)
        start = time.perf_counter() - began
        began = time.perf_counter()
        hired.do([Task(str(n), partial(tiny, folder / "ray", n), (source,)) for n in range(runs)], say=silent)
        each = (time.perf_counter() - began) * workers / runs
    alone = min(alone, by_itself("after"))
    assert len(list((folder / "ray").glob("*/artefact.json"))) == runs
    return {"alone": alone, "worker": each, "added": each - alone, "start": start}


def of_cifar_size() -> ImageSource:
    """Random images of CIFAR-10's number and size."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> tuple[Any, Any]:
        pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
        return pixels.numpy(), (torch.arange(count) % 10).numpy()

    return load((part(50_000), part(10_000)), statistics="cifar10")


def carries(source: ImageSource) -> dict[str, int]:
    """Bytes of a task, of what goes once, and of a task that carries its data."""
    from ray import cloudpickle

    task = Task("one", partial(tiny, Path("runs"), 0), (source,))
    return {
        "task": len(cloudpickle.dumps(task.call)),
        "once": len(cloudpickle.dumps(source)),
        "before": len(cloudpickle.dumps(partial(tiny, Path("runs"), 0, source))),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
