"""One score with everything to compare it with: further measures, the full-size score, chance, and rivals."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

from attar.core import notebook
from attar.core.score import Better, Score, Spread, kept

Values = tuple[tuple[float, ...], ...]
"""Values by artefact and repeat."""
Plain = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """One measured quantity."""

    score: Score
    """The score over all artefacts and repeats."""
    values: Values = ()
    """Values by artefact and repeat. Empty if only the score was stored."""

    @classmethod
    def of(cls, values: Sequence[Sequence[float]], unit: str = "%", better: Better = "higher", **more: Any) -> Self:
        """From values by artefact and repeat."""
        several = tuple(map(tuple, values))
        return cls(Score.of([value for row in several for value in row], unit, better), several, **more)

    @property
    def spread(self) -> Spread:
        """How the values vary between artefacts, apart from how they vary between repeats."""
        return Spread.of(self.values)

    @property
    def by_set(self) -> list[float]:
        """The mean of each artefact's repeats."""
        return [statistics.fmean(values) for values in self.values]

    def of_set(self, index: int) -> Self:
        """The same of one of the artefacts."""
        if len(self.values) <= 1:
            return self
        own = self.values[index]
        return replace(self, score=Score.of(own, self.score.unit, self.score.better), values=(own,))

    def to_json(self) -> Plain:
        """Plain values."""
        return {**score_json(self.score), "values": [[_finite(value) for value in row] for row in self.values]}

    @classmethod
    def from_json(cls, facts: Any) -> "Measure":
        """The inverse.

        Raises:
            ValueError: Something else than numbers.
        """
        rows = facts.get("values") or []
        return Measure(score_from(facts), tuple(tuple(map(_number, row)) for row in rows))


@dataclass(frozen=True)
class Beside:
    """A rival that was measured in the same way, to compare a score with."""

    label: str
    score: Score
    count: int | None = None
    """Size of the rival, in the unit of the artefact's size."""
    bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.label}: {self.score}" + (f" ({self.bytes:,} bytes)" if self.bytes is not None else "")


