"""Train on some rows, test on real rows: what a table is worth to whoever trains a classifier on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.score import Better
from attar.tables.design import Design, design
from attar.tables.fairness import (
    Numbers,
    Rates,
    Weights,
    auc,
    calibration_within_groups,
    consistency,
    over,
    selected_at_rate,
)
from attar.tables.quality import Model, classifier
from attar.tables.sources import Rows

OfDraws = Float[Tensor, "*draw"]
NEIGHBOURS = 5
"""Rows that each row is compared with for consistency, itself not among them."""
BETTER: Mapping[str, Better] = {
    "accuracy": "higher",
    "AUROC": "higher",
    "selection rate": "higher",
    "DPD": "lower",
    "DPD at matched rate": "lower",
    "DPR": "higher",
    "EOD": "lower",
    "EOR": "higher",
    "disparate impact": "higher",
    "equal opportunity difference": "lower",
    "average odds difference": "lower",
    "predictive parity difference": "lower",
    "AUC(score → s)": "lower",
    "calibration error, worst group": "lower",
    "moved by s alone": "lower",
    "consistency": "higher",
}
"""The measures in their order, all in per cent, and the direction that is better."""


@dataclass(frozen=True)
class Answers:
    """What a classifier says of test rows."""

    scores: Float[Tensor, " row"] | None
    """The probability of the desirable outcome; None of a rule that only decides."""
    predictions: Numbers
    """1 where it is ½ or more, else 0."""

    @classmethod
    def of(cls, scores: Float[Tensor, " row"]) -> "Answers":
        """Decided at ½."""
        return cls(scores, (scores >= 0.5).double())


@runtime_checkable
class Scoring(Protocol):
    """A classifier of rows."""

    def scores(self, rows: Rows) -> Float[Tensor, " row"]:
        """The probability of the desirable outcome."""


@dataclass(frozen=True)
class Learned:
    """A classifier of tables with the design that it was trained with."""

    design: Design
    estimator: Any
    """One of scikit-learn's; None where the training rows have one label."""
    constant: float
    """The share of the desirable outcome among the training rows."""

    @classmethod
    def of(
        cls,
        train: Rows,
        model: Model = "hgb",
        *,
        sees_sensitive: bool = True,
        weights: Float[Tensor, " row"] | None = None,
        seed: int = 0,
    ) -> "Learned":
        """Train a classifier on rows.

        Args:
            train: Real or synthetic rows.
            model: Gradient-boosted trees (hgb) or logistic regression, as scikit-learn has them.
            sees_sensitive: Whether the sensitive columns are features.
            weights: A weight of each row. Default: 1.
            seed: Seed of the classifier.
        """
        made = design(train.schema, with_sensitive=sees_sensitive).fit(train)
        labels = train.labels
        given = torch.ones(len(labels)).double() if weights is None else weights.double()
        share = float((given * labels).sum() / given.sum())
        if len(labels.unique()) < 2:
            return cls(made, None, share)
        estimator = classifier(model, seed)
        estimator.fit(made.matrix(train).numpy(), labels.numpy(), None if weights is None else given.numpy())
        return cls(made, estimator, share)

    def scores(self, rows: Rows) -> Float[Tensor, " row"]:
        """The probability of the desirable outcome."""
        if self.estimator is None:
            return torch.full((len(rows),), self.constant).double()
        found = self.estimator.predict_proba(self.design.matrix(rows).numpy())
        return torch.from_numpy(np.ascontiguousarray(found[:, 1], dtype=np.float64))


def answers(
    train: Rows,
    test: Rows,
    model: Model = "hgb",
    *,
    sees_sensitive: bool = True,
    weights: Float[Tensor, " row"] | None = None,
    seed: int = 0,
) -> Answers:
    """Train on some rows, and answer for others; see `Learned.of`.

    Raises:
        InputError: The columns of both are not the same.
    """
    if columns_of(train) != columns_of(test):
        raise InputError("the training and the test rows have other columns or levels. Give rows of one schema.")
    learned = Learned.of(train, model, sees_sensitive=sees_sensitive, weights=weights, seed=seed)
    return Answers.of(learned.scores(test))


