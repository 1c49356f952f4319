"""Feature tables in parquet, CSV and JSON lines: which columns are labels, how they are split, and what is refused."""

import json
import re

import datasets
import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from attar.core.errors import InputError
from attar.embeddings.data.load import load

N = 40
A, B = np.arange(N) * 0.5, np.arange(N) % 7 - 3.25
X, Y, Z = np.arange(N) % 2, np.arange(N) // 2 % 2, np.arange(N) // 3 % 2
LABELS = torch.from_numpy(np.stack([X, Y, Z], axis=1)).bool()

WRITE = "Write labels as 0 and 1, or say with --label which columns they are, or none."


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def text(path, head="a,b,x,y,z", rows=None, end="", separator=","):
    lines = rows or [f"{A[i]},{B[i]},{X[i]},{Y[i]},{Z[i]}" for i in range(N)]
    path.write_text("\n".join([head, *lines]).replace(",", separator) + end, encoding="utf-8")
    return path


def refusal(data, **options):
    with pytest.raises(InputError) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def whole(source):
    """All rows and labels of a split source, in the order of the rows."""
    rows = torch.cat([source.train.samples.tensor, source.test.samples.tensor])
    order = rows[:, 0].argsort()
    return rows[order], torch.cat([source.train.labels, source.test.labels])[order]


# Forms.


