"""TESLA: trajectory matching in constant memory, with a gradient in which no student step depends on earlier steps.

It is here for comparison, because `mtt` needs as little memory for the exact gradient. For one student step TESLA's
gradient is MTT's. For more steps it ignores how an image changes later steps: at 20 steps the cosine of the two
gradients was 0.996, 0.75 and 0.27 for β of 0.01, 0.1 and 0.5. Its label assignment is a cheap way to get soft labels
without learning them.
Cui, Wang, Si and Hsieh, Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory, ICML 2023,
arXiv:2211.10586.
"""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.images import layout
from attar.images.condense.adjoint import Matched, Way
from attar.images.condense.mtt import MTT
from attar.images.condense.trajectory import Distilling, Images, LabelLogits


@dataclass(frozen=True, kw_only=True)
class TESLA(MTT):
    """Match trajectories with a truncated gradient (Cui et al., ICML 2023, arXiv:2211.10586).

    ∂L/∂X_i = (2β/‖θ_0 - θ*‖²) (θ* - θ_0 + β Σ g)ᵀ ∂g_i/∂X_i. With `assigned_labels` the soft labels are the target
    expert's logits of the images, computed again at every step. The last of them are saved with the set.
    """

    gradient: Way = "tesla"
    assigned_labels: bool = False
    """Whether the target expert assigns soft labels to the images, instead of their classes."""
    lost_factor: bool = False
    """Whether to halve the images' gradient, as the released code does. Its step sizes on pixels are tuned for that."""

    name = "tesla"

    def initial(self, state: Distilling, runtime: Runtime) -> tuple[Images, LabelLogits | None]:
        """Initial images, and zeros for the labels if they are assigned."""
        images, logits = super().initial(state, runtime)
        if self.assigned_labels:
            logits = torch.zeros(len(images), len(state.source.classes))
        return images, logits

    @torch.no_grad()
    def targets(self, state: Distilling, expert: int, epoch: int, runtime: Runtime) -> Tensor:
        """The labels that students learn; assigned labels are computed here."""
        if self.assigned_labels and state.label_logits is not None:
            vector = state.pool.vector(expert, epoch + self.span, runtime.device)
            parts = state.images.detach().split(layout.at_once(state.source.shape, runtime))
            state.label_logits.copy_(torch.cat([state.flat.logits(vector, part) for part in parts]))
        return super().targets(state, expert, epoch, runtime)

    def corrected(self, found: Matched, state: Distilling, runtime: Runtime) -> Images:
        """The gradient, or half of it."""
        return found.images / 2 if self.lost_factor else found.images

    @classmethod
    def paper(cls, data: str, *, ipc: int, variant: Literal["paper", "released"] = "paper") -> Self:
        """The settings of one cell of the README.

        Its step sizes on pixels are for the released code, which halves the gradient. So `paper` halves the step size
        and `released` halves the gradient. The results are the same.

        Raises:
            InputError: The README does not have the cell.
        """
        return published(cls, data, ipc, variant=variant)
