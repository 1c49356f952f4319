"""A table as levels, one of which each value has, and back: what an encoder reads and a decoder says.

Categories keep their levels, so that they come back exactly. Numbers are cut into bins, with edges of the training
rows; what lies inside a bin is drawn, is the bin's median, or is learned. Or a number is a share of its range, as the
brightness of a pixel is. A missing value is a level of its own.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.settings import Range, Settings
from attar.tables.sources import Column, Rows, Schema

Levels = Int[Tensor, "row coded"]
Shares = Float[Tensor, "row number"]
Features = Float[Tensor, "row feature"]


@dataclass(frozen=True, kw_only=True)
class Cutting(Settings):
    """How numbers are coded."""

    numbers: Literal["bins", "share"] = "bins"
    """Code of a number: one of a few bins, or its share of the column's range, as for the brightness of pixels."""
    number_bins: Annotated[int, Range(2)] = 8
    """Bins of a number. One with no more distinct values than that has a bin for each of them."""
    edges: Literal["quantile", "width"] = "quantile"
    """Edges of bins: of equal numbers of rows, with frequent values alone; or of equal width."""
    within: Literal["uniform", "median", "learned"] = "uniform"
    """Value in a bin: uniform noise, the median of its training rows, or a position that is learned."""


@dataclass(frozen=True)
class Bins:
    """The bins of a number, in order."""

    low: tuple[float, ...]
    """Where each begins."""
    high: tuple[float, ...]
    """The largest value in each; below the smallest one in the only bin of a column without values."""
    median: tuple[float, ...]
    missing: bool = False
    """Whether a last level stands for a missing value."""

    @classmethod
    def of(cls, values: Float[Tensor, " row"], how: Cutting, *, missing: bool) -> Self:
        """The bins of training values."""
        known = values[~values.isnan()].numpy()
        if not len(known):
            return cls((1.0,), (0.0,), (0.0,), missing=True)
        starts, ends = _edges(known, how)
        level = np.searchsorted(starts[1:], known, side="right")
        inside = [known[level == number] for number in range(len(starts))]
        ends = [max(part, default=low) for part, low in zip(inside, starts, strict=True)] if ends is None else ends
        medians = [
            np.median(part) if len(part) else (low + high) / 2
            for part, low, high in zip(inside, starts, ends, strict=True)
        ]
        low, high, median = (tuple(map(float, part)) for part in (starts, ends, medians))
        return cls(low, high, median, missing=missing or len(known) < len(values))

    @property
    def size(self) -> int:
        """Number of levels."""
        return len(self.low) + self.missing

    def levels(self, values: Float[Tensor, " row"], name: str) -> Int[Tensor, " row"]:
        """The level of each value.

        Raises:
            InputError: One is missing, where none was before.
        """
        holes = values.isnan()
        if holes.any() and not self.missing:
            raise InputError(f"column {name!r} has missing values here, but had none in the training rows.")
        found = torch.bucketize(values.contiguous(), torch.tensor(self.low[1:], dtype=torch.float64), right=True)
        return torch.where(holes, len(self.low), found)

    def positions(self, values: Float[Tensor, " row"], levels: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """Where in its bin each value lies, from 0 to 1; 0 where there is no width, or no value."""
        low, high = self._of(self.low, levels), self._of(self.high, levels)
        found = (values - low) / (high - low).clamp_min(torch.finfo(torch.float64).tiny)
        return found.nan_to_num(0.0).clamp(0, 1)

    def values(self, levels: Int[Tensor, " row"], positions: Float[Tensor, " row"] | None) -> Float[Tensor, " row"]:
        """The value at a position in each bin; the median where no position is given."""
        if positions is None:
            found = self._of(self.median, levels)
        else:
            low, high = self._of(self.low, levels), self._of(self.high, levels)
            found = low + positions.double() * (high - low)
        return torch.where((levels == len(self.low)) | (self.low[0] > self.high[0]), torch.nan, found)

    def _of(self, values: tuple[float, ...], levels: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        return torch.tensor(values, dtype=torch.float64)[levels.clamp_max(len(values) - 1)]


def _edges(known: np.ndarray, how: Cutting) -> tuple[np.ndarray, Any]:
    """Where bins begin; and where they end, unless that is the largest value in each."""
    distinct, counts = np.unique(known, return_counts=True)
    if len(distinct) <= how.number_bins:
        return distinct, None
    if how.edges == "width":
        edges = np.linspace(distinct[0], distinct[-1], how.number_bins + 1)
        return edges[:-1], edges[1:]
    heavy = counts * how.number_bins >= len(known)
    rest = np.repeat(distinct[~heavy], counts[~heavy])
    left = max(how.number_bins - int(heavy.sum()), 1)
    cuts = np.quantile(rest, np.linspace(0, 1, left + 1)[:-1], method="higher") if len(rest) else rest
    after = distinct[1:][heavy[:-1]]
    return np.unique(np.concatenate([distinct[:1], cuts, distinct[heavy], after])), None


@dataclass(frozen=True)
class Coded:
    """Rows as levels and shares."""

    levels: Levels
    """A column for each that has levels."""
    shares: Shares
    """Shares of ranges, or positions in bins, from 0 to 1, in float32."""

    def __len__(self) -> int:
        return len(self.levels)

    def select(self, rows: Int[Tensor, " _row"]) -> "Coded":
        """Only these rows, in this order."""
        return Coded(self.levels[rows], self.shares[rows])

    def to(self, device: torch.device) -> "Coded":
        """The same on a device."""
        return Coded(self.levels.to(device), self.shares.to(device))


@dataclass(frozen=True)
class Coding:
    """How the columns of a schema are coded, features and label together; the sensitive column is left out."""

    schema: Schema
    """The columns of decoded rows: those that are coded, and the sensitive one."""
    how: Cutting
    bins: dict[str, Bins]
    """Of each number that has bins."""
    ranges: dict[str, tuple[float, float]]
    """Of each number that is a share."""

    @classmethod
    def of(cls, rows: Rows, how: Cutting | None = None) -> Self:
        """Learn the edges from training rows.

        Raises:
            InputError: A number is missing that should be a share of a range, or is infinite.
        """
        how = how or Cutting()
        bins, ranges = {}, {}
        for column in _coded(rows.schema):
            values = rows.of(column)
            if values.isinf().any():
                raise InputError(f"column {column.name!r} has infinite values. Remove those rows.")
            if column.type == "category":
                if values.isnan().any():
                    raise InputError(f"column {column.name!r} has rows without a level. Remove those rows.")
            elif how.numbers == "bins":
                bins[column.name] = Bins.of(values, how, missing=column.missing)
            elif values.isnan().any():
                raise InputError(
                    f"column {column.name!r} has missing values; give --numbers bins, which has a level for them."
                )
            else:
                ranges[column.name] = (float(values.min()), float(values.max()))
        return cls(_read(rows.schema), how, bins, ranges)

    # --------------------------------------------------------------------------------------------------- its columns

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns that have levels."""
        return tuple(column for column in _coded(self.schema) if column.name not in self.ranges)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of levels of each of them."""
        return tuple(
            self.bins[column.name].size if column.name in self.bins else len(column.levels) for column in self.columns
        )

    @cached_property
    def shared(self) -> tuple[str, ...]:
        """The columns of which a share is coded: of the range, or a learned position in the bin."""
        return (*self.ranges, *(self.bins if self.how.within == "learned" else ()))

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(self.sizes) + len(self.shared)

    @property
    def label(self) -> slice:
        """Where the label's levels lie among the features."""
        number = [column.name for column in self.columns].index(self.schema.label.name)
        start = sum(self.sizes[:number])
        return slice(start, start + self.sizes[number])

    # ---------------------------------------------------------------------------------------------- there and back

    def coded(self, rows: Rows) -> Coded:
        """Rows as levels and shares."""
        levels, shares = {}, {}
        for column in _coded(self.schema):
            values = rows.of(column)
            if column.name in self.ranges:
                low, high = self.ranges[column.name]
                shares[column.name] = ((values - low) / (high - low if high > low else 1.0)).clamp(0, 1)
            elif column.name in self.bins:
                levels[column.name] = self.bins[column.name].levels(values, column.name)
                shares[column.name] = self.bins[column.name].positions(values, levels[column.name])
            else:
                levels[column.name] = values.long()
        together = torch.stack([levels[column.name] for column in self.columns], dim=1)
        in_range = [shares[name].float() for name in self.shared]
        return Coded(together, torch.stack(in_range, dim=1) if in_range else torch.empty(len(rows), 0))

    def features(self, coded: Coded) -> Features:
        """Levels one-hot, then shares: what an encoder reads, in float32."""
        device = coded.levels.device
        offsets = torch.tensor([0, *np.cumsum(self.sizes)[:-1]], dtype=torch.long, device=device)
        found = torch.zeros(len(coded), sum(self.sizes), device=device)
        found.scatter_(1, coded.levels + offsets, 1.0)
        return torch.cat([found, coded.shares], dim=1)

    def split(self, decoded: Features) -> tuple[tuple[Tensor, ...], Tensor]:
        """The scores of each column's levels, and those of the shares."""
        *levels, shares = decoded.split([*self.sizes, len(self.shared)], dim=1)
        return tuple(levels), shares

    def drawn(self, decoded: Features, generator: torch.Generator) -> Coded:
        """Levels drawn from the softmax of their scores, and the shares. The likeliest levels alone lack variety."""
        scores, shares = self.split(decoded.cpu())
        levels = [torch.multinomial(score.softmax(dim=1), 1, generator=generator) for score in scores]
        return Coded(torch.cat(levels, dim=1), shares.sigmoid())

    def rows(self, coded: Coded, groups: Int[Tensor, " row"], generator: torch.Generator) -> Rows:
        """Rows of a table, with a value for each level, and a group that each row is said to be of.

        Args:
            coded: What was decoded.
            groups: The levels of the sensitive column.
            generator: Draws the noise in bins.
        """
        levels = {column.name: coded.levels[:, number] for number, column in enumerate(self.columns)}
        shares = {name: coded.shares[:, number] for number, name in enumerate(self.shared)}
        found = []
        for column in self.schema.columns:
            if column.name == self.schema.sensitive.name:
                values = groups.double()
            elif column.name in self.ranges:
                low, high = self.ranges[column.name]
                values = low + shares[column.name].double() * (high - low)
            elif column.name in self.bins:
                where = shares.get(column.name)
                if self.how.within == "uniform":
                    where = torch.rand(len(groups), generator=generator, dtype=torch.float64)
                values = self.bins[column.name].values(levels[column.name], where)
            else:
                values = levels[column.name].double()
            found.append(values.round() if column.whole else values)
        return Rows(self.schema, torch.stack(found, dim=1))

    # ------------------------------------------------------------------------------------------------------ on disk

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the schema."""
        bins = {name: dataclasses.asdict(one) for name, one in self.bins.items()}
        return {"how": self.how.to_json(), "bins": bins, "ranges": self.ranges}

    @classmethod
    def from_json(cls, schema: Schema, facts: Mapping[str, Any]) -> Self:
        """The inverse."""
        bins = {
            name: Bins(tuple(one["low"]), tuple(one["high"]), tuple(one["median"]), bool(one["missing"]))
            for name, one in facts["bins"].items()
        }
        ranges = {name: (float(low), float(high)) for name, (low, high) in facts["ranges"].items()}
        return cls(schema, Cutting.from_json(facts["how"]), bins, ranges)


def reconstruction(coding: Coding, decoded: Features, coded: Coded) -> Float[Tensor, ""]:
    """R: the cross-entropy of every column's levels, and of every share, summed over columns; the mean over rows."""
    scores, shares = coding.split(decoded)
    by_column = [F.cross_entropy(score, level) for score, level in zip(scores, coded.levels.unbind(dim=1), strict=True)]
    total = torch.stack(by_column).sum()
    if not coding.shared:
        return total
    wanted = coded.shares.to(shares.dtype)
    return total + F.binary_cross_entropy_with_logits(shares, wanted, reduction="none").sum(dim=1).mean()


def _coded(schema: Schema) -> tuple[Column, ...]:
    """Features and label, in order, and further sensitive columns as if they were features."""
    return tuple(column for column in _read(schema).columns if column.name != schema.sensitive.name)


def _read(schema: Schema) -> Schema:
    """A schema without the columns that are ignored."""
    return dataclasses.replace(schema, columns=tuple(one for one in schema.columns if one.role != "ignored"))
