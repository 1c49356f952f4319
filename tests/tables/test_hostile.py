"""Tables as people have them: odd files and frames, rare groups, and what is told of them."""

import math
import time

import numpy as np
import pandas
import pytest
import torch

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.machine import Engine
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.tables import score
from attar.tables.artefact import Origin, SyntheticTable
from attar.tables.copula import GaussianCopula
from attar.tables.data.load import sources_from
from attar.tables.fair import FairTables
from attar.tables.pictures import _bins
from attar.tables.reading import told
from attar.tables.scoring import Scoring
from attar.tables.sources import Column, Rows, TableSource
from attar.tables.student import FairStudent
from attar.tables.tabfairgan import TabFairGAN
from attar.tables.teacher import FairTeacher
from attar.tables.tvae import TVAE
from tables.made import drawn, source

ROWS = 60


def frame(**columns):
    """A frame with a number, a group and a label, and other columns."""
    draw = np.random.default_rng(0)
    usual = {"x": draw.normal(size=ROWS), "sex": draw.choice(["F", "M"], ROWS), "label": draw.integers(0, 2, ROWS)}
    return pandas.DataFrame(usual | columns)


def refusal(data, **how):
    with pytest.raises(InputError) as raised:
        sources_from(data, **how)
    return str(raised.value)


# ------------------------------------------------------------------------------------------------------- what is read


