"""Calibrators beside each other on networks for CIFAR-10, and whether a calibrated teacher teaches better.

    python bench/calibration.py --quick                             # does it run
    ATTAR_DATA=... python bench/calibration.py                      # recorded in bench/results/calibration.json
    ATTAR_DATA=... python bench/calibration.py --part teachers-cifar10

Networks: ConvNets are trained on 10,000 images of CIFAR-10 without augmentation; a tenth is reserved; each seed is a
choice of the images and a training. All calibrators are fitted to the logits of the reserved images, and tested on
the test images, and on the same images rotated by 25 degrees with noise of 0.25. Teachers: KD by a teacher that was
trained on all the images, on nine tenths of them, and on nine tenths with a temperature fitted to the rest; each seed
is a choice of the images, a teacher and a student. What is recorded is not run again.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import attar
from attar.classifiers.calibration.calibrated import logits_of
from attar.classifiers.calibration.metrics import CalibrationReport
from attar.classifiers.calibration.shifts import noisy, rotated
from attar.classifiers.calibration.teaching import calibrated_teacher
from attar.classifiers.classifier import Classifier
from attar.classifiers.selection import reserved_rows
from attar.core.progress import as_text
from attar.core.registry import METHODS
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score, paired
from attar.images.networks.architecture import parse
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.sources import ImageSource
from attar.images.trained import trained

RECORD = "calibration.json"
QUIET = Engine(quiet=True, device="cpu")
PARTS = {"networks": 3, "teachers-digits": 5, "teachers-cifar10": 5}
"""The parts, with the number of seeds of each."""
CONTROL = "ts, balanced CA loss"
SHOWN = {
    "ece": "ECE15",
    "ece_25": "ECE25",
    "ks": "KS",
    "top_brier": "top-label Brier",
    "auroc": "AUROC",
    "nll": "NLL",
    "accuracy": "accuracy",
}
"""The measures; all but the likelihood are recorded in per cent."""
IN, OUT = "test images", "rotated 25°, noise 0.25"
Logits = tuple[Tensor, list[Tensor]]


def calibrators() -> dict[str, tuple[str, dict[str, Any]]]:
    """Each row with its method and settings: every calibrator, and controls of the correctness-aware one."""
    names = [name for name, entry in METHODS.items() if entry.verb == "calibrate" and name != "ca"]
    plain: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in names}
    return {
        **plain,
        "ts, CA loss": ("ts", {"loss": "ca"}),
        CONTROL: ("ts", {"loss": "ca-balanced"}),
        "ca": ("ca", {}),
        "ca, balanced": ("ca", {"balanced_loss": True}),
        "ca, own softmax": ("ca", {"cues": "softmax"}),
        "ca, own softmax, balanced": ("ca", {"cues": "softmax", "balanced_loss": True}),
        "ca, cross-entropy": ("ca", {"loss": "ce"}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run on digits that records nothing")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=None)
    args = parser.parse_args()
    path = harness.RESULTS / RECORD
    found: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() and not args.quick else {}
    )
    for part in args.part:
        cells = found.setdefault(part, {"seeds": {}})
        measure = networks if part == "networks" else teachers
        for seed in range(1 if args.quick else args.seeds or PARTS[part]):
            rows = cells["seeds"].setdefault(str(seed), {})

            def keep(cells: dict[str, Any] = cells) -> None:
                if not args.quick:
                    harness.record(RECORD, {"machine": harness.machine(), "parts": found})

            source = source_of("digits" if args.quick or part == "teachers-digits" else "cifar10", seed, part)
            cells["source"] = str(source).splitlines()[0]
            measure(source, seed, rows, keep, quick=args.quick)
        told = tables(cells) if part == "networks" else [of_teachers(cells, part)]
        for grid in told:
            Console(soft_wrap=True).print(as_text(grid))


def source_of(data: str, seed: int, part: str) -> ImageSource:
    """The data of a seed: a choice of the training images; the digits are used because they take seconds."""
    if data == "digits":
        source = attar.load("digits", split_seed=seed)
        return source if part == "networks" else few(source, 60, seed)
    source = attar.load(str(Path(os.environ["ATTAR_DATA"]) / "cifar10"))
    return few(source, 1000 if part == "networks" else 500, seed)


def few(source: ImageSource, each: int, seed: int) -> ImageSource:
    """So many training images of each class."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [rows[torch.randperm(len(rows), generator=generator)[:each]] for rows in source.rows_of]
    return source.subset(torch.cat(chosen).sort().values)


# --------------------------------------------------------------------------------------------------------- calibrators


