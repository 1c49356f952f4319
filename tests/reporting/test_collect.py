"""What is found below a folder: of every kind, with everything that lies beside it, whatever that is."""

import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import small
from attar.core import artefact, kinds
from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.kinds import Kind
from attar.core.score import Score
from attar.reporting import collect as collect_module
from attar.reporting import side
from attar.reporting.collect import collect
from attar.reporting.tables import table

from .conftest import ENTRIES

HOSTILE = "<script>alert('x')</script>"
ODD = {
    "not JSON": b'{"seconds": ',
    "not UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a long number": b"9" * 5000,
    "a list": b"[1, [2]]",
    "a text": b'"text"',
    "other types": json.dumps({"seconds": [HOSTILE], "peak_memory": {"a": 1}, "scores": {"n": HOSTILE}}).encode(),
    "no numbers": b'{"seconds": NaN, "peak_memory": Infinity, "scores": [{"value": NaN}, 3, null]}',
}


@pytest.fixture
def runs(folder, tmp_path):
    """A copy of a folder, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "runs"))


def test_seeds_of_one_method_are_one_row_and_other_settings_another(folder):
    found = collect(folder)
    (section,) = found.sections
    rows = {row.label: [run.name for run in row.runs] for row in section.rows}
    assert rows == {"dm lr 1.0": ["dm-0", "dm-1"], "dm lr 0.5": ["dm-slow"], "random": ["random"]}
    assert [run.number for run in found.runs] == [0, 1, 2, 3]


def test_a_row_has_the_mean_over_seeds_its_spread_and_what_it_is_read_with(folder):
    (section,) = collect(folder).sections
    cell = section.rows[0].score(("convnet", "quick", "%"))
    assert (cell.score.value, cell.score.n) == (66.5, 2)
    assert cell.score.spread == pytest.approx(np.std([62.0, 71.0], ddof=1))
    assert {other.label: other.score.value for other in cell.read_with} == {
        "all the data": 98.0,
        "always guessing": 10.0,
        "random, as many bytes": 99.7,
        "no augmentation": 40.0,
    }
    assert cell.kept == pytest.approx(100 * 66.5 / 98)


def test_the_same_seed_twice_counts_once(runs):
    shutil.copytree(runs / "dm-0", runs / "dm-0-again")
    (section,) = collect(runs).sections
    row = section.rows[0]
    assert (len(row.runs), row.seeds) == (3, 2)
    assert row.score(("convnet", "quick", "%")).score.n == 2


def test_a_run_is_known_with_all_of_its_making(folder):
    found = {run.name: run for run in collect(folder).runs}
    dm, random = found["dm-0"], found["random"]
    assert (dm.shown.size, dm.shown.count, dm.origin.seed) == ("10 images, 1 per class", 10, 0)
    assert (dm.settings["width"], dm.seconds > 0) == ("4", True)
    assert len(dm.curves["loss"]) == 6
    assert [picture.label for picture in dm.shown.snapshots] == ["step 2", "step 4", "step 6"]
    assert not random.curves
    assert not random.shown.snapshots


def test_strips_hold_the_pictures_of_a_class_and_say_how_many_there_are(folder):
    random = next(run for run in collect(folder, images=3).runs if run.name == "random")
    strip = random.shown.pictures[4]
    assert (strip.label, strip.shown, strip.total, strip.side) == ("4", 3, 12, 8)
    assert int.from_bytes(strip.png[16:20], "big") == 3 * 8 + 2


def test_commands_lead_from_the_page_to_the_artefact(every_kind, tmp_path):
    run = next(run for run in collect(every_kind, page=every_kind.parent / "pages").runs if run.name == "runnalls")
    assert run.place == Path("..") / every_kind.name / "runnalls"
    assert run.commands == (
        "attar compress runnalls --data standard-1d --n-components 5",
        f"attar compress --settings ../{every_kind.name}/runnalls --data standard-1d",
    )
    # Parts of a source, which were given as an object, have no name that a command could take.
    part = next(run for run in collect(every_kind).runs if run.name == "dm")
    assert part.commands == ()


def test_the_command_that_was_given_and_the_one_with_every_setting(runs):
    facts = json.loads((runs / "random" / "artefact.json").read_text(encoding="utf-8"))
    facts["origin"]["call"] = {"verb": "condense", "kind": "images", "data": "digits", "settings": {"ipc": 12}}
    artefact.write_facts(runs / "random", "images", 1, {k: v for k, v in facts.items() if k != "facts_digest"})
    run = next(run for run in collect(runs).runs if run.name == "random")
    assert run.commands == (
        "attar condense random --data digits --ipc 12",
        "attar condense --settings random --data digits",
    )


@pytest.mark.parametrize("call", [{"verb": HOSTILE}, {"verb": "condense", "kind": 3, "data": []}, {"any": 1}])
def test_an_odd_call_gives_no_command(call, runs):
    facts = json.loads((runs / "random" / "artefact.json").read_text(encoding="utf-8"))
    facts["origin"]["call"] = call
    artefact.write_facts(runs / "random", "images", 1, {k: v for k, v in facts.items() if k != "facts_digest"})
    assert next(run for run in collect(runs).runs if run.name == "random").commands == ()


def test_every_kind_is_shown_in_a_section_of_its_own(every_kind):
    found = collect(every_kind)
    assert found.skipped == ()
    assert [section.kind.name for section in found.sections] == list(kinds.built_in())
    for run in found.runs:
        assert run.shown.size
        assert run.curves or run.origin.method in ("graph-random", "runnalls", "table-random")


@pytest.mark.parametrize(("entry", "column"), [("runnalls", "angle"), ("conv", "times faster"), ("kd", "accuracy")])
def test_what_was_measured_at_once_is_a_score(entry, column, every_kind):
    run = next(run for run in collect(every_kind).runs if run.name == entry)
    assert run.scores[0].column == column
    facts = json.loads((every_kind / entry / "artefact.json").read_text(encoding="utf-8"))
    expected = {
        "runnalls": lambda: facts["distance"]["angle"],
        "conv": lambda: facts["whole"]["ratio"]["value"],
        "kd": lambda: facts["scores"]["student"],
    }[entry]()
    assert run.scores[0].score.value == expected


def test_a_language_student_has_its_teacher_beside_it(every_kind):
    run = next(run for run in collect(every_kind).runs if run.name == "language")
    facts = json.loads((every_kind / "language" / "artefact.json").read_text(encoding="utf-8"))
    (cell,) = run.scores
    assert (cell.score.value, cell.full.value) == tuple(
        facts["scores"][who]["cross_entropy"] for who in ("student", "teacher")
    )
    assert cell.kept == facts["scores"]["kept"]


def test_a_score_beside_an_artefact_goes_before_what_was_measured_at_once(every_kind, tmp_path):
    shutil.copytree(every_kind / "kd", tmp_path / "kd")
    entry = {"column": "accuracy", "value": 12.5, "beside": [{"label": "a rival", "score": {"value": 13.0}}]}
    (tmp_path / "kd" / "scores.json").write_text(json.dumps({"schema": 2, "scores": [entry]}), encoding="utf-8")
    (run,) = collect(tmp_path).runs
    assert [cell.score.value for cell in run.scores] == [12.5]


def test_scores_of_tables_are_read(runs):
    (runs / "random" / "run" / "score-quick-2-width-4.json").write_text("[50.0, 52.0]", encoding="utf-8")
    run = next(run for run in collect(runs).runs if run.name == "random")
    (cell,) = run.scores
    assert (cell.column, cell.protocol, cell.score.value) == ("convnet (width-4)", "quick", 51.0)
    assert cell.score.spread == pytest.approx(2**0.5)


def test_the_step_size_of_a_tables_score_is_said(runs):
    for name in ("score-quick+lr=0.05-2.json", "score-quick+lr=1e~05-1-width-4.json", "random-0-quick+lr=0.05-2.json"):
        (runs / "random" / "run" / name).write_text("[50.0, 52.0]", encoding="utf-8")
    run = next(run for run in collect(runs).runs if run.name == "random")
    found = {(cell.column, cell.protocol) for cell in run.scores}
    assert found == {("convnet", "quick, lr 0.05"), ("convnet (width-4)", "quick, lr 1e-05")}


def test_a_table_with_learned_step_sizes_and_networks_is_shown(tmp_path):
    facts = {"ipc": 1, "bytes": 9, "seconds": 15.0}
    cells = [
        {**facts, "label": "random", "values": [[50.0], [52.0]]},
        {**facts, "label": "MTT", "values": [[80.0], [82.0]], "prepared": 14.0, "random": [[60.0], [62.0]]},
    ]
    (tmp_path / "table.json").write_text(
        json.dumps({"data": "digits", "protocol": {"name": "quick"}, "full": None, "cells": cells}), encoding="utf-8"
    )
    (found,) = collect(tmp_path).tables
    page = table(found)
    assert "1.0 + 14.0" in page and "+20.0 [" in page
    assert "Sets with a learned step size are compared" in page and "Seconds after a plus" in page
    for odd in ({"random": [[]]}, {"random": [["much"]]}, {"prepared": "long"}):
        (tmp_path / "table.json").write_text(
            json.dumps({"data": "digits", "protocol": {"name": "quick"}, "cells": [{**cells[1], **odd}]}),
            encoding="utf-8",
        )
        assert collect(tmp_path).skipped[0][0] == "table.json"


@dataclass(frozen=True)
class Foreign(artefact.Shareable):
    """An artefact of another package that says nothing of how it is shown."""

    origin: artefact.Origin
    folder: Path | None = field(default=None, compare=False)

    kind = "foreign"
    title = "A foreign thing"
    bytes = 7

    @classmethod
    def load(cls, folder):
        return cls(artefact.Origin("somewhere", "", "by-hand", {"size": 3}, 0, {}), Path(folder))

    def save(self, folder):
        return self

    def card(self, scores):
        return ""

    def __str__(self):
        return "three of seven"


def test_an_artefact_of_another_package_is_shown_by_its_summary(monkeypatch, tmp_path):
    kind = Kind(name="foreign", holds="foreign things", makes="fewer", artefact="", reading="", tasks={"condense": ""})
    monkeypatch.setattr(Kind, "made", property(lambda self: Foreign))
    monkeypatch.setattr(kinds, "_further", lambda: {"foreign": kind})
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "artefact.json").write_text('{"kind": "foreign"}', encoding="utf-8")
    found = collect(tmp_path)
    assert found.skipped == ()
    (run,) = found.runs
    assert (run.shown.text, run.shown.bytes, run.shown.pictures) == ("three of seven", 7, ())


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("file", ["run/metrics.jsonl", "run/cost.json", "scores.json"])
def test_an_odd_file_beside_is_told_and_left_out_and_the_rest_shown(file, content, runs):
    (runs / "dm-0" / file).write_bytes(content + b"\n")
    found = collect(runs)
    assert len(found.runs) == 4
    assert [name for name, _ in found.skipped] == [f"dm-0/{file}"]


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
@pytest.mark.parametrize("file", ["dm-0/artefact.json", "table.json"])
def test_an_odd_artefact_or_table_is_told_and_the_rest_shown(file, content, runs):
    (runs / file).write_bytes(content)
    found = collect(runs)
    assert len(found.runs) + len(found.tables) == 4  # of four artefacts and a table
    assert [name for name, _ in found.skipped] == [file]


def test_tables_are_read_by_type(runs):
    table = json.loads((runs / "table.json").read_text(encoding="utf-8"))
    for change in ({"label": 3}, {"values": []}, {"values": [[]]}, {"values": [["9"]]}, {"bytes": HOSTILE}):
        (runs / "table.json").write_text(
            json.dumps({**table, "cells": [{**table["cells"][0], **change}]}), encoding="utf-8"
        )
        assert collect(runs).skipped == (("table.json", f"{runs / 'table.json'} is not a table of attar bench."),)


def test_an_entry_that_is_no_score_is_told_and_the_others_shown(runs):
    facts = json.loads((runs / "dm-0" / "scores.json").read_text(encoding="utf-8"))
    facts["scores"] += [{"column": "bad", "value": 1.0, "n": HOSTILE}, {"column": "far", "value": 1e300}]
    (runs / "dm-0" / "scores.json").write_text(json.dumps(facts), encoding="utf-8")
    found = collect(runs)
    assert found.skipped == (("dm-0/scores.json", "2 of its entries are not scores. Not shown."),)
    assert [cell.column for cell in found.runs[0].scores] == ["convnet"]


def test_what_is_broken_or_unfinished_is_said(runs):
    (runs / "broken").mkdir()
    (runs / "broken" / "artefact.json").write_text("{}", encoding="utf-8")
    (runs / "new").mkdir()
    (runs / "new" / "artefact.json").write_text('{"kind": "of tomorrow"}', encoding="utf-8")
    (runs / "half" / "run").mkdir(parents=True)
    (runs / "half" / "run" / "settings.json").write_text("{}", encoding="utf-8")
    reasons = dict(collect(runs).skipped)
    assert reasons["half"] == "its run is unfinished. Run the same command again to continue it."
    assert "damaged" in reasons["broken/artefact.json"]
    assert "which this version of attar does not know" in reasons["new/artefact.json"]


def test_a_curve_survives_a_line_that_was_cut_off(tmp_path):
    file, told = tmp_path / "metrics.jsonl", []
    file.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo', encoding="utf-8")
    assert side.curves(file, "it", told) == {"loss": ((1, 2.0), (2, 1.0))}
    assert side.curves(tmp_path / "none.jsonl", "it", told) == {}
    assert told == []


def test_a_curve_leaves_out_what_is_no_number_by_step_and_says_so(tmp_path):
    file, told = tmp_path / "metrics.jsonl", []
    lines = ['{"step": 1, "loss": 2}', '{"step": 2, "loss": NaN}', '{"step": "3"}', "[]", '{"step": 4, "loss": 1e-3}']
    file.write_text("\n".join([*lines, ""]), encoding="utf-8")
    assert side.curves(file, "it", told) == {"loss": ((1, 2.0), (4, 1e-3))}
    assert told == [("it", "3 of 5 lines do not hold numbers by step. Those are not shown.")]


def test_a_long_curve_is_thinned_with_its_ends_kept(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in range(5000)), encoding="utf-8")
    points = side.curves(file, "it", [])["loss"]
    assert len(points) == side.MOST_POINTS
    assert (points[0][0], points[-1][0]) == (0, 4999)


def test_nothing_to_report_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds nothing to report: no artefact, and no table of attar bench"):
        collect(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        collect(tmp_path / "none")


def test_the_entries_are_one_of_each_kind():
    assert sorted(map(small.kind_of, ENTRIES)) == sorted(kinds.built_in())


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_what_was_measured_at_once_is_shown_if_it_is_a_number(value):
    good, odd = (Cell(Score(number, "nats", "lower"), column=f"of {number}") for number in (1.0, value))
    assert collect_module._scores((odd, good), ()) == (good,)
