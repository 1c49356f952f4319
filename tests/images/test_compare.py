"""Condensed sets side by side."""

import dataclasses
import json

import pytest

import attar
from attar.core.errors import InputError
from attar.images.compare import compare, difference
from attar.images.networks.architecture import Architecture
from attar.images.training import Protocol

TINY = Architecture(width=8)
BRIEFLY = {"protocol": Protocol(name="brief", epochs=3, lr=0.05), "ceiling": "skip"}


@pytest.fixture(scope="module")
def sets(digits, engine):
    """Two random sets of one image per class, and two of three."""
    return [attar.condense(digits, attar.Random(ipc=i), seed=s, engine=engine) for i in (1, 3) for s in (0, 1)]


@pytest.fixture(scope="module")
def table(sets, digits, engine):
    return compare(sets, digits, networks=[TINY, "mlp:width=8"], repeats=2, **BRIEFLY, engine=engine)


def test_sets_that_differ_in_the_seed_make_one_row(table):
    assert [(row.label, row.seeds) for row in table.rows] == [("random ipc 1", (0, 1)), ("random ipc 3", (0, 1))]
    assert [network.network for network in table.rows[0].evaluation.networks] == ["convnet", "mlp:width=8"]


def test_rows_are_compared_in_pairs_of_sets(table):
    found = table.difference(1, 0)
    first, second = (row.evaluation.networks[0].by_set for row in table.rows)
    assert found.unit == "sets in pairs"
    assert found.interval.difference == pytest.approx(sum(second) / 2 - sum(first) / 2)


def test_single_sets_are_compared_in_pairs_of_networks(sets, digits, engine):
    table = compare([sets[0], sets[2]], digits, networks=[TINY], repeats=3, **BRIEFLY, engine=engine)
    assert table.difference(1, 0).unit == "networks in pairs"


def test_other_seeds_are_compared_unpaired(table):
    one, two = (row.evaluation.networks[0] for row in table.rows)
    assert difference(one, two, same_seeds=False).unit == "sets"


def test_a_row_differs_from_itself_by_nothing(table):
    interval = table.difference(1, 1, to=1).interval
    assert (interval.difference, interval.low, interval.high) == (0, 0, 0)


def test_the_table_prints_every_row_and_network(table):
    text = str(table)
    assert text.splitlines()[0].split() == [
        "condensed",
        "by",
        "┃",
        "images",
        "┃",
        "bytes",
        "┃",
        "convnet",
        "┃",
        "mlp:width=8",
    ]
    assert "random ipc 3" in text
    assert text.endswith("difference to the first row with its 95 % interval, sets in pairs.")
    assert json.loads(json.dumps(table.to_json()))["rows"][1]["over_first"][0]["unit"] == "sets in pairs"


def test_rows_of_one_method_are_told_apart_by_the_settings_that_differ(sets, digits, engine):
    other = dataclasses.replace(sets[0].origin, method="dm", settings={"ipc": 1, "architecture": {"width": 8}})
    dm = dataclasses.replace(sets[0], origin=other)
    table = compare([*sets, dm], digits, networks=[TINY], repeats=1, **BRIEFLY, engine=engine)
    assert [row.label for row in table.rows] == ["random ipc 1", "random ipc 3", "dm"]


def test_nothing_to_compare_is_refused(digits):
    with pytest.raises(InputError, match="there is no condensed set to compare"):
        compare([], digits)
