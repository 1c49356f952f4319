"""`scores.json`: both forms, and what is not one of them."""

import json
import math
import statistics

import pytest

from attar.core.cell import Beside, Cell, Measure
from attar.core.score import Score
from attar.core.scores import SCORES, keep_scores, scores_in


def cell(column="convnet", protocol="field", value=50.0, **more):
    return Cell.of([[value, value + 1]], column=column, protocol=protocol, **more)


OLDER = {
    "network": "convnet",
    "protocol": "field",
    "score": {"value": 97.5, "unit": "%", "better": "higher", "spread": 0.5, "n": 2},
    "spread": {"sets": None, "networks": 0.7},
    "values": [[97.0, 98.0]],
    "full": {"value": 99.0, "unit": "%", "better": "higher", "spread": 0.0, "n": 1},
    "chance": 10.0,
    "beside": [
        {
            "label": "random, as many bytes",
            "score": {"value": 99.7, "unit": "%", "better": "higher", "spread": 0.2, "n": 3},
            "images": 40,
            "bytes": 3000,
        }
    ],
    "kept": 98.5,
    "kept_above_chance": 98.3,
}


def test_a_score_comes_back_with_all_that_it_is_read_with(tmp_path):
    kept = cell(
        full=Score.of([60.0, 62.0]),
        whole="its teacher",
        chance=10.0,
        kept_by_set=(84.0,),
        further={"last": Measure.of([[1.0, 2.0]], "nats", "lower")},
        beside=(Beside("random", Score(99.7, spread=0.1, n=2), 40, 3000), Beside("dense", Score(2.0, "ms", "lower"))),
    )
    timed = Cell(Score(1.5, "×", n=31, interval=(1.2, 1.8)), ((1.5,),), column="times faster")
    keep_scores(tmp_path, [kept, timed])
    assert scores_in(tmp_path) == [kept, timed]
    facts = json.loads((tmp_path / SCORES).read_text(encoding="utf-8"))
    assert (facts["schema"], facts["scores"][0]["value"], facts["scores"][0]["kept"]) == (2, 50.5, 84.0)


def test_scores_replace_older_ones_of_the_same_column_and_protocol(tmp_path):
    assert scores_in(tmp_path) == []
    keep_scores(tmp_path, [cell("convnet"), cell("mlp")])
    keep_scores(tmp_path, [cell("convnet", value=2.0), cell("convnet", "quick")])
    assert scores_in(tmp_path) == [cell("mlp"), cell("convnet", value=2.0), cell("convnet", "quick")]


def test_the_older_form_is_read_with_the_sample_deviation(tmp_path):
    (tmp_path / SCORES).write_text(json.dumps([OLDER]), encoding="utf-8")
    (found,) = scores_in(tmp_path)
    assert (found.column, found.protocol, found.score.value, found.score.n) == ("convnet", "field", 97.5, 2)
    assert found.score.spread == pytest.approx(statistics.stdev([97.0, 98.0]))
    assert found.full == Score(99.0)
    assert found.kept == 98.5
    assert found.kept_above_chance == pytest.approx(100 * 87.5 / 89)
    (beside,) = found.beside
    assert (beside.label, beside.count, beside.bytes) == ("random, as many bytes", 40, 3000)
    assert beside.score.spread == pytest.approx(0.2 * math.sqrt(3 / 2))
    keep_scores(tmp_path, [cell("mlp")])
    assert [one.column for one in scores_in(tmp_path)] == ["convnet", "mlp"]


def test_the_older_form_of_graphs_had_what_is_kept_of_the_last_epoch(tmp_path):
    last = {"value": 70.0, "unit": "%", "better": "higher", "spread": 1.0, "n": 2}
    row = {**OLDER, "last": last, "last_values": [[69.0, 71.0]], "metric": "accuracy", "beside": None}
    (tmp_path / SCORES).write_text(json.dumps([row]), encoding="utf-8")
    (found,) = scores_in(tmp_path)
    assert found.score == Score.of([69.0, 71.0])
    assert found.further["at the epoch with the best validation score"].score.value == 97.5


@pytest.mark.parametrize(
    "odd",
    [
        "{",
        "[",
        "1",
        '{"network": "mlp"}',
        '[1, null, "x"]',
        '{"scores": {}}',
        "[" * 100_000,
        json.dumps([{**OLDER, "score": {"value": "97"}, "values": None}]),
        json.dumps([{**OLDER, "score": {**OLDER["score"], "n": "<script>"}, "values": None}]),
        json.dumps([{**OLDER, "score": {"value": math.nan}, "values": None}]),
        json.dumps([{**OLDER, "network": 7}]),
        json.dumps({"schema": 2, "scores": [{"column": "x", "value": True}]}),
    ],
)
def test_what_is_no_score_is_left_out(odd, tmp_path):
    (tmp_path / SCORES).write_text(odd, encoding="utf-8")
    assert scores_in(tmp_path) == []


def test_a_file_of_bytes_is_left_out(tmp_path):
    (tmp_path / SCORES).write_bytes(b"\xff\xfe")
    assert scores_in(tmp_path) == []


def test_what_is_not_finite_is_null(tmp_path):
    """H3: a teacher at 0 % leaves nothing to keep, and JSON is always valid."""
    kept = cell(full=Score(0.0), further={"error": Measure.of([[math.nan]])})
    keep_scores(tmp_path, [kept])
    text = (tmp_path / SCORES).read_text(encoding="utf-8")
    assert "NaN" not in text
    assert json.loads(text)["scores"][0]["kept"] is None
    (found,) = scores_in(tmp_path)
    assert found.further == {}
