"""DCC's claim where it lives: classes that look alike. Six dogs and five cats of Tiny-ImageNet, at 32 pixels.

    ATTAR_DATA=... python bench/fine_grained.py --quick    # does it run
    ATTAR_DATA=... python bench/fine_grained.py            # the tables, recorded in bench/results/fine_grained.json

Class by class (DC, DSA) against all classes together (DCC, without and with augmentation), the former with DCC's loops
as well as their own, beside random selection and class means. ConvNet of three blocks and 32 filters, same seeds for
every method, networks trained by the quick protocol.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import harness

from attar.bench.grid import row_named
from attar.bench.tables import Plan, run
from attar.core.runtime import Engine
from attar.images.networks.architecture import Architecture
from attar.images.sources import ImageSource, load

BREEDS = {
    "dogs": ("chihuahua", "yorkshire", "golden_retriever", "labrador", "german_shepherd", "standard_poodle"),
    "cats": ("tabby", "persian", "cougar", "lion", "egyptian"),
}
"""Words by which the classes are found among the data's names."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--out", type=Path, default=Path("runs") / "fine-grained", help="where the runs go")
    parser.add_argument("--groups", nargs="+", choices=list(BREEDS), default=list(BREEDS), help="which classes")
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10], help="images per class")
    parser.add_argument("--sets", type=int, default=4, help="condensed sets per cell")
    parser.add_argument("--networks", type=int, default=3, help="networks per set")
    args = parser.parse_args()
    root = os.environ.get("ATTAR_DATA")
    if root is None:
        raise SystemExit("set ATTAR_DATA to the folder that holds tiny-imagenet-43")
    whole = load(Path(root) / "tiny-imagenet-43", size=32)
    width, sets = (8, 1) if args.quick else (32, args.sets)
    found: dict[str, Any] = {}
    for name in args.groups:
        source = breeds(whole, name)
        for ipc in args.ipc:
            rows = tuple(row_named(text, sets, args.networks) for text in methods(ipc, width, quick=args.quick))
            about = f"{name}: {', '.join(source.classes)}"
            plan = Plan(source, (ipc,), rows, "quick", Architecture(width=width), about)
            found[f"{name}, {ipc}"] = run(plan, name, args.out / name, "run", Engine(quiet=True))
    if not args.quick:
        harness.record("fine_grained.json", {"machine": harness.machine(), "tables": found})


def breeds(whole: ImageSource, name: str) -> ImageSource:
    """The classes of a group, by the words in their names."""
    plain = [text.lower().replace(" ", "_").replace("-", "_") for text in whole.classes]
    labels = [label for label, text in enumerate(plain) if any(word in text for word in BREEDS[name])]
    return whole.with_classes(labels)


def methods(ipc: int, width: int, *, quick: bool) -> list[str]:
    """Every method with as many matches: one by one with DC's own loops, then all with DCC's."""
    count = 2 if quick else 200 if ipc == 1 else 100
    loops = (10, 5) if ipc == 1 else (10, 50)
    theirs = f"network_draws={max(1, count // loops[0])},matches={loops[0]},network_epochs={loops[1]},width={width}"
    found = ["random", *(["class-mean"] if ipc == 1 else [])]
    if ipc == 1:
        found += [f"dsa:network_draws={count},matches=1,network_epochs=0,width={width}"]
    found += [f"dc:{theirs},start=real", f"dsa:{theirs}", f"dcc:{theirs},augmentation=none", f"dcc:{theirs}"]
    return found


if __name__ == "__main__":
    main()
