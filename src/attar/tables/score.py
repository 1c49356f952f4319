"""The worth of a table: a classifier is trained on it and tested on real rows, for accuracy and for fairness by group.

A generator is measured over several tables decoded from it, and the spread over tables is told apart from that over
trainings. Intervals are over bootstrap samples of the test rows, each group as often as it is there. DPD at ½ rewards
whoever selects few, so that DPD at one selection rate for all stands beside it.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.cell import Beside, Cell, Measure, score_from
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row, kept_words
from attar.core.progress import as_text
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Better, Score
from attar.core.seeds import derived_seed
from attar.core.training import LONG, affordable
from attar.tables import quality
from attar.tables.design import design
from attar.tables.downstream import (
    BETTER,
    Answers,
    Learned,
    answers,
    columns_of,
    measures,
    of_each_row,
    privileged_group,
)
from attar.tables.fairness import resampled
from attar.tables.mitigation import RIVALS, Rival
from attar.tables.scoring import Scoring
from attar.tables.sources import Rows, TableSource

COLUMNS = ("accuracy", "AUROC", "DPD", "DPD at matched rate", "DPR", "EOD", "EOR", "disparate impact")
"""What is measured on the test rows, all in per cent."""
KEPT = ("accuracy", "AUROC")
"""Columns of which a share can be kept; a gap cannot."""
QUALITY: Mapping[str, Better] = {
    "density": "higher",
    "coverage": "higher",
    "α-precision": "higher",
    "β-recall": "higher",
    "authenticity": "higher",
    "marginals, total variation": "lower",
    "pairs, total variation": "lower",
    "two-sample AUC": "lower",
    "nearer to training than to test rows": "lower",
    "copies of training rows": "lower",
}
"""Further measures of the rows themselves; they stand with the accuracy."""
BESIDE_IT: Mapping[str, Sequence[str]] = {
    "accuracy": tuple(QUALITY),
    "AUROC": ("AUC(score → s)", "calibration error, worst group"),
    "DPD": ("selection rate",),
    "EOD": (
        "equal opportunity difference",
        "average odds difference",
        "predictive parity difference",
        "moved by s alone",
        "consistency",
    ),
}
"""Further measures of the same answers, by the column that they stand with."""
FEW = 20
"""Test rows of a group below which it is told that its rates say little."""
SOON = 5.0
"""Seconds from which it is told how long a measurement takes."""
OF_LABEL = "AUC(y|z)"
"""The name under which a fair teacher tells whether its code still knows the label."""
NEAR_CHANCE = 5.0
"""Points of AUC within which a label counts as forgotten."""
Values = dict[str, float]


@dataclass(frozen=True)
class Test:
    """The test rows with what everything measured on them shares."""

    source: TableSource
    privileged: int | None
    """The group that the others are compared with: that with the largest share of desirable outcomes among training
    rows. None if no column is sensitive."""
    rate: float
    """The selection rate at which all are compared."""
    draws: Float[Tensor, "draw row"]
    """How often each test row is in each bootstrap sample."""

    @classmethod
    def of(cls, source: TableSource, how: Scoring, runtime: Runtime) -> "Test":
        """The test rows of a source."""
        share = float(source.train.labels.double().mean())
        generator = torch.Generator().manual_seed(derived_seed(runtime.seed, "bootstrap of test rows"))
        groups = source.test.groups if source.schema.of_role("sensitive") else torch.zeros(len(source.test)).long()
        draws = resampled(groups, how.resamples, generator)
        return cls(source, privileged_group(source.train), share if how.selected is None else how.selected, draws)

    def measured(self, found: Answers) -> tuple[Values, dict[str, Tensor]]:
        """What answers are worth, in per cent, and the same of each bootstrap sample."""
        rows = self.source.test
        once = measures(found, rows, self.privileged, self.rate)
        often = measures(found, rows, self.privileged, self.rate, self.draws)
        return {name: 100 * float(value) for name, value in once.items()}, {n: 100 * v for n, v in often.items()}


@dataclass(frozen=True)
class Measurement(Evaluation):
    """What was measured, with what is needed to draw it."""

    source: TableSource | None = field(default=None, repr=False, compare=False)

    def _lines(self, row: Row) -> str:
        """A single row: each score, a table of what they are compared with, and further measures."""
        told = [f"{cell.column}: {cell.score}{self._size(row)}{kept_words(cell)}{self._of(cell)}" for cell in row.cells]
        rivals = list(dict.fromkeys(other.label for cell in row.cells for other in cell.rivals))
        if rivals:
            told += ["", as_text(_compared(row, rivals)), ""]
        further = [f"{name}: {one.score}" for cell in row.cells for name, one in cell.further.items()]
        return "\n".join([*told, *([f"further: {'; '.join(further)}"] if further else []), self._cost(row)])


def _compared(row: Row, rivals: Sequence[str]) -> Any:
    """What a row of scores is compared with: a line for each rival, a column for each score."""
    from rich.table import Table

    grid = Table(show_edge=False, pad_edge=False)
    grid.add_column("in %", no_wrap=True)
    for cell in row.cells:
        grid.add_column(cell.column, justify="right", no_wrap=True)
    grid.add_row(row.label, *(_shown(cell.score) for cell in row.cells))
    for label in rivals:
        scores = [next((one.score for one in cell.rivals if one.label == label), None) for cell in row.cells]
        grid.add_row(label, *(_shown(score) for score in scores))
    return grid


def _shown(score: Score | None) -> str:
    """A score without its interval; a dash where nothing was measured."""
    return "–" if score is None else dataclasses.replace(score, interval=None).number


def measure(tables: Sequence[Any], source: TableSource, how: Scoring, runtime: Runtime) -> Evaluation:
    """Train classifiers on tables and test them on real rows: a row for each method, a column for each measure.

    Args:
        tables: Synthetic tables, or chosen real rows.
        source: The table that they were made from.
        how: What is trained, and how often. Rivals are measured under `auto` only if there is a single row.
        runtime: The machine; its seed draws bootstrap samples, real rows and further tables.

    Raises:
        InputError: There is no table, or one has other columns than the source.
    """
    start = time.perf_counter()
    if not tables:
        raise InputError("there is no table to evaluate; give one or more.")
    for one in tables:
        _check(one, source, runtime)
    grouped = rows_of(tables, lambda one: {"rows": len(one.rows), "data": one.origin.fingerprint})
    if len(grouped) > 1 and how.beside == "auto":
        how = dataclasses.replace(how, beside="skip")
    test = Test.of(source, how, runtime)
    _say_of_groups(source, runtime)
    quality.classifier(how.downstream, 0)  # what is imported once is no part of the time of a table
    rows = tuple(_row(label, members, test, how, runtime) for label, members in grouped)
    taken = round(time.perf_counter() - start, 3)
    return Measurement(rows, "rows", "trainings", "tables", seconds=taken, source=source)


def _say_of_groups(source: TableSource, runtime: Runtime) -> None:
    """Tell which groups have so few test rows that their rates say little."""
    if not source.schema.of_role("sensitive"):
        return
    counts = torch.bincount(source.test.groups, minlength=len(source.schema.groups)).tolist()
    for name, count in zip(source.schema.groups, counts, strict=True):
        if count < FEW:
            runtime.say(f"note: few test rows of {name!r} ({count}), so that its rates say little.")


def _check(one: Any, source: TableSource, runtime: Runtime) -> None:
    """Whether a table has the columns of the source."""
    mine, theirs = columns_of(one.rows), columns_of(source.train)
    if mine != theirs:
        odd = next((name for name, *_ in mine if name not in [other for other, *_ in theirs]), None)
        what = f"column {odd!r}, which {source.name} lacks" if odd else f"other columns or levels than {source.name}"
        raise InputError(f"the table has {what}. Give the data that it was made from.")
    if not source.is_of(one.origin.fingerprint):
        runtime.say(f"note: the rows of {source.name} differ from those that this table was made from.")


def tables_of(one: Any, how: Scoring, runtime: Runtime) -> list[Rows]:
    """The tables of a generator that are measured: those that it kept, and further ones drawn from it."""
    found = list(one.tables)[: how.decoded]
    if one.generator is not None:
        for number in range(len(found), how.decoded):
            found.append(one.sample(len(one.rows), seed=derived_seed(runtime.seed, f"table {number}") % 2**31))
    return found


@dataclass(frozen=True)
class Found:
    """What was measured of the trainings of a row, and what they are compared with."""

    test: Test
    values: list[list[Values]]
    """By training and table."""
    samples: list[dict[str, Tensor]]
    """The bootstrap samples of each table."""
    notes: tuple[str, ...]
    codes: Mapping[str, Measure]
    beside: Sequence[tuple[str, int, list[Values]]]
    whole: Values | None

    def of(self, name: str) -> list[list[float]]:
        """A measure by training and table, of the tables that define it; NaN of a training of which none does."""
        known = [[v for one in tables if math.isfinite(v := one.get(name, math.nan))] for tables in self.values]
        return [some or [math.nan] for some in known]

    def measures(self, named: Sequence[str]) -> dict[str, Measure]:
        """Further measures, of those that every training defines."""
        found = {name: self.of(name) for name in named}
        whole = {name: one for name, one in found.items() if not any(math.isnan(row[0]) for row in one)}
        return {name: Measure.of(one, "%", {**BETTER, **QUALITY}[name]) for name, one in whole.items()}

    def cell(self, column: str) -> Cell:
        """A column of the row, with the scores to compare it with."""
        by_set, better = self.of(column), BETTER[column]
        flat = [value for row in by_set for value in row if math.isfinite(value)]
        interval = interval_of([one[column] for one in self.samples])
        score = dataclasses.replace(Score.of(flat or [math.nan], "%", better), interval=interval)
        full, whole = self.whole.get(column, math.nan) if self.whole else math.nan, len(self.test.source.train)
        rivals = [
            (label, count, [one.get(column, math.nan) for one in draws])
            for label, count, draws in self.beside
            if label != f"{whole:,} real rows"  # they stand there as all of them
        ]
        kept = column in KEPT and math.isfinite(full)
        rivals = rivals if kept else [(f"all {whole:,} real rows", whole, [full]), *rivals]
        return Cell(
            score,
            tuple(map(tuple, by_set)),
            column=column,
            full=Score(full, "%", better) if kept else None,
            whole=f"all {whole:,} real rows",
            chance=_chance(column, self.test),
            further={**self.measures(BESIDE_IT.get(column, ())), **(self.codes if column == "AUROC" else {})},
            beside=tuple(
                Beside(label, Score.of(known, "%", better), count)
                for label, count, draws in rivals
                if (known := [value for value in draws if math.isfinite(value)])
            ),
            notes=self._notes(column, lost=sum(map(len, self.values)) - len(flat)),
        )

    def _notes(self, column: str, lost: int) -> tuple[str, ...]:
        if column == "accuracy":
            return self.notes
        told = [f"{100 * self.test.rate:.1f} % selected"] if column == "DPD at matched rate" else []
        told += [f"not defined by {lost} tables, which are left out"] if lost else []
        return (", ".join(told),) * len(self.values) if told else ()


def _row(label: str, members: Sequence[Any], test: Test, how: Scoring, runtime: Runtime) -> Row:
    values: list[list[Values]] = []
    samples: list[dict[str, Tensor]] = []
    seconds = 0.0
    for number, one in enumerate(members, start=1):
        tables, found = tables_of(one, how, runtime), []
        for place, rows in enumerate(tables):
            began = time.perf_counter()
            once, often = _of_table(rows, place, test, how, runtime)
            seconds = time.perf_counter() - began
            samples.append(often)
            found.append(once | rows_like(test.source, rows, how, derived_seed(runtime.seed, f"quality {place}")))
            if number == 1 and place == 0:
                count = len(members) * len(tables)
                _say_how_long(label, count, time.perf_counter() - began, seconds, test, how, runtime)
        values.append(found)
        means = {
            name: _mean([once[name] for once in found]) for name in ("accuracy", "AUROC", "DPD") if name in found[0]
        }
        runtime.say(
            f"{label}: training {number} of {len(members)}, tables {len(tables)}, "
            + ", ".join(f"{name} {in_per_cent(value)}" for name, value in means.items())
        )
    notes = tuple(_notes(one, tables, runtime) for one, tables in zip(members, values, strict=True))
    beside = rivals_of(members[0], test, how, seconds, runtime)
    told = Found(test, values, samples, notes, _codes(members), beside, _whole(test, how, beside))
    first = members[0]
    columns = list(COLUMNS) if test.privileged is not None else ["accuracy", "AUROC"]
    return Row.of(label, members, list(map(told.cell, columns)), count=len(first.rows), full_count=first.origin.full)


def _say_how_long(
    label: str, tables: int, whole: float, single: float, test: Test, how: Scoring, runtime: Runtime
) -> None:
    """Tell how long the rest will take, from the time of the first table.

    Args:
        label: The row.
        tables: Its number of tables.
        whole: Seconds that the first table took.
        single: Those of them for the classifier alone.
        test: The test rows.
        how: The settings of the measurement.
        runtime: To say it.
    """
    rest, rivals = (tables - 1) * whole, 0.0
    if how.beside != "skip":
        costs = [rival.cost * single for rival in RIVALS if not (rival.by_group and test.privileged is None)]
        rivals = sum(cost for cost in costs if how.beside == "run" or cost <= LONG)
    parts = [f"about {duration(rest)} for {tables - 1} more of its tables"] if rest >= 1 else []
    parts += [f"about {duration(rivals)} for what it is compared with"] if rivals >= 1 else []
    if rest + rivals >= SOON:
        runtime.say(f"{label}: {', and '.join(parts)}")


def in_per_cent(value: float) -> str:
    """A value in words; one that no table defines as such."""
    return f"{value:.1f} %" if math.isfinite(value) else "undefined"


def duration(seconds: float) -> str:
    """A time in words."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _of_table(rows: Rows, place: int, test: Test, how: Scoring, runtime: Runtime) -> tuple[Values, dict[str, Tensor]]:
    seed = derived_seed(runtime.seed, f"downstream {place}")
    real = test.source.test
    learned = Learned.of(rows, how.downstream, sees_sensitive=how.sees_sensitive, seed=seed)
    once, often = test.measured(Answers.of(learned.scores(real)))
    some = _some(real, how.compared, torch.Generator().manual_seed(seed))
    single = of_each_row(learned, real, some, test.privileged)
    return once | {name: 100 * value for name, value in single.items()}, often


