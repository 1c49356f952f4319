"""What a classifier of rows is worth on test rows, beside accuracy and calibration, and what others make of the rows.

With a sensitive column these are the measures by group that synthetic tables have too. Its rivals are gradient-boosted
trees on the training rows that it has seen, and the more frequent label for everybody.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.encoder import Answer, Measures
from attar.classifiers.selection import reserved_rows
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.tables.downstream import BETTER, Answers, Learned, measures, of_each_row, privileged_group
from attar.tables.encoder import RowEncoder, pixels, seen_through
from attar.tables.mitigation import constant
from attar.tables.sources import Rows, TableSource

COMPARED = 2000
"""Most rows whose neighbours are looked for."""


@dataclass(frozen=True)
class Answering:
    """A network as what gives each row the probability of the desirable outcome."""

    encoder: RowEncoder
    positive: int
    """The number of the class that is the desirable outcome."""
    answer: Answer

    def scores(self, rows: Rows) -> Float[Tensor, " row"]:
        """The probability of the desirable outcome."""
        images = pixels(self.encoder.matrix(rows))
        parts = [self.answer(part).double().softmax(dim=1)[:, self.positive] for part in images.split(4096)]
        return torch.cat(parts).cpu()


def judged(encoder: RowEncoder, table: TableSource, classes: tuple[str, ...], answer: Answer) -> Measures:
    """The measures of a classifier but its accuracy.

    Args:
        encoder: What makes input of rows.
        table: The table.
        classes: The classes of the classifier, in order.
        answer: Its logits for network input.
    """
    learned = Answering(encoder, classes.index(table.schema.positive), answer)
    found = _told(table, learned)
    return {name: value for name, value in found.items() if name != "accuracy"}


def rivals(table: TableSource, made: Any, encoder: RowEncoder, runtime: Runtime) -> dict[str, Measures]:
    """The measures of others that learn from the training rows of a classifier.

    Args:
        table: The table.
        made: The classifier.
        encoder: What makes input of rows.
        runtime: The machine and the seed.
    """
    train = table.train.select(_learned_from(table, made, encoder))
    trees = Learned.of(train, seed=derived_seed(runtime.seed, "downstream 0"))
    majority = _named(measures(constant(train, table.test, "hgb", 0), table.test, *_compared(table)))
    del majority["accuracy"]  # an evaluation tells it as that of always guessing
    return {
        f"gradient-boosted trees, {len(train):,} rows": _told(table, trees),
        "the more frequent label": majority,
    }


def _learned_from(table: TableSource, made: Any, encoder: RowEncoder) -> Tensor:
    """The training rows that are not reserved for calibrating."""
    images, settings = seen_through(encoder, table), made.origin.settings
    rows = torch.ones(len(table.train), dtype=torch.bool)
    if settings.get("reserved") and images.is_of(made.origin.fingerprint, made.transform):
        rows[reserved_rows(images, settings["reserved"], made.origin.seed)] = False
    return rows.nonzero().flatten()


def _told(table: TableSource, learned: Any) -> Measures:
    """All measures of what has `scores` of rows."""
    privileged, rate = _compared(table)
    found = measures(Answers.of(learned.scores(table.test)), table.test, privileged, rate)
    generator = torch.Generator().manual_seed(derived_seed(0, "rows whose neighbours are looked for"))
    some = torch.randperm(len(table.test), generator=generator)[:COMPARED]
    return _named({**found, **of_each_row(learned, table.test, some, privileged)})


def _compared(table: TableSource) -> tuple[int | None, float]:
    """The group that others are compared with, and the selection rate at which gaps are compared."""
    return privileged_group(table.train), float(table.train.labels.double().mean())


def _named(values: Mapping[str, Any]) -> Measures:
    """Values from 0 to 1 as measures in per cent; without those that are not defined."""
    known = {name: 100 * float(values[name]) for name in BETTER if name in values}
    return {name: (value, "%", BETTER[name]) for name, value in known.items() if math.isfinite(value)}
