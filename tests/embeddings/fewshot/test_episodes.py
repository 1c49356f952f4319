"""Episodes: support and query are disjoint, class after class, and every class is equally likely."""

import numpy as np
import pytest
import torch

from attar.core.errors import InputError
from attar.embeddings.fewshot.episodes import Pool, episodes

LABELS = torch.arange(12).repeat_interleave(9)[torch.randperm(108, generator=torch.Generator().manual_seed(1))]


def test_support_and_query_never_meet_over_a_thousand_episodes(generator):
    for support, query in episodes(LABELS, 5, 2, 4, 1000, generator):
        assert len({*support.tolist(), *query.tolist()}) == 5 * (2 + 4)


def test_rows_lie_class_after_class_in_one_order(generator):
    for support, query in episodes(LABELS, 5, 2, 4, 20, generator):
        classes = LABELS[support].view(5, 2)
        assert len(classes[:, 0].unique()) == 5
        assert torch.equal(classes, classes[:, :1].expand(5, 2))
        assert torch.equal(LABELS[query].view(5, 4), classes[:, :1].expand(5, 4))


def test_every_class_is_equally_likely_whatever_its_size(generator):
    labels = torch.cat([torch.zeros(500), torch.ones(5), torch.full((5,), 2)]).long()
    counts = torch.zeros(3)
    for support, _ in episodes(labels, 1, 1, 1, 3000, generator):
        counts[labels[support]] += 1
    # Five standard deviations of a binomial around a third.
    assert ((counts / 3000 - 1 / 3).abs() < 5 * (2 / 9 / 3000) ** 0.5).all()


def test_the_same_generator_gives_the_same_episodes():
    first, second = (
        [tuple(map(torch.Tensor.tolist, one)) for one in episodes(LABELS, 3, 1, 2, 5, torch.Generator().manual_seed(4))]
        for _ in range(2)
    )
    assert first == second


def test_queries_can_come_from_a_pool_of_their_own(generator):
    pool = torch.arange(8).repeat(3)
    for support, query in episodes(LABELS, 4, 3, 2, 50, generator, query_labels=pool):
        assert torch.equal(LABELS[support].view(4, 3)[:, 0], pool[query].view(4, 2)[:, 0])
        assert len(query.unique()) == 8


def test_without_queries_it_draws_batches_of_classes(generator):
    support, query = next(episodes(LABELS.tolist(), 6, 4, 0, 1, generator))
    assert len(support) == 24 and len(query) == 0


def test_small_classes_are_left_out_and_told(generator):
    said = []
    labels = np.array([0] * 5 + [1] * 5 + [7] * 2 + [9])
    drawn = list(episodes(labels, 2, 1, 2, 30, generator, say=said.append))
    assert said == ["2 classes have fewer than 3 samples and are in no episode: 7, 9."]
    assert {int(label) for support, _ in drawn for label in labels[support]} == {0, 1}
    one = Pool(labels, 2, 1, 1)
    assert one.note == "1 class has fewer than 2 samples and is in no episode: 9."


@pytest.mark.parametrize(
    ("labels", "way", "message"),
    [
        ([0, 0, 1, 1], 5, "an episode has 5 classes with 2 samples each, but there are 2 such classes in the samples."),
        (
            [0, 0, 1],
            2,
            "an episode has 2 classes with 2 samples each, "
            "but there is one such class, and 1 with fewer, in the samples.",
        ),
        (
            [0, 1],
            1,
            "an episode has 1 class with 2 samples each, but there is no such class, and 2 with fewer, in the samples.",
        ),
        ([0, -1, 1, 1], 2, "the label of sample 1 is -1; a class is a whole number from zero."),
        ([0.0, 1.0], 2, "labels are float32; give whole numbers, one per sample."),
        ([[0, 1], [1, 0]], 2, "labels have shape (2, 2); episodes need one class for each sample."),
        ([0, 0, 1, 1], 0, "way is 0; an episode needs at least 1."),
    ],
)
def test_bad_input_is_one_line_before_the_first_episode(labels, way, message, generator):
    with pytest.raises(InputError) as error:
        episodes(labels, way, 1, 1, 1, generator)
    assert str(error.value).removesuffix(" Ask for fewer classes or fewer samples of each.") == message


def test_a_pool_without_the_classes_is_refused(generator):
    with pytest.raises(InputError, match="2 classes with 1 sample and 1 in the pool of queries each"):
        episodes([0, 1], 2, 1, 1, 1, generator, query_labels=[5, 6])
