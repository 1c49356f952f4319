"""KMCL's pieces: a mixture of kernels per sample, its reconstruction loss, and its contrast of class with class.

A sample has a weight, a mean and a variance for each class. The reconstruction loss asks which kernels explain the
sample's own features; the contrast pulls the kernels of a class together over all samples that have its label, by their
Bhattacharyya coefficient. All logarithms are taken before anything can underflow.
Sajedi, Khaki, Plataniotis and Hosseini, End-to-End Supervised Multilabel Contrastive Learning, arXiv:2307.03967.

`released=True` computes what the authors' code does, where that differs:
- Kernels are clamped at 1.2e-38 and their ratio at 1e-7. A sample without labels costs −log 1e-7 = 16.1. Here there is
  no clamp, and samples without labels are left out, of both losses' denominators too.
- With a variance for each feature, the exponent of the coefficient is M times too large, M being the number of
  features.
- The contrast takes log(J · ratio + 1e-7) with the Jaccard weight J inside, where it is a constant without effect on
  the gradient. `jaccard="inside_log"` does that without the 1e-7; by default J weighs the logarithm.
"""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from attar.core.errors import InputError
from attar.core.precision import at_least_float32, without_autocast
from attar.embeddings.checks import LEAST_TEMPERATURE, checked_number
from attar.embeddings.multilabel.gaussians import Gaussians, gap, gap_gradients, negative_log_share, scale_of
from attar.embeddings.positives import checked_rows

Logits = Float[Tensor, "sample classes"]
PerClass = Float[Tensor, "sample classes"] | Float[Tensor, "sample classes feature"]
"""A number for each class, the same for all features (isotropic), or one for each feature (diagonal)."""
Labels = Shaped[Tensor, "sample classes"]
Jaccard = Literal["outside", "inside_log"] | None
"""Whether the Jaccard index weighs the logarithm, stands inside of it, or is left out."""
SMALLEST = 1.17549e-38
"""Clamp of a kernel in the authors' code."""
BIT = 1e-7
"""Clamp of a ratio of kernels, and what is added to a ratio of coefficients, in the authors' code."""
ANCHORS = 2**16
"""Coefficients of one block of pairs."""


# ----------------------------------------------------------------------------------------------------- reconstruction


def log_kernels(
    features: Float[Tensor, "sample feature"], means: PerClass, variances: PerClass
) -> Float[Tensor, "sample classes"]:
    """Log e of each class's kernel at the sample's own features, e = exp(−½ Σ_m (x_m − μ_m)² / v_m)."""
    features, means, variances = at_least_float32(features), at_least_float32(means), at_least_float32(variances)
    if means.ndim == 3 or variances.ndim == 3:
        wide = means if means.ndim == 3 else means[:, :, None]
        spread = variances if variances.ndim == 3 else variances[:, :, None]
        return -((features[:, None] - wide).square() / spread).sum(dim=2) / 2
    # Σ (x − μ)² = Σ (x − x̄)² + M (x̄ − μ)²: nothing cancels
    centre = features.mean(dim=1, keepdim=True)
    squares = (features - centre).square().sum(dim=1, keepdim=True) + features.shape[1] * (centre - means).square()
    return -squares / variances / 2


def reconstruction_loss(
    features: Float[Tensor, "sample feature"],
    logits: Logits,
    means: PerClass,
    variances: PerClass,
    labels: Labels,
    *,
    released: bool = False,
) -> Float[Tensor, ""]:
    """−log [Σ_k y_k π_k e_k / Σ_k π_k e_k], averaged over samples that have labels; π = σ(s).

    Args:
        features: x, of the encoder.
        logits: s.
        means: μ of each class's kernel.
        variances: v of each class's kernel.
        labels: y, which labels are present.
        released: Clamp kernels and their ratio, and count samples without labels, as the authors' code does.
    """
    logits, there = at_least_float32(logits), labels.bool()
    log_kernel, log_share = log_kernels(features, means, variances), F.logsigmoid(logits)
    if released:
        joint = logits.sigmoid() * log_kernel.exp().clamp(min=SMALLEST)
        return -((joint * there).sum(dim=1) / joint.sum(dim=1)).clamp(min=BIT).log().mean()
    joint = log_share + log_kernel
    return negative_log_share(joint, there)


# ----------------------------------------------------------------------------------------------------------- contrast


