"""Embeddings that are mixtures of Gaussians: how alike two of them are, and how dense one is at a point.

The similarity of ProbMCL is the Cauchy-Schwarz correlation of two densities, ⟨p, q⟩ / √(⟨p, p⟩ ⟨q, q⟩), which has a
closed form with a term for each pair of components. Its logarithm is computed for all pairs of samples block by block,
without keeping a term: the backward pass computes each block again and adds up the closed form of its gradient.
Distances come from one matrix product, of means that are centred first. Blocks below the diagonal are mirrored. Sajedi,
Khaki, Lawryshyn and Plataniotis, ProbMCL, ICASSP 2024, arXiv:2401.01448.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from attar.core.precision import at_least_float32, without_autocast
from attar.embeddings.multilabel.gaussians import Gaussians, gap, gap_gradients, scale_of

Similarity = Literal["log", "correlation", "angle"]
BLOCK = 2**16
"""Pairs of components of one block."""
APART = 1e-7
"""Smallest 1 − C of which the angle has a finite gradient."""


class Mixtures(NamedTuple):
    """A Gaussian mixture for each sample."""

    log_weights: Float[Tensor, "sample component"]
    """Logarithms of the weights π; −inf for a component that does not count."""
    means: Float[Tensor, "sample component d"]
    variances: Float[Tensor, "sample component"] | Float[Tensor, "sample component d"]
    """One for each component (isotropic), or one for each of its coordinates (diagonal)."""

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, variances: Tensor) -> Self:
        """Mixtures with these weights π instead of their logarithms."""
        return cls(weights.log(), means, variances)

    @property
    def diagonal(self) -> bool:
        """Whether each coordinate has a variance of its own."""
        return self.variances.ndim == 3

    def at_least_float32(self) -> Self:
        """In single precision, if they were in half precision."""
        return type(self)(*map(at_least_float32, self))

    def select(self, rows: slice) -> Self:
        """Only these samples."""
        return type(self)(*(part[rows] for part in self))


# --------------------------------------------------------------------------------------------------------- similarity


def similarity(
    mixtures: Mixtures, others: Mixtures | None = None, how: Similarity = "log"
) -> Float[Tensor, "sample other"]:
    """How alike two mixtures are, for all pairs.

    Args:
        mixtures: A mixture for each sample.
        others: What they are compared with; by default, one another.
        how: `log` C; the correlation C itself, in (0, 1]; or the angle, 1 − (2/π) arccos C. In many dimensions C is all
            but zero for most pairs, and only its logarithm has a useful gradient.
    """
    log = log_correlation(mixtures, others)
    if how == "log":
        return log
    if how == "correlation":
        return log.exp()
    # arccos C = 2 arcsin √((1 − C) / 2), and 1 − C of a known logarithm is precise near C = 1
    return 1 - 4 / math.pi * (-torch.expm1(log)).clamp(min=APART).div(2).sqrt().clamp(max=math.sqrt(0.5)).asin()


def log_correlation(mixtures: Mixtures, others: Mixtures | None = None) -> Float[Tensor, "sample other"]:
    """Log C of all pairs, the Cauchy-Schwarz correlation of their densities; minus their Cauchy-Schwarz divergence."""
    inner = log_inner_products(mixtures, others)
    if others is None:
        own = inner.diagonal()
        return inner - (own[:, None] + own) / 2
    return inner - (log_norms(mixtures)[:, None] + log_norms(others)) / 2


def log_inner_products(mixtures: Mixtures, others: Mixtures | None = None) -> Float[Tensor, "sample other"]:
    """Log ∫ p q of all pairs of densities: log Σ_a Σ_b π_a π_b N(μ_a; μ_b, (v_a + v_b) I).

    Args:
        mixtures: A mixture for each sample.
        others: What they are compared with; by default, one another.
    """
    sides = (
        [mixtures.at_least_float32()] if others is None else [mixtures.at_least_float32(), others.at_least_float32()]
    )
    sides, constant, together = _scaled(sides)
    second = sides[-1] if others is not None else Mixtures(None, None, None)  # type: ignore[arg-type]
    return constant + _AllPairs.apply(*sides[0], *second, together)


def log_norms(mixtures: Mixtures) -> Float[Tensor, " sample"]:
    """Log ∫ p² of every density."""
    (scaled,), constant, together = _scaled([mixtures.at_least_float32()])
    return constant + _EachWithItself.apply(*scaled, together)


def log_density(points: Float[Tensor, "sample d"], mixtures: Mixtures) -> Float[Tensor, " sample"]:
    """The logarithm of each sample's density at a point of its own."""
    return log_joint(points, mixtures).logsumexp(dim=1)


def log_joint(points: Float[Tensor, "sample d"], mixtures: Mixtures) -> Float[Tensor, "sample component"]:
    """Log π_k N(t; μ_k, v_k) of each component, at a point of its own for each sample."""
    points, (log_weights, means, variances) = at_least_float32(points), mixtures.at_least_float32()
    squares = (points[:, None] - means).square()
    if mixtures.diagonal:
        exponent = (squares / variances + variances.log()).sum(dim=2)
    else:
        exponent = squares.sum(dim=2) / variances + means.shape[2] * variances.log()
    return log_weights - (exponent + means.shape[2] * math.log(2 * math.pi)) / 2