def interval_of(samples: Sequence[Float[Tensor, " draw"]]) -> tuple[float, float] | None:
    """The middle 95 % of bootstrap samples of the mean over tables; None if none is defined."""
    means = torch.stack(list(samples)).nanmean(dim=0)
    means = means[means.isfinite()]
    if not len(means):
        return None
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975]).double()).tolist()
    return low, high


def _chance(column: str, test: Test) -> float | None:
    """The score of one decision for everybody: fair, and of no use."""
    share = 100 * float(test.source.test.labels.double().mean())
    known = {"accuracy": max(share, 100 - share), "AUROC": 50.0, "DPD": 0.0, "DPD at matched rate": 0.0, "EOD": 0.0}
    return known.get(column)


# --------------------------------------------------------------------------------------------------- what is told of it


def _notes(one: Any, values: Sequence[Values], runtime: Runtime) -> str:
    """What to know of a training before its scores are read: whether its code, or its tables, forgot the label."""
    told, known = [], codes_of(one).get(OF_LABEL)
    if known is not None and known.value <= 50 + NEAR_CHANCE:
        told.append(f"collapsed: a classifier reads the label from the code with an AUC of {known.value:.1f} %")
    worth = _mean([table["AUROC"] for table in values])
    if abs(worth - 50) <= NEAR_CHANCE:
        told.append(f"its tables have forgotten the label: AUROC {worth:.1f} %")
    for line in told:
        runtime.say(f"note: {line}. What looks fair here is the loss of the label.")
    return ", ".join(told)


