"""Few samples of new classes: characters of alphabets that were never seen, and digits that were never seen.

    ATTAR_DATA=... python bench/few_shot.py --quick                 # does it run
    ATTAR_DATA=... python bench/few_shot.py                         # recorded in bench/results/few_shot.json
    ATTAR_DATA=... python bench/few_shot.py --parts omniglot --rows protonet --seeds 1 --epochs 5

Omniglot: both archives merged by alphabet and character, Sanskrit and Tagalog to test (59 characters), the other 183 to
learn from; 28 pixels, Conv-4 of 32 channels. An encoder is trained once for each number of shots and tested with 5 and
with 20 ways. Digits: 0 to 4 to learn from, 5 to 9 to test, two convolutions of 64 channels. All rows of a seed are
tested on the same episodes, so that they are compared in pairs; raw pixels and an untrained encoder stand beside.
"""

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import torch
import torch.nn.functional as F
from torch import Tensor

import attar
from attar.core.registry import METHODS
from attar.core.runtime import Engine
from attar.core.score import around, paired
from attar.core.seeds import derived_seed
from attar.embeddings import ICNN, ProtoNet, ProtoTriplet, Triplet
from attar.embeddings.distances import smooth_distances
from attar.embeddings.fewshot.episodes import episodes
from attar.embeddings.fewshot.outcomes import episode_accuracy
from attar.embeddings.reading import Reading
from attar.embeddings.sources import Source

ALPHABETS = ("Sanskrit", "Tagalog")
"""Whose characters are tested."""
FIRST = "protonet, unsquared"
"""The row that the others are compared with."""


