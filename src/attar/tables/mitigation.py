"""Rivals of a fair table: what can be done with the real rows, thinly, by known means.

    real rows            the downstream classifier on real rows, the sensitive column included
    drop-s               the same without the sensitive column
    reweighing           drop-s with weights that make group and label independent (Kamiran and Calders, KAIS 2012)
    correlation remover  a linear model of every feature by the groups is subtracted
    threshold optimizer  a threshold for each group, with chance (Hardt, Price and Srebro, NeurIPS 2016); fairlearn's
    prototypes           R. Zemel et al., "Learning Fair Representations", ICML 2013; fairlearn's
    shuffled labels      no row has its own label: fair by destruction
    constant             the more frequent label for everybody

The last two show what a ratio near 1 is worth by itself. fairlearn is an extra; without it two rivals are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.tables.design import design
from attar.tables.downstream import Answers, Learned, answers
from attar.tables.fairness import members, reweighing
from attar.tables.quality import Model, classifier
from attar.tables.sources import Rows

PROTOTYPES, PROTOTYPE_ROWS, PROTOTYPE_STEPS = 5, 300, 20
"""fairlearn's learner takes its gradient by differences, so that more rows, prototypes or steps cost minutes."""
Answer = Callable[[Rows, Rows, Model, int], Answers]


@dataclass(frozen=True)
class Rival:
    """A way to answer for test rows by real training rows."""

    name: str
    answer: Answer
    """Of training rows, test rows, the downstream classifier and a seed."""
    library: str = ""
    """What must be installed besides attar."""
    cost: float = 1.0
    """Its time as a multiple of that of one downstream classifier, about."""
    by_group: bool = True
    """Whether it needs a sensitive column."""
    draws: int = 5
    """Choices of so many real rows of which it is measured, where they are fewer than all."""

    @property
    def missing(self) -> bool:
        """Whether its library is not installed."""
        return bool(self.library) and find_spec(self.library) is None


def real_rows(train: Rows, test: Rows, model: Model, seed: int) -> Answers:
    """Plain training with every column."""
    return answers(train, test, model, seed=seed)


def without_sensitive(train: Rows, test: Rows, model: Model, seed: int) -> Answers:
    """Plain training without the sensitive column; proxies stay."""
    return answers(train, test, model, sees_sensitive=False, seed=seed)


def reweighed(train: Rows, test: Rows, model: Model, seed: int) -> Answers:
    """Training without the sensitive column, with weights P(a) P(y) / P(a, y)."""
    weights = reweighing(train.groups, train.labels)
    return answers(train, test, model, sees_sensitive=False, weights=weights, seed=seed)


def uncorrelated(train: Rows, test: Rows, model: Model, seed: int) -> Answers:
    """Training on features that are uncorrelated with the groups."""
    made = design(train.schema, with_sensitive=False).fit(train)
    groups = [members(rows.groups, len(train.schema.groups)) for rows in (train, test)]
    remover = CorrelationRemover.of(made.matrix(train), groups[0])
    return _fitted(remover(made.matrix(train), groups[0]), train, remover(made.matrix(test), groups[1]), model, seed)


