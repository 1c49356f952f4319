"""EnsLoss beside BCE, hinges and label smoothing: on digit pairs and tables, and on cats and dogs of CIFAR-10.

    python bench/ensloss.py --quick                                  # does it run; records nothing
    ATTAR_DATA=... python bench/ensloss.py                           # recorded in bench/results/ensloss.json
    ATTAR_DATA=... python bench/ensloss.py --data 3v8 german --seeds 2
    ATTAR_DATA=... python bench/ensloss.py --images --device cuda    # cats and dogs

Small data: an MLP of three hidden layers of 128 units, without norms; SGD with momentum 0.9 and a cosine; 100 training
rows of a digit pair, and seven tenths of the rows of a table. BCE and label-smoothed BCE take, for each seed, the best
of four step sizes on a held-out tenth of the training rows; the others take 0.01. Networks of all seeds are trained at
once, as one stack of matrices with the losses under `torch.vmap`; `tests/bench/test_ensloss.py` compares that with a
loop of `torch.optim.SGD` over one network after the other.

Images: attar's own training (`Classifier`), one run after the other, with the test accuracy after every epoch.

Seeds are paired: the same split, start and order for all losses. Differences are EnsLoss minus a rival in points of
test accuracy after the last epoch, with 95 % intervals that hold for all comparisons at once (Bonferroni). A run is
recorded when it ends; what is recorded is not run again.
"""

import argparse
import csv
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import harness
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import vmap

from attar.classifiers.classifier import Classifier
from attar.classifiers.losses import BCE, EnsLoss, Hinge, LogHinge
from attar.classifiers.pair import Pair
from attar.classifiers.teacher import accuracy_on_classes
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score, paired
from attar.core.seeds import derived_seed
from attar.core.training import half_cosine
from attar.images.sources import load

