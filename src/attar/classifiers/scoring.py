"""How classifiers are measured: on the test images, and on shifted or other ones if that is wanted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attar.core import tasks
from attar.core.settings import Words

if TYPE_CHECKING:
    from attar.core.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Scoring(tasks.Scoring):
    """Settings of the measurement, which trains nothing."""

    shifts: tuple[Literal["none", "rotate", "noise", "blur", "contrast"], ...] = ()
    """Shifts of the test images, each with a column for every strength: rotations by 15, 25 and 30 degrees, Gaussian
    noise of 0.1 and 0.25, blur, less contrast. Default: none; of a calibrated classifier rotate and noise."""
    beyond: Annotated[Any, Words()] = None
    """Further images with the same classes on which classifiers are tested, such as a folder of one's own. If they
    come without a split, all of them are taken."""

    def remember(self, artefacts: Sequence[Any], found: "Evaluation") -> None:
        """Keep the scores on the cards, and pictures of calibration beside the classifiers."""
        from attar.classifiers.calibration.pictures import TITLES
        from attar.core.pictures import keep

        for made, drawn in getattr(found, "drawn", ()):
            mine = any(made is one for one in artefacts)
            if mine and drawn and made.folder is not None and os.access(made.folder, os.W_OK):
                keep(made.folder, drawn, TITLES)
        super().remember(artefacts, found)

    def measure(self, artefacts: Sequence[Any], source: Any, runtime: Any) -> "Evaluation":
        """Accuracy with F1, calibration, the geometry of the features, and the bits of subclasses."""
        from attar.classifiers.score import measure

        return measure(artefacts, source, runtime, self)