def columns_of(rows: Rows) -> list[tuple[str, str, tuple[str, ...]]]:
    """What two tables must have in common: names, types and levels of all columns that are not ignored."""
    used = rows.schema.of_role("feature", "sensitive", "label")
    return sorted((one.name, one.type, one.levels) for one in used)


def measures(
    found: Answers, test: Rows, privileged: int | None, rate: float, weights: Weights | None = None
) -> dict[str, OfDraws]:
    """All that is measured of answers, by name, from 0 to 1; with weights of several draws, of each draw.

    Args:
        found: The answers.
        test: The rows that they are of.
        privileged: The number of the group that others are compared with; None if no column is sensitive.
        rate: The selection rate at which all are compared.
        weights: How often each row counts, in each draw. Default: once.
    """
    labels, chosen = test.labels, found.predictions.double()
    w = torch.ones(len(labels)).double() if weights is None else weights
    right = torch.where(labels == 1, chosen, 1 - chosen)
    told = {"accuracy": (w @ right) / w.sum(dim=-1), "selection rate": (w @ chosen) / w.sum(dim=-1)}
    if found.scores is not None:
        told["AUROC"] = auc(found.scores, labels, w)
    return told if privileged is None else told | _by_group(found, test, privileged, rate, w)


def _by_group(found: Answers, test: Rows, privileged: int, rate: float, weights: Weights) -> dict[str, OfDraws]:
    labels, groups, theirs = test.labels, test.groups, (test.groups == privileged).long()
    rates = Rates.of(found.predictions, labels, groups, weights)
    two = Rates.of(found.predictions, labels, theirs, weights, 2)
    odds = two.tpr + two.fpr
    told = {
        "DPD": rates.dpd,
        "DPR": rates.dpr,
        "EOD": rates.eod,
        "EOR": rates.eor,
        "disparate impact": over(two.selection[..., 0], two.selection[..., 1]),
        "equal opportunity difference": rates.equal_opportunity,
        "average odds difference": (odds[..., 0] - odds[..., 1]) / 2,
        "predictive parity difference": rates.predictive_parity,
    }
    if found.scores is not None:
        told["DPD at matched rate"] = Rates.of(selected_at_rate(found.scores, rate), labels, groups, weights).dpd
        told["AUC(score → s)"] = auc(found.scores, theirs, weights)
    return told


def privileged_group(rows: Rows) -> int | None:
    """The group with the largest share of the desirable outcome, of equal ones the first; None without groups."""
    if not rows.schema.of_role("sensitive"):
        return None
    groups, labels = rows.groups, rows.labels.double()
    there = groups.unique().tolist()
    return int(max(there, key=lambda number: float(labels[groups == number].mean())))


def of_each_row(learned: Scoring, test: Rows, some: Int[Tensor, " _some"], privileged: int | None) -> dict[str, float]:
    """What is measured of single rows, from 0 to 1: whether like rows are treated alike, and what the group alone does.

    Args:
        learned: The classifier.
        test: Real rows.
        some: Those of them whose neighbours are looked for, by number.
        privileged: As for `measures`.
    """
    found = Answers.of(learned.scores(test))
    assert found.scores is not None
    told = {}
    if len(some) > NEIGHBOURS:
        features = design(test.schema, with_sensitive=False).fit(test).matrix(test.select(some))
        told["consistency"] = consistency(found.predictions[some], features, NEIGHBOURS)
    if privileged is None:
        return told
    sensitive = test.schema.sensitive
    there = test.groups.unique().tolist()
    switched = [learned.scores(test.replaced(sensitive, torch.full((len(test),), float(one)))) for one in there]
    scores = torch.stack(switched)
    told["moved by s alone"] = float((scores.amax(dim=0) - scores.amin(dim=0)).mean())
    told["calibration error, worst group"] = float(
        calibration_within_groups(found.scores, test.labels, test.groups).max()
    )
    return told
