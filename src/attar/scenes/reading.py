"""Settings of reading a scene; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Self

from attar.core import tasks
from attar.core.settings import Range
from attar.images.reading import Pictures
from attar.images.reading import looks_like as pictures

SIMULATED = ("spheres", "objects")
"""The simulated scenes, by name."""
TRANSFORMS, SPLIT, BOUNDS = "transforms.json", "transforms_train.json", "poses_bounds.npy"
"""Files by which a folder is known: of nerfstudio and instant-ngp, of NeRF's synthetic scenes, and of LLFF."""


def looks_like(data: str) -> bool:
    """Whether a name, a file or a folder is a scene."""
    path = Path(data)
    if path.name in (TRANSFORMS, BOUNDS):
        return path.is_file()
    return data in SIMULATED or any((path / name).is_file() for name in (TRANSFORMS, SPLIT, BOUNDS))


def are_images(data: Any) -> bool:
    """Whether data are labelled images, by name, by folder or as a source, and no scene."""
    if not isinstance(data, (str, Path)):
        return hasattr(data, "classes") and hasattr(data, "train") and not hasattr(data, "camera")
    text = str(data)
    return not looks_like(text) and (text == "digits" or text.endswith(".parquet") or pictures(text))


@dataclass(frozen=True, kw_only=True)
class Reading(tasks.Reading):
    """Settings of reading posed pictures."""

    size: Annotated[int, Range(8)] | None = None
    """Side, in pixels, to which the central square of every picture is scaled. Default: pictures are not scaled, and
    their sides are cut to multiples of 8; simulated views have 64 pixels a side."""
    held_out_views: Annotated[int, Range(0)] | None = None
    """Number of held-out views, evenly spaced. Default: those that the files name, or an eighth; 6 if simulated."""
    near_plane: Annotated[float, Range(0)] | None = None
    """Distance from the camera at which rays begin. Default: by the files' bounds, or by where the cameras look."""
    far_plane: Annotated[float, Range(0)] | None = None
    """Distance from the camera at which rays end. Default: as with near-plane."""
    box: tuple[float, ...] = ()
    """The box that the field fills: its smallest x, y and z, and its largest. Default: by where the cameras look."""

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """The inverse of `to_json`; settings by which labelled images were read, which have no meaning here, pass."""
        own, theirs = ({one.name for one in fields(kind)} for kind in (cls, Pictures))
        if isinstance(values, Mapping):
            values = {name: value for name, value in values.items() if name in own or name not in theirs}
        return super().from_json(values)

    def load(self, data: Any) -> Any:
        """The scene that data stand for; or labelled images, which are edited as they are."""
        from attar.scenes.posed import loaded

        if are_images(data):
            from attar.samplers.reading import Reading as Samples

            return Samples(size=self.size).load(data)

        return loaded(data, self)
