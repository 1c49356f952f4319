"""Mean average precision of several labels, attar against scikit-learn, with exact ties on both sides.

    python bench/multilabel_map.py --quick    # does it run
    python bench/multilabel_map.py            # recorded in bench/results/multilabel_map.json

40,000 samples of 80 classes, as many as COCO's validation images; scores are random, and again rounded to two decimals,
so that nearly all of them tie. 3.6 % of the labels are yes, as in COCO. Both sides take turns on one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import harness
import torch
from sklearn.metrics import average_precision_score

from attar.embeddings.metrics import average_precision

SAMPLES, CLASSES, SHARE = 40_000, 80, 0.036
TARGET = 1.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    samples, rounds = (2_000, 1) if args.quick else (SAMPLES, 7)
    found = {name: compare(samples, decimals, rounds) for name, decimals in (("distinct", 7), ("ties", 2))}
    for name, row in found.items():
        ours, theirs = row["attar"], row["scikit-learn"]
        print(f"{name}: scikit-learn {theirs:.3f} s, attar {ours:.3f} s: {theirs / ours:.2f}x (target {TARGET})")
    if not args.quick:
        facts = {"samples": SAMPLES, "classes": CLASSES, "labels": SHARE, "target": TARGET, "seconds": found}
        harness.record("multilabel_map.json", {"machine": harness.machine(), **facts}, by_machine=True)


def compare(samples: int, decimals: int, rounds: int) -> dict[str, float]:
    """Median seconds of each side; their results must agree."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(samples, CLASSES, generator=draw).round(decimals=decimals)
    labels = torch.rand(samples, CLASSES, generator=draw) < SHARE

    def theirs() -> torch.Tensor:
        return torch.from_numpy(average_precision_score(labels.numpy(), scores.numpy(), average=None))

    def ours() -> torch.Tensor:
        return average_precision(scores, labels)

    torch.testing.assert_close(ours(), theirs(), rtol=0, atol=1e-12)
    sides: dict[str, Callable[[], torch.Tensor]] = {"attar": ours, "scikit-learn": theirs}
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, measure in sides.items():
            start = time.perf_counter()
            measure()
            taken[side].append(time.perf_counter() - start)
    return {side: statistics.median(values) for side, values in taken.items()}


if __name__ == "__main__":
    main()