def printed(capsys, *words):
    code = main(["data", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out + out.err


def test_the_kind_of_a_file_follows_from_its_form_its_columns_and_the_flags(tmp_path, capsys):
    people, plain, packed = tmp_path / "people.csv", tmp_path / "plain.csv", tmp_path / "packed.csv.gz"
    frame().to_csv(people, index=False)
    frame().rename(columns={"sex": "kind"}).to_csv(plain, index=False)
    frame().to_csv(packed, index=False)
    for words in ([people], [packed], [plain, "--sensitive", "kind"], [plain, "--sensitive=kind", "--label", "label"]):
        code, text = printed(capsys, *words)
        assert not code and "sensitive" in text and "F, M" in text, words
    with pytest.raises(SystemExit):
        main(["data", str(plain), "--sensitiv", "kind"])
    assert "unknown flag --sensitiv" in capsys.readouterr().err


def test_a_flag_of_several_kinds_changes_no_kind(capsys):
    code, text = printed(capsys, "digits", "--split-seed", "0")
    assert not code and text.startswith("digits")


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_an_index_that_was_saved_is_left_out(name, tmp_path):
    path = tmp_path / "saved.csv"
    frame().to_csv(path, index_label=name or None)
    found = sources_from(path)
    assert [column.name for column in found.schema.columns] == ["x", "sex", "label"]
    assert f"column {name!r} is left out: it numbers the rows" in found.notes


def test_a_column_that_numbers_the_rows_is_told(tmp_path):
    notes = sources_from(frame(case=range(100, 100 + ROWS))).notes
    assert "numbers the rows: case. Leave it out with --ignored case" in notes
    shuffled = np.random.default_rng(0).permutation(ROWS)
    assert not any("numbers" in note for note in sources_from(frame(case=shuffled)).notes)


@pytest.mark.parametrize(
    ("columns", "how", "words"),
    [
        ({"my id": [f"u{n}" for n in range(ROWS)]}, {}, "--ignored 'my id', or hash it with --hashed 'my id'."),
        ({"paid": [f"${n}.5" for n in range(ROWS)]}, {}, "such as '$0.5', which is read as text: write plain numbers"),
        ({"paid": [f"{n},000" for n in range(ROWS)]}, {}, "such as '0,000', which is read as text"),
        ({"": [f"u{n}" for n in range(ROWS)]}, {}, "the table has a column without a name. Give it one, or remove it."),
        ({"sex": [f"g{n % 30}" for n in range(ROWS)]}, {}, "has 30 groups; name one with up to 20, or divide it"),
        ({"sex": [f"g{n % 30}" for n in range(ROWS)]}, {}, "as in --sensitive sex=g15."),
        ({"label": [n % 3 for n in range(ROWS)]}, {}, "as in --label 'label<1'."),
        ({"label": ["abc"[n % 3] for n in range(ROWS)]}, {}, "as in --label label=b."),
        ({"label": [None] * 3 + ["a", "b"] * 28 + ["a"]}, {}, "row 0 of the table has no label in column 'label'."),
        ({"odd": [1, "a"] * 30}, {}, "Conversion failed for column odd with type object: Could not convert 'a'"),
    ],
)
def test_refusals_say_what_would_be_right(columns, how, words):
    text = refusal(frame(**columns), **how)
    assert words in text and "\n" not in text


def test_a_series_is_no_table_and_values_are_no_names(tmp_path):
    assert refusal(frame().x).startswith("data is of type Series; give a name")
    path = tmp_path / "headless.csv"
    path.write_text("\n".join(f"{n / 7},{'FM'[n % 2]},{n % 2}" for n in range(ROWS)), encoding="utf-8")
    assert refusal(path).endswith("Its first line must hold names, not values.")


def test_spaces_around_usual_names_are_no_trouble():
    found = sources_from(frame().rename(columns={"sex": " sex", "label": "Label "}))
    assert found.schema.sensitive.name == " sex" and found.schema.label.name == "Label "


def test_rows_without_a_group_are_a_group_and_that_is_told():
    found = sources_from(frame(sex=["F", "M", None] * 20))
    assert found.schema.groups == ("F", "M", "<missing>")
    assert "20 rows have no value in sensitive column 'sex': they are a group of their own" in found.notes


def test_levels_are_shown_on_one_line():
    assert told(Column(name="a", type="category", levels=("x\ny",))) == r"1 level: x\ny"
    assert told(Column(name="a", type="category", levels=("Größe", "日本"))) == "2 levels: Größe, 日本"


def test_a_thousand_columns_are_read_in_no_time(tmp_path):
    path = tmp_path / "wide.csv"
    values = np.random.default_rng(0).normal(size=(ROWS, 1000)).round(2)
    pandas.concat([pandas.DataFrame(values).add_prefix("f"), frame()], axis=1).to_csv(path, index=False)
    sources_from(frame())
    start = time.process_time()
    found = sources_from(path)
    assert len(found.schema.columns) == 1003 and time.process_time() - start < 3


# ------------------------------------------------------------------------------------------------- what is made of it


FEW = FairTables(rows=20, tables=1, teaching=FairTeacher(epochs=2), learning=FairStudent(student_epochs=1))


def quiet(seed=0):
    lines = []
    return Runtime(Engine(quiet=True), seed, say=lines.append), lines


METHODS = (TVAE(epochs=1), TabFairGAN(epochs=1, fair_epochs=1), GaussianCopula(), FEW)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_columns_of_one_value_and_of_none_stay_so(method, tmp_path):
    data = sources_from(frame(same=5.0, none=np.nan))
    made = attar.condense(data, method, out=tmp_path / "made")
    again = attar.open_artefact(tmp_path / "made")
    assert bool((made.rows.of("same") == 5).all()) and bool(made.rows.of("none").isnan().all())
    assert again.sample(7, seed=1) == made.sample(7, seed=1)


def test_a_fair_table_tells_what_codes_have_lost():
    lines = []
    made = attar.condense(source(train=400), FEW, say=lines.append)
    (line,) = [one for one in lines if "from codes" in one]
    assert line.startswith("label: AUC 0.") and "group: AUC 0." in line and "by chance at most" in line
    assert made.scores["AUC(y|real rows)"] > 0.7
    assert f"{made.scores['AUC(y|z)']:.2f} from codes, {made.scores['AUC(y|real rows)']:.2f} from real rows" in line


# ----------------------------------------------------------------------------------------------------- how it is scored

QUICK = {"downstream": "logistic", "resamples": 5, "compared": 60, "decoded": 2}


def made_of(loans, rows=60):
    origin = Origin(loans.name, loans.fingerprint, "copula", {}, 0, {}, full=len(loans.train))
    return SyntheticTable(loans.train.select(torch.arange(rows)), origin)


def test_a_group_of_one_label_has_no_threshold_and_is_told():
    rows = drawn(120, seed=1)
    label = torch.where(rows.groups == 1, 1, rows.labels)
    loans = TableSource("loans", rows.replaced("paid", label), drawn(200, seed=2))
    runtime, lines = quiet()
    found = score.measure([made_of(loans)], loans, Scoring(**QUICK), runtime)
    labels = [one.label for one in found.rows[0].cells[0].beside]
    assert "threshold optimizer is left out: all its training rows with 'b' have the same label." in lines
    assert not any(label.startswith("threshold") for label in labels) and "drop-s, 60 real rows" in labels


def test_undefined_rates_and_rare_groups_are_shown_as_such():
    loans = source(train=120, test=60)
    alone = TableSource("loans", loans.train, Rows(loans.schema, loans.test.values[loans.test.groups == 0]))
    runtime, lines = quiet()
    text = str(score.measure([made_of(alone)], alone, Scoring(**QUICK, beside="skip"), runtime))
    assert "disparate impact: undefined from 60 rows" in text and "nan" not in text
    assert "note: few test rows of 'b' (0), so that its rates say little." in lines
    assert str(Score(math.nan)) == "undefined"


def test_a_score_stands_in_a_table_with_what_it_is_compared_with():
    loans = source(train=120, test=150)
    text = str(score.measure([made_of(loans, rows=120)], loans, Scoring(**QUICK), quiet()[0]))
    lines = text.splitlines()
    (head,) = [line for line in lines if line.startswith("in %")]
    assert [word in head for word in score.COLUMNS] == [True] * len(score.COLUMNS)
    rows = {line.partition("│")[0].strip(): line for line in lines if "│" in line}
    assert {"copula", "all 120 real rows", "drop-s, 120 real rows", "always guessing"} <= set(rows)
    assert "120 real rows" not in rows, "they are all of them, which stand there"
    assert "–" in rows["threshold optimizer, 120 real rows"], "a rule without scores has no AUROC"
    assert len(lines) < 40


def test_how_long_it_takes_is_told_before(monkeypatch):
    loans = source(train=120, test=60)
    monkeypatch.setattr(score, "SOON", 0.0)
    monkeypatch.setattr(score.time, "perf_counter", iter(range(0, 10**6, 30)).__next__)
    runtime, lines = quiet()
    score.measure([made_of(loans)], loans, Scoring(**QUICK | {"decoded": 1}, beside="run"), runtime)
    assert lines[0].startswith("copula: about ") and lines[0].endswith("minutes for what it is compared with")


def test_bars_of_whole_numbers_hold_equally_many_of_them():
    ages = torch.arange(20, 67).double().repeat(10)
    cuts, middles = _bins(ages)
    counts = torch.bucketize(ages, cuts).bincount()
    assert counts[:-1].unique().tolist() == [30] and int(counts[-1]) <= 30 and len(counts) == len(middles) == 16
    assert middles[0] == 21
