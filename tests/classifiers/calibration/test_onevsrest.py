import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression

from attar.classifiers.calibration.beta import BetaCalibration, curve_of
from attar.classifiers.calibration.histogram import HistogramBinning, between
from attar.classifiers.calibration.isotonic import IsotonicCalibration, SharedIsotonic
from attar.classifiers.calibration.onevsrest import interpolated, log_odds, normalised, with_confidence
from attar.classifiers.calibration.platt import PlattScaling, sigmoid_of
from attar.core.errors import InputError
from calibration_cases import case, cases

NAME = "ensemble_scaling_isotonic"


def drawn(rows=300, classes=3, seed=0, scale=2.0):
    draw = torch.Generator().manual_seed(seed)
    true = 1.5 * torch.randn(rows, classes, dtype=torch.float64, generator=draw)
    return scale * true, torch.multinomial(true.softmax(dim=1), 1, generator=draw).squeeze(1)


def test_log_odds_are_exact_and_those_of_two_classes_are_the_margin():
    logits, _ = drawn()
    p = logits.softmax(dim=1)
    assert torch.allclose(log_odds(logits), p.log() - (1 - p).log(), atol=1e-9)
    two = torch.tensor([[0.0, 60.0], [3.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(log_odds(two)[:, 1], two[:, 1] - two[:, 0], rtol=1e-12)


def test_scores_without_a_sum_become_probabilities_in_the_order_of_the_classifier():
    logits, _ = drawn(5)
    found = normalised(torch.zeros(5, 3, dtype=torch.float64), logits)
    assert torch.allclose(found, F.log_softmax(logits, dim=1), atol=1e-9)
    even = normalised(torch.full((5, 3), 0.5, dtype=torch.float64), logits)
    assert torch.equal(even.argsort(dim=1), logits.argsort(dim=1))


def test_interpolation_is_numpys():
    places, values = torch.tensor([0.1, 0.4, 0.9]).double(), torch.tensor([0.0, 1.0, 0.5]).double()
    at = torch.linspace(0, 1, 23).double()
    assert np.allclose(interpolated(at, places, values), np.interp(at, places, values), atol=1e-12)


@pytest.mark.parametrize("wanted", [0.05, 0.3, 0.5, 0.8, 0.999])
def test_a_confidence_can_be_asked_for(wanted):
    logits, _ = drawn(50, 4)
    found = with_confidence(logits, torch.full((50,), wanted, dtype=torch.float64)).exp()
    assert torch.allclose(found.sum(dim=1), torch.ones(50).double())
    assert torch.allclose(found.amax(dim=1), torch.tensor(max(wanted, 0.25)).double(), atol=1e-8)
    assert torch.equal(found.argmax(dim=1), logits.argmax(dim=1))


# --------------------------------------------------------------------------------------------------------------- Platt


def test_the_sigmoid_is_scikit_learns():
    logits, labels = drawn(200, 2)
    scores = logits[:, 1] - logits[:, 0]
    slope, shift = sigmoid_of(scores, labels == 1)
    theirs = _SigmoidCalibration().fit(scores.numpy(), labels.numpy())
    assert slope == pytest.approx(-theirs.a_, rel=1e-3) and shift == pytest.approx(-theirs.b_, abs=1e-3)
    method = PlattScaling()
    found = method.applied(method.fit(logits, labels, generator=torch.Generator()), logits).exp()
    assert torch.allclose(found[:, 1], (slope * scores + shift).sigmoid(), atol=1e-6)


def test_separated_classes_have_a_finite_slope_with_his_targets():
    scores = torch.cat([torch.linspace(-3, -1, 20), torch.linspace(1, 3, 20)]).double()
    slope, shift = sigmoid_of(scores, scores > 0)
    assert 0 < slope < 5 and abs(shift) < 1e-6


# ---------------------------------------------------------------------------------------------------------------- beta


def test_calibrated_probabilities_keep_the_identity():
    logits, labels = drawn(40_000, 2, scale=1.0)
    method = BetaCalibration()
    learned = method.fit(logits, labels, generator=torch.Generator())
    assert torch.allclose(learned["curve"], torch.tensor([1.0, 1.0, 0.0]).double(), atol=0.08)
    assert (method.applied(learned, logits).exp() - logits.softmax(dim=1)).abs().max() < 0.03


@pytest.mark.parametrize("parameters", ["abc", "ac", "ab"])
def test_a_curve_is_the_best_of_its_kind(parameters):
    logits, labels = drawn(500, 2)
    method = BetaCalibration(parameters=parameters)
    curve = method.fit(logits, labels, generator=torch.Generator())["curve"][1]
    assert curve[:2].min() >= 0
    assert parameters != "ac" or curve[0] == curve[1]
    assert parameters != "ab" or curve[2] == 0
    odds = logits[:, 1] - logits[:, 0]
    inputs = torch.stack([F.logsigmoid(odds), -F.logsigmoid(-odds), torch.ones_like(odds)], dim=1)
    target = (labels == 1).double()

    def loss(curve):
        return float(F.binary_cross_entropy_with_logits(inputs @ curve, target))

    free = {"abc": [0, 1, 2], "ac": [2], "ab": [0, 1]}[parameters]
    for place in free:
        for step in (-1e-3, 1e-3):
            moved = curve.clone()
            moved[place] += step
            assert loss(moved) >= loss(curve) or moved[:2].min() < 0


@pytest.mark.filterwarnings("error")
def test_separated_classes_end_at_the_bounds_without_a_warning():
    logits, _ = drawn(60, 3)
    learned = BetaCalibration().fit(logits, logits.argmax(dim=1), generator=torch.Generator())
    assert learned["curve"].isfinite().all()


def test_a_parameter_that_would_be_negative_is_zero():
    odds = torch.linspace(-3, 3, 100).double()
    inputs = torch.stack([F.logsigmoid(odds), -F.logsigmoid(-odds)], dim=1)
    curve = curve_of(inputs, odds < 0)
    assert curve.min() >= -1e2 and torch.equal(curve[:2].clamp_min(0), curve[:2])
    assert curve[:2].max() == 0


# ----------------------------------------------------------------------------------------------------------- histogram


@pytest.mark.parametrize("edges", ["width", "mass"])
def test_a_value_is_the_share_of_the_class_in_its_bin(edges):
    logits, labels = drawn(500, 2)
    method = HistogramBinning(bins=5, bins_of=edges)
    learned = method.fit(logits, labels, generator=torch.Generator())
    found, p = method.applied(learned, logits).exp()[:, 1], logits.softmax(dim=1)[:, 1]
    for value in found.unique():
        rows = (found - value).abs() < 1e-7
        if rows.sum() > 1:
            assert float((labels[rows] == 1).double().mean()) == pytest.approx(float(value), abs=1e-6)
    if edges == "mass":
        counts = torch.bincount(torch.searchsorted(learned["edges"][1], p.contiguous()), minlength=5)
        assert counts.max() - counts.min() <= 1


def test_bins_are_closed_on_the_right_and_an_empty_one_has_its_middle():
    p = torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64)
    learned = HistogramBinning(bins=2).fit(p.log(), torch.tensor([0, 1]), generator=torch.Generator())
    assert torch.equal(learned["values"][0], torch.tensor([1.0, 0.0]).double())
    assert torch.equal(learned["values"][1], torch.tensor([0.5, 0.75]).double())
    assert torch.equal(between(torch.tensor([[1.0, 2, 3, 4]]), 2), torch.tensor([[2.5]]))


def test_fewer_rows_than_bins_are_refused():
    logits, labels = drawn(10)
    with pytest.raises(InputError, match=r"10 calibration rows do not fill 15 bins\. Give fewer bins or more rows"):
        HistogramBinning().fit(logits, labels, generator=torch.Generator())


# ------------------------------------------------------------------------------------------------------------ isotonic


@pytest.mark.parametrize("which", cases(NAME, "out.probs_isotonic_per_class"))
def test_golden(which):
    given = case(NAME, which)
    logits, labels, asked = given["in.logits"], given["in.labels"], given["in.eval_logits"]
    draw = torch.Generator()
    for method, name in ((IsotonicCalibration(), "isotonic_per_class"), (SharedIsotonic(), "shared_isotonic")):
        scores = method.scores(method.learn(logits, labels, (), draw), asked)
        gap = (scores - given[f"out.probs_{name}"]).abs().max()
        assert gap < 1e-8, (name, float(gap))


def test_a_curve_is_scikit_learns_and_rows_sum_to_one():
    logits, labels = drawn()
    method = IsotonicCalibration()
    learned = method.fit(logits, labels, generator=torch.Generator())
    p = logits.softmax(dim=1)[:, 0].numpy()
    theirs = IsotonicRegression(out_of_bounds="clip").fit(p, (labels == 0).numpy()).predict(p)
    assert np.allclose(method.scores(learned, logits)[:, 0], theirs, atol=1e-12)
    assert torch.allclose(method.applied(learned, logits).exp().sum(dim=1), torch.ones(300).double())