def shuffled(train: Rows, test: Rows, model: Model, seed: int) -> Answers:
    """Training on labels in a random order."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    label = train.schema.label
    return answers(train.replaced(label, train.of(label)[order]), test, model, seed=seed)


def constant(train: Rows, test: Rows, model: Model, seed: int) -> Answers:
    """The share of the desirable outcome for everybody, which decides for the more frequent label."""
    share = float(train.labels.double().mean())
    return Answers.of(torch.full((len(test),), share).double())


def thresholds_by_group(train: Rows, test: Rows, model: Model, seed: int) -> Answers:
    """Plain training without the sensitive column; then thresholds of each group for equal selection rates.

    It must know the group of everybody whom it decides about. It gives no scores.

    Raises:
        InputError: All training rows of a group have the same label, so that it has no threshold.
    """
    from fairlearn.postprocessing import ThresholdOptimizer

    learned = Learned.of(train, model, sees_sensitive=False, seed=seed)
    if learned.estimator is None:
        return constant(train, test, model, seed)
    for group in train.groups.unique().tolist():
        if len(train.labels[train.groups == group].unique()) < 2:
            raise InputError(f"all its training rows with {train.schema.groups[group]!r} have the same label")
    features = [learned.design.matrix(rows).numpy() for rows in (train, test)]
    rule = ThresholdOptimizer(
        estimator=learned.estimator, constraints="demographic_parity", prefit=True, predict_method="predict_proba"
    )
    rule.fit(features[0], train.labels.numpy(), sensitive_features=train.groups.numpy())
    found = rule.predict(features[1], sensitive_features=test.groups.numpy(), random_state=seed % 2**32)
    return Answers(None, torch.from_numpy(np.asarray(found, dtype=np.float64)))


def prototypes(train: Rows, test: Rows, model: Model, seed: int) -> Answers:
    """The answers of prototypes that are reached alike from all groups, on at most 300 rows."""
    from fairlearn.preprocessing import PrototypeRepresentationLearner

    some = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:PROTOTYPE_ROWS]
    train = train.select(some)
    if len(train.labels.unique()) < 2:
        return constant(train, test, model, seed)
    made = design(train.schema, with_sensitive=False).fit(train)
    learner = PrototypeRepresentationLearner(
        n_prototypes=PROTOTYPES, max_iter=PROTOTYPE_STEPS, random_state=seed % 2**32
    )
    learner.fit(made.matrix(train).numpy(), train.labels.numpy(), sensitive_features=train.groups.numpy())
    found = learner.predict_proba(made.matrix(test).numpy())[:, 1]
    return Answers.of(torch.from_numpy(np.ascontiguousarray(found)))


RIVALS: tuple[Rival, ...] = (
    Rival("real rows", real_rows, by_group=False),
    Rival("drop-s", without_sensitive),
    Rival("reweighing", reweighed),
    Rival("correlation remover", uncorrelated),
    Rival("threshold optimizer", thresholds_by_group, "fairlearn", 2.0),
    Rival("prototypes", prototypes, "fairlearn", 50.0, draws=1),
    Rival("shuffled labels", shuffled, by_group=False),
    Rival("constant", constant, cost=0.0, by_group=False),
)
"""In the order in which they are shown."""


@dataclass(frozen=True)
class CorrelationRemover:
    """x - α (s - mean s) B, where B is the least-squares fit of x by the centred s.

    It leaves no linear correlation of a feature with a column of s at α = 1. Each column of s has its own mean. H. Bird
    et al., "Fairlearn: A toolkit for assessing and improving fairness in AI", 2020, has it under this name.
    """

    means: Float[Tensor, " column"]
    fit: Float[Tensor, "column feature"]
    alpha: float = 1.0

    @classmethod
    def of(
        cls, features: Float[Tensor, "row feature"], sensitive: Float[Tensor, "row column"], alpha: float = 1.0
    ) -> "CorrelationRemover":
        """Fit it; collinear columns of s are no trouble."""
        means = sensitive.mean(dim=0)
        found = torch.linalg.lstsq(sensitive - means, features, driver="gelsd").solution
        return cls(means, found, alpha)

    def __call__(
        self, features: Float[Tensor, "row feature"], sensitive: Float[Tensor, "row column"]
    ) -> Float[Tensor, "row feature"]:
        """The features without what the sensitive columns tell of them."""
        return features - self.alpha * (sensitive - self.means) @ self.fit


def _fitted(
    features: Float[Tensor, "row feature"],
    train: Rows,
    asked: Float[Tensor, "other feature"],
    model: Model,
    seed: int,
) -> Answers:
    if len(train.labels.unique()) < 2:
        return Answers.of(torch.full((len(asked),), float(train.labels.double().mean())).double())
    learned = classifier(model, seed).fit(features.numpy(), train.labels.numpy())
    return Answers.of(torch.from_numpy(np.ascontiguousarray(learned.predict_proba(asked.numpy())[:, 1])))
