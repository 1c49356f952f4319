"""Applicants for a loan, simulated by a causal graph that is stated here, so that the true gap is known.

    age → group, age → experience
    group → schooling, group → district
    schooling, experience, late payments, district → approved
    schooling, experience → income;  age → homeowner;  savings, channel and the date of the application on their own

The group is no cause of the decision itself. It works through schooling and through the district, a proxy: where
somebody lives says little about repayment, but much about the group. The younger an applicant, the more often green.
Age therefore confounds group and decision: the gap that is seen is larger than the one that the group causes.

    approved    observed P(yes | group)    caused P(yes | do(group))
    amber       0.633                      0.607
    green       0.362                      0.413
    gap         0.271                      0.194

Of the caused gap 0.143 remains if only the district is drawn as for green applicants, and 0.050 if only schooling is.
`truth` computes all of that exactly, since every cause of the decision has few values.
"""

from dataclasses import dataclass
from datetime import date
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.seeds import uniform
from attar.tables.sources import Column, Rows, Schema, TableSource

TRAIN, TEST = 4000, 2000
GROUPS = ("amber", "green")
SCHOOLING = ("school", "college", "degree")
DISTRICTS = ("harbour", "hill", "market", "mill")
CHANNELS = ("branch", "phone", "web")
YOUNGEST, OLDEST = 20, 65
BREAKS = 10
"""Values of the years without work, from 0 on; all are as likely."""
SCHOOLING_OF = ((0.25, 0.40, 0.35), (0.40, 0.40, 0.20))
"""Shares of the levels of schooling in each group."""
DISTRICT_OF = ((0.10, 0.45, 0.35, 0.10), (0.45, 0.10, 0.15, 0.30))
"""Shares of the districts in each group."""
LATE = (0.60, 0.25, 0.10, 0.05)
"""Shares of the numbers of late payments."""
BY_SCHOOLING, BY_DISTRICT = (0.0, 0.9, 1.8), (-0.9, 0.8, 0.3, -0.5)
BY_EXPERIENCE, BY_LATE, BASE = 0.05, -0.8, -1.2
"""Terms of the logit of the decision."""
FIRST_DAY = date(2024, 1, 1)

Draws = Float[Tensor, " row"]


@dataclass(frozen=True)
class Truth:
    """What the graph says of the decision."""

    observed: tuple[float, float]
    """P(approved | group) of amber and green."""
    caused: tuple[float, float]
    """P(approved | do(group)): the share if everybody were of this group, with all that follows from it."""
    through_district: float
    """Gap that is caused by the district alone: amber applicants against amber applicants who live as green ones."""
    through_schooling: float
    """Gap that is caused by schooling alone."""

    @property
    def gap(self) -> float:
        """The caused gap. It is also the mean of what changing the group alone would change for an applicant."""
        return self.caused[0] - self.caused[1]


class Applicants(TableSource):
    """The simulated table, whose truth is known."""

    @property
    def truth(self) -> Truth:
        """What the graph says of the decision."""
        return truth()


@cache
def truth() -> Truth:
    """What the graph says of the decision, summed over all values of its causes."""
    ages = torch.arange(YOUNGEST, OLDEST + 1)
    experience = (ages[:, None] - YOUNGEST - torch.arange(BREAKS)).clamp_min(0).double()  # [age, break]
    late, share_late = torch.arange(len(LATE)).double(), torch.tensor(LATE, dtype=torch.float64)
    base = BASE + BY_EXPERIENCE * experience[..., None] + BY_LATE * late

    def at_age(schooling: int, district: int) -> Float[Tensor, " age"]:
        """P(approved | age), with schooling and district as in these groups."""
        total = torch.zeros(len(ages), dtype=torch.float64)
        for term, share in zip(BY_SCHOOLING, SCHOOLING_OF[schooling], strict=True):
            for other, part in zip(BY_DISTRICT, DISTRICT_OF[district], strict=True):
                chance = torch.sigmoid(base + term + other) @ share_late
                total += share * part * chance.mean(dim=1)
        return total

    green = share_green(ages.double())
    caused = tuple(float(at_age(group, group).mean()) for group in (0, 1))
    observed = tuple(
        float((at_age(group, group) * share).sum() / share.sum()) for group, share in ((0, 1 - green), (1, green))
    )
    return Truth(
        observed=(observed[0], observed[1]),
        caused=(caused[0], caused[1]),
        through_district=caused[0] - float(at_age(0, 1).mean()),
        through_schooling=caused[0] - float(at_age(1, 0).mean()),
    )


