"""Rendering the rays of training views: as a sparse matrix, and by one call of `grid_sample`, forward and backward.

    python bench/scene_rendering.py
    python bench/scene_rendering.py --quick

Rays a second and memory for grids of 24³ to 128³. A step renders 512 rays of 64 samples from a field of one density and
four latents, and takes the gradient of a squared error at the grid. The grid's own gradient is dense on both sides.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import harness
import torch

from attar.scenes.fields import GridField
from attar.scenes.fixed import FixedRays
from attar.scenes.rendering import Rays, rays_of, render
from attar.scenes.simulated import BOX, FAR, NEAR, camera_of, cameras_around

RAYS, SAMPLES, CHANNELS = 512, 64, 4
SIZES = (24, 32, 48, 64, 96, 128)


def problem(size: int) -> tuple[GridField, Rays, torch.Tensor]:
    """A field of random values, rays of several views through its box, and what they should see."""
    draw = torch.Generator().manual_seed(0)
    field = GridField(BOX, (size, size, size), CHANNELS)
    with torch.no_grad():
        field.values.normal_(generator=draw)
    rays = rays_of(camera_of(16), cameras_around(8), NEAR, FAR, BOX)
    rows = (rays.ends > rays.starts).nonzero()[:, 0]
    rows = rows[torch.randperm(len(rows), generator=draw)[:RAYS]]
    chosen = Rays(rays.origins[rows], rays.directions[rows], rays.starts[rows], rays.ends[rows])
    return field, chosen, torch.randn(RAYS, CHANNELS, generator=draw)


def measured(folder: str, side: str, size: int, steps: int) -> dict[str, Any]:
    """Seconds of a step of one side."""
    field, rays, wanted = problem(size)
    fixed = FixedRays.of(rays, field, SAMPLES) if side == "sparse" else None

    def step() -> None:
        found = render(field, rays, SAMPLES) if fixed is None else fixed.render(field)
        field.values.grad = None
        (found.features - wanted).square().mean().backward()

    before = harness.peak_mb()
    taken = harness.timed(step, 3, steps)
    matrices = 0 if fixed is None else fixed.bytes
    return {**taken, "matrix_bytes": matrices, "step_mb": taken["peak_mb"] - before}


@torch.no_grad()
def apart(size: int) -> float:
    """The largest difference of raw values inside the box, as a share of the largest value."""
    field, rays, _ = problem(size)
    fixed = FixedRays.of(rays, field, SAMPLES)
    wanted = field.raw(rays.points(fixed.distances))
    off = (fixed.raw(field) - wanted).abs() * (fixed.lengths > 0)[..., None]
    return float(off.max() / wanted.abs().max())


def main() -> None:
    """Measure all sizes, each side in processes of its own and in turn, and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two sizes, few steps; nothing is recorded")
    parser.add_argument("--steps", type=int, default=200, help="steps timed in each process")
    args = parser.parse_args()
    quick = args.quick
    found: dict[str, Any] = {}
    for size in (24, 64) if quick else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            sides = {
                side: ("measured", {"side": side, "size": size, "steps": 5 if quick else args.steps})
                for side in ("grid_sample", "sparse")
            }
            row = _row(Path(folder), sides, 1 if quick else 3)
        row["difference"] = apart(size)
        found[f"{size}"] = row
        print(f"{size}³: {json.dumps(harness.rounded(row))}", flush=True)
    if not quick:
        how = {"rays": RAYS, "samples": SAMPLES, "channels": CHANNELS, "sizes": found}
        harness.record("scene_rendering.json", {**how, "machine": harness.machine()}, by_machine=True)


def _row(folder: Path, sides: dict[str, tuple[str, dict[str, Any]]], rounds: int) -> dict[str, Any]:
    if rounds == 1:
        reports = {side: [harness.in_own_process(__file__, name, folder, **how)] for side, (name, how) in sides.items()}
    else:
        reports = harness.until_agreed(
            lambda: {
                side: [harness.in_own_process(__file__, name, folder, **how) for _ in range(rounds)]
                for side, (name, how) in sides.items()
            }
        )
    seconds = {side: sorted(one["seconds"] for one in rows)[len(rows) // 2] for side, rows in reports.items()}
    matrix = reports["sparse"][0]["matrix_bytes"]
    return {
        "rays_per_second": {side: RAYS / value for side, value in seconds.items()},
        "ratio": seconds["grid_sample"] / seconds["sparse"],
        "peak_mb": {side: max(one["peak_mb"] for one in rows) for side, rows in reports.items()},
        "matrix_bytes_per_sample": matrix / (RAYS * SAMPLES),
    }


if __name__ == "__main__" and not harness.run_worker({"measured": measured}):
    main()