def pruned(mixtures: Mixtures, least: float = 1e-3) -> Mixtures:
    """The mixtures without components of a weight below `least`, except a sample's largest.

    Weights add up to one again. All samples keep as many places as the one with most components left.
    """
    log_weights, means, variances = mixtures
    with torch.no_grad():
        stay = log_weights >= math.log(least)
        most = max(1, int(stay.sum(dim=1).max()))
        if most == log_weights.shape[1] and bool(stay.all()):
            return mixtures
        places = log_weights.topk(most, dim=1).indices
        gone = ~stay.gather(1, places)
        gone[:, 0] = False
    weights = log_weights.gather(1, places).masked_fill(gone, -math.inf)
    weights = weights - weights.logsumexp(dim=1, keepdim=True)
    wide = places[:, :, None].expand(-1, -1, means.shape[2])
    spread = variances.gather(1, wide if mixtures.diagonal else places)
    return Mixtures(weights, means.gather(1, wide), spread)


class Spread(NamedTuple):
    """How uncertain mixtures are."""

    entropy: Float[Tensor, " sample"]
    """Entropy of the weights, in nats."""
    variance: Float[Tensor, " sample"]
    """Mean variance of the components, per coordinate."""
    means: Float[Tensor, " sample"]
    """Variance of the components' means, per coordinate."""
    total: Float[Tensor, " sample"]
    """Variance of the mixture, per coordinate: the sum of both."""


def spread_of(mixtures: Mixtures) -> Spread:
    """How uncertain each mixture is."""
    log_weights, means, variances = mixtures.at_least_float32()
    weights = log_weights.exp()
    entropy = -(weights * log_weights.clamp(min=torch.finfo(weights.dtype).min)).sum(dim=1)
    within = (weights * (variances.mean(dim=2) if mixtures.diagonal else variances)).sum(dim=1)
    centre = (weights[:, :, None] * means).sum(dim=1, keepdim=True)
    between = (weights * (means - centre).square().mean(dim=2)).sum(dim=1)
    return Spread(entropy, within, between, within + between)


# ---------------------------------------------------------------------------------------------------- all pairs, fused

Parts = tuple[Tensor, ...]
"""Log-weights, means and variances of components: `[..., component]`, `[..., component, d]` and one of both."""
Known = tuple[Tensor, Tensor] | None
"""Squared distances over variances, and variances, of an isotropic block."""


def _scaled(sides: list[Mixtures]) -> tuple[list[Mixtures], float | Tensor, int]:
    """Sides in coordinates that are centred (and scaled, if diagonal), and what the density's logarithm then lacks."""
    d = sides[0].means.shape[2]
    constant: float | Tensor = -d / 2 * math.log(2 * math.pi)
    with torch.no_grad():
        means = torch.cat([side.means.detach().flatten(0, 1) for side in sides])
        if not sides[0].diagonal:
            centre, size, together = means.mean(dim=0), None, 1
        else:
            variances = torch.cat([side.variances.detach().flatten(0, 1) for side in sides])
            centre, size, together = scale_of(means, variances)
            constant = constant - size.log().sum() / 2
    if size is None:
        return [Mixtures(log, mean - centre, spread) for log, mean, spread in sides], constant, together
    found = [Mixtures(log, (mean - centre) / size.sqrt(), spread / size) for log, mean, spread in sides]
    return found, constant, together


def _exponents(a: Parts, b: Parts, together: int) -> tuple[Tensor, Known]:
    """Log π_a π_b N(μ_a; μ_b, v_a + v_b) of all pairs of components, without the constant; and what it is made of."""
    (log_a, mean_a, var_a), (log_b, mean_b, var_b) = a, b
    if var_a.ndim == mean_a.ndim:
        found, known = gap(_rows(a), _columns(b), 1.0, together), None
    else:
        ones = torch.ones_like(var_a)[..., None], torch.ones_like(var_b)[..., None]
        square_a, square_b = (mean.square().sum(dim=-1, keepdim=True) for mean in (mean_a, mean_b))
        left = torch.cat([mean_a, square_a, ones[0]], dim=-1)
        right = torch.cat([-2 * mean_b, ones[1], square_b], dim=-1)
        spread = var_a[..., :, None] + var_b[..., None, :]
        apart = (left @ right.mT).clamp_(min=0).div_(spread)
        found, known = torch.log(spread).mul_(mean_a.shape[-1]).add_(apart), (apart, spread)
    return found.mul_(-0.5).add_(log_a[..., :, None]).add_(log_b[..., None, :]), known