@dataclass(frozen=True)
class Task:
    """What is learned and tested."""

    source: Source
    encoder: str
    ways: tuple[int, ...]
    train_way: int
    epochs: int
    """Of 100 episodes."""
    query: int
    tested: int
    """Episodes to test with."""
    further: bool = False
    """Whether losses are combined and temperatures tried, too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="which experiments")
    parser.add_argument("--rows", nargs="+", default=[], help="rows whose names begin so (default: all)")
    parser.add_argument("--seeds", type=int, default=None, help="default: 3 of Omniglot, 4 of digits")
    parser.add_argument("--epochs", type=int, default=None, help="of 100 episodes each")
    parser.add_argument("--tested", type=int, default=None, help="episodes to test with")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5], help="supports of a class")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for part in args.parts:
        task, seeds = PARTS[part](), args.seeds or {"omniglot": 3, "digits": 4}[part]
        given = {"epochs": args.epochs, "tested": args.tested}
        task = dataclasses.replace(task, **{name: value for name, value in given.items() if value is not None})
        if args.quick:
            task, seeds = dataclasses.replace(task, epochs=1, tested=20), 1
        print(task.source)
        found[part] = table(task, range(seeds), args.shots, args.rows)
    if not args.quick and vars(args) | {"parts": list(PARTS)} == vars(parser.parse_args([])):
        harness.record("few_shot.json", {"machine": harness.machine(), **found}, beside=True)


# ---------------------------------------------------------------------------------------------------------------- data


def omniglot() -> Task:
    """The characters of the held-out alphabets as new classes."""
    root = os.environ.get("ATTAR_DATA")
    if root is None:
        raise SystemExit("set ATTAR_DATA to the folder that holds omniglot")
    archives = sorted((Path(root) / "omniglot").glob("*.zip"))
    source = Reading(novel=ALPHABETS, size=28).load(",".join(map(str, archives)))
    return Task(source, "conv4:width=32", (5, 20), 20, 5, 5, 600)


def digits() -> Task:
    """The digits 5 to 9 as new classes."""
    source = Reading(novel=tuple("56789")).load("digits")
    return Task(source, "convnet:norm=batch,width=64,depth=2,pooling=max", (5,), 5, 3, 10, 300, further=True)


PARTS: dict[str, Callable[[], Task]] = {"omniglot": omniglot, "digits": digits}


# ------------------------------------------------------------------------------------------------------------- methods


def methods(task: Task, shot: int) -> dict[str, Any]:
    """The rows that learn, for so many shots, all from equally many batches."""
    usual: dict[str, Any] = {"encoder": task.encoder, "epochs": task.epochs}
    drawn = {"train_shot": shot, "train_query": task.query, "train_way": task.train_way}
    found: dict[str, Any] = {
        "protonet, squared": ProtoNet(**usual, **drawn, distance="squared"),
        FIRST: ProtoNet(**usual, **drawn, distance="unsquared"),
        "prototriplet": ProtoTriplet(**usual, **drawn),
        "icnn": ICNN(**usual, **drawn),
        "triplet, batch-all": Triplet(**usual, classes_per_batch=task.train_way, mining="batch-all"),
    }
    if task.further:
        for distance in ("squared", "unsquared"):
            found[f"protonet, {distance}, T 0.25"] = ProtoNet(**usual, **drawn, distance=distance, temperature=0.25)
        for name in ("cross+prototriplet", "prototriplet+fullicnn", "cross+prototriplet+fullicnn"):
            found[name] = ProtoTriplet.baseline(name).changed_by(usual | drawn)
    return found | supervised(task)


def supervised(task: Task) -> dict[str, Any]:
    """SupCon on the samples as they are, if it is there."""
    if "supcon" not in METHODS:
        return {}
    batch = task.train_way * 8
    epochs = max(1, round(100 * task.epochs * batch / len(task.source.train)))
    how = {"classes_per_batch": task.train_way, "samples_per_class": 8, "view": {"recipe": "none"}}
    plain = {"encoder": task.encoder, "epochs": epochs, "linear": {"epochs": 0}, **how}
    return {"supcon": METHODS["supcon"].load().from_json(plain)}


def features(row: str, task: Task, shot: int, seed: int) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor], float]:
    """Features of the test samples, the distance by which they are classified, and the seconds of training."""
    samples = task.source.test.samples[torch.arange(len(task.source.test))]
    if row == "raw pixels":
        return task.source.inputs(torch.arange(len(samples)), part="test").flatten(1), smooth_distances, 0.0
    if row == "untrained":
        method = ProtoNet(encoder=task.encoder, epochs=1, episodes=1, train_way=2, train_query=2, lr=0.0)
    else:
        method = methods(task, shot)[row]
    start = time.perf_counter()
    made = attar.train(task.source, method, seed=seed, engine=Engine(quiet=True))
    seconds = time.perf_counter() - start
    return torch.from_numpy(made.transform(samples.numpy())), getattr(made.method, "distances", on_the_sphere), seconds


def on_the_sphere(queries: Tensor, prototypes: Tensor) -> Tensor:
    """The distance that encoders of contrasts are classified by."""
    return smooth_distances(F.normalize(queries), F.normalize(prototypes))


# ------------------------------------------------------------------------------------------------------------- results


def table(task: Task, seeds: range, shots: list[int], only: list[str]) -> dict[str, Any]:
    """Every row at every number of ways and shots: accuracy by seed, its interval, and the difference to `FIRST`."""
    names = ["raw pixels", "untrained", *methods(task, 1)]
    names = [name for name in names if not only or any(name.startswith(text) for text in only)]
    found: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    errors: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    seconds: dict[str, float] = dict.fromkeys(names, 0.0)
    for name in names:
        for shot in shots:
            for seed in seeds:
                rows, distance, taken = features(name, task, shot, seed)
                seconds[name] += taken
                for way in task.ways:
                    scores = list(tested(rows, task, way, shot, seed, distance))
                    cell = f"{way}-way {shot}-shot"
                    found[name].setdefault(cell, []).append(statistics.fmean(scores))
                    errors[name].setdefault(cell, []).append(statistics.stdev(scores) / len(scores) ** 0.5)
        told = ", ".join(f"{cell} {statistics.fmean(values):.1f}" for cell, values in found[name].items())
        print(f"{name}: {told} ({seconds[name]:.0f} s)", flush=True)
    rows_of = {name: {cell: row(found, errors, name, cell) for cell in found[name]} for name in names}
    about = {"epochs": task.epochs, "episodes_tested": task.tested, "seeds": len(seeds), "encoder": task.encoder}
    return {"about": about, "rows": rows_of, "seconds_of_training": seconds}


def tested(
    rows: Tensor, task: Task, way: int, shot: int, seed: int, distance: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[float]:
    """The accuracy of each test episode, in per cent. A seed's episodes are the same for every row."""
    generator = torch.Generator().manual_seed(derived_seed(seed, f"test episodes of {way} ways and {shot} shots"))
    for support, query in episodes(task.source.test.labels, way, shot, 15, task.tested, generator):
        yield 100 * episode_accuracy(rows[support], rows[query], way, distance)


def row(
    found: dict[str, dict[str, list[float]]], errors: dict[str, dict[str, list[float]]], name: str, cell: str
) -> dict[str, Any]:
    """One cell: the mean over seeds, that of each, the interval over seeds and over episodes, and the difference."""
    values = found[name][cell]
    result: dict[str, Any] = {"mean": statistics.fmean(values), "seeds": values}
    result["half_width_over_episodes"] = (
        1.96 * statistics.fmean(e**2 for e in errors[name][cell]) ** 0.5 / len(values) ** 0.5
    )
    if len(values) > 1:
        error = statistics.stdev(values) / len(values) ** 0.5
        interval = around(result["mean"], error, len(values) - 1)
        result["interval_over_seeds"] = [interval.low, interval.high]
    if FIRST in found and name != FIRST and cell in found[FIRST]:
        result["minus " + FIRST] = paired(values, found[FIRST][cell]).to_json()
    return result


if __name__ == "__main__":
    main()
