"""Tables measured by what a classifier learns from them, over several tables and trainings, beside real rows."""

import dataclasses
import math
from dataclasses import dataclass, field

import pytest
import torch

from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.tables import score
from attar.tables.artefact import Origin
from attar.tables.mitigation import RIVALS
from attar.tables.pictures import Point, marginals_picture, worth_against_gap
from attar.tables.scoring import Scoring
from attar.tables.sources import Column, Rows, Schema
from tables.made import SCHEMA, drawn, source

QUICK = {"downstream": "logistic", "resamples": 20, "compared": 100, "decoded": 3}


@dataclass(frozen=True)
class Made:
    """What the measurement reads of a table."""

    rows: Rows
    origin: Origin
    tables: tuple
    scores: dict = field(default_factory=dict)
    folder: None = None
    generator: object = None

    def sample(self, count, seed=0):
        return drawn(count, seed=seed)


def made(of, *, seed=0, rows=150, tables=3, settings=None, label=None, **more):
    found = [drawn(rows, seed=100 * seed + number + 7) for number in range(tables)]
    if label is not None:
        found = [one.replaced("paid", label(one)) for one in found]
    origin = Origin("loans", of.fingerprint, "fair", settings or {"beta": 1}, seed, {}, full=len(of.train))
    return Made(found[0], origin, tuple(found), **more)


@pytest.fixture(autouse=True)
def rivals_of_attar(monkeypatch):
    """fairlearn's are slow."""
    few = [dataclasses.replace(one, draws=2) for one in RIVALS if not one.library]
    monkeypatch.setattr(score, "RIVALS", few)


@pytest.fixture(scope="module")
def loans():
    return source()


@pytest.fixture
def quiet(engine):
    lines = []
    return Runtime(engine, 0, say=lines.append), lines


def test_two_trainings_of_three_tables_make_a_row_with_both_spreads(loans, quiet):
    runtime, lines = quiet
    found = score.measure([made(loans, seed=seed) for seed in (0, 1)], loans, Scoring(**QUICK), runtime)
    (row,) = found.rows
    assert found.columns == (
        "accuracy", "AUROC", "DPD", "DPD at matched rate", "DPR", "EOD", "EOR", "disparate impact"
    )  # fmt: skip
    assert (row.count, row.full_count, row.seeds) == (150, 400, (0, 1))
    auroc = row.cells[1]
    assert [len(tables) for tables in auroc.values] == [3, 3]
    assert auroc.spread.sets is not None and auroc.spread.networks is not None
    assert auroc.score.value > 75 and auroc.chance == 50 and auroc.full.value > 80
    low, high = auroc.score.interval
    assert low < auroc.score.value < high
    assert auroc.score.n == 6 and "AUC(score → s)" in auroc.further
    assert "trainings vary by" in str(found) and "tables by" in str(found)
    assert "6 tables on 2 trainings" in str(found)
    assert any("training 2 of 2, tables 3, accuracy" in line for line in lines)


def test_rows_of_the_same_law_are_told_to_be_so(loans, quiet):
    table = made(loans, tables=1)
    (row,) = score.measure([table], loans, Scoring(**QUICK, beside="skip"), quiet[0]).rows
    told = {name: measure.score.value for name, measure in row.cells[0].further.items()}
    assert set(told) == set(score.QUALITY)
    assert told["density"] == pytest.approx(100, abs=40) and told["coverage"] > 80
    assert told["marginals, total variation"] < 12 < told["pairs, total variation"] < 40
    assert told["two-sample AUC"] == pytest.approx(50, abs=16)
    assert told["nearer to training than to test rows"] == pytest.approx(50, abs=16)
    assert told["copies of training rows"] == 0
    assert not row.cells[0].beside and row.cells[0].full is None


def test_rows_that_are_copies_are_told_to_be_so(loans, quiet):
    table = dataclasses.replace(made(loans), rows=loans.train, tables=(loans.train,))
    (row,) = score.measure([table], loans, Scoring(**QUICK | {"compared": 400}, beside="skip"), quiet[0]).rows
    told = {name: measure.score.value for name, measure in row.cells[0].further.items()}
    assert told["copies of training rows"] == 100
    assert told["nearer to training than to test rows"] > 80 and told["marginals, total variation"] == 0


def test_rivals_stand_beside_at_equal_rows(loans, quiet):
    (row,) = score.measure([made(loans, tables=1)], loans, Scoring(**QUICK), quiet[0]).rows
    labels = [one.label for one in row.cells[0].beside]
    assert labels[:3] == ["150 real rows", "drop-s, 150 real rows", "reweighing, 150 real rows"]
    assert labels[-2:] == ["shuffled labels, 150 real rows", "constant, 150 real rows"]
    assert all((one.count, one.score.n) == (150, 2) for one in row.cells[0].beside)
    assert row.cells[0].whole == "all 400 real rows"
    dpd = {one.label: one.score.value for one in row.cells[2].beside}
    assert dpd["constant, 150 real rows"] == 0 and dpd["correlation remover, 150 real rows"] < dpd["150 real rows"]
    assert [one.label for one in row.cells[4].beside][:2] == ["all 400 real rows", "150 real rows"]
    assert row.cells[4].full is None and row.cells[1].kept > 50


def test_all_rows_are_one_draw(loans, quiet):
    whole = Scoring(**QUICK, beside="run")
    (row,) = score.measure([made(loans, rows=400, tables=1)], loans, whole, quiet[0]).rows
    assert row.cells[1].beside[0].score.n == 1
    assert row.cells[1].beside[0].label == "drop-s, 400 real rows", "all real rows stand there as the whole"


