"""One DataDAM step on CIFAR-10's shape, attar against a plain restatement of the authors' script.

    python bench/datadam_step.py --quick     # does it run
    python bench/datadam_step.py             # the numbers, recorded in bench/results/datadam_step.json

ConvNet of three blocks and 128 filters with instance norm, ten images per class. First both are given the same
images, draws and parameters and must find the same loss; then each is timed in processes of its own, in turn.
With $ATTAR_DATA set, the images are those of $ATTAR_DATA/cifar10, else random.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import convolutions_alone as alone
import harness
import rival
import torch

from attar.core.runtime import Engine, Runtime
from attar.core.seeds import Generators
from attar.core.selection import draw_rows
from attar.images.condense.datadam import DataDAM
from attar.images.condense.distribution import Condensing
from attar.images.sources import ImageSource
from attar.images.views.augment import OPERATIONS, draw_each, strategy

IPC = 10
TARGETS = {64: 3.5, 256: 6.0}
MOST = 1.25
"""A step over its convolutions alone, at both sizes."""
ENGINES = {
    "float32": Engine(device="cpu", precision="float32", compile="off"),
    "default": Engine(device="cpu", compile="on"),
    "bfloat16": Engine(device="cpu", compile="on", train_precision="bfloat16"),
}
"""`default` computes the real images in bfloat16 where the CPU multiplies it; `bfloat16` the synthetic ones too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--real-batch", type=int, nargs="+", default=[64, 256], help="real images per class")
    parser.add_argument("--rounds", type=int, default=3, help="times that rival and attar take turns")
    parser.add_argument("--steps", type=int, default=12, help="steps timed in each process")
    parser.add_argument("--power", type=float, default=1.0, help="power of the attention maps; 1 in the script")
    args = parser.parse_args()
    if args.quick:
        args.real_batch, args.rounds, args.steps = [16], 1, 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = harness.write_images(folder, per_class=600, testing=10)
        check = harness.in_own_process(__file__, "check", folder, real_batch=min(args.real_batch), power=args.power)
        print(describe_check(check), flush=True)
        sizes = {}
        for real_batch in args.real_batch:
            sizes[str(real_batch)] = compare(folder, real_batch, args)
            print(describe(real_batch, sizes[str(real_batch)]), flush=True)
    if not args.quick:
        setting = {"images": images, "ipc": IPC, "power": args.power, "network": "ConvNet D3 W128 instance norm"}
        result = {"machine": harness.machine(), "setting": setting, "check": check, "real_batch": sizes}
        harness.record("datadam_step.json", result, by_machine=True)


def compare(folder: Path, real_batch: int, args: argparse.Namespace) -> dict[str, Any]:
    """Time both in turn."""
    settings = {"real_batch": real_batch, "steps": args.steps, "power": args.power}

    def measure() -> dict[str, list[Any]]:
        rounds: dict[str, list[Any]] = {"rival": [], "attar": []}
        for _ in range(args.rounds):
            for side, reports in rounds.items():
                reports.append(harness.in_own_process(__file__, side, folder, **settings))
        return rounds

    rounds = harness.until_agreed(measure)
    seconds = {side: [report["seconds"] for report in reports] for side, reports in rounds.items()}
    middle = {side: statistics.median(values) for side, values in seconds.items()}
    return {
        "ratio": middle["rival"] / middle["attar"],
        "target": TARGETS.get(real_batch),
        "seconds": middle,
        "seconds_of_each_process": seconds,
        "peak_mb": {side: max(report["peak_mb"] for report in reports) for side, reports in rounds.items()},
        "compile_seconds": rounds["attar"][0]["first_extra_seconds"],
        "graph_breaks": rounds["attar"][0]["graph_breaks"],
        "convolutions": rounds["attar"][-1]["convolutions"],
        "convolution_share": harness.convolution_share(rounds["attar"]),
    }


def describe_check(check: dict[str, Any]) -> str:
    errors = ", ".join(f"{name} {e['gradient']:.2g}" for name, e in check.items())
    return f"same loss to {check['float32']['loss']:.1g}; relative error of the gradient: {errors}"


