"""Rows × columns of scores: repeats of one row, pairs, and what a score is read with."""

import json
import math
from types import SimpleNamespace

import pytest

from attar.core.cell import Beside, Cell, Measure
from attar.core.evaluation import Evaluation, Row, difference
from attar.core.rows import cost_of, rows_of
from attar.core.score import Score, Spread, paired, welch


def thing(method="dm", seed=0, folder=None, **settings):
    origin = SimpleNamespace(method=method, settings=settings, seed=seed)
    return SimpleNamespace(origin=origin, folder=folder)


def row(label, values, seeds, **more):
    things = [thing(label, seed) for seed in seeds]
    cell = Cell.of(values, column="convnet", protocol="field", **more)
    return Row.of(label, things, [cell], count=10, bytes=100, full_count=50, full_bytes=1000)


ONE = row("dm", [[80.0, 82.0], [84.0, 86.0]], (0, 1), full=Score(90.0), whole="all 50", chance=10.0)
TWO = row("random", [[70.0, 75.0], [71.0, 80.0]], (0, 1))


def test_things_that_differ_in_the_seed_alone_are_one_row():
    things = [thing(seed=1, ipc=1), thing(seed=0, ipc=1), thing(seed=0, ipc=3), thing("random", ipc=3)]
    rows = rows_of(things)
    assert [(label, [one.origin.seed for one in members]) for label, members in rows] == [
        ("dm ipc 1", [0, 1]),
        ("dm ipc 3", [0]),
        ("random", [0]),
    ]


def test_what_tells_rows_apart_besides_is_named_only_where_it_must_be():
    things = [thing(ipc=1), thing(ipc=1, seed=1)]
    assert len(rows_of(things, lambda one: {"of": one.origin.seed})) == 2
    labels = [label for label, _ in rows_of(things, lambda one: {"of": one.origin.seed})]
    assert labels == ["dm of 0", "dm of 1"]
    apart = rows_of([thing(ipc=1), thing(ipc=2)], lambda one: {"of": one.origin.settings["ipc"]})
    assert [label for label, _ in apart] == ["dm ipc 1", "dm ipc 2"]


def test_nested_settings_tell_rows_apart_in_their_place():
    things = [thing(network={"width": 8, "depth": 2}), thing(network={"width": 4, "depth": 2})]
    assert [label for label, _ in rows_of(things)] == ["dm width 8", "dm width 4"]


def test_a_cell_is_the_mean_of_all_with_sets_apart_from_networks():
    (cell,) = ONE.cells
    assert cell.score == Score.of([80.0, 82.0, 84.0, 86.0])
    assert cell.by_set == [81, 85]
    assert cell.spread == Spread.of([[80.0, 82.0], [84.0, 86.0]])
    assert cell.kept == pytest.approx(100 * 83 / 90)
    assert cell.kept_above_chance == pytest.approx(100 * 73 / 80)


def test_one_of_several_sets_has_its_own_score_and_what_was_measured_beside_it():
    cell = Cell.of(
        [[80.0, 82.0], [84.0, 86.0]],
        kept_by_set=(90.0, None),
        further={"last": Measure.of([[1.0], [2.0]])},
        beside=(Beside("random", Score(1.0)),),
    )
    assert cell.kept == 90
    first, second = cell.of_set(0), cell.of_set(1)
    assert (first.score, second.score) == (Score.of([80.0, 82.0]), Score.of([84.0, 86.0]))
    assert (len(first.beside), len(second.beside)) == (1, 0)
    assert (first.kept, second.kept) == (90, None)
    assert second.further["last"].score == Score(2.0)


def test_rows_are_compared_in_pairs_of_sets():
    found = Evaluation((ONE, TWO)).difference(1)
    assert found.unit == "sets in pairs"
    assert found.interval == paired([72.5, 75.5], [81.0, 85.0])


def test_single_sets_are_compared_in_pairs_of_networks():
    found = Evaluation((ONE.of_set(0), TWO.of_set(1))).difference(1)
    assert found.unit == "networks in pairs"
    assert found.interval == paired([71.0, 80.0], [80.0, 82.0])


