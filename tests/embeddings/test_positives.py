"""Overlaps of sets of labels, against counting."""

import pytest
import torch

from attar.core.errors import InputError
from attar.embeddings.positives import overlap_scores, positive_weights, weights_by_rows

ROWS = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]).bool()
SETS = [set(row.nonzero().flatten().tolist()) for row in ROWS]
BY_COUNTING = {
    "equal": lambda a, b: float(a == b),
    "jaccard": lambda a, b: len(a & b) / len(a | b),
    "overlap": lambda a, b: len(a & b) / min(len(a), len(b)),
    "dice": lambda a, b: 2 * len(a & b) / (len(a) + len(b)),
    "cosine": lambda a, b: len(a & b) / (len(a) * len(b)) ** 0.5,
}


def counted(score):
    return torch.tensor([[BY_COUNTING[score](a, b) if a & b else 0.0 for b in SETS] for a in SETS])


@pytest.mark.parametrize("score", BY_COUNTING)
def test_scores_are_those_of_counting(score):
    torch.testing.assert_close(overlap_scores(ROWS, ROWS, score), counted(score))
    torch.testing.assert_close(positive_weights(ROWS, score, weighted=True), counted(score))
    assert torch.equal(positive_weights(ROWS.float(), score), counted(score) > 0)
    assert torch.equal(positive_weights(ROWS, score)[3], torch.zeros(6, dtype=torch.bool))


@pytest.mark.parametrize("score", BY_COUNTING)
@pytest.mark.parametrize("threshold", [0.0, 1 / 3, 0.5, 1.0])
def test_a_threshold_is_the_least_score_of_a_positive(score, threshold):
    enough = (counted(score) >= threshold - 1e-6) & (counted(score) > 0)
    assert torch.equal(positive_weights(ROWS, score, threshold), enough)
    torch.testing.assert_close(positive_weights(ROWS, score, threshold, True), counted(score) * enough)


@pytest.mark.parametrize("score", BY_COUNTING)
@pytest.mark.parametrize("weighted", [False, True])
def test_views_of_one_sample_are_always_positives(score, weighted):
    numbers = torch.tensor([7, 8, 9, 3, 3, 8])
    found = positive_weights(ROWS, score, 0.9, weighted, numbers)
    same = numbers[:, None] == numbers
    plain = positive_weights(ROWS, score, 0.9, weighted)
    assert torch.equal(found[same], torch.ones_like(found[same]))
    assert torch.equal(found[~same], plain[~same])


@pytest.mark.parametrize("score", BY_COUNTING)
def test_classes_are_sets_of_one(score):
    classes = torch.tensor([2, 0, 2, 1])
    assert torch.equal(positive_weights(classes, score, 0.5).bool(), classes[:, None] == classes)
    sets = torch.nn.functional.one_hot(classes)
    torch.testing.assert_close(positive_weights(sets, score, 0.5, True), (classes[:, None] == classes).float())


def test_rows_and_others():
    others, numbers = ROWS[[1, 3]], torch.tensor([1, 3])
    by_rows = weights_by_rows(ROWS, "dice", same=torch.arange(6), others=others, others_same=numbers)
    wanted = counted("dice")[:, [1, 3]] > 0
    wanted[3, 1] = True
    assert torch.equal(by_rows(torch.tensor([3, 0])), wanted[[3, 0]])


def test_what_does_not_fit_is_refused_in_a_line():
    for words, wrong in {
        "threshold is -0.1; an overlap lies between 0 and 1.": lambda: positive_weights(ROWS, "dice", -0.1),
        "there are 2 numbers of samples for 6 rows of labels.": lambda: positive_weights(ROWS, same=torch.arange(2)),
        "labels have shape (6, 4), but those of the others (6, 3).": lambda: positive_weights(ROWS, others=ROWS[:, :3]),
    }.items():
        with pytest.raises(InputError) as error:
            wrong()
        assert str(error.value) == words
