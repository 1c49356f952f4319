"""Losses of embeddings, for any training loop: functions of tensors, and modules with the ecosystem's signatures.

Modules that take labels are called as in pytorch-metric-learning, `loss(embeddings, labels, indices_tuple=None,
ref_emb=None, ref_labels=None)`, those of two views as `loss(first, second)`. Labels are classes, or rows of 0 and 1 for
samples with several. With `gather` a loss sees the batches of all processes. Everything is computed in single precision
or better, also under autocast.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.precision import at_least_float32, without_autocast
from attar.embeddings.contrast import (
    LEAST_TEMPERATURE,
    Loss,
    Reduction,
    Temperature,
    check_embeddings,
    checked_number,
    contrast_embeddings,
)
from attar.embeddings.gathering import gathered
from attar.embeddings.positives import Labels, Numbers, OtherNumbers, Score, checked_labels, weights_by_rows
from attar.embeddings.separation import Mining, check_pairs, prototypical, triplet

Embeddings = Float[Tensor, "sample d"]
Scalar = Float[Tensor, ""]
Pairs = Sequence[Tensor]
"""Numbers of anchors and positives, anchors and negatives, (a, p, a, n); or of triplets, (a, p, n)."""


# ------------------------------------------------------------------------------------------------ functions: two views


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
    how = {"candidates": allowed, "reduction": reduction, "normalise": False}
    return contrast_embeddings(query, own, temperature, other=others, **how)  # type: ignore[arg-type]


def barlow_twins(first: Embeddings, second: Embeddings, weight: float = 5e-3) -> Scalar:
    """Σ_l (1 - C_ll)² + λ Σ_{l≠m} C_lm², with C the correlations between features of two views.

    Standard deviations are those of the batch (biased), without a small constant: views that are equal and
    uncorrelated give exactly zero. A feature that does not vary correlates with nothing.
    Zbontar, Jing, Misra, LeCun and Deny, Barlow Twins, ICML 2021, arXiv:2103.03230.

    Args:
        first: One view of each sample.
        second: The other view.
        weight: λ of what is off the diagonal.
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


# --------------------------------------------------------------------------------------------------- functions: labels


