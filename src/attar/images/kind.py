"""Labelled images."""

from attar.core.kinds import Kind

KIND = Kind(
    name="images",
    holds="labelled images",
    makes="a few images per class",
    artefact="attar.images.artefact:CondensedImages",
    reading="attar.images.reading:Reading",
    tasks={
        "condense": "attar.core.tasks:Task",
        "label": "attar.images.tasks:Label",
        "train": "attar.images.tasks:Train",
        "import": "attar.images.tasks:Import",
    },
    scoring="attar.images.scoring:Scoring",
    forms="attar.images.reading:looks_like",
    bundled="digits",
    size="ipc",
    data="digits, a parquet file or folder in Hugging Face form, a folder of pictures per class, or a name on the hub: "
    "user/name, or user/name:configuration",
)
