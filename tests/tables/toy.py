"""A small table for tests of generators: a proxy of the group, missing numbers, a skewed number and a rare level."""

import torch

from attar.tables.sources import Column, Rows, Schema, TableSource

SCHEMA = Schema(
    columns=(
        Column(name="age", whole=True, stored="int64"),
        Column(name="wealth", missing=True),
        Column(name="town", type="category", levels=("north", "south", "isle", "none"), stored="string"),
        Column(name="group", role="sensitive", type="category", levels=("a", "b"), stored="string"),
        Column(name="paid", role="label", type="category", levels=("yes", "no"), stored="string"),
    ),
    positive="yes",
)


def rows(count=600, seed=0, gap=1.5):
    """Rows whose label follows from wealth, of which group b has less; the level none has no rows."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(4, count, generator=generator, dtype=torch.float64)
    uniform = torch.rand(3, count, generator=generator, dtype=torch.float64)
    group = (uniform[0] < 0.4).double()
    age = (40 + 12 * normal[0]).round().clamp(17, 90)
    hidden = normal[1] - gap * group
    town = torch.where(uniform[1] < 0.03, 2.0, (normal[2] + group > 0.3).double())
    paid = (hidden + 0.03 * (age - 40) + 0.6 * normal[3] < 0).double()
    wealth = hidden.exp()
    wealth[uniform[2] < 0.1] = torch.nan
    return Rows(SCHEMA, torch.stack([age, wealth, town.double(), group, paid], dim=1))


def source(train=600, test=200, seed=0):
    """A source of such rows."""
    return TableSource("toy", rows(train, seed), rows(test, seed + 100), split="given")
