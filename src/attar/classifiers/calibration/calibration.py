"""What all calibrators have in common: they are fitted to logits and labels, and turn logits into log-probabilities.

A calibrator is a method (settings, and a run that fits it to a classifier), and with `Calibrator` a scikit-learn
estimator. What it learns is a dictionary of tensors. It computes in float64 while it is fitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Settings

Logits = Float[Tensor, "sample classes"]
Labels = Int[Tensor, " sample"]
Images = Float[Tensor, "batch channel height width"]
Learned = Mapping[str, Tensor]
Views = Sequence[Logits]
"""The logits of transformed copies of the same samples, one tensor for each transform."""

SUM = 1e-3
"""How far from 1 rows of probabilities may sum."""
KEYS = 4
"""Columns of the logits by which calibration rows are put in order."""


@dataclass(frozen=True, kw_only=True)
class Calibration(Settings):
    """Settings of a calibrator. A method fills in `learn` and `calibrated`, and perhaps `told`."""

    name = "calibration"
    kind = "classifiers"
    verb = "calibrate"

    @property
    def keeps_order(self) -> bool:
        """Whether the predicted class never changes."""
        return True

    @property
    def looks_at_views(self) -> bool:
        """Whether it needs the logits of transformed copies of the images."""
        return False

    def copies(self, images: Images) -> list[Images]:
        """The transformed copies of images with pixels from 0 to 1 that `looks_at_views` asks for."""
        return []

    # ------------------------------------------------------------------------------------------ what a method fills in

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """What is learned from checked logits in float64, in an order that does not depend on that of the rows."""
        raise NotImplementedError

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """Calibrated log-probabilities, of logits in the precision of what was learned."""
        raise NotImplementedError

    def told(self, learned: Learned) -> dict[str, float]:
        """What was learned in numbers that a person reads, such as the temperature."""
        return {}

    # ------------------------------------------------------------------------------------------------ what others call

    def fit(
        self, logits: Tensor, labels: Tensor, views: Sequence[Tensor] = (), *, generator: torch.Generator
    ) -> Learned:
        """What is learned from logits of samples that the classifier was not trained on.

        Args:
            logits: The logits.
            labels: The class of each sample.
            views: Logits of transformed copies, if `looks_at_views`.
            generator: Source of all draws.

        Raises:
            InputError: There are no rows, one column, one class, a label outside the columns, or a value that is not
                finite.
        """
        check(logits, labels, views)
        self._check_views(logits, views)
        logits, labels = logits.detach().cpu().double(), labels.detach().cpu()
        order = canonical(logits, labels)
        copies = [view.detach().cpu().double()[order] for view in views]
        return self.learn(logits[order], labels[order], copies, generator)

    def applied(self, learned: Learned, logits: Logits, views: Sequence[Tensor] = ()) -> Logits:
        """Calibrated log-probabilities. Differentiable, on the device and in the type of the logits."""
        self._check_views(logits, views)
        wide = wider(logits)
        here = {
            name: value.to(wide) if value.is_floating_point() else value.to(wide.device)
            for name, value in learned.items()
        }
        return self.calibrated(here, wide, [view.to(wide) for view in views]).to(logits.dtype)

    def _check_views(self, logits: Tensor, views: Sequence[Tensor]) -> None:
        if self.looks_at_views and not views:
            raise InputError(f"{self.name} needs the logits of transformed copies of the samples. Give views.")
        for view in views:
            if view.shape != logits.shape:
                raise InputError(
                    f"logits of a view are {list(view.shape)}, but those of the samples {list(logits.shape)}; "
                    "they must be of the same samples and classes."
                )

    # --------------------------------------------------------------------------------------------------------- the run

    @property
    def total_steps(self) -> int:
        """A calibrator is fitted before the first step."""
        return 0

    def resolve(self, work: Any, runtime: Runtime) -> Self:
        """The same settings."""
        return self

    def build(self, work: Any, runtime: Runtime) -> Any:
        """Fit the calibrator to the classifier's logits of the calibration rows."""
        return work.fitted(self, runtime)

    def step(self, state: Any, runtime: Runtime) -> Metrics:
        """There is no step."""
        return {}

    def result(self, state: Any, runtime: Runtime) -> Any:
        """The calibrated classifier."""
        return state.classifier(self, runtime)


def wider(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 if they are in it."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def check(logits: Tensor, labels: Tensor, views: Sequence[Tensor] = ()) -> None:
    """Check calibration rows.

    Raises:
        InputError: There are no rows, one column, one class, a label outside the columns, or a value that is not
            finite.
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise InputError(
            f"logits are {list(logits.shape)}; they must have one row a sample, and one column for each of two classes "
            "or more. Stack 0 and the logit of a classifier with a single one."
        )
    rows, classes = logits.shape
    if len(labels) != rows or not rows:
        raise InputError(f"there are {rows} rows of logits and {len(labels)} labels; give one label a row.")
    for what, values in [("logits", logits), *(("logits of a view", view) for view in views)]:
        finite = values.isfinite().all(dim=1)
        if not finite.all():
            row = int((~finite).nonzero()[0])
            raise InputError(
                f"row {row} of the {what} has a value that is not finite. Leave it out, or mend the network."
            )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        outside = lowest if lowest < 0 else highest
        raise InputError(f"a label is {outside}, but logits of {classes} classes need labels from 0 to {classes - 1}.")
    if lowest == highest:
        raise InputError(f"all {rows} calibration rows are of one class, {lowest}. Give rows of two classes or more.")


def are_probabilities(rows: Any) -> bool:
    """Whether rows, as an array or a tensor, are probabilities and no logits."""
    return rows.shape[1] > 1 and bool((rows >= 0).all() and (abs(rows.sum(1) - 1) < SUM).all())


def canonical(logits: Logits, labels: Labels) -> Int[Tensor, " sample"]:
    """An order of rows by what is in them, so that sums and draws do not depend on the order in which they came."""
    columns = logits[:, :KEYS].T.numpy()
    return torch.from_numpy(np.lexsort([*columns, labels.numpy()]))


def correct(logits: Logits, labels: Labels) -> Float[Tensor, " sample"]:
    """1 where the class with the largest logit is right, otherwise 0."""
    return (logits.argmax(dim=1) == labels).to(logits)
