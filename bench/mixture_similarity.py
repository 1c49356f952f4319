"""Similarities of Gaussian mixtures and of KMCL's kernels, forward and backward, against what one writes first.

    python bench/mixture_similarity.py --quick    # does it run
    python bench/mixture_similarity.py            # recorded in bench/results/mixture_similarity.json

ProbMCL's log correlation of all pairs of a batch, against a broadcast over samples, components and coordinates. KMCL's
loss against a loop over anchors with coefficients of all classes, as in the authors' code, with the correct exponent;
attar leaves out classes of one sample, which have no weight. "all coefficients" computes all of them on
both sides. Each side runs on one thread in a process of its own. Memory is what the process holds at most above what it
held before. Both sides must agree in the loss and in the gradient of the means.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import torch
from torch import Tensor

from attar.embeddings.multilabel.kernels import bhattacharyya, kernel_contrast, kmcl_loss
from attar.embeddings.multilabel.mixtures import Mixtures, log_correlation

PARTS: dict[str, dict[str, Any]] = {
    "mixtures, isotropic": {"samples": 128, "components": 20, "d": 16, "target": 15, "target_mb": 50},
    "mixtures, diagonal": {"samples": 128, "components": 20, "d": 16, "diagonal": True},
    "mixtures of 80 components": {"samples": 128, "components": 80, "d": 64, "alone": True, "target_mb": 200},
    "kernels, diagonal": {"samples": 64, "classes": 80, "d": 128, "target": 6, "target_memory": 1 / 8},
    "kernels, isotropic": {"samples": 64, "classes": 80, "d": 0},
    "kernels, all coefficients": {
        **{"samples": 64, "classes": 80, "d": 128, "all": True},
        **{"target": 6, "target_memory": 1 / 8},
    },
}
"""Sizes, how many times faster than the rival it should be, and megabytes, or the share of the rival's, at most."""
QUICK = {"samples": 6, "components": 3, "classes": 5}
LABELS = 0.036
"""Share of labels that are yes, as in COCO."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; records nothing")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side, which take turns")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in PARTS.items():
            sizes = {key: min(value, QUICK.get(key, value)) if args.quick else value for key, value in part.items()}
            found[name] = compared(name, sizes, Path(folder), 1 if args.quick else args.rounds)
            print(told(name, found[name]), flush=True)
    if not args.quick:
        harness.record("mixture_similarity.json", {"machine": harness.machine(), "parts": found}, by_machine=True)


def compared(name: str, sizes: dict[str, Any], folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds and megabytes of both sides."""
    sides = ["attar"] if sizes.get("alone") else ["attar", "rival"]
    reports: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            asked = {"side": side, "kernels": "classes" in sizes, "sizes": json.dumps(sizes)}
            reports[side].append(harness.in_own_process(__file__, "work", folder, **asked))
    for value in ("loss", "gradient"):
        seen = [report[0][value] for report in reports.values()]
        assert max(seen) - min(seen) <= 1e-3 * max(abs(max(seen)), 1e-6), (name, value, seen)
    row: dict[str, Any] = {"sizes": sizes}
    for side, those in reports.items():
        seconds = statistics.median(one["seconds"] for one in those)
        row[side] = {"seconds": seconds, "mb": max(one["mb"] for one in those)}
    if len(sides) == 2:
        row["ratio"] = row["rival"]["seconds"] / row["attar"]["seconds"]
        row["memory"] = row["attar"]["mb"] / row["rival"]["mb"]
    return row


def told(name: str, row: dict[str, Any]) -> str:
    """One line about a part."""
    sizes = row["sizes"]
    line = f"{name}: attar {row['attar']['seconds']:.3f} s, {row['attar']['mb']:.0f} MB"
    if "ratio" in row:
        line += f"; rival {row['rival']['seconds']:.3f} s, {row['rival']['mb']:.0f} MB: {row['ratio']:.1f}x"
    targets = {"target": "{}x", "target_mb": "{} MB", "target_memory": "{} of its memory"}
    wanted = [form.format(sizes[key]) for key, form in targets.items() if key in sizes]
    return line + (f" (target {', '.join(wanted)})" if wanted else "")


