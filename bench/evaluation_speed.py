"""One training step on a condensed set of 100 images, attar against a plain restatement of the authors' evaluation.

    python bench/evaluation_speed.py --quick                       # does it run
    python bench/evaluation_speed.py                               # seconds per step
    python bench/evaluation_speed.py --networks 10 --epochs 300    # and what the trained networks score

Ten images of each class of CIFAR-10, drawn at random, ConvNet of three blocks and 128 filters with instance norm, DSA
on every batch; one batch is the whole set. Each side is timed in processes of its own, in turn. The numbers go to
bench/results/evaluation_speed.json. With $ATTAR_DATA set, the images are those of $ATTAR_DATA/cifar10, else random.
"""

import argparse
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import harness
import rival
import torch
from torch import Tensor

from attar.core.runtime import Engine, Runtime
from attar.images.artefact import CondensedImages
from attar.images.condense.coresets import Random
from attar.images.protocols import Protocol
from attar.images.repeats import accuracy, trainings
from attar.images.sources import ImageSource
from attar.images.training import TrainNetwork

IPC, TEST_IMAGES = 10, 2000
TARGET = 2.0
SIDES = {"rival": {}, "float32": {"precision": "float32"}, "bfloat16": {"precision": "bfloat16"}}
"""The rival, and attar with its training passes in either precision."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--rounds", type=int, default=3, help="times that the sides take turns")
    parser.add_argument("--steps", type=int, default=40, help="steps timed in each process")
    parser.add_argument("--networks", type=int, default=0, help="networks to train and test on each side")
    parser.add_argument("--epochs", type=int, default=300, help="epochs of their training")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps, args.networks, args.epochs = 1, 3, 2, 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = harness.write_images(folder, per_class=IPC, testing=TEST_IMAGES)
        speed = compare(folder, args)
        print(describe_speed(speed), flush=True)
        scores = score(folder, args) if args.networks else None
    if not args.quick:
        setting = {
            "images": images,
            "ipc": IPC,
            "network": "ConvNet D3 W128 instance norm",
            "batch": IPC * harness.CLASSES,
        }
        result = {"machine": harness.machine(), "setting": setting, "step": speed}
        harness.record("evaluation_speed.json", result | ({"accuracy": scores} if scores else {}), by_machine=True)


def compare(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Time all sides in turn."""
    sides = {
        side: ("time_rival" if side == "rival" else "time_attar", {"steps": args.steps, **settings})
        for side, settings in SIDES.items()
    }
    return {"target": TARGET, **harness.in_turns(__file__, folder, sides, args.rounds)}


def score(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train and test networks on each side: mean accuracy with its standard error."""
    scores: dict[str, Any] = {"networks": args.networks, "epochs": args.epochs, "test_images": TEST_IMAGES}
    for side, settings in SIDES.items():
        worker = "train_rival" if side == "rival" else "train_attar"
        counts = {"networks": args.networks, "epochs": args.epochs}
        values = harness.in_own_process(__file__, worker, folder, **counts, **settings)
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        scores[side] = {"mean": statistics.fmean(values), "standard_error": error, "values": values}
        print(
            f"{side}: {scores[side]['mean']:.2f} ± {error:.2f} % (standard error, {len(values)} networks)", flush=True
        )
    return scores


def describe_speed(speed: dict[str, Any]) -> str:
    seconds, ratio = speed["seconds"], speed["ratio"]
    sides = ", ".join(f"attar in {side} {1000 * seconds[side]:.0f} ms (ratio {ratio[side]:.2f})" for side in ratio)
    return f"rival {1000 * seconds['rival']:.0f} ms a step, {sides}; target {TARGET}"


# ------------------------------------------------------------------------------------------- in processes of their own


def time_rival(folder: str, steps: int) -> dict[str, float]:
    return harness.timed(rival.Training(*rival_set(harness.read_source(folder))).epoch, warm_up=5, steps=steps)


def time_attar(folder: str, steps: int, precision: str) -> dict[str, float]:
    method, small, runtime = attar_on(harness.read_source(folder), 1000, precision)
    state = method.build(small, runtime)
    return harness.timed(lambda: float(method.step(state, runtime)["loss"]), warm_up=5, steps=steps)


def train_rival(folder: str, networks: int, epochs: int) -> list[float]:
    source = harness.read_source(folder)
    test = source.transform.forward(source.test.pixels[torch.arange(len(source.test))])
    values = []
    for seed in range(networks):
        torch.manual_seed(seed)
        training = rival.Training(*rival_set(source))
        training.train(epochs)
        values.append(training.test(test, source.test.labels))
    return values


def train_attar(folder: str, networks: int, epochs: int, precision: str) -> list[float]:
    source = harness.read_source(folder)
    method, small, runtime = attar_on(source, epochs, precision)
    trained = trainings(method, small, runtime, repeats=networks)
    return [accuracy(network, source.test, small.transform, runtime) for network in trained]


def rival_set(source: ImageSource) -> tuple[Tensor, Tensor]:
    return source.transform.forward(source.train.pixels[torch.arange(len(source.train))]), source.train.labels


def attar_on(source: ImageSource, epochs: int, precision: str) -> tuple[TrainNetwork, CondensedImages, Runtime]:
    """The training of attar's evaluation, compiled, on all the source's images as a condensed set."""
    runtime = Runtime(Engine(device="cpu", compile="on", train_precision=precision))
    chosen = Random(ipc=IPC)
    small = chosen.result(chosen.build(source, runtime), runtime)
    method = TrainNetwork(protocol=Protocol(name="field", epochs=epochs)).resolve(small)
    runtime.plan(method.work(small))
    return method, small, runtime


WORKERS = {"time_rival": time_rival, "time_attar": time_attar, "train_rival": train_rival, "train_attar": train_attar}

if __name__ == "__main__" and not harness.run_worker(WORKERS):
    main()
