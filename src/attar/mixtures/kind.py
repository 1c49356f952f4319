"""Gaussian mixtures."""

from attar.core.kinds import Kind

KIND = Kind(
    name="mixtures",
    holds="Gaussian mixtures",
    makes="fewer components",
    artefact="attar.mixtures.artefact:ReducedMixture",
    reading="attar.mixtures.reading:Reading",
    forms="attar.mixtures.reading:looks_like",
    tasks={"compress": "attar.core.tasks:Task"},
    scoring="attar.mixtures.scoring:Scoring",
    bundled="digits",
    size="n_components",
    data="a mixture's file, an artefact's folder, a table of samples to fit a mixture to, digits, or standard-1d",
    was=("mixture",),
)