def test_other_seeds_are_compared_unpaired():
    one, two = ONE.cells[0], TWO.cells[0]
    found = difference(one, two, same_seeds=False)
    assert (found.unit, found.interval) == ("sets", welch(one.by_set, two.by_set))


def test_a_row_differs_from_itself_by_nothing():
    interval = Evaluation((ONE, TWO)).difference(1, to=1).interval
    assert (interval.difference, interval.low, interval.high) == (0, 0, 0)


def test_further_measures_are_compared_too():
    first, second = (
        row(name, [[1.0]], (0,), further={"last": Measure.of([[last, 9.0]])}) for name, last in (("a", 5.0), ("b", 7.0))
    )
    assert Evaluation((first, second)).difference(1, measure="last").interval.difference == 1


def test_one_row_is_told_in_lines_with_its_rivals_below():
    beside = (Beside("random, as many bytes", Score(99.7, spread=0.1, n=2), 40, 3000),)
    alone = row("dm", [[97.0, 98.0]], (0,), beside=beside, further={"last": Measure.of([[50.0]])}, chance=10.0)
    assert str(Evaluation((alone,), seconds=2.0)).splitlines() == [
        "convnet: 97.5 ± 0.7 % from 10 images (field protocol, 2 networks)",
        "  last: 50.0 %",
        "  beside it, always guessing: 10.0 %",
        "  beside it, random, as many bytes: 99.7 ± 0.1 % (3,000 bytes)",
        "100 bytes, 10 % of the whole; scored in 2.0 s",
    ]


def test_a_single_value_is_told_without_a_spread():
    """B3."""
    alone = row("dm", [[97.0]], (0,))
    assert str(Evaluation((alone,))).startswith("convnet: 97.0 % from 10 images (field protocol, 1 network)\n")
    assert alone.cells[0].to_json()["spread"] is None


def test_several_sets_are_told_with_how_sets_and_networks_vary():
    line = str(Evaluation((ONE,))).splitlines()[0]
    assert line == (
        "convnet: 83.0 ± 2.6 % from 10 images; kept 92.2 %, above chance 91.2 % "
        "(field protocol, 4 networks on 2 sets; sets vary by 2.6, networks by 1.4)"
    )


def test_several_rows_are_a_table_with_what_each_is_read_with():
    text = str(Evaluation((ONE, TWO)))
    assert text.splitlines()[0].split() == ["made", "by", "┃", "images", "┃", "bytes", "┃", "convnet"]
    assert "74.0 ± 4.5  (-9.0 " in text
    assert "difference to the first row with its 95 % interval, sets in pairs." in text
    assert text.endswith("beside dm, convnet: all 50: 90.0 %; always guessing: 10.0 %")


def test_json_is_valid_and_holds_every_difference():
    alone = Evaluation((row("a", [[1.0]], (0,)), row("b", [[2.0]], (0,))))
    facts = json.loads(json.dumps(alone.to_json(), allow_nan=False))
    assert facts["rows"][1]["over_first"] == [
        {"interval": {"difference": 1.0, "low": None, "high": None}, "unit": "networks in pairs"}
    ]
    assert facts["rows"][0]["columns"][0]["values"] == [[1.0]]
    assert not math.isnan(facts["seconds"])


def test_the_first_row_can_be_read_without_naming_it():
    found = Evaluation((ONE,))
    assert (found.networks, found.columns, found.images, found.bytes) == (ONE.cells, ("convnet",), 10, 100)
    assert found.of_set(1).rows[0].seeds == (1,)


def test_an_odd_cost_is_left_out(tmp_path):
    for name, text in {"a": '{"seconds": 2.0, "peak_memory": 7}', "b": "[]", "c": "{"}.items():
        (tmp_path / name / "run").mkdir(parents=True)
        (tmp_path / name / "run" / "cost.json").write_text(text, encoding="utf-8")
    assert cost_of([thing(folder=tmp_path / name) for name in "abcd"]) == (2.0, 7)
