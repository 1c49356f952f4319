"""A loss of labels inside a `transformers.Trainer`.

    Trainer(model=model, compute_loss_func=TrainerLoss(EnsLoss()), args=..., train_dataset=...).train()

The Trainer adds up the losses of the micro-batches of a step, so that each is divided by the number of samples in all
of them. For a loss of each sample alone, accumulation then changes nothing. EnsLoss sorts the samples of one call:
with `gradient_accumulation_steps` above 1, or several processes, each micro-batch has an order and draws of its own,
and the training is that of smaller batches whose gradients are averaged. Take a larger batch instead where it fits.
"""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from attar.classifiers.losses.scores import MarginLoss, checked_classes, signs_of
from attar.core.errors import InputError
from attar.core.losses import as_shown, cross_entropy
from attar.images.networks.outputs import logits_in

IGNORED = -100
"""The label of a sample that is not counted."""


class TrainerLoss:
    """A `compute_loss_func` of a `transformers.Trainer` of classifiers of images or text.

    A pseudo-loss has its own gradient and the value of the cross-entropy, which is what the Trainer logs. In
    evaluation it is the cross-entropy altogether, so that no epoch is chosen by the pseudo-loss. A model with a single
    logit takes labels of two classes, and a label of -100 is not counted, as the Trainer has it.

    Args:
        loss: The loss, such as `EnsLoss()`.
    """

    def __init__(self, loss: MarginLoss) -> None:
        self.loss = loss

    def __call__(self, outputs: Any, labels: Tensor | None, num_items_in_batch: Any = None) -> Float[Tensor, ""]:
        """The share of a micro-batch in the mean loss of a step.

        Args:
            outputs: What the model returns, with its logits.
            labels: The number of a class for each sample; of a single logit 0 and 1, -1 and 1, or booleans.
            num_items_in_batch: Number of samples in all micro-batches of the step, if the Trainer counts them.

        Raises:
            InputError: There are no labels, or they do not fit the logits.
        """
        if labels is None:
            raise InputError("a batch has no labels. Give them as `labels`.")
        logits = logits_in(outputs, "model")
        if logits.shape[-1] == 1 and labels.ndim == 2:
            labels = labels.flatten()
        counted = labels != IGNORED
        if labels.ndim == 1 and len(labels) == len(logits) and not bool(counted.all()):
            logits, labels = logits[counted], labels[counted]
            if not len(labels):
                return logits.sum()
        classes = _classes(logits, labels)
        learns = logits.requires_grad
        values = as_shown(self.loss, logits, classes) if learns else self._told(logits, classes)
        return values.sum() / (len(classes) if num_items_in_batch is None else num_items_in_batch)

    def _told(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample in evaluation."""
        return cross_entropy(logits, labels) if self.loss.pseudo else self.loss.values(logits, labels)


def _classes(logits: Tensor, labels: Tensor) -> Int[Tensor, " sample"]:
    """The number of a class for each sample.

    Raises:
        InputError: Labels do not fit the logits.
    """
    if logits.shape[-1] > 1 or labels.shape != logits.shape[:1]:
        return checked_classes(logits, labels)
    return (signs_of(labels) > 0).long()
