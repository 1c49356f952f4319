"""Rows drawn for tests: a label that follows from two numbers, one of them a proxy of the group."""

import torch

from attar.tables.sources import Column, Rows, Schema, TableSource

COLUMNS = (
    Column(name="age", whole=True, stored="int64"),
    Column(name="income", missing=True),
    Column(name="town", type="category", levels=("north", "south", "west"), stored="string"),
    Column(name="group", role="sensitive", type="category", levels=("a", "b"), stored="string"),
    Column(name="note", role="ignored"),
    Column(name="paid", role="label", type="category", levels=("no", "yes"), stored="string"),
)
SCHEMA = Schema(columns=COLUMNS, positive="yes")


def drawn(count=400, seed=0, gap=1.0, schema=SCHEMA):
    """Rows in which the groups differ in income by `gap` deviations; a tenth of the incomes is missing."""
    generator = torch.Generator().manual_seed(seed)

    def normal():
        return torch.randn(count, generator=generator).double()

    groups = torch.randint(len(schema.groups), (count,), generator=generator).double()
    age = (40 + 10 * normal()).round()
    income = 3 + gap * groups + normal()
    town = torch.randint(3, (count,), generator=generator).double()
    paid = (income - 3 - gap / 2 + (age - 40) / 20 + 0.7 * normal() > 0).double()
    income[torch.rand(count, generator=generator) < 0.1] = torch.nan
    return Rows(schema, torch.stack([age, income, town, groups, normal(), paid], dim=1))


def source(train=400, test=300, **more):
    """A source of such rows."""
    return TableSource("loans", drawn(train, seed=1, **more), drawn(test, seed=2, **more), split="80/20 by seed 0")
