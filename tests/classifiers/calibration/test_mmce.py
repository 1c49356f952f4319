import math

import pytest
import torch
import torch.nn.functional as F

from attar.classifiers.calibration.mmce import MMCELoss, mmce


def by_pairs(logits, labels, weighted):
    """The definition in loops."""
    p = logits.softmax(dim=1)
    r, c = p.amax(dim=1).tolist(), (p.argmax(dim=1) == labels).tolist()
    right, wrong = c.count(True), c.count(False)
    apart = weighted and right and wrong
    total = 0.0
    for i in range(len(r)):
        for j in range(len(r)):
            weights = [(right if c[k] else wrong) if apart else len(r) for k in (i, j)]
            kernel = math.exp(-abs(r[i] - r[j]) / 0.4)
            total += (c[i] - r[i]) * (c[j] - r[j]) * kernel / (weights[0] * weights[1])
    return math.sqrt(total)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("which", ["mixed", "all right", "all wrong"])
def test_it_is_the_definition(weighted, which):
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(12, 4, dtype=torch.float64, generator=draw)
    labels = {"mixed": torch.arange(12) % 4, "all right": logits.argmax(1), "all wrong": logits.argmin(1)}[which]
    assert float(mmce(logits, labels, weighted=weighted)) == pytest.approx(by_pairs(logits, labels, weighted), rel=1e-9)


def test_certain_and_right_costs_nothing_and_gradients_are_finite():
    logits = (200 * torch.eye(4)).requires_grad_()
    loss = mmce(logits, torch.arange(4))
    loss.backward()
    assert loss < 1e-6 and torch.isfinite(logits.grad).all()
    assert mmce(logits.bfloat16(), torch.arange(4)).dtype == torch.float32


def test_the_loss_is_cross_entropy_and_the_penalty():
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(9) % 3
    expected = F.cross_entropy(logits, labels) + 3 * mmce(logits, labels, weighted=True)
    assert torch.isclose(MMCELoss(3.0)(logits, labels), expected)
    assert torch.isclose(MMCELoss(0.0)(logits, labels), F.cross_entropy(logits, labels))


def test_descending_it_calibrates_a_scale():
    """One factor of over-confident logits, trained on the penalty alone, ends near the true one."""
    draw = torch.Generator().manual_seed(0)
    true = 1.5 * torch.randn(600, 4, generator=draw)
    labels = torch.multinomial(true.softmax(dim=1), 1, generator=draw).squeeze(1)
    factor = torch.tensor(3.0, requires_grad=True)
    optimizer = torch.optim.Adam([factor], 0.05)
    for _ in range(120):
        optimizer.zero_grad()
        mmce(factor * true, labels).backward()
        optimizer.step()
    assert float(factor.detach()) == pytest.approx(1, abs=0.25)
