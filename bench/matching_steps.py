"""Steps of gradient and trajectory matching and the training of experts, attar against plain restatements.

    python bench/matching_steps.py --quick     # do they run
    python bench/matching_steps.py             # the numbers, recorded in bench/results/matching_steps.json
    python bench/matching_steps.py --only trajectory

CIFAR-10's shape, ConvNet of three blocks and 128 filters with instance norm, ten images per class. First both sides are
given the same images, draws and parameters and must find the same loss; then each is timed in processes of its own, in
turn. With $ATTAR_DATA set, the images are those of $ATTAR_DATA/cifar10, else random.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import convolutions_alone as alone
import harness
import rival
import rival_matching
import torch
from torch import Tensor

from attar.core.runtime import Engine, Runtime
from attar.core.seeds import Generators
from attar.core.selection import draw_rows
from attar.images import layout
from attar.images.condense.adjoint import Batch, Student, Task, Waypoint, match
from attar.images.condense.dsa import DSA
from attar.images.condense.gradient import Matching
from attar.images.experts import Experts, TrainExperts, flat_network
from attar.images.networks.architecture import Architecture
from attar.images.sources import ImageSource
from attar.images.views.augment import OPERATIONS, Draw, draw_pair

IPC, LR = 10, 0.01
ENGINES = {
    "float32": Engine(device="cpu", precision="float32", compile="on"),
    "default": Engine(device="cpu", compile="on"),
    "eager": Engine(device="cpu", precision="float32", compile="off"),
}
"""`default` takes gradients of real images in bfloat16 where the CPU multiplies it; all others are float32."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--only", choices=["gradient", "trajectory", "experts", "memory"], help="one part")
    parser.add_argument("--rounds", type=int, default=3, help="times that the sides take turns")
    parser.add_argument("--steps", type=int, default=6, help="steps timed in each process")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = 1, 1
    parts = {"gradient": gradient, "trajectory": trajectory, "experts": experts, "memory": memory}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = harness.write_images(folder, per_class=400, testing=10)
        found = {part: run(folder, args) for part, run in parts.items() if args.only in (None, part)}
    if not args.quick:
        setting = {"images": images, "ipc": IPC, "network": "ConvNet D3 W128 instance norm"}
        suffix = f"_{args.only}" if args.only else ""
        harness.record(
            f"matching_steps{suffix}.json", {"machine": harness.machine(), "setting": setting, **found}, by_machine=True
        )


# -------------------------------------------------------------------------------------------------- gradient matching


