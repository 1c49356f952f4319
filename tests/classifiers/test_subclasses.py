import math

import pytest
import torch

from attar.classifiers.subclasses import (
    Grouping,
    clustered,
    information,
    label_bits,
    soft_bits,
    subclasses_from_votes,
    votes_in,
)
from attar.core.errors import InputError

RAGGED = Grouping((0, 1, 0, 1, 1, 2))


def logits(seed, samples=8, subclasses=6):
    draw = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(samples, subclasses, generator=draw, dtype=torch.float64)


def summed(probabilities, grouping):
    owners = torch.tensor(grouping.group)
    return torch.stack([probabilities[:, owners == c].sum(dim=1) for c in range(grouping.classes)], dim=1)


def test_class_probabilities_are_sums_of_the_subclasses():
    a = logits(0)
    assert torch.allclose(RAGGED.class_logits(a).softmax(dim=1), summed(a.softmax(dim=1), RAGGED), atol=1e-12)


def test_the_class_is_not_always_that_of_the_best_subclass():
    a = torch.tensor([[2.0, 2.0, 2.5]])
    assert Grouping((0, 0, 1)).class_logits(a).argmax() == 0
    assert a.argmax() == 2


def test_a_bias_by_size_makes_classes_begin_alike():
    assert torch.allclose(RAGGED.class_logits(RAGGED.bias()[None]).softmax(dim=1), torch.full((1, 3), 1 / 3))


def test_soft_bits_are_the_entropy_within_classes_and_bounded():
    a = logits(3, samples=20)
    p = a.softmax(dim=1)
    big = summed(p, RAGGED)[:, torch.tensor(RAGGED.group)]
    within = -(p * (p / big).log2()).sum(dim=1).mean()
    assert math.isclose(soft_bits(a, RAGGED), float(within), abs_tol=1e-12)
    assert 0 <= soft_bits(a, RAGGED) <= math.log2(3)
    assert math.isclose(soft_bits(torch.zeros(2, 4), Grouping((0, 0, 1, 1))), 1.0)


def test_label_bits_of_mhists_votes():
    counts = [537, 497, 302, 209, 151, 106, 154, 219]
    votes = torch.repeat_interleave(torch.arange(8), torch.tensor(counts))
    for edges, bits in [((6,), 0.9330), ((7,), 0.9319), ((7, 6), 1.5756), ((7, 6, 5), 1.9204)]:
        subclasses, grouping = subclasses_from_votes(votes, 7, edges)
        assert math.isclose(label_bits(subclasses, grouping), bits, abs_tol=1e-4)
        assert torch.equal(grouping.labels(subclasses), (votes >= 4).long())


def test_levels_of_agreement_have_names():
    votes = torch.arange(8)
    for name, edges in (("two", (6,)), ("every", (7, 6, 5))):
        by_name, by_edges = (subclasses_from_votes(votes, 7, given) for given in (name, edges))
        assert torch.equal(by_name[0], by_edges[0])
        assert by_name[1] == by_edges[1]
    with pytest.raises(InputError, match="unknown levels of agreement 'all'"):
        subclasses_from_votes(votes, 7, "all")


def test_both_measures_together():
    a, labels = logits(0), torch.tensor([0, 1, 2, 3, 4, 5, 0, 1])
    told = information(a, RAGGED, 4.0, labels)
    assert told.soft == soft_bits(a, RAGGED)
    assert told.softened == soft_bits(a / 4, RAGGED)
    assert told.label == label_bits(labels, RAGGED)
    assert information(a, RAGGED).label is None


def test_clusters_within_a_class_are_its_subclasses():
    centres = torch.tensor([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0], [9.0, 9.0]])
    truth = torch.arange(40) % 4
    points = centres[truth] + 0.1 * torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    found, grouping = clustered(points, truth // 2, 2)
    assert grouping.group == (0, 0, 1, 1)
    assert torch.equal(grouping.labels(found), truth // 2)
    assert all(len(found[truth == number].unique()) == 1 for number in range(4))
    with pytest.raises(InputError, match="class 0 has 1 samples, too few for 2 subclasses"):
        clustered(points[:3], torch.tensor([0, 1, 1]), 2)


HEADER = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"


def test_votes_are_read_from_a_table(tmp_path):
    table = tmp_path / "annotations.csv"
    table.write_text(f"{HEADER}\na.png,SSA,6,train\nb.png,HP,1,test\n", encoding="utf-8")
    assert votes_in(table) == {"a.png": 6, "b.png": 1}
    assert votes_in(table, partition="test") == {"b.png": 1}
    with pytest.raises(InputError, match=r"unknown column of annotations\.csv 'votes'"):
        votes_in(table, columns=("Image Name", "votes", "Partition"))
    table.write_text(f"{HEADER}\na.png,SSA,many,train\n", encoding="utf-8")
    with pytest.raises(InputError, match="votes that are not whole numbers"):
        votes_in(table)
    with pytest.raises(InputError, match="is missing"):
        votes_in(tmp_path / "none.csv")


def test_levels_go_from_easy_to_hard():
    subclasses, grouping = subclasses_from_votes(torch.tensor([0, 1, 2, 3, 4, 5, 6, 7]), 7, (7, 6, 5))
    assert subclasses.tolist() == [0, 1, 2, 3, 7, 6, 5, 4]
    assert grouping.sizes == [4, 4]


@pytest.mark.parametrize(
    "votes, annotators, edges, words",
    [
        ([1], 6, (), "a majority needs an odd number"),
        ([8], 7, (), "votes go from 8 to 8, but there are 7 annotators"),
        ([1], 7, (4,), "must fall from at most 7 to at least 5"),
        ([1], 7, (6, 7), "must fall"),
    ],
)
def test_votes_that_make_no_sense_are_refused(votes, annotators, edges, words):
    with pytest.raises(InputError, match=words):
        subclasses_from_votes(torch.tensor(votes), annotators, edges)


@pytest.mark.parametrize(
    "members, words",
    [
        ([[0, 1], [1, 2]], "subclass 1 is in more than one class"),
        ([[0], []], "a class has no subclass"),
        ([[0], [2]], "subclass 1 is in no class"),
    ],
)
def test_groups_that_overlap_are_empty_or_leave_one_out_are_refused(members, words):
    with pytest.raises(InputError, match=words):
        Grouping.of(members)
    assert Grouping.of([[2, 0], [1]]).group == (0, 1, 0)
    with pytest.raises(InputError, match="class 1 has no subclass"):
        Grouping((0, 2))
