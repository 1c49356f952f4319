"""MTT: images on which a network reaches in a few steps the parameters that experts reach in epochs of all the data.

Trajectory matching began with this method. It is the strongest at one image per class, and more expensive than methods
that match features. Prefer DATM if soft labels may be stored; they gain more than all other refinements.
Cazenavette, Wang, Torralba, Efros and Zhu, Dataset Distillation by Matching Training Trajectories, CVPR 2022,
arXiv:2203.11932.
"""

from dataclasses import dataclass
from typing import Self

from attar.core.presets import published
from attar.images.condense.trajectory import TrajectoryMatching


@dataclass(frozen=True, kw_only=True)
class MTT(TrajectoryMatching):
    """Match training trajectories (Cazenavette et al., CVPR 2022, arXiv:2203.11932).

    L = ‖θ_T - θ*_{t+M}‖² / ‖θ*_t - θ*_{t+M}‖². θ_T are a student's parameters after T steps of SGD from an expert's
    θ*_t, with the learned step size β on augmented synthetic batches.
    """

    name = "mtt"

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one cell of the paper's table, as far as known (`attar condense mtt --paper` lists them).

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc)