def test_what_is_not_installed_is_left_out_with_a_word(loans, quiet, monkeypatch):
    monkeypatch.setattr("attar.tables.mitigation.find_spec", lambda name: None)
    monkeypatch.setattr(score, "RIVALS", RIVALS)
    runtime, lines = quiet
    score.measure([made(loans, tables=1)], loans, Scoring(**QUICK), runtime)
    assert "threshold optimizer is not measured beside it, since fairlearn is not installed." in lines


def test_several_methods_are_rows_without_rivals_that_are_compared(loans, quiet):
    tables = [made(loans, seed=seed, settings={"beta": beta}) for beta in (0, 1) for seed in (0, 1)]
    found = score.measure(tables, loans, Scoring(**QUICK), quiet[0])
    assert [row.label for row in found.rows] == ["fair beta 0", "fair beta 1"]
    assert found.difference(1).unit == "trainings in pairs" and not found.rows[0].cells[0].beside
    assert [len(row.cells) for row in found.rows] == [8, 8]


def test_a_generator_is_asked_for_further_tables(loans, quiet):
    one = made(loans, tables=1, generator=object())
    assert len(score.tables_of(one, Scoring(decoded=4), quiet[0])) == 4
    assert len(score.tables_of(made(loans, tables=5), Scoring(decoded=4), quiet[0])) == 4
    assert len(score.tables_of(made(loans, tables=1), Scoring(decoded=4), quiet[0])) == 1


def test_a_collapsed_code_is_called_so(loans, quiet):
    runtime, lines = quiet
    codes = {"AUC(y|z)": 0.53, "AUC(s|z)": 0.5, "AUC(s|μ)": 0.97}
    table = made(loans, tables=2, scores=codes)
    (row,) = score.measure([table], loans, Scoring(**QUICK, beside="skip"), runtime).rows
    assert "collapsed: a classifier reads the label from the code with an AUC of 53.0 %" in row.cells[0].note
    assert any(line.startswith("note: collapsed") for line in lines)
    assert {name: one.score.value for name, one in row.cells[1].further.items() if name in codes} == {
        "AUC(s|z)": 50.0, "AUC(s|μ)": 97.0, "AUC(y|z)": 53.0
    }  # fmt: skip


def test_a_table_that_forgot_the_label_is_called_so(loans, quiet):
    table = made(loans, label=lambda rows: torch.zeros(len(rows)))
    (row,) = score.measure([table], loans, Scoring(**QUICK, beside="skip"), quiet[0]).rows
    assert "its tables have forgotten the label: AUROC 50.0 %" in row.cells[0].note


def test_what_no_table_defines_is_not_a_number_and_the_columns_stay(loans, quiet):
    table = made(loans, label=lambda rows: torch.zeros(len(rows)))
    found = score.measure([table], loans, Scoring(**QUICK, beside="skip"), quiet[0])
    cells = {cell.column: cell for cell in found.networks}
    assert math.isnan(cells["DPR"].score.value) and cells["DPR"].score.interval is None
    assert cells["DPD"].score.value == 0 and len(cells) == 8
    assert cells["DPR"].note == "not defined by 3 tables, which are left out"
    assert found.to_json()["rows"][0]["columns"][4]["value"] is None


def test_scores_are_read_again_from_the_card(loans, quiet):
    (row,) = score.measure([made(loans)], loans, Scoring(**QUICK, beside="skip"), quiet[0]).rows
    for cell in row.cells:
        again = Cell.from_json(cell.to_json())
        assert again.score == cell.score and again.values == cell.values and again.column == cell.column


def test_the_same_table_has_the_same_scores_again(loans, engine):
    first, second = (
        score.measure([made(loans)], loans, Scoring(**QUICK), Runtime(engine, 3)).to_json()["rows"] for _ in range(2)
    )
    assert first == second


def test_bad_input_is_told_in_one_line(loans, quiet):
    runtime, lines = quiet
    with pytest.raises(InputError, match=r"^there is no table to evaluate; give one or more\.$"):
        score.measure([], loans, Scoring(), runtime)
    other = Schema(columns=(Column(name="weight"), *SCHEMA.columns[1:]), positive="yes")
    strange = dataclasses.replace(made(loans), rows=Rows(other, drawn(150).values))
    with pytest.raises(InputError, match=r"^the table has column 'weight', which loans lacks\. Give the data that"):
        score.measure([strange], loans, Scoring(), runtime)
    with pytest.raises(InputError, match="decoded"):
        Scoring(decoded=0)
    elsewhere = dataclasses.replace(made(loans).origin, fingerprint="other")
    odd = dataclasses.replace(made(loans, tables=1), origin=elsewhere)
    score.measure([odd], loans, Scoring(**QUICK, beside="skip"), runtime)
    assert "note: the rows of loans differ from those that this table was made from." in lines


def test_pictures_are_drawn(loans):
    drawing = marginals_picture([loans.test], loans.train)
    assert drawing[:4] == b"\x89PNG" and marginals_picture([loans.test], loans.train) == drawing
    curve = [Point("fair", 80 - 5 * n, 20 - 5 * n, 1.0, 2.0, f"β {n}") for n in range(4)]
    rivals = [Point("real rows", 90.0, 18.0), Point("reweighing", 89.0, 10.0, 0.5, 0.5)]
    assert worth_against_gap({"fair": curve}, rivals)[:4] == b"\x89PNG"
