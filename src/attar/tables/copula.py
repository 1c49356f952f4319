"""Gaussian copula: every column keeps its own distribution, and normal scores keep the correlations between columns.

It is fitted in seconds and has no step size. Make it the first generator that a learned one is compared with, for small
tables above all. It knows dependence of two columns in one direction only; what a classifier reads from several columns
together is lost. Its generator holds the sorted values of every column. The copula of reweighed rows draws the rows
first with weights under which the sensitive attribute says nothing of the label.

Normal scores are those of mid-ranks, (rank - ½) / n. A level of a category has an interval of [0, 1] as wide as its
share, and so have missing numbers (Patki, Wedge and Veeramachaneni, The Synthetic Data Vault, DSAA 2016). Correlations
are shrunk to the identity until they are positive definite. Weights: Kamiran and Calders, Data preprocessing techniques
for classification without discrimination, Knowledge and Information Systems, 2012.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import Generators
from attar.core.settings import Range
from attar.core.state import rebuilt
from attar.tables.artefact import Generator
from attar.tables.condensation import Generated
from attar.tables.fairness import reweighing
from attar.tables.sources import Column, Rows, Schema, TableSource

Shares = Float[Tensor, " row"]
"""Places in a distribution, from 0 to 1."""
Square = Float[Tensor, "column column"]


@dataclass(frozen=True, kw_only=True)
class GaussianCopula(Generated):
    """A Gaussian copula: the distribution of each column as it is, and correlations of normal scores between columns.

    Patki, Wedge and Veeramachaneni, The Synthetic Data Vault, DSAA 2016. Prefer it as the first generator to compare
    with, and for small tables.
    """

    dependence: Annotated[float, Range(0, 1)] = 1.0
    """Share of the correlations between columns that is kept. 0 draws each column on its own."""
    spread_levels: bool = True
    """Whether the place of a level in its interval is drawn. If not, it is the middle, and correlations of categories
    are less diluted."""
    smallest_eigenvalue: Annotated[float, Range(1e-8, 1)] = 1e-4
    """Smallest eigenvalue of the correlations. They are shrunk to the identity until they have it."""

    name = "copula"

    def drawn_from(self, source: TableSource, runtime: Runtime) -> Rows:
        """The rows that it is fitted to."""
        return source.train

    def build(self, source: TableSource, runtime: Runtime) -> "Fitted":
        """Fit it."""
        rows = self.drawn_from(source, runtime)
        margins = tuple(margin_of(column, rows.of(column)) for column in rows.schema.columns)
        generator = runtime.generator("scores") if self.spread_levels else None
        pairs = zip(margins, rows.schema.columns, strict=True)
        shares = torch.stack([margin.shares(rows.of(column), generator) for margin, column in pairs], dim=1)
        scores = torch.special.ndtri(shares)
        kept = shrunk(correlation(scores), 1 - self.dependence)
        sure = positive_definite(kept, self.smallest_eigenvalue)
        return Fitted(source, Copula(rows.schema, margins, torch.linalg.cholesky(sure)))

    def generator_of(self, state: "Fitted") -> "Copula":
        """The copula."""
        return state.copula


@dataclass(frozen=True, kw_only=True)
class ReweighedCopula(GaussianCopula):
    """A Gaussian copula of training rows that are drawn with weights under which group and label are independent.

    Weights: Kamiran and Calders, KAIS 2012. Prefer it to a plain copula if the table has
    to be fairer than the data; the features still tell the group.
    """

    name = "copula-reweighed"

    def drawn_from(self, source: TableSource, runtime: Runtime) -> Rows:
        """As many training rows, drawn with replacement by their weights."""
        rows = source.train
        check_cells(rows)
        weights = reweighing(rows.groups, rows.labels)
        return rows.select(torch.multinomial(weights, len(rows), replacement=True, generator=runtime.generator("rows")))


@dataclass
class Fitted:
    """A copula, and what it was fitted to."""

    source: TableSource = rebuilt()
    copula: "Copula" = rebuilt()


def check_cells(rows: Rows) -> None:
    """Check that every group has rows of both labels.

    Raises:
        InputError: A group has no rows of a label, so that no weights can make up for it.
    """
    for group in rows.groups.unique().tolist():
        for label in rows.labels.unique().tolist():
            if not bool(((rows.groups == group) & (rows.labels == label)).any()):
                schema = rows.schema
                outcome = next(one for one in schema.label.levels if (one == schema.positive) == bool(label))
                raise InputError(
                    f"no training row of {schema.sensitive.name} {schema.groups[group]!r} has the label {outcome!r}, "
                    "so rows cannot be reweighed. Take copula, or other data."
                )


# --------------------------------------------------------------------------------------------------------- correlations


def correlation(scores: Float[Tensor, "row column"]) -> Square:
    """Correlations of normal scores; a constant column has none with any other."""
    centred = scores - scores.mean(dim=0)
    deviation = centred.square().mean(dim=0).sqrt()
    scaled = centred / torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    found = scaled.T @ scaled / len(scores)
    return found.fill_diagonal_(1.0)


def shrunk(correlations: Square, share: float) -> Square:
    """(1 - share) R + share I."""
    return (1 - share) * correlations + share * torch.eye(len(correlations), dtype=correlations.dtype)


def positive_definite(correlations: Square, smallest: float = 1e-4) -> Square:
    """R, shrunk to the identity by as little as gives it no eigenvalue below the smallest."""
    lowest = float(torch.linalg.eigvalsh(correlations)[0])
    return correlations if lowest >= smallest else shrunk(correlations, (smallest - lowest) / (1 - lowest))


def log_density(shares: Float[Tensor, "row column"], correlations: Square) -> Float[Tensor, " row"]:
    """Logarithm of the copula's density at places in the columns' distributions."""
    scores = torch.special.ndtri(shares)
    inverse = torch.linalg.inv(correlations) - torch.eye(len(correlations), dtype=correlations.dtype)
    return -0.5 * (torch.linalg.slogdet(correlations).logabsdet + torch.einsum("ri,ij,rj->r", scores, inverse, scores))


# -------------------------------------------------------------------------------------------------------------- margins


@dataclass(frozen=True)
class Number:
    """The distribution of a number: first the missing values, then the others by size."""

    ordered: Float[Tensor, " value"]
    """The values that are not missing, sorted."""
    missing: float
    """Share of the values that are missing."""

    def shares(self, values: Float[Tensor, " row"], generator: torch.Generator | None) -> Shares:
        """The place of each value: its mid-rank among those that are there; that of a missing one is before them."""
        gone = values.isnan()
        places = within_interval(len(values), generator) * self.missing
        places[~gone] = self.missing + (1 - self.missing) * mid_ranks(values[~gone])
        return places.clamp(*INSIDE)

    def values(self, shares: Shares) -> Float[Tensor, " row"]:
        """The value at each place, one of those that were there: the exact inverse."""
        if not len(self.ordered):
            return torch.full_like(shares, torch.nan)
        within = (shares - self.missing) / max(1 - self.missing, INSIDE[0])
        rows = (within * len(self.ordered)).ceil().long() - 1
        return torch.where(within < 0, torch.nan, self.ordered[rows.clamp(0, len(self.ordered) - 1)])


@dataclass(frozen=True)
class Levels:
    """The distribution of a category: an interval for each level, the most frequent one first."""

    order: Int[Tensor, " level"]
    """The levels by their frequency."""
    ends: Float[Tensor, " level"]
    """Where the intervals end, in that order."""

    def shares(self, values: Float[Tensor, " row"], generator: torch.Generator | None) -> Shares:
        """A place in the interval of each value's level."""
        place = torch.empty_like(self.order)
        place[self.order] = torch.arange(len(self.order))
        rows = place[values.long()]
        starts = torch.cat([self.ends.new_zeros(1), self.ends[:-1]])
        return (starts[rows] + (self.ends - starts)[rows] * within_interval(len(values), generator)).clamp(*INSIDE)

    def values(self, shares: Shares) -> Float[Tensor, " row"]:
        """The level of the interval that each place lies in."""
        rows = torch.searchsorted(self.ends, shares.contiguous(), right=True)
        return self.order[rows.clamp(max=int((self.ends < 1).sum()))].double()


