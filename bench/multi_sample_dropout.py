"""Multi-sample dropout against ordinary dropout, at equal epochs and at equal time.

    python bench/multi_sample_dropout.py --quick            # does it run
    ATTAR_DATA=... python bench/multi_sample_dropout.py     # recorded in bench/results/multi_sample_dropout.json
    python bench/multi_sample_dropout.py --data digits --seeds 2

400 training images of the digits, or 5,000 of CIFAR-10 (another draw for each seed), and all test images; a ConvNet
with dropout before its last layer, Adam at a constant 1e-3, batches of 100, no augmentation. With a constant step size
a shorter training is the beginning of a longer one, so ordinary dropout is trained once, for as long as the most masks
take, and looked at on the way. What a step costs is measured first, with all numbers of masks in turn. A run is
recorded when it ends; what is recorded is not run again.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import harness
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

import attar
from attar.classifiers.pair import Distilling, Pair
from attar.classifiers.teacher import class_logits_of
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score, paired
from attar.images.sources import ImageSource, load

RECORD = "multi_sample_dropout.json"
ENGINE = Engine(quiet=True, device="cpu")
SHARES, MASKS = (0.5, 0.8), (1, 2, 8, 32)
LOGITS = 8
"""Masks of the row whose logits are averaged."""
LOOKS = {"digits": (3, 6, 15), "cifar10": (3, 10, 20)}
"""Epochs after which networks are tested; the last is the end of the training."""
IMAGES = {"digits": 400, "cifar10": 5000}
NETWORKS = {"digits": "convnet:norm=none,width=64,depth=1", "cifar10": "convnet:norm=batch,width=64,depth=3"}
ROUNDS, STEPS = 5, 10
"""How often, and over how many steps, the cost of a step is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two epochs, one seed, digits; records nothing")
    parser.add_argument("--data", nargs="+", choices=LOOKS, default=list(LOOKS))
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    path = harness.RESULTS / RECORD
    found: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8"))["data"] if path.exists() and not args.quick else {}
    )
    for data in ["digits"] if args.quick else args.data:
        looks = (1, 2) if args.quick else LOOKS[data]
        cells = found.setdefault(data, {"looks": list(looks), "rows": {}})
        if "cost" not in cells:
            cells["cost"] = cost(data, quick=args.quick)
            print(data, "a step costs, in steps of one mask:", cells["cost"], flush=True)
        for seed in range(1 if args.quick else args.seeds):
            source = source_of(data, seed)
            for name, settings in rows().items():
                row = cells["rows"].setdefault(name, {"settings": settings, "seeds": {}})
                if str(seed) in row["seeds"]:
                    continue
                times = cells["cost"].values() if settings["dropout_samples"] == 1 else ()
                at = sorted({*looks, *(round(looks[-1] * ratio) for ratio in times)})
                row["seeds"][str(seed)] = trained(data, settings, source, seed, at)
                print(data, seed, name, row["seeds"][str(seed)], flush=True)
                if not args.quick:
                    harness.record(RECORD, {"machine": harness.machine(), "data": found})
        Console(soft_wrap=True).print(as_text(table(cells, data)))


def rows() -> dict[str, dict[str, Any]]:
    """Each row with its settings."""
    found: dict[str, dict[str, Any]] = {}
    for p in SHARES:
        for masks in MASKS:
            found[f"p {p}, M {masks}"] = {"dropout": p, "dropout_samples": masks}
        averaged = {"dropout": p, "dropout_samples": LOGITS, "dropout_average": "logits"}
        found[f"p {p}, M {LOGITS}, logits averaged"] = averaged
    return found


def source_of(data: str, seed: int) -> ImageSource:
    """A draw of training images, equally many of each class."""
    whole = load("digits" if data == "digits" else str(Path(os.environ["ATTAR_DATA"]) / "cifar10"))
    generator, each = torch.Generator().manual_seed(seed), IMAGES[data] // len(whole.classes)
    picks = [own[torch.randperm(len(own), generator=generator)[:each]] for own in whole.rows_of]
    return whole.subset(torch.cat(picks))


