"""Tables with a label and a sensitive attribute."""

from attar.core.kinds import Kind

KIND = Kind(
    name="tables",
    holds="tables with a sensitive column",
    makes="a synthetic table",
    artefact="attar.tables.artefact:SyntheticTable",
    reading="attar.tables.reading:Reading",
    forms="attar.tables.reading:looks_like",
    tasks={
        "condense": "attar.core.tasks:Task",
        "train": "attar.tables.tasks:Train",
        "distill": "attar.tables.tasks:Distill",
        "calibrate": "attar.tables.tasks:Calibrate",
    },
    scoring="attar.tables.scoring:Scoring",
    bundled="applicants",
    size="rows",
    data="applicants, a CSV or parquet file, a folder of such files, or a name on the hub",
    imports=("images", "classifiers"),
    extra="",
)
