import warnings

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import brent

from attar.classifiers.calibration.losses import balance, brier, ca_loss, cross_entropy, top_label, top_label_brier
from attar.classifiers.calibration.ts import TemperatureScaling, searched, slopes, temperature_by, temperature_of
from calibration_cases import case, cases

NARROW = torch.tensor([[0.412, 0.455, 0.068, 0.065]], dtype=torch.float64).log()
"""The right class, the first, is a close second."""
RIGHT = torch.tensor([0])


def sampled(rows=20_000, factor=1.0, seed=0, classes=10):
    draw = torch.Generator().manual_seed(seed)
    true = 2 * torch.randn(rows, classes, generator=draw, dtype=torch.float64)
    return factor * true, torch.multinomial(true.softmax(dim=1), 1, generator=draw).squeeze(1)


@pytest.mark.parametrize("factor", [0.3, 1.0, 2.5, 20.0])
def test_the_factor_of_logits_is_found(factor):
    logits, labels = sampled(factor=factor)
    assert temperature_of(logits, labels) == pytest.approx(factor, rel=0.03)


def test_it_is_the_minimum_and_that_of_scikit_learn():
    from sklearn.calibration import _TemperatureScaling

    logits, labels = sampled(3000, 2.5)
    found = temperature_of(logits, labels)
    wanted = logits.gather(1, labels[:, None]).mean()
    assert abs(slopes(1 / found, logits, wanted)[0]) <= 1e-10
    theirs = 1 / _TemperatureScaling().fit(logits.numpy(), labels.numpy()).beta_
    assert found == pytest.approx(float(theirs), rel=1e-6)
    exact = brent(lambda beta: float(F.cross_entropy(beta * logits, labels)), brack=(0.1, 1.0), tol=1e-12)
    assert found == pytest.approx(1 / exact, rel=1e-6)


@pytest.mark.parametrize("which", cases("temperature_scaling", "ref.temperature"))
def test_golden(which):
    given = case("temperature_scaling", which)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = temperature_of(given["in.logits"], given["in.labels"])
    assert found == pytest.approx(float(given["ref.temperature"]), rel=1e-6)
    loss = F.cross_entropy(given["in.logits"] / found, given["in.labels"])
    assert torch.isclose(loss, given["ref.nll"], rtol=1e-9, atol=1e-12)
    logits = given["in.logits"]
    slope, _ = slopes(1.0, logits, logits.gather(1, given["in.labels"][:, None]).mean())
    assert slope == pytest.approx(float(given["ref.nll_slope_in_beta_at_1"]), abs=1e-12)


def test_all_right_and_all_wrong_end_at_the_caps_with_a_warning():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    with pytest.warns(
        UserWarning, match="all predictions of the calibration rows are right, so no temperature is best"
    ):
        assert temperature_of(logits, torch.tensor([0, 1])) == 0.01
    with pytest.warns(UserWarning, match="the logits are too large, or say nothing about the labels"):
        assert temperature_of(logits, torch.tensor([1, 0])) == 100
    assert temperature_of(torch.zeros(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])) == 1


@pytest.mark.parametrize("scale", [0.05, 1.0, 50.0])
def test_the_brackets_hold_far_from_one(scale):
    logits, labels = sampled(500)
    scaled = scale * logits
    usual = temperature_of(logits, labels)
    assert temperature_of(scaled, labels) == pytest.approx(scale * usual, rel=1e-6)


def test_the_gradients_at_a_narrowly_wrong_sample_have_their_signs():
    """Cross-entropy sharpens it, the Brier score of all classes hardly moves, CA lowers its confidence."""
    expected = {cross_entropy: -0.197, lambda z, y: brier(z, y) / 4: -0.0004, top_label: 0.123}
    for loss, value in expected.items():
        beta = torch.ones((), dtype=torch.float64, requires_grad=True)
        loss(beta * NARROW, RIGHT).sum().backward()
        assert float(beta.grad) == pytest.approx(value, abs=1e-3 if abs(value) > 0.01 else 1e-4)


