"""The term of the labels in the training of a classifier: any loss, of one or several masks of dropout."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.pair import Batch
from attar.core.losses import Loss, as_shown


def label_loss(
    batch: Batch, loss: Loss, smoothing: float, average: Literal["losses", "logits"] = "losses"
) -> Float[Tensor, ""]:
    """The loss of the labels, averaged over samples. A pseudo-loss has its own gradient and the value of cross-entropy.

    Args:
        batch: The samples. With several masks of dropout, `branches` has the logits of each. A label below zero is not
            counted.
        loss: The loss.
        smoothing: Share of each label that is spread over all classes, with cross-entropy and bce.
        average: What is averaged over the masks.
    """
    branches = batch.student.logits[None] if batch.branches is None else batch.branches
    if average == "logits":
        branches = branches.mean(dim=0, keepdim=True)
    if loss.name == "cross-entropy":
        labels = batch.labels.expand(len(branches), *batch.labels.shape).flatten(0, 1)
        return F.cross_entropy(branches.flatten(0, 1), labels, label_smoothing=smoothing)
    built = loss.at(batch.epoch, batch.seed).built(smoothing)
    counted = batch.labels >= 0
    labels = batch.labels[counted]
    return torch.stack([as_shown(built, logits[counted], labels).mean() for logits in branches]).mean()
