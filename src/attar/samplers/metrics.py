"""How like real samples new ones are: distances of two sets of features, neighbourhoods, copies, and modes of mixtures.

    Fréchet distance    M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
                        Equilibrium", NeurIPS 2017, arXiv:1706.08500
    kernel distance     M. Bińkowski et al., "Demystifying MMD GANs", ICLR 2018, arXiv:1801.01401
    precision, recall   T. Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models",
                        NeurIPS 2019, arXiv:1904.06991
    density, coverage   M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020,
                        arXiv:2002.09797
    sliced Wasserstein  J. Rabin et al., "Wasserstein Barycenter and Its Application to Texture Mixing", SSVM 2011
    energy distance     G. J. Székely and M. L. Rizzo, "Energy statistics", 2013
    two-sample AUC      of a classifier that tells new samples from real ones; .5 of samples that it cannot tell

All work in float64 on features `[sample, width]`, a block of pairs at a time, and give shares between 0 and 1. Most
depend on the number of samples: compare at equal numbers only, and with two halves of the real samples.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.samplers.toys import log_density

Points = Float[Tensor, "_row width"]
Real = Float[Tensor, "real width"]
Fake = Float[Tensor, "fake width"]
Distances = Float[Tensor, " _row"]
Kernel = Callable[[Tensor, Tensor], Tensor]
"""k(a, b) of every row of one set with every row of another."""
PAIRS = 2**20
"""Pairs that are in memory at once: 8 MB in double precision."""
DIRECTIONS = 256
"""Directions of the sliced distance."""
TIED = 1e-12
"""Share of ‖a‖² + ‖b‖² by which a distance must be smaller than another."""
SPLITS = 50
"""Half splits of which the interval of a kernel distance is taken."""
FOLDS, MOST = 2, 2000
"""Folds of the two-sample classifier, and the most samples of each side that it is given."""


# ------------------------------------------------------------------------------------------------- the Fréchet distance


def frechet(real: Real, fake: Fake) -> float:
    """‖m_r - m_f‖² + tr(C_r + C_f - 2 (C_r^½ C_f C_r^½)^½), covariances with divisor n - 1.

    Args:
        real: Features of real samples, a row for each.
        fake: Features of generated samples, a row for each.

    Raises:
        InputError: A set has fewer than two samples.
    """
    return frechet_of_moments(*moments(real), *moments(fake))


def relative_frechet(real: Real, fake: Fake) -> float:
    """The same in per cent of tr C_r: a distance on any network's features has no scale of its own.

    Args:
        real: Features of real samples, a row for each.
        fake: Features of generated samples, a row for each.
    """
    return relative(frechet(real, fake), real)


def relative(distance: float, real: Real) -> float:
    """A distance in per cent of the spread of real features; infinite, unless it is zero, where these are all equal."""
    spread = float(moments(real)[1].trace())
    return 100 * distance / spread if spread else math.inf if distance else 0.0


def moments(points: Points) -> tuple[Float[Tensor, " width"], Float[Tensor, "width width"]]:
    """Mean and covariance, with divisor n - 1.

    Raises:
        InputError: There are fewer than two samples.
    """
    if len(points) < 2:
        raise InputError(f"a covariance needs two samples or more, not {len(points)}.")
    mean = points.double().mean(dim=0)
    centred = points.double() - mean
    return mean, centred.T @ centred / (len(points) - 1)


def frechet_of_moments(
    mean: Float[Tensor, " width"],
    covariance: Float[Tensor, "width width"],
    other_mean: Float[Tensor, " width"],
    other_covariance: Float[Tensor, "width width"],
) -> float:
    """The distance of two Gaussians.

    tr (A^½ B A^½)^½ is the sum of the singular values of A^½ B^½, which needs no second root and so loses no digits.
    """
    shared = torch.linalg.svdvals(root(covariance) @ root(other_covariance)).sum()
    apart = (mean.double() - other_mean.double()).square().sum()
    found = apart + covariance.double().trace() + other_covariance.double().trace() - 2 * shared
    return max(float(found), 0.0)


def root(matrix: Float[Tensor, "width width"]) -> Float[Tensor, "width width"]:
    """The square root of a symmetric matrix, without eigenvalues that are rounding errors: those below n ε λ_max."""
    values, vectors = torch.linalg.eigh(matrix.double())
    least = len(values) * torch.finfo(torch.float64).eps * values[-1]
    values = torch.where(values > least, values, 0.0)
    return (vectors * values.sqrt()) @ vectors.T


# -------------------------------------------------------------------------------------------------- the kernel distance


def cubic(a: Points, b: Points) -> Tensor:
    """(a·b / d + 1)³."""
    base = torch.addmm(a.new_ones(1), a, b.T, alpha=1 / a.shape[1])
    return base.square().mul_(base)


def gaussian(*widths: float) -> Kernel:
    """The mean over bandwidths s of exp(-‖a - b‖² / 2s²)."""

    def kernel(a: Points, b: Points) -> Tensor:
        squares = distances(a, b).square()
        return torch.stack([(squares / (-2 * width**2)).exp() for width in widths]).mean(dim=0)

    return kernel


def nearness(a: Points, b: Points) -> Tensor:
    """-‖a - b‖, whose MMD² is the energy distance."""
    return -distances(a, b)


def mmd(real: Real, fake: Fake, kernel: Kernel = cubic) -> float:
    """The unbiased squared MMD, of sets of any sizes; it may be negative.

    Args:
        real: Features of real samples, a row for each.
        fake: Features of generated samples, a row for each.
        kernel: A function of two sets that gives a number for each pair. Default: cubic.

    Raises:
        InputError: A set has fewer than two samples.
    """
    return float(mmd_of_parts(real, fake, kernel, *(torch.ones(len(one), 1) for one in (real, fake))))


def mmd_of_parts(
    real: Real,
    fake: Fake,
    kernel: Kernel,
    of_real: Float[Tensor, "real part"],
    of_fake: Float[Tensor, "fake part"],
) -> Float[Tensor, " part"]:
    """The same of several parts of both sets at once, each marked by ones in a column.

    Raises:
        InputError: A part has fewer than two samples.
    """
    within = []
    for points, marks in ((real.double(), of_real.double()), (fake.double(), of_fake.double())):
        count = marks.sum(dim=0)
        if count.min() < 2:
            raise InputError(f"a kernel distance needs two samples or more, not {int(count.min())}.")
        within.append(_total(points, points, marks, marks, kernel, apart=True) / (count * (count - 1)))
    counts = of_real.double().sum(dim=0) * of_fake.double().sum(dim=0)
    between = _total(real.double(), fake.double(), of_real.double(), of_fake.double(), kernel) / counts
    return within[0] + within[1] - 2 * between


def _total(a: Tensor, b: Tensor, of_a: Tensor, of_b: Tensor, kernel: Kernel, *, apart: bool = False) -> Tensor:
    """Σ over pairs of a part, without those of a sample with itself if the sets are one."""
    total = of_a.new_zeros(of_a.shape[1])
    for rows in _portions(len(a), len(b)):
        block = kernel(a[rows], b)
        if apart:
            block[torch.arange(len(rows)), rows] = 0
        total += (of_a[rows] * (block @ of_b)).sum(dim=0)
    return total


class Estimate(NamedTuple):
    """A value, and the middle 95 % of the same over halves of both sets: wider than the interval of the value."""

    value: float
    low: float
    high: float


def kernel_distance(real: Real, fake: Fake, *, generator: torch.Generator, kernel: Kernel | None = None) -> Estimate:
    """The unbiased squared MMD with the cubic kernel, of features divided by √(tr C_r / d).

    Args:
        real: Real features.
        fake: Features of new samples.
        generator: Draws the halves.
        kernel: Another kernel, of features as they are.

    Raises:
        InputError: A set has fewer than four samples.
    """
    if kernel is None:
        covariance = moments(real)[1]
        scale = (covariance.trace() / len(covariance)).sqrt().clamp(min=torch.finfo(torch.float64).tiny)
        real, fake, kernel = real.double() / scale, fake.double() / scale, cubic
    marks = [halves(len(one), SPLITS, generator) for one in (real, fake)]
    whole = [torch.cat([torch.ones(len(one), 1, dtype=torch.float64), one], dim=1) for one in marks]
    value, *parts = mmd_of_parts(real, fake, kernel, *whole)
    ends = torch.quantile(torch.stack(parts), torch.tensor([0.025, 0.975], dtype=torch.float64))
    return Estimate(float(value), float(ends[0]), float(ends[1]))


def bandwidths(real: Real) -> tuple[float, ...]:
    """Bandwidths of Gaussian kernels for points: √(2 tr C), the usual distance of two points, and down to a 16th."""
    usual = math.sqrt(2 * float(moments(real)[1].trace())) or 1.0
    return tuple(usual / 2**power for power in range(5))


def halves(count: int, splits: int, generator: torch.Generator) -> Float[Tensor, "{count} {splits}"]:
    """Half of so many things, drawn anew in each column and marked by ones."""
    order = torch.rand(count, splits, generator=generator).argsort(dim=0)
    return (order < count // 2).double()


def energy_distance(real: Real, fake: Fake) -> float:
    """2 E‖X - Y‖ - E‖X - X'‖ - E‖Y - Y'‖ over pairs of different samples, without bias.

    Args:
        real: Features of real samples, a row for each.
        fake: Features of generated samples, a row for each.
    """
    return mmd(real, fake, nearness)


# ------------------------------------------------------------------------------------------------- the sliced distance


def directions(width: int, count: int = DIRECTIONS, seed: int = 0) -> Float[Tensor, "{width} {count}"]:
    """Unit vectors, the same for the same seed."""
    drawn = torch.randn(width, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm(dim=0)


def sliced_wasserstein(real: Real, fake: Fake, along: Float[Tensor, "width direction"] | None = None) -> float:
    """The mean over directions of ∫ |F⁻¹(q) - G⁻¹(q)| dq.

    Of sets of different sizes quantile functions are interpolated between samples, at as many places as the larger has.

    Args:
        real: Real points.
        fake: New points.
        along: Unit vectors. Default: those of `directions`.
    """
    along = directions(real.shape[1]) if along is None else along.double()
    count = max(len(real), len(fake))
    gap = sum(
        (_quantiles(real.double() @ some, count) - _quantiles(fake.double() @ some, count)).abs().sum()
        for some in along.split(max(1, PAIRS // count), dim=1)
    )
    return float(gap) / (count * along.shape[1])


def _quantiles(values: Float[Tensor, "row direction"], count: int) -> Float[Tensor, "{count} direction"]:
    """Quantiles of each column at (i + ½) / count, between order statistics at (j + ½) / n; the ends stay."""
    ordered = values.sort(dim=0).values
    if len(ordered) == count:
        return ordered
    places = (torch.arange(count, dtype=torch.float64) + 0.5) * len(ordered) / count - 0.5
    places = places.clamp(0, len(ordered) - 1)
    low = places.floor().long()
    high = (low + 1).clamp(max=len(ordered) - 1)
    return torch.lerp(ordered[low], ordered[high], (places - low)[:, None])


# ------------------------------------------------------------------------------------------------------- neighbourhoods


class Neighbourhoods(NamedTuple):
    """What balls around samples hold, each as wide as the way to its k-th nearest neighbour."""

    precision: float
    """The share of new samples in a ball around a real one."""
    recall: float
    """The share of real samples in a ball around a new one."""
    density: float
    """The number of balls around real samples that hold a new one, over k: about 1 of samples of one law."""
    coverage: float
    """The share of balls around real samples that hold a new one."""


def neighbourhoods(
    real: Real,
    fake: Fake,
    k: int,
    *,
    real_radii: Float[Tensor, " real"] | None = None,
    fake_radii: Float[Tensor, " fake"] | None = None,
) -> Neighbourhoods:
    """Precision, recall, density and coverage. A ball is open: with k + 1 equal samples it is empty.

    Args:
        real: Real features.
        fake: Features of new samples.
        k: Which neighbour.
        real_radii: `radii` of the real ones, if they are known.
        fake_radii: Those of the new ones.

    Raises:
        InputError: A set has k samples or fewer.
    """
    around_real = radii(real, k) if real_radii is None else real_radii
    around_fake = radii(fake, k) if fake_radii is None else fake_radii
    precise, held = 0, 0
    reached, covered = torch.zeros(2, len(real), dtype=torch.bool)
    for rows, squares in _squares(fake, real, TIED):
        inside = squares < around_real.square()
        precise += int(inside.any(dim=1).sum())
        held += int(inside.sum())
        covered |= inside.any(dim=0)
        reached |= (squares < around_fake[rows, None].square()).any(dim=0)
    shares = [float(one.double().mean()) for one in (reached, covered)]
    return Neighbourhoods(precise / len(fake), shares[0], held / (k * len(fake)), shares[1])


def radii(points: Points, k: int) -> Distances:
    """The distance of each sample to its k-th nearest other one.

    Raises:
        InputError: There are k samples or fewer.
    """
    if len(points) <= k:
        raise InputError(f"neighbours is {k}, but there are {len(points)} samples. Give fewer neighbours.")
    return nearest(points, points, k + 1)[:, -1]


def nearest(points: Points, others: Points, count: int = 1) -> Float[Tensor, "_row {count}"]:
    """The distances of each sample to so many nearest ones of others, ascending; it may be one of them itself."""
    found = []
    for _, squares in _squares(points, others):
        few = squares.amin(dim=1, keepdim=True) if count == 1 else squares.topk(count, dim=1, largest=False).values
        found.append(few.clamp(min=0).sqrt())
    return torch.cat(found)


def _squares(
    points: Points, others: Points, tied: float = 0.0
) -> Iterator[tuple[Int[Tensor, " _row"], Float[Tensor, "_row other"]]]:
    """Row numbers of points, and their squared distances to all others, a portion at a time.

    By one product of matrices, about the mean of the others, fifteen times as fast as differences. Rounding, about
    d ε (‖a‖² + ‖b‖²), makes equal distances unequal.

    Args:
        points: Points.
        others: Others.
        tied: Share of ‖a‖² + ‖b‖² that is added, so that what is equal but for rounding does not count as smaller.
    """
    centre = others.double().mean(dim=0)
    a, b = points.double() - centre, others.double() - centre
    norms, lengths = a.square().sum(dim=1), b.square().sum(dim=1)
    for rows in _portions(len(a), len(b)):
        squares = torch.addmm(lengths.expand(len(rows), -1), a[rows], b.T, beta=1 + tied, alpha=-2)
        yield rows, squares.add_(norms[rows, None], alpha=1 + tied)


def distances(a: Points, b: Points) -> Float[Tensor, "_row other"]:
    """Euclidean distances, exact where two samples are equal; for few dimensions."""
    return torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")


def _portions(rows: int, columns: int) -> Iterator[Int[Tensor, " _row"]]:
    """Row numbers in portions whose pairs with all columns are in memory at once."""
    yield from torch.arange(rows).split(max(1, PAIRS // columns))


# ------------------------------------------------------------------------------------------ copies, labels, classifiers


def memorised(fake: Points, train: Points, test: Points) -> float:
    """The share of new samples that lie nearer to a training than to a test sample; a tie counts half.

    It says nothing alone: there may be more training samples, or others. See `memorised_by_chance`.

    Args:
        fake: Features of generated samples.
        train: Those of training samples.
        test: Those of test samples.
    """
    return nearer(nearest(fake, train)[:, 0], nearest(fake, test)[:, 0])


def memorised_by_chance(train: Points, test: Points) -> float:
    """The same share of the training samples themselves, each without itself: what new samples of their law have."""
    return nearer(nearest(train, train, 2)[:, 1], nearest(train, test)[:, 0])


def nearer(to_one: Distances, to_other: Distances) -> float:
    """The share of samples that lie nearer to the one than to the other; a tie counts half."""
    tied = torch.isclose(to_one, to_other, rtol=1e-9, atol=0)
    return float(torch.where(tied, 0.5, (to_one < to_other).double()).mean())


def label_variation(labels: Int[Tensor, " _row"], shares: Float[Tensor, " class"]) -> float:
    """The total variation ½ Σ|p - q| of the shares of labels from wanted ones."""
    found = torch.bincount(labels, minlength=len(shares)).double() / len(labels)
    return 0.5 * float((found - shares.double()).abs().sum())


def two_sample_auc(real: Real, fake: Fake, *, seed: int = 0, most: int = MOST) -> float:
    """The AUC with which boosted trees tell new from real samples that they were not fitted on, over two folds.

    Args:
        real: Real features.
        fake: Features of new samples.
        seed: Of folds and trees.
        most: Samples of each side that are used at most.

    Raises:
        InputError: A side has fewer samples than there are folds.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    if min(len(real), len(fake)) < FOLDS:
        raise InputError(f"a two-sample AUC needs {FOLDS} samples or more, not {min(len(real), len(fake))}.")
    generator = torch.Generator().manual_seed(seed)
    sides = [one[torch.randperm(len(one), generator=generator)[:most]].double() for one in (real, fake)]
    values = torch.cat(sides).numpy()
    marks = torch.cat([torch.zeros(len(sides[0])), torch.ones(len(sides[1]))]).numpy()
    found = []
    for fitted, tested in StratifiedKFold(FOLDS, shuffle=True, random_state=seed % 2**32).split(values, marks):
        trees = HistGradientBoostingClassifier(
            max_iter=30, max_leaf_nodes=8, learning_rate=0.2, early_stopping=False, random_state=seed % 2**32
        )
        trees.fit(values[fitted], marks[fitted])
        found.append(roc_auc_score(marks[tested], trees.decision_function(values[tested])))
    return float(sum(found) / FOLDS)


