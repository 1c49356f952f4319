"""Neighbours are found exactly, ties by the lowest row; votes are those of a plain loop and of released code."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from attar.core.errors import InputError
from attar.embeddings import neighbours
from attar.embeddings.neighbours import knn_votes, nearest, usual_neighbours

GOLDEN = load_file(Path(__file__).parent / "golden" / "knn.safetensors")
CASES = {
    "ordinary": (5, 0.1, 3),
    "k_all": (12, 0.1, 4),
    "training_k1": (1, 0.1, 3),
    "one_class": (3, 0.07, 2),
    "ties": (3, 0.1, 3),
    "small_temperature": (20, 0.002, 3),
}


@pytest.fixture
def features(generator):
    return torch.randn(40, 6, dtype=torch.float64, generator=generator)


def test_neighbours_are_those_of_a_full_sort_in_chunks_that_do_not_divide(features, monkeypatch):
    queries, gallery = features[:11], features[11:]
    similarities = F.normalize(queries) @ F.normalize(gallery).T
    order = similarities.argsort(dim=1, descending=True)[:, :5]
    for pairs in (1, 29 * 4, 2**22):
        monkeypatch.setattr(neighbours, "PAIRS", pairs)
        values, rows = nearest(queries, gallery, 5)
        assert torch.equal(rows, order)
        torch.testing.assert_close(values, similarities.gather(1, order))


def test_of_equally_similar_samples_the_lowest_rows_are_taken():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])
    gallery = torch.stack([other, one, other, one, other, one])
    _, rows = nearest(one[None], gallery, 5)
    assert rows.tolist() == [[1, 3, 5, 0, 2]]
    _, rows = nearest(torch.zeros(1, 2), gallery, 3)  # all tie
    assert rows.tolist() == [[0, 1, 2]]


def test_the_nearest_of_a_training_sample_is_itself(features):
    labels = torch.arange(40) % 7
    assert torch.equal(knn_votes(features, features, labels, 7, neighbours=1).argmax(dim=1), labels)


@pytest.mark.parametrize("case", CASES)
def test_votes_rank_the_classes_as_the_released_code_does(case):
    k, temperature, classes = CASES[case]
    query, bank, labels = (GOLDEN[f"{case}.in.{name}"] for name in ("query", "bank", "bank_labels"))
    votes = knn_votes(query, bank, labels, classes, neighbours=k, temperature=temperature)
    assert torch.equal(votes.argmax(dim=1), GOLDEN[f"{case}.out.prediction"])
    right = GOLDEN[f"{case}.restated.scores"]
    torch.testing.assert_close(votes, right / right.sum(dim=1, keepdim=True), rtol=1e-9, atol=1e-12)


def test_votes_for_several_labels_are_weighted_means_of_their_rows(features, generator):
    queries, gallery = features[:5], features[5:]
    labels = torch.rand(35, 4, generator=generator) < 0.4
    found = knn_votes(queries, gallery, labels, 4, neighbours=6, temperature=0.3)
    similarities, rows = nearest(queries, gallery, 6)
    for query in range(5):
        weights = [math.exp(s / 0.3) for s in similarities[query].tolist()]
        for label in range(4):
            yes = sum(w for w, row in zip(weights, rows[query].tolist(), strict=True) if labels[row, label])
            assert float(found[query, label]) == pytest.approx(yes / sum(weights))


def test_one_label_is_the_same_as_a_row_with_one_yes(features):
    labels = torch.arange(40) % 3
    one, several = (knn_votes(features, features, way, 3) for way in (labels, F.one_hot(labels).bool()))
    torch.testing.assert_close(one, several)


def test_a_low_temperature_does_not_overflow_in_single_precision(features):
    votes = knn_votes(features.float(), features.float(), torch.arange(40) % 3, 3, temperature=1e-4)
    assert votes.isfinite().all() and torch.equal(votes.argmax(dim=1), torch.arange(40) % 3)


def test_how_many_vote_depends_on_the_number_of_samples():
    assert [usual_neighbours(n) for n in (7, 9_999, 10_000)] == [7, 20, 200]


def test_what_cannot_be_searched_is_refused(features):
    with pytest.raises(InputError, match="50 nearest neighbours are asked for, but there are 40 samples"):
        nearest(features, features, 50)
    features[3, 1] = torch.nan
    with pytest.raises(InputError, match="the features of sample 3 are not finite"):
        nearest(features, features[:2], 1)
    assert nearest(features[:0], features[:2], 1)[1].shape == (0, 1)
