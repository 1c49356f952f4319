import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from attar.cli import main
from attar.commands.data import kind_of_data
from attar.embeddings.data.load import load
from attar.embeddings.reading import Reading, looks_like
from picture_files import pictures, write_parquet


def table(path, **columns):
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_the_bundled_data_are_described(capsys):
    assert main(["data", "mosaics"]) in (None, 0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "mosaics: 1,024 training and 1,500 test samples, 10 classes, several labels each, 1×16×16, with captions, "
        "split given"
    )
    assert "2.19 labels a training sample, at most 4" in lines
    assert "  caption 0: a zero on the left above a two on the right" in lines
    assert sum("training samples, " in line for line in lines) == 10


def test_settings_change_what_is_read(capsys):
    main(["data", "digits", "--kind", "embeddings", "--novel", "7", "8", "--limit", "500"])
    lines = capsys.readouterr().out.splitlines()
    assert "8 classes, one label each, 1×8×8, tested on 2 other classes, split novel classes" in lines[0]
    assert sum("training samples" in line for line in lines) == 8


def test_tables_are_described_by_their_features_and_labels(tmp_path):
    columns = {"a": np.arange(30.0), "b": np.arange(30) * 0.1, "x": np.arange(30) % 2, "y": np.arange(30) // 2 % 2}
    source = load(table(tmp_path / "t.parquet", **columns))
    lines = Reading().describe(source).splitlines()
    assert lines[0].startswith("t: 24 training and 6 test samples, 2 classes, several labels each, 2 features")
    assert any(line.startswith("features with means ") for line in lines)
    assert any("% without a label" in line for line in lines)
    bare = Reading(label="none").describe(load(tmp_path / "t.parquet", label="none"))
    assert "no labels" in bare and "training samples," not in bare.splitlines()[-1]


def test_data_of_this_kind_are_recognised(tmp_path):
    rows = {name: np.arange(4) for name in "ab"}
    cells = pyarrow.array([b"x"] * 4)
    yes = [
        "mosaics",
        table(tmp_path / "numbers.parquet", **rows),
        table(tmp_path / "lists.parquet", image=cells, labels=[[0]] * 4),
        table(tmp_path / "bare.parquet", image=cells),
        table(tmp_path / "pairs.parquet", image=cells, label=np.arange(4), caption=["a"] * 4),
        tmp_path / "no.tsv",
        "a.zip,b.zip",
    ]
    one = write_parquet(tmp_path / "one" / "train.parquet", pictures(4), [0, 1, 0, 1])
    no = ["digits", one, one.parent, tmp_path / "no.parquet", "user/name", "x" * 5000, "\0"]
    assert [looks_like(str(data)) for data in yes] == [True] * len(yes)
    assert [looks_like(str(data)) for data in no] == [False] * len(no)


TABLES = {
    "samples.csv": ("a,b\n0.5,1\n0.25,0\n0.1,7\n", "mixtures"),
    "bare.csv": ("0.5,1.5\n0.25,2\n", "mixtures"),
    "damaged.csv": ("", "mixtures"),
    "several.csv": ("a,b,x,y\n0.5,1,0,1\n0.25,2,1,1\n", "embeddings"),
    "classes.csv": ("a,label\n0.5,3\n0.25,4\n", "embeddings"),
    "names.csv": ("a;b\n0.5;cat\n0.25;dog\n", "embeddings"),
    "chat.jsonl": ('{"prompt": "a", "completion": "b"}\n', "language"),
    "list.json": ('[{"text": "a"}]', "language"),
    "damaged.jsonl": ("{", "language"),
    "numbers.jsonl": ('{"a": 0.5, "b": 1, "x": 0}\n', "embeddings"),
    "numbers.json": ('[{"a": 0.5, "label": [0, 1]}]', "embeddings"),
    "mixture.json": ('{"weights": [1.0], "means": [[0.0]], "covariances": [[[1.0]]]}', "mixtures"),
    "parts/train.csv": ("a,b\n0.5,1\n", "embeddings"),
    "texts/train.jsonl": ('{"text": "a"}\n', "language"),
    "rows/train.jsonl": ('{"a": 0.5, "label": 0}\n', "embeddings"),
    "pictures/metadata.csv": ("file_name,text\na.png,a cat\n", "embeddings"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_of_the_kind_that_can_read_its_rows(name, tmp_path):
    text, kind = TABLES[name]
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    assert kind_of_data([str(file.parent if "/" in name else file)]).name == kind


@pytest.mark.parametrize("values", [{"novel": ["1"], "limit": 3}, {"mosaics": 5, "imbalance": 10.0, "label": "a,b"}])
def test_settings_survive_json(values):
    how = Reading.from_json(values)
    assert Reading.from_json(how.to_json()) == how
