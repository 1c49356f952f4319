"""Real rows: classes by their shares, what herding and K-center choose, and labels exchanged at random."""

import pytest
import torch

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.selection import herding, in_proportion, k_center
from attar.tables.coresets import ShuffledLabels, TableHerding, TableKCenter, TableRandom, rows_of
from attar.tables.design import design
from attar.tables.sources import TableSource
from tables.toy import rows, source

CORESETS = (TableRandom, TableHerding, TableKCenter)


def made(method, data, seed=0):
    runtime = Runtime(Engine(device="cpu", quiet=True), seed)
    return method.resolve(data, runtime).made(data, runtime)


def as_set(table):
    return {tuple(row) for row in table.values.nan_to_num(nan=-1).tolist()}


def test_counts_are_shares_by_largest_remainders_with_one_of_each_class_at_least():
    classes = [torch.arange(size) for size in (70, 29, 1)]
    assert in_proportion(classes, 10) == (6, 3, 1)
    assert in_proportion(classes, 100) == (70, 29, 1)
    assert in_proportion(classes, 3) == (1, 1, 1)


@pytest.mark.parametrize("family", CORESETS)
@pytest.mark.parametrize("count", [2, 37, 600])
def test_it_is_a_choice_of_different_real_rows_with_the_shares_of_the_classes(family, count):
    data = source()
    chosen = made(family(rows=count), data)
    assert len(chosen) == count and as_set(chosen) <= as_set(data.train)
    if count == 600:
        assert torch.equal(
            chosen.values.nan_to_num(-1).sort(dim=0).values, data.train.values.nan_to_num(-1).sort(dim=0).values
        )
    share = float(data.train.labels.double().mean())
    assert abs(float(chosen.labels.double().sum()) - share * count) <= 1


@pytest.mark.parametrize("family, choose", [(TableHerding, herding), (TableKCenter, k_center)])
def test_each_class_is_chosen_by_its_part_of_the_matrix(family, choose):
    data = source(200)
    matrix = design(data.schema, with_sensitive=True).fit(data.train).matrix(data.train)
    classes = rows_of(data)
    counts = in_proportion(classes, 20)
    right = torch.cat([rows[choose(matrix[rows], count)] for rows, count in zip(classes, counts, strict=True)])
    torch.testing.assert_close(
        made(family(rows=20), data).values, data.train.values[right], rtol=0, atol=0, equal_nan=True
    )


def test_herded_rows_have_a_mean_nearer_to_that_of_the_table_than_random_ones():
    data = source()
    matrix = design(data.schema, with_sensitive=True).fit(data.train)
    whole = matrix.matrix(data.train).mean(dim=0)
    gaps = [float((matrix.matrix(made(family(rows=30), data)).mean(dim=0) - whole).norm()) for family in CORESETS]
    assert gaps[1] < gaps[0] / 3


def test_random_rows_depend_on_the_seed_and_chosen_ones_do_not():
    data = source()
    for family in CORESETS:
        one, other = (as_set(made(family(rows=10), data, seed=seed)) for seed in (0, 1))
        assert (one == other) == (family is not TableRandom)


def test_shuffled_labels_are_the_same_labels_and_say_nothing():
    data = TableSource("toy", rows(20_000), rows(10))
    found = made(ShuffledLabels(), data)
    assert torch.equal(found.labels.sum(), data.train.labels.sum())
    rates = [float(found.labels[found.groups == group].double().mean()) for group in (0, 1)]
    assert abs(rates[0] - rates[1]) < 0.02
    assert len(made(ShuffledLabels(rows=7), data)) == 7


@pytest.mark.parametrize(
    "method, sentence",
    [
        (TableRandom(rows=601), "rows is 601, but toy has 600 training rows. Give fewer."),
        (TableHerding(rows=1), "rows is 1, but toy has 2 classes. Give 2 or more."),
        (ShuffledLabels(rows=1000), "rows is 1000, but toy has 600 training rows. Give fewer."),
    ],
)
def test_more_rows_than_there_are_and_fewer_than_classes_are_refused(method, sentence):
    with pytest.raises(InputError) as refused:
        made(method, source())
    assert str(refused.value) == sentence


def test_a_table_of_one_class_has_one_class():
    table = rows(100)
    table = table.select((table.labels == 1).nonzero().flatten())
    assert len(made(TableKCenter(rows=1), TableSource("toy", table, table))) == 1
