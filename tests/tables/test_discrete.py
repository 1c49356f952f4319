"""Columns as levels and back: what comes back exactly, and what only nearly."""

import dataclasses
import json

import pytest
import torch

from attar.core.errors import InputError
from attar.tables.discrete import Coded, Coding, Cutting, reconstruction
from attar.tables.sources import Column, Rows, Schema

SCHEMA = Schema(
    columns=(
        Column(name="age", whole=True, stored="int64"),
        Column(name="gain", missing=True),
        Column(name="town", type="category", levels=("A", "B", "missing")),
        Column(name="id", role="ignored"),
        Column(name="sex", role="sensitive", type="category", levels=("f", "m")),
        Column(name="paid", role="label", type="category", levels=("no", "yes")),
    ),
    positive="yes",
)
OUT = dataclasses.replace(SCHEMA, columns=tuple(one for one in SCHEMA.columns if one.role != "ignored"))


def rows(count=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    age = torch.randint(17, 90, (count,), generator=generator).double()
    gain = torch.randn(count, generator=generator).double().exp()
    gain[torch.rand(count, generator=generator) < 0.5] = 0.0
    gain[::10] = torch.nan
    town, sex, paid = (torch.randint(levels, (count,), generator=generator) for levels in (3, 2, 2))
    return Rows(SCHEMA, torch.stack([age, gain, town, torch.arange(count), sex, paid], dim=1).double())


def back(coding, coded, groups=None, seed=0):
    groups = torch.zeros(len(coded), dtype=torch.long) if groups is None else groups
    return coding.rows(coded, groups, torch.Generator().manual_seed(seed))


ALL = [
    Cutting(edges=edges, within=within)
    for edges in ("quantile", "width")
    for within in ("uniform", "median", "learned")
]


@pytest.mark.parametrize("how", ALL, ids=str)
def test_categories_the_label_and_holes_come_back_exactly(how):
    table = rows()
    coding = Coding.of(table, how)
    found = back(coding, coding.coded(table), table.groups)
    assert found.schema == OUT
    for name in ("town", "sex", "paid"):
        assert torch.equal(found.of(name), table.of(name))
    assert torch.equal(found.of("gain").isnan(), table.of("gain").isnan())


@pytest.mark.parametrize("how", ALL, ids=str)
def test_numbers_come_back_in_their_bin_and_whole_ones_whole(how):
    table = rows()
    coding = Coding.of(table, how)
    found = back(coding, coding.coded(table))
    age = found.of("age")
    assert torch.equal(age, age.round())
    assert age.min() >= table.of("age").min() and age.max() <= table.of("age").max()
    bins = coding.bins["age"]
    widest = max(high - low for low, high in zip(bins.low, bins.high, strict=True))
    assert (age - table.of("age")).abs().max() <= widest + 1


def test_learned_positions_bring_numbers_back():
    table = rows()
    coding = Coding.of(table, Cutting(within="learned", edges="width"))
    found = back(coding, coding.coded(table))
    torch.testing.assert_close(found.of("age"), table.of("age"))
    torch.testing.assert_close(found.of("gain"), table.of("gain"), equal_nan=True, rtol=1e-5, atol=1e-5)


def test_a_number_with_few_values_has_a_bin_for_each():
    table = rows().replaced("age", torch.tensor([2.0, 3.0, 5.0, 8.0]).repeat(100))
    coding = Coding.of(table)
    assert coding.bins["age"].low == (2.0, 3.0, 5.0, 8.0)
    assert torch.equal(back(coding, coding.coded(table)).of("age"), table.of("age"))


def test_a_frequent_value_has_a_bin_of_its_own():
    table = rows()
    bins = Coding.of(table).bins["gain"]
    own = bins.low.index(0.0)
    assert (bins.low[own], bins.high[own], bins.median[own]) == (0.0, 0.0, 0.0)
    assert bins.missing and bins.size == len(bins.low) + 1
    share = (Coding.of(table).coded(table).levels[:, 1] == own).double().mean()
    assert share == (table.of("gain") == 0).double().mean()


def test_bins_of_equal_numbers_of_rows():
    values = torch.linspace(0, 1, 800).double() ** 3
    coding = Coding.of(rows(800).replaced("age", values))
    assert coding.coded(rows(800).replaced("age", values)).levels[:, 0].bincount().tolist() == [100] * 8


def test_bins_of_equal_width_have_equal_width():
    bins = Coding.of(rows(), Cutting(edges="width", number_bins=5)).bins["age"]
    widths = [high - low for low, high in zip(bins.low, bins.high, strict=True)]
    assert len(widths) == 5 and max(widths) == pytest.approx(min(widths))


def test_edges_are_those_of_the_training_rows():
    coding = Coding.of(rows())
    other = rows(50, seed=1).replaced("age", torch.linspace(-1000, 1000, 50))
    levels = coding.coded(other).levels[:, 0]
    assert levels[0] == 0 and levels[-1] == len(coding.bins["age"].low) - 1
    ages = back(coding, coding.coded(other)).of("age")
    assert ages.min() >= rows().of("age").min() and ages.max() <= rows().of("age").max()


def test_features_are_one_hot_then_shares():
    table = rows()
    coding = Coding.of(table, Cutting(within="learned"))
    features = coding.features(coding.coded(table))
    assert features.shape == (400, coding.width) == (400, sum(coding.sizes) + 2)
    assert (features[:, : sum(coding.sizes)].sum(dim=1) == len(coding.sizes)).all()
    assert torch.equal(features[:, coding.label].argmax(dim=1), table.labels)


def test_as_shares_numbers_come_back_nearly():
    table = rows().replaced("gain", torch.linspace(-3, 4, 400))
    coding = Coding.of(table, Cutting(numbers="share"))
    assert coding.shared == ("age", "gain") and len(coding.sizes) == 2
    found = back(coding, coding.coded(table))
    torch.testing.assert_close(found.of("gain"), table.of("gain"), rtol=1e-5, atol=1e-5)
    assert torch.equal(found.of("age"), table.of("age"))


def test_levels_are_drawn_by_their_scores():
    table = rows()
    coding = Coding.of(table)
    scores = torch.zeros(20_000, coding.width)
    scores[:, coding.label] = torch.tensor([0.3, 0.7]).log()
    drawn = coding.drawn(scores, torch.Generator().manual_seed(0))
    assert float(drawn.levels[:, -1].double().mean()) == pytest.approx(0.7, abs=0.02)


def test_the_reconstruction_is_the_cross_entropy_of_each_column():
    table = rows(50)
    coding = Coding.of(table, Cutting(within="learned"))
    coded, scores = coding.coded(table), torch.randn(50, coding.width, generator=torch.Generator().manual_seed(0))
    start, expected = 0, torch.zeros(50)
    for size, level in zip(coding.sizes, coded.levels.T, strict=True):
        share = scores[:, start : start + size].softmax(dim=1)
        expected -= share[torch.arange(50), level].log()
        start += size
    chance = scores[:, start:].sigmoid()
    expected -= (coded.shares * chance.log() + (1 - coded.shares) * (1 - chance).log()).sum(dim=1)
    torch.testing.assert_close(reconstruction(coding, scores, coded), expected.mean())


@pytest.mark.parametrize("how", [*ALL, Cutting(numbers="share")], ids=str)
def test_it_survives_json(how):
    table = rows() if how.numbers == "bins" else rows().replaced("gain", torch.zeros(400))
    coding = Coding.of(table, how)
    assert Coding.from_json(OUT, json.loads(json.dumps(coding.to_json()))) == coding


def test_a_constant_column_and_one_without_values():
    table = rows().replaced("age", torch.full((400,), 30.0)).replaced("gain", torch.full((400,), torch.nan))
    for how in ALL:
        coding = Coding.of(table, how)
        found = back(coding, coding.coded(table))
        assert (found.of("age") == 30).all() and found.of("gain").isnan().all()


def test_selected_rows_are_coded_alike():
    coding = Coding.of(rows())
    picks = torch.tensor([5, 3, 8])
    found, expected = coding.coded(rows()).select(picks), coding.coded(rows().select(picks))
    assert torch.equal(found.levels, expected.levels) and isinstance(found, Coded)


@pytest.mark.parametrize(
    ("column", "value", "how", "words"),
    [
        ("gain", torch.inf, Cutting(), "column 'gain' has infinite values. Remove those rows."),
        (
            "gain",
            torch.nan,
            Cutting(numbers="share"),
            "column 'gain' has missing values; give --numbers bins, which has a level for them.",
        ),
        ("paid", torch.nan, Cutting(), "column 'paid' has rows without a level. Remove those rows."),
    ],
)
def test_what_cannot_be_coded_is_refused(column, value, how, words):
    table = rows().replaced("gain", torch.zeros(400))
    with pytest.raises(InputError) as refused:
        Coding.of(table.replaced(column, torch.cat([table.of(column)[1:], torch.tensor([value]).double()])), how)
    assert str(refused.value) == words


def test_a_hole_where_there_was_none_is_refused():
    coding = Coding.of(rows())
    with pytest.raises(InputError, match="column 'age' has missing values here, but had none in the training rows"):
        coding.coded(rows().replaced("age", torch.full((400,), torch.nan)))