def networks(source: ImageSource, seed: int, rows: dict[str, Any], keep: Callable[[], None], *, quick: bool) -> None:
    """The measures of every calibrator on one network, in and out of distribution."""
    wanted = {name: row for name, row in calibrators().items() if name not in rows}
    if not wanted and "none" in rows:
        return
    settings: dict[str, Any] = {"batch": 64, "reserved": 0.1, "optimizer": "adamw", "lr": 1e-3}
    settings |= {"shift": 0, "flips": "off"}  # with views the network is calibrated as it is
    settings |= {"network": "mlp:width=32" if quick else "convnet:norm=batch,width=64", "epochs": 5 if quick else 25}
    method = Classifier(**settings)
    start = time.perf_counter()
    network = attar.train(source, method, seed=seed, engine=QUIET).network
    print(f"network {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    reserved = reserved_rows(source, 0.1, seed)
    fitted = logits_on(network, source, source.train.select(reserved))
    tested = {column: logits_on(network, source, source.test, column) for column in (IN, OUT)}
    labels = source.test.labels
    rows.setdefault("none", {column: measures(logits, labels) for column, (logits, _) in tested.items()})
    for name, (family, settings) in wanted.items():
        calibrator = METHODS[family].load().from_json(settings)
        generator, start = torch.Generator().manual_seed(seed), time.perf_counter()
        views = fitted[1] if calibrator.looks_at_views else []
        learned = calibrator.fit(fitted[0], source.train.labels[reserved], views, generator=generator)
        seconds = round(time.perf_counter() - start, 2)
        answers = {
            column: calibrator.applied(learned, logits, views if calibrator.looks_at_views else [])
            for column, (logits, views) in tested.items()
        }
        rows[name] = {column: measures(said, labels) for column, said in answers.items()} | {"seconds": seconds}
        print(seed, name, {column: rows[name][column]["ece"] for column in (IN, OUT)}, flush=True)
        keep()


def logits_on(network: nn.Module, source: ImageSource, images: Any, column: str = IN) -> Logits:
    """The logits of images and of their transformed copies; of shifted images in the column for these."""
    generator = torch.Generator().manual_seed(0)

    def shown(rows: Tensor) -> Tensor:
        pixels = images.pixels[rows]
        pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        if column == OUT:
            pixels = noisy(rotated(pixels, 25), 0.25, generator)
        return source.transform.forward(pixels)

    looking = METHODS["ca"].load()()
    return logits_of(network.eval(), shown, len(images), source.transform, looking)


def measures(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """The measures of one classifier."""
    report = CalibrationReport.of(logits, labels, floor_draws=1)
    return {name: getattr(report, name) * (1 if name == "nll" else 100) for name in SHOWN}


def tables(cells: dict[str, Any]) -> list[Table]:
    """A table for each column: means with intervals over networks, and the difference to one temperature in pairs."""
    seeds, found = list(cells["seeds"].values()), []
    for column in (IN, OUT):
        grid = Table("calibrator", *SHOWN.values(), "ECE15 over ts", "ECE15 over the control", title=column)
        for name in ["none", *calibrators()]:
            known = [seed for seed in seeds if name in seed]
            if not known:
                continue
            values = {key: [seed[name][column][key] for seed in known] for key in SHOWN}
            over = [paired(values["ece"], [seed[rival][column]["ece"] for seed in known]) for rival in ("ts", CONTROL)]
            told = [one.told("%") if len(known) > 1 else "" for one in over]
            numbers = [Score.of(some, "" if key == "nll" else "%").number for key, some in values.items()]
            grid.add_row(name, *numbers, *told)
        found.append(grid)
    return found


# ------------------------------------------------------------------------------------------------------------ teachers


def teachers(source: ImageSource, seed: int, rows: dict[str, Any], keep: Callable[[], None], *, quick: bool) -> None:
    """The accuracy of students by each teacher, at two temperatures of distillation."""
    protocol = dict(PROTOCOLS["ceiling"].to_json(), name="bench", epochs=2 if quick else 30)
    how: dict[str, Any] = {
        "student": "convnet:norm=batch,width=16",
        "epochs": 2 if quick else 30,
        "batch": 64,
    }
    wanted = [name for name in of_kd() if name not in rows]
    if not wanted:
        return
    runtime = Runtime(QUIET, seed)
    taught = taught_by(source, runtime, Protocol.from_json(protocol))
    for name in wanted:
        teacher, temperature = of_kd()[name]
        if teacher is None:
            method: Any = attar.Alone(**how)
            made = attar.distill(source, method, seed=seed, engine=QUIET)
        else:
            method = attar.KD(**how, temperature=temperature)
            made = attar.distill(source, method, teacher=taught[teacher], seed=seed, engine=QUIET)
        rows[name] = {"student": made.scores["student"], "teacher": made.scores.get("teacher")}
        print(source.name, seed, name, rows[name], flush=True)
        keep()


def of_kd() -> dict[str, tuple[str | None, float]]:
    """Each row with its teacher and the temperature of distillation."""
    found: dict[str, tuple[str | None, float]] = {"student alone": (None, 0.0)}
    for temperature in (4.0, 1.0):
        for teacher in ("all images", "nine tenths", "nine tenths, calibrated"):
            found[f"KD at {temperature:g}, teacher of {teacher}"] = (teacher, temperature)
    return found


def taught_by(source: ImageSource, runtime: Runtime, protocol: Protocol) -> dict[str, nn.Module]:
    """The teachers by what they were trained on."""
    name = "convnet:norm=batch,width=64"
    part = source.without(reserved_rows(source, 0.1, runtime.seed))
    return {
        "all images": trained(source, parse(name), runtime, protocol).network,
        "nine tenths": trained(part, parse(name), runtime, protocol).network,
        "nine tenths, calibrated": calibrated_teacher(name, "ts", source, runtime, protocol),
    }


def of_teachers(cells: dict[str, Any], part: str) -> Table:
    """Accuracies of students, and the differences that calibration and the missing tenth make, in pairs of seeds."""
    grid = Table("row", "student, %", "teacher, %", "over the same teacher uncalibrated", title=part)
    seeds = list(cells["seeds"].values())
    for name in of_kd():
        known = [seed[name] for seed in seeds if name in seed]
        if not known:
            continue
        students = [one["student"] for one in known]
        asked = [one["teacher"] for one in known if one["teacher"] is not None]
        rival = name.removesuffix(", calibrated")
        over = ""
        if rival != name and len(known) > 1:
            over = paired(students, [seed[rival]["student"] for seed in seeds if name in seed]).told("%")
        grid.add_row(name, Score.of(students).number, Score.of(asked).number if asked else "", over)
    return grid


if __name__ == "__main__":
    main()