def bhattacharyya(
    means: PerClass, variances: PerClass, features: int | None = None
) -> Float[Tensor, "anchor other classes"]:
    """Bhattacharyya coefficients of all pairs of samples, class by class.

    It is Π_m √(2 √(v w) / (v + w)) exp(−(μ − ν)² / 4(v + w)), from 0 to 1.

    Args:
        means: μ: a number for each class, or one for each of its features.
        variances: v, alike.
        features: M, the number of features for which a single number stands (isotropic).
    """
    return log_bhattacharyya(means, variances, features).exp()


def log_bhattacharyya(
    means: PerClass, variances: PerClass, features: int | None = None
) -> Float[Tensor, "anchor other classes"]:
    """Logarithms of `bhattacharyya`."""
    means, variances = at_least_float32(means), at_least_float32(variances)
    if means.ndim == 2:
        return _log_isotropic(means[:, None], variances[:, None], means, variances, features)
    means, variances, together = _scaled(means, variances)
    own = (2 * variances).log().sum(dim=2) / 2
    return (own[:, None] + own - _Gaps.apply(means, variances, together)) / 2


def _log_isotropic(mean: Tensor, var: Tensor, other: Tensor, other_var: Tensor, features: int | None) -> Tensor:
    uneven = (var - other_var).square() / (4 * var * other_var)
    apart = (mean - other).square() / (var + other_var)
    return -(features or 1) / 4 * (uneven.log1p() + apart)


def _scaled(means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor, int]:
    """Features of one place and size."""
    centre, size, together = scale_of(means, variances)
    return (means - centre) / size.sqrt(), variances / size, together


def kernel_contrast(
    coefficients: Float[Tensor, "anchor other classes"],
    labels: Labels,
    temperature: float = 0.17,
    *,
    jaccard: Jaccard = "outside",
    released: bool = False,
) -> Float[Tensor, ""]:
    """KMCL: −(1/B) Σ_n (1/|A(n)|) Σ_{i∈A(n)} J_ni Σ_{k∈K(n,i)} log [exp(c^k_ni / τ) / Σ_{r≠n} exp(c^k_nr / τ)].

    A(n) are the samples that share a label with n, K(n, i) the labels that they share, J_ni shared labels over labels
    of either. B counts the samples that have labels.

    Args:
        coefficients: c, in (0, 1].
        labels: Which labels are present.
        temperature: τ.
        jaccard: Where J stands.
        released: Add 1e-7 inside the logarithm, and divide by all samples, as the authors' code does.
    """
    rows = Slots.of(labels)
    return rows.contrast(at_least_float32(coefficients)[rows.anchor, :, rows.slot], temperature, jaccard, released)


class Slots(NamedTuple):
    """Pairs of a sample and a label that it has: nothing else of an anchor counts."""

    present: Float[Tensor, "sample classes"]
    anchor: Int[Tensor, " pair"]
    slot: Int[Tensor, " pair"]

    @classmethod
    def of(cls, labels: Labels) -> "Slots":
        """The pairs of a batch."""
        return cls(labels.float(), *labels.nonzero(as_tuple=True))

    def contrast(
        self, coefficients: Float[Tensor, "pair sample"], temperature: float, jaccard: Jaccard, released: bool
    ) -> Float[Tensor, ""]:
        """`kernel_contrast` of the coefficients of each pair's class with all samples."""
        with without_autocast(coefficients):
            logits, present = coefficients / temperature, self.present.to(coefficients.dtype)
            shared, counts = present @ present.T, present.sum(dim=1)
            itself = torch.eye(len(present), dtype=torch.bool, device=present.device)
            near = (shared > 0) & ~itself
            index = torch.where(near, shared / (counts[:, None] + counts - shared).clamp(min=1), 1.0)
            share = near.to(logits.dtype) / near.sum(dim=1, keepdim=True).clamp(min=1)
            index, share = index[self.anchor], share[self.anchor] * present.T[self.slot]
            lowest = torch.finfo(logits.dtype).min
            log_sum = logits.masked_fill(itself[self.anchor], lowest).logsumexp(dim=1, keepdim=True)
            count = len(present) if released else (counts > 0).sum().clamp(min=1)
            log_share = logits - log_sum
            if jaccard == "inside_log":
                log_share = log_share + index.log()
            if released:
                inside = log_share if jaccard == "inside_log" else log_share + index.log()
                return -(share * (inside.exp() + BIT).log()).sum() / count
            return -(share * (index if jaccard == "outside" else 1) * log_share).sum() / count


