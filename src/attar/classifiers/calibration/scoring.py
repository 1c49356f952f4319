"""The scores of a calibrated classifier on the test images, beside those before, and those of one temperature."""

import warnings
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from attar.classifiers.calibration.artefact import RIVAL, UNCALIBRATED, CalibratedClassifier
from attar.classifiers.calibration.calibration import Calibration
from attar.classifiers.calibration.metrics import calibration_error, negative_log_likelihood, probabilities_of, top
from attar.classifiers.calibration.pictures import reliability_picture
from attar.classifiers.calibration.ts import TemperatureScaling
from attar.classifiers.calibration.work import Calibrating
from attar.classifiers.subclasses import Grouping
from attar.core.runtime import Runtime

Tested = Float[Tensor, "sample classes"]
FEWEST = 15
"""Number of bins, below which number of test images nothing is binned."""


def measured(
    made: CalibratedClassifier, work: Calibrating, method: Calibration, runtime: Runtime
) -> tuple[dict[str, Any], bytes | None]:
    """The measures by name and by what was measured, and a reliability diagram.

    Args:
        made: The calibrated classifier.
        work: The classifier with its data.
        method: The settings of the calibrator.
        runtime: The machine.
    """
    test = work.source.test
    logits, views = work.logits(test, method, runtime)
    answers = {"calibrated": method.applied(made.calibrator, logits, views), UNCALIBRATED: logits}
    rival = TemperatureScaling()
    if method != rival:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the rival, for which nobody has asked
            answers[RIVAL] = rival.applied(work.learned_by(rival, runtime), logits)
    labels = test.labels
    if work.group is not None:
        grouping = Grouping(work.group)
        answers = {who: grouping.class_logits(one) for who, one in answers.items()}
        labels = grouping.labels(labels)
    if len(labels) < FEWEST:
        told = f"{work.name} has {len(labels)} test {work.source.things}"
        runtime.say(f"note: {told}, too few for a calibration error in 15 bins.")
        return {}, None
    return _scores(answers, labels), _diagram(answers, labels)


def _scores(answers: Mapping[str, Tested], labels: Int[Tensor, " sample"]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {"ece": {}, "nll": {}, "accuracy": {}}
    for who, logits in answers.items():
        confidence, right = top(probabilities_of(logits), labels)
        found["ece"][who] = round(100 * calibration_error(confidence, right), 6)
        found["nll"][who] = round(negative_log_likelihood(logits, labels), 8)
        found["accuracy"][who] = 100 * float(right.double().mean())
    return found


def _diagram(answers: Mapping[str, Tested], labels: Int[Tensor, " sample"]) -> bytes | None:
    drawn = {who: top(probabilities_of(answers[who]), labels) for who in (UNCALIBRATED, "calibrated")}
    return reliability_picture(drawn)