# ------------------------------------------------------------------------------------------------ mixtures in the plane


class Modes(NamedTuple):
    """How points spread over the modes of a mixture of equal Gaussians."""

    found: int
    """Modes that hold a tenth of their share or more."""
    masses: Float[Tensor, " mode"]
    """The share of the points within four standard deviations of each mode."""
    stray: float
    """The share of the points that are near no mode."""
    variation: float
    """Total variation of the masses, with what is stray, from equal ones."""


def modes(points: Float[Tensor, "row 2"], means: Float[Tensor, "mode 2"], std: float, within: float = 4.0) -> Modes:
    """How points spread over modes.

    Args:
        points: New points.
        means: Of the modes.
        std: The standard deviation of each mode.
        within: Standard deviations up to which a point belongs to its nearest mode.
    """
    away, which = distances(points, means).min(dim=1)
    near = away <= within * std
    masses = torch.bincount(which[near], minlength=len(means)).double() / len(points)
    stray, share = 1 - float(near.double().mean()), 1 / len(means)
    variation = 0.5 * (float((masses - share).abs().sum()) + stray)
    return Modes(int((masses >= 0.1 * share).sum()), masses, stray, variation)


def negative_log_likelihood(points: Float[Tensor, "row 2"], means: Float[Tensor, "mode 2"], std: float) -> float:
    """The mean of -ln p of points under a mixture of equal Gaussians, in nats.

    It is low of points at the middle of a single mode too, so read it with the modes, and beside that of real points.
    """
    return -float(log_density(points.double(), means.double(), std).mean())
