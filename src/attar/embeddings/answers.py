"""What is measured of features or of predicted probabilities, the same for an encoder and for its rivals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.embeddings.metrics import agreement_at, agreement_of_top, best_threshold, mean_average_precision
from attar.embeddings.neighbours import knn_votes
from attar.embeddings.probe import Features, Labels, fit_probe, others, tenths

Scores = Float[Tensor, "_sample _classes"]
Judge = Callable[[Features, Labels], Callable[[Features], Scores]]
"""Learns from features with labels, and then tells the probabilities of others."""
TOP = 3
HALF = 0.5


@dataclass(frozen=True)
class Answer:
    """Predicted probabilities of the test samples, and from which of them on a label counts as predicted."""

    scores: Scores
    threshold: float = HALF
    chosen_on: int = 0
    """Number of held-out training samples on which the threshold was chosen; 0 if it was given."""

    @property
    def note(self) -> str:
        """The threshold in words."""
        where = f" chosen on {self.chosen_on:,} held-out samples" if self.chosen_on else ""
        return f"threshold {self.threshold:.2g}{where}"


def accuracy(scores: Scores, labels: Labels) -> float:
    """How often the likeliest class is right, in per cent."""
    return 100 * float((scores.argmax(dim=1).cpu() == labels.cpu()).double().mean())


def of_several(answer: Answer, labels: Labels) -> dict[str, float]:
    """Everything that is measured of several labels, in per cent."""
    scores = answer.scores.cpu()
    at = agreement_at(scores, labels, answer.threshold).in_percent()
    top = agreement_of_top(scores, labels, TOP).in_percent()
    found = {"mAP": 100 * mean_average_precision(scores, labels), **at}
    if labels.shape[1] > TOP:
        found |= {f"{name} of the top {TOP}": top[name] for name in ("CF1", "OF1")}
    return found


def neighbours_judge(classes: int, how: Any) -> Judge:
    """Votes of nearest neighbours, with the settings of the measurement."""
    given = {"neighbours": how.neighbours, "temperature": how.vote_temperature}
    return lambda features, labels: lambda asked: knn_votes(asked, features, labels, classes, **given)


def probe_answer(train: Features, labels: Labels, test: Features, classes: int, threshold: float | None) -> Answer:
    """The answer of a linear probe. Its threshold is chosen on the training rows that it holds out."""
    probe = fit_probe(train, labels, classes)
    scores = probe.predict(test)
    return with_threshold(scores, threshold, probe.on_held, labels.cpu()[probe.held])


def judged(
    judge: Judge, train: Features, labels: Labels, test: Features, threshold: float | None, *, most: int = 10
) -> Answer:
    """The answer of any judge; a threshold is chosen on training rows that it does not learn from.

    Args:
        judge: Learns from features and labels.
        train: Features of the training samples.
        labels: Their labels.
        test: Features of the test samples.
        threshold: That of several labels, if it is given.
        most: Tenths of the training samples to choose it on; the judge learns once for each.
    """
    scores = judge(train, labels)(test)
    if labels.ndim == 1 or threshold is not None:
        return with_threshold(scores, threshold)
    parts = tenths(labels)[:most]
    answers = []
    for part in parts:
        learn = others(part, len(labels))
        answers.append(judge(train[learn], labels[learn])(train[part]))
    return with_threshold(scores, None, torch.cat(answers), labels[torch.cat(parts)])


def with_threshold(
    scores: Scores, threshold: float | None, on_held: Scores | None = None, held_labels: Labels | None = None
) -> Answer:
    """An answer with the threshold that is given, or the best one on held-out samples, or one half."""
    if threshold is not None:
        return Answer(scores, threshold)
    if on_held is None or held_labels is None or held_labels.ndim == 1 or not held_labels.any():
        return Answer(scores)
    return Answer(scores, best_threshold(on_held, held_labels.cpu()), len(on_held))


def constant_answer(labels: Labels, samples: int) -> Answer:
    """Always the same guess: how frequent each label is among the training samples."""
    scores = labels.double().mean(dim=0).cpu().expand(samples, -1)
    frequent = labels.double().mean(dim=0).cpu().expand(len(labels), -1)
    return Answer(scores, best_threshold(frequent, labels.cpu()) if labels.any() else HALF)


def checked_labels(labels: Labels | None, name: str) -> Labels:
    """Labels that are there.

    Raises:
        InputError: There are none.
    """
    if labels is None:
        raise InputError(f"{name} has no labels, so there is nothing to measure its encoder by.")
    return labels
