"""Edits by score distillation: digits in two dimensions, DDS against SDS, and an object in a latent field, with rivals.

    python bench/edits.py --quick     # does it run
    python bench/edits.py             # recorded in bench/results/edits.json
    python bench/edits.py --parts digits --seeds 1

Digits: the test images of a class become another class (3 to 8, 1 to 7), with a diffusion model of the training images.
Measured are the share that a classifier takes for the target, the spread within the edited images (DDS must keep it,
SDS does not), the distance from the source, and the distance between two seeds.

Scene: the object of the simulated scene `objects` becomes another class. ED-NeRF's edit stands beside masked SDS, SDS
without a mask, and the edit of each view by itself with a field that is fitted to what came out. Measured are the
target accuracy over held-out poses, the background outside the mask before and after, view consistency, and the
direction score by the classifier's features. Teacher, field and autoencoder are trained once and kept in the cache.
Seconds are CPU seconds on one thread. A run is recorded when it ends; what is recorded is not run again.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import harness
import torch

import attar
from attar.core.runtime import Engine
from attar.scenes import EdNeRF, EdNeRFRefit, ImageEdit
from attar.scenes.editing import rms

DIGITS = (("3", "8"), ("1", "7"))
TARGETS = ("blue ball", "red cube")
QUICK_TEACHER = "mlp:width=32,depth=1"
RECORD = "edits.json"
PARTS = ("digits", "scene")
Rows = dict[str, dict[str, Any]]
Keep = Callable[[], None]


def digits(rows: Rows, seeds: int, keep: Keep, *, quick: bool) -> None:
    """A row for each edit and score."""
    teacher = {"teacher": QUICK_TEACHER, "teacher_steps": 50} if quick else {}
    for source, target in DIGITS:
        for score in ("dds", "sds"):
            method = ImageEdit(source_prompt=source, target_prompt=target, score=score)
            method = dataclasses.replace(method, steps=20) if quick else method
            row = rows.setdefault(f"{source} to {target}, {score}", {"seeds": {}})
            made = fill(row, "digits", method, seeds, keep, **teacher)
            if len(made) > 1:
                row["rms_between_seeds"] = float(rms(made[0].edited, made[1].edited))
                keep()


def scene(rows: Rows, seeds: int, keep: Keep, *, quick: bool) -> None:
    """A row for each target and way of editing."""
    small: dict[str, Any] = {"steps": 6} if quick else {}
    beside: dict[str, Any] = {"teacher": QUICK_TEACHER, "teacher_steps": 20, "field": quick_field()} if quick else {}
    for target in TARGETS[: 1 if quick else None]:
        how: dict[str, Any] = {"target_prompt": target, **small}
        ways: dict[str, tuple[Any, dict[str, Any]]] = {
            "ed-nerf": (EdNeRF(**how), {}),
            "masked SDS": (EdNeRF(**how, score="sds"), {}),
            "SDS": (EdNeRF(**how, score="sds"), {"mask": "none"}),
            "each view, then a fit": (EdNeRFRefit(**how), {}),
        }
        for name, (method, more) in ways.items():
            row = rows.setdefault(f"{target}, {name}", {"seeds": {}})
            fill(row, data_of_scene(quick=quick), method, seeds, keep, **beside, **more)


def fill(row: dict[str, Any], data: Any, method: Any, seeds: int, keep: Keep, **beside: Any) -> list[Any]:
    """Measure the seeds that a row lacks, and return what was made."""
    made = []
    for seed in range(seeds):
        if str(seed) in row["seeds"]:
            continue
        start = time.process_time()
        made.append(run(data, method, seed, **beside))
        row["seeds"][str(seed)] = {**made[-1].scores, "seconds": round(time.process_time() - start, 1)}
        print(method.name, method.target_prompt, method.score, seed, json.dumps(row["seeds"][str(seed)]), flush=True)
        keep()
    return made


def data_of_scene(*, quick: bool) -> Any:
    """The object, or small views of it."""
    if not quick:
        return "objects"
    from attar.scenes.simulated import simulated

    return simulated("objects", 24, 8, 2)


def quick_field() -> Any:
    """A field of the small views that has learned for a moment."""
    from attar.scenes import TrainLatentField

    method = TrainLatentField(voxels=8, steps=10, batch=2, ray_samples=16, refine_width=8)
    how = {"autoencoder": "conv:width=8,latents=2,halvings=1", "engine": Engine(device="cpu", quiet=True)}
    return attar.train(data_of_scene(quick=True), method, **how)


def run(data: Any, method: Any, seed: int, **beside: Any) -> Any:
    """One edit; a teacher's steps are nested settings of the task."""
    steps, teacher = beside.pop("teacher_steps", None), beside.pop("teacher", None)
    given = {"network": teacher, "steps": steps} if steps else teacher
    return attar.distill(data, method, teacher=given, seed=seed, engine=Engine(device="cpu", quiet=True), **beside)


def main() -> None:
    """Measure, and record each run when it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps each, recorded nowhere")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = harness.RESULTS / RECORD
    found = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() and not given.quick else {}

    def keep() -> None:
        if not given.quick:
            harness.record(RECORD, {"machine": harness.machine(), "parts": found})

    for name in given.parts:
        measure = {"digits": digits, "scene": scene}[name]
        measure(found.setdefault(name, {}), 1 if given.quick else given.seeds, keep, quick=given.quick)


if __name__ == "__main__":
    main()
