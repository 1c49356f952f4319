import pytest
import torch
import torch.nn.functional as F

from attar.classifiers.calibration.dirichlet import DirichletCalibration
from attar.classifiers.calibration.matrix import MatrixScaling
from attar.classifiers.calibration.vector import VectorScaling


def warped(rows=6000, classes=3, seed=0):
    """Logits of which labels are drawn after a known map."""
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, classes, dtype=torch.float64, generator=draw)
    factor, shift = torch.tensor([0.5, 1.0, 1.5]).double(), torch.tensor([0.5, 0.0, -0.5]).double()
    labels = torch.multinomial((factor * logits + shift).softmax(dim=1), 1, generator=draw).squeeze(1)
    return logits, labels, factor, shift


def test_factors_and_shifts_are_found():
    logits, labels, factor, shift = warped()
    learned = VectorScaling().fit(logits, labels, generator=torch.Generator())
    assert torch.allclose(learned["weight"], factor, atol=0.1)
    assert torch.allclose(learned["bias"] - learned["bias"].mean(), shift, atol=0.1)


@pytest.mark.parametrize("family", [VectorScaling, MatrixScaling, DirichletCalibration])
def test_the_fit_is_a_minimum(family):
    """No derivative is left, penalty included."""
    logits, labels, _, _ = warped(800)
    method = family()
    learned = {
        name: value.requires_grad_() for name, value in method.fit(logits, labels, generator=torch.Generator()).items()
    }
    loss = F.nll_loss(method.applied(learned, logits), labels)
    if family is DirichletCalibration:
        off = learned["weight"] - learned["weight"].diag().diag()
        loss = loss + 0.01 * off.square().sum() / 6 + 0.01 * learned["bias"].square().mean()
    loss.backward()
    assert max(float(value.grad.abs().max()) for value in learned.values()) < 1e-5


def test_a_matrix_fits_at_least_as_well_and_a_strong_penalty_makes_it_diagonal():
    logits, labels, _, _ = warped(1500)
    draw = torch.Generator()
    losses = {}
    for method in (VectorScaling(), MatrixScaling(), MatrixScaling(off_diagonal_penalty=1e3, intercept_penalty=1e3)):
        learned = method.fit(logits, labels, generator=draw)
        losses[len(losses)] = float(F.nll_loss(method.applied(learned, logits), labels))
    assert losses[1] <= losses[0] + 1e-9
    off = learned["weight"] - learned["weight"].diag().diag()
    assert off.abs().max() < 0.01 and learned["bias"].abs().max() < 0.01


def test_dirichlet_forgets_shifts_of_all_logits():
    logits, labels, _, _ = warped(300)
    method = DirichletCalibration()
    learned = method.fit(logits, labels, generator=torch.Generator())
    shifted = logits + torch.arange(300.0)[:, None]
    assert torch.allclose(method.applied(learned, logits), method.applied(learned, shifted), atol=1e-9)


def test_a_fit_that_ends_early_says_so():
    logits, labels, _, _ = warped(300)
    with pytest.warns(UserWarning, match="the fit stopped after 1 iterations at a derivative of"):
        VectorScaling(iterations=1).fit(logits, labels, generator=torch.Generator())
