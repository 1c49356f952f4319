"""Condensed sets side by side."""

import dataclasses

import pytest

import attar
from attar.core.errors import InputError
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.verbs import evaluate

TINY = Architecture(width=8)
BRIEFLY = {"protocol": Protocol(name="brief", epochs=3, lr=0.05), "ceiling": "skip"}


@pytest.fixture(scope="module")
def sets(digits, engine):
    """Two random sets of one image per class, and two of three."""
    return [attar.condense(digits, attar.Random(ipc=i), seed=s, engine=engine) for i in (1, 3) for s in (0, 1)]


@pytest.fixture(scope="module")
def table(sets, digits, engine):
    return evaluate(sets, digits, networks=[TINY, "mlp:width=8"], repeats=2, **BRIEFLY, engine=engine)


def test_sets_that_differ_in_the_seed_make_one_row(table):
    assert [(row.label, row.seeds) for row in table.rows] == [("random ipc 1", (0, 1)), ("random ipc 3", (0, 1))]
    assert table.columns == ("convnet", "mlp:width=8")


def test_rows_are_compared_in_pairs_of_sets(table):
    found = table.difference(1, 0)
    first, second = (row.cells[0].by_set for row in table.rows)
    assert found.unit == "sets in pairs"
    assert found.interval.difference == pytest.approx(sum(second) / 2 - sum(first) / 2)


def test_single_sets_are_compared_in_pairs_of_networks(sets, digits, engine):
    table = evaluate([sets[0], sets[2]], digits, networks=[TINY], repeats=3, **BRIEFLY, engine=engine)
    assert table.difference(1, 0).unit == "networks in pairs"


def test_a_row_differs_from_itself_by_nothing(table):
    interval = table.difference(1, 1, to=1).interval
    assert (interval.difference, interval.low, interval.high) == (0, 0, 0)


def test_the_table_prints_every_row_and_network(table):
    text = str(table)
    heads = ["made", "by", "┃", "images", "┃", "bytes", "┃", "convnet", "┃", "mlp:width=8"]
    assert text.splitlines()[0].split() == heads
    assert "random ipc 3" in text
    assert "difference to the first row with its 95 % interval, sets in pairs." in text
    assert table.to_json()["rows"][1]["over_first"][0]["unit"] == "sets in pairs"


def test_what_stands_beside_is_measured_unasked_for_a_single_row_alone(sets, digits, engine):
    given = {"networks": [TINY], "repeats": 1, **BRIEFLY, "engine": engine}
    assert len(evaluate(sets[:2], digits, **given).networks[0].beside) == 3
    assert not any(row.cells[0].beside for row in evaluate(sets, digits, **given).rows)
    asked = evaluate([sets[0], sets[2]], digits, **given, beside="run")
    (line,) = (line for line in str(asked).splitlines() if line.startswith("beside random ipc 3, convnet: IOR: "))
    assert "; always guessing: 10.2 %; without augmentation: " in line


def test_the_verb_compares_as_it_evaluates(sets, digits, engine):
    given = {"networks": ["mlp:width=8"], "repeats": 1, **BRIEFLY, "engine": engine}
    assert [row.label for row in attar.compare(sets, digits, **given).rows] == ["random ipc 1", "random ipc 3"]


def test_rows_of_one_method_are_told_apart_by_the_settings_that_differ(sets, digits, engine):
    other = dataclasses.replace(sets[0].origin, method="dm", settings={"ipc": 1, "architecture": {"width": 8}})
    dm = dataclasses.replace(sets[0], origin=other)
    table = evaluate([*sets, dm], digits, networks=[TINY], repeats=1, **BRIEFLY, engine=engine)
    assert [row.label for row in table.rows] == ["random ipc 1", "random ipc 3", "dm"]


def test_nothing_to_compare_is_refused(digits):
    with pytest.raises(InputError, match=r"there is nothing to evaluate\. Give an artefact"):
        evaluate([], digits)
