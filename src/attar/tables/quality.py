"""How like real rows synthetic rows are, whether they are copies of them, and what a latent code still knows.

    density, coverage  M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020,
                       arXiv:2002.09797: how many balls around real rows hold a synthetic row, and how many balls do
    α-precision, β-recall, authenticity
                       A. M. Alaa et al., "How Faithful is your Synthetic Data?", ICML 2022, arXiv:2102.08921
    total variation    of each column's marginal, and of each pair's
    two-sample AUC     of a classifier that tells synthetic from real rows; .5 of rows that it cannot tell
    closest record     the share of synthetic rows that lie nearer to a training row than to a held-out row; .5 of rows
                       that were not copied

Authenticity: the share of synthetic rows that lie farther from their nearest real row than that row lies from its own
nearest other real row. The released code mixes up the positions of synthetic and real rows.
"""

import itertools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.tables.fairness import auc
from attar.tables.sources import Column, Rows

Points = Float[Tensor, "_row width"]
Distances = Float[Tensor, " _row"]
Marks = Int[Tensor, " _row"]
Model = Literal["hgb", "logistic"]
AT_ONCE = 512
"""Rows whose distances are held at a time."""
CLOSE = 1e-9
"""Distance up to which a row counts as a copy."""
FOLDS = 3


def nearest(points: Points, others: Points, k: int = 1) -> tuple[Float[Tensor, "_row k"], Int[Tensor, "_row k"]]:
    """The distances to the k nearest of other points, and which they are; `points` itself counts without the own row.

    Of several that are the nearest one, it is the first.

    Raises:
        InputError: There are fewer others than that.
    """
    same = points is others
    if len(others) - same < k:
        raise InputError(f"there are {len(others)} rows; {k} neighbours need {k + same} or more.")
    found = []
    for rows in torch.arange(len(points)).split(AT_ONCE):
        distances = torch.cdist(points[rows], others, compute_mode="donot_use_mm_for_euclid_dist")
        if same:
            distances[torch.arange(len(rows)), rows] = torch.inf
        few = distances.min(dim=1, keepdim=True) if k == 1 else distances.topk(k, dim=1, largest=False)
        found.append(few)
    return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


def density_and_coverage(real: Points, synthetic: Points, k: int = 5) -> tuple[float, float]:
    """Balls around each real row reach to its k-th nearest other real row.

    density = 1/(k M) Σ over synthetic rows of the balls that hold it, about 1 of rows of one law;
    coverage = the share of the balls that hold a synthetic row.
    """
    radii = nearest(real, real, k)[0][:, -1]
    inside, held = 0, torch.zeros(len(real), dtype=torch.bool)
    for some in synthetic.split(AT_ONCE):
        within = torch.cdist(some, real, compute_mode="donot_use_mm_for_euclid_dist") <= radii
        inside += int(within.sum())
        held |= within.any(dim=0)
    return inside / (k * len(synthetic)), float(held.double().mean())


def alpha_precision(
    real: Points, synthetic: Points, centre: Float[Tensor, " width"] | None = None, levels: int = 30
) -> tuple[float, Float[Tensor, " level"]]:
    """1 - Σ|α - P(α)| / Σα, and the curve P(α): the share of synthetic rows within the α-quantile of real radii.

    Args:
        real: Real rows.
        synthetic: Synthetic rows.
        centre: What radii are measured from. Default: the mean of the real rows.
        levels: How many α, evenly from 0 to 1.
    """
    alphas, about = _alphas(levels), real.mean(dim=0) if centre is None else centre
    radii = torch.quantile(_radii(real, about), alphas)
    curve = (_radii(synthetic, about).unsqueeze(0) <= radii.unsqueeze(1)).double().mean(dim=1)
    return _area(alphas, curve), curve


def beta_recall(real: Points, synthetic: Points, levels: int = 30) -> tuple[float, Float[Tensor, " level"]]:
    """1 - Σ|β - R(β)| / Σβ, and the curve R(β).

    R(β) is the share of real rows whose nearest synthetic row is as near as their nearest other real row, and lies
    within the β-quantile of the radii of those synthetic rows about the mean of all synthetic rows.
    """
    alphas = _alphas(levels)
    to_synthetic, which = (found[:, 0] for found in nearest(real, synthetic))
    reached = to_synthetic <= nearest(real, real)[0][:, 0]
    radii = _radii(synthetic[which], synthetic.mean(dim=0))
    inside = radii.unsqueeze(0) <= torch.quantile(radii, alphas).unsqueeze(1)
    curve = (inside & reached).double().mean(dim=1)
    return _area(alphas, curve), curve


def authenticity(real: Points, synthetic: Points) -> float:
    """The share of synthetic rows farther from their nearest real row than that is from its nearest other real row."""
    distances, which = (found[:, 0] for found in nearest(synthetic, real))
    return float((distances > nearest(real, real)[0][which, 0]).double().mean())


def closest_record(synthetic: Points, train: Points, held_out: Points) -> float:
    """The share of synthetic rows that lie nearer to a training row than to a held-out row; a tie counts half.

    It says whether rows were copied, if there are as many held-out rows as training rows. It is no proof of privacy.
    """
    to_train, to_other = (nearest(synthetic, part)[0][:, 0] for part in (train, held_out))
    tied = (to_train - to_other).abs() <= CLOSE
    return float(torch.where(tied, 0.5, (to_train < to_other).double()).mean())


def copies(synthetic: Points, train: Points) -> float:
    """The share of synthetic rows that are a training row."""
    return float((nearest(synthetic, train)[0][:, 0] <= CLOSE).double().mean())


# ------------------------------------------------------------------------------------------------------- the marginals