RECORD = "ensloss.json"
SEEDS, IMAGE_SEEDS = 12, 3
RATES = (0.003, 0.01, 0.03, 0.1)
USUAL_RATE, MOMENTUM = 0.01, 0.9
WIDTH, DEPTH = 128, 3
PAIRS = {"3v8": (3, 8), "4v9": (4, 9)}
DATA = (*PAIRS, "german", "compas", "bank")
EPOCHS = {**dict.fromkeys(PAIRS, 300), **dict.fromkeys(DATA[2:], 100)}
BATCH = {**dict.fromkeys(PAIRS, 32), **dict.fromkeys(DATA[2:], 128)}
ENSLOSS = "EnsLoss"
BY_RATE = ("BCE", "label-smoothed BCE")
"""Losses whose step size is chosen on held-out training rows."""
ROWS: dict[str, Callable[[], Any]] = {
    ENSLOSS: EnsLoss,
    "BCE": BCE,
    "BCE at 0.01": BCE,
    "hinge": Hinge,
    "Log-Hinge": LogHinge,
    "label-smoothed BCE": lambda: BCE(0.1),
}
NETWORKS = {"ConvNet": "convnet:norm=batch", "ResNet-18": "resnet18"}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"shift": 0, "flips": "off"},
    "dropout": {"shift": 0, "flips": "off", "dropout": 0.3},
    "flip and crop": {"shift": 4, "flips": "on"},
}
IMAGE_LOSSES = ("bce", "hinge", "log-hinge", "ensloss")
IMAGE_RECIPE = {"epochs": 60, "batch": 128, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two epochs and two seeds; records nothing")
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--images", action="store_true", help="cats and dogs in place of the small data")
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--loss", nargs="+", choices=IMAGE_LOSSES, default=list(IMAGE_LOSSES))
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    path = harness.RESULTS / RECORD
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() and not args.quick else {}
    if args.images:
        run_images(found, args)
    else:
        run_small(found, args)


def keep(found: dict[str, Any], *, quick: bool) -> None:
    """Record what is there, unless it is a trial."""
    if not quick:
        harness.record(RECORD, {**found, "machine": harness.machine()})


# ------------------------------------------------------------------------------------------------- digit pairs, tables


@dataclass(frozen=True)
class Part:
    """The training and test rows of one seed, standardised by the training rows."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def run_small(found: dict[str, Any], args: argparse.Namespace) -> None:
    """All losses on digit pairs and tables."""
    seeds = list(range(args.seeds or (2 if args.quick else SEEDS)))
    cells = found.setdefault("small", {})
    for data in args.data:
        rows = cells.setdefault(data, {})
        epochs = 2 if args.quick else EPOCHS[data]
        for name, make in ROWS.items():
            row = rows.setdefault(name, {"accuracy": {}, "rate": {}, "epochs": epochs, "batch": BATCH[data]})
            left = [seed for seed in seeds if str(seed) not in row["accuracy"]]
            if not left:
                continue
            start = time.perf_counter()
            parts = [part_of(data, seed) for seed in left]
            rates = (
                chosen_rates(make, parts, left, epochs, BATCH[data]) if name in BY_RATE else [USUAL_RATE] * len(left)
            )
            scores = trained_at_once(make(), parts, left, rates, epochs, BATCH[data])
            for seed, rate, score in zip(left, rates, scores, strict=True):
                row["accuracy"][str(seed)], row["rate"][str(seed)] = score, rate
            print(f"{data}, {name}: {statistics.fmean(scores):.2f} %, {time.perf_counter() - start:.0f} s", flush=True)
            keep(found, quick=args.quick)
    told = {data: cells[data] for data in args.data}
    Console(soft_wrap=True).print(as_text(small_table(told)))


def part_of(data: str, seed: int) -> Part:
    """The rows of a seed: 100 for training of a digit pair, seven tenths of a table; the others are for testing."""
    x, y = digit_pair(data) if data in PAIRS else table_rows(data)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(derived_seed(seed, "split")))
    many = 100 if data in PAIRS else round(0.7 * len(y))
    train, test = order[:many], order[many:]
    mean, scale = x[train].mean(dim=0), x[train].std(dim=0).clamp(min=1e-3)
    x = ((x - mean) / scale).float()
    return Part(x[train], y[train], x[test], y[test])


def digit_pair(data: str) -> tuple[Tensor, Tensor]:
    """The images of two digits; the second digit is class 1."""
    images, labels = load_digits(return_X_y=True)
    first, second = PAIRS[data]
    own = (labels == first) | (labels == second)
    return torch.tensor(images[own]), torch.tensor(labels[own] == second).long()


def table_rows(data: str) -> tuple[Tensor, Tensor]:
    """The columns of a table, categories as one column for each level, and its binary label."""
    folder = Path(os.environ["ATTAR_DATA"]) / "tabular"
    if data == "german":
        rows = [line.split() for line in (folder / "german.data").read_text(encoding="utf-8").splitlines()]
        label = [row[-1] == "2" for row in rows]
        columns = list(zip(*(row[:-1] for row in rows), strict=True))
    else:
        name, split = ("compas_propublica_binary.csv", ",") if data == "compas" else ("bank.csv", ";")
        with (folder / name).open(encoding="utf-8") as file:
            named = list(csv.DictReader(file, delimiter=split))
        target = "Two_yr_Recidivism" if data == "compas" else "y"
        label = [row[target] in ("1", "yes") for row in named]
        columns = [tuple(row[key] for row in named) for key in named[0] if key != target]
    encoded = [part for column in columns for part in encoded_column(column)]
    return torch.stack(encoded, dim=1), torch.tensor(label).long()


def encoded_column(column: Sequence[str]) -> list[Tensor]:
    """A column of numbers as it is, or a column of 0 and 1 for each of its levels."""
    try:
        return [torch.tensor([float(value) for value in column], dtype=torch.float64)]
    except ValueError:
        return [torch.tensor([value == level for value in column]).double() for level in sorted(set(column))]


def chosen_rates(
    make: Callable[[], Any], parts: Sequence[Part], seeds: Sequence[int], epochs: int, batch: int
) -> list[float]:
    """For each seed the step size that is best on a held-out tenth of the training rows, of equals the smallest."""
    inner = []
    for part, seed in zip(parts, seeds, strict=True):
        order = torch.randperm(len(part.y), generator=torch.Generator().manual_seed(derived_seed(seed, "held out")))
        out, own = order[: len(order) // 10], order[len(order) // 10 :]
        inner.append(Part(part.x[own], part.y[own], part.x[out], part.y[out]))
    scores = []
    for rate in RATES:
        scores.append(trained_at_once(make(), inner, seeds, [rate] * len(seeds), epochs, batch))
    return [RATES[max(range(len(RATES)), key=own.__getitem__)] for own in zip(*scores, strict=True)]


def start_of(seed: int, inputs: int) -> list[Tensor]:
    """The parameters of a seed's network: PyTorch's own start of linear layers."""
    sizes = [inputs, *[WIDTH] * DEPTH, 1]
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, "network"))
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    return [tensor for layer in layers for tensor in (layer.weight.detach().T.clone(), layer.bias.detach().clone())]


def forward(parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    """Logits `[network, row, 1]` of a stack of networks."""
    for number in range(0, len(parameters), 2):
        x = torch.baddbmm(parameters[number + 1].unsqueeze(1), x, parameters[number])
        x = x.relu() if number + 2 < len(parameters) else x
    return x


def trained_at_once(
    loss: Any, parts: Sequence[Part], seeds: Sequence[int], rates: Sequence[float], epochs: int, batch: int
) -> list[float]:
    """The test accuracy in per cent of a network for each seed; all are trained at once."""
    parameters = stacked_training(loss, parts, seeds, rates, epochs, batch)
    with torch.no_grad():
        scores = forward(parameters, torch.stack([part.test_x for part in parts])).squeeze(2)
    wanted = torch.stack([part.test_y for part in parts]) == 1
    return (100 * ((scores > 0) == wanted).float().mean(dim=1)).tolist()


def stacked_training(
    loss: Any, parts: Sequence[Part], seeds: Sequence[int], rates: Sequence[float], epochs: int, batch: int
) -> list[Tensor]:
    """The parameters of the trained networks, stacked."""
    x, y = torch.stack([part.x for part in parts]), torch.stack([part.y for part in parts])
    starts = [start_of(seed, x.shape[2]) for seed in seeds]
    parameters = [torch.stack(own).requires_grad_() for own in zip(*starts, strict=True)]
    speeds = [torch.zeros_like(parameter) for parameter in parameters]
    orders, draws = (
        [torch.Generator().manual_seed(derived_seed(seed, what)) for seed in seeds] for what in ("order", "loss")
    )
    which = torch.arange(len(seeds)).unsqueeze(1)
    for epoch in range(epochs):
        step = torch.tensor(rates) * half_cosine(epoch / epochs)
        order = torch.stack([torch.randperm(y.shape[1], generator=generator) for generator in orders])
        for rows in order.split(batch, dim=1):
            drawn = [loss.drawn(rows.shape[1], 1, generator) for generator in draws]
            given = [] if drawn[0] is None else [torch.stack(drawn)]
            values = vmap(loss.values)(forward(parameters, x[which, rows]), y[which, rows], *given)
            gradients = torch.autograd.grad(values.mean(dim=1).sum(), parameters)
            with torch.no_grad():
                for parameter, speed, gradient in zip(parameters, speeds, gradients, strict=True):
                    speed.mul_(MOMENTUM).add_(gradient)
                    parameter.sub_(speed * step.view(-1, *[1] * (speed.ndim - 1)))
    return [parameter.detach() for parameter in parameters]


# ------------------------------------------------------------------------------------------------------- cats and dogs


def run_images(found: dict[str, Any], args: argparse.Namespace) -> None:
    """All losses on the cats and dogs of CIFAR-10."""
    source = load(Path(os.environ["ATTAR_DATA"]) / "cifar10").with_classes([3, 5])
    if args.quick:
        source = source.subset(torch.cat([rows[:64] for rows in source.rows_of]))
    recipe = {**IMAGE_RECIPE, **({"epochs": 2} if args.quick else {})}
    cells = found.setdefault("images", {"recipe": recipe, "runs": {}})
    for seed in range(args.seeds or (1 if args.quick else IMAGE_SEEDS)):
        for network in args.network:
            for way in args.way:
                for loss in args.loss:
                    own = cells["runs"].setdefault(network, {}).setdefault(way, {}).setdefault(loss, {})
                    if str(seed) in own:
                        continue
                    settings = {**recipe, **WAYS[way], "network": NETWORKS[network], "loss": loss}
                    own[str(seed)] = trained_on_images(Classifier.from_json(settings), source, seed, args.device)
                    print(network, way, loss, seed, own[str(seed)]["accuracy"][-1], flush=True)
                    keep(found, quick=args.quick)
    Console(soft_wrap=True).print(as_text(image_table(cells["runs"])))


def trained_on_images(method: Classifier, source: Any, seed: int, device: str) -> dict[str, Any]:
    """Test accuracy in per cent after every epoch of attar's own training, and its seconds."""
    runtime, pair = Runtime(Engine(quiet=True, device=device), seed), Pair(source)
    method = method.resolve(pair, runtime)
    state, curve, start = method.build(pair, runtime), [], time.perf_counter()
    while state.done < method.total_steps:
        method.step(state, runtime)
        if state.done % method.batches == 0:
            curve.append(accuracy_on_classes(state.student.eval(), source, runtime))
            state.student.train()
    return {"accuracy": curve, "seconds": round(time.perf_counter() - start, 1)}


# -------------------------------------------------------------------------------------------------------------- tables


def small_table(cells: dict[str, Any]) -> Table:
    """Accuracy of each row, and EnsLoss's difference to it."""
    comparisons = sum(ENSLOSS in rows and name != ENSLOSS for rows in cells.values() for name in rows)
    title = f"test accuracy after the last epoch; intervals for {comparisons} comparisons at once"
    grid = Table("data", "loss", "accuracy, %", "EnsLoss minus it", "step sizes", title=title)
    for data, rows in cells.items():
        for name, row in rows.items():
            values, base = list(row["accuracy"].values()), list(rows[ENSLOSS]["accuracy"].values())
            gap = "" if name == ENSLOSS else paired(base, values, comparisons).told("%")
            rates = ", ".join(f"{rate:g}" for rate in sorted(set(row["rate"].values())))
            grid.add_row(data, name, Score.of(values).number, gap, rates)
    return grid


def image_table(runs: dict[str, Any]) -> Table:
    """Accuracy of each loss after the last epoch, and EnsLoss's difference to it where both have the same seeds."""
    cells = [(network, way, own) for network, ways in runs.items() for way, own in ways.items() if "ensloss" in own]
    comparisons = max(1, sum(len(own) - 1 for _, _, own in cells))
    grid = Table("network", "way", "loss", "accuracy, %", "EnsLoss minus it", title="cats and dogs of CIFAR-10")
    for network, way, own in cells:
        base = {seed: one["accuracy"][-1] for seed, one in own["ensloss"].items()}
        for loss, seeds in own.items():
            values = {seed: one["accuracy"][-1] for seed, one in seeds.items()}
            same = loss != "ensloss" and values.keys() == base.keys()
            gap = paired(list(base.values()), list(values.values()), comparisons).told("%") if same else ""
            grid.add_row(network, way, loss, Score.of(list(values.values())).number, gap)
    return grid


if __name__ == "__main__":
    main()
