import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from attar.cli import main
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


@pytest.mark.parametrize("values", [{"novel": ["1"], "limit": 3}, {"mosaics": 5, "imbalance": 10.0, "label": "a,b"}])
def test_settings_survive_json(values):
    how = Reading.from_json(values)
    assert Reading.from_json(how.to_json()) == how