def work(folder: str, side: str, kernels: bool, sizes: str) -> dict[str, float]:
    """Time one side in this process."""
    torch.set_num_threads(1)
    given = json.loads(sizes)
    loss, means = (of_kernels if kernels else of_mixtures)(given, side == "rival")

    def step() -> float:
        means.grad = None
        value = loss()
        value.backward()
        return value.item()

    before = harness.peak_mb()
    value = step()
    assert means.grad is not None
    facts = {"loss": value, "gradient": float(means.grad.norm()), "mb": harness.peak_mb() - before}
    _, taken = harness.seconds_each(step, 1, 5 if side == "attar" else 2)
    return {**facts, "seconds": statistics.median(taken)}


def of_mixtures(sizes: dict[str, Any], rival: bool) -> tuple[Callable[[], Tensor], Tensor]:
    """A function of random mixtures, and their means."""
    draw = torch.Generator().manual_seed(0)
    shape = (sizes["samples"], sizes["components"], sizes["d"])
    weights = torch.randn(shape[:2], generator=draw).log_softmax(dim=1)
    means = torch.randn(shape, generator=draw).requires_grad_()
    variances = 1 + torch.rand(shape if sizes.get("diagonal") else shape[:2], generator=draw)
    leaves = Mixtures(weights.requires_grad_(), means, variances.requires_grad_())
    other = torch.rand(shape[0], shape[0], generator=draw)
    of = broadcast if rival else log_correlation
    return lambda: (other * of(leaves)).sum(), means


def broadcast(mixtures: Mixtures) -> Tensor:
    """log C, as one writes it first."""
    log_weights, means, variances = mixtures
    apart = (means[:, None, :, None] - means[None, :, None, :]).square()
    if mixtures.diagonal:
        spread = variances[:, None, :, None] + variances[None, :, None, :]
        exponent = (apart / spread + (2 * math.pi * spread).log()).sum(dim=-1)
    else:
        spread = variances[:, None, :, None] + variances[None, :, None, :]
        exponent = apart.sum(dim=-1) / spread + means.shape[2] * (2 * math.pi * spread).log()
    weights = log_weights[:, None, :, None] + log_weights[None, :, None, :]
    inner = (weights - exponent / 2).logsumexp(dim=(2, 3))
    own = inner.diagonal()
    return inner - (own[:, None] + own) / 2


def of_kernels(sizes: dict[str, Any], rival: bool) -> tuple[Callable[[], Tensor], Tensor]:
    """KMCL's loss of random kernels, and their means."""
    draw = torch.Generator().manual_seed(0)
    shape = (sizes["samples"], sizes["classes"], *([sizes["d"]] if sizes["d"] else []))
    means = torch.randn(shape, generator=draw).requires_grad_()
    variances = (1 + torch.rand(shape, generator=draw)).requires_grad_()
    labels = torch.rand(shape[:2], generator=draw) < LABELS
    labels[:2, 0] = True
    if rival:
        return lambda: over_anchors(means, variances, labels), means
    if sizes.get("all"):
        return lambda: kernel_contrast(bhattacharyya(means, variances), labels), means
    return lambda: kmcl_loss(means, variances, labels, features=1), means


def over_anchors(means: Tensor, variances: Tensor, labels: Tensor, tau: float = 0.17) -> Tensor:
    """The same, one anchor after the other."""
    present = labels.to(means.dtype)
    shared, counts = present @ present.T, present.sum(dim=1)
    index = shared / (counts[:, None] + counts - shared).clamp(min=1)
    total = means.new_zeros(())
    for anchor in range(len(means)):
        spread = variances[anchor] + variances
        uneven = (spread / (2 * (variances[anchor] * variances).sqrt())).log()
        exponent = -uneven / 2 - (means[anchor] - means).square() / spread / 4
        logits = (exponent if means.ndim == 2 else exponent.sum(dim=2)).exp() / tau
        others = torch.arange(len(means)) != anchor
        near = (shared[anchor] > 0) & others
        if near.any():
            log_share = logits - logits[others].logsumexp(dim=0)
            weights = index[anchor] * near / near.sum()
            total = total - (weights[:, None] * present[anchor] * present * log_share).sum()
    return total / (counts > 0).sum()


if __name__ == "__main__":
    if not harness.run_worker({"work": work}):
        sys.exit(main())
