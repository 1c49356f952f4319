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
"""

import argparse
import dataclasses
import json
import statistics
import time
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


def digits(seeds: int, *, quick: bool) -> list[dict[str, Any]]:
    """A row for each edit and score."""
    teacher = {"teacher": QUICK_TEACHER, "teacher_steps": 50} if quick else {}
    rows = []
    for source, target in DIGITS:
        for score in ("dds", "sds"):
            method = ImageEdit(source_prompt=source, target_prompt=target, score=score)
            method = dataclasses.replace(method, steps=20) if quick else method
            start = time.perf_counter()
            made = [run("digits", method, seed, **teacher) for seed in range(seeds)]
            seconds = (time.perf_counter() - start) / seeds
            row = {"edit": f"{source} to {target}", "score": score, **means(made), "seconds": round(seconds, 2)}
            if seeds > 1:
                row["rms_between_seeds"] = float(rms(made[0].edited, made[1].edited))
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def scene(seeds: int, *, quick: bool) -> list[dict[str, Any]]:
    """A row for each target and way of editing."""
    rows = []
    small: dict[str, Any] = {"steps": 6} if quick else {}
    beside: dict[str, Any] = {"teacher": QUICK_TEACHER, "teacher_steps": 20, "field": quick_field()} if quick else {}
    for target in TARGETS[: 1 if quick else None]:
        how: dict[str, Any] = {"target_prompt": target, **small}
        ways: dict[str, tuple[Any, dict[str, Any]]] = {
            "ed-nerf": (EdNeRF(**how), {}),
            "masked sds": (EdNeRF(**how, score="sds"), {}),
            "sds": (EdNeRF(**how, score="sds"), {"mask": "none"}),
            "each view, then a fit": (EdNeRFRefit(**how), {}),
        }
        for name, (method, more) in ways.items():
            start = time.perf_counter()
            made = [run(data_of_scene(quick=quick), method, seed, **beside, **more) for seed in range(seeds)]
            seconds = (time.perf_counter() - start) / seeds
            rows.append({"target": target, "way": name, **means(made), "seconds": round(seconds, 2)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


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


def means(made: list[Any]) -> dict[str, float]:
    """Means over seeds of everything that was measured."""
    return {name: statistics.fmean(one.scores[name] for one in made) for name in made[0].scores}


def main() -> None:
    """Measure, and record where nothing was cut short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps each, recorded nowhere")
    parser.add_argument("--parts", nargs="+", choices=("digits", "scene"), default=["digits", "scene"])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    seeds = 1 if given.quick else given.seeds
    parts = {"digits": digits, "scene": scene}
    found = {name: parts[name](seeds, quick=given.quick) for name in given.parts}
    if given.quick or set(given.parts) != set(parts):
        return
    facts = {"cpu": harness.cpu_model(), "threads": torch.get_num_threads(), "seeds": seeds}
    (harness.RESULTS / "edits.json").write_text(json.dumps({**facts, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