def kmcl_loss(
    means: PerClass,
    variances: PerClass,
    labels: Labels,
    temperature: float = 0.17,
    *,
    features: int | None = None,
    jaccard: Jaccard = "outside",
    released: bool = False,
) -> Float[Tensor, ""]:
    """`kernel_contrast` of Bhattacharyya coefficients.

    Args:
        means: As for `bhattacharyya`.
        variances: As for `bhattacharyya`.
        labels: Which labels are present.
        temperature: τ.
        features: M, for a number for each class.
        jaccard: As for `kernel_contrast`.
        released: What the authors' code computes.

    Raises:
        InputError: Shapes differ, or labels are other than 0 and 1.
    """
    if means.shape != variances.shape:
        raise InputError(f"means have shape {tuple(means.shape)}, but variances {tuple(variances.shape)}.")
    checked_number("temperature", temperature, least=LEAST_TEMPERATURE)
    rows = Slots.of(checked_rows(labels, means.shape[:2]))
    if means.ndim == 3:
        shared = labels.bool().sum(dim=0) > 1  # a class of one sample has no pair, and no weight
        if not shared.any():
            return (at_least_float32(means) * 0).sum() + (at_least_float32(variances) * 0).sum()
        kept, place = shared[rows.slot], shared.cumsum(dim=0) - 1
        rows = rows._replace(anchor=rows.anchor[kept], slot=rows.slot[kept])
        found = log_bhattacharyya(means[:, shared], variances[:, shared])
        log = found[rows.anchor, :, place[rows.slot]]
    else:
        log = _log_rows(at_least_float32(means), at_least_float32(variances), rows, features)
    if released and means.ndim == 3:
        log = log * means.shape[2]
    return rows.contrast(log.exp(), temperature, jaccard, released)


def _log_rows(means: Logits, variances: Logits, rows: Slots, features: int | None) -> Float[Tensor, "pair sample"]:
    """`log_bhattacharyya` of each pair's class with all samples."""
    mine, theirs = ((part[rows.anchor, rows.slot, None], part.T[rows.slot]) for part in (means, variances))
    return _log_isotropic(mine[0], theirs[0], mine[1], theirs[1], features)


class _Gaps(torch.autograd.Function):
    """Σ_m ½ (μ − ν)² / (v + w) + log(v + w) of all pairs of samples, class by class, a block of pairs at a time."""

    @staticmethod
    def forward(ctx: Any, means: Tensor, variances: Tensor, together: int) -> Tensor:
        ctx.save_for_backward(means, variances)
        sides = _by_feature(means, variances)
        found = means.new_empty(len(means), *means.shape[:2])
        for rows, others in _blocks(means):
            part = gap(_anchors(sides, rows), _others(sides, others), 0.5, together)
            found[rows, others] = part
            found[others, rows] = part.transpose(0, 1)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (flow,), (means, variances) = gradients, ctx.saved_tensors
        sides = _by_feature(means, variances)
        into = Gaussians(*map(torch.zeros_like, sides))
        for rows, others in _blocks(means):
            part = flow[rows, others].clone(memory_format=torch.contiguous_format)
            part[:, len(range(*rows.indices(len(means)))) :] += flow[rows.stop :, rows].transpose(0, 1)
            both = _anchors(into, rows), _others(into, others)
            gap_gradients(_anchors(sides, rows), _others(sides, others), 0.5, part, both)
        return (*(part.movedim(0, 2) for part in into), None)


def _by_feature(means: Tensor, variances: Tensor) -> Gaussians:
    return Gaussians(*(part.movedim(2, 0).contiguous() for part in (means, variances)))


def _anchors(sides: Gaussians, rows: slice) -> Gaussians:
    return Gaussians(*(part[:, rows, None] for part in sides))


def _others(sides: Gaussians, rows: slice) -> Gaussians:
    return Gaussians(*(part[:, None, rows] for part in sides))


def _blocks(means: Tensor) -> Any:
    """Anchors of a block, and with whom: those after them and themselves."""
    samples, classes = means.shape[:2]
    high = max(1, ANCHORS // (samples * classes))
    return ((slice(row, row + high), slice(row, None)) for row in range(0, samples, high))