def share_green(age: Draws) -> Draws:
    """The share of green applicants of an age: 60 % of the youngest, 10 % of the oldest."""
    return 0.6 - 0.5 * (age - YOUNGEST) / (OLDEST - YOUNGEST)


def applicants() -> Applicants:
    """Draw the table, which is the same each time: 4,000 training and 2,000 test rows of mixed types."""
    rows = Rows(schema(), _drawn(TRAIN + TEST))
    train, test = torch.arange(TRAIN), torch.arange(TRAIN, TRAIN + TEST)
    return Applicants("applicants", rows.select(train), rows.select(test))


def schema() -> Schema:
    """The columns of the table."""

    def category(name: str, levels: tuple[str, ...], **more: object) -> Column:
        return Column.from_names(name=name, type="category", levels=levels, **{"stored": "string", **more})

    channels = "dictionary<values=string, indices=int8, ordered=0>"
    columns = (
        Column(name="age", whole=True, stored="int64"),
        category("group", GROUPS, role="sensitive"),
        category("schooling", SCHOOLING),
        category("district", DISTRICTS),
        Column(name="experience", whole=True, stored="int32"),
        Column(name="income", whole=True, stored="int64"),
        Column(name="savings", missing=True),
        Column(name="late_payments", whole=True, stored="int64"),
        category("homeowner", ("false", "true"), stored="bool"),
        category("channel", (*CHANNELS, "<missing>"), missing=True, stored=channels),
        Column(name="applied", stored="date32[day]"),
        category("approved", ("no", "yes"), role="label"),
    )
    return Schema(columns=columns, positive="yes")


def _drawn(count: int) -> Float[Tensor, "row column"]:
    """The values, in the order of the schema."""

    def draws(purpose: str) -> Draws:
        return uniform(0, f"applicants, {purpose}", count).double()

    age = YOUNGEST + (draws("age") * (OLDEST - YOUNGEST + 1)).floor()
    group = (draws("group") < share_green(age)).long()
    schooling = _chosen(draws("schooling"), SCHOOLING_OF, group)
    district = _chosen(draws("district"), DISTRICT_OF, group)
    experience = (age - YOUNGEST - (draws("breaks") * BREAKS).floor()).clamp_min(0)
    late = _chosen(draws("late"), (LATE,), torch.zeros_like(group))
    logit = BASE + BY_EXPERIENCE * experience + BY_LATE * late
    logit += torch.tensor(BY_SCHOOLING, dtype=torch.float64)[schooling]
    logit += torch.tensor(BY_DISTRICT, dtype=torch.float64)[district]
    approved = draws("approved") < torch.sigmoid(logit)
    income = 14_000 * (1 + 0.35 * schooling) * (1 + 0.015 * experience) * (0.25 * _normal(count, "income")).exp()
    savings = (7.5 + _normal(count, "savings")).exp().mul(100).round() / 100
    savings[draws("unknown savings") < 0.05] = torch.nan
    channel = (draws("channel") * len(CHANNELS)).floor()
    channel[draws("unknown channel") < 0.03] = len(CHANNELS)
    applied = (FIRST_DAY - date(1970, 1, 1)).days + (draws("applied") * 365).floor()
    homeowner = draws("homeowner") < torch.sigmoid((age - 40) / 8)
    columns = (age, group, schooling, district, experience, income.round(), savings, late)
    return torch.stack([one.double() for one in (*columns, homeowner, channel, applied, approved)], dim=1)


def _chosen(draws: Draws, shares: tuple[tuple[float, ...], ...], group: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
    """Which of some levels each draw stands for, by the shares of its group."""
    ends = torch.tensor(shares, dtype=torch.float64).cumsum(dim=1)[:, :-1]
    return (draws[:, None] >= ends[group]).sum(dim=1)


def _normal(count: int, purpose: str) -> Draws:
    """Draws that are nearly normal: sums of twelve uniform ones, which are the same on every machine."""
    return uniform(0, f"applicants, {purpose}", 12, count).double().sum(dim=0) - 6
