"""One recovery step of SRe2L on CIFAR-10's shape, attar against a plain restatement of the authors' script.

    python bench/recover_step.py --quick     # does it run
    python bench/recover_step.py             # the numbers, recorded in bench/results/recover_step.json

ConvNet of three blocks and 128 filters with batch norm as teacher, a block of 100 images, views cropped, mirrored and
rolled. First both are given the same images, view and parameters and must find the same loss; then each is timed in
processes of its own, in turn. With $ATTAR_DATA set, the teacher's statistics are those of $ATTAR_DATA/cifar10.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import harness
import rival
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attar.core.runtime import Engine, Runtime
from attar.core.seeds import uniform
from attar.images.condense.recover import UNIFORMS, View, view_from
from attar.images.condense.sre2l import Recovering, SRe2L
from attar.images.networks.architecture import Architecture, norms_of
from attar.images.sources import ImageSource
from attar.images.trained import Auxiliary
from attar.images.training import TrainedNetwork, TrainNetwork

TARGET = 1.5
CLASSES = 100
"""Of the teacher, so that a block has as many images as the scripts'."""
ENGINES = {"eager": Engine(device="cpu", compile="off"), "compiled": Engine(device="cpu", compile="on")}
ITERATIONS, LR, STATISTICS_WEIGHT, FIRST_WEIGHT, JITTER = 1000, 0.25, 0.01, 10.0, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--rounds", type=int, default=3, help="times that rival and attar take turns")
    parser.add_argument("--steps", type=int, default=12, help="steps timed in each process")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.steps = 1, 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = harness.write_images(folder, per_class=60, testing=10)
        write_teacher(folder)
        check = harness.in_own_process(__file__, "check", folder)
        print(describe_check(check), flush=True)
        found = compare(folder, args)
        print(describe(found), flush=True)
    if not args.quick:
        setting = {"images": images, "block": CLASSES, "network": "ConvNet D3 W128 batch norm", "crop": True}
        harness.record(
            "recover_step.json",
            {"machine": harness.machine(), "setting": setting, "check": check, **found},
            by_machine=True,
        )