@dataclass(frozen=True)
class Cell(Measure):
    """The score of one column, such as one kind of network, with everything to compare it with."""

    column: str = ""
    """The network, or what is measured: `convnet`, `accuracy`, `angle`."""
    protocol: str = ""
    """The protocol by which networks were trained, in words: its name, and what was changed of it."""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """All settings of the protocol."""
    full: Score | None = None
    """The same score of the original, if it is known."""
    whole: str = "all the data"
    """What `full` was measured on."""
    chance: float | None = None
    """The score of always guessing the largest class."""
    kept_by_set: tuple[float | None, ...] = ()
    """The share that each artefact keeps, if each has its own original, such as its teacher."""
    further: Mapping[str, Measure] = field(default_factory=dict)
    """Further measures of the same networks, by name."""
    beside: tuple[Beside, ...] = ()
    """Rivals that were measured with the first artefact."""
    notes: tuple[str, ...] = ()
    """What else to know of the measurement, by artefact, such as a learned step size. Empty texts are left out."""

    @property
    def note(self) -> str:
        """The notes in one line, each once."""
        return "; ".join(dict.fromkeys(filter(None, self.notes)))

    @property
    def how(self) -> str:
        """The protocol with the notes; nothing if there is neither."""
        return ", ".join(filter(None, (self.protocol and f"{self.protocol} protocol", self.note)))

    @property
    def kept(self) -> float | None:
        """The share of the whole's score, in per cent."""
        known = [one for one in self.kept_by_set if one is not None]
        if known:
            return statistics.fmean(known)
        return None if self.full is None else kept(self.score, self.full)

    @property
    def kept_above_chance(self) -> float | None:
        """The share of the whole's score above chance, in per cent."""
        if self.full is None or self.chance is None:
            return None
        return kept(self.score, self.full, chance=self.chance)

    def of_set(self, index: int) -> Self:
        """The same of one of the artefacts; what stands beside was measured with the first."""
        return replace(
            super().of_set(index),
            kept_by_set=self.kept_by_set[index : index + 1],
            further={name: one.of_set(index) for name, one in self.further.items() if self._has(one, index)},
            beside=self.beside if index == 0 else (),
            notes=self.notes[index : index + 1],
        )

    def _has(self, measure: Measure, index: int) -> bool:
        """Whether a further measure is of an artefact too, or of the first of several only."""
        return index == 0 or len(measure.values) != 1 or len(self.values) == 1

    def to_json(self) -> Plain:
        """Plain values, with what was kept; what is not finite is null."""
        beside = [{**vars(other), "score": score_json(other.score)} for other in self.beside]
        return {
            "column": self.column,
            "protocol": self.protocol,
            "trained": dict(self.trained),
            **super().to_json(),
            "full": self.full and score_json(self.full),
            "whole": self.whole,
            "kept": _finite(self.kept),
            "kept_above_chance": _finite(self.kept_above_chance),
            "chance": _finite(self.chance),
            "further": {name: measure.to_json() for name, measure in self.further.items()},
            "beside": beside,
            **({"notes": list(self.notes)} if self.note else {}),
        }

    @classmethod
    def from_json(cls, facts: Any) -> "Cell":
        """The inverse.

        Raises:
            ValueError: Something else than a score.
        """
        measure = Measure.from_json(facts)
        others = [
            Beside(_text(one["label"]), score_from(one["score"]), _count(one.get("count")), _count(one.get("bytes")))
            for one in facts.get("beside") or []
        ]
        more = (facts.get("further") or {}).items()
        return cls(
            measure.score,
            measure.values,
            column=_text(facts["column"]),
            protocol=_text(facts.get("protocol") or ""),
            trained=facts["trained"] if isinstance(facts.get("trained"), dict) else {},
            full=score_from(facts["full"]) if facts.get("full") else None,
            whole=_text(facts.get("whole") or cls.whole),
            chance=None if facts.get("chance") is None else _number(facts["chance"]),
            kept_by_set=() if facts.get("kept") is None else (_number(facts["kept"]),),
            further={_text(name): Measure.from_json(one) for name, one in more if one.get("value") is not None},
            beside=tuple(others),
            notes=tuple(map(_text, facts.get("notes") or ())),
        )

    def _repr_html_(self) -> str:
        return notebook.table(("", self.how), self.lines)

    @property
    def with_it(self) -> str:
        """The further measures in one line."""
        return "; ".join(f"{name}: {measure.score}" for name, measure in self.further.items())

    @property
    def rivals(self) -> list[Beside]:
        """What the score is compared with: the whole, chance, and the rivals."""
        found = [Beside(self.whole, self.full)] if self.full is not None else []
        found += [Beside("always guessing", Score(self.chance, self.score.unit))] if self.chance is not None else []
        return [*found, *self.beside]

    @property
    def read_with(self) -> list[Beside]:
        """Everything that is shown with the score: further measures, and the rivals."""
        return [*(Beside(name, measure.score) for name, measure in self.further.items()), *self.rivals]

    @property
    def lines(self) -> list[list[str]]:
        """The score and everything that is shown with it: what each is called, and its value."""
        return [
            [self.column, str(self.score)],
            *([f"beside it, {one.label}", str(one.score)] for one in self.read_with),
        ]


def score_json(score: Score) -> Plain:
    """A score as plain values; what is not finite is null."""
    facts = {"value": _finite(score.value), "unit": score.unit, "better": score.better}
    facts |= {"spread": _finite(score.spread), "n": score.n}
    return facts if score.interval is None else {**facts, "interval": [_finite(end) for end in score.interval]}


def score_from(facts: Any) -> Score:
    """The inverse.

    Raises:
        ValueError: Something else than numbers.
    """
    better = facts.get("better", "higher")
    if better not in ("higher", "lower"):
        raise ValueError(better)
    count, spread, interval = _count(facts.get("n", 1)) or 1, facts.get("spread"), facts.get("interval")
    known = None if spread is None or count == 1 else _number(spread)
    ends = (_number(interval[0]), _number(interval[1])) if interval else None
    return Score(_number(facts["value"]), _text(facts.get("unit", "%")), cast("Better", better), known, count, ends)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _count(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not a count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value
