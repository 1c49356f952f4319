"""The student alone: training on labels without a teacher. Every teacher has to beat this baseline.

With `smoothing` it is the strongest baseline that needs no teacher.
"""

from dataclasses import dataclass

from attar.classifiers.distillation import Distillation


@dataclass(frozen=True, kw_only=True)
class Alone(Distillation):
    """Train the student on the labels: L = CE(z_s, y)."""

    name = "alone"
    needs_teacher = False
