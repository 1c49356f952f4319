"""FTD: trajectory matching with experts in flat minima, which a student with small errors can still follow.

Prefer its experts to MTT's if two gradients per step are affordable. The rest is MTT with an average of the images.
Du, Jiang, Tan, Zhou and Li, Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation, CVPR 2023,
arXiv:2211.11004. The experts are trained by adaptive GSAM: Zhuang et al., ICLR 2022, arXiv:2203.08065.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Self

from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.settings import Range, Role
from attar.images.condense.mtt import MTT
from attar.images.experts import Experts
from attar.images.sources import ImageSource

FLAT = Experts(flat_radius=0.01)


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
        """The settings of one cell of the paper's table 7 (`attar condense ftd --paper` lists them).

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc)
