"""What can be read from latent codes: how well a boosted classifier tells the group and the label.

V² speaks of sampled codes. Their means may tell the group all the same, so both are measured, and only sampled codes
leave a run. A code that tells no label any more is collapsed: then independence of the group is no merit.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

CHANCE, COLLAPSED = 0.5, 0.05
"""AUC of guessing; how far from it the AUC of the label must be."""
MOST = 5000
"""Most rows that are looked at."""
FEWEST = 20
"""Fewest rows of a class in either half, without which nothing is measured."""


def latent_auc(
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
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    order = torch.randperm(len(codes), generator=generator)[:MOST]
    fitted, measured = order.tensor_split(2)
    kept = [number for number in labels.unique().tolist() if _enough(labels, number, fitted, measured)]
    if len(kept) < 2:
        return None
    x, y = codes.double().numpy(), labels.numpy()
    fitted, measured = (part[np.isin(y[part], kept)] for part in (fitted.numpy(), measured.numpy()))
    seed = int(torch.randint(2**31, (), generator=generator))
    model = HistGradientBoostingClassifier(early_stopping=False, max_iter=60, random_state=seed)
    told = model.fit(x[fitted], y[fitted]).predict_proba(x[measured])
    if len(kept) == 2:
        return float(roc_auc_score(y[measured] == model.classes_[1], told[:, 1]))
    return float(np.mean([roc_auc_score(y[measured] == one, told[:, column]) for column, one in enumerate(kept)]))


def forgot(label_auc: float | None) -> bool:
    """Whether codes are collapsed: the AUC of the label is within .05 of chance."""
    return label_auc is not None and label_auc < CHANCE + COLLAPSED


def _enough(labels: Int[Tensor, " row"], number: int, *halves: Int[Tensor, " _half"]) -> bool:
    return all(int((labels[half] == number).sum()) >= FEWEST for half in halves)
