"""Test whether labels and a teacher's raw logits conflict in one classifier: the same losses at several learning rates.

In DHKD's first figure cross-entropy and BinaryKL on one head are worse than either alone, and two heads are best. This
holds at large learning rates, and may not hold at small ones, so one learning rate shows nothing (Yang, Zong, Huang,
Feng and An, KDD 2025, arXiv:2411.08937). The geometry that is said to collapse is reported with each accuracy
(`diagnosis`).
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attar.classifiers.alone import Alone
from attar.classifiers.dhkd import DHKD
from attar.classifiers.diagnosis import Diagnosis, diagnose
from attar.classifiers.distillation import Distillation
from attar.classifiers.kd import KD
from attar.classifiers.kind import KIND
from attar.classifiers.tasks import Distill, Teacher
from attar.core.errors import Diverged, InputError
from attar.core.runtime import Engine, Runtime
from attar.core.score import Interval, Score, paired
from attar.images.sources import ImageSource

RATES = (0.01, 0.02, 0.05, 0.1)
ONE, TWO = DHKD(head="shared", alignment="off"), DHKD(alignment="off")
HEADS: dict[str, Distillation] = {
    "CE": Alone(),
    "KD": KD(),
    "squared logits": replace(ONE, head_loss="squared", label_weight=0.0),
    "BinaryKL": replace(ONE, head_loss="binary", label_weight=0.0),
    "BinaryKL-Norm": replace(ONE, label_weight=0.0),
    "CE + BinaryKL, one head": replace(ONE, head_loss="binary"),
    "CE + BinaryKL-Norm, one head": ONE,
    "CE + BinaryKL, two heads": replace(TWO, head_loss="binary"),
    "CE + BinaryKL-Norm, two heads": TWO,
    "DHKD": DHKD(),
}
"""The paper's first figure, its direct ablations, and cheap baselines: the term of the labels, the term of the teacher,
both on one head, both on two heads, and both with aligned gradients."""


@dataclass(frozen=True)
class Cell:
    """One loss at one learning rate, for several seeds."""

    values: tuple[float, ...]
    """Accuracies on the test images in per cent. A run that diverged has the accuracy of guessing."""
    diagnoses: tuple[Diagnosis, ...]
    """Geometries on the training images of the runs that did not diverge."""

    @property
    def score(self) -> Score:
        """The mean accuracy."""
        return Score.of(list(self.values))


@dataclass(frozen=True)
class Sweep:
    """Losses by learning rates."""

    rates: tuple[float, ...]
    cells: Mapping[str, tuple[Cell, ...]]
    """For each name, one cell for every learning rate."""

    def against(self, name: str, rival: str) -> list[Interval]:
        """Differences of one loss from another, paired by seed, for every learning rate.

        Raises:
            InputError: A name is not part of the sweep.
        """
        for wanted in (name, rival):
            if wanted not in self.cells:
                raise InputError(f"{wanted!r} is not part of the sweep. Choose from: {', '.join(self.cells)}.")
        pairs = zip(self.cells[name], self.cells[rival], strict=True)
        return [paired(list(one.values), list(other.values)) for one, other in pairs]

    def to_json(self) -> dict[str, Any]:
        """The sweep as plain values."""
        return {
            "rates": list(self.rates),
            "rows": {name: [asdict(cell) for cell in row] for name, row in self.cells.items()},
        }

    def __str__(self) -> str:
        width = max(len(name) for name in self.cells)
        lines = [f"{'accuracy %':<{width}}" + "".join(f"{f'lr {rate:g}':>16}" for rate in self.rates)]
        for name, row in self.cells.items():
            lines.append(f"{name:<{width}}" + "".join(f"{_told(cell):>16}" for cell in row))
        lines.append("effective rank of the classifier")
        for name, row in self.cells.items():
            lines.append(f"{name:<{width}}" + "".join(f"{_rank(cell):>16}" for cell in row))
        return "\n".join(lines)


def sweep(
    source: ImageSource,
    teacher: nn.Module,
    rows: Mapping[str, Distillation] = HEADS,
    *,
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = (0, 1, 2),
    out: Path | None = None,
    engine: Engine | None = None,
    **settings: Any,
) -> Sweep:
    """Distill with every loss at every learning rate with every seed.

    Args:
        source: The images.
        teacher: The teacher of all students.
        rows: Methods by name.
        rates: Learning rates.
        seeds: Seeds of the students, equal for all methods, so that differences are paired.
        out: Folder of the runs. Runs that are finished there are read.
        engine: How to use the machine.
        settings: Settings of all methods, such as `student` and `epochs`.

    Raises:
        InputError: There are no rates, seeds or rows, or settings do not fit.
    """
    if not (rows and rates and seeds):
        raise InputError("a sweep needs at least one row, one rate and one seed.")
    cells: dict[str, tuple[Cell, ...]] = {}
    for name, method in rows.items():
        row = []
        for rate in rates:
            given = replace(method, **settings, lr=rate)
            folder = None if out is None else out / name.replace(",", "").replace(" ", "-") / f"lr-{rate:g}"
            found = [_run(source, given, teacher, seed, folder, engine) for seed in seeds]
            row.append(Cell(tuple(value for value, _ in found), tuple(told for _, told in found if told is not None)))
        cells[name] = tuple(row)
    return Sweep(tuple(rates), cells)


def _run(
    source: ImageSource,
    method: Distillation,
    teacher: nn.Module,
    seed: int,
    folder: Path | None,
    engine: Engine | None,
) -> tuple[float, Diagnosis | None]:
    """The accuracy and geometry of one student. If the loss diverged: the accuracy of guessing, and None."""
    runtime = Runtime(engine, seed)
    try:
        task = Distill(teacher=Teacher(network=teacher))
        made = task.run(method, source, runtime, kind=KIND, out=folder and folder / str(seed))
    except Diverged:
        return 100 / len(source.classes), None
    rows = torch.arange(len(source.train))[:5000]
    batches = [(source.inputs(part), source.targets[part]) for part in rows.split(512)]
    try:
        told = diagnose(made.network.cpu(), batches, len(source.classes))
    except InputError:
        told = None
    return made.scores["student"], told


def _told(cell: Cell) -> str:
    return cell.score.number


def _rank(cell: Cell) -> str:
    return f"{statistics.fmean(d.rank for d in cell.diagnoses):.1f}" if cell.diagnoses else "diverged"
