"""How labelled images are read: settings, and what is told of a source."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from attar.core import tasks
from attar.core.settings import Range

if TYPE_CHECKING:
    from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class Reading(tasks.Reading):
    """How pictures are read."""

    size: Annotated[int, Range(1)] | None = None
    """Side in pixels to which the middle square of every picture is scaled; as they are unless given."""
    memory: Annotated[float, Range(0)] = 4.0
    """Budget in GB for decoded pixels; a larger set stays on disk and is decoded batch by batch."""
    image: str | None = None
    """The column of the images, in parquet files and data sets of the hub; image, img or images unless given."""
    label: str | None = None
    """The column of the labels; label, labels or fine_label unless given."""
    statistics: str | None = None
    """Channel statistics by name (cifar10, ...), or measured; the field's for a set of its name unless given."""
    split_seed: int = 0
    """Draws the split of a set that came without one: a fifth for testing."""

    def load(self, data: Any) -> "ImageSource":
        """The source that data stand for."""
        from attar.images.sources import load

        return load(data, **self.to_json())

    def describe(self, source: "ImageSource") -> str:
        """Classes with their images, and how they are normalised."""
        lines = [
            str(source),
            f"mean {source.transform.mean}, spread {source.transform.std}, fingerprint {source.fingerprint}",
        ]
        if source.streamed:
            lines.append(f"{source.bytes / 1e9:.1f} GB once decoded: left on disk, and decoded batch by batch")
        tested = source.test.labels.bincount(minlength=len(source.classes)).tolist()
        for name, rows, test_images in zip(source.classes, source.rows_of, tested, strict=True):
            lines.append(f"  {name:<24} {len(rows):,} training images, {test_images:,} to test on")
        return "\n".join(lines)
