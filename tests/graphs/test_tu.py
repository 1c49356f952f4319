import pytest
import torch

from attar.core.errors import InputError
from attar.graphs.sources import load
from attar.graphs.tu import find_tu, read_tu

TRIANGLE_AND_PATH = {
    "A": "1, 2\n2, 1\n2, 3\n3, 1\n5, 4\n",
    "graph_indicator": "1\n1\n1\n2\n2\n",
    "graph_labels": "-1\n1\n",
    "node_labels": "0\n0\n2\n7\n2\n",
    "node_attributes": "1.5, 0\n2.5, 0\n0, 0\n-1, 3\n0, 9\n",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "raw").mkdir()
    write(tmp_path, TRIANGLE_AND_PATH)
    return tmp_path


def write(folder, files):
    for name, text in files.items():
        (folder / "raw" / f"TINY_{name}.txt").write_text(text, encoding="utf-8")


def read(folder):
    return read_tu(*find_tu(folder))


def test_a_set_is_read(folder):
    raw = read(folder)
    graphs = raw.graphs
    assert (raw.name, raw.classes, raw.attributes) == ("TINY", ("-1", "1"), (3, 4))
    assert graphs.edges.tolist() == [[0, 0, 1, 1, 2, 2, 3, 4], [1, 2, 0, 2, 0, 1, 4, 3]]
    assert (graphs.sizes.tolist(), graphs.labels.tolist()) == ([3, 2], [0, 1])
    assert graphs.features[3].tolist() == [0, 0, 1, -1, 3]


def test_nodes_may_come_in_any_order(folder):
    mixed = {
        "A": "3, 1\n1, 3\n1, 5\n5, 3\n2, 4\n",
        "graph_indicator": "1\n2\n1\n2\n1\n",
        "node_labels": "0\n7\n0\n2\n2\n",
        "node_attributes": "1.5, 0\n-1, 3\n2.5, 0\n0, 9\n0, 0\n",
    }
    expected = read(folder)
    write(folder, mixed)
    found = read(folder).graphs
    assert torch.equal(found.features, expected.graphs.features)
    assert torch.equal(found.edges, expected.graphs.edges)


def test_without_labels_and_attributes_the_degree_is_the_feature(folder):
    for name in ("node_labels", "node_attributes"):
        (folder / "raw" / f"TINY_{name}.txt").unlink()
    assert read(folder).graphs.features.argmax(dim=1).tolist() == [2, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("file", "text", "wrong"),
    [
        ("graph_indicator", "1\n1\n1\n2\n", r"names node 5, but its nodes are 1 to 4"),
        ("graph_labels", "-1\n", r"graphs up to 2, but TINY_graph_labels.txt has 1 lines; a file is truncated\."),
        ("graph_labels", "-1\n1\n1\n", r"graph 3 of TINY has no nodes"),
        ("node_labels", "0\n0\n2\n7\n", r"node_labels.txt has 4 lines for 5 nodes; one of the files is truncated\."),
        ("node_attributes", "1, 0\n2, nan\n0, 0\n1, 3\n0, 9\n", r"line 2 of .* holds nan; it must be a number\."),
        ("node_attributes", "1, 0\n2\n0, 0\n1, 3\n0, 9\n", r"is damaged or truncated"),
        ("A", "1, 2\n2, 4\n", r"line 2 of .* joins nodes of two different graphs\."),
        ("A", "1, 2\n2, x\n", r"is damaged or truncated"),
        ("A", "1\n2\n", r"has 1 numbers per line; give two node numbers per line\."),
        ("node_attributes", "1, 0\n2, 1e300\n0, 0\n1, 3\n0, 9\n", r"line 2 of .* holds 1e\+300; it must be a number\."),
        ("graph_indicator", "0\n0\n0\n1\n1\n", r"names graph 0, but graphs are counted from 1\."),
        ("A", "0, 1\n", r"line 1 of .* names node 0, but its nodes are 1 to 5; one of the files may be truncated"),
        ("graph_indicator", "", r"names graphs up to 0"),
        ("graph_labels", "0.5\n1\n", r"line 1 of .*graph_labels.txt holds 0.5; it must be a whole number\."),
        ("graph_labels", "1\nnan\n", r"line 2 of .*graph_labels.txt holds nan; it must be a whole number\."),
        ("graph_labels", "1\ninf\n", r"line 2 of .* holds inf; it must be a whole number\."),
        ("node_labels", "0\n0\n1e300\n7\n2\n", r"line 3 of .* holds 1e\+300; it must be a whole number\."),
        ("A", "1.5, 2\n2, 1\n", r"line 1 of .*_A.txt holds 1.5; it must be a whole number\."),
    ],
)
def test_torn_and_malformed_files_are_refused(file, text, wrong, folder):
    write(folder, {file: text})
    with pytest.raises(InputError, match=wrong):
        read(folder)


@pytest.mark.parametrize(
    "files",
    [
        {"graph_labels": "-1.0\n1.0\n"},
        {"A": "1 2\n2 1\n2 3\n3 1\n5 4\n", "graph_indicator": "1.0\n1.0\n1.0\n2\n2\n"},
        {"node_labels": "0.\n0.\n2e0\n7\n2\n", "node_attributes": "1.5 0\n2.5 0\n0 0\n-1 3\n0 9\n"},
    ],
)
def test_whole_numbers_may_have_a_point_and_columns_a_space(files, folder):
    expected = load(folder).fingerprint
    write(folder, files)
    assert load(folder).fingerprint == expected


def test_files_about_edges_are_said_to_be_unused(folder):
    assert "not used" not in str(load(folder))
    write(folder, {"edge_labels": "1\n1\n1\n1\n1\n", "edge_attributes": "1\n1\n1\n1\n1\n"})
    assert str(load(folder)).endswith("; not used: edge_labels, edge_attributes")


def test_a_missing_file_is_named(folder):
    (folder / "raw" / "TINY_graph_labels.txt").unlink()
    with pytest.raises(InputError, match=r"TINY_graph_labels.txt is missing\."):
        read(folder)


def test_labels_of_one_class_are_refused(folder):
    write(folder, {"graph_labels": "1\n1\n"})
    with pytest.raises(InputError, match=r"TINY has only one class"):
        load(folder)


def test_every_way_to_name_it_finds_it(folder):
    assert find_tu(folder) == find_tu(folder / "raw") == find_tu(folder / "raw" / "TINY") == (folder / "raw", "TINY")
    assert find_tu(folder / "elsewhere") is None


def test_a_folder_of_several_sets_asks_for_one(folder, tmp_path_factory):
    with pytest.raises(InputError, match=r"holds several TU sets \(raw\)|several TU sets"):
        find_tu(folder.parent)
    (folder / "raw" / "OTHER_A.txt").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"holds several TU sets \(OTHER, TINY\)\. Give one, as .*OTHER\."):
        find_tu(folder)


def test_mutag_is_what_it_is_known_to_be(mutag):
    graphs = mutag.graphs
    assert (len(graphs), graphs.features.shape[1], torch.bincount(graphs.labels).tolist()) == (188, 7, [63, 125])
    assert (round(float(graphs.sizes.float().mean()), 1), int(graphs.sizes.max())) == (17.9, 28)
    assert int((graphs.sizes <= 18).sum()) == 98
