"""Encoders of samples with few labels or none."""

from attar.core.kinds import Kind

KIND = Kind(
    name="embeddings",
    holds="samples with few labels or none",
    makes="an encoder",
    artefact="attar.embeddings.artefact:TrainedEncoder",
    reading="attar.embeddings.reading:Reading",
    forms="attar.embeddings.reading:looks_like",
    tasks={"train": "attar.embeddings.tasks:Train"},
    scoring="attar.embeddings.scoring:Scoring",
    bundled="mosaics",
    data="mosaics, digits, a table (parquet or CSV) with 0/1 columns of labels, images in any form that attar reads, "
    "with one label, several labels, captions or none, or a zip of Omniglot",
    imports=("images",),
)
