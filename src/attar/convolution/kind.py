"""The convolutions of a network."""

from attar.core.kinds import Kind

KIND = Kind(
    name="convolution",
    holds="convolutions of a network",
    makes="a plan of its convolutions",
    artefact="attar.convolution.artefact:ConvolutionPlan",
    reading="attar.images.reading:Reading",
    tasks={"compress": "attar.core.tasks:Task"},
    scoring="attar.convolution.scoring:Scoring",
    bundled="digits",
    data="the images on which layers are measured: digits, a parquet file or folder, a folder of pictures per class, "
    "or a name on the hub",
    imports=("images",),
)
