"""The bundled table: the same each time, quick, of mixed types, and with a gap that is known."""

import time

import pytest
import torch

from attar.tables.data import applicants as module
from attar.tables.data.applicants import applicants, schema, share_green, truth


def test_it_is_the_same_each_time_and_quick():
    start = time.process_time()
    first = applicants()
    assert time.process_time() - start < 1
    assert (len(first.train), len(first.test)) == (4000, 2000)
    assert applicants().fingerprint == first.fingerprint


def test_it_has_columns_of_every_type_and_values_that_they_may_have():
    source = applicants()
    source.train.check("the training rows")
    stored = {column.stored.partition("<")[0] for column in source.schema.columns}
    assert stored == {"int64", "string", "int32", "double", "bool", "dictionary", "date32[day]"}
    assert source.train.of("savings").isnan().double().mean() == pytest.approx(0.05, abs=0.02)
    assert source.schema.groups == ("amber", "green") and source.schema.positive == "yes"


def test_what_is_seen_is_what_the_graph_says():
    source = applicants()
    for group, expected in enumerate(truth().observed):
        mine = torch.cat([part.labels[part.groups == group] for part in (source.train, source.test)]).double()
        assert float(mine.mean()) == pytest.approx(expected, abs=4 * float(mine.std()) / len(mine) ** 0.5)


def drawn_by_hand(group: int, district: int, schooling: int, count: int = 400_000) -> float:
    """The share of the approved if all were of a group, by simulation of the graph in another way."""
    generator = torch.Generator().manual_seed(0)
    age = torch.randint(20, 66, (count,), generator=generator)
    breaks = torch.randint(0, 10, (count,), generator=generator)
    learned = torch.multinomial(torch.tensor(module.SCHOOLING_OF[schooling]), count, True, generator=generator)
    place = torch.multinomial(torch.tensor(module.DISTRICT_OF[district]), count, True, generator=generator)
    late = torch.multinomial(torch.tensor(module.LATE), count, True, generator=generator)
    logit = -1.2 + 0.05 * (age - 20 - breaks).clamp_min(0) - 0.8 * late
    logit = logit + torch.tensor([0.0, 0.9, 1.8])[learned] + torch.tensor([-0.9, 0.8, 0.3, -0.5])[place]
    return float(torch.sigmoid(logit).mean())


def test_the_caused_gap_is_that_of_an_intervention_and_smaller_than_the_one_that_is_seen():
    known = truth()
    assert known.caused == pytest.approx([drawn_by_hand(g, g, g) for g in (0, 1)], abs=2e-3)
    amber = known.caused[0]
    assert known.through_district == pytest.approx(amber - drawn_by_hand(0, 1, 0), abs=3e-3)
    assert known.through_schooling == pytest.approx(amber - drawn_by_hand(0, 0, 1), abs=3e-3)
    assert 0 < known.gap < known.observed[0] - known.observed[1]
    assert applicants().truth is known


def test_the_docstring_states_the_truth():
    known = truth()
    for seen, caused in zip(known.observed, known.caused, strict=True):
        assert f"{seen:.3f}" in module.__doc__ and f"{caused:.3f}" in module.__doc__


def test_the_young_are_more_often_green():
    assert share_green(torch.tensor([20.0, 65.0])).tolist() == pytest.approx([0.6, 0.1])


def test_columns_are_in_the_order_of_the_values():
    names = [column.name for column in schema().columns]
    ages = applicants().train.values[:, names.index("age")]
    assert float(ages.min()) == 20 and float(ages.max()) == 65
