"""The student alone: what it learns from the labels, which every teacher has to beat.

With `smoothing` it is the strongest rival that needs no teacher.
"""

from dataclasses import dataclass

from attar.classifiers.distillation import Distillation


@dataclass(frozen=True, kw_only=True)
class Alone(Distillation):
    """Train the student on the labels: L = CE(z_s, y)."""

    name = "alone"
    needs_teacher = False
