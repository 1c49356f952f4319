import gzip
import re
import sys
from pathlib import Path

import pytest

from attar.core.errors import InputError
from attar.core.extras import install
from attar.graphs.ogb import download, read_ogb
from attar.graphs.sources import load

GRAPHS = 12


def packed(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(",".join(map(str, row)) + "\n" for row in rows).encode()))


@pytest.fixture
def folder(tmp_path):
    """Paths of three atoms each, in the layout of the benchmark."""
    place = tmp_path / "ogbg_molbace"
    raw, split = place / "raw", place / "split" / "scaffold"
    packed(raw / "num-node-list.csv.gz", [[3]] * GRAPHS)
    packed(raw / "num-edge-list.csv.gz", [[2]] * GRAPHS)
    packed(raw / "edge.csv.gz", [[0, 1], [1, 2]] * GRAPHS)
    packed(raw / "node-feat.csv.gz", [[5 + node % 3, 0, 4, 5, 3, 0, 2, 0, node % 2] for node in range(3 * GRAPHS)])
    packed(raw / "graph-label.csv.gz", [[graph % 2] for graph in range(GRAPHS)])
    for name, rows in (("train", range(8)), ("valid", range(8, 10)), ("test", range(10, 12))):
        packed(split / f"{name}.csv.gz", [[row] for row in rows])
    return place


def test_a_downloaded_set_is_read_with_its_split_and_metric(folder):
    source = load(folder)
    assert (source.name, source.metric, source.outputs) == ("ogbg-molbace", "roc-auc", 1)
    assert (len(source.train), len(source.validation), len(source.test)) == (8, 2, 2)
    assert str(source.split) == "given"
    assert source.graphs.features[1].tolist() == [6, 0, 4, 5, 3, 0, 2, 0, 1]
    assert source.graphs.edges[:, :4].tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    assert source.at(source.fold(0, folds=3).split).metric == "roc-auc"


@pytest.mark.parametrize("file", ["edge", "node-feat", "graph-label", "num-edge-list"])
def test_torn_files_are_refused(file, folder):
    path = folder / "raw" / f"{file}.csv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()[:-1]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(InputError, match="a file is truncated"):
        read_ogb(folder)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="is damaged or truncated"):
        read_ogb(folder)


def test_an_edge_to_nowhere_and_a_split_with_gaps_are_refused(folder):
    packed(folder / "split" / "scaffold" / "test.csv.gz", [[10]])
    with pytest.raises(InputError, match="does not list each of 12 graphs exactly once"):
        read_ogb(folder)
    packed(folder / "raw" / "edge.csv.gz", [[0, 1], [1, 3]] * GRAPHS)
    with pytest.raises(InputError, match="names a node that its graph does not have"):
        read_ogb(folder)


def test_without_the_package_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ogb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=re.escape(f"downloading ogbg-molhiv needs the ogb package: {install('graphs', 'ogb')}")
    ):
        load("ogbg-molhiv")


def test_what_was_fetched_is_found_again(folder, monkeypatch):
    monkeypatch.setenv("ATTAR_CACHE", str(folder.parent))
    assert download("ogbg-molbace") == folder
    assert load("ogbg-molbace").name == "ogbg-molbace"


def test_it_is_fetched_from_where_the_package_says(folder, monkeypatch, tmp_path):
    import types
    import zipfile

    with zipfile.ZipFile(tmp_path / "bace.zip", "w") as file:
        for path in folder.rglob("*.csv.gz"):
            file.write(path, Path("bace") / path.relative_to(folder))
        file.writestr("bace/split/scaffold/split_dict.pt", b"a pickle")
    package = tmp_path / "ogb"
    (package / "graphproppred").mkdir(parents=True)
    (package / "graphproppred" / "master.csv").write_text(
        f",ogbg-molbace,ogbg-molhiv\nurl,file://{tmp_path}/bace.zip,http://nowhere\ndownload_name,bace,hiv\n",
        encoding="utf-8",
    )
    found = types.SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    monkeypatch.setenv("ATTAR_CACHE", str(tmp_path / "cache"))
    source = load("ogbg-molbace")
    assert source.content == load(folder).content
    assert not list((tmp_path / "cache").rglob("*.pt"))


def test_other_names_are_refused():
    with pytest.raises(InputError, match=r"unknown molecule set 'ogbg-molpcba'"):
        load("ogbg-molpcba")


def test_a_set_with_one_class_left_for_testing_is_refused(folder):
    packed(folder / "raw" / "graph-label.csv.gz", [[int(graph < 8 and graph % 2)] for graph in range(GRAPHS)])
    with pytest.raises(InputError, match=r"class '1' of ogbg-molbace has no validation graphs\."):
        load(folder)