def codes_of(one: Any) -> dict[str, Score]:
    """What was measured when a table was made, by name, such as what classifiers read from the code of its teacher."""
    kept = one.scores or ()
    cells = kept if not isinstance(kept, Mapping) else [{"column": name, "value": kept[name]} for name in kept]
    found = {}
    for cell in cells:
        name, score = _told(cell)
        if score is not None and name.startswith("AUC") and not score.unit:
            score = dataclasses.replace(score, value=100 * score.value, unit="%")
        if score is not None and math.isfinite(score.value):
            better: Better = "lower" if name.startswith(("AUC(s", "V²")) else "higher"
            found[name] = dataclasses.replace(score, better=better)
    return found


def _told(cell: Any) -> tuple[str, Score | None]:
    """The name and the score of a cell, of its JSON, or of a plain number; no score of anything else."""
    if isinstance(cell, Cell):
        return cell.column, cell.score
    try:
        value = cell["value"]
        return cell["column"], score_from(value if isinstance(value, Mapping) else {"unit": "", **cell, "value": value})
    except (AttributeError, LookupError, TypeError, ValueError):
        return "", None


def _codes(members: Sequence[Any]) -> dict[str, Measure]:
    told = [codes_of(one) for one in members]
    return {
        name: Measure.of([[one[name].value] for one in told], first.unit, first.better)
        for name, first in told[0].items()
        if all(name in one for one in told)
    }


