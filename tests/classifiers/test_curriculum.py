"""From easy to hard: which samples an epoch has."""

import pytest
import torch

import attar
from attar.classifiers.curriculum import EasyToHard, easy_to_hard, levels_of_subclasses, levels_of_votes
from attar.classifiers.pair import Pair
from attar.classifiers.skd import SubclassKD
from attar.classifiers.subclasses import Grouping, subclasses_from_votes
from attar.core.errors import InputError
from attar.core.runtime import Engine

VOTES = torch.arange(8).repeat(5)


def test_levels_are_dissents_and_subclasses_keep_them():
    levels = levels_of_votes(VOTES, 7)
    assert levels[:8].tolist() == [0, 1, 2, 3, 3, 2, 1, 0]
    subclasses, grouping = subclasses_from_votes(VOTES, 7, "every")
    assert torch.equal(levels_of_subclasses(subclasses, grouping), levels)
    assert levels_of_subclasses(torch.arange(4), Grouping((0, 1, 0, 1))).tolist() == [0, 0, 1, 1]


def test_one_level_more_after_equal_times_until_all_are_in():
    levels = levels_of_votes(VOTES, 7)
    hardest = [int(levels[easy_to_hard(levels, epoch, 12, share=0.5)].max()) for epoch in range(12)]
    assert hardest == [0, 0, 1, 1, 2, 2, *[3] * 6]


def test_an_epoch_is_as_long_as_ever_and_goes_through_what_is_in():
    levels = levels_of_votes(VOTES, 7)
    for epoch in (0, 3):
        rows = easy_to_hard(levels, epoch, 8)
        assert len(rows) == len(levels)
        counts = torch.bincount(rows, minlength=40)[levels <= int(levels[rows].max())]
        assert counts.max() - counts.min() <= 1
    assert sorted(easy_to_hard(levels, 7, 8).tolist()) == list(range(40))
    assert sorted(easy_to_hard(levels, 0, 8, share=0.0).tolist()) == list(range(40))


def test_levels_need_not_be_numbered_without_gaps():
    levels = torch.tensor([3, 3, 7, 9])
    assert easy_to_hard(levels, 0, 4).unique().tolist() == [0, 1]


def test_the_sampler_goes_on_by_epoch():
    levels = levels_of_votes(VOTES, 7)
    sampler = EasyToHard(levels, 8, seed=3)
    epochs = [list(sampler) for _ in range(2)]
    assert [len(sampler), len(epochs[0])] == [40, 40]
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1] != epochs[0]
    assert epochs[1] == easy_to_hard(levels, 1, 8, seed=3).tolist()


def test_a_student_sees_the_easy_ones_first(few_digits, runtime):
    group = (0,) * 5 + (1,) * 5
    method = SubclassKD(epochs=4, images_in="easy-to-hard", group=group, student="convnet:norm=batch,width=4")
    method = method.resolve(Pair(few_digits), runtime)
    seen = [few_digits.targets[method.order(epoch, few_digits, 0)].unique().tolist() for epoch in range(4)]
    assert seen == [[0, 5], [0, 1, 2, 5, 6, 7], list(range(10)), list(range(10))]
    made = attar.distill(few_digits, method, teacher="convnet:norm=batch,width=8", engine=Engine(quiet=True))
    assert made.group == group


def test_what_has_no_order_is_refused(few_digits, runtime):
    with pytest.raises(InputError, match="there are no samples to order"):
        easy_to_hard(torch.zeros(0, dtype=torch.long), 0, 3)
    with pytest.raises(InputError, match="a majority needs an odd number"):
        levels_of_votes(VOTES, 8)
    method = SubclassKD(known=False, images_in="easy-to-hard", group=tuple(range(10)) * 2)
    with pytest.raises(InputError, match="the teacher's discovered subclasses have no order"):
        method.resolve(Pair(few_digits), runtime)
