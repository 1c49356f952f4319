"""Rows as a matrix: levels, standardised numbers, what is missing, and what the fitted rows never had."""

import dataclasses

import pytest
import torch

from attar.core.errors import InputError
from attar.tables.design import Design, design, one_hot
from attar.tables.sources import Column, Rows, Schema
from tables.made import COLUMNS, SCHEMA, drawn


def test_the_columns_are_numbers_indicators_and_levels_without_label_and_ignored_ones():
    rows = drawn()
    with_it, without = (design(SCHEMA, with_sensitive=told).fit(rows) for told in (True, False))
    towns = ("town=north", "town=south", "town=west")
    assert without.features == ("age", "income", "income is missing", *towns)
    assert with_it.features == (*without.features, "group=a", "group=b")
    assert with_it.widths == (1, 2, 3, 2)
    assert with_it.matrix(rows).shape == (400, 8) and without.matrix(rows).shape == (400, 6)
    assert torch.equal(with_it.matrix(rows)[:, :6], without.matrix(rows))


def test_numbers_are_standardised_by_the_fitted_rows_and_a_missing_one_is_their_mean():
    rows, others = drawn(seed=1), drawn(seed=2, gap=3.0)
    made = design(SCHEMA, with_sensitive=False).fit(rows)
    matrix = made.matrix(rows)
    known = ~rows.of("income").isnan()
    assert matrix.isfinite().all()
    for column in (matrix[:, 0], matrix[known, 1]):
        torch.testing.assert_close(column.mean(), torch.tensor(0.0).double(), atol=1e-12, rtol=0)
        torch.testing.assert_close(column.std(correction=0), torch.tensor(1.0).double())
    assert torch.equal(matrix[:, 2].bool(), ~known) and bool((matrix[~known, 1] == 0).all())
    income = rows.of("income")[known]
    right = (others.of("income") - income.mean()) / income.std(correction=0)
    torch.testing.assert_close(made.matrix(others)[:, 1], right.nan_to_num(nan=0.0))


def test_a_level_that_the_fitted_rows_lack_is_zeros_and_so_is_no_level_at_all():
    rows = drawn()
    made = design(SCHEMA, with_sensitive=False).fit(rows.select((rows.codes("town") != 1).nonzero().flatten()))
    towns = made.matrix(rows)[:, 3:]
    assert torch.equal(towns.sum(dim=1) == 0, rows.codes("town") == 1)
    codes = torch.tensor([-1.0, 0.0, 2.0, 3.0, torch.nan]).double()
    assert one_hot(codes, 3).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_a_constant_or_absent_number_does_no_harm():
    rows = drawn().replaced("age", torch.full((400,), 1e9)).replaced("income", torch.full((400,), torch.nan))
    matrix = design(SCHEMA, with_sensitive=False).fit(rows).matrix(rows)
    assert bool((matrix[:, :2] == 0).all()) and bool((matrix[:, 2] == 1).all())


def test_the_statistics_can_be_saved_and_used_again():
    rows, others = drawn(seed=1), drawn(seed=2)
    made = design(SCHEMA, with_sensitive=True).fit(rows)
    again = Design(SCHEMA, True).with_tensors(made.tensors())
    assert torch.equal(again.matrix(others), made.matrix(others))


def test_what_cannot_be_is_refused():
    bare = Schema(columns=tuple(one for one in COLUMNS if one.role in ("sensitive", "label")), positive="yes")
    rows = Rows(bare, torch.zeros(3, 2).double())
    with pytest.raises(InputError, match=r"no columns to learn from besides the label and the sensitive column\.$"):
        design(bare, with_sensitive=False).fit(rows)
    assert design(bare, with_sensitive=True).fit(rows).features == ("group=a", "group=b")
    with pytest.raises(InputError, match=r"^there are no rows to fit a design on\. Give at least one\.$"):
        design(SCHEMA, with_sensitive=False).fit(drawn().select(torch.arange(0)))
    with pytest.raises(InputError, match=r"^the design is not fitted yet\. Call fit with training rows first\.$"):
        design(SCHEMA, with_sensitive=False).matrix(drawn())


def test_several_sensitive_columns_go_or_stay_together():
    second = Column(name="sex", role="sensitive", type="category", levels=("f", "m"))
    schema = dataclasses.replace(SCHEMA, columns=(*COLUMNS, second))
    rows = Rows(schema, torch.cat([drawn().values, torch.ones(400, 1).double()], dim=1))
    assert design(schema, with_sensitive=True).fit(rows).features[-1] == "sex=m"
    assert not any("sex" in name for name in design(schema, with_sensitive=False).features)