def rows_like(source: TableSource, rows: Rows, how: Scoring, seed: int) -> Values:
    """How like real rows a table is, in per cent; without the distances where there are too few rows for them."""
    generator = torch.Generator().manual_seed(seed)
    single = quality.marginal_variation(source.train, rows)
    pairs = quality.pair_variation(source.train, rows)
    told = {
        "marginals, total variation": statistics.fmean(single.values()),
        "pairs, total variation": statistics.fmean(pairs.values()),
    }
    real, test, synthetic = source.train, source.test, rows
    made = design(real.schema, with_sensitive=True, with_label=True).fit(real)
    count = min(len(real), len(test), how.compared)
    parts = [made.matrix(part.select(_some(part, count, generator))) for part in (real, test, synthetic)]
    train, held_out, fake = parts
    if min(map(len, parts)) > 5:
        density, coverage = quality.density_and_coverage(train, fake)
        told |= {
            "density": density,
            "coverage": coverage,
            "α-precision": quality.alpha_precision(train, fake)[0],
            "β-recall": quality.beta_recall(train, fake)[0],
            "authenticity": quality.authenticity(train, fake),
            "two-sample AUC": quality.two_sample_auc(held_out, fake, generator, how.downstream),
            "nearer to training than to test rows": quality.closest_record(fake, train, held_out),
            "copies of training rows": quality.copies(fake, made.matrix(real)),
        }
    return {name: 100 * value for name, value in told.items()}


