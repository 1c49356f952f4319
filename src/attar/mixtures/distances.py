"""Distances between Gaussian mixtures in closed form, with gradients: the angle between two densities, and others.

A density is a vector of the Hilbert space L2. Every distance here depends on inner products only, and those are sums of
Gaussians. The angle is a true metric, so methods that need a metric may use it: nearest neighbours, clustering, bounds.
Sajedi, Lawryshyn and Plataniotis, A New Probabilistic Distance Metric With Application in Gaussian Mixture Reduction,
ICASSP 2023, arXiv:2306.07309. We could not check which formula the paper calls the metric. The angle is our choice, and
the most closely related distances are here too.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError, unknown
from attar.mixtures.mixture import GaussianMixture

METRICS = ("angle", "chord", "l2", "sqrt_nise")
"""Kinds of distance that satisfy every axiom of a metric."""
DIVERGENCES = ("nise", "ise", "cauchy_schwarz", "tanimoto")
"""Kinds of distance that break the triangle inequality; they serve to compare with published numbers."""
KINDS = METRICS + DIVERGENCES
"""All kinds of distance, by name."""

AT_ONCE = 2**24
"""Largest number of entries of the matrices S_i + T_j held at a time: 128 MB in float64, without gradients."""
UNITS = {"angle": "rad"}
"""Units of the distances by kind; kinds that are not listed have no unit."""


def distance(
    f: GaussianMixture, g: GaussianMixture, kind: str = "angle", *, normalised: bool = False, metric: bool = False
) -> Float[Tensor, "*batch"]:
    """The distance between two mixtures. Batches broadcast.

    With a = <f,f>, b = <f,g>, c = <g,g>, ρ = b / √(ac) and ISE = a - 2b + c:

    ==============  =========================  ========
    kind            formula                    a metric
    ==============  =========================  ========
    angle           arccos ρ                   yes
    chord           √(2 - 2ρ)                  yes
    l2              √ISE                       yes
    sqrt_nise       √(ISE / (a + c))           yes
    nise            ISE / (a + c)              no
    ise             ISE                        no
    cauchy_schwarz  -log ρ                     no
    tanimoto        ISE / (a + c - b)          no
    ==============  =========================  ========

    ise and l2 have the unit of a density. The others have no unit and do not change under an invertible affine map of
    the space. Near zero, rounding limits the angle to about 1e-8 in float64. The square roots and the angle have no
    gradient at distance zero; it is set to zero there. Far apart, all kinds but cauchy_schwarz are flat: the part of
    their gradient that brings mixtures together is proportional to ρ, and zero where ρ underflows. Minimise
    cauchy_schwarz instead, which has the same minimum as the angle.

    Args:
        f: A mixture.
        g: A mixture in the same space.
        kind: One of the kinds above.
        normalised: Whether to divide the angle by π/2, so that it lies between 0 and 1.
        metric: Whether to refuse kinds that are not a metric.

    Raises:
        InputError: The kind is unknown or is not a metric although one is needed, or the mixtures are in different
            spaces.
    """
    check_kind(kind, metric=metric)
    if normalised and kind != "angle":
        raise InputError(f"only the angle is normalised by a right angle; {kind} is not an angle.")
    of_kind = measured(log_inner(f, f), log_inner(f, g), log_inner(g, g), kind)
    return of_kind / (math.pi / 2) if normalised else of_kind


def pairwise(
    mixtures: Sequence[GaussianMixture], kind: str = "angle", *, metric: bool = True
) -> Float[Tensor, "mixture mixture"]:
    """The matrix of distances between single mixtures, for algorithms that need a metric.

    Args:
        mixtures: Mixtures in one space. They may have different numbers of components.
        kind: Kind of distance, as in `distance`.
        metric: Whether to refuse kinds that are not a metric.

    Raises:
        InputError: The kind is not a metric, or the mixtures do not fit together.
    """
    check_kind(kind, metric=metric)
    logs = [[log_inner(f, g) for g in mixtures[: place + 1]] for place, f in enumerate(mixtures)]
    rows = [
        torch.stack([measured(logs[i][i], logs[max(i, j)][min(i, j)], logs[j][j], kind) for j in range(len(logs))])
        for i in range(len(logs))
    ]
    return torch.stack(rows)


def check_kind(kind: str, *, metric: bool = False) -> None:
    """Refuse an unknown kind of distance, and a kind that is not a metric if a metric is needed.

    Raises:
        InputError: The kind is unknown, or is not a metric.
    """
    if kind not in KINDS:
        raise unknown("distance", kind, KINDS)
    if metric and kind not in METRICS:
        raise InputError(f"{kind} breaks the triangle inequality; a metric is needed here. Use {', '.join(METRICS)}.")


def inner(f: GaussianMixture, g: GaussianMixture) -> Float[Tensor, "*batch"]:
    """<f,g> = ∫ f g dx = Σ_ij w_i v_j N(μ_i; m_j, S_i + T_j). Batches broadcast.

    Args:
        f: A mixture, or a batch of mixtures.
        g: Another one of the same dimension.
    """
    return log_inner(f, g).exp()


def log_inner(f: GaussianMixture, g: GaussianMixture) -> Float[Tensor, "*batch"]:
    """The log of <f,g>. It stays finite if <f,g> underflows or overflows, and is differentiable at zero weights too.

    Args:
        f: A mixture, or a batch of mixtures.
        g: Another one of the same dimension.

    Raises:
        InputError: The mixtures have different dimensions.
    """
    _check_spaces(f, g)
    per_row = max(g.n_components * f.dimension**2 * math.prod(torch.broadcast_shapes(f.batch_shape, g.batch_shape)), 1)
    rows = max(AT_ONCE // per_row, 1)
    starts = range(0, f.n_components, rows)
    parts = [_log_sum(_components(f, slice(at, at + rows)), g) for at in starts]
    return parts[0] if len(parts) == 1 else torch.logsumexp(torch.stack(parts), dim=0)


def log_overlap(f: GaussianMixture, g: GaussianMixture) -> Float[Tensor, "*batch first second"]:
    """The table of log N(μ_i; m_j, S_i + T_j): the logs of the components' inner products without weights."""
    _check_spaces(f, g)
    away = f.means.unsqueeze(-2) - g.means.unsqueeze(-3)
    constant = f.dimension * math.log(2 * math.pi)
    diagonal = ("diag", "spherical")
    if f.covariance_type in diagonal and g.covariance_type in diagonal:
        variance = _variances(f).unsqueeze(-2) + _variances(g).unsqueeze(-3)
        return -0.5 * (away.square() / variance + variance.log()).sum(-1) - 0.5 * constant
    factor = torch.linalg.cholesky(_matrices(f).unsqueeze(-3) + _matrices(g).unsqueeze(-4))
    if f.covariance_type == g.covariance_type == "tied":  # one factor for all pairs
        shape = away.shape
        columns = away.flatten(-3, -2).mT
        white = torch.linalg.solve_triangular(factor.flatten(-4, -3).squeeze(-3), columns, upper=False)
        square = white.square().sum(-2).unflatten(-1, shape[-3:-1])
    else:
        square = torch.linalg.solve_triangular(factor, away.unsqueeze(-1), upper=False).squeeze(-1).square().sum(-1)
    log_root = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -0.5 * (square + constant) - log_root


