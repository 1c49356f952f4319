"""One training step of samplers on digits: attar's fused optimiser and bfloat16 networks against the plain eager step.

    python bench/sampler_steps.py --quick     # does it run
    python bench/sampler_steps.py             # the numbers, recorded in bench/results/sampler_steps.json

The network is the usual one of digits, a residual MLP of three blocks of 384 units. `edm` is the step of EDM;
`consistency` is one of a student: the teacher's step along its ODE, the target, and the student's step. The plain side
multiplies in float32 and updates one parameter after the other, as released code does. First both sides take the same
steps from the same draws and must find the same losses to one per cent; then each is timed in processes of its own, in
turn. Where the CPU does not multiply bfloat16 natively, attar's side leaves it out, and the ratio is of the optimiser.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import harness
import torch

from attar.core.runtime import Engine, Runtime
from attar.samplers.consistency import Consistency
from attar.samplers.edm import EDM
from attar.samplers.reading import Reading
from attar.samplers.teaching import Work

METHODS = {"edm": EDM, "consistency": Consistency}
TARGET = 1.8
AGREE = 0.01
"""Losses of both sides differ by no more than this share."""
COMPARED = 30
"""Steps whose mean loss is compared."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 256, 512], help="samples per step")
    parser.add_argument("--rounds", type=int, default=3, help="times that both sides take turns")
    parser.add_argument("--steps", type=int, default=60, help="steps timed in each process")
    args = parser.parse_args()
    if args.quick:
        args.batch, args.rounds, args.steps = [128], 1, 4
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for method in METHODS:
            found[method] = {}
            for batch in args.batch:
                row = compared(Path(name), method, batch, args)
                found[method][str(batch)] = row
                print(
                    f"{harness.described(f'{method}, batch {batch}', row)} (target {TARGET}); "
                    f"losses differ by {row['loss_gap']:.2g}",
                    flush=True,
                )
    if not args.quick:
        setting = {"data": "digits", "network": "mlp:width=384,depth=3", "target": TARGET, "bfloat16": bfloat16()}
        result = {"machine": harness.machine(), "setting": setting, "steps": found}
        harness.record("sampler_steps.json", result, by_machine=True)


def compared(folder: Path, method: str, batch: int, args: argparse.Namespace) -> dict[str, Any]:
    """The losses of both sides on the same draws, then their times in turn.

    Raises:
        SystemExit: The losses differ.
    """
    how = {"method": method, "batch": batch}
    losses = [harness.in_own_process(__file__, "losses", folder, fast=fast, **how) for fast in (False, True)]
    gap = abs(losses[1] / losses[0] - 1)
    if gap > AGREE:
        raise SystemExit(f"{method}, batch {batch}: losses {losses[0]:.4g} and {losses[1]:.4g} are not the same")
    sides = {
        side: ("step", {**how, "fast": fast, "steps": args.steps}) for side, fast in (("plain", False), ("attar", True))
    }
    return {**harness.in_turns(__file__, folder, sides, args.rounds, against="plain"), "loss_gap": gap}


def bfloat16() -> bool:
    """Whether attar's side multiplies in bfloat16 on this machine."""
    return Runtime(Engine(device="cpu", quiet=True), 0).multiplies_bfloat16


# ------------------------------------------------------------------------------------------- in processes of their own


def started(method: str, batch: int, fast: bool) -> tuple[Any, Any, Runtime]:
    """A resolved method, its state before the first step, and the machine."""
    runtime = Runtime(Engine(device="cpu", compile="off", quiet=True), 0)
    work = Work(Reading().load("digits"))
    teacher = EDM(steps=1, batch=batch, half="off")
    if method != "edm":
        resolved = teacher.resolve(work, runtime)
        work = Work(work.source, resolved.result(resolved.build(work, runtime), runtime))
    made = METHODS[method](batch=batch, steps=100_000, half="auto" if fast else "off").resolve(work, runtime)
    state = made.build(work, runtime)
    if not fast:
        state.optimizer = torch.optim.Adam(list(state.student.parameters()), lr=made.lr, foreach=False, fused=False)
    return made, state, runtime


def losses(folder: str, method: str, batch: int, fast: bool) -> float:
    """The mean loss of the first steps."""
    made, state, runtime = started(method, batch, fast)
    return statistics.mean(float(made.step(state, runtime)["loss"]) for _ in range(COMPARED))


def step(folder: str, method: str, batch: int, fast: bool, steps: int) -> dict[str, float]:
    """The time of a step."""
    made, state, runtime = started(method, batch, fast)
    return harness.timed(lambda: float(made.step(state, runtime)["loss"]), warm_up=5, steps=steps)


if __name__ == "__main__" and not harness.run_worker({"losses": losses, "step": step}):
    main()
