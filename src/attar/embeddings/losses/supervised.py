"""The supervised contrastive loss, of classes or of sets of labels, or of pairs that a miner gives."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError
from attar.embeddings.checks import check_embeddings
from attar.embeddings.contrast import Loss, Reduction, Temperature, contrast_embeddings
from attar.embeddings.losses.pairs import Pairs, matrices_of
from attar.embeddings.positives import Labels, Numbers, OtherNumbers, Score, checked_labels, weights_by_rows

Embeddings = Float[Tensor, "sample d"]


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
        weights, candidates = matrices_of(indices_tuple, len(embeddings), columns, embeddings.device)
        how: dict[str, Any] = {"other": ref_emb, "candidates": candidates, "inside": inside, "reduction": reduction}
        return contrast_embeddings(embeddings, weights, temperature, chunk, **how)
    if labels is None:
        raise InputError("labels are missing: give them, or indices_tuple.")
    mine = checked_labels(labels, len(embeddings))
    theirs = None if ref_labels is None else checked_labels(ref_labels, columns)
    by_rows = weights_by_rows(mine, positives, threshold, weighted, samples, others=theirs, others_same=ref_samples)
    return contrast_embeddings(
        embeddings, by_rows, temperature, chunk, other=ref_emb, inside=inside, reduction=reduction
    )
