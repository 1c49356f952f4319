"""A linear probe: logistic regression on frozen features, by scikit-learn, its regularisation chosen on held-out rows.

Features are standardised by the training samples. Samples of one label get a multinomial regression, those of several
a regression for each label. The regularisation is chosen on a held-out tenth; where that is small, on several in turn.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.seeds import permutation
from attar.core.selection import rows_by_class
from attar.embeddings.checks import check_finite
from attar.embeddings.metrics import mean_average_precision

Rows = Int[Tensor, " _row"]
Features = Float[Tensor, "_sample _width"]
Labels = Int[Tensor, " _sample"] | Bool[Tensor, "_sample _classes"]
Predict = Callable[[Features], Float[Tensor, "_sample _classes"]]
"""Features to the probability of each class or label."""
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Values of C, the inverse of the regularisation, that are tried."""
TENTHS, ENOUGH = 10, 400
MOST_STEPS = 500


@dataclass(frozen=True)
class Probe:
    """A fitted probe."""

    predict: Predict
    """Features to the probability of each class, fitted on all training samples."""
    strength: float
    """The chosen C."""
    held: Rows
    """The training rows on which it was chosen."""
    on_held: Float[Tensor, "_sample _classes"]
    """The probabilities of those rows, by regressions that had not seen them; a threshold can be chosen there."""


def fit_probe(
    features: Features,
    labels: Labels,
    classes: int,
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> Probe:
    """Fit a linear probe.

    Args:
        features: Of training samples.
        labels: The class of each, or which labels each has.
        classes: Number of classes.
        strengths: Values of C to choose from; of equally good ones the first.

    Raises:
        InputError: There are fewer than two samples, labels of another number, or features that are not finite.
    """
    if len(features) != len(labels) or len(features) < 2:
        raise InputError(f"a probe needs two samples or more with labels; there are {len(features)} and {len(labels)}.")
    check_finite(features)
    import sklearn.linear_model  # noqa: F401 (limits hold for libraries that are loaded)
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    # The regressions are small: threads that share one wait for each other, on a busy machine most of the time.
    with threadpool_limits(limits=1):
        return _best(features, labels.cpu(), classes, strengths)


def _best(features: Features, labels: Labels, classes: int, strengths: Sequence[float]) -> Probe:
    """The probe of the regularisation that is best on held-out rows."""
    parts = tenths(labels)
    held, right = torch.cat(parts), labels[torch.cat(parts)]
    best: tuple[float, float, Any] | None = None
    for strength in strengths:
        answers = []
        for part in parts:
            learn = others(part, len(labels))
            answers.append(_fitted(features[learn], labels[learn], classes, strength)(features[part]))
        probabilities = torch.cat(answers)
        found = _quality(probabilities, right)
        if best is None or found > best[0]:
            best = found, strength, probabilities
    assert best is not None
    return Probe(_fitted(features, labels, classes, best[1]), best[1], held, best[2])


def tenths(labels: Labels) -> list[Rows]:
    """Tenths of the rows, disjoint: one of them if it is large, else as many as make 400 rows, or all ten.

    Of samples with one label each holds a tenth of every class. A class with a single sample is never held out.
    """
    if labels.ndim == 1:
        groups = [rows for rows in rows_by_class(labels, labels.unique().tolist()) if len(rows) > 1]
        groups = groups or [torch.arange(len(labels))]
    else:
        groups = [torch.arange(len(labels))]
    orders = [rows[permutation(0, f"probe {number}", len(rows))] for number, rows in enumerate(groups)]
    found: list[Rows] = []
    for place in range(TENTHS):
        parts = []
        for order in orders:
            size = max(1, len(order) // TENTHS)
            parts.append(order[place * size :][:size])
        if len(part := torch.cat(parts)):
            found.append(part.sort().values)
        if sum(map(len, found)) >= ENOUGH:
            break
    return found


def others(rows: Rows, count: int) -> Rows:
    """All rows but these."""
    mask = torch.ones(count, dtype=torch.bool)
    mask[rows] = False
    return mask.nonzero().flatten()


def _quality(probabilities: Tensor, labels: Labels) -> float:
    """Accuracy, or mean average precision of several labels."""
    if labels.ndim == 1:
        return float((probabilities.argmax(dim=1) == labels).double().mean())
    return mean_average_precision(probabilities, labels) if labels.any() else 0.0


def _fitted(features: Features, labels: Labels, classes: int, strength: float) -> Predict:
    """The regression of all classes, or those of all labels."""
    rows = features.cpu().double()
    mean, std = rows.mean(dim=0), rows.std(dim=0, correction=0)
    # A feature that does not vary says nothing; rounding must not make noise of it.
    scale = torch.where(std > 1e-6 * (1e-12 + rows.abs().amax(dim=0)), 1 / std.clamp(min=1e-300), torch.zeros_like(std))
    standard = ((rows - mean) * scale).numpy()
    if labels.ndim == 1:
        models = [_regression(standard, labels.numpy(), strength)]
    else:
        models = [_regression(standard, column.numpy().astype(int), strength) for column in labels.t()]

    def predict(others: Features) -> Float[Tensor, "_sample _classes"]:
        given = ((others.cpu().double() - mean) * scale).numpy()
        answers = [spread(*model(given), classes if labels.ndim == 1 else 2) for model in models]
        return answers[0] if labels.ndim == 1 else torch.stack([answer[:, 1] for answer in answers], dim=1)

    return predict


Model = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Features to probabilities, with the classes that they are of."""


def _regression(features: np.ndarray, labels: np.ndarray, strength: float) -> Model:
    """One logistic regression. Of a single class it always says that one."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    there = np.unique(labels)
    if len(there) == 1:
        return lambda given: (np.ones((len(given), 1)), there)
    model = LogisticRegression(C=strength, max_iter=MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # separable features have no optimum to converge to
        model.fit(features, labels)
    return lambda given: (model.predict_proba(given), model.classes_)


def spread(probabilities: np.ndarray, there: np.ndarray, classes: int) -> Float[Tensor, "_sample _classes"]:
    """Probabilities of all classes, zero for those that were not in training."""
    found = torch.zeros(len(probabilities), classes, dtype=torch.float64)
    found[:, torch.from_numpy(np.asarray(there, dtype=np.int64))] = torch.from_numpy(probabilities)
    return found
