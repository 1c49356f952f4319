"""Encoders trained without labels on 5,000 images of CIFAR-10, beside raw pixels and a random encoder.

    ATTAR_DATA=... python bench/self_supervised.py --quick               # does it run
    ATTAR_DATA=... python bench/self_supervised.py                       # recorded in results/self_supervised.json
    ATTAR_DATA=... python bench/self_supervised.py --data long-tailed --only simclr isogclr
    ATTAR_DATA=... python bench/self_supervised.py --side 32

Each seed is a draw of the images and a training, the same for all rows, so that differences are paired by seed. Images
are scaled to 16 pixels; the encoder is a ConvNet of two blocks and 64 filters, trained with 64 images a batch for 15
epochs by Adam. Long-tailed data have 2,000 images of the most frequent class, 20 of the rarest. Features are measured
on 2,000 balanced test images: by the 20 nearest neighbours, and by a linear probe. A run is recorded when it ends; what
is recorded is not run again, unless its settings have changed. Two processes may share the work, one for each --data.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import harness
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import attar
from attar.core.progress import as_text
from attar.core.registry import METHODS
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score, paired
from attar.core.seeds import permutation
from attar.embeddings.encoded import EncodedSource
from attar.embeddings.neighbours import knn_votes
from attar.embeddings.probe import fit_probe
from attar.embeddings.rivals import Untrained, random_of, raw_of
from attar.embeddings.sources import Source
from attar.images.sources import ImageSource, load

RECORD = "self_supervised.json"
FIRST = "simclr"
"""What every row is compared with."""
IMAGES, TEST_IMAGES, NEIGHBOURS = 5000, 2000, 20
MOST, IMBALANCE = 2000, 100
"""Images of the most frequent class of the long tail, and how many times the rarest has fewer."""
RARE = 3
"""Number of classes that count as rare."""
QUIET = Engine(quiet=True, device="cpu")
SMALL = {"projector": {"projected": 32}}
FIXED = {**SMALL, "adaptive": False}
RELEASED = {
    **SMALL,
    "negatives_by": "topk",
    "hardest": 100,
    "hardest_summed": True,
    "uncertainty_weight": 1e-4,
    "temperature_range": [1e-5, 2.0],
    "contrast_temperature": 1.0,
    "clip_norm": 1.0,
}
"""As in the code of AMCL's authors."""
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    FIRST: ("simclr", {**SMALL, "contrast_temperature": 0.2}),
    "dcl": ("dcl", {**SMALL, "contrast_temperature": 0.2}),
    "moco": ("moco", SMALL),
    "simsiam": ("simsiam", {}),
    "barlow": ("barlow", {}),
    "3 heads": ("amcl", FIXED),
    "single wide head": ("amcl", {**FIXED, "single_wide": True}),
    "amcl, softmax": ("amcl", SMALL),
    "amcl, topk": ("amcl", {**SMALL, "negatives_by": "topk"}),
    "amcl, max": ("amcl", {**SMALL, "negatives_by": "max"}),
    "amcl, as released": ("amcl", RELEASED),
    "amcl, one head": ("amcl", {**SMALL, "heads": 1}),
    "amcl on moco": ("amcl", {**SMALL, "framework": "moco", "contrast_temperature": 0.1}),
    "amcl on simsiam": ("amcl", {"framework": "simsiam"}),
    "amcl on barlow": ("amcl", {"framework": "barlow", "projector": {"projector_layers": 3, "projected": 512}}),
    "sogclr": ("sogclr", {**SMALL, "contrast_temperature": 0.2}),
    "isogclr": ("isogclr", SMALL),
}
"""Each row with its method and settings; temperatures are near 0.2 in all of them."""
UNTRAINED = ("raw pixels", "random encoder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few images, one epoch and one seed; records nothing")
    parser.add_argument("--data", nargs="+", choices=["balanced", "long-tailed"], default=["balanced", "long-tailed"])
    parser.add_argument("--only", nargs="+", choices=[*UNTRAINED, *ROWS], metavar="ROW", help="rows")
    parser.add_argument("--side", type=int, default=16, help="side of the images in pixels")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    args = parser.parse_args()
    root = os.environ.get("ATTAR_DATA")
    if root is None:
        raise SystemExit("set ATTAR_DATA to the folder that holds cifar10")
    seeds, whole = range(1 if args.quick else args.seeds), load(Path(root) / "cifar10", size=args.side)
    found = {} if args.quick else recorded()
    for data in args.data:
        key = f"{data}, {args.side} pixels, {args.epochs} epochs"
        cells = found.setdefault(key, {"rows": {}})
        for seed in seeds:
            source = drawn(whole, data, seed, quick=args.quick)
            cells["source"] = str(source).splitlines()[0].partition(", split")[0]
            for name in args.only or (*UNTRAINED, *ROWS):
                if not fill(cells["rows"], name, source, seed, epochs=1 if args.quick else args.epochs):
                    continue
                print(data, seed, name, cells["rows"][name]["seeds"][str(seed)], flush=True)
                if not args.quick:
                    compare(cells["rows"])
                    harness.record(RECORD, {"machine": harness.machine(), "data": {key: cells}}, beside=True)
        Console(soft_wrap=True).print(as_text(table(cells["rows"], data)))