INSIDE = (1e-12, 1 - 1e-12)
"""Nearest places to both ends, whose normal scores are finite."""


def within_interval(count: int, generator: torch.Generator | None) -> Shares:
    """So many random shares of an interval; without a generator its middle."""
    if generator is None:
        return torch.full((count,), 0.5, dtype=torch.float64)
    return torch.rand(count, dtype=torch.float64, generator=generator)


def mid_ranks(values: Float[Tensor, " row"]) -> Shares:
    """(rank - ½) / n, equal values at the mean of their ranks."""
    _, which, counts = values.unique(return_inverse=True, return_counts=True)
    return ((counts.cumsum(0) - counts.double() / 2) / len(values))[which]


def margin_of(column: Column, values: Float[Tensor, " row"]) -> Number | Levels:
    """The distribution of a column."""
    if column.type == "number":
        gone = values.isnan()
        return Number(values[~gone].sort().values, float(gone.double().mean()))
    counts = values.long().bincount(minlength=len(column.levels))
    order = counts.argsort(descending=True, stable=True)
    ends = counts[order].cumsum(0).double() / len(values)
    return Levels(order, ends)


@dataclass(frozen=True)
class Copula(Generator):
    """A fitted Gaussian copula."""

    schema: Schema
    margins: tuple[Number | Levels, ...]
    """The distribution of each column."""
    factor: Square
    """L of the correlations L Lᵀ."""

    def sample(self, n: int, seed: int = 0) -> Rows:
        """So many rows."""
        generator = Generators(seed)("sample")
        draws = torch.randn(n, len(self.margins), dtype=torch.float64, generator=generator)
        shares = torch.special.ndtr(draws @ self.factor.T)
        columns = [margin.values(shares[:, place]) for place, margin in enumerate(self.margins)]
        return Rows(self.schema, torch.stack(columns, dim=1))

    def tensors(self) -> dict[str, Tensor]:
        """Factor and margins."""
        found = {"factor": self.factor}
        for place, margin in enumerate(self.margins):
            if isinstance(margin, Number):
                found |= {f"{place}.ordered": margin.ordered, f"{place}.missing": torch.tensor(margin.missing).double()}
            else:
                found |= {f"{place}.order": margin.order, f"{place}.ends": margin.ends}
        return found

    def facts(self) -> dict[str, Any]:
        """Nothing else."""
        return {}

    @classmethod
    def restored(cls, schema: Schema, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Self:
        """The copula whose `tensors` these are."""
        margins: list[Number | Levels] = []
        for place, column in enumerate(schema.columns):
            if column.type == "number":
                margins.append(Number(tensors[f"{place}.ordered"], float(tensors[f"{place}.missing"])))
            else:
                margins.append(Levels(tensors[f"{place}.order"], tensors[f"{place}.ends"]))
        return cls(schema, tuple(margins), tensors["factor"])
