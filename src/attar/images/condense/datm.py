"""DATM: trajectory matching with learned soft labels, over the epochs of the experts that suit the set's size.

Try it first among the methods that match trajectories. Few images learn from early epochs, many from late epochs, and
soft labels carry information that images cannot. With many images per class it is the first to keep nearly all
accuracy.
Guo, Wang, Cazenavette, Li, Zhang and You, Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory
Matching, ICLR 2024, arXiv:2310.05773.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.settings import Range, Role
from attar.images.condense.ftd import FLAT
from attar.images.condense.starts import Start
from attar.images.condense.trajectory import (
    Distilling,
    Images,
    LabelLogits,
    TrajectoryMatching,
    expert_labels,
    recognised,
)
from attar.images.experts import Experts
from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class DATM(TrajectoryMatching):
    """Match trajectories of the right difficulty (Guo et al., ICLR 2024, arXiv:2310.05773).

    The loss is MTT's. Students learn softmax(Y), where the label logits Y are learned together with the images. The
    images start from real images that an expert classifies correctly, and Y from the mean logits of such experts.
    Students start between `first_start` and a bound that grows to `last_start`. A loss above `gate` updates nothing.
    """

    labels: Literal["hard", "soft"] = "soft"
    start: Literal[Start, "recognised"] = "recognised"  # type: ignore[assignment]
    """What the result is before the first step: random real images (real), Gaussian noise (noise), real images that
    experts classify correctly (recognised), or the result of the selection method of that name."""
    gate: Annotated[float, Range(0)] | None = 1.5
    experts: Annotated[Experts, Role()] = field(default_factory=lambda: FLAT)
    """Training of the experts, and the folder that holds them."""

    name = "datm"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value."""
        if self.start == "recognised":
            self.check_enough(source)
        return super().resolve(source, runtime)

    def initial(self, state: Distilling, runtime: Runtime) -> tuple[Images, LabelLogits | None]:
        """Real images that experts classify correctly, and the mean logits of these experts."""
        if self.start != "recognised":
            return super().initial(state, runtime)
        images = state.source.inputs(recognised(state, self.ipc, runtime))
        return images, expert_labels(images, state, runtime) if self.labels == "soft" else None

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one released configuration (`attar condense datm --paper` lists them).

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc)
