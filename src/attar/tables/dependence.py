"""V²: how far a latent code depends on a group, exactly, in one pass over pairs of rows, with its gradient.

Each row has a Gaussian code N(μ, diag σ²). V² is the squared L2 distance between p(z, s) and p(z) p(s), where p(z | a)
is the mixture of the codes of group a. It needs no samples and no adversary. It is no statistic of distances: do not
compare it with the distance covariance of Székely. It speaks of sampled codes only: the means alone may still tell the
group. `permuted_dependence` says how large V² is where there is nothing to find; `spectral_dependence` is a cheaper
objective with random frequencies, and another one.
Liu, Li, Yao, Xu, Ma, Xu and Tong, Fair Representation Learning: An Alternative to Mutual Information (FairDisCo), KDD
2022.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

Codes = Float[Tensor, "row latent"]
Groups = Int[Tensor, " row"]
Scalar = Float[Tensor, ""]

CHUNK = 128
"""Rows that are compared with all others at once."""


def dependence(
    mean: Codes, log_variance: Codes, groups: Groups, *, normalise: bool = False, chunk: int = CHUNK
) -> Scalar:
    """V² = Σ_a π_a² [d(a, a) + d(∗, ∗) - 2 d(a, ∗)], with d(A, B) the mean density of a pair of rows of A and B.

    Since C = onehot(s) - π, it is Σ_ij (C Cᵀ)_ij K_ij / B² with K_ij = N(μ_i - μ_j; 0, σ_i² + σ_j²). Groups without a
    row add nothing, and neither does a single group. The released code adds 1e-10 to each denominator, which caps
    densities of narrow codes; log densities need no such thing.

    Args:
        mean: μ of each row.
        log_variance: log σ² of each row.
        groups: The group of each row.
        normalise: Divide by Σ_a π_a² d(∗, ∗), which takes away the scale of the latent space.
        chunk: Rows that are compared with all others at once, which bounds the memory.
    """
    mean, variance = _moments(mean, log_variance)
    contrasts, shares = _contrasts(groups, mean.dtype)
    ceiling = _ceiling(variance)
    if not normalise:
        return _PairMeans.apply(mean, variance, ceiling, chunk, contrasts)[0] * ceiling.exp()
    everyone = mean.new_ones(len(mean), 1)
    squared, together = _PairMeans.apply(mean, variance, ceiling, chunk, contrasts, everyone)
    return squared / (shares.square().sum() * together)


def pair_density(mean: Codes, log_variance: Codes, *, chunk: int = CHUNK) -> Scalar:
    """d(∗, ∗), the mean density of all pairs of rows, which is ∫ p(z)² dz."""
    mean, variance = _moments(mean, log_variance)
    ceiling = _ceiling(variance)
    return _PairMeans.apply(mean, variance, ceiling, chunk, mean.new_ones(len(mean), 1))[0] * ceiling.exp()


@torch.no_grad()
def permuted_dependence(
    mean: Codes,
    log_variance: Codes,
    groups: Groups,
    *,
    permutations: int = 20,
    generator: torch.Generator | None = None,
    chunk: int = CHUNK,
) -> Float[Tensor, " permutation"]:
    """V² under permutations of the groups: its size where codes do not depend on them. All share one pass over pairs.

    Args:
        mean: μ of each row.
        log_variance: log σ² of each row.
        groups: The group of each row.
        permutations: How many.
        generator: Draws the permutations, on the CPU.
        chunk: Rows that are compared with all others at once.
    """
    mean, variance = _moments(mean, log_variance)
    contrasts, _ = _contrasts(groups, mean.dtype)
    orders = [torch.randperm(len(groups), generator=generator).to(groups.device) for _ in range(permutations)]
    several = torch.cat([contrasts[order] for order in orders], dim=1)
    ceiling, totals = _ceiling(variance), several.new_zeros(several.shape[1], dtype=torch.float64)
    for block in _blocks(mean, variance, ceiling, chunk, whole=True):
        totals += (several[block.rows] * (block.density() @ several)).sum(dim=0, dtype=torch.float64)
    by_permutation = totals.view(permutations, -1).sum(dim=1) / len(groups) ** 2
    return by_permutation.to(mean.dtype) * ceiling.exp()


def spectral_dependence(
    mean: Codes,
    log_variance: Codes,
    groups: Groups,
    frequencies: Float[Tensor, "feature latent"],
    *,
    normalise: bool = False,
) -> Scalar:
    """Σ_a π_a² mean_t |φ_a(t) - φ(t)|², the squared distance of characteristic functions at random frequencies t.

    Linear in the number of rows. With t from N(0, I/ℓ²) it is an estimate of V² of codes that are wider by ℓ²/2 a
    dimension, times (2πℓ²)^(z/2): an MMD with a Gaussian kernel, and so another objective than V².

    Args:
        mean: μ of each row.
        log_variance: log σ² of each row.
        groups: The group of each row.
        frequencies: t.
        normalise: Divide by Σ_a π_a² mean_t |φ(t)|².
    """
    mean, variance = _moments(mean, log_variance)
    contrasts, shares = _contrasts(groups, mean.dtype)
    phase = mean @ frequencies.T
    height = (-0.5 * variance @ frequencies.T.square()).exp()
    waves = torch.stack([height * phase.cos(), height * phase.sin()])
    squared = (contrasts.T @ waves / len(mean)).square().sum(dim=(0, 1)).mean()
    if not normalise:
        return squared
    return squared / (shares.square().sum() * waves.mean(dim=1).square().sum(dim=0).mean())


def _moments(mean: Codes, log_variance: Codes) -> tuple[Codes, Codes]:
    """Means and variances in float32 or float64."""
    dtype = torch.float64 if mean.dtype == torch.float64 else torch.float32
    return mean.to(dtype), log_variance.to(dtype).exp()


def _contrasts(groups: Groups, dtype: torch.dtype) -> tuple[Float[Tensor, "row group"], Float[Tensor, " group"]]:
    """C = onehot(s) - π, and π; of groups that have a row."""
    present, numbers = groups.unique(return_inverse=True)
    one_hot = torch.nn.functional.one_hot(numbers, len(present)).to(dtype)
    shares = one_hot.mean(dim=0)
    return one_hot - shares, shares


def _ceiling(variance: Codes) -> Scalar:
    """A bound on the log density of any pair: the largest of a row with itself, as the logarithm is concave."""
    with torch.no_grad():
        return -0.5 * (4 * math.pi * variance).log().sum(dim=1).min()


class _Block:
    """Pairs of a few rows with all rows from the first of them on, one latent dimension at a time."""

    def __init__(self, means: Tensor, variances: Tensor, ceiling: Scalar, rows: slice, columns: slice) -> None:
        self.rows, self.columns = rows, columns
        self._means, self._variances, self._ceiling = means, variances, ceiling

    def gaps(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Number of the dimension, μ_i - μ_j and σ_i² + σ_j² in it."""
        for number, (mean, variance) in enumerate(zip(self._means, self._variances, strict=True)):
            yield (
                number,
                mean[self.rows, None] - mean[self.columns],
                variance[self.rows, None] + variance[self.columns],
            )

    def density(self) -> Float[Tensor, "row column"]:
        """The density of each pair, in units of the largest possible."""
        total = None
        for _, gap, spread in self.gaps():
            term = gap.square_().div_(spread).add_(spread.log_())
            total = term if total is None else total.add_(term)
        assert total is not None, "a latent space has a dimension"
        offset = len(self._means) / 2 * math.log(2 * math.pi)
        return total.mul_(-0.5).sub_(offset + self._ceiling).exp_()


