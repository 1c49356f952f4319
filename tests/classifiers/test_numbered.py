"""Samples that say which they are, to whatever collates them."""

import pytest
import torch

from attar.classifiers.numbered import AT_ONCE, ROW, Numbered, WithRows
from attar.core.errors import InputError

SAMPLES = [{"x": torch.full((2,), float(row)), "label": row % 3} for row in range(AT_ONCE + 5)]


def collate(samples):
    """One that names its columns, and loses all others."""
    return {"x": torch.stack([s["x"] for s in samples]), "labels": torch.tensor([s["label"] for s in samples])}


def test_a_batch_says_which_samples_it_holds():
    numbered = Numbered(SAMPLES)
    batch = WithRows(collate)([numbered[row] for row in (7, 2, 5)])
    assert batch[ROW].tolist() == [7, 2, 5]
    assert batch["x"][:, 0].tolist() == [7, 2, 5]
    assert ROW not in SAMPLES[7]


def test_samples_without_numbers_are_collated_as_ever():
    assert WithRows(collate)(SAMPLES[:3]).keys() == {"x", "labels"}
    assert WithRows(len)([(1, 2), (3, 4)]) == 2


def test_all_labels_in_their_order():
    assert Numbered(SAMPLES).labels(collate).tolist() == [row % 3 for row in range(AT_ONCE + 5)]


def test_what_is_only_gone_through_has_no_numbers():
    with pytest.raises(InputError, match=r"^generator has no numbered samples\. Give a data set with a length\.$"):
        Numbered(row for row in SAMPLES)
