"""How well confidence agrees with accuracy: calibration errors, proper scores, and the floor that sampling sets.

Throughout, r is the confidence of a sample (its largest probability), c is 1 if the predicted class is right, and n is
the number of samples. Measures of the top class take (r, c), others take probabilities and labels. All are shares of 1
and are computed in float64.

Calibration errors of bins are biased upwards: a perfect model of n samples still has about √(M / n) in M bins. Read
them beside `sampling_floor`, or take the KS error, which has no bins.

Naeini, Cooper and Hauskrecht, AAAI 2015 (bins); Guo et al., ICML 2017, arXiv:1706.04599 (of networks);
Nixon et al., CVPR workshops 2019, arXiv:1904.01685 (equal masses, classes); Gupta et al., ICLR 2021, arXiv:2006.12800
(KS); Murphy, Journal of Applied Meteorology 12, 1973 (decomposition).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core.errors import InputError, unknown

Probabilities = Float[Tensor, "sample classes"]
Labels = Int[Tensor, " sample"]
Confidence = Float[Tensor, " sample"]
Right = Float[Tensor, " sample"] | Bool[Tensor, " sample"] | Int[Tensor, " sample"]
Groups = Int[Tensor, " sample"]
Binning = Literal["width", "mass"]
Norm = Literal["l1", "l2", "max"]
ROUNDING = 1e-6
"""By how much a confidence in single precision may exceed 1."""


def probabilities_of(logits: Float[Tensor, "sample classes"]) -> Probabilities:
    """The softmax of logits, in float64."""
    return logits.double().softmax(dim=1)


def top(probabilities: Probabilities, labels: Labels) -> tuple[Confidence, Confidence]:
    """The confidence r of each sample, and c: whether its first largest class is its label."""
    confidence, predicted = probabilities.double().max(dim=1)
    return confidence, (predicted == labels).double()


# ------------------------------------------------------------------------------------------------------------- in bins


def bins_of_equal_width(confidence: Confidence, bins: int) -> Groups:
    """The bin of each sample, m in ((m-1)/M, m/M] counted from 0. Confidence 0 is in the first bin, 1 in the last."""
    edges = torch.arange(1, bins, dtype=torch.float64, device=confidence.device) / bins
    return torch.bucketize(confidence.double().contiguous(), edges)


def bins_of_equal_mass(confidence: Confidence, bins: int) -> Groups:
    """The bin of each sample, by its rank: bins of n/M samples.

    If M does not divide n, the first bins have one more. Ties are in the order of the rows.
    """
    order = confidence.argsort(stable=True)
    sizes = [len(part) for part in order.tensor_split(bins)]
    numbers = torch.arange(bins, device=order.device).repeat_interleave(torch.tensor(sizes, device=order.device))
    return torch.empty_like(order).scatter_(0, order, numbers)


@dataclass(frozen=True)
class Bins:
    """The samples of each bin together: the points of a reliability diagram. Empty bins have mean 0."""

    mass: Float[Tensor, " bin"]
    """Share of the samples."""
    confidence: Float[Tensor, " bin"]
    """Mean confidence."""
    accuracy: Float[Tensor, " bin"]

    @classmethod
    def of(cls, confidence: Confidence, right: Right, bins: int = 15, by: Binning = "width") -> Self:
        """Bins of equal width or equal mass.

        Raises:
            InputError: There are fewer samples than bins, or values that are not in [0, 1].
        """
        _check(confidence, right, bins)
        if by not in get_args(Binning):
            raise unknown("by", str(by), get_args(Binning))
        group = (bins_of_equal_width if by == "width" else bins_of_equal_mass)(confidence, bins)
        return cls.grouped(confidence, right, group, bins)

    @classmethod
    def grouped(cls, confidence: Confidence, right: Right, group: Groups, count: int) -> Self:
        """Bins by their number for each sample."""
        numbers = torch.bincount(group, minlength=count).double()
        sums = [torch.bincount(group, value.double(), minlength=count) for value in (confidence, right)]
        means = [found / numbers.clamp(min=1) for found in sums]
        return cls(numbers / len(group), means[0], means[1])

    @property
    def gaps(self) -> Float[Tensor, " bin"]:
        """|accuracy - confidence|, which is 0 in an empty bin."""
        return (self.accuracy - self.confidence).abs()

    def error(self, norm: Norm = "l1") -> float:
        """Σ mass · gap (l1), √Σ mass · gap² (l2), or the largest gap, whatever its mass (max)."""
        if norm not in get_args(Norm):
            raise unknown("norm", str(norm), get_args(Norm))
        if norm == "max":
            return float(self.gaps.max())
        if norm == "l2":
            return math.sqrt(float((self.mass * self.gaps.square()).sum()))
        return float((self.mass * self.gaps).sum())


def calibration_error(
    confidence: Confidence, right: Right, bins: int = 15, *, by: Binning = "width", norm: Norm = "l1"
) -> float:
    """The calibration error of the top class (ECE with the norm l1, RMSCE with l2, MCE with max).

    Args:
        confidence: r of each sample.
        right: c of each sample.
        bins: Number M of bins.
        by: Whether bins have equal width or equal mass.
        norm: How the gaps of the bins are put together.

    Raises:
        InputError: There are fewer samples than bins, or values that are not in [0, 1].
    """
    return Bins.of(confidence, right, bins, by).error(norm)


def classwise_error(
    probabilities: Probabilities, labels: Labels, bins: int = 15, *, by: Binning = "width", norm: Norm = "l1"
) -> float:
    """The mean over classes k of the error of p_k as the probability of class k, also called SCE."""
    columns = range(probabilities.shape[1])
    errors = [calibration_error(probabilities[:, k], (labels == k).double(), bins, by=by, norm=norm) for k in columns]
    return sum(errors) / len(errors)


# -------------------------------------------------------------------------------------------------------- without bins


def ks_error(confidence: Confidence, right: Right) -> float:
    """The Kolmogorov-Smirnov error: the largest |Σ (c - r)| / n over all samples up to some confidence.

    Samples of equal confidence enter together, so the order of the rows does not count.
    """
    _check(confidence, right)
    confidence = confidence.double()
    order = confidence.argsort(stable=True)
    sums = (right.double() - confidence)[order].cumsum(dim=0)
    ordered = confidence[order]
    ends = torch.cat([ordered[1:] != ordered[:-1], ordered.new_ones(1, dtype=torch.bool)])
    return float(sums[ends].abs().max()) / len(confidence)


def brier_score(probabilities: Probabilities, labels: Labels) -> float:
    """The mean over samples of Σ_k (p_k - [y = k])². It is not divided by the number of classes."""
    _check_rows(probabilities, labels)
    wanted = F.one_hot(labels, probabilities.shape[1]).double()
    return float((probabilities.double() - wanted).square().sum(dim=1).mean())


def top_label_brier(confidence: Confidence, right: Right) -> float:
    """The mean of (r - c)²."""
    return float((confidence.double() - right.double()).square().mean())


def negative_log_likelihood(logits: Float[Tensor, "sample classes"], labels: Labels) -> float:
    """The mean of -log p_y, in nats. Takes logits, or log-probabilities."""
    return float(F.cross_entropy(logits.double(), labels))


def auroc(confidence: Confidence, right: Right) -> float:
    """The probability that a right prediction is more confident than a wrong one; a tie counts half.

    NaN if all predictions are right, or all are wrong.
    """
    right = right.bool()
    positive, negative = int(right.sum()), int((~right).sum())
    if not positive or not negative:
        return math.nan
    _, place, counts = confidence.double().unique(return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0).double() - (counts.double() - 1) / 2
    return float((ranks[place][right].sum() - positive * (positive + 1) / 2) / (positive * negative))


def sampling_floor(
    confidence: Confidence,
    measure: Callable[[Confidence, Confidence], float] = calibration_error,
    *,
    draws: int = 100,
    generator: torch.Generator | None = None,
) -> float:
    """The mean of a measure if the confidences were perfect: c is drawn with probability r, again and again.

    Args:
        confidence: r of each sample.
        measure: A function of (r, c).
        draws: Number of draws.
        generator: Source of the draws. Default: one with seed 0.
    """
    generator = generator or torch.Generator().manual_seed(0)
    confidence = confidence.cpu().double().clamp(max=1)
    found = [measure(confidence, torch.bernoulli(confidence, generator=generator)) for _ in range(draws)]
    return sum(found) / draws


@dataclass(frozen=True)
class Murphy:
    """The parts of the top-label Brier score of grouped samples, in which each has the mean confidence of its group."""

    reliability: float
    """Σ mass · (confidence - accuracy)²: what calibration can remove."""
    resolution: float
    """Σ mass · (accuracy - mean accuracy)²: how far groups differ in accuracy."""
    uncertainty: float
    """a (1 - a), of the mean accuracy a."""

    @classmethod
    def of(cls, confidence: Confidence, right: Right, bins: int | None = None) -> Self:
        """The decomposition over samples of equal confidence, where it is exact, or over bins of equal width."""
        if bins is None:
            values, group = confidence.double().unique(return_inverse=True)
            grouped = Bins.grouped(confidence, right, group, len(values))
        else:
            grouped = Bins.of(confidence, right, bins)
        mean = float(right.double().mean())
        resolution = float((grouped.mass * (grouped.accuracy - mean).square()).sum())
        return cls(grouped.error("l2") ** 2, resolution, mean * (1 - mean))

    @property
    def refinement(self) -> float:
        """The uncertainty that is left within groups: uncertainty - resolution."""
        return self.uncertainty - self.resolution

    @property
    def score(self) -> float:
        """The top-label Brier score: reliability + refinement."""
        return self.reliability + self.refinement


# ---------------------------------------------------------------------------------------------------------- all of them


@dataclass(frozen=True)
class CalibrationReport:
    """All measures of one classifier on labelled samples, as shares of 1; the likelihood in nats."""

    samples: int
    accuracy: float
    ece: float
    """ECE in 15 bins of equal width. NaN, as all measures in bins, if there are fewer samples than bins."""
    ece_25: float
    """ECE in 25 bins of equal width."""
    ece_mass: float
    """ECE in 15 bins of equal mass."""
    mce: float
    """Largest gap of 15 bins of equal width."""
    classwise: float
    """Class-wise ECE in 15 bins of equal width."""
    floor: float
    """Mean ECE in 15 bins of equal width of a perfect model with these confidences."""
    ks: float
    nll: float
    brier: float
    """Brier score of all classes."""
    top_brier: float
    """Brier score of the top label."""
    auroc: float
    """AUROC of confidence for right against wrong. NaN if there is only one of them."""

    @classmethod
    def of(cls, logits: Float[Tensor, "sample classes"], labels: Labels, *, floor_draws: int = 100) -> Self:
        """From logits or log-probabilities.

        Raises:
            InputError: There is no sample, a logit is NaN or infinite, or a label is not a class.
        """
        logits, labels = checked(logits, labels)
        probabilities = probabilities_of(logits)
        r, c = top(probabilities, labels)

        def binned(measure: Callable[[], float], bins: int = 15) -> float:
            return measure() if len(r) >= bins else math.nan

        return cls(
            samples=len(r),
            accuracy=float(c.mean()),
            ece=binned(lambda: calibration_error(r, c)),
            ece_25=binned(lambda: calibration_error(r, c, 25), 25),
            ece_mass=binned(lambda: calibration_error(r, c, by="mass")),
            mce=binned(lambda: calibration_error(r, c, norm="max")),
            classwise=binned(lambda: classwise_error(probabilities, labels)),
            floor=binned(lambda: sampling_floor(r, draws=floor_draws)),
            ks=ks_error(r, c),
            nll=negative_log_likelihood(logits, labels),
            brier=brier_score(probabilities, labels),
            top_brier=top_label_brier(r, c),
            auroc=auroc(r, c),
        )

    def __str__(self) -> str:
        named = {"ECE15": self.ece, "its floor": self.floor, "KS": self.ks, "AUROC": self.auroc}
        shares = ", ".join(f"{name} {100 * value:.1f} %" for name, value in named.items() if math.isfinite(value))
        return f"accuracy {100 * self.accuracy:.1f} %, {shares}, NLL {self.nll:.4f}, Brier {self.brier:.4f}"


def checked(logits: Float[Tensor, "sample classes"], labels: Labels) -> tuple[Float[Tensor, "sample classes"], Labels]:
    """Logits and labels on the CPU, if they can be measured.

    Raises:
        InputError: There is no sample or one column, a logit is NaN or infinite, or a label is not a class. A logit of
            -∞, as of a class that is left out, is taken.
    """
    if labels.is_floating_point():
        raise InputError(f"labels are of type {labels.dtype}; give the number of a class for each sample.")
    logits, labels = logits.detach().cpu(), labels.detach().cpu().long()
    if logits.ndim != 2 or len(logits) != len(labels) or not len(labels):
        raise InputError(
            f"logits have shape {list(logits.shape)} and labels {list(labels.shape)}. Give a row of logits and a label "
            "for each of one or more samples."
        )
    if logits.shape[1] < 2:
        raise InputError("there is one column of logits. Stack 0 and the logit of a classifier with a single one.")
    odd = (logits.isnan() | (logits == torch.inf)).any(dim=1)
    if odd.any():
        raise InputError(f"the logits of sample {int(odd.nonzero()[0])} are not numbers.")
    outside = (labels < 0) | (labels >= logits.shape[1])
    if outside.any():
        raise InputError(
            f"label {int(labels[outside][0])} is not a class. There are {logits.shape[1]} classes, counted from 0."
        )
    return logits, labels


def _check(confidence: Confidence, right: Right, bins: int = 1) -> None:
    if bins < 1:
        raise InputError(f"bins is {bins}; it must be 1 or more.")
    if len(confidence) != len(right):
        raise InputError(f"there are {len(confidence)} confidences and {len(right)} of right or wrong. Give as many.")
    if len(confidence) < bins:
        raise InputError(f"there are {len(confidence)} samples for {bins} bins. Give more samples, or fewer bins.")
    if not bool(((confidence >= 0) & (confidence <= 1 + ROUNDING)).all()):
        raise InputError("a confidence is not between 0 and 1. Give probabilities, not logits.")
    if not bool(((right >= 0) & (right <= 1)).all()):
        raise InputError("right has other values than 0 and 1. Give whether each prediction is right.")


def _check_rows(probabilities: Probabilities, labels: Labels) -> None:
    if not bool(((probabilities >= 0) & (probabilities <= 1 + ROUNDING)).all()):
        raise InputError("a probability is not between 0 and 1. Give probabilities, not logits.")
    if len(labels) and not bool(((labels >= 0) & (labels < probabilities.shape[1])).all()):
        raise InputError(f"a label is not a class. There are {probabilities.shape[1]} classes, counted from 0.")
