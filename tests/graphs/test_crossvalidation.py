import math
import statistics

import pytest
from scipy import stats

from attar.core.errors import InputError
from attar.core.score import paired
from attar.graphs.coresets import GraphRandom, GraphStart
from attar.graphs.crossvalidation import corrected_interval, cross_validate
from attar.graphs.gstam import GSTAM
from attar.graphs.networks import Architecture
from attar.graphs.protocols import Protocol
from graphs.helpers import ENGINE
from promises import dying_in

BRIEF = Protocol(name="brief", epochs=6, training_lr=0.01, look_every=3)
SETTINGS = {"folds": 3, "repeats": 2, "network": "gcn:width=8", "protocol": BRIEF, "engine": ENGINE}


def test_without_a_correction_it_is_students_interval():
    first, second = [71.0, 68, 75, 70], [69.0, 69, 70, 66]
    assert corrected_interval(first, second, 0.0) == paired(first, second)


def test_the_correction_is_nadeau_and_bengios():
    gaps = [2.0, -1, 5, 4]
    found = corrected_interval(gaps, [0.0] * 4, 0.125)
    error = statistics.stdev(gaps) * math.sqrt(1 / 4 + 0.125)
    assert found.difference == 2.5
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 3) * error)


def test_one_pair_has_no_interval():
    assert corrected_interval([1.0], [0.0], 0.1).low == -math.inf


def test_methods_are_compared_on_the_same_folds(motifs, tmp_path):
    methods = {"start": GraphStart(gpc=2), "again": GraphStart(gpc=2), "random": GraphRandom(gpc=2)}
    result = cross_validate(methods, motifs, out=tmp_path, **SETTINGS)
    assert [len(row.last) for row in result.rows] == [6, 6, 6]
    assert result.row("again").last == result.row("start").last
    assert result.gain("again", "start").difference == 0
    assert result.test_to_train == pytest.approx(1, rel=0.05)  # three folds: one tests, one is left to train on
    assert result.best_rival("random") in ("start", "again")
    text = str(result)
    assert "last, minus start" in text
    assert text.count("\n") >= 6
    assert result.to_json()["rows"][2]["gain_last"]["low"] <= result.gain("random", "start").difference
    plain = cross_validate(methods, motifs, out=tmp_path, correction="none", **SETTINGS)
    wide, narrow = (r.gain("random", "start") for r in (result, plain))
    assert wide.high - wide.low > narrow.high - narrow.low


def test_it_goes_on_where_it_stopped(motifs, tmp_path, monkeypatch):
    from attar.graphs import crossvalidation

    whole = cross_validate([GraphStart(gpc=2)], motifs, out=tmp_path / "whole", **SETTINGS)
    with dying_in(crossvalidation, "_condensed", 5):
        cross_validate([GraphStart(gpc=2)], motifs, out=tmp_path / "cut", **SETTINGS)
    assert (tmp_path / "cut" / "graph-start" / "seed0" / "scores.json").exists()
    assert (tmp_path / "cut" / "graph-start" / "seed1" / "fold0" / "artefact.json").exists()
    again = cross_validate([GraphStart(gpc=2)], motifs, out=tmp_path / "cut", **SETTINGS)
    assert again.rows[0].last == whole.rows[0].last
    assert not (tmp_path / "cut" / "graph-start" / "seed1" / "fold0").exists()
    monkeypatch.setattr(crossvalidation, "_one_repeat", lambda *a: pytest.fail("measured again"))
    cross_validate([GraphStart(gpc=2)], motifs, out=tmp_path / "cut", **SETTINGS)
    with pytest.raises(InputError, match="holds another comparison"):
        cross_validate([GraphStart(gpc=3)], motifs, out=tmp_path / "cut", **{**SETTINGS, "folds": 4})


def test_the_whole_set_can_stand_beside(motifs):
    result = cross_validate([GraphStart(gpc=2)], motifs, whole=True, **{**SETTINGS, "repeats": 1})
    assert result.rows[-1].method == "whole set"
    assert result.rows[-1].bytes > result.rows[0].bytes


def test_no_method_is_refused(motifs):
    with pytest.raises(InputError, match="there is no method to compare"):
        cross_validate([], motifs, **SETTINGS)


def test_attention_matching_beats_its_own_start_on_motifs(motifs):
    """The claim, small: ten folds, the same starts and networks, and a corrected interval that excludes zero."""
    learning = {"steps": 160, "real_batch": 48, "lr_features": 0.03, "readout_weight": 1.0, "power": 1.0, "drop_at": 90}
    methods = [GraphStart(gpc=5), GSTAM(gpc=5, architecture=Architecture(width=32), **learning)]
    protocol = Protocol(name="short", epochs=60, training_lr=0.005)
    settings = {"folds": 10, "repeats": 1, "network": "gcn:width=32", "protocol": protocol, "engine": ENGINE}
    result = cross_validate(methods, motifs, **settings)
    assert result.gain("gstam", "graph-start").low > 0, str(result)
    assert result.gain("gstam", "graph-start", "chosen").low > 0, str(result)
