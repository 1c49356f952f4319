"""Every way to distill a classifier beside the student alone, on digits or on 5,000 CIFAR-10 images.

    python bench/distillation.py --quick                        # does it run
    python bench/distillation.py                                # digits, recorded in distillation_digits.json
    ATTAR_DATA=... python bench/distillation.py --data cifar10  # recorded in distillation_cifar10.json
    python bench/distillation.py --sweep                        # step sizes, in distillation_digits_sweep.json

One teacher, trained here; students on the same images, by the same schedule and with the same seeds for every method,
so that differences are paired by seed. Of the digits there are 300 training images, so that there is something to learn
from a teacher of all of them; subclasses are the ten digits of two classes, odd and even. The sweep has the losses of
DHKD's first figure, on one head and on two, each at four step sizes, with the rank of the classifier.
"""

import argparse
import dataclasses
import json
import os
import statistics
from pathlib import Path
from typing import Any

import harness
import torch
from rich.console import Console
from rich.table import Table

import attar
from attar.classifiers.distillation import Distillation
from attar.classifiers.sweep import HEADS, RATES, sweep
from attar.classifiers.teacher import teacher_named
from attar.core.progress import as_text
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score, paired
from attar.images.sources import ImageSource

PARITY = (0, 1) * 5
ALONE = "student alone"
LONGER = "student alone, twice as long"
KD = "KD"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--data", choices=("digits", "cifar10"), default="digits")
    parser.add_argument("--out", type=Path, default=Path("runs") / "distillation", help="where the runs go")
    parser.add_argument("--seeds", type=int, default=None, help="students per method (digits 5, cifar10 3)")
    parser.add_argument("--epochs", type=int, default=None, help="of the students")
    parser.add_argument("--only", nargs="+", help="rows")
    parser.add_argument("--sweep", action="store_true", help="step sizes of one head and of two")
    args = parser.parse_args()
    source, teacher, settings = digits(args) if args.data == "digits" else cifar10(args)
    seeds = range(1 if args.quick else args.seeds or (5 if args.data == "digits" else 3))
    if args.sweep:
        swept(args, source, teacher, settings, seeds)
        return
    rows = {name: method for name, method in methods(args.data).items() if not args.only or name in args.only}
    found: dict[str, Any] = {}
    first = None
    for name, method in rows.items():
        twice = {"epochs": 2 * settings["epochs"]} if name == LONGER else {}
        method = dataclasses.replace(method, **settings | twice)
        folder = args.out / args.data / name.replace(" ", "-").replace(",", "")
        made = [
            attar.distill(source, method, teacher=teacher, out=folder / str(seed), seed=seed, engine=Engine(quiet=True))
            for seed in seeds
        ]
        found[name] = {
            "values": [student.scores["student"] for student in made],
            "seconds": round(statistics.fmean(seconds(folder / str(seed)) for seed in seeds), 1),
            "settings": method.to_json(),
        }
        print(name, found[name]["values"], flush=True)
        first = first or made[0]  # the last rows of the digits have two classes
    assert first is not None
    Console(soft_wrap=True).print(as_text(table(found)))
    print(f"teacher {first.scores['teacher']:.1f} %: {first.origin.teacher}; student {first.origin.student}")
    if not args.quick:
        origin = dataclasses.asdict(first.origin)
        sizes = {who: origin[who] for who in ("teacher", "student")}
        record = {"machine": harness.machine(), "teacher": first.scores["teacher"], "sizes": sizes, "rows": found}
        harness.record(f"distillation_{args.data}.json", record, beside=True)


def swept(
    args: argparse.Namespace, source: ImageSource, teacher: torch.nn.Module, settings: dict[str, Any], seeds: range
) -> None:
    """The same losses at several step sizes."""
    rows = {name: method for name, method in HEADS.items() if not args.only or name in args.only}
    folder = args.out / args.data / "sweep"
    rates = RATES[::3] if args.quick else RATES
    found = sweep(source, teacher, rows, rates=rates, seeds=seeds, out=folder, engine=Engine(quiet=True), **settings)
    print(found)
    if {"KD", "DHKD"} <= set(found.cells):
        told = ", ".join(f"{gap} at {rate:g}" for gap, rate in zip(found.against("DHKD", "KD"), rates, strict=True))
        print(f"DHKD over KD: {told}")
    if not args.quick:
        harness.record(f"distillation_{args.data}_sweep.json", {"machine": harness.machine(), **found.to_json()})


def seconds(folder: Path) -> float:
    """What a run took, wherever it was stopped in between."""
    return json.loads((folder / "run" / "cost.json").read_text(encoding="utf-8"))["seconds"]


