"""Labelled graphs."""

from attar.core.kinds import Kind

KIND = Kind(
    name="graphs",
    holds="labelled graphs",
    makes="a few graphs per class",
    artefact="attar.graphs.artefact:CondensedGraphs",
    reading="attar.graphs.reading:Reading",
    forms="attar.graphs.reading:looks_like",
    tasks={"condense": "attar.core.tasks:Task"},
    scoring="attar.graphs.scoring:Scoring",
    bundled="motifs",
    size="gpc",
    data="motifs, the folder of a TU set, or ogbg-molhiv and its siblings",
)
