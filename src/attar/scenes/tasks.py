"""The tasks of training in scenes: the data, and an autoencoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from attar.core import tasks
from attar.core.settings import Hidden, Range, Role, Settings, Words


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Settings):
    """An autoencoder, or how to train one."""

    network: Annotated[Any, Words()] = None
    """An autoencoder: its folder (of attar or diffusers), identity, or words such as conv:width=32, trained here and
    cached."""
    steps: Annotated[int, Range(1)] | None = None
    """Steps of the autoencoder's training, if it is trained here. Default: those of its method."""

    itself: ClassVar[str] = "network"

    def found(self, scene: Any, runtime: Any) -> Any:
        """The autoencoder: as given, read from its folder, or trained now and cached."""
        from attar.scenes.work import codec_for

        return codec_for(self.network, scene, runtime.with_seed(0), steps=self.steps)


@dataclass(frozen=True, kw_only=True)
class Train(tasks.Task):
    """What an autoencoder or a field is trained from."""

    autoencoder: Annotated[Autoencoder, Role()] = Autoencoder()
    """The autoencoder."""

    follows = "autoencoder"

    @property
    def earlier(self) -> Any:
        """The autoencoder, if it is a folder that attar wrote."""
        given = self.autoencoder.network
        return given if isinstance(given, (str, Path)) and (Path(given) / "artefact.json").is_file() else None

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The scene, with the autoencoder if the method needs one."""
        from attar.scenes.work import Work, scene_of

        source = scene_of(source)
        if not getattr(method, "needs_autoencoder", False):
            return Work(source), method
        return Work(source, self.autoencoder.found(source, runtime)), method

    def open(self, folder: Path, kind: Any) -> Any:
        """Read what a finished run has left, with an autoencoder of the caller's own where it has none."""
        found, given = kind.load(folder), self.autoencoder.network
        if getattr(found, "autoencoder", found) is not None or given is None or isinstance(given, (str, Path)):
            return found
        return found.with_autoencoder(given)


@dataclass(frozen=True, kw_only=True)
class Teacher(Settings):
    """A diffusion model of what is edited, or how to train one."""

    network: Annotated[Any, Words()] = None
    """A trained network, a diffusion model: its folder (of attar or diffusers), or words such as mlp:width=384, trained
    here by edm on all classes and cached."""
    steps: Annotated[int, Range(1)] | None = None
    """Steps of the teacher's training, if it is trained here. Default: those of edm."""

    itself: ClassVar[str] = "network"


@dataclass(frozen=True, kw_only=True)
class Distill(Train):
    """What is edited besides the data: a teacher, a field of the scene, and where something may change."""

    teacher: Annotated[Teacher, Role()] = Teacher()
    """The teacher."""
    field: Annotated[Any, Words()] = None
    """A latent field of the scene: its folder. Default: one is trained here and cached."""
    mask: Annotated[Any, Words()] = None
    """Mask of what may change: a PNG or a folder of PNGs (white may), difference (where the prompts differ),
    clipseg:FOLDER, or none. Default: the scene's own, else difference; of images none."""

    module: Annotated[Any, Hidden()] = None
    """A student of the caller's own; these methods take none."""

    @property
    def earlier(self) -> Any:
        """Nothing: teacher and field are of other data."""
        return None

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """What a method edits, with its teacher."""
        return method.prepared(source, self, runtime), method

    def field_of(self, scene: Any, runtime: Any) -> Any:
        """The latent field: as given, read from its folder, or trained now and cached."""
        from attar.scenes.work import field_named

        return field_named(self.field, scene, lambda: self.autoencoder.found(scene, runtime), runtime.with_seed(0))

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """The edit with its scores."""
        return method.scored(made, work, runtime)
