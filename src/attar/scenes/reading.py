"""Settings of reading a scene; nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from attar.core import tasks
from attar.core.settings import Range

if TYPE_CHECKING:
    from attar.scenes.sources import Scene

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

    def load(self, data: Any) -> "Scene":
        """The scene that data stand for."""
        from attar.scenes.posed import loaded

        return loaded(data, self)
