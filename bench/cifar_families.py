"""CIFAR-10 at one image per class by one method of each family, published numbers beside, at what two cores can afford.

    ATTAR_DATA=... python bench/cifar_families.py --quick    # does it run
    ATTAR_DATA=... python bench/cifar_families.py            # recorded in bench/results/cifar_families.json

A fifth of the training images (1,000 of each class) is what is matched, and trains the experts and the network whose
statistics are used (32 filters; all others 128, in three blocks). Networks are trained by the quick protocol and tested
on all test images. Published figures have all images, 5,000 to 20,000 steps, 1,000 epochs, whitening, and the best
checkpoint.
"""

import argparse
import os
from pathlib import Path

import harness
import torch

from attar.bench.grid import row_named
from attar.bench.tables import Plan, run
from attar.core.runtime import Engine
from attar.images.networks.architecture import Architecture
from attar.images.sources import load

PER_CLASS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--out", type=Path, default=Path("runs") / "cifar-families", help="where the runs go")
    parser.add_argument("--sets", type=int, default=2, help="condensed sets per cell")
    parser.add_argument("--networks", type=int, default=2, help="networks per set")
    args = parser.parse_args()
    root = os.environ.get("ATTAR_DATA")
    if root is None:
        raise SystemExit("set ATTAR_DATA to the folder that holds cifar10")
    whole = load(Path(root) / "cifar10", statistics="cifar10")
    source = whole.subset(torch.cat([rows[: 20 if args.quick else PER_CLASS] for rows in whole.rows_of]))
    rows = tuple(row_named(text, args.sets, args.networks) for text in methods(quick=args.quick))
    about = f"{len(source.train):,} of {len(whole.train):,} training images"
    plan = Plan(source, (1,), rows, "quick", Architecture(width=8 if args.quick else 128), about)
    found = run(plan, "cifar10", args.out, "skip", Engine(quiet=True))
    if not args.quick:
        harness.record("cifar_families.json", {"machine": harness.machine(), "about": about, **found})


def methods(*, quick: bool) -> list[str]:
    """One of each family, and what they have to beat."""
    steps, width = (2, ",width=8") if quick else (60, "")
    observer = f",teacher.width={8 if quick else 32}"
    students = f"steps={max(1, steps // 3)},last_start=2,lr=100,lr_lr=1e-6,experts=2,experts.batch=64{width}"
    return [
        "random",
        "class-mean",
        f"dm:steps={2 * steps}{width}",
        f"dsa:network_draws={steps},matches=1{width}",
        f"dcc:network_draws={max(1, steps // 10)},matches=10,network_epochs=5{width}",
        f"mtt:{students}",
        f"sre2l:block_steps={3 * steps},labels=hard{observer}",
        f"relabel:teachers=1{observer}",
    ]


if __name__ == "__main__":
    main()
