"""TESLA: trajectory matching in constant memory, by taking no student step to depend on those before.

Here for comparison: `mtt` has the same memory with the exact gradient. TESLA's is MTT's for one student step, and for
more it leaves out how an image changes the steps after its own: at 20 steps the two gradients' cosine was 0.996, 0.75
and 0.27 for β of 0.01, 0.1 and 0.5. Its label assignment is a cheap way to soft labels that nobody learns.
Cui, Wang, Si and Hsieh, Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory, ICML 2023,
arXiv:2211.10586.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from attar.core.runtime import Runtime
from attar.images import layout
from attar.images.condense.adjoint import Matched, Way
from attar.images.condense.mtt import MTT, PLAIN
from attar.images.condense.trajectory import Distilling, Images, LabelLogits, published
from attar.images.experts import Experts

TABLE: dict[tuple[str, int], dict[str, Any]] = {
    ("cifar10", 1): {"student_steps": 50, "last_start": 5, "lr": 1e3, "lr_lr": 1e-7},
    ("cifar100", 50): {"student_steps": 80, "last_start": 40, "lr": 1e3, "batch": 125, "zca": True},
    ("imagenet", 1): {
        "student_steps": 10,
        "span": 3,
        "last_start": 10,
        "lr": 1e4,
        "lr_lr": 1e-4,
        "batch": 100,
        "assigned_labels": True,
        "experts": Experts(experts=50, epochs=50),
    },
}


@dataclass(frozen=True, kw_only=True)
class TESLA(MTT):
    """Match trajectories with a truncated gradient (Cui et al., ICML 2023, arXiv:2211.10586).

    ∂L/∂X_i = (2β/‖θ_0 - θ*‖²) (θ* - θ_0 + β Σ g)ᵀ ∂g_i/∂X_i. With `assigned_labels`, soft labels are what the expert
    that is to be reached answers to the images, anew at every step; the last of them go with the set.
    """

    gradient: Way = "tesla"
    assigned_labels: bool = False
    """Whether the target expert assigns soft labels to the images, instead of their classes."""
    lost_factor: bool = False
    """Whether to halve the images' gradient, as the released code does. Its step sizes on pixels are tuned for that."""

    name = "tesla"

    def initial(self, state: Distilling, runtime: Runtime) -> tuple[Images, LabelLogits | None]:
        """Images to start from; room for labels where they are assigned."""
        images, logits = super().initial(state, runtime)
        if self.assigned_labels:
            logits = torch.zeros(len(images), len(state.source.classes))
        return images, logits

    @torch.no_grad()
    def targets(self, state: Distilling, expert: int, epoch: int, runtime: Runtime) -> Tensor:
        """What students learn; assigned labels are assigned here."""
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

        The step sizes on pixels printed there are for the released code, which halves the gradient; so `paper` halves
        the step size and `released` the gradient, which is the same.

        Raises:
            InputError: A cell that it does not have.
        """
        cell = {"experts": PLAIN, **published(TABLE, data, ipc, "TESLA")}
        method = cls(ipc=ipc, steps=10_000, lost_factor=variant == "released", **cell)
        return method if variant == "released" else replace(method, lr=method.lr / 2)
