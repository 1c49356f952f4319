"""The choice of the epoch whose student is kept: the last one, or the best one on held-out training images.

The field's scripts differ. RepDistiller reports the last epoch. mdistiller, ND and DHKD keep the epoch that is best on
the test images and report it on the same images, which makes it look better than it is. Here the test images are read
once, at the end. The epoch is chosen on a share of the training images from which the student does not learn.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Int
from torch import Tensor, nn

from attar.classifiers.score import f1_scores
from attar.classifiers.teacher import class_logits_of
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.images.sources import ImageSource, held_out

Keep = Literal["last", "accuracy", "f1"]


def parted(source: ImageSource, share: float, seed: int) -> ImageSource:
    """The same data with a share of each class's training images held out. They replace the test images.

    Raises:
        InputError: The share holds out no image, or leaves no image of a class.
    """
    rows = _apart(source, share, seed, "held_out")
    return dataclasses.replace(source.without(rows), test=source.train.select(rows))


def reserved_rows(source: ImageSource, share: float, seed: int) -> Int[Tensor, " row"]:
    """The training rows that nothing is trained or chosen on: a share of each class, drawn by the seed of the run.

    Raises:
        InputError: The share holds out no image, or leaves no image of a class.
    """
    return _apart(source, share, derived_seed(seed, "reserved"), "reserved")


def _apart(source: ImageSource, share: float, seed: int, what: str) -> Int[Tensor, " row"]:
    """A share of each class's training rows."""
    rows = held_out(source, seed, share)
    if not len(rows) or not all(map(len, source.without(rows).rows_of)):
        taken = "none" if not len(rows) else "all of a class"
        raise InputError(
            f"{what} of {share:g} takes {taken} of {len(source.train)} training images. Give another share."
        )
    return rows


def score_held_out(
    student: nn.Module, source: ImageSource, runtime: Runtime, group: tuple[int, ...] | None, keep: Keep
) -> float:
    """Accuracy or F1 on the held-out images in per cent.

    The student is tested as at the end: on classes, in evaluation.

    Args:
        student: A network with a logit for every class or every subclass.
        source: The data that `parted` returns.
        runtime: The machine.
        group: The class of every logit, if the logits are subclasses.
        keep: The measure. F1 is that of the second of two classes, by custom the rare one; otherwise the mean over
            classes.
    """
    known = group is None or len(group) == len(source.classes)
    logits, labels = class_logits_of(student, source, runtime, group, known=known)
    if keep == "accuracy":
        return 100 * int((logits.argmax(dim=1) == labels).sum()) / len(labels)
    macro, second = f1_scores(logits, labels)
    return macro if second is None else second


@dataclass
class Best:
    """The best student so far, checkpointed beside the one that is being trained."""

    network: nn.Module
    epoch: int = 0
    """Number of its epoch, from 1; 0 before the first epoch has ended."""
    score: float = 0.0
    """Its score on the held-out images in per cent."""

    def see(self, student: nn.Module, epoch: int, score: float) -> None:
        """Keep a student that is at least as good. The later of two equal ones has learned longer, at smaller steps."""
        if score >= self.score:
            self.network.load_state_dict(student.state_dict())
            self.epoch, self.score = epoch, score

    def told(self, keep: Keep) -> dict[str, Any]:
        """The entries for an artefact's scores."""
        return {"epoch": self.epoch, f"held_out_{keep}": self.score} if self.epoch else {}
