"""Losses of two views of each sample: NT-Xent, DCL, InfoNCE and Barlow Twins."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.core.precision import at_least_float32, without_autocast
from attar.embeddings.checks import LEAST_TEMPERATURE, check_embeddings, checked_number
from attar.embeddings.contrast import Loss, Reduction, Temperature, contrast_embeddings

Embeddings = Float[Tensor, "sample d"]
Scalar = Float[Tensor, ""]


def nt_xent(first: Embeddings, second: Embeddings, temperature: Temperature = 0.5, chunk: int | None = None) -> Scalar:
    """Cross-entropy between a sample's other view and all other views of the batch, averaged over both views.

    Chen, Kornblith, Norouzi and Hinton, A Simple Framework for Contrastive Learning of Visual Representations,
    ICML 2020, arXiv:2002.05709.

    Args:
        first: One view of each sample; it need not be normalised.
        second: The other view.
        temperature: τ of the similarities.
        chunk: Views of a chunk, as in `contrast_embeddings`.
    """
    _check_views(first, second)
    count = len(first)
    return contrast_embeddings(_joined(first, second), lambda rows: _other_view(rows, count), temperature, chunk)


def dcl(
    first: Embeddings,
    second: Embeddings,
    temperature: float | Scalar = 0.1,
    sigma: float | None = None,
    chunk: int | None = None,
) -> Scalar:
    """NT-Xent whose denominator leaves out the positive, so that an easy positive does not shrink the gradient.

    Yeh, Hong, Hsu, Liu, Chen and LeCun, Decoupled Contrastive Learning, ECCV 2022, arXiv:2110.06848.

    Args:
        first: One view of each sample.
        second: The other view.
        temperature: τ of the similarities.
        sigma: Width σ of the von Mises-Fisher weights 2 - B softmax(s / σ) of the positives (DCLW); none by default.
        chunk: Views of a chunk.
    """
    _check_views(first, second)
    if sigma is not None:
        checked_number("sigma", sigma, least=LEAST_TEMPERATURE)
    count = len(first)
    both = _joined(first, second)

    def candidates(rows: Tensor) -> Tensor:
        return ~(_other_view(rows, count) | (rows[:, None] == torch.arange(2 * count, device=rows.device)))

    loss = contrast_embeddings(both, lambda rows: _other_view(rows, count), temperature, chunk, candidates=candidates)
    if sigma is None:
        return loss
    with without_autocast(first):
        positive = (F.normalize(at_least_float32(first)) * F.normalize(at_least_float32(second))).sum(dim=1)
        weights = 2 - count * (positive.detach() / sigma).softmax(dim=0)
        return loss + ((1 - weights) * positive).sum() / max(count, 1) / temperature


def info_nce(
    query: Embeddings,
    key: Embeddings,
    temperature: Temperature = 0.1,
    queue: Float[Tensor, "stored d"] | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Cross-entropy between each query's key and others: the keys of a queue, or else those of the batch.

    Van den Oord, Li and Vinyals, Representation Learning with Contrastive Predictive Coding, arXiv:1807.03748. With a
    queue: He, Fan, Wu, Xie and Girshick, Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020,
    arXiv:1911.05722.

    Args:
        query: A view of each sample.
        key: Its other view, often from a slower encoder. Whoever wants no gradient through it detaches it.
        temperature: τ of the similarities.
        queue: Keys of earlier samples, of length one. The other keys of the batch are no candidates then.
        reduction: As in `contrast`.
    """
    _check_views(query, key)
    if queue is not None:
        check_embeddings(queue, "keys of the queue", query.shape[1])
    count = len(query)
    with without_autocast(query):
        query, key = F.normalize(at_least_float32(query)), F.normalize(at_least_float32(key))
        others = key if queue is None else torch.cat([key, queue.to(key.dtype)])

    def own(rows: Tensor) -> Tensor:
        return rows[:, None] == torch.arange(len(others), device=rows.device)

    def candidates(rows: Tensor) -> Tensor:
        return own(rows) | (torch.arange(len(others), device=rows.device) >= count)

    allowed = None if queue is None else candidates
    how: dict[str, Any] = {"candidates": allowed, "reduction": reduction, "normalise": False}
    return contrast_embeddings(query, own, temperature, other=others, **how)


def barlow_twins(first: Embeddings, second: Embeddings, weight: float = 5e-3) -> Scalar:
    """Σ_l (1 - C_ll)² + λ Σ_{l≠m} C_lm², with C the correlations between features of two views.

    Standard deviations are those of the batch (biased), without a small constant: views that are equal and
    uncorrelated give exactly zero. A feature that does not vary correlates with nothing.
    Zbontar, Jing, Misra, LeCun and Deny, Barlow Twins, ICML 2021, arXiv:2103.03230.

    Args:
        first: One view of each sample.
        second: The other view.
        weight: λ of what is off the diagonal.

    Raises:
        InputError: The views differ in their shapes, or there is no sample.
    """
    _check_views(first, second)
    checked_number("weight", weight)
    if not len(first):
        raise InputError("the views are empty; correlations need two samples or more.")
    with without_autocast(first):
        found = correlations(first, second)
        diagonal = found.diagonal()
        return (1 - diagonal).square().sum() + weight * (found.square().sum() - diagonal.square().sum())


def correlations(
    first: Float[Tensor, "*head sample d"], second: Float[Tensor, "*head sample d"]
) -> Float[Tensor, "*head d d"]:
    """C_lm, the correlation of feature l of one view with feature m of the other, over the batch; of each head."""
    with without_autocast(first):
        return standardised(first).mT @ standardised(second) / first.shape[-2]


def standardised(z: Float[Tensor, "*head sample d"]) -> Float[Tensor, "*head sample d"]:
    """Each feature with mean zero and, if it varies at all, a (biased) standard deviation of one."""
    values = at_least_float32(z)
    centred = values - values.mean(dim=-2, keepdim=True)
    variance = centred.square().mean(dim=-2, keepdim=True)
    # What is left of a constant is rounding, of about the size of the constant times the precision.
    flat = variance <= (16 * torch.finfo(values.dtype).eps) ** 2 * values.square().mean(dim=-2, keepdim=True)
    return torch.where(flat, 0, centred) / torch.where(flat, 1, variance).sqrt()


def _joined(first: Embeddings, second: Embeddings) -> Tensor:
    with without_autocast(first):
        return torch.cat([at_least_float32(first), at_least_float32(second)])


def _other_view(rows: Tensor, count: int) -> Tensor:
    """Which of two times so many views is the other one of each row."""
    found = torch.zeros(len(rows), 2 * count, dtype=torch.bool, device=rows.device)
    return found.scatter_(1, ((rows + count) % (2 * count))[:, None], True)


def _check_views(first: Tensor, second: Tensor) -> None:
    check_embeddings(first, "the first views")
    check_embeddings(second, "the second views")
    if first.shape != second.shape:
        raise InputError(f"the views have shapes {tuple(first.shape)} and {tuple(second.shape)}; give equal ones.")