def _blocks(mean: Codes, variance: Codes, ceiling: Scalar, chunk: int, *, whole: bool = False) -> Iterator[_Block]:
    """All pairs in blocks: each once, or, if they are wanted whole, in both orders."""
    means, variances = mean.detach().T.contiguous(), variance.detach().T.contiguous()
    for start in range(0, len(mean), chunk):
        rows = slice(start, min(start + chunk, len(mean)))
        yield _Block(means, variances, ceiling, rows, slice(0 if whole else start, None))


class _PairMeans(torch.autograd.Function):
    """Σ_ij (F Fᵀ)_ij K_ij / B² of several F, in units of exp(ceiling): value and gradient in the same pass.

    With W = F Fᵀ ∘ K / B², Δ = μ_i - μ_j and v = σ_i² + σ_j²: ∂μ_i = -2 Σ_j W Δ/v, ∂σ_i² = Σ_j W ((Δ/v)² - 1/v).
    """

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor, ceiling: Tensor, chunk: int, *factors: Tensor) -> Any:
        learns = any(ctx.needs_input_grad[:2])
        totals = [mean.new_zeros((), dtype=torch.float64) for _ in factors]
        slopes = [torch.zeros(2, *mean.T.shape, dtype=mean.dtype, device=mean.device) for _ in factors if learns]
        for block in _blocks(mean, variance, ceiling, chunk):
            density = block.density()
            inside = block.rows.stop - block.rows.start  # pairs of the chunk's own rows are there in both orders
            weights = [(factor[block.rows] @ factor[block.columns].T).mul_(density) for factor in factors]
            for total, weight in zip(totals, weights, strict=True):
                total += 2 * weight.sum(dtype=torch.float64) - weight[:, :inside].sum(dtype=torch.float64)
            if learns:
                _add_slopes(slopes, weights, block, inside)
        scale = 1 / len(mean) ** 2
        ctx.save_for_backward(*[slope.transpose(1, 2) * scale for slope in slopes])
        return tuple((total * scale).to(mean.dtype) for total in totals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        slope = sum(up * one for up, one in zip(upstream, ctx.saved_tensors, strict=True))
        return slope[0], slope[1], None, None, *([None] * len(upstream))


def _add_slopes(slopes: list[Tensor], weights: list[Tensor], block: _Block, inside: int) -> None:
    """Add what the pairs of a block tell of the gradient, to the rows and to the columns that are not among them."""
    start, stop = block.rows.start, block.rows.stop
    for number, gap, spread in block.gaps():
        pull = gap.div_(spread)
        bend = pull.square().sub_(spread.reciprocal_())
        for (of_mean, of_variance), weight in zip(slopes, weights, strict=True):
            first, second = weight * pull, weight * bend
            of_mean[number, start:stop] -= 2 * first.sum(dim=1)
            of_mean[number, stop:] += 2 * first[:, inside:].sum(dim=0)
            of_variance[number, start:stop] += second.sum(dim=1)
            of_variance[number, stop:] += second[:, inside:].sum(dim=0)
