"""Everything that is to be known of attar on one GPU, in at most ten minutes, recorded in bench/results/gpu.json.

    python bench/gpu.py                                # on a GPU; ATTAR_DATA=... for CIFAR-10
    python bench/gpu.py --quick --device cpu           # does it run: everything tiny, nothing recorded
    python bench/gpu.py --part steps --entries dm kd   # one part, some methods

steps: each method's first steps on the GPU against the CPU, in float32 without TF32, from the same random numbers.
speed: steps per second of each family beside a plain, eager restatement of the authors' script on the same GPU.
evaluation: ten networks at once, and one after another. kd: an epoch. language: steps of a model of 124 million
parameters. released: DataDAM's released cell (CIFAR-10, ten images per class) from start to accuracy.

What is found is written at once. The same command goes on where the time was up or the script was killed; --again
measures anew.
"""

import argparse
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import harness
import rival
import rival_matching
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import attar
from attar.core.runtime import Engine, Runtime
from attar.core.seeds import Generators
from attar.images import layout, repeats
from attar.images.condense.adjoint import Batch, Student, Task, Waypoint, match
from attar.images.experts import flat_network
from attar.images.networks.architecture import Architecture
from attar.images.training import TrainNetwork
from attar.images.views.augment import OPERATIONS, draw_batch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import small

IPC, CLASSES = 10, 10
AGREE = 1e-4
"""Largest relative difference of the first losses of GPU and CPU."""
SHARES = {"steps": 0.3, "speed": 0.2, "evaluation": 0.12, "kd": 0.08, "language": 0.05, "released": 1.0}
"""The parts in order, each with the most that it may take of the time that there is."""
QUICK = ("random", "dm", "dsa", "mtt", "sre2l", "gstam", "kd", "ts", "simclr", "tvae", "edm", "cowa")
DRAWN_THERE = ("classifier/many masks", "language/adapters")
"""What has dropout, whose masks a GPU draws itself, so that its losses are others there."""


@dataclass
class Report:
    """What is known so far, and the time that is left."""

    args: argparse.Namespace
    facts: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    until: float = 0.0
    """When the part that is at work has to end."""

    @property
    def device(self) -> torch.device:
        return torch.device(self.args.device)

    @property
    def left(self) -> float:
        """Seconds left to the whole."""
        return 60 * self.args.minutes - (time.monotonic() - self.began)

    @property
    def over(self) -> bool:
        """Whether the time of the part is up."""
        return time.monotonic() > self.until

    def engine(self, **settings: Any) -> Engine:
        return Engine(**{"device": self.args.device, "quiet": True, **settings})

    def put(self, part: str, found: dict[str, Any]) -> None:
        """Keep what was found of a part, and write it."""
        self.facts[part] = {**self.facts.get(part, {}), **found}
        if self.args.record:
            path = Path(self.args.record)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(harness.rounded(self.facts), indent=2) + "\n", encoding="utf-8")

    def resume(self) -> None:
        """Read what an earlier call found on the same machine with the same versions."""
        machine = machine_of(self.device)
        path = Path(self.args.record) if self.args.record else None
        if path and path.exists() and not self.args.again:
            there = json.loads(path.read_text(encoding="utf-8"))
            if there.get("machine") == machine:
                self.facts = there
        self.facts["machine"] = machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="what is measured")
    parser.add_argument("--minutes", type=float, default=10.0, help="time for everything")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS), help="only these parts")
    parser.add_argument("--entries", nargs="+", help="only these methods of the part steps")
    parser.add_argument(
        "--variants", action="store_true", help="further settings of some methods in the part steps too"
    )
    parser.add_argument(
        "--quick", action="store_true", help="everything tiny; nothing is recorded unless --record is given"
    )
    parser.add_argument("--again", action="store_true", help="measure anew what is recorded already")
    parser.add_argument("--record", help="the file of results; default: bench/results/gpu.json")
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "attar-gpu"), help="where runs lie")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit(
            "there is no GPU that PyTorch can use here. To see whether the script runs: --quick --device cpu"
        )
    if args.record is None and not args.quick:
        args.record = str(harness.RESULTS / "gpu.json")
    report = Report(args)
    report.resume()
    for part in (name for name in PARTS if name in args.part):
        if report.left < 5:
            print(f"{part}: skipped, the {args.minutes:g} minutes are over", flush=True)
            continue
        if part not in ("steps", "speed") and "part_seconds" in report.facts.get(part, {}):
            print(f"{part}: recorded before", flush=True)
            continue
        report.until = time.monotonic() + min(report.left, SHARES[part] * 60 * args.minutes)
        report.facts.get(part, {}).pop("failed", None)
        start = time.perf_counter()
        try:
            PARTS[part](report)
            if "skipped" not in report.facts.get(part, {}):
                report.put(part, {"part_seconds": time.perf_counter() - start})
        except Exception as error:  # the other parts are worth having
            report.put(part, {"failed": told(error)})
            print(f"{part}: failed, {told(error)}", flush=True)
        print(f"{part}: {time.perf_counter() - start:.1f} s, {report.left:.0f} s left", flush=True)


