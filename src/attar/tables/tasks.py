"""The tasks of classifiers of rows: training, calibration and distillation of networks that else see images.

They are those of classifiers of images, on rows as images of one pixel. A classifier that is calibrated, or teaches,
has the say in how rows become numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.classifiers import tasks as classifiers
from attar.classifiers.calibration import tasks as calibration
from attar.core.errors import InputError

NETWORK = "mlp"
"""The network that takes rows."""


@dataclass(frozen=True, kw_only=True)
class Train(classifiers.Train):
    """What a classifier of rows is trained from besides the data: a module of the caller's own, if it is given."""

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The rows as images of one pixel, and the module to train."""
        _check_network("network", method, self.module)
        return super().prepare(self.measured_on(source), method, runtime)

    def measured_on(self, source: Any) -> Any:
        """The rows as images of one pixel."""
        return _as_images(source)

    def open(self, folder: Path, kind: Any) -> Any:
        """Read a finished classifier."""
        return super().open(folder, _of_classifiers())


@dataclass(frozen=True, kw_only=True)
class Distill(classifiers.Distill):
    """What a student of rows learns from besides the data: its teacher."""

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The rows as its teacher takes them, the teacher, and the student."""
        from attar.classifiers.teacher import opened_in

        _check_network("student", method, self.module)
        if isinstance(self.teacher.network, tuple):
            raise InputError(
                f"{len(self.teacher.network)} teachers are given, but students of rows have one. Give one."
            )
        teacher = opened_in(self.teacher.network)
        images = _as_images(source) if teacher is None else teacher.seen(source)
        return super().prepare(images, method, runtime)

    def measured_on(self, source: Any) -> Any:
        """The rows as images of one pixel."""
        return _as_images(source)


@dataclass(frozen=True, kw_only=True)
class Calibrate(calibration.Calibrate):
    """The classifier of rows, and the rows that the calibrator is fitted to."""

    def measured_on(self, source: Any) -> Any:
        """The rows as images of one pixel."""
        return _as_images(source)

    def of_other(self, classifier: Any, source: Any) -> Any:
        """The other rows, read by the schema of the classifier."""
        from attar.tables.reading import Reading

        if self.calibration_data is None:
            return None
        return Reading(schema=getattr(classifier.encoder, "schema", None)).load(self.calibration_data)


def _check_network(setting: str, method: Any, module: Any) -> None:
    """Check that the network to train takes rows.

    Raises:
        InputError: It takes images.
    """
    name = str(getattr(method, setting))
    if module is None and name.partition(":")[0] != NETWORK:
        raise InputError(f"{setting} is {name}, which takes images. For rows give --{setting} {NETWORK}:width=64.")


def _as_images(source: Any) -> Any:
    from attar.tables.encoder import as_images

    return as_images(source)


def _of_classifiers() -> Any:
    """The kind whose artefacts these tasks make."""
    from attar.core.kinds import kind_named

    return kind_named("classifiers")
