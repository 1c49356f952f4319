"""Measures of several labels: average precision with exact ties, and precision, recall and F1 by class and overall.

    CP, CR  means of precision and recall over classes         CF1  their harmonic mean
    OP, OR  precision and recall of all predictions together   OF1  their harmonic mean, which is micro-F1

A label counts as predicted from a threshold on, or if its score is among the three highest of the sample.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from attar.core.errors import InputError
from attar.embeddings.checks import check_embeddings
from attar.embeddings.positives import checked_rows

Scores = Float[Tensor, "sample classes"]
Marks = Shaped[Tensor, "_sample _classes"]
"""Which labels a sample has, or which are predicted: yes and no, or 1 and 0."""


def average_precision(scores: Scores, labels: Marks) -> Float[Tensor, " classes"]:
    """The average precision of each class; NaN for a class without positives.

    AP = 1/n Σ over positives of (positives that score at least as high) / (samples that score at least as high): the
    precision at the end of the tie that a positive is in, so that the order of equal scores does not matter.

    Args:
        scores: Any numbers; higher means more likely.
        labels: Which labels each sample has.

    Raises:
        InputError: A score is not a number, or the shapes differ.
    """
    labels = _checked(scores, labels)
    columns = _plain(scores).t().contiguous().numpy()
    marked = labels.detach().cpu().t().contiguous().numpy()
    found = np.full(len(columns), np.nan)
    for number, (column, positive) in enumerate(zip(columns, marked, strict=True)):
        hits = np.sort(column[positive])
        if len(hits):
            # Only positives need a rank, and sorted values give it without an order of the samples.
            above = len(column) - np.searchsorted(np.sort(column), hits, "left")
            right = len(hits) - np.searchsorted(hits, hits, "left")
            found[number] = (right / above).mean()
    return torch.from_numpy(found)


def mean_average_precision(scores: Scores, labels: Marks) -> float:
    """The mean of `average_precision` over the classes with positives, from 0 to 1.

    Args:
        scores: A score of each class for each sample.
        labels: Rows of 0 and 1.

    Raises:
        InputError: As for `average_precision`, or no sample has a label.
    """
    found = average_precision(scores, labels)
    known = found[~found.isnan()]
    if not len(known):
        raise InputError("no sample has a label, so there is no average precision.")
    return float(known.mean())


@dataclass(frozen=True)
class Agreement:
    """Precision, recall and F1 of predicted labels, from 0 to 1; nothing predicted, or nothing to find, counts as 0."""

    cp: float
    cr: float
    cf1: float
    op: float
    or_: float
    """OR, whose name Python keeps for itself."""
    of1: float

    @classmethod
    def of(cls, predicted: Marks, labels: Marks) -> "Agreement":
        """Compare predicted labels with the right ones.

        Raises:
            InputError: The shapes differ.
        """
        labels = _checked(predicted, labels)
        predicted = checked_rows(predicted, labels.shape)
        right, said, there = (
            marks.detach().sum(dim=0).cpu().double() for marks in (predicted & labels, predicted, labels)
        )
        cp, cr = (float((right / whole.clamp(min=1)).mean()) for whole in (said, there))
        op, overall = (float(right.sum() / whole.sum().clamp(min=1)) for whole in (said, there))
        return cls(cp, cr, _harmonic(cp, cr), op, overall, _harmonic(op, overall))

    def in_percent(self) -> dict[str, float]:
        """The six numbers under the names of the field, in per cent."""
        return {name.rstrip("_").upper(): 100 * value for name, value in vars(self).items()}


def agreement_at(scores: Scores, labels: Marks, threshold: float) -> Agreement:
    """The agreement if a label is predicted from a threshold on.

    Args:
        scores: A score of each label for each sample.
        labels: Rows of 0 and 1.
        threshold: From which score on a label is predicted.

    Raises:
        InputError: A score is not a number, or the shapes differ.
    """
    labels = _checked(scores, labels)
    return Agreement.of(scores >= threshold, labels)


def agreement_of_top(scores: Scores, labels: Marks, count: int = 3) -> Agreement:
    """The agreement if the labels with the highest scores of each sample are predicted; of equal ones the first.

    Args:
        scores: A score of each label for each sample.
        labels: Rows of 0 and 1.
        count: How many labels of a sample are predicted.

    Raises:
        InputError: A score is not a number, or the shapes differ.
    """
    labels = _checked(scores, labels)
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :count]
    return Agreement.of(torch.zeros_like(labels).scatter(1, order, True), labels)


def best_threshold(scores: Scores, labels: Marks) -> float:
    """The threshold of the highest micro-F1, half-way to the next lower score; of several the highest.

    Args:
        scores: Of samples that are not tested on.
        labels: Which labels each of them has.

    Raises:
        InputError: A score is not a number, the shapes differ, or no sample has a label.
    """
    labels = _checked(scores, labels)
    values, order = torch.sort(_plain(scores).flatten(), descending=True)
    hits = labels.detach().cpu().flatten()[order].cumsum(0)
    if not len(hits) or not int(hits[-1]):
        raise InputError("no sample has a label, so no threshold can be chosen.")
    ends = torch.cat([values[1:] < values[:-1], torch.tensor([True])]).nonzero().flatten()
    f1 = 2 * hits[ends].double() / (ends + 1 + hits[-1])
    place = int(f1.argmax())  # the first of the highest
    here = float(values[ends[place]])
    below = float(values[ends[place] + 1]) if place + 1 < len(ends) else here
    half = (here + below) / 2
    return half if below < half <= here else here


def _checked(scores: Any, labels: Any) -> Marks:
    """The labels as yes and no."""
    check_embeddings(scores, "scores")
    if scores.shape != labels.shape:
        raise InputError(f"scores have shape {tuple(scores.shape)}, but labels {tuple(labels.shape)}.")
    marks = checked_rows(labels, scores.shape)
    if scores.isnan().any():
        row, column = scores.isnan().nonzero()[0].tolist()
        raise InputError(f"the score of sample {row} for class {column} is not a number (NaN).")
    return marks


def _plain(scores: Tensor) -> Tensor:
    """Scores on the CPU, in single precision at least."""
    found = scores.detach().cpu()
    return found.float() if found.itemsize < 4 else found


def _harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else 0.0
