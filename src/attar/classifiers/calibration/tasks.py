"""The task of calibration: a classifier, the images that calibrate it, and the scores before and after."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from attar.core import tasks
from attar.core.settings import Words


@dataclass(frozen=True, kw_only=True)
class Calibrate(tasks.Task):
    """The classifier, and the images that the calibrator is fitted to."""

    classifier: Annotated[Any, Words()] = None
    """The classifier: a folder of attar or transformers, transformers:NAME, or user/name of one of attar's on the
    hub."""
    calibrate_on: Literal["auto", "reserved", "held-out", "train"] = "auto"
    """Training images of the fit: those that the classifier reserved, those that it held out, or all. auto: the
    first of these that it has; a tenth of all if it was trained elsewhere. Held out were those that chose an epoch."""
    calibration_data: Annotated[Any, Words()] = None
    """Other data of the same classes whose training images are taken in place of those."""

    follows = "classifier"

    @property
    def earlier(self) -> Any:
        """The classifier."""
        return self.classifier

    def prepare(self, source: Any, method: Any, runtime: Any) -> tuple[Any, Any]:
        """The classifier with its data and the images that calibrate it."""
        from attar.classifiers.calibration.opening import found
        from attar.classifiers.calibration.work import Calibrating, in_its_split

        one = found(self.classifier)
        other = self.of_other(one, source)
        source = in_its_split(one, self.measured_on(one.seen(source)), runtime)
        other = None if other is None else self.measured_on(one.seen(other))
        work = Calibrating.of(one, source, runtime, asked=self.calibrate_on, other=other)
        work.check(method)
        return work, method

    def of_other(self, classifier: Any, source: Any) -> Any:
        """The other data, read as the data were.

        Args:
            classifier: The classifier, as it was found.
            source: The data.
        """
        from attar.core.provenance import asked_for
        from attar.images.reading import Reading

        if self.calibration_data is None:
            return None
        _, known = asked_for(source)
        return Reading.from_json(known).load(self.calibration_data)

    def open(self, folder: Path, kind: Any) -> Any:
        """Read a finished calibrator. A module of the caller's own is the caller's to give."""
        from torch import nn

        if not isinstance(self.classifier, nn.Module):
            return kind.load(folder)
        return kind.made.load(folder, build=lambda: copy.deepcopy(self.classifier))

    def score(self, made: Any, work: Any, method: Any, runtime: Any) -> Any:
        """Measure the classifier on the test images before and after, and after temperature scaling, once."""
        from attar.classifiers.calibration.scoring import measured

        scores, diagram = measured(made, work, method, runtime)
        return replace(made, scores=scores, diagram=diagram)
