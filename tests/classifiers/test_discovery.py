import math

import torch

from attar.classifiers.discovery import decorrelation


def logits(seed, samples=8, subclasses=6):
    draw = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(samples, subclasses, generator=draw, dtype=torch.float64)


def test_decorrelation_is_zero_for_samples_that_agree_and_bounded():
    a = logits(0)
    alike = a[:1] * torch.tensor([[1.0], [2.0], [0.5], [4.0]]) + torch.arange(4.0)[:, None]
    assert decorrelation(alike).abs() < 1e-8
    assert -math.log(8) <= decorrelation(a) < 0
    assert torch.isclose(decorrelation(3 * a + 1), decorrelation(a), atol=1e-8)