def machine_of(device: torch.device) -> dict[str, Any]:
    """CPU, GPU, driver and versions: no names and no dates."""
    facts = {**harness.machine(), "attar": attar.__version__}
    if device.type != "cuda":
        return facts
    properties = torch.cuda.get_device_properties(device)
    return facts | {
        "gpu": torch.cuda.get_device_name(device),
        "gpu_memory": properties.total_memory,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def driver() -> str | None:
    """The version of the GPU's driver; None where nvidia-smi does not tell."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.split()[0]
    return None


def told(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


# ------------------------------------------------------------------------------------------------ steps of any method


class Enough(Exception):  # noqa: N818
    """As many steps as were asked for."""


@dataclass
class Steps:
    """The first steps of a run."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@contextlib.contextmanager
def first_steps(
    kind: type, most: int, device: torch.device, *, over: Callable[[], bool] = lambda: False
) -> Iterator[Steps]:
    """Within, a method takes so many steps and no more; each is timed until the device has done it."""
    found, step = Steps(), kind.step

    @functools.wraps(step)
    def watched(*given: Any) -> Any:
        wait_for(device)
        start = time.perf_counter()
        metrics = step(*given)
        wait_for(device)
        found.seconds.append(time.perf_counter() - start)
        found.losses.append(float(metrics.get("loss", next(iter(metrics.values()), 0.0))))
        if len(found.losses) >= most or over():
            raise Enough
        return metrics

    with mock.patch.object(kind, "step", watched), contextlib.suppress(Enough):
        yield found


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class DrawnOnTheCPU(TorchFunctionMode):
    """Random numbers are drawn on the CPU, whatever the device of what is filled with them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        drawn = any(isinstance(one, torch.Generator) for one in (*args, *kwargs.values()))
        if not drawn or (args and isinstance(args[0], Tensor) and args[0].device.type == "cpu"):
            return func(*args, **kwargs)
        if args and isinstance(args[0], Tensor):  # filled in place, or read as probabilities
            here = args[0].detach().cpu()
            made = func(here, *args[1:], **kwargs)
            return args[0].copy_(made) if made is here else made.to(args[0].device)
        device = kwargs.pop("device", None)
        made = func(*args, **kwargs)
        return made if device is None else made.to(device)


@contextlib.contextmanager
def same_numbers() -> Iterator[None]:
    """Within, a run on a GPU draws what one on the CPU draws."""
    made = Generators.__call__

    def on_the_cpu(self: Generators, purpose: str, device: str = "cpu") -> torch.Generator:
        return made(self, purpose)

    with mock.patch.object(Generators, "__call__", on_the_cpu), DrawnOnTheCPU():
        yield


def steps(report: Report) -> None:
    """Losses of the first three steps of each method on both devices; what has no steps has its result compared."""
    known = report.facts.get("steps", {})
    entries = report.args.entries or (QUICK if report.args.quick else [*small.SMALL])
    entries = [*entries, *(small.VARIANTS if report.args.variants else ())]
    entries, skipped = [entry for entry in entries if entry not in DRAWN_THERE], 0
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, ATTAR_CACHE=cache):
        for entry in entries:
            if entry in known and not report.args.again:
                continue
            if report.over:
                skipped += 1
                continue
            row = compared(entry, report)
            report.put("steps", {entry: row})
            if row.get("apart", 0) > AGREE or "failed" in row:
                print(f"steps: {entry}: {row}", flush=True)
    rows = {name: row for name, row in report.facts.get("steps", {}).items() if isinstance(row, dict)}
    good = [name for name, row in rows.items() if row.get("apart", 1) <= AGREE]
    print(f"steps: {len(good)} of {len(rows)} methods agree to {AGREE:g}; {skipped} were not reached", flush=True)


def compared(entry: str, report: Report) -> dict[str, Any]:
    """An entry of `small` on the CPU, then on the device with whatever the CPU trained beside it."""
    method, kind = small.method_of(entry), small.kind_of(entry)
    found = []
    try:
        for device in ("cpu", report.args.device):
            engine = Engine(device=device, precision="float32", tf32=False, compile="off", quiet=True)
            with first_steps(type(method), 3, torch.device(device)) as taken, same_numbers():
                made = small.run(method, kind, engine=engine)
                taken.losses = taken.losses or [checksum(made)]
            found.append(taken)
    except Exception as error:
        return {"failed": told(error)}
    here, there = found
    apart = [relative(a, b) for a, b in zip(there.losses, here.losses, strict=True)]
    return {"apart": apart[0], "later": apart[1:], "seconds": there.seconds, "cpu_seconds": here.seconds}


def relative(one: float, other: float) -> float:
    return abs(one - other) / max(abs(other), 1e-6)


def checksum(made: Any) -> float:
    """One number of what a method without steps has made."""
    tensors = getattr(made, "learned", None) or {}
    return float(sum(one.double().abs().sum() for one in tensors.values() if isinstance(one, Tensor)))


# ------------------------------------------------------------------------------------- speed beside plain restatements


def cifar(report: Report, per_class: int, *, test: int = 2000) -> attar.images.sources.ImageSource:
    """Images of CIFAR-10, or random ones of its shape; the field's normalisation."""
    with tempfile.TemporaryDirectory() as folder:
        report.put("setting", {"images": harness.write_images(Path(folder), per_class, test)})
        return harness.read_source(folder)


def per_second(step: Callable[[], Any], report: Report, *, warm_up: int = 5, most: int = 50) -> dict[str, float]:
    """Steps per second, and the seconds of the first step (compiling included)."""
    warm_up, most = (0, 1) if report.args.quick else (warm_up, most)
    start = time.perf_counter()
    step()
    wait_for(report.device)
    first = time.perf_counter() - start
    for _ in range(warm_up):
        step()
    wait_for(report.device)
    start, taken = time.perf_counter(), 0
    while taken < most and (taken < 2 or time.perf_counter() - start < 5):
        step()
        taken += 1
    wait_for(report.device)
    return {"per_second": taken / (time.perf_counter() - start), "first_seconds": first}


def speed(report: Report) -> None:
    """Both sides of each family, on the device."""
    quick = report.args.quick
    source = cifar(report, 40 if quick else 1000)
    runtime = Runtime(report.engine(compile="off" if quick else "on"))
    if quick:
        rival.ConvNet.__init__.__kwdefaults__["width"] = 8  # type: ignore[index]
    for name, (ours, theirs) in FAMILIES.items():
        if name in report.facts.get("speed", {}) and not report.args.again:
            continue
        if report.over:
            print(f"speed: {name} was not reached", flush=True)
            continue
        runtime.plan(1e15)
        row: dict[str, Any] = {"attar": per_second(ours(source, runtime, quick), report)}
        with torch.device(report.device):
            row["rival"] = per_second(theirs(source, report.device, quick), report)
        row["ratio"] = row["attar"]["per_second"] / row["rival"]["per_second"]
        report.put("speed", {name: row})
        rates = ", ".join(f"{side} {row[side]['per_second']:.1f} a second" for side in ("attar", "rival"))
        print(f"speed: {name}: {rates}, ratio {row['ratio']:.2f}", flush=True)


def network(quick: bool) -> Architecture:
    return Architecture(width=8) if quick else Architecture()


def datadam(source: Any, runtime: Runtime, quick: bool) -> Callable[[], Any]:
    method = attar.DataDAM(ipc=IPC, real_batch=2 if quick else 256, power=1.0, architecture=network(quick))
    method = method.resolve(source, runtime)
    state = method.build(source, runtime)
    return lambda: method.step(state, runtime)


def datadam_rival(source: Any, device: torch.device, quick: bool) -> Callable[[], Any]:
    images = source.inputs(torch.arange(len(source.train), device="cpu"), device)
    return rival.Distillation(images, source.targets, ipc=IPC, real_batch=2 if quick else 256).step


def dsa(source: Any, runtime: Runtime, quick: bool) -> Callable[[], Any]:
    """Each step is the first with a network, so that no training is timed."""
    method = attar.DSA(
        ipc=IPC, real_batch=2 if quick else 256, network_draws=10_000, matches=1, architecture=network(quick)
    ).resolve(source, runtime)
    state = method.build(source, runtime)
    return lambda: method.step(state, runtime)


def dsa_rival(source: Any, device: torch.device, quick: bool) -> Callable[[], Any]:
    images = source.inputs(torch.arange(len(source.train), device="cpu"), device)
    return rival_matching.GradientMatching(images, source.targets, ipc=IPC, real_batch=2 if quick else 256).step


def student_steps(quick: bool) -> int:
    return 2 if quick else 20


def condensed(source: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    rows = torch.cat([rows[:IPC] for rows in source.rows_of])
    return source.inputs(rows, device), source.targets[rows].to(device)


def ends(length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where a student sets out, and where it is to arrive."""
    generator = torch.Generator().manual_seed(1)
    start, way = (scale * torch.randn(length, generator=generator, device="cpu") for scale in (0.03, 0.003))
    return start.to(device), (start + way).to(device)


def trajectory(source: Any, runtime: Runtime, quick: bool) -> Callable[[], Any]:
    flat = flat_network(network(quick).resolve(source.shape), source, runtime)
    student = Student(flat, runtime, soft=False, at_once=layout.at_once(source.shape, runtime))
    images, labels = condensed(source, runtime.device)
    start, target = ends(flat.length, runtime.device)
    lr, count = torch.tensor(0.01, device=runtime.device), student_steps(quick)

    def step() -> Any:
        draws = [draw_batch(len(images), OPERATIONS, runtime.generator("augment")) for _ in range(count)]
        rows = torch.arange(len(images))
        batches = attar.core.sending.sent([Batch(rows, draw) for draw in draws], runtime.device)
        return match(student, images, labels, lr, Task(start, batches, {count: Waypoint(target)}))

    return step


def trajectory_rival(source: Any, device: torch.device, quick: bool) -> Callable[[], Any]:
    other = rival_matching.TrajectoryMatching(*condensed(source, device), steps=student_steps(quick), lr=0.01)
    start, target = ends(sum(count for *_, count in other.layout), device)
    return lambda: other.step(start, target)


def small_set(source: Any, runtime: Runtime) -> Any:
    method = attar.Random(ipc=IPC)
    return method.result(method.build(source, runtime), runtime)


def training(source: Any, runtime: Runtime, quick: bool) -> Callable[[], Any]:
    few = small_set(source, runtime)
    protocol = attar.Protocol(name="field", epochs=1000)
    method = TrainNetwork(architecture=network(quick), protocol=protocol).resolve(few)
    state = method.build(few, runtime)
    return lambda: method.step(state, runtime)


def training_rival(source: Any, device: torch.device, quick: bool) -> Callable[[], Any]:
    return rival.Training(*condensed(source, device)).epoch


FAMILIES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "distribution matching": (datadam, datadam_rival),
    "gradient matching": (dsa, dsa_rival),
    "trajectory matching": (trajectory, trajectory_rival),
    "evaluation": (training, training_rival),
}
"""A step of attar's, and of the authors' script as it is restated."""


# ------------------------------------------------------------------------------------------------- whole pieces of work


def evaluation(report: Report) -> None:
    """Ten networks trained on a set of a hundred images and tested: at once, and one after another."""
    quick, count = report.args.quick, 2 if report.args.quick else 10
    source = cifar(report, 40 if quick else 1000, test=100 if quick else 2000)
    few = small_set(source, Runtime(report.engine()))
    epochs = 2 if quick else 300
    protocol = attar.Protocol(name="field", epochs=epochs)
    method = TrainNetwork(architecture=network(quick), protocol=protocol).resolve(few)
    found: dict[str, Any] = {"networks": count, "epochs": epochs}
    for way, together in (("at once", repeats.together), ("one by one", lambda *given: 1)):
        runtime = Runtime(report.engine(compile="off" if quick else "auto"))
        runtime.plan(count * method.work(few))
        with mock.patch.object(repeats, "together", together):
            wait_for(report.device)
            start = time.perf_counter()
            trained = repeats.trainings(method, few, runtime, repeats=count)
            scores = [repeats.accuracy(one, source.test, few.transform, runtime) for one in trained]
            found[way] = {"seconds": time.perf_counter() - start, "accuracy": sum(scores) / count}
        report.put("evaluation", found)
        print(f"evaluation: {count} networks {way}: {found[way]}", flush=True)


def kd(report: Report) -> None:
    """An epoch of KD on CIFAR-10's shape: resnet8x4 from resnet32x4, 64 images a step."""
    quick = report.args.quick
    source = cifar(report, 20 if quick else 5000, test=100)
    names = ("convnet:norm=batch,width=8", "convnet:norm=batch,width=4") if quick else ("resnet32x4", "resnet8x4")
    teacher = attar.images.networks.pretrained.network_named(names[0])
    teacher = (
        teacher.build(source.shape, CLASSES, torch.Generator())
        if isinstance(teacher, Architecture)
        else teacher(source.shape, CLASSES)
    )
    method = attar.KD(student=names[1], epochs=2, batch=64)
    batches = -(-len(source.train) // 64)
    with first_steps(attar.KD, batches + 1, report.device, over=lambda: report.over) as taken:
        attar.distill(source, method, teacher=teacher, engine=report.engine())
    seconds = sum(taken.seconds[1:]) / max(len(taken.seconds) - 1, 1)
    found = {"steps": len(taken.seconds), "step_seconds": seconds, "epoch_seconds": seconds * batches}
    report.put("kd", found)
    print(f"kd: an epoch takes {found['epoch_seconds']:.2f} s ({found['steps']} of {batches} steps taken)", flush=True)


def language(report: Report) -> None:
    """Steps of distilling a fresh model of 12 layers into one of 6."""
    from attar.language.distillation import DistillLanguage
    from attar.language.models import byte_tokenizer, fresh_model
    from attar.language.phrases import drawn
    from attar.language.sources import load

    quick = report.args.quick
    data = load({part: drawn(32, part) for part in ("train", "validation", "test")})
    words = byte_tokenizer(data.texts(), 300)
    sizes = (
        ("layers=2,width=32,heads=2", "layers=1,width=16,heads=2") if quick else ("layers=12,width=768,heads=12",) * 2
    )
    teacher = fresh_model(f"gpt2:{sizes[0]}", words, 128, torch.Generator().manual_seed(1)).eval()
    student = f"gpt2:{sizes[1]}"
    method = DistillLanguage(student=student, batch=16, max_length=128, epochs=10)
    with first_steps(DistillLanguage, 2 if quick else 10, report.device, over=lambda: report.over) as taken:
        attar.distill(data, method, teacher=teacher, tokenizer=words, answers=0, engine=report.engine())
    found = {"first_seconds": taken.seconds[0], "step_seconds": min(taken.seconds), "losses": taken.losses}
    report.put("language", found)
    print(f"language: a step takes {found['step_seconds']:.3f} s, the first {found['first_seconds']:.2f} s", flush=True)


def released(report: Report) -> None:
    """DataDAM's released cell; with fewer steps, which is said, where the time does not allow all of them."""
    quick, root = report.args.quick, os.environ.get("ATTAR_DATA")
    if root is None and not quick:
        report.put("released", {"skipped": "set ATTAR_DATA to a folder that has cifar10"})
        print("released: skipped, set ATTAR_DATA to a folder that has cifar10", flush=True)
        return
    source = cifar(report, 40, test=100) if quick else attar.load(Path(str(root)) / "cifar10")
    method = attar.DataDAM.paper("cifar10", ipc=IPC, variant="released")
    whole, protocol = method.steps, "datadam"
    if quick:
        width = replace(method.architecture, width=8)
        method = replace(method, real_batch=8, architecture=width)
        protocol = attar.Protocol(name="brief", epochs=2)
    with first_steps(attar.DataDAM, 3 if quick else 60, report.device) as taken:
        attar.condense(source, method, engine=report.engine())
    rate = sum(taken.seconds[-20:]) / len(taken.seconds[-20:])
    steps = min(whole, 2 if quick else max(100, int(0.55 * report.left / rate) // 100 * 100))
    out, start = Path(report.args.folder) / f"datadam-released-{steps}{'-quick' if quick else ''}", time.perf_counter()
    made = attar.condense(source, replace(method, steps=steps), out=out, engine=report.engine())
    found = {"steps": steps, "of": whole, "seconds": time.perf_counter() - start, "step_seconds": rate}
    report.put("released", found)
    start = time.perf_counter()
    how = {"networks": ["convnet:width=8" if quick else "convnet"], "repeats": 2 if quick else 5, "protocol": protocol}
    scores = attar.evaluate(made, source, ceiling="skip", beside="skip", engine=report.engine(), **how)
    cell = scores.rows[0].cells[0]
    found |= {
        "accuracy": cell.score.value,
        "spread": cell.score.spread,
        "networks": cell.score.n,
        "scoring_seconds": time.perf_counter() - start,
    }
    report.put("released", found)
    print(f"released: {steps} of {whole} steps in {found['seconds']:.0f} s, {cell.score}", flush=True)


PARTS: dict[str, Callable[[Report], None]] = {
    "steps": steps,
    "speed": speed,
    "evaluation": evaluation,
    "kd": kd,
    "language": language,
    "released": released,
}

if __name__ == "__main__":
    main()
