"""V² of latent codes, forward and backward, against the loop over groups of the public code.

    python bench/dependence.py --quick    # does it run
    python bench/dependence.py            # recorded in bench/results/dependence.json

The rival restates, from its formula, what FairDisCo's public code does (SoftWiser-group/FairDisCo, `calculate_dis`):
for each group, a tensor of all its pairs with all rows, of all dimensions at once, through autograd. Its small number
in the denominators is left out, so that both sides must agree. Each side runs on one thread in a process of its own;
memory is what the process holds at most above what it held before. "spectral" is another objective, timed beside.
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

from attar.tables.dependence import dependence, spectral_dependence

PARTS: dict[str, dict[str, Any]] = {
    "two groups": {"rows": 2048, "latents": 8, "groups": 2, "target": 20},
    "five groups": {"rows": 2048, "latents": 8, "groups": 5},
    "a batch of 512": {"rows": 512, "latents": 8, "groups": 2},
    "8,192 rows": {"rows": 8192, "latents": 8, "groups": 2, "alone": True},
}
"""Sizes, and how many times faster than the rival it should be. The largest would cost the rival too much memory."""
QUICK = {"rows": 64}
FREQUENCIES = 256


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
        harness.record("dependence.json", {"machine": harness.machine(), "parts": found}, by_machine=True)


def compared(name: str, sizes: dict[str, Any], folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds and megabytes of each side, which must agree in value and gradient."""
    sides = ["attar", "spectral", *([] if sizes.get("alone") else ["rival"])]
    reports: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            reports[side].append(harness.in_own_process(__file__, "work", folder, side=side, sizes=json.dumps(sizes)))
    if "rival" in reports:
        for value in ("value", "gradient"):
            ours, theirs = (reports[side][0][value] for side in ("attar", "rival"))
            assert abs(ours - theirs) <= 2e-3 * abs(theirs), (name, value, ours, theirs)
            ours, theirs = (reports[side][0][f"exact {value}"] for side in ("attar", "rival"))
            assert abs(ours - theirs) <= 1e-9 * abs(theirs), (name, value, ours, theirs)
    row: dict[str, Any] = {"sizes": sizes}
    for side, those in reports.items():
        seconds = statistics.median(one["seconds"] for one in those)
        row[side] = {"seconds": seconds, "mb": max(one["mb"] for one in those), "value": those[0]["value"]}
    if "rival" in row:
        row["ratio"] = row["rival"]["seconds"] / row["attar"]["seconds"]
        row["memory"] = row["attar"]["mb"] / row["rival"]["mb"]
    return row


def told(name: str, row: dict[str, Any]) -> str:
    """One line about a part."""
    line = f"{name}: " + ", ".join(
        f"{side} {1000 * row[side]['seconds']:.1f} ms and {row[side]['mb']:.0f} MB"
        for side in ("attar", "rival", "spectral")
        if side in row
    )
    if "ratio" in row:
        line += f"; {row['ratio']:.1f}x"
    if "target" in row["sizes"]:
        line += f" (wanted {row['sizes']['target']}x)"
    return line


def work(folder: str, side: str, sizes: str) -> dict[str, Any]:
    """Seconds of a value and its gradient, and what both are."""
    torch.set_num_threads(1)
    plain = json.loads(sizes)
    mean, log_variance, groups = codes(plain)
    frequencies = torch.randn(FREQUENCIES, plain["latents"], generator=torch.Generator().manual_seed(1))
    forms: dict[str, Callable[..., Tensor]] = {
        "attar": dependence,
        "rival": by_group,
        "spectral": lambda *given: spectral_dependence(*given, frequencies.to(given[0].dtype)),
    }
    form = forms[side]

    def step(dtype: torch.dtype = torch.float32) -> tuple[float, float]:
        given = [one.detach().to(dtype, copy=True).requires_grad_() for one in (mean, log_variance)]
        value = form(*given, groups)
        value.backward()
        return float(value.detach()), float(sum(one.grad.abs().sum() for one in given))  # type: ignore[union-attr,misc]

    before = harness.peak_mb()
    found = step()
    most = harness.peak_mb() - before
    _, taken = harness.seconds_each(step, 1, 2 if side == "rival" else 5)
    report = {"seconds": statistics.median(taken), "mb": most, "value": found[0], "gradient": found[1]}
    if not plain.get("alone"):
        exact = step(torch.float64)
        report |= {"exact value": exact[0], "exact gradient": exact[1]}
    return report


def codes(sizes: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Codes such as a half-trained teacher has: groups a little apart."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.randint(sizes["groups"], (sizes["rows"],), generator=generator)
    mean, spread = torch.randn(2, sizes["rows"], sizes["latents"], generator=generator)
    return mean + 0.3 * groups[:, None], 0.3 * spread - 1.5, groups


def by_group(mean: Tensor, log_variance: Tensor, groups: Tensor) -> Tensor:
    """V² as a loop over groups, with tensors of all pairs and all dimensions."""
    variance = log_variance.exp()

    def density(one: Tensor, other: Tensor) -> Tensor:
        spread = variance[one][:, None] + variance[other]
        gap = (mean[one][:, None] - mean[other]) ** 2 / spread
        height = (2 * math.pi * spread).prod(dim=2).sqrt()
        return (torch.exp(-gap.sum(dim=2) / 2) / height).mean()

    everyone = torch.ones_like(groups, dtype=torch.bool)
    together, total = density(everyone, everyone), mean.new_zeros(())
    for group in range(int(groups.max()) + 1):
        own = groups == group
        share = own.sum() / len(groups)
        total = total + share**2 * (together + density(own, own) - 2 * density(own, everyone))
    return total


if __name__ == "__main__" and not harness.run_worker({"work": work}):
    sys.exit(main())
