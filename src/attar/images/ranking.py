"""DD-Ranking's scores of a condensed set, which count what its images are worth apart from its labels.

Soft labels of a teacher can carry any images. So a set is compared twice: with all real images under hard labels, and
with random real images under its own protocol. (Li, Zhong, Khaki et al., DD-Ranking: Rethinking the Evaluation of
Dataset Distillation, 2025, arXiv:2505.13300). The released code and its board call DDRS the label-robust score, LRS.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from attar.core.cell import Beside, Cell, Measure, Values
from attar.core.score import Score

HARD, RANDOM, SAME = "with hard labels", "random, as many images", ", same teacher"
"""How the labels begin of what stands beside a score and is used here."""


def hard_label_recovery(all_real: float, hard: float) -> float:
    """HLR: the accuracy of all real images minus that of the set, both with hard labels. Less is better."""
    return all_real - hard


def improvement_over_random(own: float, random: float) -> float:
    """IOR: the accuracy of the set minus that of as many random images, both by the set's own protocol."""
    return own - random


def robust_score(hlr: float, ior: float, weight: float = 0.5) -> float:
    """DDRS = (exp α - exp -1) / (exp 1 - exp -1) with α = w IOR - (1 - w) HLR, which lies between 0 and 1.

    Args:
        hlr: Of accuracies between 0 and 1.
        ior: The same.
        weight: w, the share of the improvement over random images.
    """
    alpha = weight * ior - (1 - weight) * hlr
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


def with_robust_scores(cell: Cell, *, hard: bool, random: str = RANDOM) -> Cell:
    """A score with HLR, IOR and DDRS in per cent among its further measures, each if what it is made of was measured.

    Of several sets, those whose parts were measured for the first set only are told of the first.

    Args:
        cell: The score, with the score of all real images and with what stands beside it.
        hard: Whether the set was trained on with hard labels, so that its score is that with hard labels.
        random: How the label begins of random images that were trained on by the same protocol.
    """
    by_set, own = [[value] for value in cell.by_set], _named(cell.beside, HARD)
    plain = by_set if hard else [[own.value]] if own else []
    found: dict[str, Values] = {}
    if cell.full is not None and plain:
        full = cell.full.value
        found["HLR"] = _rows(hard_label_recovery(full, one) for (one,) in plain)
    if (drawn := _named(cell.beside, random)) is not None:
        found["IOR"] = _rows(improvement_over_random(one, drawn.value) for (one,) in by_set)
    if len(found) == 2:
        pairs = zip(found["HLR"], found["IOR"], strict=False)
        found["DDRS"] = _rows(100 * robust_score(hlr / 100, ior / 100) for (hlr,), (ior,) in pairs)
    measures = {
        name: Measure.of(values, better="lower" if name == "HLR" else "higher") for name, values in found.items()
    }
    return replace(cell, further={**cell.further, **measures})


def _rows(values: Iterable[float]) -> Values:
    return tuple((value,) for value in values)


def _named(beside: Sequence[Beside], label: str) -> Score | None:
    """The first score whose label begins so: of two step sizes the better one stands first."""
    return next((one.score for one in beside if one.label.startswith(label)), None)
