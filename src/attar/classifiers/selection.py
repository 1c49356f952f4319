"""Which epoch's student is kept: the last one's, or the best one's on training images that are held out for it.

The field's scripts differ. RepDistiller's report the last epoch; mdistiller's, ND's and DHKD's keep the epoch that is
best on the test images, on which it is then reported, and which so flatters it. Here the test images are read once, at
the end: an epoch is chosen on a share of the training images, of which the student learns nothing.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from attar.classifiers.score import f1_scores
from attar.classifiers.teacher import class_logits_of
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.sources import ImageSource, held_out

Keep = Literal["last", "accuracy", "f1"]


def parted(source: ImageSource, share: float, seed: int) -> ImageSource:
    """The same data with a share of each class's training images held out, which stand where the test images were.

    Raises:
        InputError: A share that holds nothing out, or leaves nothing of a class.
    """
    rows = held_out(source, seed, share)
    rest = source.without(rows)
    if not len(rows) or not all(map(len, rest.rows_of)):
        what = "none" if not len(rows) else "all of a class"
        raise InputError(f"held_out of {share:g} takes {what} of {len(source.train)} training images; give another.")
    return dataclasses.replace(rest, test=source.train.select(rows))


def score_held_out(
    student: nn.Module, source: ImageSource, runtime: Runtime, group: tuple[int, ...] | None, keep: Keep
) -> float:
    """Accuracy or F1 on the images held out, in per cent, as the student is tested: by classes, in evaluation.

    Args:
        student: Gives a logit for every class, or for every subclass.
        source: What `parted` makes.
        runtime: The machine.
        group: The class of every logit, where those are subclasses.
        keep: By what. F1 is of the second of two classes, the rare one by custom; else the mean over classes.
    """
    known = group is None or len(group) == len(source.classes)
    logits, labels = class_logits_of(student, source, runtime, group, known=known)
    if keep == "accuracy":
        return 100 * int((logits.argmax(dim=1) == labels).sum()) / len(labels)
    macro, second = f1_scores(logits, labels)
    return macro if second is None else second


@dataclass
class Best:
    """The best student so far, checkpointed beside the one that learns on."""

    network: nn.Module
    epoch: int = 0
    """Its epoch, from 1 on; 0 until one has ended."""
    score: float = 0.0
    """In per cent, on the images held out."""

    def see(self, student: nn.Module, epoch: int, score: float) -> None:
        """Keep a student that is no worse: of equals the later, which has learned longer by smaller steps."""
        if score >= self.score:
            self.network.load_state_dict(student.state_dict())
            self.epoch, self.score = epoch, score

    def told(self, keep: Keep) -> dict[str, Any]:
        """What an artefact's scores say of it."""
        return {"epoch": self.epoch, f"held_out_{keep}": self.score} if self.epoch else {}
