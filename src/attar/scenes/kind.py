"""Posed images of a scene, and the radiance fields made from them."""

from attar.core.kinds import Kind

KIND = Kind(
    name="scenes",
    holds="scenes",
    makes="a radiance field",
    artefact="attar.scenes.artefact:StoredScene",
    reading="attar.scenes.reading:Reading",
    forms="attar.scenes.reading:looks_like",
    sure=True,
    tasks={
        "train": "attar.scenes.tasks:Train",
        "distill": "attar.scenes.tasks:Distill",
    },
    scoring="attar.scenes.scoring:Scoring",
    bundled="spheres",
    data="spheres or objects (simulated), a folder with transforms.json or poses_bounds.npy, or for image-edit "
    "labelled images",
    imports=("images", "samplers"),
)
