"""SupCon and NT-Xent, forward and backward, attar against pytorch-metric-learning, on one thread.

    pip install pytorch-metric-learning --no-deps --target FOLDER, and put FOLDER on PYTHONPATH
    python bench/contrast.py --quick     # does it run
    python bench/contrast.py             # the numbers, recorded in bench/results/contrast.json

Random embeddings of 128 numbers, two views of each sample, ten classes. First both must find the same loss and the same
gradient; then each is timed in processes of its own, in turn. `plain` is attar's loss without chunks, through the whole
matrix of logits. Memory is what a step needs above what the process held before its first one.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import harness
import torch
import torch.nn.functional as F
from torch import Tensor

from attar.embeddings.contrast import contrast
from attar.embeddings.losses import nt_xent, sup_con

WIDTH, CLASSES, TEMPERATURE = 128, 10, 0.1
TARGETS = {"supcon-2048": {"ratio": 2.0, "memory": 5.0}, "nt_xent-512": {"ratio": 100.0}}
"""Least ratios of the rival's seconds, and of its memory, to attar's."""
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--rounds", type=int, default=3, help="times that all sides take turns")
    parser.add_argument("--steps", type=int, default=30, help="steps timed of 2B = 2,048 (NT-Xent of the rival: 1)")
    args = parser.parse_args()
    sizes = {"supcon": [512, 2048], "nt_xent": [512]}
    if args.quick:
        sizes, args.rounds, args.steps = {"supcon": [128], "nt_xent": [64]}, 1, 2
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check = {loss: harness.in_own_process(__file__, "check", folder, loss=loss) for loss in sizes}
        print(f"same loss and gradient, largest relative errors: {check}", flush=True)
        for loss, counts in sizes.items():
            for count in counts:
                found[f"{loss}-{count}"] = compared(folder, loss, count, args)
                print(described(f"{loss}-{count}", found[f"{loss}-{count}"]), flush=True)
    if not args.quick:
        setting = {"width": WIDTH, "classes": CLASSES, "temperature": TEMPERATURE, "rival": version()}
        result = {"machine": harness.machine() | {"threads": 1}, "setting": setting, "check": check, "rows": found}
        harness.record("contrast.json", result, by_machine=True)


def compared(folder: Path, loss: str, count: int, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of all sides."""
    sides, steps = {}, args.steps * max(1, (2048 // count) ** 2)  # short steps vary more
    for side in ("rival", "attar", "plain"):
        slow = side == "rival" and loss == "nt_xent" and not args.quick
        sides[side] = ("time", {"side": side, "loss": loss, "count": count, "steps": 1 if slow else steps})
    row = harness.in_turns(__file__, folder, sides, args.rounds)
    kept = ("ratio", "seconds", "seconds_of_each_process", "peak_mb")
    memory = {side: row["peak_mb"]["rival"] / max(row["peak_mb"][side], 1.0) for side in ("attar", "plain")}
    return {name: row[name] for name in kept} | {"memory": memory, "target": TARGETS.get(f"{loss}-{count}", {})}


def described(name: str, row: dict[str, Any]) -> str:
    sides = ", ".join(
        f"{side} {row['seconds'][side] * 1e3:.1f} ms and {row['peak_mb'][side]:.0f} MB" for side in row["seconds"]
    )
    return f"{name}: {sides}; {row['ratio']['attar']:.1f} times as fast, 1/{row['memory']['attar']:.1f} of the memory"


def version() -> str:
    import pytorch_metric_learning

    return f"pytorch-metric-learning {pytorch_metric_learning.__version__}"


# ------------------------------------------------------------------------------------------- in processes of their own


def inputs(count: int) -> tuple[Tensor, Tensor]:
    """Embeddings of both views of all samples, and their classes."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(count, WIDTH, generator=generator).requires_grad_()
    return z, torch.randint(CLASSES, (count // 2,), generator=generator).repeat(2)


def loss_of(side: str, loss: str, z: Tensor, classes: Tensor) -> Tensor:
    """The loss as a side computes it."""
    samples = torch.arange(len(z) // 2).repeat(2)
    labels = classes if loss == "supcon" else samples
    if side == "plain":
        unit, own = F.normalize(z), torch.eye(len(z), dtype=torch.bool)
        return contrast(unit @ unit.T / TEMPERATURE, (labels[:, None] == labels) & ~own, ~own)
    if side == "attar":
        first, second = z.chunk(2)
        return sup_con(z, labels, TEMPERATURE) if loss == "supcon" else nt_xent(first, second, TEMPERATURE)
    from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

    rival = SupConLoss(TEMPERATURE) if loss == "supcon" else NTXentLoss(TEMPERATURE)
    found: Tensor = rival(z, labels)
    return found


def check(folder: str, loss: str) -> dict[str, float]:
    """Largest relative errors of attar's loss and gradient against the rival's."""
    z, classes = inputs(128)
    values = {side: loss_of(side, loss, z, classes) for side in ("attar", "plain", "rival")}
    gradients = {side: torch.autograd.grad(value, z)[0] for side, value in values.items()}
    errors = {}
    for side in ("attar", "plain"):
        gap = (gradients[side] - gradients["rival"]).norm() / gradients["rival"].norm()
        errors[side] = max(float((values[side] / values["rival"] - 1).detach().abs()), float(gap))
    if max(errors.values()) > 1e-4:
        raise SystemExit(f"the sides disagree about {loss}: {errors}")
    return errors


def time(folder: str, side: str, loss: str, count: int, steps: int) -> dict[str, float]:
    """Seconds of a step, and megabytes above those that were held before."""
    torch.set_num_threads(1)

    def step(z: Tensor, classes: Tensor) -> None:
        z.grad = None
        loss_of(side, loss, z, classes).backward()

    step(*inputs(32))  # loads what is loaded once
    z, classes = inputs(count)
    z.grad = torch.zeros_like(z)
    before = held("VmRSS")
    CLEAR.write_text("5", encoding="utf-8")  # forgets the highest mark so far
    first, taken = harness.seconds_each(lambda: step(z, classes), 3 if steps > 1 else 0, steps)
    median = sorted(taken)[len(taken) // 2]
    return {"seconds": median, "first_extra_seconds": first - median, "peak_mb": held("VmHWM") - before}


def held(mark: str) -> float:
    """Megabytes that this process holds (VmRSS), or has held at most (VmHWM)."""
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(mark))
    return int(line.split()[1]) / 1024


if __name__ == "__main__" and not harness.run_worker({"check": check, "time": time}):
    main()
