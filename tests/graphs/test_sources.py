import dataclasses

import pytest
import torch

from attar.core.errors import InputError
from attar.graphs.sources import Split, load, stratified_folds
from graphs.helpers import tu_folder


def test_the_parts_are_apart_whole_and_stratified(motifs):
    train, validation, test = motifs.rows
    assert sorted(torch.cat(motifs.rows).tolist()) == list(range(400))
    assert (len(train), len(validation), len(test)) == (288, 32, 80)
    for rows in motifs.rows:
        assert torch.bincount(motifs.graphs.labels[rows]).diff().item() == 0


def test_another_seed_splits_otherwise_and_says_so(motifs):
    other = load("motifs", split_seed=1)
    assert other.fingerprint != motifs.fingerprint
    assert other.content == motifs.content
    assert other.at(motifs.split).fingerprint == motifs.fingerprint
    assert str(other).endswith("split 80/20 by seed 1")


def test_every_graph_is_tested_once_and_chosen_by_once(motifs):
    folds = [motifs.fold(fold, folds=5, seed=2) for fold in range(5)]
    for part in (1, 2):
        assert sorted(torch.cat([fold.rows[part] for fold in folds]).tolist()) == list(range(400))
    for fold in folds:
        assert sorted(torch.cat(fold.rows).tolist()) == list(range(400))
        assert torch.bincount(fold.test.labels).tolist() == [40, 40]
    assert str(folds[1].split) == "fold 2 of 5 by seed 2"


def test_folds_differ_by_one_graph_of_a_class_at_most(generator):
    labels = torch.randint(3, (103,), generator=generator)
    counts = torch.stack([torch.bincount(labels[rows], minlength=3) for rows in stratified_folds(labels, 7, 0)])
    assert int((counts.amax(dim=0) - counts.amin(dim=0)).max()) <= 1
    assert int(counts.sum(dim=1).max() - counts.sum(dim=1).min()) <= 1


@pytest.mark.parametrize(
    ("folds", "wrong"), [(2, "it must be at least 3"), (201, "class 'house' has 200 graphs; give fewer folds")]
)
def test_folds_that_there_cannot_be_are_refused(folds, wrong, motifs):
    with pytest.raises(InputError, match=wrong):
        motifs.fold(0, folds=folds)


def test_a_fold_beyond_the_last_is_refused(motifs):
    with pytest.raises(InputError, match=r"fold is 5; it must be from 0 to 4\."):
        motifs.fold(5, folds=5)


def test_a_split_of_its_own_is_not_asked_of_a_set_that_has_none(motifs):
    with pytest.raises(InputError, match="motifs has no given split"):
        motifs.at(Split("given"))


def test_measured_attributes_are_standardised_on_the_training_graphs():
    proteins = load(tu_folder("PROTEINS"))
    train = proteins.train.features
    assert proteins.attributes == (3,)
    assert train[:, 3].mean().abs() < 1e-4
    assert abs(train[:, 3].std(correction=0) - 1) < 1e-3
    assert torch.equal(train[:, :3].sum(dim=1), torch.ones(len(train)))
    assert proteins.test.features[:, 3].mean().abs() > 1e-4
    assert proteins.content == load(tu_folder("PROTEINS"), split_seed=5).content


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        ("motives", r"unknown set of graphs 'motives'; did you mean 'motifs'\? Known: motifs, ogbg-"),
        ([], "give graphs as a name, a folder, or a sequence"),
        (3, "give graphs as a name, a folder, or a sequence"),
    ],
)
def test_what_is_nothing_known_is_refused(data, wrong):
    with pytest.raises(InputError, match=wrong):
        load(data)


def test_a_folder_that_is_no_set_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not a set of graphs: it has neither NAME_A.txt"):
        load(tmp_path)


def test_a_source_is_its_own_source(motifs):
    assert load(motifs) is motifs


def test_graphs_of_pytorch_geometric_come_in(motifs):
    data = pytest.importorskip("torch_geometric.data", reason="pip install torch-geometric")
    parts = [motifs.graphs.select(torch.tensor([row])) for row in range(30)]
    theirs = [data.Data(x=one.features, edge_index=one.edges, y=one.labels) for one in parts]
    source = load(theirs)
    assert torch.equal(source.graphs.features, motifs.graphs.select(torch.arange(30)).features)
    assert torch.equal(source.graphs.edges, motifs.graphs.select(torch.arange(30)).edges)
    bare = load([data.Data(edge_index=one.edge_index, y=one.y, num_nodes=one.num_nodes) for one in theirs])
    assert torch.equal(bare.graphs.features.argmax(dim=1), bare.graphs.degrees)


def test_bytes_are_those_of_the_training_graphs(motifs):
    assert motifs.bytes == motifs.train.bytes
    half = dataclasses.replace(motifs, rows=(motifs.rows[0][:144], *motifs.rows[1:]))
    assert 0.45 < half.bytes / motifs.bytes < 0.55


def test_a_mistyped_path_is_offered_its_neighbour(tmp_path):
    (tmp_path / "MUTAG").mkdir()
    with pytest.raises(InputError, match=r"^unknown set of graphs '.*MUTAGG'; did you mean '.*MUTAG'\?$"):
        load(str(tmp_path / "MUTAGG"))