def test_the_optima_at_a_narrowly_wrong_sample_are_known():
    found = temperature_of(NARROW, RIGHT)
    assert found == pytest.approx(0.534, abs=1e-3)
    assert torch.allclose((NARROW / found).softmax(1), torch.tensor([[0.441, 0.531, 0.015, 0.014]]).double(), atol=1e-3)
    assert temperature_by("brier", NARROW, RIGHT) == pytest.approx(0.991, abs=1e-3)
    with pytest.warns(
        UserWarning, match="the loss falls up to the end of the range, so no temperature is best; it is set"
    ):
        assert temperature_by("ca", NARROW, RIGHT) == pytest.approx(100)
    assert float((NARROW / 10).softmax(1).max()) == pytest.approx(0.275, abs=1e-3)


@pytest.mark.parametrize("loss", ["brier", "ca", "ca-balanced"])
def test_other_losses_are_at_their_smallest(loss):
    logits, labels = sampled(2000, 2.0)
    functions = {
        "brier": lambda z: brier(z, labels).mean(),
        "ca": lambda z: top_label_brier(z, labels),
        "ca-balanced": lambda z: ca_loss(z, labels, balanced=True),
    }
    found = temperature_by(loss, logits, labels)
    grid = torch.logspace(-1, 1.5, 400, dtype=torch.float64)
    values = torch.stack([functions[loss](logits / t) for t in grid])
    assert float(functions[loss](logits / found)) <= float(values.min()) + 1e-12
    assert TemperatureScaling(loss=loss).fit(logits, labels, generator=torch.Generator())[
        "temperature"
    ] == pytest.approx(found, rel=1e-6)
    if loss != "ca-balanced":
        assert found == pytest.approx(2.0, rel=0.1)


def test_the_loss_is_the_mean_of_squares_and_splits_into_calibration_and_refinement():
    logits, labels = sampled(4000, 2.0)
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    right = (predicted == labels).double()
    loss = ca_loss(logits, labels)
    assert torch.isclose(loss, (confidence - right).square().mean(), atol=1e-12)
    # With confidence rounded to bins, Murphy's decomposition is exact.
    rounded = (confidence * 50).round() / 50
    calibration = refinement = 0.0
    for value in rounded.unique():
        rows = rounded == value
        rate, share = right[rows].mean(), rows.double().mean()
        calibration += share * (value - rate) ** 2
        refinement += share * rate * (1 - rate)
    assert torch.isclose((rounded - right).square().mean(), calibration + refinement, atol=1e-12)
    assert float(loss) == pytest.approx(float(calibration + refinement), abs=2e-3)


def test_certain_right_logits_cost_nothing_and_weights_that_would_vanish_are_even():
    logits = 100 * torch.eye(3)
    assert ca_loss(logits, torch.arange(3)) < 1e-12
    assert torch.equal(balance(torch.ones(4)), torch.ones(4))
    assert torch.equal(balance(torch.zeros(4)), torch.ones(4))
    assert ca_loss(torch.zeros(2, 3), torch.tensor([0, 0]), balanced=True) == ca_loss(
        torch.zeros(2, 3), torch.tensor([0, 0])
    )
    weights = balance(torch.tensor([1.0, 1, 1, 0]))
    assert torch.equal(weights, torch.tensor([0.25, 0.25, 0.25, 0.75]))


def test_a_loss_in_half_precision_is_computed_in_single():
    logits, labels = sampled(50)
    assert ca_loss(logits.bfloat16(), labels).dtype == torch.float32
    assert ca_loss(logits, labels).dtype == torch.float64


def test_a_search_finds_the_bottom_of_a_curve():
    logits = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    found = searched(lambda z: (float(-z[0, 1]) - 0.25) ** 2, logits)
    assert found == pytest.approx(4, rel=1e-6)