def forms(path):
    """The same table in every form that is read."""
    text(path / "plain.csv")
    text(path / "windows.csv", "\ufeffa,b,x,y,z", separator=";")
    text(path / "tabs.tsv", separator="\t")
    decimals = [f"{A[i]};{B[i]};{X[i]};{Y[i]};{Z[i]}".replace(".", ",") for i in range(N)]
    (path / "comma.csv").write_text("\n".join(["a;b;x;y;z", *decimals]), encoding="utf-8")
    rows = [{"a": A[i], "b": B[i], "x": int(X[i]), "y": int(Y[i]), "z": int(Z[i])} for i in range(N)]
    (path / "lines.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (path / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    write(path / "table.parquet", a=A, b=B, x=X.astype(np.int8), y=Y.astype(np.int8), z=Z.astype(bool))
    yield from sorted(path.iterdir())
    yield pyarrow.table({"a": A, "b": B, "x": X, "y": Y, "z": Z})
    yield datasets.Dataset.from_dict({"a": A, "b": B, "x": X, "y": Y, "z": Z})


def test_columns_of_0_and_1_at_the_end_are_labels_in_every_form(tmp_path):
    for data in forms(tmp_path):
        source = load(data)
        assert (source.classes, source.labelled, source.tabular) == (("x", "y", "z"), "several", True), data
        rows, labels = whole(source)
        np.testing.assert_allclose(rows.numpy(), np.stack([A, B], axis=1))
        assert torch.equal(labels, LABELS)
        assert (source.split, len(source.train) + len(source.test)) == ("80/20 by seed 0", N)
        inputs = source.inputs(torch.arange(len(source.train)))
        torch.testing.assert_close(inputs.mean(dim=0), torch.zeros(2), atol=1e-6, rtol=0)
        torch.testing.assert_close(inputs.std(dim=0, correction=0), torch.ones(2))


def test_pandas_frames_are_tables():
    pandas = pytest.importorskip("pandas")
    assert load(pandas.DataFrame({"a": A, "b": B, "x": X, "y": Y, "z": Z})).classes == ("x", "y", "z")


def test_a_file_without_names_has_numbered_columns(tmp_path):
    path = tmp_path / "bare.csv"
    path.write_text("\n".join(f"{A[i]},{B[i]},{X[i]},{Y[i]}" for i in range(N)), encoding="utf-8")
    source = load(path)
    assert source.classes == ("2", "3")
    assert "bare.csv has no line of names: columns are called by their numbers, from 0" in source.notes


@pytest.mark.parametrize(
    "labels",
    [
        [["sea"], ["sky", "sea"], [], ["sand"]] * 10,
        [[1], [2, 1], [], [0]] * 10,
    ],
)
def test_labels_may_be_lists_of_names_or_numbers(tmp_path, labels):
    names = ["sand", "sea", "sky"] if isinstance(labels[0][0], str) else ["0", "1", "2"]
    wanted = torch.tensor([[0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]] * 10).bool()
    source = load(write(tmp_path / "lists.parquet", a=A, labels=labels))
    assert source.classes == tuple(names) and torch.equal(whole(source)[1], wanted)
    assert "10 of 40 samples have no label" in source.notes
    for separator in ("|", ";"):
        rows = [f'{A[i]},"{separator.join(map(str, labels[i]))}"' for i in range(N)]
        found = load(text(tmp_path / "lists.csv", "a,labels", rows))
        assert found.classes == tuple(names) and torch.equal(whole(found)[1], wanted)
    rows = [f'{A[i]},"{labels[i]}"' for i in range(N)]
    assert torch.equal(whole(load(text(tmp_path / "lists.csv", "a,tags", rows), label="tags"))[1], wanted)


def test_lists_of_class_labels_have_their_names():
    kinds = datasets.Features(
        a=datasets.Value("float32"), tags=datasets.Sequence(datasets.ClassLabel(names=["p", "q", "r"]))
    )
    data = datasets.Dataset.from_dict({"a": A, "tags": [[0], [0, 2]] * 20}, features=kinds)
    source = load(data, label="tags")
    assert source.classes == ("p", "r") and whole(source)[1].sum(dim=0).tolist() == [40, 20]
    assert "1 of 3 classes have no training samples and are left out: q" in source.notes


@pytest.mark.parametrize("name", ["label", "y", "Class", "kind"])
def test_one_label_is_a_column_of_a_usual_name_or_of_names(tmp_path, name):
    values = [("cat", "dog", "emu")[i % 3] for i in range(N)]
    source = load(write(tmp_path / "one.parquet", a=A, **{name: values}, b=B))
    assert (source.classes, source.labelled, source.shape) == (("cat", "dog", "emu"), "one", (2,))
    assert whole(source)[1].tolist() == [i % 3 for i in range(N)]
    assert source.test.labels.bincount().tolist() == [2, 2, 2]


def test_labels_are_named_or_said_to_be_none(tmp_path):
    file = write(tmp_path / "t.parquet", a=A, x=X, b=B, y=Y)
    assert load(file, label="x,y").classes == ("x", "y")
    assert load(file, label="x, y").shape == (2,)
    assert load(file, label="y").labelled == "one"
    bare = load(file, label="none")
    assert (bare.labelled, bare.shape, bare.classes, bare.train.labels) == ("none", (4,), (), None)
    assert load(file).notes == ("column 'y' is the label",)


def test_a_table_of_features_has_no_labels(tmp_path):
    source = load(write(tmp_path / "t.parquet", a=A, b=B))
    assert source.labelled == "none" and len(source.test) == N // 5
    assert source.notes == ("no column is one of labels: all are features; labels are named with --label",)


def test_a_column_that_names_the_rows_is_left_out(tmp_path):
    names = [f"blues.{number}.au" for number in range(N)]
    for column in ({"filename": names}, {"id": np.arange(N)}):
        source = load(write(tmp_path / "t.parquet", **column, a=A, b=B, x=X, y=Y))
        assert (source.shape, source.classes) == ((2,), ("x", "y"))
        assert f"left out, because it names the rows: column {next(iter(column))!r}" in source.notes
    assert load(write(tmp_path / "t.parquet", id=A, a=A)).shape == (2,)


# Splits.


def test_splits_are_those_of_names_or_of_a_column(tmp_path):
    columns = {"a": A, "b": B, "x": X, "y": Y}
    for name, part in (("train", slice(0, 30)), ("test", slice(30, N))):
        write(tmp_path / "files" / f"my-{name}.parquet", **{key: value[part] for key, value in columns.items()})
    words = ["train" if i < 30 else "Test" for i in range(N)]
    column = write(tmp_path / "one.parquet", **columns, split=words)
    for data in (tmp_path / "files", column):
        source = load(data)
        assert (source.split, len(source.train), len(source.test), source.classes) == ("given", 30, 10, ("x", "y"))
        np.testing.assert_allclose(source.train.samples.tensor[:, 0].numpy(), A[:30])
        with pytest.raises(InputError, match="was not split by a seed"):
            source.at(1)
    assert load(tmp_path / "files").fingerprint == load(column).fingerprint


def test_a_split_by_seed_is_found_again_at_its_seed(tmp_path):
    file = write(tmp_path / "t.parquet", a=A, b=B, x=X, y=Y)
    zero, one = load(file), load(file, split_seed=1)
    assert zero.fingerprint != one.fingerprint == zero.at(1).fingerprint
    assert one.at(0).fingerprint == zero.fingerprint and one.split == "80/20 by seed 1"
    assert zero.transform != one.transform  # statistics are those of the training rows


def test_rows_keep_their_order_and_follow_that_of_the_file(tmp_path):
    """A permuted file holds the same samples: the rows of a part are those of the file, in its order."""
    order = np.random.default_rng(0).permutation(N)
    words = np.array(["train"] * 30 + ["test"] * 10)
    plain = load(write(tmp_path / "a.parquet", a=A, x=X, y=Y, split=words))
    mixed = load(write(tmp_path / "b.parquet", a=A[order], x=X[order], y=Y[order], split=words[order]))
    place = torch.from_numpy(order[order < 30])
    assert torch.equal(mixed.train.samples.tensor, plain.train.samples.tensor[place])
    assert torch.equal(mixed.train.labels, plain.train.labels[place])
    some = torch.tensor([5, 2, 9])
    assert torch.equal(plain.subset(some).train.samples.tensor, plain.train.samples.tensor[some])
    assert plain.fingerprint != mixed.fingerprint


def test_test_rows_without_labels_are_not_used(tmp_path):
    write(tmp_path / "train.parquet", a=A, x=X, y=Y)
    write(tmp_path / "test.parquet", a=A)
    source = load(tmp_path)
    assert source.split == "80/20 by seed 0"
    assert "the test rows have no labels and are not used" in source.notes


# What is refused.


@pytest.mark.parametrize(
    "end, message",
    [
        ("\n1,2", "t.csv is not a readable table (CSV parse error: Expected 5 columns, got 2: 1,2)."),
        (
            "\n1,2,0,1,",
            f"row 40 of t.csv has no value in column 'z', which else holds 0 and 1. {WRITE}",
        ),
        (
            "\nabc,2,0,1,1",
            "row 40 of t.csv has 'abc' in column 'a'; features are numbers. Name a column of labels with --label.",
        ),
        ("\n1e308,2,0,1,1", "row 40 of t.csv has 1e+308 in column 'a'; give numbers up to 1e+30, or scale the column."),
        ("\ninf,2,0,1,1", "row 40 of t.csv has no finite number in column 'a'."),
        ("\nnan,2,0,1,1\nnan,2,0,1,1", "row 40 of t.csv has no finite number in column 'a' (2 such values)."),
        (
            "\n1,2,0,1,7",
            f"row 40 of t.csv has 7 in column 'z', which else holds 0 and 1. {WRITE}",
        ),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path, monkeypatch, end, message):
    monkeypatch.chdir(tmp_path)
    text(tmp_path / "t.csv", end=end)
    assert refusal("t.csv") == message


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "t.csv is empty."),
        (b"\n \n", "t.csv is empty."),
        (b"a,b\n", "t.csv has no rows."),
        (b"a,b\n1,2", "t has 1 samples; give two or more."),
        (b"a,a\n1,2", "t.csv has 2 columns of the name 'a'. Rename or remove them."),
        (
            b"x,y\n0,1\n1,1",
            "all columns of t.csv hold only 0 and 1, so no features are found. Name the columns of labels with --label "
            "a,b,c.",
        ),
        (
            b"a,x\n1,-1\n2,1\n3,1",
            f"column 'x' of t.csv holds only -1 and 1. {WRITE}",
        ),
        ("a,b\n1,2".encode("utf-16"), "t.csv is not text in UTF-8. Save it so, or as parquet."),
        (b"a,b\n1,\0", "t.csv holds zero bytes, so it is no text in UTF-8. Save it so, or as parquet."),
        (
            b"day,b\n2024-01-01,2\n2024-01-02,2",
            "t.csv has date32[day] in column 'day'; features are numbers. Name a column of labels with --label.",
        ),
        (
            b"a,b,split\n1,2,train\n2,3,foo",
            "row 1 of t.csv has 'foo' in column 'split'. The words are train, validation and test.",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_bytes(content)
    assert refusal("t.csv") == message


@pytest.mark.parametrize(
    "columns, label, message",
    [
        (
            {"a": A, "label": np.arange(N) - 1},
            None,
            "row 0 of t.parquet has label -1. Give class numbers from 0 on, or names.",
        ),
        (
            {"a": A, "b": A},
            "a",
            "column 'a' of t.parquet holds double, not integers or names. Name another with --label.",
        ),
        ({"a": A, "x": X, "y": Y}, "a,x", "row 1 of t.parquet has 0.5 in label column 'a'; give 0 or 1."),
        ({"a": A, "x": X - 1, "y": Y}, "x,y", "row 0 of t.parquet has -1 in label column 'x'; give 0 or 1."),
        (
            {"a": A, "x": pyarrow.array([0, None] * 20), "y": Y},
            "x,y",
            "row 1 of t.parquet has no value in label column 'x'; give 0 or 1.",
        ),
        ({"a": A, "x": X, "y": Y}, "x,yy", "unknown column of t.parquet 'yy'; did you mean 'y'? Known: a, x, y."),
        ({"a": A, "x": X, "y": Y}, "x,x", "label names column 'x' twice. Give each column once."),
        (
            {"a": A, "x": X, "y": Y},
            "a,x,y",
            "all columns of t.parquet are labels, so no features are left. Name fewer with --label.",
        ),
        (
            {"x": X, "y": Y},
            "x,y",
            "all columns of t.parquet are labels, so no features are left. Name fewer with --label.",
        ),
        (
            {"a": A, "x": 0 * X, "y": 0 * Y},
            None,
            "no training sample of t.parquet has a label. Give 1 where a sample has one.",
        ),
        (
            {"a": A, "labels": [[0], [-1]] * 20},
            None,
            "row 1 of t.parquet has the label -1 in column 'labels'; give class numbers from 0 on, or names.",
        ),
        (
            {"a": A, "labels": [[0], [0.5]] * 20},
            None,
            "row 1 of t.parquet has the label 0.5 in column 'labels'; give class numbers from 0 on, or names.",
        ),
        (
            {"a": A, "labels": [[0], [10**9]] * 20},
            None,
            "row 1 of t.parquet has the label 1,000,000,000 in column 'labels'; number the classes from 0 on.",
        ),
        (
            {"a": A, "labels": [[0], None] * 20},
            None,
            "row 1 of t.parquet has no list of labels in column 'labels'; an empty list says none.",
        ),
        (
            {"a": A, "labels": pyarrow.array([[]] * N, pyarrow.list_(pyarrow.int8()))},
            None,
            "no row of t.parquet has a label in column 'labels'.",
        ),
        ({"a": A, "label": ["p", None] * 20}, None, "row 1 of t.parquet has no label in column 'label'."),
        (
            {"a": [b"p"] * N},
            None,
            "t.parquet has binary in column 'a'; features are numbers. Name a column of labels with --label.",
        ),
        ({"a": A, "label": X, "labels": X}, None, ""),
        (
            {"a": A, "target": X, "Class": X, "b": B},
            None,
            "t.parquet has several columns of labels: target, Class. Name one with --label.",
        ),
    ],
)
def test_labels_that_are_wrong_are_refused(tmp_path, monkeypatch, columns, label, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "t.parquet", **columns)
    if message:
        assert refusal("t.parquet", label=label) == message
    else:
        assert load("t.parquet", label=label).labelled == "one"


def test_a_label_without_a_sample_is_left_out_and_told(tmp_path):
    source = load(write(tmp_path / "t.parquet", a=A, x=X, y=0 * X, z=1 + 0 * X))
    assert source.classes == ("x", "z")
    assert "1 of 3 classes have no training samples and are left out: y" in source.notes
    assert "all training samples have the label z" in source.notes


def test_files_of_other_columns_are_refused(tmp_path):
    write(tmp_path / "train.parquet", a=A, b=B, x=X, y=Y)
    write(tmp_path / "test.parquet", a=A, x=X, y=Y)
    assert "test.parquet has no column 'b', which the training rows have." in refusal(tmp_path)
    write(tmp_path / "train2.parquet", a=A, x=X, y=Y)
    assert re.search(r"train.parquet has a column 'b', but \S*train2.parquet does not", refusal(tmp_path))


def test_names_that_are_not_there_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal("mosaic") == "unknown data 'mosaic'; did you mean 'mosaics'?"
    assert refusal("no.csv") == "unknown data 'no.csv'; no such file."
    assert refusal("") == "data has no name; give a name or a path."
    assert refusal("x" * 5000 + ".parquet").startswith("unknown data ")
    (tmp_path / "x.txt").write_text("a", encoding="utf-8")
    assert (
        refusal("x.txt")
        == "x.txt is not a table or a zip file of Omniglot. Give .parquet, .csv, .tsv or .jsonl, or a folder."
    )
    (tmp_path / "empty").mkdir()
    assert refusal("empty") == "empty holds neither tables nor pictures."


def test_a_damaged_file_is_refused_or_read_as_finite_numbers(tmp_path):
    file = write(tmp_path / "t.parquet", a=A, b=B, x=X, y=Y)
    data, draw = file.read_bytes(), np.random.default_rng(0)
    for number in range(60):
        some = bytearray(data[: draw.integers(len(data))] if number % 3 == 0 else data)
        for place in draw.integers(len(some), size=number % 3 * 4) if len(some) else []:
            some[place] = draw.integers(256)
        file.write_bytes(some)
        try:
            source = load(file)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert source.inputs(torch.arange(len(source.train))).isfinite().all()
