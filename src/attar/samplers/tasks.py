"""The tasks of training and distilling samplers: the data, and a teacher."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from attar.core import tasks
from attar.core.settings import Hidden, Range, Role, Settings, Words


@dataclass(frozen=True, kw_only=True)
class Teacher(Settings):
    """A diffusion model, or how to train one."""

    network: Annotated[Any, Words()] = None
    """A trained network: the folder of a diffusion model, a folder of diffusers or its name on the hub; or a network
    by words, such as mlp:width=384, which is trained here by edm and cached. Default: the usual network of the data."""
    steps: Annotated[int, Range(1)] | None = None
    """Steps of the teacher's training, if it is trained here. Default: those of edm."""
    levels: Annotated[int, Range(1, 10_000)] | None = None
    """Number of noise levels of the teacher's sampling. Default: as it was made."""

    prediction: Literal["epsilon", "v", "flow", "x0"] | None = None
    """What a network of diffusers predicts: the noise ε, the velocity v, the flow ε - x0, or the clean sample. Default:
    as its scheduler says."""
    schedule: str | None = None
    """Schedule of a network of diffusers without a scheduler, by words: linear, scaled-linear, cosine or flow."""

    itself: ClassVar[str] = "network"

    def found(self, source: Any, runtime: Any) -> Any:
        """The teacher: as given, read from its folder, or trained now and cached."""
        from attar.samplers.teaching import teacher_named

        return teacher_named(
            self.network,
            source,
            runtime.with_seed(0),
            steps=self.steps,
            levels=self.levels,
            prediction=self.prediction,
            schedule=self.schedule,
        )


@dataclass(frozen=True, kw_only=True)
class Train(tasks.Task):
    """What a diffusion model is trained from: the data alone."""

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The data, and the teacher if there is one."""
        from attar.samplers.teaching import work_of

        return work_of(source, self.teacher_for(source, method, runtime), runtime), method

    def teacher_for(self, source: Any, method: Any, runtime: Any) -> Any:
        """The teacher, if there is one."""
        return None


@dataclass(frozen=True, kw_only=True)
class Distill(Train):
    """What a sampler is distilled from besides the data: its teacher."""

    teacher: Annotated[Teacher, Role()] = Teacher()
    """The teacher."""
    module: Annotated[Any, Hidden()] = None
    """A student of the caller's own; these methods take none."""

    follows = "teacher"

    @property
    def earlier(self) -> Any:
        """The teacher, if it is a folder."""
        given = self.teacher.network
        return given if isinstance(given, (str, Path)) and Path(given).expanduser().is_dir() else None

    def teacher_for(self, source: Any, method: Any, runtime: Any) -> Any:
        """The teacher: as given, read, or trained now."""
        return self.teacher.found(source, runtime)