def describe(real_batch: int, row: dict[str, Any]) -> str:
    seconds, peak = row["seconds"], row["peak_mb"]
    breaks = f"; NOT WHOLLY COMPILED, {row['graph_breaks']} graph breaks" if row["graph_breaks"] else ""
    return (
        f"real batch {real_batch}: rival {seconds['rival']:.3f} s, attar {seconds['attar']:.3f} s, "
        f"ratio {row['ratio']:.2f} (target {row['target']}); peak {peak['rival']:.0f} and {peak['attar']:.0f} MB; "
        f"compiling {row['compile_seconds']:.0f} s; "
        f"attar's step takes {1 / row['convolution_share']:.2f} times its convolutions (target {MOST}){breaks}"
    )


# ------------------------------------------------------------------------------------------- in processes of their own


def time_rival(folder: str, real_batch: int, power: float, steps: int) -> dict[str, Any]:
    return harness.timed(rival_on(harness.read_source(folder), real_batch, power).step, warm_up=2, steps=steps)


def time_attar(folder: str, real_batch: int, power: float, steps: int) -> dict[str, Any]:
    source, runtime = harness.read_source(folder), Runtime(ENGINES["default"])
    method, state = attar_on(source, real_batch, power, runtime)
    report: dict[str, Any] = harness.timed(lambda: float(method.step(state, runtime)["loss"]), warm_up=3, steps=steps)
    # Any break means that part of the step ran uncompiled, and the time says little about attar.
    report["graph_breaks"] = sum(torch._dynamo.utils.counters["graph_break"].values())
    report["convolutions"] = convolution_seconds(state, real_batch, runtime, steps)
    return report


def check(folder: str, real_batch: int, power: float) -> dict[str, dict[str, float]]:
    """Relative errors of attar's loss and gradient against the rival's, for the same inputs, by engine."""
    source = harness.read_source(folder)
    errors = {}
    for name, engine in ENGINES.items():
        runtime = Runtime(engine)
        method, state = attar_on(source, real_batch, power, runtime)
        other = rival_on(source, real_batch, power)
        other.synthetic.data.copy_(state.images.detach())
        loss = float(method.step(state, runtime)["loss"])
        wanted = other.step(parameters=state.network.parameters(), **drawn_by_attar(source, real_batch))
        gap = (state.images.grad - other.synthetic.grad).norm() / other.synthetic.grad.norm()
        errors[name] = {"loss": abs(loss - wanted) / wanted, "gradient": float(gap)}
    if errors["float32"]["loss"] > 1e-4:
        raise SystemExit(f"rival and attar disagree about the loss: {errors}")
    return errors


def rival_on(source: ImageSource, real_batch: int, power: float) -> rival.Distillation:
    images = source.transform.forward(source.train.pixels[torch.arange(len(source.train))])
    return rival.Distillation(images, source.train.labels, ipc=IPC, real_batch=real_batch, power=power)


def attar_on(source: ImageSource, real_batch: int, power: float, runtime: Runtime) -> tuple[DataDAM, Condensing]:
    method = DataDAM(ipc=IPC, real_batch=real_batch, power=power).resolve(source, runtime)
    runtime.plan(method.work(source))
    return method, method.build(source, runtime)


def drawn_by_attar(source: ImageSource, real_batch: int) -> dict[str, Any]:
    """The rows and augmentations of attar's first step with seed 0, drawn again from the same generators."""
    generator = Generators(0)
    rows = draw_rows(source.rows_of, real_batch, generator("batches"))
    draw = draw_each(len(source.classes), strategy("_".join(OPERATIONS)), generator("augment"))
    pairs = zip(draw.operation.tolist(), draw.uniform.tolist(), strict=True)
    draws = [rival.Draw(OPERATIONS[number], uniform) for number, uniform in pairs]
    return {"rows": rows.split(real_batch), "draws": draws}


def convolution_seconds(state: Condensing, real_batch: int, runtime: Runtime, steps: int) -> dict[str, float]:
    """What a step would take if it were convolutions only.

    Forward for the real images; forward and back to the input for the synthetic ones.
    """
    classes = len(state.source.classes)

    def chunks(count: int) -> list[int]:
        return [len(part) for part in torch.arange(count).split(state.at_once)]

    def seconds(work: alone.Pass, count: int, *, training: bool) -> float:
        return alone.seconds(work, state.network, chunks(count), runtime, steps, training=training)

    return {
        "real": seconds(alone.forward, classes * real_batch, training=False),
        "synthetic": seconds(alone.to_images, classes * IPC, training=True),
    }


if __name__ == "__main__" and not harness.run_worker({"rival": time_rival, "attar": time_attar, "check": check}):
    main()