def recorded() -> dict[str, Any]:
    """What the results file holds."""
    path = harness.RESULTS / RECORD
    return json.loads(path.read_text(encoding="utf-8"))["data"] if path.exists() else {}


def drawn(whole: ImageSource, data: str, seed: int, *, quick: bool) -> Source:
    """The images of a seed."""
    each = [IMAGES // len(whole.classes)] * len(whole.classes)
    if data == "long-tailed":
        last = len(whole.classes) - 1
        each = [round(MOST * IMBALANCE ** (-place / last)) for place in range(len(whole.classes))]
    if quick:
        each = [max(8, count // 20) for count in each]
    picks = [
        some(rows, count, seed, f"class {label}")
        for label, (rows, count) in enumerate(zip(whole.rows_of, each, strict=True))
    ]
    source = Source.of_images(whole.subset(torch.cat(picks)))
    tested = some(torch.arange(len(source.test)), 200 if quick else TEST_IMAGES, seed, "test images")
    return Source(**{**vars(source), "test": source.test.select(tested)})


def some(rows: Tensor, count: int, seed: int, name: str) -> Tensor:
    """So many rows, drawn by seed."""
    return rows[permutation(seed, name, len(rows))[:count]]


def fill(rows: dict[str, Any], name: str, source: Source, seed: int, *, epochs: int) -> bool:
    """Measure a row with a seed; whether that had to be done."""
    method, settings = ROWS.get(name, ("", {}))
    if method and method not in METHODS:
        print(f"{name} is left out: there is no method {method}")
        return False
    if name not in rows or rows[name]["settings"] != settings:
        rows[name] = {"method": method, "settings": settings, "seeds": {}}
    if str(seed) in rows[name]["seeds"]:
        return False
    start = time.perf_counter()
    if method:
        encoded = EncodedSource.of(trained(method, settings, source, seed, epochs), source, Runtime(QUIET, seed))
        seconds = time.perf_counter() - start
        rows[name]["seeds"][str(seed)] = {**measured(encoded.train, encoded.test, source), "seconds": round(seconds, 1)}
    else:
        rows[name]["seeds"][str(seed)] = untrained(name, source, seed)
    return True


def trained(method: str, settings: dict[str, Any], source: Source, seed: int, epochs: int) -> Any:
    """An encoder."""
    usual = {"encoder": "convnet:norm=batch,width=64,depth=2", "epochs": epochs, "batch": 64}
    return attar.train(source, METHODS[method].load().from_json({**usual, **settings}), seed=seed, engine=QUIET)


def untrained(name: str, source: Source, seed: int) -> dict[str, float]:
    """The measures of raw pixels, or of the encoder before training."""
    runtime = Runtime(QUIET, seed)
    encoded = EncodedSource.of(trained(FIRST, {"lr": 0.0}, source, seed, 1), source, runtime)
    found: Untrained | None = (raw_of if name == "raw pixels" else random_of)(encoded)
    assert found is not None
    return measured(found.train, found.test, source)


def measured(train: Tensor, test: Tensor, source: Source) -> dict[str, float]:
    """Accuracy in per cent: of neighbours, of a probe, and of neighbours on the rarest classes."""
    labels, wanted, classes = source.train.labels, source.test.labels, len(source.classes)
    assert labels is not None and wanted is not None
    right = knn_votes(test, train, labels, classes, neighbours=NEIGHBOURS).argmax(dim=1) == wanted
    probe = fit_probe(train, labels, classes).predict(test).argmax(dim=1) == wanted
    rare = torch.isin(wanted, labels.bincount(minlength=classes).argsort()[:RARE])
    found = {"knn": right, "probe": probe, "knn, rare classes": right[rare], "probe, rare classes": probe[rare]}
    return {name: round(100 * yes.double().mean().item(), 3) for name, yes in found.items()}


def compare(rows: dict[str, Any]) -> None:
    """Write into each row how far it lies above the first, with an interval over seeds that both have."""
    if FIRST not in rows:
        return
    first = rows[FIRST]["seeds"]
    for name, row in rows.items():
        both = [seed for seed in row["seeds"] if seed in first]
        if name != FIRST and len(both) > 1:
            row["over simclr"] = {
                measure: paired(*([side[seed][measure] for seed in both] for side in (row["seeds"], first))).to_json()
                for measure in ("knn", "probe")
            }


def table(rows: dict[str, Any], data: str) -> Table:
    """Each row's measures, and its difference to SimCLR in pairs of seeds."""
    grid = Table(
        "row", "kNN, %", "over SimCLR", "probe, %", "over SimCLR", "kNN, rare classes, %", "seconds", title=data
    )
    first = rows.get(FIRST, {"seeds": {}})["seeds"]
    for name, row in rows.items():
        both = [seed for seed in row["seeds"] if seed in first]
        words = []
        for measure in ("knn", "probe"):
            words.append(Score.of([one[measure] for one in row["seeds"].values()]).number)
            pairs = [[side[seed][measure] for seed in both] for side in (row["seeds"], first)]
            words.append(paired(*pairs).told("%") if both and name != FIRST else "")
        rare = Score.of([one["knn, rare classes"] for one in row["seeds"].values()]).number
        seconds = [one["seconds"] for one in row["seeds"].values() if "seconds" in one]
        grid.add_row(name, *words, rare, f"{sum(seconds) / len(seconds):.0f}" if seconds else "")
    return grid


if __name__ == "__main__":
    main()