def method_of(data: str, settings: dict[str, Any], epochs: int) -> attar.Classifier:
    """The training of a row."""
    usual = {"network": NETWORKS[data], "epochs": epochs, "batch": 100, "optimizer": "adam", "lr": 1e-3}
    return attar.Classifier(**usual, weight_decay=0.0, cuts=(), shift=0, flips="off", **settings)


def begun(data: str, settings: dict[str, Any], source: ImageSource, runtime: Runtime, epochs: int) -> Any:
    """A resolved method with its state before the first step."""
    pair = Pair(source)
    method = method_of(data, settings, epochs).resolve(pair, runtime)
    return method, method.build(pair, runtime)


def cost(data: str, *, quick: bool) -> dict[str, float]:
    """Time of a step with so many masks over that of a step with one mask."""
    source, runtime = source_of(data, 0), Runtime(ENGINE, 0)
    sides = {masks: begun(data, {"dropout": 0.5, "dropout_samples": masks}, source, runtime, 1000) for masks in MASKS}
    seconds: dict[int, list[float]] = {masks: [] for masks in MASKS}
    for number in range(2 if quick else ROUNDS + 1):
        for masks, (method, state) in sides.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                method.step(state, runtime)
            if number:  # the first round warms up
                seconds[masks].append(time.perf_counter() - start)
    middle = {masks: statistics.median(values) for masks, values in seconds.items()}
    return {str(masks): round(value / middle[1], 3) for masks, value in middle.items()}


def trained(data: str, settings: dict[str, Any], source: ImageSource, seed: int, looks: list[int]) -> dict[str, Any]:
    """Test error, in per cent, and loss on the training images without dropout, after each of some epochs."""
    runtime = Runtime(ENGINE, seed)
    method, state = begun(data, settings, source, runtime, max(looks))
    found: dict[str, Any] = {"error": {}, "train_loss": {}}
    seconds = 0.0
    for epoch in range(1, max(looks) + 1):
        start = time.perf_counter()
        for _ in range(method.batches):
            method.step(state, runtime)
        seconds += time.perf_counter() - start
        if epoch in looks:
            logits, labels = class_logits_of(state.student, source, runtime)
            found["error"][str(epoch)] = round(100 * float((logits.argmax(dim=1) != labels).float().mean()), 3)
            found["train_loss"][str(epoch)] = round(train_loss(state, source), 5)
    return {**found, "seconds": round(seconds, 2)}


@torch.no_grad()
def train_loss(state: Distilling, source: ImageSource) -> float:
    """The cross-entropy on the training images, in evaluation."""
    network = state.student.eval()
    rows = torch.arange(len(source.train)).split(500)
    losses = [F.cross_entropy(network(source.inputs(part)), source.targets[part], reduction="sum") for part in rows]
    network.train()
    return float(torch.stack(losses).sum()) / len(source.train)


def table(cells: dict[str, Any], data: str) -> Table:
    """Errors by epoch, and differences to one mask after as many epochs and after as much time, in pairs of seeds."""
    looks = cells["looks"]
    grid = Table("row", *(f"error after {one}, %" for one in looks), "train loss", "equal epochs", "equal time")
    grid.title = f"{data}: {IMAGES[data]} images"
    for name, row in cells["rows"].items():
        masks = row["settings"]["dropout_samples"]
        first = cells["rows"].get(f"p {row['settings']['dropout']}, M 1", {"seeds": {}})["seeds"]
        seeds = [seed for seed in row["seeds"] if seed in first]
        values = [[row["seeds"][seed]["error"][str(one)] for seed in seeds] for one in looks]
        losses = [row["seeds"][seed]["train_loss"][str(looks[-1])] for seed in seeds]
        ends = (looks[-1], round(looks[-1] * cells["cost"][str(masks)]))
        over = [
            paired(values[-1], [first[seed]["error"][str(end)] for seed in seeds]).told() if masks > 1 else ""
            for end in ends
        ]
        grid.add_row(name, *(Score.of(one).number for one in values), f"{statistics.fmean(losses):.4f}", *over)
    return grid


if __name__ == "__main__":
    main()
