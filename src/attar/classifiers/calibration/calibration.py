"""What all calibrators have in common: they are fitted to logits and labels, and turn logits into log-probabilities.

A calibrator is a method (settings, and a run that fits it to a classifier), and with `Calibrator` a scikit-learn
estimator. What it learns is a dictionary of tensors. It computes in float64 while it is fitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.engine import Metrics
from attar.core.runtime import Runtime
from attar.core.settings import Settings

Logits = Float[Tensor, "sample classes"]
Labels = Int[Tensor, " sample"]
Learned = Mapping[str, Tensor]
Views = Sequence[Logits]
"""The logits of transformed copies of the same samples, one tensor for each transform."""


@dataclass(frozen=True, kw_only=True)
class Calibration(Settings):
    """Settings of a calibrator. A method fills in `fit` and `applied`."""

    name = "calibration"
    kind = "classifiers"
    verb = "calibrate"
    keeps_order = True
    """Whether the predicted class never changes."""
    looks_at_views = False
    """Whether it needs the logits of transformed copies of the images."""

    def fit(self, logits: Logits, labels: Labels, views: Views = (), *, generator: torch.Generator) -> Learned:
        """What is learned from logits of samples that the classifier was not trained on.

        Args:
            logits: Logits in float64.
            labels: The class of each sample.
            views: Logits of transformed copies, if `looks_at_views`.
            generator: Source of all draws.
        """
        raise NotImplementedError

    def applied(self, learned: Learned, logits: Logits, views: Views = ()) -> Logits:
        """Calibrated log-probabilities. Differentiable, on the device and in the type of the logits."""
        raise NotImplementedError

    def told(self, learned: Learned) -> dict[str, float]:
        """What was learned in numbers that a person reads, such as the temperature."""
        return {}

    # --------------------------------------------------------------------------------------------------------- the run

    @property
    def total_steps(self) -> int:
        """A calibrator is fitted before the first step."""
        return 0

    def resolve(self, work: Any, runtime: Runtime) -> Self:
        """The same settings."""
        return self

    def build(self, work: Any, runtime: Runtime) -> Any:
        """Fit the calibrator to the classifier's logits of the calibration rows (`attar.classifiers.calibration.work`)."""
        return work.fitted(self, runtime)

    def step(self, state: Any, runtime: Runtime) -> Metrics:
        """There is no step."""
        return {}

    def result(self, state: Any, runtime: Runtime) -> Any:
        """The calibrated classifier."""
        return state.classifier(self, runtime)
