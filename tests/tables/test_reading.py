"""Reading tables of any form, with every type, odd ones, and the known sets."""

import datetime
import decimal
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

from attar.core.errors import InputError
from attar.tables.data.applicants import applicants
from attar.tables.data.columns import arrow_of, rows_of, settled
from attar.tables.data.found import found_in
from attar.tables.data.load import schema_in, schema_text, sources_from
from attar.tables.reading import Reading, looks_like

ROWS = 40


def every_type(rows: int = ROWS, seed: int = 0) -> pyarrow.Table:
    """A table with a column of every type that is read, some with missing values."""
    draw = np.random.default_rng(seed)
    whole = draw.integers(0, 100, rows)
    missing = draw.random(rows) < 0.2
    days = [datetime.date(1960, 1, 1) + datetime.timedelta(days=int(day) * 300) for day in whole]
    times = [datetime.datetime(2020, 1, 1) + datetime.timedelta(microseconds=int(w) * 1_234_567) for w in whole]
    words = [["red", "green", "blue"][value % 3] for value in whole]
    inside = pyarrow.dictionary(pyarrow.int8(), pyarrow.string(), ordered=True)
    return pyarrow.table(
        {
            "int8": pyarrow.array(whole, pyarrow.int8()),
            "uint16": pyarrow.array(whole, pyarrow.uint16()),
            "int64, missing": pyarrow.array(whole, pyarrow.int64(), mask=missing),
            "float": pyarrow.array(draw.normal(size=rows).astype(np.float32)),
            "double": pyarrow.array(draw.normal(size=rows), mask=missing),
            "decimal": pyarrow.array([decimal.Decimal(int(v)) / 100 for v in whole], pyarrow.decimal128(10, 2)),
            "bool": pyarrow.array(whole > 50),
            "bool, missing": pyarrow.array(whole > 50, mask=missing),
            "string": pyarrow.array(words),
            "string, missing": pyarrow.array(words, mask=missing),
            "large_string": pyarrow.array(words, pyarrow.large_string()),
            "string_view": pyarrow.array(words, pyarrow.string_view()),
            "dictionary": pyarrow.array(words).dictionary_encode(),
            "ordered": pyarrow.DictionaryArray.from_arrays(
                pyarrow.array(whole % 2, pyarrow.int8(), mask=missing), ["low", "middle", "high"][:3], ordered=True
            ).cast(inside),
            "date32": pyarrow.array(days, pyarrow.date32()),
            "date64": pyarrow.array(days, pyarrow.date64()),
            "timestamp": pyarrow.array(times, pyarrow.timestamp("us"), mask=missing),
            "timestamp, zone": pyarrow.array(times, pyarrow.timestamp("ms", "UTC"), safe=False),
            "none": pyarrow.nulls(rows),
            "constant": pyarrow.array(np.ones(rows)),
            "sex": pyarrow.array([("f", "m")[value % 2] for value in range(rows)]),
            "label": pyarrow.array([value // 2 % 2 for value in range(rows)]),
        }
    )


# ------------------------------------------------------------------------------------------------------- round trips


def back(table: pyarrow.Table, **how) -> pyarrow.Table:
    """A table as it is after it was read as a source and written, training rows before test rows."""
    source = sources_from((table, table), **how)
    assert source.train == source.test
    assert settled(source.train) == source.train
    return arrow_of(source.train)


def test_every_type_comes_back_with_the_same_values():
    table = every_type()
    found = back(table)
    for name in table.column_names:
        assert found.column(name).type == table.column(name).type, name
        assert found.column(name).to_pylist() == table.column(name).to_pylist(), name


def test_a_table_goes_through_parquet(tmp_path):
    parquet.write_table(every_type(), tmp_path / "t.parquet")
    source = sources_from(tmp_path / "t.parquet")
    whole = torch.cat([source.train.values, source.test.values])
    assert len(whole) == ROWS and source.split == "80/20 by seed 0"
    assert [str(kind.type) for kind in arrow_of(source.train).schema] == [c.stored for c in source.schema.columns]


def test_a_pandas_frame_keeps_its_types():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "whole": np.arange(ROWS),
            "small": np.arange(ROWS, dtype=np.int8),
            "real": [np.nan, *np.linspace(0, 1, ROWS - 1)],
            "kind": pandas.Categorical(["a", "b"] * (ROWS // 2), categories=["b", "a", "never"]),
            "when": pandas.date_range("2024-01-01", periods=ROWS),
            "flag": [True, False] * (ROWS // 2),
            "gender": ["w", "w", "m", "m"] * (ROWS // 4),
            "y": [0, 1, 1, 0] * (ROWS // 4),
        },
        index=np.arange(ROWS) * 10,
    )
    source = sources_from((frame, frame))
    again = arrow_of(source.train).to_pandas()
    pandas.testing.assert_frame_equal(again, frame.reset_index(drop=True), check_dtype=False)
    assert [str(kind) for kind in again.dtypes][:4] == ["int64", "int8", "float64", "category"]
    assert list(again["kind"].cat.categories) == ["b", "a", "never"] and again["when"].dtype.kind == "M"


def test_a_polars_frame_is_read_through_arrow():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = polars.DataFrame({"x": [1.5, None] * 10, "sex": ["f", "m"] * 10, "label": [0, 0, 1, 1] * 5})
    again = arrow_of(sources_from((frame, frame)).train)
    assert polars.from_arrow(again).to_dict(as_series=False) == frame.to_dict(as_series=False)


class Streamed:
    """A frame of any library that speaks Arrow's interchange alone."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def test_a_frame_of_any_library_is_read_through_arrow():
    table = every_type()
    assert sources_from(Streamed(table)).fingerprint == sources_from(table).fingerprint


def test_data_sets_with_class_names_and_splits():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "x": datasets.Value("float32"),
            "sex": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["bad", "good"]),
        }
    )
    rows = {"x": np.arange(20.0), "sex": ["f", "m"] * 10, "label": [0, 0, 1, 1] * 5}
    one = datasets.Dataset.from_dict(rows, features=features)
    source = sources_from(datasets.DatasetDict({"train": one, "test": one.select(range(8))}))
    assert source.schema.label.levels == ("bad", "good") and source.schema.positive == "good"
    assert (len(source.train), len(source.test), source.split) == (20, 8, "given")
    assert len(sources_from(one).test) == 4


@pytest.mark.parametrize("ending", ["csv", "tsv", "semicolon.csv", "csv.gz", "csv.zip", "jsonl"])
def test_text_files_of_all_forms(ending, tmp_path):
    table = every_type().select(["int64, missing", "string, missing", "double", "date32", "sex", "label"])
    path = tmp_path / f"t.{ending}"
    plain = tmp_path / "plain.csv"
    separator = {"tsv": "\t", "semicolon.csv": ";"}.get(ending, ",")
    csv.write_csv(table, plain, csv.WriteOptions(delimiter=separator))
    if ending == "jsonl":
        path.write_text("\n".join(json.dumps(row, default=str) for row in table.to_pylist()), encoding="utf-8")
    elif ending.endswith("gz"):
        path.write_bytes(gzip.compress(plain.read_bytes()))
    elif ending.endswith("zip"):
        import zipfile

        with zipfile.ZipFile(path, "w") as whole:
            whole.write(plain, "inner.csv")
    else:
        path.write_bytes(plain.read_bytes())
    plain.unlink()
    source = sources_from(path)
    words = source.schema.column("string, missing")
    assert words.missing and words.known == ("blue", "green", "red")
    assert source.schema.column("int64, missing").missing and source.schema.column("date32").dated is (
        ending != "jsonl"
    )


def test_folders_with_files_for_training_and_testing(tmp_path):
    for name, seed in (("train.csv", 0), ("test.csv", 1)):
        csv.write_csv(every_type(seed=seed).select(["float", "string", "sex", "label"]), tmp_path / name)
    source = sources_from(tmp_path)
    assert (len(source.train), len(source.test), source.split) == (ROWS, ROWS, "given")
    asked = sources_from(tmp_path / "train.csv", test_data=str(tmp_path / "test.csv"))
    assert asked.fingerprint == source.fingerprint
    with pytest.raises(InputError, match="test rows of its own"):
        sources_from(tmp_path, test_data=str(tmp_path / "test.csv"))


def test_a_set_without_a_split_is_divided_by_label_and_group():
    source = sources_from(every_type(400))
    assert (len(source.train), len(source.test)) == (320, 80)
    strata = source.test.labels + 2 * source.test.groups
    assert strata.bincount().tolist() == [20] * 4
    other = source.at(1)
    assert other.split == "80/20 by seed 1" and other.fingerprint != source.fingerprint
    assert other.at(0).fingerprint == source.fingerprint and other.schema == source.schema


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
columns = {
    "int64": st.lists(st.none() | st.integers(1 - 2**53, 2**53 - 1), min_size=12, max_size=12),
    "double": st.lists(st.none() | st.floats(-1e30, 1e30), min_size=12, max_size=12),
    "string": st.lists(st.none() | words, min_size=12, max_size=12),
    "bool": st.lists(st.none() | st.booleans(), min_size=12, max_size=12),
    "date32": st.lists(st.none() | st.dates(), min_size=12, max_size=12),
}


@given(st.lists(st.one_of(*(st.tuples(st.just(kind), values) for kind, values in columns.items())), max_size=4))
@settings(max_examples=60, deadline=None)
def test_odd_tables_come_back(drawn):
    arrays = {f"{kind} {number}": pyarrow.array(v, kind) for number, (kind, v) in enumerate(drawn)}
    table = pyarrow.table({**arrays, "sex": ["f", "m"] * 6, "label": [0, 0, 1] * 4})
    found = back(table)
    assert found.schema == table.schema and found.to_pylist() == table.to_pylist()


# ------------------------------------------------------------------------------------------------------------ schema


def test_a_schema_is_printed_edited_and_given(tmp_path):
    source = sources_from(every_type())
    values = json.loads(schema_text(source.schema))
    assert schema_in(values) == source.schema
    for column in values["columns"]:
        if column["name"] == "string":
            column["role"] = "ignored"
        if column["name"] == "uint16":
            column |= {"type": "category"}
            column.pop("whole", None)
    (tmp_path / "schema.json").write_text(json.dumps(values), encoding="utf-8")
    edited = sources_from(every_type(), schema=str(tmp_path / "schema.json"))
    assert "string" not in arrow_of(edited.train).column_names
    assert edited.schema.column("uint16").type == "category" and len(edited.schema.column("uint16").levels) > 3
    assert arrow_of(edited.train).column("uint16").type == pyarrow.uint16()
    with pytest.raises(InputError, match="label is in the schema too"):
        sources_from(every_type(), schema=str(tmp_path / "schema.json"), label="label")
    with pytest.raises(InputError, match="holds no schema"):
        sources_from(every_type(), schema={"a": 1})


def test_a_new_table_is_read_by_the_schema_of_another():
    source = sources_from(every_type())
    again = sources_from(every_type(), schema=source.schema)
    assert again.fingerprint == source.fingerprint
    table = found_in(every_type(seed=5)).train
    assert rows_of(table, source.schema).schema == source.schema


def test_values_that_only_test_rows_have_are_a_level_of_their_own():
    train = every_type()
    test = train.set_column(train.column_names.index("string"), "string", [["mauve"] * ROWS])
    source = sources_from((train, test))
    column = source.schema.column("string")
    assert column.levels == ("blue", "green", "red", "<other>") and column.other
    assert set(source.test.codes("string").tolist()) == {3}
    assert any("40 test rows have other values in column 'string'" in note for note in source.notes)
    assert set(arrow_of(source.test).column("string").to_pylist()) == {"<other>"}
    grouped = test.set_column(test.column_names.index("sex"), "sex", [["x"] * ROWS])
    with pytest.raises(InputError, match="sensitive column 'sex', which no training row has"):
        sources_from((train, grouped))


def test_columns_of_names_are_refused_ignored_or_hashed():
    names = [f"person {number}" for number in range(ROWS)]
    table = every_type().append_column("name", [names]).append_column("customer_id", [list(range(ROWS))])
    with pytest.raises(InputError, match="--ignored name customer_id, or hash it with --hashed name customer_id"):
        sources_from(table)
    ignored = sources_from(table, ignored=("name", "customer_id"))
    assert ignored.fingerprint == sources_from(every_type()).fingerprint
    hashed = sources_from(table, ignored=("customer_id",), hashed=("name",), buckets=8)
    column = hashed.schema.column("name")
    assert len(column.levels) == 8 and settled(hashed.train) == hashed.train
    with pytest.raises(InputError, match="unknown column of the table 'nam'"):
        sources_from(table, ignored=("nam",))


def test_a_column_is_divided_to_be_sensitive_or_the_label():
    source = sources_from(every_type(), sensitive="int8<30", label="float<0", positive="true")
    names = [column.name for column in source.schema.columns]
    assert "int8<30" in names and "int8" not in names
    assert source.schema.groups == ("false", "true")
    whole = torch.cat([source.train.groups, source.test.groups])
    assert int(whole.sum()) == sum(value < 30 for value in every_type().column("int8").to_pylist())
    words = sources_from(every_type(), sensitive="string=red")
    assert words.schema.sensitive.name == "string=red" and settled(words.train) == words.train


def test_what_is_taken_for_granted_is_told():
    source = sources_from(every_type())
    told = "\n".join(source.notes)
    assert "column 'sex' is taken for the sensitive one" in told and "'1' is taken for the desirable outcome" in told
    assert "the same in all rows: none, constant" in told
    assert not sources_from(every_type(), sensitive="none").schema.of_role("sensitive")


# --------------------------------------------------------------------------------------------------------- bad input


def changed(**columns):
    table = every_type().select(["int64, missing", "string", "sex", "label"])
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, [values])
    return table


HUNDRED = [f"group {number}" for number in range(100)]
BAD = [
    (lambda: changed(sex=["f"] * ROWS), {}, "has one group, f"),
    (lambda: changed(label=[0] * ROWS), {}, "all rows are of one class"),
    (lambda: changed(label=list(range(ROWS))), {}, "has 40 values"),
    (lambda: changed(label=[None, *[0, 1] * 19, 1]), {}, "has no label"),
    (lambda: changed().rename_columns(["a", "b", "sex", "z"]), {}, "no column of the table has a usual name of labels"),
    (lambda: changed(), {"label": "lable"}, "did you mean 'label'"),
    (lambda: changed(), {"positive": "good"}, "unknown desirable outcome 'good'"),
    (lambda: changed(), {"sensitive": "label"}, "both label and sensitive"),
    (lambda: changed(), {"ignored": ("sex",), "sensitive": "sex"}, "both sensitive and ignored"),
    (lambda: changed().slice(0, 0), {}, "has no rows"),
    (lambda: changed().slice(0, 5), {}, "too few to split"),
    (lambda: changed(string=[[1, 2]] * ROWS), {}, "which cannot be read"),
    (lambda: changed().rename_columns(["a", "a", "sex", "label"]), {}, "2 columns of the name 'a'"),
    (lambda: every_type().set_column(3, "float", [[np.inf, *[0.0] * (ROWS - 1)]]), {}, "row 0 of the table has inf"),
    (lambda: every_type().set_column(0, "int8", [[2**60] * ROWS]), {}, "too large to be exact"),
    (lambda: pyarrow.table({"sex": HUNDRED * 2, "label": [0, 1] * 100}), {}, "has 100 groups"),
    (lambda: (changed(), changed().drop_columns(["string"])), {}, "has no column 'string'"),
    (lambda: (changed(), changed(label=[None] * ROWS)), {}, "have no value in label column 'label'"),
    (lambda: 3, {}, "data is of type int"),
    (lambda: "nothing-here.csv", {}, "no such file or folder"),
    (lambda: "", {}, "data has no name"),
]


@pytest.mark.parametrize(("data", "how", "told"), BAD, ids=[told for *_, told in BAD])
def test_bad_input_is_refused_in_one_line(data, how, told):
    with pytest.raises(InputError) as found:
        Reading.from_names(**how).load(data())
    assert told in str(found.value) and "\n" not in str(found.value)


def test_damaged_files_are_refused_in_one_line(tmp_path):
    for name, content in (("a.csv.gz", b"no gzip"), ("a.zip", b"PK"), ("a.parquet", b"PAR1"), ("a.csv", b"\xff\xfe")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as found:
            sources_from(tmp_path / name)
        assert "\n" not in str(found.value)


def test_of_bundled_data_no_column_is_named():
    with pytest.raises(InputError, match="the columns of applicants have their roles"):
        sources_from("applicants", label="age")
    assert sources_from("applicants").fingerprint == applicants().fingerprint


# -------------------------------------------------------------------------------------------------------- known sets


def tabular(name: str) -> Path:
    path = Path(os.environ.get("ATTAR_DATA", "nowhere")) / "tabular" / name
    if not path.is_file():
        pytest.skip(f"{name} is not at hand: set ATTAR_DATA")
    return path


BLACK = "race=African-American"
KNOWN = [
    ("adult.data.gz", "adult", 32561, 16281, "sex", ("Female", "Male"), ">50K", (0.109, 0.306)),
    (
        "compas_two_years_noid.csv",
        "compas",
        4938,
        1234,
        "race=African-American",
        ("false", "true"),
        "0",
        (0.617, 0.477),
    ),
    ("compas_propublica_binary.csv", "compas", 4938, 1234, "African_American", ("0", "1"), "0", (0.617, 0.477)),
    ("german.data", "german", 800, 200, "sex", ("female", "male"), "good", (0.648, 0.723)),
    ("bank.csv", "bank", None, None, "age<30", ("false", "true"), "yes", None),
    ("law.csv.zip", "law", None, None, "Race_White", ("0", "1"), "1", None),
    ("student.csv", "student", None, None, "sex", ("F", "M"), "false", None),
]


@pytest.mark.parametrize(("file", "name", "train", "test", "sensitive", "groups", "positive", "rates"), KNOWN)
def test_known_sets(file, name, train, test, sensitive, groups, positive, rates):
    source = Reading().load(tabular(file))
    schema = source.schema
    assert (source.name, schema.sensitive.name, schema.groups, schema.positive) == (name, sensitive, groups, positive)
    if train is not None:
        assert abs(len(source.train) - train) <= 2 and abs(len(source.test) - test) <= 2
    if rates is not None:
        found = [float(source.train.labels[source.train.groups == code].double().mean()) for code in (0, 1)]
        assert found == pytest.approx(rates, abs=0.006)
    assert not {"fnlwgt", "is_recid", "decile_score", "duration"} & {column.name for column in schema.columns}
    assert settled(source.train) == source.train
    described = Reading().describe(source)
    assert name in described and '"positive"' in described


def test_another_sensitive_column_of_a_known_set():
    assert Reading(sensitive="age<30").load(tabular("german.data")).schema.sensitive.name == "age<30"
    adult = Reading(sensitive="race").load(tabular("adult.data.gz"))
    assert len(adult.schema.groups) == 5 and adult.split == "given"


def test_known_sets_can_be_read_as_they_are():
    plain = Reading(preparation="none", label="two_year_recid", sensitive="race", positive="0")
    source = plain.load(tabular("compas_two_years_noid.csv"))
    assert len(source.train) + len(source.test) == 7214 and len(source.schema.groups) == 6


def test_known_tables_are_recognised_by_their_names_of_columns():
    for file in ("adult.data.gz", "compas_two_years_noid.csv", "bank.csv", "german.data"):
        assert looks_like(str(tabular(file)))
    assert looks_like("applicants") and not looks_like("digits")
