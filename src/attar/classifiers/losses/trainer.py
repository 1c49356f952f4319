"""A loss of labels inside a `transformers.Trainer`.

    Trainer(model=model, compute_loss_func=TrainerLoss(EnsLoss()), args=..., train_dataset=...).train()

The Trainer adds up the losses of the micro-batches of a step, so that each is divided by the number of samples in all
of them. For a loss of each sample alone, accumulation then changes nothing. EnsLoss sorts the samples of one call:
with `gradient_accumulation_steps` above 1, or several processes, each micro-batch has an order and draws of its own,
and the training is that of smaller batches whose gradients are averaged. Take a larger batch instead where it fits.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from attar.classifiers.losses.scores import MarginLoss, checked_classes
from attar.core.errors import InputError
from attar.core.losses import as_shown, cross_entropy
from attar.images.networks.outputs import logits_in


class TrainerLoss:
    """A `compute_loss_func` of a `transformers.Trainer` of classifiers of images or text.

    A pseudo-loss has its own gradient and the value of the cross-entropy, which is what the Trainer logs. In
    evaluation it is the cross-entropy altogether, so that no epoch is chosen by the pseudo-loss.

    Args:
        loss: The loss, such as `EnsLoss()`.
    """

    def __init__(self, loss: MarginLoss) -> None:
        self.loss = loss

    def __call__(self, outputs: Any, labels: Tensor | None, num_items_in_batch: Any = None) -> Float[Tensor, ""]:
        """The share of a micro-batch in the mean loss of a step.

        Args:
            outputs: What the model returns, with its logits.
            labels: The number of a class for each sample.
            num_items_in_batch: Number of samples in all micro-batches of the step, if the Trainer counts them.

        Raises:
            InputError: There are no labels, or they do not fit the logits.
        """
        if labels is None:
            raise InputError("a batch has no labels. Give them as `labels`.")
        logits = logits_in(outputs, "model")
        if logits.shape[-1] == 1 and labels.ndim == 2:
            labels = labels.flatten()
        classes = checked_classes(logits, labels)
        learns = logits.requires_grad
        values = as_shown(self.loss, logits, classes) if learns else self._told(logits, classes)
        return values.sum() / (len(classes) if num_items_in_batch is None else num_items_in_batch)

    def _told(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sample in evaluation."""
        return cross_entropy(logits, labels) if self.loss.pseudo else self.loss.values(logits, labels)
