"""MTT: images on which a network reaches in a few steps the parameters that experts reach in epochs of all the data.

Trajectory matching began with this method. It is the strongest at one image per class, and more expensive than methods
that match features. Prefer DATM if soft labels may be stored; they gain more than all other refinements.
Cazenavette, Wang, Torralba, Efros and Zhu, Dataset Distillation by Matching Training Trajectories, CVPR 2022,
arXiv:2203.11932.
"""

from dataclasses import dataclass
from typing import Any, Self

from attar.images.condense.trajectory import TrajectoryMatching, whole_cell
from attar.images.experts import Experts

PLAIN = Experts(experts=100, epochs=50)
TABLE: dict[tuple[str, int], dict[str, Any]] = {
    ("cifar10", 1): {"student_steps": 50, "last_start": 2, "lr": 1e2, "lr_lr": 1e-7, "zca": True},
    ("cifar10", 10): {"student_steps": 30, "last_start": 20, "lr": 1e2, "student_lr": 0.001, "zca": True},
    ("cifar10", 50): {"student_steps": 30, "last_start": 40, "lr": 1e3, "student_lr": 0.001},
    ("cifar100", 1): {"student_steps": 20, "span": 3, "last_start": 20, "lr": 1e3, "zca": True},
    ("cifar100", 10): {"student_steps": 20, "last_start": 20, "lr": 1e3},
    ("cifar100", 50): {"student_steps": 80, "last_start": 40, "lr": 1e3, "batch": 125, "zca": True},
    ("tiny-imagenet", 1): {"student_steps": 10, "last_start": 10, "lr": 1e4, "lr_lr": 1e-4},
    ("tiny-imagenet", 10): {"student_steps": 20, "last_start": 40, "lr": 1e4, "lr_lr": 1e-4, "batch": 200},
    ("tiny-imagenet", 50): {"student_steps": 20, "last_start": 40, "lr": 1e4, "lr_lr": 1e-4, "batch": 300},
    ("imagefruit", 1): {"student_steps": 20, "last_start": 10, "lr": 1e3, "lr_lr": 1e-6},
}
"""The README's commands. All but those for CIFAR-100 at 1 and ImageFruit come from later repositories. For CIFAR-10 at
10 per class the printed step size on pixels, 10⁵, is an error, as its author says; 10² and 10³ are in use."""


@dataclass(frozen=True, kw_only=True)
class MTT(TrajectoryMatching):
    """Match training trajectories (Cazenavette et al., CVPR 2022, arXiv:2203.11932).

    L = ‖θ_T - θ*_{t+M}‖² / ‖θ*_t - θ*_{t+M}‖². θ_T are a student's parameters after T steps of SGD from an expert's
    θ*_t, with the learned step size β on augmented synthetic batches.
    """

    name = "mtt"

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one cell of the paper's table, as far as they are known.

        Raises:
            InputError: The table does not have the cell.
        """
        return cls(ipc=ipc, steps=5000, experts=PLAIN, **whole_cell(TABLE, data, ipc, "MTT"))
