"""DATM: trajectory matching with learned soft labels, over the epochs of the experts that suit the set's size.

Try it first among the methods that match trajectories. Few images learn from early epochs, many from late epochs, and
soft labels carry information that images cannot. With many images per class it is the first to keep nearly all
accuracy.
Guo, Wang, Cazenavette, Li, Zhang and You, Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory
Matching, ICLR 2024, arXiv:2310.05773.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

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
    whole_cell,
)
from attar.images.experts import Experts
from attar.images.sources import ImageSource

EXPERTS = Experts(experts=100, epochs=100, flat_radius=0.01, flat_gap=0.3)


def _cell(
    steps: int, batch: int, lr: float, label_lr: float, starts: tuple[int, int | None, int], **others: Any
) -> dict[str, Any]:
    first, current, last = starts
    named = {"student_steps": steps, "batch": batch, "lr": lr, "label_lr": label_lr}
    return {**named, "first_start": first, "grow_from": current, "last_start": last, "gate": 1.0, **others}


TABLE: dict[tuple[str, int], dict[str, Any]] = {
    ("cifar10", 1): _cell(80, 10, 100, 5, (0, None, 4), gate=1.1, lr_lr=1e-7),
    ("cifar10", 10): _cell(80, 100, 100, 2, (0, 10, 20), grow_over=1000),
    ("cifar10", 50): _cell(80, 500, 1000, 2, (0, 20, 40), grow_over=2000),
    ("cifar10", 500): _cell(40, 1000, 50, 10, (40, None, 60)),
    ("cifar10", 1000): _cell(100, 1000, 50, 10, (40, None, 60)),
    ("cifar100", 1): _cell(40, 1000, 1000, 10, (0, 10, 20), grow_over=1000, span=3),
    ("cifar100", 10): _cell(80, 1000, 1000, 10, (0, 30, 50), grow_over=2000),
    ("cifar100", 50): _cell(80, 1000, 1000, 10, (20, None, 70), start="real"),
    ("cifar100", 100): _cell(80, 1000, 50, 10, (30, None, 70)),
    ("tiny-imagenet", 1): _cell(40, 1000, 1e4, 10, (0, 15, 20), grow_over=2000, lr_lr=1e-4),
    ("tiny-imagenet", 10): _cell(40, 500, 100, 10, (10, None, 50), lr_lr=1e-4),
    ("tiny-imagenet", 50): _cell(20, 1000, 100, 10, (40, None, 70), lr_lr=1e-4),
}
"""The released configurations. (There CIFAR-100 at 50 takes its labels from one expert; here it takes them from
all.)"""


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
        """The settings of one released configuration.

        Raises:
            InputError: There is no configuration of the cell.
        """
        return cls(ipc=ipc, steps=10_000, zca=True, experts=EXPERTS, **whole_cell(TABLE, data, ipc, "DATM"))
