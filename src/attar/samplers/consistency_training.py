"""Consistency training: a model of a single call that is learned from data, without a teacher.

Prefer it where there is no teacher and none is to be trained; with one, distillation is better and quicker. The number
of noise levels rises while it learns, and the average that gives its targets slows down, as published. Without that
average, the default here, a short run learns far more (Song and Dhariwal, arXiv:2310.14189, section 3.2). Yang Song,
Prafulla Dhariwal, Mark Chen and Ilya Sutskever, Consistency Models, ICML 2023, arXiv:2303.01469.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Self

from torch import Tensor

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.samplers.consistency import Agreeing, Agreement
from attar.samplers.denoisers import Denoiser, Noisy, broadcast
from attar.samplers.learner import Batch
from attar.samplers.networks import network_named, usual
from attar.samplers.schedules import Levels
from attar.samplers.teaching import Work


@dataclass(frozen=True, kw_only=True)
class ConsistencyTraining(Agreement):
    """A consistency model that is learned from data, without a teacher.

    Song, Dhariwal, Chen and Sutskever, ICML 2023, arXiv:2303.01469. Prefer it where there is no teacher.
    """

    network: str = "auto"
    """The network, by words: mlp:width=384,depth=3, or unet:width=32 (diffusers' UNet2DModel). auto: an MLP for points
    and images up to 16 pixels, a U-Net for larger ones."""
    sigma_data: Annotated[float, Range(0)] | None = None
    """Standard deviation of the data in the preconditioning. Default: measured on the training samples."""
    first_levels: Annotated[int, Range(2, 10_000)] = 2
    """s₀, from which the number of noise levels rises while training."""
    last_levels: Annotated[int, Range(2, 10_000)] = 150
    """s₁, up to which it rises; the last grid has one level more."""
    target_decay: Annotated[float, Range(0, 1)] = 0.0
    """Decay μ of the moving average of the student's weights that gives its targets, as it is at first, μ₀: it nears 1
    as the grid becomes finer. 0: the student itself."""
    weights_average: Annotated[float, Range(0, 1)] = 0.995
    """Decay of a moving average of the weights, which then is the result. It is smaller in the first steps. 0: none."""

    name = "consistency-data"
    verb = "train"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published row.

        Args:
            data: cifar10, imagenet-64 or lsun-256.

        Raises:
            InputError: There is no such row.
        """
        from attar.core.presets import published

        return published(cls, data)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last_levels < self.first_levels:
            raise InputError(
                f"last_levels is {self.last_levels} and first_levels {self.first_levels}; it must not be smaller."
            )

    @property
    def finest(self) -> int:
        """Number of noise levels of the last grid."""
        return self.last_levels + 1

    def started(self, work: Work, runtime: Runtime) -> Denoiser:
        """A fresh network in the boundary form."""
        source = work.source
        network = network_named(self.network, source.shape, len(source.classes), runtime.generator("network"))
        return Denoiser(network, self.sigma_data or source.sigma_data, self.levels.ends[0])

    def network_of(self, work: Work) -> str:
        """As it was named, or the usual one."""
        return usual(work.source.shape) if self.network == "auto" else self.network

    def grid_at(self, done: int) -> Levels:
        """The N(k) levels after k steps."""
        return self.levels.levels(levels_at(done, self.total_steps, self.first_levels, self.last_levels))

    def decay_at(self, done: int) -> float:
        """μ(k) after k steps."""
        levels = levels_at(done, self.total_steps, self.first_levels, self.last_levels)
        return decay_of(levels, self.first_levels, self.target_decay)

    def nearer(self, batch: Batch, noise: Noisy, noisy: Noisy, ends: tuple[Tensor, Tensor], state: Agreeing) -> Noisy:
        """Less of the same noise, x + σ' ε: a step of Euler's method, whose slope the true sample gives."""
        return batch.clean + broadcast(ends[1], noise) * noise


def levels_at(done: int, steps: int, first: int = 2, last: int = 150) -> int:
    """N(k) = ⌈√(k/K ((s₁ + 1)² - s₀²) + s₀²) - 1⌉ + 1, the number of noise levels (section 6.2).

    Args:
        done: k, the steps taken so far.
        steps: K, all of them.
        first: s₀.
        last: s₁.
    """
    return max(math.ceil(math.sqrt(done / steps * ((last + 1) ** 2 - first**2) + first**2) - 1), 1) + 1


def decay_of(levels: int, first: int = 2, decay: float = 0.95) -> float:
    """μ(k) = exp(s₀ ln μ₀ / (N(k) - 1)), the decay of the target for so many noise levels.

    Args:
        levels: N(k).
        first: s₀.
        decay: μ₀.
    """
    return math.exp(first * math.log(decay) / (levels - 1)) if decay else 0.0