def _some(rows: Rows, count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(rows), generator=generator)[:count]


# ----------------------------------------------------------------------------------------------------------- the rivals


def rivals_of(
    first: Any, test: Test, how: Scoring, seconds: float, runtime: Runtime
) -> list[tuple[str, int, list[Values]]]:
    """Of each rival its label, its number of rows, and what was measured in each draw of so many real rows.

    Args:
        first: The first table of the row, as large as which rivals are.
        test: The test rows.
        how: The settings of the measurement.
        seconds: How long one downstream classifier took.
        runtime: The machine and the seed.
    """
    if how.beside == "skip":
        return []
    train, found = test.source.train, []
    count = min(len(first.rows), len(train))
    for rival in RIVALS:
        if rival.by_group and test.privileged is None:
            continue
        if rival.missing:
            runtime.say(f"{rival.name} is not measured beside it, since {rival.library} is not installed.")
            continue
        draws = 1 if count == len(train) else rival.draws
        if not affordable(rival.name, rival.cost * draws * seconds, how.beside, runtime):
            continue
        runtime.say(f"beside it, {rival.name} on {count:,} real rows")
        told, refused = [], ""
        for draw in range(draws):
            try:
                told.append(_of_rival(rival, _drawn(train, count, draw, runtime), test, how, draw, runtime))
            except InputError as error:
                refused = str(error)
        if refused:
            left = "is left out" if not told else f"is left out in {draws - len(told)} of {draws} draws"
            runtime.say(f"{rival.name} {left}: {refused}.")
        size = f"{count:,} real row{'s' if count > 1 else ''}"
        if told:
            found.append((size if rival.name == "real rows" else f"{rival.name}, {size}", count, told))
    return found


def _of_rival(rival: Rival, rows: Rows, test: Test, how: Scoring, draw: int, runtime: Runtime) -> Values:
    seed = derived_seed(runtime.seed, f"downstream {draw}")
    return test.measured(rival.answer(rows, test.source.test, how.downstream, seed))[0]


def _drawn(train: Rows, count: int, draw: int, runtime: Runtime) -> Rows:
    """So many real rows by chance; all of them in their order where that is all."""
    if count == len(train):
        return train
    generator = torch.Generator().manual_seed(derived_seed(runtime.seed, f"real rows {draw}"))
    return train.select(_some(train, count, generator))


def _whole(test: Test, how: Scoring, beside: Sequence[tuple[str, int, list[Values]]]) -> Values | None:
    """What the classifier is worth that is trained on all real rows; None if rivals are not measured."""
    if how.beside == "skip":
        return None
    train = test.source.train
    for _, count, told in beside[:1]:
        if count == len(train):
            return told[0]
    found = answers(train, test.source.test, how.downstream, sees_sensitive=how.sees_sensitive)
    return test.measured(found)[0]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return statistics.fmean(known) if known else math.nan