def measured(
    log_a: Float[Tensor, "*one"], log_b: Float[Tensor, "*both"], log_c: Float[Tensor, "*two"], kind: str
) -> Float[Tensor, "*both"]:
    """A distance as in `distance`, computed from the logs of <f,f>, <f,g> and <g,g>.

    ISE = (√a - √c)² + 2 √(ac) (1 - ρ). Both terms are positive, so digits cancel only in 1 - ρ = -expm1(log ρ).
    """
    gap = _one_minus_exp(log_b - (log_a + log_c) / 2).clamp_min(0)
    if kind == "angle":
        return 2 * _root(gap / 2).clamp_max(1).asin()
    if kind == "chord":
        return _root(2 * gap)
    if kind == "cauchy_schwarz":
        return ((log_a + log_c) / 2 - log_b).clamp_min(0)
    scale = torch.maximum(log_a, log_c).detach()
    root_a, root_c = ((log_a - scale) / 2).exp(), ((log_c - scale) / 2).exp()
    ise = (root_a - root_c).square() + 2 * root_a * root_c * gap
    energy = root_a.square() + root_c.square()
    if kind == "ise":
        return scale.exp() * ise
    if kind == "l2":
        return (scale / 2).exp() * _root(ise)
    if kind == "nise":
        return ise / energy
    if kind == "sqrt_nise":
        return _root(ise / energy)
    return ise / (energy - (log_b - scale).exp())


def _log_sum(f: GaussianMixture, g: GaussianMixture) -> Tensor:
    """Log of a sum over pairs. It is linear in the weights, because their logs would have no gradient at zero."""
    logs = log_overlap(f, g)
    both = f.weights.unsqueeze(-1) * g.weights.unsqueeze(-2)
    heavy = torch.where(both > 0, logs, -torch.inf).detach().amax((-2, -1))
    heavy = torch.where(heavy.isfinite(), heavy, torch.zeros_like(heavy))  # all weights here are zero
    linear = (logs - heavy[..., None, None]).clamp_max(80).exp()  # only pairs of no weight reach 80
    return heavy + (both * linear).sum((-2, -1)).log()


def _one_minus_exp(values: Tensor) -> Tensor:
    """1 - eˣ, with all digits of the value near zero, and all digits of the gradient -eˣ far below it."""
    far = values < -1
    near = -torch.where(far, -1.0, values).expm1()
    return torch.where(far, 1 - torch.where(far, values, -1.0).exp(), near)


def _root(values: Tensor) -> Tensor:
    """√x with a gradient of zero at zero."""
    positive = values > 0
    return torch.where(positive, torch.where(positive, values, 1.0).sqrt(), 0.0)


def _components(f: GaussianMixture, rows: slice) -> GaussianMixture:
    own = f.covariances
    if f.covariance_type == "full":
        own = own[..., rows, :, :]
    elif f.covariance_type == "diag":
        own = own[..., rows, :]
    elif f.covariance_type == "spherical":
        own = own[..., rows]
    weights, means, kind = f.weights[..., rows], f.means[..., rows, :], f.covariance_type
    return GaussianMixture(weights, means, own, kind, dtype=means.dtype, check=False)


def _variances(f: GaussianMixture) -> Tensor:
    return f.covariances if f.covariance_type == "diag" else f.covariances.unsqueeze(-1)


def _matrices(f: GaussianMixture) -> Tensor:
    """The covariances as `[*batch, n or 1, d, d]`."""
    return f.covariances.unsqueeze(-3) if f.covariance_type == "tied" else f.full().covariances


def _check_spaces(f: GaussianMixture, g: GaussianMixture) -> None:
    if f.dimension != g.dimension:
        raise InputError(f"the mixtures have {f.dimension} and {g.dimension} dimensions; they must have equally many.")
