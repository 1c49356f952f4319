"""What can be read from latent codes: how well a boosted classifier tells the group and the label.

V² speaks of sampled codes. Their means may tell the group all the same, so both are measured, and only sampled codes
leave a run. A code that tells no label any more is collapsed: then independence of the group is no merit.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.tables.quality import latent_auc

CHANCE, COLLAPSED = 0.5, 0.05
"""AUC of guessing; how far from it the AUC of the label must be."""
MOST = 5000
"""Most rows that are looked at."""
FEWEST = 20
"""Fewest rows of a class in either half, without which nothing is measured."""


def auc_from(
    codes: Float[Tensor, "row latent"], labels: Int[Tensor, " row"], generator: torch.Generator
) -> float | None:
    """AUC of a gradient-boosted classifier that reads labels from codes; None if all classes but one are too rare.

    It is fitted on one half of the rows and measured on the other. Of several classes, it is the mean over one against
    the rest.

    Args:
        codes: z or μ of each row.
        labels: What is to be told.
        generator: Draws the halves.
    """
    order = torch.randperm(len(codes), generator=generator)[:MOST]
    kept = [number for number in labels.unique().tolist() if _enough(labels, number, *order.tensor_split(2))]
    if len(kept) < 2:
        return None
    known = torch.isin(labels, torch.tensor(kept))
    fitted, measured = (half[known[half]] for half in order.tensor_split(2))
    seed = int(torch.randint(2**31, (), generator=generator))
    values = codes.double()
    return latent_auc(values[fitted], labels[fitted], values[measured], labels[measured], partial(_trees, seed))


def forgot(label_auc: float | None) -> bool:
    """Whether codes are collapsed: the AUC of the label is within .05 of chance."""
    return label_auc is not None and label_auc < CHANCE + COLLAPSED


def _enough(labels: Int[Tensor, " row"], number: int, *halves: Int[Tensor, " _half"]) -> bool:
    return all(int((labels[half] == number).sum()) >= FEWEST for half in halves)


def _trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(early_stopping=False, max_iter=60, random_state=seed)