def sup_con(
    embeddings: Embeddings,
    labels: Labels | None,
    temperature: Temperature = 0.1,
    *,
    positives: Score = "equal",
    threshold: float | None = None,
    weighted: bool = False,
    inside: bool = False,
    samples: Numbers | None = None,
    indices_tuple: Pairs | None = None,
    ref_emb: Float[Tensor, "candidate d"] | None = None,
    ref_labels: Labels | None = None,
    ref_samples: OtherNumbers | None = None,
    chunk: int | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """-Σ_q w_iq log p_iq / Σ_q w_iq, averaged over the samples i that have positives q.

    With labels that are all different, and two views, this is NT-Xent. The released code of the authors divides by all
    samples and multiplies by τ / 0.07; here neither is done.
    Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu and Krishnan, Supervised Contrastive Learning,
    NeurIPS 2020, arXiv:2004.11362.

    Args:
        embeddings: All views of all samples; they need not be normalised.
        labels: The class of each row, or for each a row of 0 and 1. None, if `indices_tuple` says it all.
        temperature: τ of the similarities: a number, or a tensor of one value, one per anchor or one per pair.
        positives: Which labels make positives: equal ones, or those that overlap, by Jaccard's score or another.
        threshold: The least score of a positive. By default every overlap is enough.
        weighted: Whether the score is the weight of a positive.
        inside: Whether the mean over positives stands inside the logarithm (the authors' "in").
        samples: The number of the sample that each row is a view of. Views of one sample are always positives.
        indices_tuple: Pairs or triplets, as a miner gives them. Only these are looked at.
        ref_emb: Embeddings that anchors are compared with. By default the others of the batch.
        ref_labels: Their labels.
        ref_samples: The numbers of their samples.
        chunk: Anchors of a chunk.
        reduction: As in `contrast`.

    Raises:
        InputError: Labels are missing, too many or of a wrong form, or a setting is out of its range.
    """
    if (ref_emb is None) != (ref_labels is None) and indices_tuple is None:
        missing = "ref_labels" if ref_labels is None else "ref_emb"
        raise InputError(f"{missing} is missing: give ref_emb and ref_labels together.")
    check_embeddings(embeddings)
    if ref_emb is not None:
        check_embeddings(ref_emb, "ref_emb", embeddings.shape[1])
    columns = len(embeddings if ref_emb is None else ref_emb)
    if indices_tuple is not None:
        weights, candidates = _of_pairs(indices_tuple, len(embeddings), columns, embeddings.device)
        how = {"other": ref_emb, "candidates": candidates, "inside": inside, "reduction": reduction}
        return contrast_embeddings(embeddings, weights, temperature, chunk, **how)  # type: ignore[arg-type]
    if labels is None:
        raise InputError("labels are missing: give them, or indices_tuple.")
    mine = checked_labels(labels, len(embeddings))
    theirs = None if ref_labels is None else checked_labels(ref_labels, columns)
    by_rows = weights_by_rows(mine, positives, threshold, weighted, samples, others=theirs, others_same=ref_samples)
    return contrast_embeddings(
        embeddings, by_rows, temperature, chunk, other=ref_emb, inside=inside, reduction=reduction
    )


# ------------------------------------------------------------------------------------------------------------- modules


class _OfViews(nn.Module):
    """A loss of two views. With `gather` the views of all processes are joined first."""

    def __init__(self, temperature: float | Tensor, gather: bool) -> None:
        super().__init__()
        self.temperature, self.gather = _checked_temperature(temperature), gather

    def joined(self, first: Embeddings, second: Embeddings) -> tuple[Tensor, Tensor]:
        """Both views, of all processes if asked for."""
        return gathered(first, second) if self.gather else (first, second)


class NTXent(_OfViews):
    """`nt_xent` as a module: `NTXent(0.5)(first, second)`."""

    def __init__(self, temperature: float | Tensor = 0.5, gather: bool = False) -> None:
        super().__init__(temperature, gather)

    def forward(self, first: Embeddings, second: Embeddings) -> Scalar:
        """The loss of two views of each sample."""
        first, second = self.joined(first, second)
        return nt_xent(first, second, self.temperature)


class DCL(_OfViews):
    """`dcl` as a module, DCLW with a `sigma`: `DCL(0.1)(first, second)`."""

    def __init__(self, temperature: float = 0.1, sigma: float | None = None, gather: bool = False) -> None:
        super().__init__(temperature, gather)
        self.sigma = sigma

    def forward(self, first: Embeddings, second: Embeddings) -> Scalar:
        """The loss of two views of each sample."""
        first, second = self.joined(first, second)
        return dcl(first, second, self.temperature, self.sigma)


class InfoNCE(_OfViews):
    """`info_nce` as a module, with a queue of its own if it has a size: `InfoNCE(0.1, queue=4096, width=128)(q, k)`.

    A batch is compared with the queue and put into it afterwards, in training mode.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        queue: int = 0,
        width: int | None = None,
        gather: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(temperature, gather)
        if queue and width is None:
            raise InputError(f"queue is {queue}, but width is missing: give the size of an embedding.")
        self.queue = MomentumQueue(queue, width or 1, generator) if queue else None

    def forward(self, query: Embeddings, key: Embeddings) -> Scalar:
        """The loss of queries with their keys."""
        query, key = self.joined(query, key)
        if self.queue is None:
            return info_nce(query, key, self.temperature)
        loss = info_nce(query, key, self.temperature, self.queue.keys)
        if self.training:
            self.queue.add_(key)
        return loss


class BarlowTwins(nn.Module):
    """`barlow_twins` as a module: `BarlowTwins()(first, second)`."""

    def __init__(self, weight: float = 5e-3, gather: bool = False) -> None:
        super().__init__()
        self.weight, self.gather = weight, gather

    def forward(self, first: Embeddings, second: Embeddings) -> Scalar:
        """The loss of two views of each sample."""
        if self.gather:
            first, second = gathered(first, second)
        return barlow_twins(first, second, self.weight)


class SupCon(nn.Module):
    """`sup_con` as a module, with the signature of pytorch-metric-learning: `SupCon(0.1)(embeddings, labels)`.

    Labels may be rows of 0 and 1: `SupCon(0.1, positives="jaccard", threshold=0.5)`, or with `weighted=True`.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        positives: Score = "equal",
        threshold: float | None = None,
        weighted: bool = False,
        inside: bool = False,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.temperature, self.gather = _checked_temperature(temperature), gather
        self.positives, self.threshold, self.weighted, self.inside = positives, threshold, weighted, inside

    def forward(
        self,
        embeddings: Embeddings,
        labels: Labels | None = None,
        indices_tuple: Pairs | None = None,
        ref_emb: Float[Tensor, "candidate d"] | None = None,
        ref_labels: Labels | None = None,
        *,
        samples: Numbers | None = None,
        ref_samples: OtherNumbers | None = None,
    ) -> Scalar:
        """The loss of a batch.

        Raises:
            InputError: As `sup_con`; or pairs are given together with `gather`.
        """
        if self.gather and indices_tuple is not None:
            raise InputError("indices_tuple counts the rows of one process; with gather=True give labels instead.")
        if self.gather:
            embeddings, labels, samples = gathered(embeddings, labels, samples)
            ref_emb, ref_labels, ref_samples = gathered(ref_emb, ref_labels, ref_samples)
        return sup_con(
            embeddings,
            labels,
            self.temperature,
            positives=self.positives,
            threshold=self.threshold,
            weighted=self.weighted,
            inside=self.inside,
            samples=samples,
            indices_tuple=indices_tuple,
            ref_emb=ref_emb,
            ref_labels=ref_labels,
            ref_samples=ref_samples,
        )


class Triplet(nn.Module):
    """`triplet` as a module: `Triplet(0.05, mining="semi-hard")(embeddings, labels)`."""

    def __init__(
        self,
        margin: float = 0.05,
        mining: Mining = "all",
        squared: bool = False,
        normalise: bool = True,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.margin, self.mining, self.squared, self.normalise = margin, mining, squared, normalise
        self.gather = gather

    def forward(
        self,
        embeddings: Embeddings,
        labels: Int[Tensor, " sample"] | None = None,
        indices_tuple: Pairs | None = None,
        ref_emb: Float[Tensor, "candidate d"] | None = None,
        ref_labels: Int[Tensor, " candidate"] | None = None,
    ) -> Scalar:
        """The loss of a batch.

        Raises:
            InputError: As `triplet`; or triplets are given together with `gather`.
        """
        if self.gather and indices_tuple is not None:
            raise InputError("indices_tuple counts the rows of one process; with gather=True give labels instead.")
        if self.gather:
            embeddings, labels, ref_emb, ref_labels = gathered(embeddings, labels, ref_emb, ref_labels)
        how = {"squared": self.squared, "normalise": self.normalise, "mining": self.mining}
        others = {"indices_tuple": indices_tuple, "ref_emb": ref_emb, "ref_labels": ref_labels}
        return triplet(embeddings, labels, self.margin, **how, **others)  # type: ignore[arg-type]


class Prototypical(nn.Module):
    """`prototypical` as a module; the support samples are the references.

    `Prototypical(squared=False)(queries, labels, ref_emb=support, ref_labels=support_labels)`.
    """

    def __init__(self, squared: bool = True, temperature: float = 1.0) -> None:
        super().__init__()
        self.squared, self.temperature = squared, float(_checked_temperature(temperature))

    def forward(
        self,
        embeddings: Float[Tensor, "query d"],
        labels: Int[Tensor, " query"],
        indices_tuple: None = None,
        ref_emb: Float[Tensor, "support d"] | None = None,
        ref_labels: Int[Tensor, " support"] | None = None,
    ) -> Scalar:
        """The loss of an episode.

        Raises:
            InputError: As `prototypical`, or there are no references.
        """
        if ref_emb is None or ref_labels is None:
            raise InputError("prototypes need support samples: give them as ref_emb and ref_labels.")
        return prototypical(embeddings, labels, ref_emb, ref_labels, self.squared, self.temperature)


class MomentumQueue(nn.Module):
    """The latest keys, of length one, in a ring of buffers that a checkpoint holds. It starts with random directions.

    A batch that runs over the end goes on at the beginning. Of one that is longer than the queue, the last keys stay.
    Keys that are not finite leave the old ones in their places, so that their step can be skipped.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if size < 1 or width < 1:
            raise InputError(f"a queue of {size} keys of {width} numbers holds nothing; give at least 1 of both.")
        self.register_buffer("keys", F.normalize(torch.randn(size, width, generator=generator)))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def add_(self, keys: Embeddings) -> None:
        """Put keys in the place of the oldest ones."""
        size, count = len(self.keys), len(keys)
        numbers = torch.arange(max(0, count - size), count, device=keys.device)
        places = (self.pointer + numbers) % size
        latest = F.normalize(at_least_float32(keys.detach()))[numbers].to(self.keys.dtype)
        self.keys[places] = torch.where(latest.isfinite(), latest, self.keys[places])
        self.pointer.copy_((self.pointer + count) % size)


# ------------------------------------------------------------------------------------------------------------- details


def _joined(first: Embeddings, second: Embeddings) -> Tensor:
    with without_autocast(first):
        return torch.cat([at_least_float32(first), at_least_float32(second)])


def _other_view(rows: Tensor, count: int) -> Tensor:
    """Which of two times so many views is the other one of each row."""
    found = torch.zeros(len(rows), 2 * count, dtype=torch.bool, device=rows.device)
    return found.scatter_(1, ((rows + count) % (2 * count))[:, None], True)


def standardised(z: Float[Tensor, "*head sample d"]) -> Float[Tensor, "*head sample d"]:
    """Each feature with mean zero and, if it varies at all, a (biased) standard deviation of one."""
    values = at_least_float32(z)
    centred = values - values.mean(dim=-2, keepdim=True)
    variance = centred.square().mean(dim=-2, keepdim=True)
    # What is left of a constant is rounding, of about the size of the constant times the precision.
    flat = variance <= (16 * torch.finfo(values.dtype).eps) ** 2 * values.square().mean(dim=-2, keepdim=True)
    return torch.where(flat, 0, centred) / torch.where(flat, 1, variance).sqrt()


def _of_pairs(given: Pairs, anchors: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positives and candidates as matrices, from pairs (a, p, a, n) or triplets (a, p, n).

    Raises:
        InputError: As `check_pairs`.
    """
    check_pairs(given, anchors, columns, parts=(3, 4))
    a, p, other_a, n = (given[0], given[1], given[0], given[2]) if len(given) == 3 else given
    positives = torch.zeros(anchors, columns, dtype=torch.bool, device=device)
    candidates = positives.clone()
    for matrix, one, two in ((positives, a, p), (candidates, other_a, n)):
        matrix[one, two] = True
    return positives, candidates | positives


def _checked_temperature(temperature: float | Tensor) -> float | Tensor:
    if not isinstance(temperature, Tensor):
        return checked_number("temperature", temperature, least=LEAST_TEMPERATURE)
    if temperature.numel():
        checked_number("temperature", float(temperature.detach().min()), least=LEAST_TEMPERATURE)
    return temperature


def _check_views(first: Tensor, second: Tensor) -> None:
    check_embeddings(first, "the first views")
    check_embeddings(second, "the second views")
    if first.shape != second.shape:
        raise InputError(f"the views have shapes {tuple(first.shape)} and {tuple(second.shape)}; give equal ones.")
