"""The schema, and rows as numbers."""

import json

import pytest
import torch

from attar.core.errors import InputError
from attar.tables.data.applicants import applicants
from attar.tables.sources import Column, Rows, Schema

LABEL = Column(name="y", role="label", type="category", levels=("no", "yes"), stored="string")
NUMBER = Column(name="x")


def test_a_schema_goes_to_json_and_back():
    schema = applicants().schema
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ((NUMBER,), "0 labels"),
        ((NUMBER, NUMBER, LABEL), "two columns of the name 'x'"),
        ((LABEL, Column(name="z", role="label", type="category", levels=("a", "b"))), "2 labels"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(columns, told):
    with pytest.raises(InputError, match=told):
        Schema(columns=columns, positive="yes")


def test_a_label_has_two_levels_and_one_is_desirable():
    with pytest.raises(InputError, match="has 3 values"):
        Schema(columns=(Column(name="y", role="label", type="category", levels=("a", "b", "c")),), positive="a")
    with pytest.raises(InputError, match="unknown outcome"):
        Schema(columns=(LABEL,), positive="maybe")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"levels": ("a",)}, "holds numbers"),
        ({"role": "label"}, "type must be category"),
        ({"type": "category", "levels": ("a", "a")}, "a level twice"),
        ({"type": "category", "of": "age"}, "of and below"),
        ({"type": "categorical"}, "did you mean .category."),
    ],
)
def test_a_column_that_cannot_be_is_refused(settings, told):
    with pytest.raises(InputError, match=told):
        Column.from_names(name="x", **settings)


def rows(*values: tuple[float, float]) -> Rows:
    return Rows(Schema(columns=(NUMBER, LABEL), positive="yes"), torch.tensor(values, dtype=torch.float64))


def test_values_that_a_column_may_not_have_are_refused():
    assert len(rows((1.5, 0), (2, 1)).check("here")) == 2
    for bad in ((float("inf"), 0), (float("nan"), 0), (1, 2), (1, 0.5), (1, -1)):
        with pytest.raises(InputError, match="row 1 of here has"):
            rows((0, 0), bad).check("here")


def test_labels_count_the_desirable_outcome_whatever_its_number():
    other = Schema(columns=(NUMBER, LABEL), positive="no")
    assert Rows(other, rows((0, 0), (0, 1)).values).labels.tolist() == [1, 0]


def test_rows_are_chosen_and_columns_replaced():
    some = rows((1, 0), (2, 1), (3, 0)).select(torch.tensor([2, 0]))
    assert some.of("x").tolist() == [3, 1]
    assert some.replaced("x", torch.tensor([7, 8])).of(NUMBER).tolist() == [7, 8] and some.of("x").tolist() == [3, 1]
    with pytest.raises(InputError, match="unknown column 'z'"):
        some.of("z")


def test_a_fingerprint_sees_values_and_names():
    source = applicants()
    assert source.is_of(applicants().fingerprint)
    assert source.subset(torch.arange(10)).fingerprint != source.fingerprint
    with pytest.raises(InputError, match="not split by a seed"):
        source.at(1)