def gradient(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One match of all classes, at two numbers of real images."""
    sizes = [16] if args.quick else [64, 256]
    check = harness.in_own_process(__file__, "check_gradient", folder, real_batch=sizes[0])
    print(f"gradient: {check}", flush=True)
    found: dict[str, Any] = {"check": check, "target": 5.0}
    for size in sizes:
        settings = {"real_batch": size, "steps": args.steps}
        sides = {"rival": ("rival_gradient", settings)}
        sides |= {name: ("attar_gradient", {**settings, "engine": name}) for name in ("float32", "default")}
        found[str(size)] = harness.in_turns(__file__, folder, sides, args.rounds)
        print(harness.described(f"gradient, {size} real images per class", found[str(size)]), flush=True)
    return found


def rival_gradient(folder: str, real_batch: int, steps: int) -> dict[str, float]:
    return harness.timed(gradient_rival(harness.read_source(folder), real_batch).step, 1, steps)


def attar_gradient(folder: str, real_batch: int, steps: int, engine: str) -> dict[str, Any]:
    method, state, runtime = gradient_attar(harness.read_source(folder), real_batch, engine)
    report: dict[str, Any] = harness.timed(lambda: float(method.step(state, runtime)["loss"]), 2, steps)
    classes = len(state.source.classes)
    real = [len(part) for part in torch.arange(real_batch).split(state.at_once)] * classes
    report["convolutions"] = {
        "real": alone.seconds(alone.to_weights, state.network, real, runtime, steps, training=False),
        "synthetic": alone.seconds(alone.matched, state.network, [IPC] * classes, runtime, steps, training=True),
    }
    return report


def check_gradient(folder: str, real_batch: int) -> dict[str, Any]:
    """Relative errors of attar's loss and image gradient against the rival's, for the same inputs, by engine."""
    source, errors = harness.read_source(folder), {}
    for name in ("eager", "float32", "default"):
        method, state, runtime = gradient_attar(source, real_batch, name)
        other = gradient_rival(source, real_batch)
        before = state.images.detach().clone()
        other.synthetic.data.copy_(before)
        loss = float(method.step(state, runtime)["loss"])
        with torch.no_grad():
            for own, given in zip(other.network.parameters(), state.network.parameters(), strict=True):
                own.copy_(given)
        generator = Generators(0)
        rows = draw_rows(source.rows_of, real_batch, generator("batches")).split(real_batch)
        draw, _ = draw_pair(10, OPERATIONS, generator("augment"))
        assert draw is not None
        wanted = other.step(rows=rows, draws=as_rivals(draw))
        gap = (state.images.grad - other.synthetic.grad).norm() / other.synthetic.grad.norm()
        errors[name] = {"loss": abs(loss - wanted) / wanted, "gradient": float(gap)}
    if errors["eager"]["loss"] > 1e-4:
        raise SystemExit(f"rival and attar disagree about the loss: {errors}")
    return errors


def gradient_rival(source: ImageSource, real_batch: int) -> rival_matching.GradientMatching:
    images = source.inputs(torch.arange(len(source.train)))
    return rival_matching.GradientMatching(images, source.targets, ipc=IPC, real_batch=real_batch)


def gradient_attar(source: ImageSource, real_batch: int, engine: str) -> tuple[DSA, Matching, Runtime]:
    """A run whose every step is the first with a network, so that no training is timed."""
    runtime = Runtime(ENGINES[engine])
    method = DSA(ipc=IPC, real_batch=real_batch, network_draws=1000, matches=1).resolve(source, runtime)
    runtime.plan(1e15)
    return method, method.build(source, runtime), runtime


def as_rivals(draw: Draw) -> list[rival.Draw]:
    pairs = zip(draw.operation.tolist(), draw.uniform.tolist(), strict=True)
    return [rival.Draw(OPERATIONS[number], uniform) for number, uniform in pairs]


# ------------------------------------------------------------------------------------------------ trajectory matching


def trajectory(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One student of 20 steps on all 100 images."""
    steps = 3 if args.quick else 20
    check = harness.in_own_process(__file__, "check_trajectory", folder, students=steps)
    print(f"trajectory: {check}", flush=True)
    settings = {"students": steps, "steps": max(1, args.steps // 2)}
    sides = {"unrolled": ("rival_trajectory", settings)}
    sides |= {f"adjoint, {name}": ("attar_trajectory", {**settings, "engine": name}) for name in ("eager", "float32")}
    row = harness.in_turns(__file__, folder, sides, args.rounds, against="unrolled")
    held = row["held_mb"]
    row["memory_share"] = {side: held[side] / held["unrolled"] for side in held if side != "unrolled"}
    print(harness.described(f"trajectory, {steps} student steps", row), flush=True)
    print(f"  above what stood before the step: {held}", flush=True)
    return {"check": check, "targets": {"time": 3.5, "memory": 0.2}, **row}


def rival_trajectory(folder: str, students: int, steps: int) -> dict[str, float]:
    other, start, target = trajectory_rival(harness.read_source(folder), students)
    return held(lambda: other.step(start, target), steps)


def attar_trajectory(folder: str, students: int, steps: int, engine: str) -> dict[str, Any]:
    source = harness.read_source(folder)
    student, images, labels, start, target = trajectory_attar(source, engine)

    def step() -> None:
        batches = [Batch(torch.arange(len(images)), one_draw(len(images), index)) for index in range(students)]
        match(student, images, labels, torch.tensor(LR), Task(start, batches, {students: Waypoint(target)}))

    report: dict[str, Any] = held(step, steps)
    if steps > 1:
        counts = [len(part) for part in torch.arange(len(images)).split(student.at_once)]
        passes = {"forth": alone.to_weights, "back": alone.pulled}
        report["convolutions"] = {
            name: students * alone.seconds(work, student.flat.network, counts, student.runtime, steps, training=True)
            for name, work in passes.items()
        }
    return report


def held(step: Any, steps: int) -> dict[str, float]:
    """Seconds a step, and by how much the first one raised the process's peak above what stood before it.

    Of one step alone, only the latter is of use.
    """
    before, began = harness.peak_mb(), time.perf_counter()
    step()
    report = {"held_mb": harness.peak_mb() - before, "seconds": time.perf_counter() - began}
    return report | harness.timed(step, 1, steps) if steps > 1 else report


def check_trajectory(folder: str, students: int) -> dict[str, float]:
    """Relative errors of attar's loss and image gradient against the rival's, without augmentation."""
    source = harness.read_source(folder)
    other, start, target = trajectory_rival(source, students)
    rival_matching.augment = lambda images, draw: images  # both see the images as they are
    wanted = other.step(start, target)
    student, images, labels, _, _ = trajectory_attar(source, "eager")
    batches = [Batch(torch.arange(len(images)))] * students
    found = match(student, images, labels, torch.tensor(LR), Task(start, batches, {students: Waypoint(target)}))
    gap = (found.images - other.images.grad).norm() / other.images.grad.norm()
    error = abs(float(found.loss) - wanted) / wanted
    if error > 1e-4:
        raise SystemExit(f"rival and attar disagree about the loss: {wanted} and {float(found.loss)}")
    return {"loss": error, "gradient": float(gap)}


def condensed(source: ImageSource) -> tuple[Tensor, Tensor]:
    rows = torch.cat([rows[:IPC] for rows in source.rows_of])
    return source.inputs(rows), source.targets[rows]


def ends(length: int) -> tuple[Tensor, Tensor]:
    """Where a student sets out, and where it is to arrive."""
    generator = torch.Generator().manual_seed(1)
    start = 0.03 * torch.randn(length, generator=generator)
    return start, start + 0.003 * torch.randn(length, generator=generator)


def trajectory_rival(source: ImageSource, students: int) -> tuple[rival_matching.TrajectoryMatching, Tensor, Tensor]:
    other = rival_matching.TrajectoryMatching(*condensed(source), steps=students, lr=LR)
    return other, *ends(sum(count for *_, count in other.layout))


def trajectory_attar(source: ImageSource, engine: str) -> tuple[Student, Tensor, Tensor, Tensor, Tensor]:
    runtime = Runtime(ENGINES[engine])
    runtime.plan(1e15)
    flat = flat_network(Architecture().resolve(source.shape), source, runtime)
    student = Student(flat, runtime, soft=False, at_once=layout.at_once(source.shape, runtime))
    images, labels = condensed(source)
    return student, images, labels, *ends(flat.length)


def one_draw(count: int, index: int) -> Draw:
    generator = torch.Generator().manual_seed(index)
    number = int(torch.randint(len(OPERATIONS), (), generator=generator))
    return Draw(torch.full((count,), number), torch.rand(count, 3, generator=generator), number)


def memory(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The peak of one step at 10, 30 and 80 student steps, and what it grows by for each."""
    numbers = [2, 4] if args.quick else [10, 30, 80]
    found = {}
    for count in numbers:
        report = harness.in_own_process(__file__, "attar_trajectory", folder, students=count, steps=1, engine="eager")
        found[str(count)] = report["held_mb"]
    growth = (found[str(numbers[-1])] - found[str(numbers[0])]) / (numbers[-1] - numbers[0])
    vector = 4 * 320_010 / 2**20
    print(f"memory of a step in MB: {found}; {growth:.2f} for each student step, a vector is {vector:.2f}", flush=True)
    return {"held_mb": found, "mb_per_student_step": growth, "parameter_vector_mb": vector}


# -------------------------------------------------------------------------------------------------------------- experts


def experts(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Ten networks of one epoch of 1,000 images, with everything that has to be compiled left out."""
    count = 1 if args.quick else 10
    sides = {
        "rival": ("rival_experts", {"count": count}),
        "attar": ("attar_experts", {"count": count, "engine": "float32"}),
        "attar, eager": ("attar_experts", {"count": count, "engine": "eager"}),
    }
    row = harness.in_turns(__file__, folder, sides, args.rounds)
    print(harness.described(f"{count} experts", row), flush=True)
    return {"target": 1.5, **row}


def rival_experts(folder: str, count: int) -> dict[str, float]:
    source = thousand(folder)
    other = rival_matching.Experts(source.inputs(torch.arange(len(source.train))), source.targets)
    return whole(lambda: other.train(1, 1), lambda: other.train(count, 1))


def attar_experts(folder: str, count: int, engine: str) -> dict[str, float]:
    source, runtime = thousand(folder), Runtime(ENGINES[engine])
    runtime.plan(1e15)
    augmentation = "_".join(OPERATIONS)

    def train(numbers: range) -> None:
        for number in numbers:
            method = TrainExperts(experts=Experts(), augmentation=augmentation, epochs=1, first=number)
            method = method.resolve(source, runtime)
            state = method.build(source, runtime)
            for _ in range(method.total_steps):
                method.step(state, runtime)

    return whole(lambda: train(range(1)), lambda: train(range(count)))


def thousand(folder: str) -> ImageSource:
    """Every fourth image."""
    source = harness.read_source(folder)
    return source.subset(torch.arange(0, len(source.train), 4))


def whole(warm_up: Any, work: Any) -> dict[str, float]:
    """Seconds of the work, after something smaller of its kind."""
    began = time.perf_counter()
    warm_up()
    first = time.perf_counter()
    work()
    seconds = time.perf_counter() - first
    return {"seconds": seconds, "first_extra_seconds": first - began, "peak_mb": harness.peak_mb()}


WORKERS = {
    "rival_gradient": rival_gradient,
    "attar_gradient": attar_gradient,
    "check_gradient": check_gradient,
    "rival_trajectory": rival_trajectory,
    "attar_trajectory": attar_trajectory,
    "check_trajectory": check_trajectory,
    "rival_experts": rival_experts,
    "attar_experts": attar_experts,
}

if __name__ == "__main__" and not harness.run_worker(WORKERS):
    main()
