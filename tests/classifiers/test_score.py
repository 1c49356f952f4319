"""What is said of students beyond their accuracy."""

import numpy as np
import torch

from attar.classifiers.score import detection


def test_two_classes_have_an_f1_and_a_curve():
    logits = torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 2.0], [0.0, -2.0], [0.0, 0.5]])
    labels = torch.tensor([1, 1, 1, 0, 0])
    macro, f1, auc = detection(logits, labels)
    assert np.isclose(f1, 100 * 2 * 2 / (3 + 3))
    assert np.isclose(macro, 100 * (2 / 3 + 1 / 2) / 2)
    assert np.isclose(auc, 100 * 5 / 6)


def test_more_classes_have_a_mean_f1_alone():
    logits, labels = torch.eye(3), torch.tensor([0, 1, 2])
    assert detection(logits, labels) == (100.0, None, None)
    assert detection(torch.eye(2), torch.tensor([0, 0]))[2] is None