def _add_gradients(a: Parts, b: Parts, given: Tensor, known: Known, into: tuple[Parts, Parts]) -> None:
    """Add the gradient of components on both sides, given that of their exponents, which is spoilt."""
    into[0][0].add_(given.sum(dim=-1))
    into[1][0].add_(given.sum(dim=-2))
    if known is None:
        sides = Gaussians(*map(_row, into[0][1:])), Gaussians(*map(_column, into[1][1:]))
        gap_gradients(_rows(a), _columns(b), 1.0, given.mul_(-0.5), sides)
        return
    apart, spread = known
    given.div_(spread)
    d = a[1].shape[-1]
    for here, there, flow, to in ((a, b, given, into[0]), (b, a, given.mT, into[1])):
        mean = there[1]
        pulled = flow @ torch.cat([mean, torch.ones_like(mean[..., :1])], dim=-1)
        to[1].add_(pulled[..., :-1]).sub_(pulled[..., -1:] * here[1])
    given.mul_(apart.sub_(d).mul_(0.5))
    into[0][2].add_(given.sum(dim=-1))
    into[1][2].add_(given.sum(dim=-2))


def _row(part: Tensor) -> Tensor:
    return part.movedim(-1, 0)[..., :, None]


def _column(part: Tensor) -> Tensor:
    return part.movedim(-1, 0)[..., None, :]


def _rows(parts: Parts) -> Gaussians:
    return Gaussians(_row(parts[1]), _row(parts[2]))


def _columns(parts: Parts) -> Gaussians:
    return Gaussians(_column(parts[1]), _column(parts[2]))


def _blocks(first: Tensor, second: Tensor | None) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of blocks of pairs; of a side with itself, those on and above the diagonal."""
    other = first if second is None else second
    high = max(1, int((BLOCK / (first.shape[1] * other.shape[1])) ** 0.5))
    for row in range(0, len(first), high):
        for column in range(row if second is None else 0, len(other), high):
            yield slice(row, row + high), slice(column, column + high)


def _flat(parts: Parts, rows: slice) -> Parts:
    """The components of some samples, as one list."""
    return tuple(part[rows].flatten(0, 1) for part in parts)


def _log_sum(terms: Tensor) -> Tensor:
    """Log of the sum of exponentials over the components of both samples; the terms are spoilt."""
    highest = terms.amax(dim=(1, 3), keepdim=True)
    return terms.sub_(highest).exp_().sum(dim=(1, 3)).log_().add_(highest[:, 0, :, 0])


class _AllPairs(torch.autograd.Function):
    """log Σ exp of the exponents of all pairs of components, for all pairs of samples."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        *parts, ctx.together = given
        first, second = tuple(parts[:3]), tuple(parts[3:])
        alone = second[0] is None
        other = first if alone else second
        found = first[0].new_empty(len(first[0]), len(other[0]))
        with without_autocast(found):
            for rows, columns in _blocks(first[0], None if alone else second[0]):
                part = found[rows, columns]
                terms, _ = _exponents(_flat(first, rows), _flat(other, columns), ctx.together)
                part.copy_(_log_sum(terms.view(part.shape[0], -1, part.shape[1], other[0].shape[1])))
                if alone and rows != columns:
                    found[columns, rows] = part.T
        ctx.save_for_backward(*parts, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *parts, found = ctx.saved_tensors
        first, second, (flow,) = tuple(parts[:3]), tuple(parts[3:]), gradients
        alone = second[0] is None
        other = first if alone else second
        into = tuple(torch.zeros_like(part) for part in first)
        onto = into if alone else tuple(torch.zeros_like(part) for part in second)
        with without_autocast(found):
            for rows, columns in _blocks(first[0], None if alone else second[0]):
                part, part_flow = found[rows, columns], flow[rows, columns]
                if alone and rows != columns:
                    part_flow = part_flow + flow[columns, rows].T
                a, b = _flat(first, rows), _flat(other, columns)
                terms, known = _exponents(a, b, ctx.together)
                shaped = terms.view(part.shape[0], -1, part.shape[1], other[0].shape[1])
                shaped.sub_(part[:, None, :, None]).exp_().mul_(part_flow[:, None, :, None])
                _add_gradients(a, b, terms, known, (_flat(into, rows), _flat(onto, columns)))
        return (*into, *([None] * 3 if alone else onto), None)


class _EachWithItself(torch.autograd.Function):
    """log Σ exp of the exponents of all pairs of a sample's own components."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        *parts, ctx.together = given
        found = parts[0].new_empty(len(parts[0]))
        with without_autocast(found):
            for rows in _strips(parts[0]):
                own = tuple(part[rows] for part in parts)
                terms, _ = _exponents(own, own, ctx.together)
                found[rows] = terms.flatten(1).logsumexp(dim=1)
        ctx.save_for_backward(*parts, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *parts, found = ctx.saved_tensors
        (flow,) = gradients
        into = tuple(torch.zeros_like(part) for part in parts)
        with without_autocast(found):
            for rows in _strips(parts[0]):
                own = tuple(part[rows] for part in parts)
                terms, known = _exponents(own, own, ctx.together)
                terms.sub_(found[rows, None, None]).exp_().mul_(flow[rows, None, None])
                sides = tuple(part[rows] for part in into)
                _add_gradients(own, own, terms, known, (sides, sides))
        return (*into, None)


def _strips(first: Tensor) -> Iterator[slice]:
    high = max(1, BLOCK // first.shape[1] ** 2)
    return (slice(row, row + high) for row in range(0, len(first), high))
