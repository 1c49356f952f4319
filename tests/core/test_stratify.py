import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

from attar.core.stratify import apart, iterative, kept, split

SETS = {"emotions": 6, "scene": 6, "yeast": 14}


def labels_of(name):
    file = Path(os.environ.get("ATTAR_DATA", "")) / "multilabel" / f"{name}.parquet"
    if not file.is_file():
        pytest.skip(f"{file} is not here")
    table = parquet.read_table(file)
    columns = table.column_names[-SETS[name] :]
    return torch.from_numpy(np.stack([table.column(one).to_numpy() for one in columns], axis=1)).bool()


def gap(labels, mask):
    """The largest distance of a label's share in a part from its share in the whole."""
    return float((labels[mask].double().mean(dim=0) - labels.double().mean(dim=0)).abs().max())


@pytest.mark.parametrize("name", SETS)
def test_parts_have_the_shares_of_labels_of_the_whole(name):
    labels = labels_of(name)
    drawn = torch.Generator().manual_seed(0)
    stratified, random = [], []
    for seed in range(3):
        mask = split(labels, len(labels), seed)
        assert abs(int(mask.sum()) / len(labels) - 0.2) < 0.01
        assert gap(labels, mask) < 0.03 and gap(labels, ~mask) < 0.008
        stratified.append(gap(labels, mask))
        for _ in range(5):
            other = torch.zeros(len(labels), dtype=torch.bool)
            other[torch.randperm(len(labels), generator=drawn)[: int(mask.sum())]] = True
            random.append(gap(labels, other))
    assert 2 * max(stratified) < sum(random) / len(random)
    assert not torch.equal(split(labels, len(labels), 0), split(labels, len(labels), 1))
    assert torch.equal(split(labels, len(labels), 1), split(labels, len(labels), 1))


def test_a_rare_label_lies_in_both_parts():
    """Two samples of a hundred have the label. A random fifth lacks it in 64 of 100 draws."""
    labels = torch.zeros(100, 2, dtype=torch.bool)
    labels[:, 0], labels[[3, 77], 1] = True, True
    for seed in range(10):
        mask = iterative(labels, 0.5, seed, "a test")
        assert int(labels[mask, 1].sum()) == 1 and int(mask.sum()) == 50


def test_the_algorithm_on_three_samples_by_hand():
    """Label 1 is the rarest: its sample goes to the larger part, and the others as that part then needs."""
    labels = torch.tensor([[True, True], [True, False], [True, False]])
    mask = iterative(labels, 1 / 3, 0, "a test")
    assert not mask[0] and int(mask.sum()) == 1


def test_samples_without_labels_fill_the_parts():
    labels = torch.zeros(50, 3, dtype=torch.bool)
    assert int(iterative(labels, 0.3, 0, "a test").sum()) == 15


def test_of_one_label_each_class_has_its_share_and_keeps_one():
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 2 + [3])
    mask = apart(labels, len(labels), 0.9, 0)
    assert labels[mask].bincount(minlength=4).tolist() == [45, 9, 1, 0]
    assert labels[split(labels, len(labels), 0)].bincount(minlength=4).tolist() == [10, 2, 1, 0]


def test_without_labels_the_share_is_drawn_from_all():
    assert int(apart(None, 1000, 0.1, 0).sum()) == 100
    assert int((apart(None, 1000, 0.1, 0) & split(None, 1000, 0)).sum()) < 40  # drawn independently


@pytest.mark.parametrize("wanted", [1, 7, 59, 60, 200])
def test_so_many_samples_are_kept_in_proportion_to_classes(wanted):
    one = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    several = torch.nn.functional.one_hot(one, 3).bool()
    for labels in (one, several, None):
        mask = kept(labels, 60, wanted, 0)
        assert int(mask.sum()) == min(wanted, 60)
    shares = one[kept(one, 60, 30, 0)].bincount().tolist()
    assert shares == [15, 10, 5]