def digits(args: argparse.Namespace) -> tuple[ImageSource, torch.nn.Module, dict[str, Any]]:
    """300 of the digits, a teacher of all of them, a student of 374 parameters."""
    whole = attar.load("digits")
    source = whole.subset(torch.cat([rows[:30] for rows in whole.rows_of]))
    teacher = teacher_named("convnet:norm=batch,width=64", whole, Runtime(Engine(quiet=True)))
    epochs = args.epochs or (2 if args.quick else 100)
    return source, teacher, {"student": "convnet:norm=batch,width=4", "epochs": epochs, "views": 10}


def cifar10(args: argparse.Namespace) -> tuple[ImageSource, torch.nn.Module, dict[str, Any]]:
    """5,000 images, a teacher of the same, a student a tenth of its size."""
    root = os.environ.get("ATTAR_DATA")
    if root is None:
        raise SystemExit("set ATTAR_DATA to the folder that holds cifar10")
    whole = attar.load(Path(root) / "cifar10", statistics="cifar10")
    source = whole.subset(torch.cat([rows[:500] for rows in whole.rows_of]))
    few = 10 if args.quick else len(source.train)
    source = source if not args.quick else whole.subset(torch.cat([rows[:few] for rows in whole.rows_of]))
    teacher = attar.distill(
        source,
        attar.Alone(student="convnet:norm=batch,width=64", epochs=1 if args.quick else 60),
        out=args.out / args.data / "teacher",
        engine=Engine(quiet=True),
    )
    epochs = args.epochs or (1 if args.quick else 40)
    return source, teacher.network, {"student": "convnet:norm=batch,width=16", "epochs": epochs, "views": 4}


def methods(data: str) -> dict[str, Distillation]:
    """Rows of the table; each sheet's strongest simple rival among them."""
    subclass = {"group": PARITY}
    found = {
        ALONE: attar.Alone(),
        "label smoothing": attar.Alone(smoothing=0.1),
        LONGER: attar.Alone(),
        KD: attar.KD(),
        "KD, standardised": attar.KD(standardise=True, temperature=2.0, teacher_weight=9.0),
        "KD, both weights 1": attar.KD(label_weight=1.0, teacher_weight=1.0),
        "DKD": attar.DKD(),
        "DKD, β 8": attar.DKD(beta=8.0),
        "DIST": attar.DIST(),
        "FitNets": attar.FitNets(),
        "FitNets, then KD": attar.FitNets(hint_share=0.3, teacher_weight=0.9, label_weight=0.1),
        "attention": attar.AttentionTransfer(),
        "RKD": attar.RKD(),
        "SP": attar.SP(),
        "PKT": attar.PKT(),
        "VID": attar.VID(),
        "CC": attar.CC(),
        "CC, kernel": attar.CC(congruence="kernel"),
        "NST": attar.NST(),
        "CRD": attar.CRD(),
        "CRD + KD": attar.CRD(teacher_weight=1.0),
        "ReviewKD": attar.ReviewKD(),
        "ReviewKD, wide fusions": attar.ReviewKD(fusion_channels=256),
        "ND alone": attar.ND(base="none"),
        "KD++": attar.ND(),
        "DKD++": attar.ND(base="dkd"),
        "ReviewKD++": attar.ND(base="reviewkd"),
        "DHKD": attar.DHKD(),
        "DHKD, one head": attar.DHKD(head="shared", alignment="off"),
        "DHKD, not aligned": attar.DHKD(alignment="off"),
    }
    if data == "digits":
        found |= {
            "two classes": attar.SubclassKD(**subclass, teacher_weight=0.0),
            "two classes, class KD": attar.SubclassKD(**subclass, level="class"),
            "subclass labels": attar.SubclassKD(**subclass, teacher_weight=0.0, hard="subclass"),
            "SKD": attar.SubclassKD(**subclass),
        }
    return found


def table(found: dict[str, Any]) -> Table:
    """Accuracy, and differences paired by seed."""
    shown = Table("method", "accuracy %", "over the student alone", "over KD", "seconds")
    alone, kd = (found.get(name, {}).get("values") for name in (ALONE, KD))
    for name, row in found.items():
        values, two = row["values"], name.startswith(("two classes", "subclass", "SKD"))
        against = found.get("two classes", {}).get("values") if two else alone
        rival = found.get("subclass labels", {}).get("values") if two else kd
        cells = [str(paired(values, other)) if other and other is not values else "" for other in (against, rival)]
        shown.add_row(name, Score.of(values).number, *cells, f"{row['seconds']:.1f}")
    return shown


if __name__ == "__main__":
    main()
