"""The tasks of training and distillation: a teacher, a module to train, and the scores at the end."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from attar.core import tasks
from attar.core.settings import Hidden, Range, Role, Settings, Words

USUAL = "convnet:norm=batch"
"""The network that is trained as the teacher, if none is named."""


@dataclass(frozen=True, kw_only=True)
class Teacher(Settings):
    """A trained teacher network, or how to train one."""

    network: Annotated[Any, Words()] | tuple[Annotated[Any, Words()], ...] = None
    """A trained network: its folder, transformers:NAME, or a network by name, which is trained here and cached. Of
    several networks the answers are averaged. Default: the teacher of the --paper pair, or convnet:norm=batch."""
    weights: tuple[Annotated[float, Range(0)], ...] = ()
    """Weight of each of several teachers in the average. Default: all the same."""
    combine: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged of several teachers. probabilities: the logits are the logarithm of their mean, as of an
    ensemble. logits: the logits themselves."""
    epochs: Annotated[int, Range(1)] | None = None
    """Number of epochs of the teacher's training, if it is trained here. Default: the full-data protocol's 30."""
    lr: Annotated[float, Range(0)] | None = None
    """Step size of the teacher's training. Default: the protocol's."""
    batch: Annotated[int, Range(1)] | None = None
    """Batch size of the teacher's training. Default: the protocol's."""
    calibrate: Annotated[Any, Words()] = None
    """Calibrator of the teacher before it teaches, such as ts, with its usual settings. A teacher that is trained here
    leaves a tenth of the training images out for it. Default: none."""

    itself: ClassVar[str] = "network"

    def found(self, source: Any, runtime: Any) -> Any:
        """The network: as given, read from its folder or by its name, or trained now and cached; several as one.

        Raises:
            InputError: There is no such network, or the weights are not one for each.
        """
        several = self.network if isinstance(self.network, tuple) else (self.network,)
        if len(several) == 1 and not self.weights:
            return self._one(several[0], source, runtime)
        from attar.classifiers.teachers import averaged

        return averaged([self._one(one, source, runtime) for one in several], self.weights, self.combine)

    def _one(self, wanted: Any, source: Any, runtime: Any) -> Any:
        """One network."""
        from torch import nn

        from attar.classifiers.teacher import teacher_named
        from attar.images.networks.pretrained import named_by_classes
        from attar.images.protocols import PROTOCOLS

        given = {name: getattr(self, name) for name in ("epochs", "lr", "batch")}
        protocol = replace(PROTOCOLS["ceiling"], **{name: value for name, value in given.items() if value is not None})
        if self.calibrate is not None:
            from attar.classifiers.calibration.teaching import calibrated_teacher

            network = wanted if isinstance(wanted, nn.Module) else str(wanted or USUAL)
            return calibrated_teacher(network, self.calibrate, source, runtime.with_seed(0), protocol)
        if isinstance(wanted, nn.Module):
            return named_by_classes(wanted, source, runtime.say)
        return teacher_named(str(wanted or USUAL), source, runtime.with_seed(0), protocol)


@dataclass(frozen=True, kw_only=True)
class Train(tasks.Task):
    """What a classifier is trained from besides the data: a module of the caller's own, if it is given."""

    module: Annotated[Any, Hidden()] = None
    """A module of the caller's own to be trained, in place of the method's; it is not changed."""

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The data, and the module to train."""
        from attar.classifiers.pair import Pair

        return Pair(source, self.teacher_for(source, method, runtime), self._own()), method

    def teacher_for(self, source: Any, method: Any, runtime: Any) -> Any:
        """The teacher, if there is one."""
        return None

    def _own(self) -> Any:
        from attar.core.training import in_float32

        return None if self.module is None else in_float32(copy.deepcopy(self.module))

    def open(self, folder: Path, kind: Any) -> Any:
        """Read a finished student. A module of the caller's own can be built only by the caller."""
        from attar.core.training import in_float32

        if self.module is None:
            return kind.load(folder)
        return kind.made.load(folder, build=lambda: in_float32(copy.deepcopy(self.module)))

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """Score the network, and its teacher, on the test images, once, at the end."""
        from attar.classifiers.teacher import accuracy_on_classes
        from attar.core.score import Score, kept

        how = {"group": made.group, "known": made.labels_are_subclasses}
        scores = {"student": accuracy_on_classes(made.network, work.source, runtime, **how)}
        if work.teacher is not None:
            known = how if method.needs_teacher else {}
            scores["teacher"] = accuracy_on_classes(work.teacher, work.source, runtime, **known)
            share = kept(Score(scores["student"]), Score(scores["teacher"]))
            scores |= {} if share is None else {"kept": share}
            scores |= method.further_scores(work.teacher, work.source, runtime)
        return replace(made, scores=scores | made.scores)


@dataclass(frozen=True, kw_only=True)
class Import(tasks.Task):
    """Turn a trained classifier of another package into one of attar's, to be a teacher or an observer."""

    files: Annotated[tuple[Path, ...], Hidden()] = ()
    """The file of the network: a state dict as .pth, .pt or .safetensors."""

    title = "importing"
    usual = "attar.classifiers.importing:ImportTeacher"
    word = "teacher"
    meanings = MappingProxyType(
        {
            "files": "The file of the network: a state dict as .pth, .pt or .safetensors, alone or in a checkpoint.",
            "data": "Data whose classes the network knows. It is tested on their test images.",
            "seed": "Seed that is stored with the network.",
        }
    )
    positional = "files"

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The file with the data whose classes the network knows, and the method."""
        from attar.classifiers.importing import Handed

        return Handed(source, self.files, method.class_order), method

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """The accuracy on the test images, by which a wrong normalisation, size or order of classes is noticed."""
        from attar.classifiers.teacher import accuracy_on_classes

        source, labels = work.source, work.source.test.labels
        accuracy = accuracy_on_classes(made.of(source, "the network", runtime.say).network, source, runtime)
        chance = 100 * float(labels.bincount().max()) / len(labels)
        runtime.say(f"{accuracy:.1f} % of the {len(labels):,} test images of {source.name} correct")
        if accuracy <= 1.5 * chance:
            runtime.say(
                f"note: that is hardly more than chance, {chance:.1f} %. Normalisation (--mean, --std), size "
                "(--input-size) or order of classes (--class-order) may be wrong."
            )
        return replace(made, scores={"student": accuracy} | made.scores)


@dataclass(frozen=True, kw_only=True)
class Distill(Train):
    """What a student learns from besides the data: its teacher."""

    teacher: Annotated[Teacher, Role()] = Teacher()
    """The teacher."""

    follows = "teacher"

    @property
    def earlier(self) -> Any:
        """The teacher, if it is one folder."""
        return None if isinstance(self.teacher.network, tuple) else self.teacher.network

    def teacher_for(self, source: Any, method: Any, runtime: Any) -> Any:
        """The teacher: as given, read, or trained now."""
        wanted = method.needs_teacher or self.teacher.network is not None
        return self.teacher.found(source, runtime) if wanted else None
