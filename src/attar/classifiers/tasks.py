"""A teacher and a student around a distillation, and what both score when it is done."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from attar.core import tasks
from attar.core.settings import Hidden, Range, Role, Settings, Words


@dataclass(frozen=True, kw_only=True)
class Teacher(Settings):
    """A trained network, or how one is trained."""

    network: Annotated[Any, Words()] = None
    """A trained network: its folder, or transformers:NAME; or a network by name, which is trained here and kept. That
    of the pair of --paper, or convnet:norm=batch, unless given."""
    epochs: Annotated[int, Range(1)] | None = None
    """Epochs of its training, where it is trained here; those of the full-data protocol (30) unless given."""
    lr: Annotated[float, Range(0)] | None = None
    """Step size of that training; the protocol's unless given."""
    batch: Annotated[int, Range(1)] | None = None
    """Batch size of that training; the protocol's unless given."""

    itself: ClassVar[str] = "network"

    def found(self, source: Any, runtime: Any) -> Any:
        """The network: as it was given, from its folder or name, or trained now and kept."""
        from torch import nn

        from attar.classifiers.teacher import teacher_named
        from attar.images.protocols import PROTOCOLS

        if isinstance(self.network, nn.Module):
            return self.network
        given = {name: value for name, value in vars(self).items() if name != "network" and value is not None}
        protocol = replace(PROTOCOLS["ceiling"], **given)
        return teacher_named(str(self.network or "convnet:norm=batch"), source, runtime.with_seed(0), protocol)


@dataclass(frozen=True, kw_only=True)
class Distill(tasks.Task):
    """What a student learns from besides the data."""

    teacher: Annotated[Teacher, Role()] = Teacher()
    """Whom it learns from."""
    module: Annotated[Any, Hidden()] = None
    """A student of one's own, in place of the method's: a module, which is left as it is."""

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """Teacher, student and data, as one."""
        from attar.classifiers.pair import Pair

        wanted = method.needs_teacher or self.teacher.network is not None
        found = self.teacher.found(source, runtime) if wanted else None
        return Pair(source, found, self.module), method

    def open(self, folder: Path, kind: Any) -> Any:
        """Read a finished student; its caller alone can build a module of one's own."""
        if self.module is None:
            return kind.load(folder)
        return kind.made.load(folder, build=lambda: copy.deepcopy(self.module))

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """Student and teacher on the test images, once, at the end."""
        from attar.classifiers.teacher import accuracy_on_classes

        how = {"group": made.group, "known": made.labels_are_subclasses}
        scores = {"student": accuracy_on_classes(made.network, work.source, runtime, **how)}
        if work.teacher is not None:
            known = how if method.needs_teacher else {}
            scores["teacher"] = accuracy_on_classes(work.teacher, work.source, runtime, **known)
            if scores["teacher"]:
                scores["kept"] = 100 * scores["student"] / scores["teacher"]
            scores |= method.further_scores(work.teacher, work.source, runtime)
        return replace(made, scores=scores | made.scores)
