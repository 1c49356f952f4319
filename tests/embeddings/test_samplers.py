"""Batches of P classes with K samples each."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from attar.core.errors import InputError
from attar.embeddings.samplers import ClassBatches


@pytest.mark.parametrize("form", [list, np.asarray, torch.tensor])
def test_each_batch_has_so_many_classes_with_so_many_samples(form):
    labels = (np.arange(60) * 7 % 5).tolist()
    sampler = ClassBatches(form(labels), 3, 4)
    assert len(sampler) == len(list(sampler)) == 5
    for batch in sampler:
        assert sorted(Counter(labels[row] for row in batch).values()) == [4, 4, 4]
        assert len(set(batch)) == 12


def test_a_class_deals_out_all_its_samples_first():
    labels = [0] * 10 + [1] * 10
    rows = ClassBatches(labels, 2, 5).rows_at(0).tolist()
    assert sorted(rows) == list(range(20))


def test_a_small_class_repeats():
    batches = list(ClassBatches([0, 0, 1, 1, 1, 1, 1], 2, 4))
    assert len(batches) == 1
    assert Counter(row in (0, 1) for row in batches[0]) == {True: 4, False: 4}
    assert {0, 1} <= set(batches[0])


def test_an_epoch_depends_on_seed_and_number_only():
    labels = torch.arange(40) % 4
    first, second = ClassBatches(labels, 2, 3, seed=1), ClassBatches(labels, 2, 3, seed=1)
    one, two = list(first), list(first)
    assert one != two and list(second) == one
    second.set_epoch(1)
    assert list(second) == two
    assert list(ClassBatches(labels, 2, 3, seed=2)) != one
    assert len(list(ClassBatches(labels, 2, 3, batches=9))) == 9


def test_samples_with_several_labels():
    draw = torch.Generator().manual_seed(0)
    rows = torch.rand(80, 6, generator=draw) < 0.3
    rows[0] = False
    for batch in ClassBatches(rows, 4, 3):
        assert len(set(batch)) == 12 and 0 not in batch
        for start in range(0, 12, 3):
            assert rows[batch[start : start + 3]].all(dim=0).any()


def test_a_data_loader_takes_it():
    labels = torch.arange(24) % 3
    loader = DataLoader(TensorDataset(torch.arange(24), labels), batch_sampler=ClassBatches(labels, 2, 4))
    for rows, found in loader:
        assert torch.equal(labels[rows], found) and len(found.unique()) == 2


def test_what_does_not_fit_is_refused_in_a_line():
    for words, wrong in {
        "classes_per_batch is 4, but the labels are of 3 classes.": lambda: ClassBatches([0, 1, 2], 4, 1),
        "classes_per_batch is 1, but the labels are of 0 classes.": lambda: ClassBatches(np.zeros((3, 2), bool), 1, 1),
        "samples_per_class is 0; it must be at least 1.": lambda: ClassBatches([0, 1], 1, 0),
        "a label is -1; classes are counted from 0.": lambda: ClassBatches([0, -1], 1, 1),
        "labels are of type torch.float64; give whole numbers, or rows of 0 and 1.": lambda: ClassBatches([0.5], 1, 1),
    }.items():
        with pytest.raises(InputError) as error:
            wrong()
        assert str(error.value) == words
