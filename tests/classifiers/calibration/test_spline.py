import numpy as np
import pytest
import torch

from attar.classifiers.calibration.onevsrest import interpolated
from attar.classifiers.calibration.spline import SplineCalibration, knot_values, recalibrated
from attar.core.errors import InputError
from calibration_cases import case, cases

NAME = "spline_calibration_ks"


@pytest.mark.parametrize("which", cases(NAME, "ref.knot_values"))
def test_golden(which):
    given = case(NAME, which)
    order = given["draw.order"]
    scores, right = given["out.top_score"], given["out.top_correct"]
    if not torch.equal(scores, scores.sort().values):
        scores, right = scores[order], right[order]
    assert np.allclose(knot_values(scores, right), given["ref.knot_values"], atol=1e-10)
    found = recalibrated(scores, right)
    assert torch.allclose(found, given["out.sorted_recalibrated"], atol=1e-10)
    places = scores.unique()
    if len(places) == len(scores):
        for asked, name in (("in.probe", "probe"), ("in.eval_scores", "eval")):
            values = interpolated(given[asked], places, found).clamp(0, 1)
            assert torch.allclose(values, given[f"ref.recalibrated_{name}"].clamp(0, 1), atol=1e-10)


def drawn(rows=5000, seed=0):
    draw = torch.Generator().manual_seed(seed)
    true = 1.5 * torch.randn(rows, 5, dtype=torch.float64, generator=draw)
    return 2.5 * true, torch.multinomial(true.softmax(dim=1), 1, generator=draw).squeeze(1)


def ks(confidence, right):
    confidence, order = confidence.sort()
    return float(((right[order] - confidence).cumsum(0) / len(right)).abs().max())


def test_accumulated_errors_vanish_and_confidence_is_what_was_learned():
    logits, labels = drawn()
    method = SplineCalibration()
    learned = method.fit(logits, labels, generator=torch.Generator())
    right = (logits.argmax(dim=1) == labels).double()
    before, found = logits.softmax(dim=1).amax(dim=1), method.applied(learned, logits)
    assert ks(before, right) > 0.15
    assert ks(found.exp().amax(dim=1), right) < 0.02
    assert torch.equal(found.argmax(dim=1), logits.argmax(dim=1))
    corrected = method.confidence(learned, before)
    assert torch.allclose(found.exp().amax(dim=1), corrected.clamp(0.2, 1), atol=1e-6)


def test_a_confidence_that_is_right_everywhere_stays():
    scores = torch.linspace(0.3, 0.9, 200).double()
    assert torch.allclose(recalibrated(scores, scores), scores, atol=1e-9)


def test_equal_scores_get_one_value_and_few_rows_are_refused():
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]] * 3)
    labels = torch.tensor([0, 1, 1, 1] * 3)
    learned = SplineCalibration().fit(logits, labels, generator=torch.Generator())
    assert len(learned["places"]) == 2
    with pytest.raises(InputError, match=r"4 calibration rows are too few for 6 knots\. Give more rows"):
        SplineCalibration().fit(logits[:4], labels[:4], generator=torch.Generator())
