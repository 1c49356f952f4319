"""The rows of the page "Results": everything of `bench/results/` that says how good something is, in one form."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from results import RESULTS, recorded

from attar.core.score import Better, Interval, Score, paired

Gap = Callable[[str, str], object]
"""The difference of a method to a rival, by their names, as text with its interval."""
LABELS = ("hard", "soft", "taught", "")
"""What networks learn: classes, one soft label a sample, a teacher's answers; nothing where there are no labels."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured figure with what one needs to judge it."""

    kind: str
    data: str
    budget: str
    """What the method may use: images or graphs per class, components, calls, shots."""
    method: str
    labels: str
    """What networks learn: one of `LABELS`."""
    metric: str
    score: Score
    rival: str
    """What the method is compared with: the name of another row of the same data, budget and metric."""
    gap: str
    """The method's score minus the rival's, with its interval if it has one."""
    bytes: int | None
    command: str
    """What measures it again."""
    record: str
    """Its file in `bench/results/`, without its ending."""

    def to_json(self) -> dict[str, object]:
        """Plain values, for the table of the page and its plot."""
        facts = {name: value for name, value in vars(self).items() if name != "score"}
        score = self.score
        told = str(score) if score.unit == "%" else f"{score.number} {score.unit}".rstrip()
        facts |= {"value": score.value, "told": told, "better": score.better, "seeds": score.n}
        return facts | {"spread": score.spread, "unit": score.unit}


@dataclass(frozen=True, kw_only=True)
class Table:
    """What the rows of one table have in common."""

    kind: str
    command: str
    data: str
    metric: str
    budget: str = ""
    unit: str = "%"
    better: Better = "higher"
    labels: str = ""

    def of(
        self, values: Mapping[str, Sequence[float]], rival: str = "", *, labels: Mapping[str, str] | None = None
    ) -> Iterator[Row]:
        """Rows of values by method, with differences in pairs of seeds.

        Args:
            values: The values of each method, over sets or seeds.
            rival: The method that the others are compared with.
            labels: What networks learn, where it differs from `self.labels`.
        """
        scores = {name: Score.of(list(some), self.unit, self.better) for name, some in values.items()}

        def gap(one: str, other: str) -> str:
            mine, theirs = values[one], values[other]
            equally = len(mine) == len(theirs)
            return told(paired(mine, theirs), self.unit) if equally else minus(scores[one], scores[other])

        return self.of_scores(scores, rival, gap, labels=labels)

    def of_scores(
        self,
        scores: Mapping[str, Score],
        rival: str = "",
        gap: Gap | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> Iterator[Row]:
        """Rows of scores by method.

        Args:
            scores: The score of each method.
            rival: The method that the others are compared with.
            gap: The difference of a method to a rival. Default: of their means.
            labels: What networks learn, where it differs from `self.labels`.
            sizes: The bytes of each method.
        """
        for name, score in scores.items():
            alone = rival not in scores or name == rival
            told = "" if alone else str(gap(name, rival)) if gap else minus(score, scores[rival])
            yield Row(
                kind=self.kind,
                data=self.data,
                budget=self.budget,
                method=name,
                labels=(labels or {}).get(name, self.labels),
                metric=self.metric,
                score=score,
                rival="" if alone else rival,
                gap=told,
                bytes=(sizes or {}).get(name),
                command=self.command,
                record="",
            )

    def at(self, **changes: str) -> "Table":
        """The same with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def minus(score: Score, other: Score) -> str:
    """The difference of two means, in as many decimals as they are printed."""
    return told(Interval(score.value - other.value, -math.inf, math.inf), score.unit)


def told(found: Interval, unit: str) -> str:
    """A difference with its interval; without a unit in three significant digits."""
    if unit:
        return found.told(unit)
    known = math.isfinite(found.low) and math.isfinite(found.high)
    return f"{found.difference:+.3g}" + (f" [{found.low:+.3g}, {found.high:+.3g}]" if known else "")


def lacking(row: Row) -> str:
    """What a row lacks, in words; nothing if it is whole."""
    empty = [name for name in ("kind", "data", "method", "metric", "command", "record") if not getattr(row, name)]
    if empty:
        return f"no {' and no '.join(empty)}"
    score = row.score
    if not math.isfinite(score.value):
        return f"{row.metric} is {score.value}"
    if score.n < 1:
        return "no number of seeds"
    if score.n > 1 and (score.spread is None or not math.isfinite(score.spread)) and score.interval is None:
        return f"no spread over its {score.n} values"
    if row.labels not in LABELS:
        return f"labels are {row.labels!r}"
    return "" if row.bytes is None or row.bytes > 0 else f"{row.bytes} bytes"


@dataclass(frozen=True)
class Board:
    """All rows, and what was left out of them."""

    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    """A line for each row or file that cannot be shown: where it is from, and what it lacks."""

    def by_record(self) -> dict[str, int]:
        """The number of rows of each file."""
        counts: dict[str, int] = {}
        for row in self.rows:
            counts[row.record] = counts.get(row.record, 0) + 1
        return counts


def board() -> Board:
    """Every row of every record, whole rows only; what is left out is told."""
    from board_records import ELSEWHERE, READERS

    rows: list[Row] = []
    left: list[str] = []
    for name, read in READERS.items():
        if not (RESULTS / f"{name}.json").exists():
            left.append(f"{name}: nothing is recorded yet")
            continue
        try:
            found = list(read(recorded(name)))
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, StopIteration) as error:
            left.append(f"{name}: the file has another form than its reader expects ({type(error).__name__}: {error})")
            continue
        for row in (dataclasses.replace(one, record=name) for one in found):
            if lack := lacking(row):
                left.append(f"{name}, {row.data} {row.budget}, {row.method}: {lack}".replace(" ,", ","))
            else:
                rows.append(row)
    known = READERS.keys() | ELSEWHERE.keys()
    left += [f"{path.stem}: no reader" for path in sorted(RESULTS.glob("*.json")) if path.stem not in known]
    return Board(tuple(rows), tuple(left))
