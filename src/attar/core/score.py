"""One measurement: a mean with its unit, its spread and the number of values; and confidence intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Better = Literal["higher", "lower"]
DECIMALS = {"nats": 4, "rad": 5, "×": 2, "bits": 3, "ms": 3}
"""Number of decimals that are shown, by unit. One for all other units; four significant digits without a unit."""


@dataclass(frozen=True)
class Score:
    """A measured mean."""

    value: float
    unit: str = "%"
    better: Better = "higher"
    spread: float | None = None
    """Sample standard deviation of the `n` values (divided by n - 1); None for a single value, which has none."""
    n: int = 1
    interval: tuple[float, float] | None = None
    """The 95 % interval, if the measurement gives one."""

    @classmethod
    def of(cls, values: Sequence[float], unit: str = "%", better: Better = "higher") -> "Score":
        """The score of repeated measurements."""
        spread = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), unit, better, spread, len(values))

    @property
    def number(self) -> str:
        """The value with its spread or its interval, without its unit."""
        text = shown(self.value, self.unit)
        if self.spread is not None:
            text += f" ± {shown(self.spread, self.unit)}"
        if self.interval is not None:
            low, high = (shown(end, self.unit) for end in self.interval)
            text += f" [{low}, {high}]"
        return text

    def __str__(self) -> str:
        return self.number if math.isnan(self.value) else f"{self.number} {self.unit}".rstrip()

    def _repr_html_(self) -> str:
        return escape(str(self))


def shown(value: float, unit: str = "%", *, sign: str = "") -> str:
    """A value in as many decimals as its unit has; one that is not defined in words."""
    if math.isnan(value):
        return "undefined"
    return f"{value:{sign}.{DECIMALS.get(unit, 1)}f}" if unit else f"{value:{sign}.4g}"


def kept(score: Score, full: Score, *, chance: float = 0.0) -> float | None:
    """How much of the full-size score is kept, in per cent; above chance when `chance` is given.

    None where nothing can be kept: the full-size score is not above chance, less is better, or a score is not finite.
    """
    if score.better == "lower" or not full.value > chance:
        return None
    share = 100 * (score.value - chance) / (full.value - chance)
    return share if math.isfinite(share) and math.isfinite(full.value) else None


@dataclass(frozen=True)
class Spread:
    """How repeated measurements vary: between sets, and between the networks trained on one set."""

    sets: float | None
    """Standard deviation between sets, without the share of their networks. None for a single set."""
    networks: float | None
    """Standard deviation between networks on the same set; None for one network a set."""

    @classmethod
    def of(cls, values: Sequence[Sequence[float]]) -> "Spread":
        """From values by set and network: σ²_sets = variance of the sets' means - σ²_networks / networks per set.

        The usual estimates of a one-way analysis of variance, without bias and cut off at zero.
        """
        inside = [statistics.variance(by_network) for by_network in values if len(by_network) > 1]
        networks = statistics.fmean(inside) if inside else None
        sets = None
        if len(values) > 1:
            between = statistics.variance([statistics.fmean(by_network) for by_network in values])
            share = (networks or 0.0) * statistics.fmean([1 / len(by_network) for by_network in values])
            sets = math.sqrt(max(between - share, 0.0))
        return cls(sets, None if networks is None else math.sqrt(networks))


@dataclass(frozen=True)
class Interval:
    """A difference of two means with its 95 % confidence interval."""

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the two means differ at the 95 % level."""
        return self.low > 0 or self.high < 0

    def told(self, unit: str = "%") -> str:
        """The difference and its interval as text. Two single values have no interval."""
        text = shown(self.difference, unit, sign="+")
        if not math.isfinite(self.low) or not math.isfinite(self.high):
            return text
        return f"{text} [{shown(self.low, unit, sign='+')}, {shown(self.high, unit, sign='+')}]"

    def to_json(self) -> dict[str, float | None]:
        """Plain values; an end that is not finite is null."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}

    def __str__(self) -> str:
        return self.told()


def welch(first: Sequence[float], second: Sequence[float]) -> Interval:
    """The mean of `first` minus that of `second`, with Welch's 95 % interval for unequal variances.

    A side with a single value has no spread of its own and is given the other's.
    """
    difference = statistics.fmean(first) - statistics.fmean(second)
    variances = [statistics.variance(side) if len(side) > 1 else math.nan for side in (first, second)]
    known = [v for v in variances if not math.isnan(v)]
    if not known:
        return Interval(difference, -math.inf, math.inf)
    terms = [(known[0] if math.isnan(v) else v) / len(side) for v, side in zip(variances, (first, second), strict=True)]
    freedoms = [max(len(side) - 1, 0) for side in (first, second)]
    error = math.sqrt(sum(terms))
    if error == 0:
        return Interval(difference, difference, difference)
    weights = [term**2 / freedom for term, freedom in zip(terms, freedoms, strict=True) if freedom]
    degrees = sum(terms) ** 2 / sum(weights) if all(freedoms) else max(freedoms)
    return around(difference, error, degrees)


def paired(first: Sequence[float], second: Sequence[float], comparisons: int = 1) -> Interval:
    """The mean of `first` minus `second`, measured in pairs (the same seeds), with Student's 95 % interval.

    With several comparisons it is one that holds for all of them at once (Bonferroni).

    Raises:
        ValueError: Unequally many values.
    """
    differences = [one - other for one, other in zip(first, second, strict=True)]
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return Interval(mean, -math.inf, math.inf)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return around(mean, error, len(differences) - 1, comparisons)


def around(mean: float, error: float, degrees: float, comparisons: int = 1) -> Interval:
    """Student's 95 % interval around a mean with a standard error of so many degrees of freedom, for comparisons."""
    from scipy import stats

    margin = float(stats.t.ppf(1 - 0.025 / comparisons, degrees)) * error
    return Interval(mean, mean - margin, mean + margin)
