"""Which samples are positives of one another, and how strongly: by equal labels, or by how far sets of labels overlap.

With a the number of labels that two samples share, and n_i those of a sample: Jaccard a / (n_i + n_j - a),
Dice 2a / (n_i + n_j), cosine a / √(n_i n_j), and the overlap of Szymkiewicz and Simpson a / min(n_i, n_j), which is one
when either set contains the other. Samples without labels overlap with nothing. Two views of one sample always do.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from attar.core.errors import InputError

Score = Literal["equal", "jaccard", "overlap", "dice", "cosine"]
Labels = Shaped[Tensor, "..."]
"""The class of each sample, `[sample]`; or for each a row of 0 and 1, `[sample, classes]`. They are checked."""
Numbers = Int[Tensor, " sample"]
OtherNumbers = Int[Tensor, " candidate"]
Weights = Bool[Tensor, "anchor candidate"] | Float[Tensor, "anchor candidate"]
SLACK = 1e-6
"""By how much a score may fall short of the threshold: 1/3 is not exact."""


def overlap_scores(
    labels: Bool[Tensor, "anchor classes"], others: Bool[Tensor, "candidate classes"], score: Score = "jaccard"
) -> Float[Tensor, "anchor candidate"]:
    """How far sets of labels overlap, from 0 to 1.

    Args:
        labels: Which labels each sample has.
        others: The same of those that they are compared with.
        score: Which score; "equal" is 1 for equal sets that are not empty.
    """
    mine, theirs = labels.float(), others.float()
    shared = mine @ theirs.T
    counts, other_counts = mine.sum(dim=1)[:, None], theirs.sum(dim=1)[None]
    if score == "equal":
        return ((shared == counts) & (shared == other_counts) & (shared > 0)).float()
    whole = {
        "jaccard": lambda: counts + other_counts - shared,
        "overlap": lambda: torch.minimum(counts, other_counts),
        "dice": lambda: (counts + other_counts) / 2,
        "cosine": lambda: (counts * other_counts).sqrt(),
    }[score]()
    return torch.where(shared > 0, shared / whole.clamp(min=1), 0)


def positive_weights(
    labels: Labels,
    score: Score = "equal",
    threshold: float | None = None,
    weighted: bool = False,
    same: Numbers | None = None,
    *,
    others: Labels | None = None,
    others_same: OtherNumbers | None = None,
) -> Weights:
    """The weight of each sample as a positive of each anchor, for `contrast`.

    Args:
        labels: Classes, or rows of 0 and 1.
        score: How far labels overlap. Classes are sets of one.
        threshold: The least score of a positive. By default every overlap is enough.
        weighted: Whether the score is the weight; else positives all weigh one.
        same: The number of the sample that each row is a view of. Views of one sample are always positives, of weight
            one.
        others: Labels of the candidates. By default those of the anchors.
        others_same: The numbers of their samples.

    Raises:
        InputError: Labels are negative, not whole, or no rows of 0 and 1; or numbers of samples are missing.
    """
    rows = torch.arange(len(labels), device=labels.device)
    return weights_by_rows(labels, score, threshold, weighted, same, others=others, others_same=others_same)(rows)


def weights_by_rows(
    labels: Labels,
    score: Score = "equal",
    threshold: float | None = None,
    weighted: bool = False,
    same: Numbers | None = None,
    *,
    others: Labels | None = None,
    others_same: OtherNumbers | None = None,
) -> Callable[[Tensor], Tensor]:
    """`positive_weights` for some rows of anchors at a time, as `contrast_embeddings` asks for them.

    Raises:
        InputError: As `positive_weights`.
    """
    if score not in get_args(Score):
        raise InputError(f"positives are {score!r}; give {', '.join(get_args(Score)[:-1])} or {get_args(Score)[-1]}.")
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold:g}; an overlap lies between 0 and 1.")
    mine = checked_labels(labels)
    theirs = mine if others is None else checked_labels(others)
    theirs_same = same if others is None else others_same
    for numbers, those in ((same, mine), (theirs_same, theirs)):
        if numbers is not None and len(numbers) != len(those):
            raise InputError(f"there are {len(numbers)} numbers of samples for {len(those)} rows of labels.")
    if mine.ndim != theirs.ndim or mine.shape[1:] != theirs.shape[1:]:
        raise InputError(f"labels have shape {tuple(mine.shape)}, but those of the others {tuple(theirs.shape)}.")

    def found(rows: Tensor) -> Tensor:
        if mine.ndim == 1:
            weights = mine[rows, None] == theirs[None]
            return weights if same is None or theirs_same is None else weights | _views(rows)
        scores = overlap_scores(mine[rows], theirs, score)
        enough = scores > 0 if threshold is None else (scores >= threshold - SLACK) & (scores > 0)
        kept = torch.where(enough, scores, 0) if weighted else enough
        if same is None or theirs_same is None:
            return kept
        return torch.where(_views(rows), 1.0, kept) if weighted else kept | _views(rows)

    def _views(rows: Tensor) -> Tensor:
        assert same is not None and theirs_same is not None
        return same[rows, None] == theirs_same[None]

    return found


def checked_rows(labels: Labels, shape: Sequence[int]) -> Tensor:
    """Rows of yes and no, `[sample, classes]`.

    Raises:
        InputError: They are of another shape, or hold other than 0 and 1.
    """
    found = checked_labels(labels)
    if tuple(found.shape) != tuple(shape):
        raise InputError(f"labels have shape {tuple(found.shape)}; give {tuple(shape)} of 0 and 1.")
    return found


def checked_labels(labels: Labels, samples: int | None = None) -> Tensor:
    """Classes as they are, or rows of yes and no.

    Args:
        labels: Classes, or rows of 0 and 1 of any type.
        samples: How many there must be.

    Raises:
        InputError: Another number of them, classes that are negative or not whole, or rows of other than 0 and 1.
    """
    if not isinstance(labels, Tensor):
        raise InputError(f"labels are of type {type(labels).__name__}; give a tensor.")
    if labels.ndim not in (1, 2):
        raise InputError(f"labels have shape {tuple(labels.shape)}; give [sample], or [sample, classes] of 0 and 1.")
    if samples is not None and len(labels) != samples:
        raise InputError(f"there are {len(labels)} labels for {samples} embeddings.")
    if labels.ndim == 2:
        if labels.dtype == torch.bool:
            return labels
        odd = labels[(labels != 0) & (labels != 1)]
        if len(odd):
            raise InputError(f"a label is {odd[0].item():g}; a row of several labels holds only 0 and 1.")
        return labels.bool()
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"labels are of type {labels.dtype}; give whole numbers, or rows of 0 and 1.")
    if len(labels) and int(labels.min()) < 0:
        raise InputError(f"a label is {int(labels.min())}; classes are counted from 0.")
    return labels
