"""Reading labelled images: the settings, and the description of a source."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attar.core import tasks
from attar.core.settings import Range

if TYPE_CHECKING:
    from attar.images.sources import ImageSource


ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jfif")
"""Usual endings of pictures. (Pillow knows them all, but takes long to import.)"""


def looks_like(data: str) -> bool:
    """Whether a folder has folders of pictures, at most three deep."""
    path = Path(data)
    if not path.is_dir():
        return False
    return any(file.suffix.lower() in ENDINGS for depth in ("*/*", "*/*/*", "*/*/*/*") for file in path.glob(depth))


@dataclass(frozen=True, kw_only=True)
class Pictures(tasks.Reading):
    """Settings of reading pictures, of whatever kind of source."""

    size: Annotated[int, Range(1)] | None = None
    """Side, in pixels, to which the central square of every picture is scaled. Default: pictures are not scaled."""
    memory: Annotated[float, Range(0)] = 4.0
    """Memory budget for decoded pixels, in GB. A larger set stays on disk and is decoded batch by batch."""
    image: str | None = None
    """Column of the images, in parquet files and data sets of the hub. Default: image, img or images."""
    label: str | None = None
    """Column of the labels. Default: label, labels, fine_label, or the only one of target, class and y."""
    background: Literal["white", "black", "none"] = "white"
    """Colour behind transparent pixels. none drops the transparency, so that hidden colours appear."""
    pixel_bits: Annotated[int, Range(8, 32)] | None = None
    """Number of bits of values in pictures with more than 8 bits. Default: 16, and floats run from 0 to 1."""
    skip_bad: bool = False
    """Whether pictures that cannot be read are left out. Otherwise they are counted and refused."""
    statistics: str | None = None
    """Channel statistics: a name (cifar10, ...), or measured. Default: those of papers if the set's name is known,
    otherwise measured."""
    split_seed: int = 0
    """Seed of the split of a set that came without one: a fifth is for testing."""


@dataclass(frozen=True, kw_only=True)
class Reading(Pictures):
    """Settings of reading pictures."""

    def load(self, data: Any) -> "ImageSource":
        """Load the source that `data` names."""
        from attar.images.sources import load

        return load(data, **self.to_json())

    def describe(self, source: "ImageSource") -> str:
        """A description of the source: its normalisation, and its classes with their numbers of images."""
        lines = [
            str(source),
            f"mean {source.transform.mean}, standard deviation {source.transform.std}, "
            f"fingerprint {source.fingerprint}",
        ]
        if source.streamed:
            lines.append(f"{source.bytes / 1e9:.1f} GB when decoded: it stays on disk and is decoded batch by batch")
        tested = source.test.labels.bincount(minlength=len(source.classes)).tolist()
        for name, rows, test_images in zip(source.classes, source.rows_of, tested, strict=True):
            lines.append(f"  {name:<24} {len(rows):,} training images, {test_images:,} test images")
        return "\n".join(lines)
