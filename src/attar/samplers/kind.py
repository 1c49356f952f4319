"""Diffusion models and what is distilled from them."""

from attar.core.kinds import Kind

KIND = Kind(
    name="samplers",
    holds="diffusion models",
    makes="a sampler",
    artefact="attar.samplers.artefact:StoredSampler",
    reading="attar.samplers.reading:Reading",
    forms="attar.samplers.reading:looks_like",
    tasks={
        "distill": "attar.samplers.tasks:Distill",
        "train": "attar.samplers.tasks:Train",
    },
    scoring="attar.samplers.scoring:Scoring",
    bundled="ring",
    data="ring, grid, moons, pinwheel or checkerboard (points in the plane), or images in any form that attar reads",
    imports=("images",),
)
