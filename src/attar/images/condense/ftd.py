"""FTD: trajectory matching with experts in flat minima, which a student with small errors can still follow.

Prefer its experts to MTT's if two gradients per step are affordable. The rest is MTT with an average of the images.
Du, Jiang, Tan, Zhou and Li, Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation, CVPR 2023,
arXiv:2211.11004. The experts are trained by adaptive GSAM: Zhuang et al., ICLR 2022, arXiv:2203.08065.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

from attar.core.runtime import Runtime
from attar.core.settings import Range, Role
from attar.images.condense.mtt import MTT
from attar.images.condense.trajectory import whole_cell
from attar.images.experts import Experts
from attar.images.sources import ImageSource

FLAT = Experts(flat_radius=0.01)


def _cell(steps: int, last: int, lr: float, average: float, **others: Any) -> dict[str, Any]:
    return {"student_steps": steps, "last_start": last, "lr": lr, "average": average, **others}


TABLE: dict[tuple[str, int], dict[str, Any]] = {
    ("cifar10", 1): _cell(50, 2, 100, 0.9999, lr_lr=1e-7, zca=True),
    ("cifar10", 10): _cell(30, 20, 100, 0.9995, student_lr=0.001, zca=True),
    ("cifar10", 50): _cell(30, 40, 1000, 0.999),
    ("cifar100", 1): _cell(40, 20, 1000, 0.9995, span=3, zca=True),
    ("cifar100", 10): _cell(20, 40, 1000, 0.9995),
    ("cifar100", 50): _cell(80, 40, 1000, 0.999, batch=1000, zca=True),
    ("tiny-imagenet", 1): _cell(30, 10, 1e4, 0.999, lr_lr=1e-4),
    ("tiny-imagenet", 10): _cell(20, 40, 1e4, 0.999, lr_lr=1e-4, batch=500),
}
"""The paper's table 7. It has no column for whitening; the whitening here is MTT's."""
GAP = {("cifar10", 1): 0.3, ("cifar10", 10): 0.3}
"""α of GSAM by cell; it is 1 in all other cells."""


@dataclass(frozen=True, kw_only=True)
class FTD(MTT):
    """Match flat trajectories (Du et al., CVPR 2023, arXiv:2211.11004).

    The loss is MTT's, and the experts are trained by adaptive GSAM. The result is the average X̄ ← d X̄ + (1 - d) X.
    (The paper evaluates X and X̄ and keeps the better one. Its code does so with a network that has already been
    trained on X. Here X̄ is kept.)
    """

    average: Annotated[float, Range(0, 1)] | None = None
    """Decay of a moving average of the images, which then is the result. Default: an average of about the last tenth of
    the steps."""
    experts: Annotated[Experts, Role()] = field(default_factory=lambda: FLAT)
    """Training of the experts, and the folder that holds them."""

    name = "ftd"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value, including the average."""
        settings = super().resolve(source, runtime)
        usual = max(0.0, 1 - 10 / settings.total_steps)
        return replace(settings, average=usual if self.average is None else self.average)

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one cell of the paper's table 7.

        Raises:
            InputError: The table does not have the cell.
        """
        cell = whole_cell(TABLE, data, ipc, "FTD")
        experts = Experts(experts=100, epochs=50, flat_radius=0.01, flat_gap=GAP.get((data, ipc), 1.0))
        return cls(ipc=ipc, steps=5000, experts=experts, **cell)
