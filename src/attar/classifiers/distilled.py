"""A student and the modules that are trained beside it as one module, which a Trainer wraps.

A wrapper (several processes, mixed precision, `torch.compile`) then sees one forward pass in each step, with all that
is learned. The student itself stays as it is, and is saved as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attar.classifiers.distillation import Distillation
from attar.classifiers.dropout import answers_under_masks
from attar.classifiers.pair import Batch, Distilling
from attar.classifiers.watched import Answers, Watched


@dataclass
class Given:
    """What a step is given beside the inputs of the student."""

    method: Distillation
    teacher: Answers
    labels: Tensor
    rows: Tensor
    """Numbers of the training samples."""
    warm: float
    progress: float
    labels_only: bool
    """Whether the loss is the term of the labels alone."""
    epoch: int = 0
    seed: int = 0


class Distilled(nn.Module):
    """A student and its connectors. The forward pass gives the loss of a batch, and the student's logits.

    Args:
        watched: The student.
        state: The student in training, with its connectors and the memory of the method.
    """

    def __init__(self, watched: Watched, state: Distilling) -> None:
        super().__init__()
        self.student, self.parts = watched.network, state.parts
        self.watched, self.state = watched, state
        self.given: Given | None = None
        """Set before each pass. It is no argument, because a compiled pass would be compiled again for other values."""

    def forward(self, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """The loss and the logits."""
        assert self.given is not None
        method = self.given.method
        said, branches = answers_under_masks(self.watched, inputs, method.dropout, method.dropout_samples)
        return self.loss(said, branches), said.logits

    def loss(self, said: Answers, branches: Tensor | None = None) -> Tensor:
        """The sum of the terms, in single precision whatever the student's is."""
        assert self.given is not None
        given = self.given
        batch = Batch(
            said,
            given.teacher,
            given.labels,
            given.rows,
            given.warm,
            given.progress,
            branches=branches,
            epoch=given.epoch,
            seed=given.seed,
        )
        with torch.autocast(given.labels.device.type, enabled=False):
            if given.labels_only:
                return given.method.label_term(batch)
            return given.method.total(given.method.loss_terms(batch, self.state), self.state)

    def is_in(self, model: nn.Module) -> bool:
        """Whether a model is this module, or a wrapper around it."""
        return any(module is self for module in model.modules())

    def leave_loss_uncompiled(self) -> None:
        """Compile the student only: the loss has other numbers in every step."""
        self.loss = torch.compiler.disable(self.loss)  # type: ignore[method-assign]


def in_its_type(network: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs, with real numbers in the type of the network's parameters: a network in bfloat16 takes no other."""
    types = [parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()]
    if not types:
        return dict(inputs)
    real = {name for name, value in inputs.items() if isinstance(value, Tensor) and value.is_floating_point()}
    return {name: value.to(types[0]) if name in real else value for name, value in inputs.items()}
