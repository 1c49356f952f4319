"""Plasmas: a simulated fluid, the spectral lines that it shows, and emulators of the code that computes them."""

from attar.core.kinds import Kind

KIND = Kind(
    name="plasma",
    holds="simulated plasmas",
    makes="a simulation, its spectra, or an emulator",
    artefact="attar.plasma.artefact:StoredPlasma",
    reading="attar.plasma.reading:Reading",
    forms="attar.plasma.reading:looks_like",
    sure=True,
    tasks={
        "simulate": "attar.plasma.tasks:Simulate",
        "distill": "attar.plasma.tasks:Distill",
    },
    scoring="attar.plasma.scoring:Scoring",
    bundled="threads",
    data="threads (random columns), or the folder of a run or of columns",
)
