"""What is found below a folder."""

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

import attar
from attar.core.errors import InputError
from attar.images.networks.architecture import Architecture
from attar.reporting.collect import collect, curves, strips

DM = {"ipc": 2, "steps": 6, "real_batch": 4, "architecture": Architecture(width=4)}


@pytest.fixture
def runs(digits, engine, tmp_path):
    """Two runs, one of them with snapshots."""
    attar.condense(digits, attar.Random(ipc=3), out=tmp_path / "random", engine=engine)
    snapped = dataclasses.replace(engine, snapshots=3)
    attar.condense(digits, attar.DM(**DM), out=tmp_path / "deep" / "dm", engine=snapped)
    return tmp_path


def test_every_run_is_found_with_what_is_known_of_it(runs, digits):
    found = collect(runs)
    assert [run.name for run in found.runs] == ["deep/dm", "random"]
    dm, random = found.runs
    assert (dm.method, dm.per_class, dm.images, dm.seed) == ("dm", "2 per class", 20, 0)
    assert dm.settings["width"] == 4
    assert dm.seconds > 0
    assert len(dm.curves["loss"]) == 6
    assert [step for step, _ in dm.snapshots] == [2, 4, 6]
    assert not random.curves
    assert not random.snapshots
    assert dm.command.startswith("attar condense dm --data digits")


def test_a_strip_holds_a_classes_pictures(digits, engine):
    small = attar.condense(digits, attar.Random(ipc=3), engine=engine)
    strip = list(strips(small, 2))[4]
    picture = np.asarray(Image.open(io.BytesIO(strip.png)))
    assert (strip.label, strip.shown, strip.total) == ("4", 2, 3)
    assert picture.shape == (8, 17, 4)
    assert np.array_equal(picture[:, :8, 0], small.pixels[12][:, :, 0])


def test_scores_of_evaluate_and_of_tables_are_read(runs):
    score = {"value": 80.0, "unit": "%", "better": "higher", "spread": 1.5, "n": 5}
    row = {"network": "convnet", "protocol": "field", "score": score, "kept": 90.0}
    (runs / "random" / "scores.json").write_text(json.dumps([row]))
    (runs / "deep" / "dm" / "run" / "score-quick-2-width-4.json").write_text("[50.0, 52.0]")
    dm, random = collect(runs).runs
    assert (random.best.value, random.best.kept, random.best.n) == (80.0, 90.0, 5)
    assert (dm.best.network, dm.best.protocol) == ("convnet (width-4)", "quick")
    assert (dm.best.value, dm.best.spread) == (51.0, 1.0)


def test_what_is_broken_or_unfinished_is_said_and_the_rest_shown(runs):
    (runs / "broken").mkdir()
    (runs / "broken" / "artefact.json").write_text("{}")
    (runs / "table.json").write_text("{}")
    (runs / "half" / "run").mkdir(parents=True)
    (runs / "half" / "run" / "settings.json").write_text("{}")
    found = collect(runs)
    assert len(found.runs) == 2
    reasons = dict(found.skipped)
    assert reasons["half"] == "its run is unfinished; the same command goes on."
    assert "damaged" in reasons["broken/artefact.json"]
    assert "is no table of attar bench" in reasons["table.json"]


def test_a_curve_survives_a_line_that_was_cut_off(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo')
    assert curves(tmp_path / "metrics.jsonl") == {"loss": ((1, 2.0), (2, 1.0))}
    assert curves(tmp_path / "none.jsonl") == {}


def test_nothing_to_report_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds nothing to report: no condensed set, and no table of attar bench"):
        collect(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        collect(tmp_path / "none")