def marginal_variation(real: Rows, synthetic: Rows, bins: int = 10) -> dict[str, float]:
    """For each column the total variation ½ Σ|p - q| of its marginal: 0 of equal shares, 1 of nothing in common.

    Args:
        real: Their quantiles cut numbers into bins.
        synthetic: Rows of the same schema.
        bins: How many. A missing number has a bin of its own.
    """
    return {
        column.name: total_variation(*codes, size) for column, (codes, size) in _coded(real, synthetic, bins).items()
    }


def pair_variation(real: Rows, synthetic: Rows, bins: int = 10) -> dict[tuple[str, str], float]:
    """The same of the joint shares of each pair of columns."""
    coded, found = _coded(real, synthetic, bins), {}
    for (one, (first, size)), (other, (second, width)) in itertools.combinations(coded.items(), 2):
        joint = [a * width + b for a, b in zip(first, second, strict=True)]
        found[one.name, other.name] = total_variation(joint[0], joint[1], size * width)
    return found


def total_variation(one: Int[Tensor, " _row"], other: Int[Tensor, " _row"], levels: int) -> float:
    """½ Σ|p - q| over levels."""
    shares = [torch.bincount(codes, minlength=levels).double() / len(codes) for codes in (one, other)]
    return 0.5 * float((shares[0] - shares[1]).abs().sum())


def cuts_of(values: Float[Tensor, " _row"], bins: int) -> Float[Tensor, " _cut"]:
    """The inner cuts of bins that hold about equally many of these numbers; equal ones are one."""
    known = values[values.isfinite()]
    if not len(known):
        return known
    return torch.quantile(known, torch.linspace(0, 1, bins + 1, dtype=known.dtype)[1:-1]).unique()


def binned(values: Float[Tensor, " _row"], cuts: Float[Tensor, " _cut"], missing: int) -> Int[Tensor, " _row"]:
    """The number of the bin that each number falls into, and that of the bin for missing ones."""
    return torch.where(values.isnan(), missing, torch.bucketize(values.contiguous(), cuts, right=True))


def _coded(real: Rows, synthetic: Rows, bins: int) -> dict[Column, tuple[tuple[Tensor, Tensor], int]]:
    """For each column that is not ignored, the numbers of levels or bins of both, and how many there are."""
    found = {}
    for column in real.schema.of_role("feature", "sensitive", "label"):
        values = real.of(column), synthetic.of(column)
        if column.type == "category":
            size = len(column.levels) + 1
            coded = [torch.where((v >= 0) & (v < size - 1), v, size - 1.0).long() for v in values]
        else:
            cuts = cuts_of(values[0], bins)
            size = len(cuts) + 2
            coded = [binned(v, cuts, missing=size - 1) for v in values]
        found[column] = ((coded[0], coded[1]), size)
    return found


# ----------------------------------------------------------------------------------------------- what can be told apart


def classifier(model: Model, seed: int = 0) -> Any:
    """An untrained classifier of scikit-learn: gradient-boosted trees, or logistic regression."""
    if model == "hgb":
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(random_state=seed % 2**32)
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=2000)


def two_sample_auc(real: Points, synthetic: Points, generator: torch.Generator, model: Model = "hgb") -> float:
    """AUC of a classifier that tells synthetic from real rows, on rows that it was not trained on.

    Args:
        real: Real rows; as many are drawn as there are of the fewer kind.
        synthetic: Synthetic rows.
        generator: Draws them, and the three parts of which each is tested once.
        model: The classifier.
    """
    count = min(len(real), len(synthetic))
    parts = [part[torch.randperm(len(part), generator=generator)[:count]] for part in (real, synthetic)]
    points = torch.cat(parts).numpy()
    marks = np.repeat([0, 1], count)
    fold = np.tile(np.arange(count) % FOLDS, 2)
    scores = np.zeros(2 * count)
    for number in range(FOLDS):
        learned = classifier(model).fit(points[fold != number], marks[fold != number])
        scores[fold == number] = learned.predict_proba(points[fold == number])[:, 1]
    return float(auc(torch.from_numpy(scores), torch.from_numpy(marks)))


def latent_auc(
    train: Points, train_marks: Marks, test: Points, test_marks: Marks, model: Model | Callable[[], Any] = "hgb"
) -> float:
    """AUC with which a classifier reads a mark, such as the group, from codes; .5 if they do not hold it.

    Of more than two marks it is the mean over marks of one against the others. It is not folded to .5 and above.

    Args:
        train: Codes that the classifier is trained on.
        train_marks: Their marks.
        test: Codes that it is tested on.
        test_marks: Their marks.
        model: The classifier, or a function that makes one.
    """
    made = model() if callable(model) else classifier(model)
    if len(train_marks.unique()) < 2:
        return float("nan")
    learned = made.fit(train.numpy(), train_marks.numpy())
    probabilities = torch.from_numpy(np.ascontiguousarray(learned.predict_proba(test.numpy())))
    known = learned.classes_.tolist()
    pairs = [(known[1], probabilities[:, 1])] if len(known) == 2 else zip(known, probabilities.t(), strict=True)
    found = [auc(scores, (test_marks == mark).long()) for mark, scores in pairs]
    return float(torch.stack(found).mean())


def _alphas(levels: int) -> Float[Tensor, " level"]:
    return torch.linspace(0, 1, levels, dtype=torch.float64)


def _radii(points: Points, centre: Float[Tensor, " width"]) -> Distances:
    return torch.linalg.vector_norm(points - centre, dim=1)


def _area(alphas: Float[Tensor, " level"], curve: Float[Tensor, " level"]) -> float:
    return 1 - float((alphas - curve).abs().sum() / alphas.sum())
