"""Classifiers of images."""

from attar.core.kinds import Kind

KIND = Kind(
    name="classifiers",
    holds="image classifiers",
    makes="a student or a classifier",
    artefact="attar.classifiers.artefact:StoredClassifier",
    reading="attar.images.reading:Reading",
    tasks={
        "distill": "attar.classifiers.tasks:Distill",
        "train": "attar.classifiers.tasks:Train",
        "calibrate": "attar.classifiers.calibration.tasks:Calibrate",
        "import": "attar.classifiers.tasks:Import",
    },
    scoring="attar.classifiers.scoring:Scoring",
    bundled="digits",
    data="digits, a parquet file or folder, a folder of pictures per class, or a name on the hub",
    was=("classifier",),
    imports=("images",),
    page="distillation",
)