def compare(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Time all in turn."""
    sides = {"rival": ("rival", {"steps": args.steps})}
    sides |= {engine: ("attar", {"steps": args.steps, "engine": engine}) for engine in ENGINES}
    return {"target": TARGET, **harness.in_turns(__file__, folder, sides, args.rounds)}


def describe_check(check: dict[str, Any]) -> str:
    errors = ", ".join(f"{name} {e['gradient']:.2g}" for name, e in check.items())
    return f"same loss to {check['eager']['loss']:.1g}; relative error of the gradient: {errors}"


def describe(found: dict[str, Any]) -> str:
    seconds, peak, ratio = found["seconds"], found["peak_mb"], found["ratio"]
    broken = found["graph_breaks"]["compiled"]
    breaks = f"; NOT WHOLLY COMPILED, {broken} graph breaks" if broken else ""
    each = ", ".join(
        f"attar {engine} {seconds[engine]:.3f} s, ratio {ratio[engine]:.2f}, {peak[engine]:.0f} MB"
        for engine in ENGINES
    )
    return (
        f"rival {seconds['rival']:.3f} s, {peak['rival']:.0f} MB; {each} (target {found['target']}); "
        f"compiling {found['compile_seconds']['compiled']:.0f} s{breaks}"
    )


# ------------------------------------------------------------------------------------------- in processes of their own


def time_rival(folder: str, steps: int) -> dict[str, Any]:
    return harness.timed(rival_on(folder).step, warm_up=2, steps=steps)


def time_attar(folder: str, steps: int, engine: str) -> dict[str, Any]:
    runtime = Runtime(ENGINES[engine])
    method, state = attar_on(folder, runtime)
    report: dict[str, Any] = harness.timed(lambda: float(method.step(state, runtime)["loss"]), warm_up=3, steps=steps)
    # Any break means that part of the step ran uncompiled, and the time says little about attar.
    report["graph_breaks"] = sum(torch._dynamo.utils.counters["graph_break"].values())
    return report


def check(folder: str) -> dict[str, dict[str, float]]:
    """Relative errors of attar's loss and gradient against the rival's, for the same inputs, by engine."""
    errors = {}
    for name, engine in ENGINES.items():
        runtime = Runtime(engine)
        method, state = attar_on(folder, runtime)
        other = rival_on(folder)
        other.images.data.copy_(torch.randn(other.images.shape, generator=Runtime(engine).generator("start")))
        settings = {"smallest": method.smallest_crop, "jitter": (0, JITTER)}
        view = view_from(uniform(0, "view 0 0", UNIFORMS), (harness.SIDE, harness.SIDE), **settings)
        loss, wanted = float(method.step(state, runtime)["loss"]), other.step(view)
        gap = (state.images.grad - other.images.grad).norm() / other.images.grad.norm()
        moved = (state.images.detach() - other.images.detach()).abs().mean()
        errors[name] = {"loss": abs(loss - wanted) / wanted, "gradient": float(gap), "images": float(moved)}
    if errors["eager"]["loss"] > 1e-4:
        raise SystemExit(f"rival and attar disagree about the loss: {errors}")
    return errors


def write_teacher(folder: Path) -> None:
    """A network of random parameters that has seen some images, so that its batch norm remembers something."""
    method = TrainNetwork(architecture=Architecture(norm="batch").resolve((3, harness.SIDE, harness.SIDE)))
    shape, source = (3, harness.SIDE, harness.SIDE), harness.read_source(str(folder))
    network = method.architecture.build(shape, CLASSES, torch.Generator().manual_seed(0)).train()
    with torch.no_grad():
        for rows in torch.arange(500).split(100):
            network(source.inputs(rows))
    TrainedNetwork(network, method, shape, names()).save(folder)


def names() -> tuple[str, ...]:
    return tuple(str(number) for number in range(CLASSES))


def hundred_classes(folder: str) -> ImageSource:
    """The images as if they were of a hundred classes: recovery sees none of them."""
    source = harness.read_source(folder)
    labels = torch.arange(len(source.train)) % CLASSES
    split = type(source.train)(source.train.pixels, labels)
    return ImageSource(source.name, names(), split, source.test, source.transform)


def attar_on(folder: str, runtime: Runtime) -> tuple[SRe2L, Recovering]:
    source = hundred_classes(folder)
    settings = {"image_lr": LR, "statistics_weight": STATISTICS_WEIGHT, "first_weight": FIRST_WEIGHT, "jitter": JITTER}
    teacher = Auxiliary(folder=folder)
    method = SRe2L(ipc=1, block_steps=ITERATIONS, crop="on", teacher=teacher, **settings).resolve(source, runtime)
    runtime.plan(method.work(source))
    return method, method.build(source, runtime)


def rival_on(folder: str) -> "Recovery":
    source = hundred_classes(folder)
    taught = TrainedNetwork.load(Path(folder)).network
    network = rival.ConvNet("batch", CLASSES, harness.SIDE)
    for own, theirs in zip(network.parameters(), taught.parameters(), strict=True):
        own.data.copy_(theirs)
    for own, theirs in zip(norms_of(network), norms_of(taught), strict=True):
        own.load_state_dict(theirs.state_dict())
    return Recovery(network.eval().requires_grad_(False), source.transform.mean, source.transform.std)


class Statistics:
    """The script's hook: means and variances by permuting every activation, kept until the loss is put together."""

    def __init__(self, layer: nn.Module) -> None:
        self.gap = torch.zeros(())
        layer.register_forward_hook(self.look)

    def look(self, layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen = inputs[0]
        mean = seen.mean([0, 2, 3])
        variance = seen.permute(1, 0, 2, 3).contiguous().reshape(seen.shape[1], -1).var(1, unbiased=False)
        self.gap = torch.norm(layer.running_var - variance, 2) + torch.norm(layer.running_mean - mean, 2)


class Recovery:
    """The habits of the released recovery script (VILA-Lab/SRe2L, arXiv:2306.13092) that decide how long a step takes.

    A plain restatement in our own code: crop by slicing and resizing with a new shape each step, statistics by
    permuted copies of every activation, the loss read out every step and the best images copied, pixels clipped channel
    by channel. All eager in float32.
    """

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.network, self.mean, self.std = network, mean, std
        self.images = torch.randn(CLASSES, 3, harness.SIDE, harness.SIDE).requires_grad_()
        self.labels = torch.arange(CLASSES)
        self.optimizer = torch.optim.Adam([self.images], lr=LR, betas=(0.5, 0.9), eps=1e-8)
        self.hooks = [Statistics(layer) for layer in norms_of(network)]
        self.done, self.best, self.best_loss = 0, self.images.detach().clone(), float("inf")

    def step(self, view: View | None = None) -> float:
        view = view or self.draw()
        seen = self.images[:, :, view.top : view.bottom, view.left : view.right]
        seen = F.interpolate(seen, (harness.SIDE, harness.SIDE), mode="bilinear", align_corners=False, antialias=True)
        seen = seen.flip(3) if view.mirrored else seen
        seen = torch.roll(seen, shifts=(view.down, view.aside), dims=(2, 3))
        self.optimizer.zero_grad()
        _, logits = self.network(seen)
        weights = [FIRST_WEIGHT] + [1.0] * (len(self.hooks) - 1)
        gaps = sum(weight * hook.gap for weight, hook in zip(weights, self.hooks, strict=True))
        loss = F.cross_entropy(logits, self.labels) + STATISTICS_WEIGHT * gaps
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
                self.images[:, channel] = torch.clamp(self.images[:, channel], -mean / std, (1 - mean) / std)
        if loss.item() < self.best_loss:
            self.best_loss, self.best = loss.item(), self.images.data.clone()
        self.done += 1
        return loss.item()

    def draw(self) -> View:
        """A crop, flip and roll."""
        return view_from(torch.rand(UNIFORMS), (harness.SIDE, harness.SIDE), smallest=0.08, jitter=(0, JITTER))


if __name__ == "__main__" and not harness.run_worker({"rival": time_rival, "attar": time_attar, "check": check}):
    main()
