"""Group fairness of predictions, for any number of groups: what differs between groups, and by how much.

    selection rate  P(ŷ = 1 | a)        DPD, DPR  largest minus and smallest over largest selection rate
    TPR, FPR        P(ŷ = 1 | y, a)     EOD, EOR  the larger of both gaps, the smaller of both ratios
    PPV             P(y = 1 | ŷ = 1, a)

1 is the desirable outcome, of labels and of predictions. A rate of no rows is NaN, and so is all that follows from it;
it is never 0. A prediction may be a probability of selection, as that of a randomised rule is. Where every rate is
defined, all values are those of fairlearn. M. Hardt, E. Price and N. Srebro, "Equality of Opportunity in Supervised
Learning", NeurIPS 2016, arXiv:1610.02413; F. Kamiran and T. Calders, "Data preprocessing techniques for classification
without discrimination", KAIS 2012 (reweighing); R. Zemel et al., "Learning Fair Representations", ICML 2013
(consistency).
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Real
from torch import Tensor

from attar.core.errors import InputError

Numbers = Real[Tensor, " _row"]
Groups = Int[Tensor, " _row"]
Weights = Float[Tensor, "*draw _row"]
OfGroups = Float[Tensor, "*draw group"]
Found = Float[Tensor, "*draw"]
AT_ONCE = 512
"""Rows whose distances are held at a time."""


@dataclass(frozen=True)
class Rates:
    """The rates of each group; with weights of several draws, of each draw."""

    selection: OfGroups
    tpr: OfGroups
    fpr: OfGroups
    ppv: OfGroups

    @classmethod
    def of(
        cls,
        predictions: Numbers,
        labels: Numbers,
        groups: Groups,
        weights: Weights | None = None,
        count: int | None = None,
    ) -> "Rates":
        """Count by group.

        Args:
            predictions: 0 and 1, or probabilities of selection.
            labels: 0 and 1.
            groups: The number of each row's group.
            weights: A weight of each row, or of each row in each of several draws. Default: 1.
            count: The number of groups. Default: those that are there; a number without rows is left out.

        Raises:
            InputError: Lengths differ, or a value is none of these.
        """
        _check(predictions, labels, groups)
        marks = members(groups, count)
        yes, positive = predictions.double().unsqueeze(1), labels.double().unsqueeze(1)
        w = torch.ones(len(groups)).double() if weights is None else weights.double()
        negative = 1 - positive  # counted, not subtracted, so that none is exactly 0 under any weights
        parts = (torch.ones_like(yes), yes, positive, negative, yes * positive, yes * negative)
        size, chosen, positives, negatives, hits, false = (w @ (marks * part) for part in parts)
        return cls(chosen / size, hits / positives, false / negatives, hits / chosen)

    @property
    def dpd(self) -> Found:
        """Demographic parity difference: the largest selection rate minus the smallest."""
        return gap(self.selection)

    @property
    def dpr(self) -> Found:
        """Demographic parity ratio: the smallest selection rate over the largest."""
        return ratio(self.selection)

    @property
    def equal_opportunity(self) -> Found:
        """Equal-opportunity difference: the gap of the true-positive rates."""
        return gap(self.tpr)

    @property
    def eod(self) -> Found:
        """Equalised-odds difference: the larger gap, of the true- or of the false-positive rates."""
        return torch.maximum(gap(self.tpr), gap(self.fpr))

    @property
    def eor(self) -> Found:
        """Equalised-odds ratio: the smaller ratio, of the true- or of the false-positive rates."""
        return torch.minimum(ratio(self.tpr), ratio(self.fpr))

    @property
    def predictive_parity(self) -> Found:
        """The gap of the precisions."""
        return gap(self.ppv)


def gap(rates: OfGroups) -> Found:
    """The largest minus the smallest; NaN if one is."""
    return rates.amax(dim=-1) - rates.amin(dim=-1)


def over(one: Found, other: Found) -> Found:
    """A rate over another; NaN if that is 0."""
    return torch.where(other > 0, one / other, torch.nan)


def ratio(rates: OfGroups) -> Found:
    """The smallest over the largest; NaN if one is, or if all are 0."""
    return rates.amin(dim=-1) / rates.amax(dim=-1)


# ------------------------------------------------------------------------------------------- one number, by its name


def demographic_parity_difference(predictions: Numbers, groups: Groups, weights: Weights | None = None) -> float:
    """DPD = max SR - min SR, from 0 to 1.

    Args:
        predictions: 0 or 1 for each row.
        groups: The number of each row's group.
        weights: The weight of each row. Default: all alike.
    """
    return float(_selection(predictions, groups, weights).dpd)


def demographic_parity_ratio(predictions: Numbers, groups: Groups, weights: Weights | None = None) -> float:
    """DPR = min SR / max SR, from 0 to 1; NaN if nobody is selected.

    Args:
        predictions: 0 or 1 for each row.
        groups: The number of each row's group.
        weights: The weight of each row. Default: all alike.
    """
    return float(_selection(predictions, groups, weights).dpr)


def statistical_parity_difference(predictions: Numbers, groups: Groups, privileged: int) -> float:
    """SPD = SR of all other groups together - SR of the privileged one; negative if the others are selected less.

    Args:
        predictions: 0 or 1 for each row.
        groups: The number of each row's group.
        privileged: The number of the privileged group.
    """
    others, theirs = _two(Rates.of(*_against(predictions, torch.zeros(len(groups)), groups, privileged)).selection)
    return float(others - theirs)


def disparate_impact(predictions: Numbers, groups: Groups, privileged: int) -> float:
    """SR of all other groups together / SR of the privileged one. NaN if that is 0.

    Args:
        predictions: 0 or 1 for each row.
        groups: The number of each row's group.
        privileged: The number of the privileged group.
    """
    others, theirs = _two(Rates.of(*_against(predictions, torch.zeros(len(groups)), groups, privileged)).selection)
    return float(over(others, theirs))


def equal_opportunity_difference(
    predictions: Numbers, labels: Numbers, groups: Groups, weights: Weights | None = None
) -> float:
    """The largest TPR minus the smallest.

    Args:
        predictions: 0 or 1 for each row.
        labels: 0 or 1 for each row.
        groups: The number of each row's group.
        weights: The weight of each row. Default: all alike.
    """
    return float(Rates.of(predictions, labels, groups, weights).equal_opportunity)


def equal_opportunity_ratio(
    predictions: Numbers, labels: Numbers, groups: Groups, weights: Weights | None = None
) -> float:
    """The smallest TPR over the largest.

    Args:
        predictions: 0 or 1 for each row.
        labels: 0 or 1 for each row.
        groups: The number of each row's group.
        weights: The weight of each row. Default: all alike.
    """
    return float(ratio(Rates.of(predictions, labels, groups, weights).tpr))


def equalized_odds_difference(
    predictions: Numbers,
    labels: Numbers,
    groups: Groups,
    weights: Weights | None = None,
    aggregate: Literal["worst", "mean"] = "worst",
) -> float:
    """EOD: the larger of the gaps of TPR and FPR, or their mean.

    Args:
        predictions: 0 or 1 for each row.
        labels: 0 or 1 for each row.
        groups: The number of each row's group.
        weights: The weight of each row. Default: all alike.
        aggregate: "worst": the larger (of ratios the smaller) of the two. "mean": their mean.
    """
    found = Rates.of(predictions, labels, groups, weights)
    return float(found.eod if aggregate == "worst" else (gap(found.tpr) + gap(found.fpr)) / 2)


def equalized_odds_ratio(
    predictions: Numbers,
    labels: Numbers,
    groups: Groups,
    weights: Weights | None = None,
    aggregate: Literal["worst", "mean"] = "worst",
) -> float:
    """EOR: the smaller of the ratios of TPR and FPR, or their mean; NaN if one is undefined.

    Args:
        predictions: 0 or 1 for each row.
        labels: 0 or 1 for each row.
        groups: The number of each row's group.
        weights: The weight of each row. Default: all alike.
        aggregate: "worst": the larger (of ratios the smaller) of the two. "mean": their mean.
    """
    found = Rates.of(predictions, labels, groups, weights)
    return float(found.eor if aggregate == "worst" else (ratio(found.tpr) + ratio(found.fpr)) / 2)


def average_odds_difference(predictions: Numbers, labels: Numbers, groups: Groups, privileged: int) -> float:
    """The mean of the signed gaps of TPR and FPR: all other groups together minus the privileged one.

    Args:
        predictions: 0 or 1 for each row.
        labels: 0 or 1 for each row.
        groups: The number of each row's group.
        privileged: The number of the privileged group.
    """
    found = Rates.of(*_against(predictions, labels, groups, privileged))
    (tpr, theirs_tpr), (fpr, theirs_fpr) = _two(found.tpr), _two(found.fpr)
    return float(((tpr - theirs_tpr) + (fpr - theirs_fpr)) / 2)


def predictive_parity_difference(predictions: Numbers, labels: Numbers, groups: Groups) -> float:
    """The largest PPV minus the smallest; NaN if nobody of a group is selected.

    Args:
        predictions: 0 or 1 for each row.
        labels: 0 or 1 for each row.
        groups: The number of each row's group.
    """
    return float(Rates.of(predictions, labels, groups).predictive_parity)


def calibration_within_groups(
    probabilities: Float[Tensor, " row"], labels: Numbers, groups: Groups, bins: int = 15
) -> Float[Tensor, " group"]:
    """Of each group the expected calibration error of the probability of 1, in bins ((m - 1)/M, m/M] of equal width.

    Args:
        probabilities: The probability of 1 for each row.
        labels: 0 or 1 for each row.
        groups: The number of each row's group.
        bins: M.
    """
    _check(probabilities, labels, groups)
    place = (probabilities.double() * bins).ceil().long().clamp(1, bins) - 1
    error = labels.double() - probabilities.double()
    found = []
    for mine in members(groups).bool().unbind(dim=1):
        sums = torch.zeros(bins).double().index_add(0, place[mine], error[mine])
        found.append(sums.abs().sum() / mine.sum())
    return torch.stack(found)


def unawareness_gap(scores: Float[Tensor, " row"], switched: Float[Tensor, " row"]) -> float:
    """Mean |f(x, s) - f(x, s')|: how far scores move if only the sensitive column is another (FTU).

    Args:
        scores: f(x, s) of each row.
        switched: f(x, s') of each row, with another value of the sensitive column.
    """
    return float((scores.double() - switched.double()).abs().mean())


def consistency(predictions: Numbers, features: Float[Tensor, "row feature"], neighbours: int = 5) -> float:
    """1 - mean |ŷ - mean ŷ of the nearest other rows|: whether like rows get like predictions.

    The row itself is none of its neighbours.

    Args:
        predictions: 0 or 1 for each row.
        features: What rows are alike by.
        neighbours: How many of the nearest rows are looked at.

    Raises:
        InputError: There are not more rows than neighbours.
    """
    if len(features) <= neighbours:
        raise InputError(f"there are {len(features)} rows; {neighbours} others need {neighbours + 1} or more.")
    values, rows = predictions.double(), torch.arange(len(features))
    means = []
    for some in rows.split(AT_ONCE):
        distances = torch.cdist(features[some].double(), features.double(), compute_mode="donot_use_mm_for_euclid_dist")
        distances[torch.arange(len(some)), some] = torch.inf
        means.append(values[distances.topk(neighbours, dim=1, largest=False).indices].mean(dim=1))
    return 1 - float((values - torch.cat(means)).abs().mean())


# -------------------------------------------------------------------------------- scores, before they become decisions


def selected_at_rate(scores: Float[Tensor, " row"], rate: float) -> Float[Tensor, " row"]:
    """The probability that each row is selected, if a share of the rows with the highest scores is.

    Rows of equal scores at the threshold have equal chances, so that the share is exact and the order does not matter.
    """
    wanted = rate * len(scores)
    _, inverse, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    above = (counts.flip(0).cumsum(0).flip(0) - counts).double()
    return ((wanted - above) / counts).clamp(0, 1)[inverse]


def dpd_at_rate(scores: Float[Tensor, " row"], groups: Groups, rate: float) -> float:
    """DPD, if the share of the rows with the highest scores is selected; so that selecting few is no merit.

    Args:
        scores: A score for each row.
        groups: The number of each row's group.
        rate: The share of rows that is selected, from 0 to 1.
    """
    return demographic_parity_difference(selected_at_rate(scores, rate), groups)


def auc(scores: Real[Tensor, " row"], marks: Numbers, weights: Weights | None = None) -> Found:
    """P(score of a 1 > score of a 0) + half of P(equal); NaN if one of them is missing. 1 of the 0-d result is perfect.

    Args:
        scores: Any numbers.
        marks: 1 and 0.
        weights: A weight of each row, or of each row in each of several draws. Default: 1.
    """
    _, inverse = torch.unique(scores, return_inverse=True)
    w = torch.ones(len(scores)).double() if weights is None else weights.double()
    order, marks = inverse.argsort(), marks.double()
    ends = torch.bincount(inverse).cumsum(0) - 1
    ones, zeros = ((w * part)[..., order].cumsum(dim=-1)[..., ends] for part in (marks, 1 - marks))
    below = F.pad(zeros, (1, 0))[..., :-1]
    won = (ones.diff(dim=-1, prepend=torch.zeros_like(ones[..., :1])) * (below + zeros) / 2).sum(dim=-1)
    return won / (ones[..., -1] * zeros[..., -1])


# ------------------------------------------------------------------------------------------------- weights of the rows


def reweighing(groups: Groups, labels: Numbers) -> Float[Tensor, " row"]:
    """w(a, y) = P(a) P(y) / P(a, y), which makes groups and labels independent under the weights, exactly.

    Args:
        groups: The number of each row's group.
        labels: 0 or 1 for each row.
    """
    cells = 2 * groups + labels.long()
    _, place, counts = torch.unique(cells, return_inverse=True, return_counts=True)
    of_group = torch.bincount(groups).double()[groups]
    of_label = torch.bincount(labels.long(), minlength=2).double()[labels.long()]
    return of_group * of_label / (len(groups) * counts.double()[place])


def resampled(groups: Groups, draws: int, generator: torch.Generator) -> Float[Tensor, "draw row"]:
    """How often each row is drawn in bootstrap samples of the rows, each group as often as it is there."""
    found = torch.zeros(draws, len(groups)).double()
    for number in groups.unique():
        mine = (groups == number).nonzero().flatten()
        drawn = mine[torch.randint(len(mine), (draws, len(mine)), generator=generator)]
        found.scatter_add_(1, drawn, torch.ones(drawn.shape).double())
    return found


def members(groups: Groups, count: int | None = None) -> Float[Tensor, "row group"]:
    """A one for each row in the column of its group."""
    if count is None:
        numbers, groups = torch.unique(groups, return_inverse=True)
        count = len(numbers)
    return F.one_hot(groups, count).double()


def _selection(predictions: Numbers, groups: Groups, weights: Weights | None) -> Rates:
    return Rates.of(predictions, torch.zeros(len(groups)), groups, weights)


def _against(
    predictions: Numbers, labels: Numbers, groups: Groups, privileged: int
) -> tuple[Numbers, Numbers, Groups, None, int]:
    """The same rows in two groups: all others, and the privileged one."""
    return predictions, labels, (groups == privileged).long(), None, 2


def _two(rates: Float[Tensor, " two"]) -> tuple[Tensor, Tensor]:
    return rates[0], rates[1]


def _check(predictions: Numbers, labels: Numbers, groups: Groups) -> None:
    if not len(predictions) == len(labels) == len(groups) > 0:
        raise InputError(
            f"there are {len(predictions)} predictions, {len(labels)} labels and {len(groups)} groups. "
            "Give one of each for every row."
        )
    if not bool(((labels == 0) | (labels == 1)).all()):
        odd = labels[(labels != 0) & (labels != 1)][0].item()
        raise InputError(f"a label is {odd:g}; give 0 and 1, where 1 is the desirable outcome.")
    inside = (predictions >= 0) & (predictions <= 1)
    if not bool(inside.all()):
        raise InputError(
            f"a prediction is {predictions[~inside][0].item():g}; give 0 and 1, or probabilities of selection."
        )
