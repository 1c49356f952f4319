"""Measures of calibration: their definitions on exact cases, golden numbers of released code, and bad input."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from safetensors.torch import load_file

from attar.classifiers.calibration.metrics import (
    Bins,
    CalibrationReport,
    Murphy,
    auroc,
    bins_of_equal_mass,
    bins_of_equal_width,
    brier_score,
    calibration_error,
    classwise_error,
    ks_error,
    negative_log_likelihood,
    probabilities_of,
    sampling_floor,
    top,
    top_label_brier,
)
from attar.core.errors import InputError

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "correctness_aware_metrics.safetensors")
CASES = sorted({name.partition(".")[0] for name in GOLDEN})
KS = Path(__file__).parents[1] / "golden" / "calibration_ks.safetensors"


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(0)
    confidence = 0.3 + 0.7 * torch.rand(400, generator=generator, dtype=torch.float64)
    return confidence, torch.bernoulli(confidence**2, generator=generator)


# ----------------------------------------------------------------------------------------------------------------- bins


def test_bins_are_closed_on_the_right():
    edges = torch.arange(26, dtype=torch.float64) / 25
    assert bins_of_equal_width(edges, 25).tolist() == [0, *range(25)]
    above = torch.nextafter(edges[1:-1], torch.ones(24, dtype=torch.float64))
    assert bins_of_equal_width(above, 25).tolist() == list(range(1, 25))


def test_bins_of_equal_mass_differ_by_one_sample_at_most():
    found = bins_of_equal_mass(torch.rand(47, generator=torch.Generator().manual_seed(1)), 10)
    assert sorted(torch.bincount(found).tolist()) == [4] * 3 + [5] * 7


def test_two_samples_in_one_bin():
    assert calibration_error(torch.tensor([0.95, 1.0]).repeat(5), torch.tensor([1, 0]).repeat(5), 10) == (
        pytest.approx(0.475)
    )


def test_perfect_bins_have_no_error_and_one_bin_has_the_difference_of_means(sample):
    confidence, right = sample
    perfect = torch.tensor([0.25] * 4 + [0.5] * 4 + [1.0] * 4)
    hits = torch.tensor([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1])
    for norm in ("l1", "l2", "max"):
        assert calibration_error(perfect, hits, 4, norm=norm) == 0
        assert calibration_error(confidence, right, 1, norm=norm) == pytest.approx(
            float((confidence - right).mean().abs())
        )


def test_merged_bins_never_have_a_larger_error_and_norms_are_ordered(sample):
    confidence, right = sample
    errors = [calibration_error(confidence, right, bins) for bins in (1, 2, 4, 8, 16, 32)]
    assert all(fewer <= more + 1e-12 for fewer, more in pairwise(errors))
    l1, l2, largest = (calibration_error(confidence, right, norm=norm) for norm in ("l1", "l2", "max"))
    assert l1 < l2 < largest


def test_the_order_of_samples_does_not_count(sample):
    confidence, right = sample
    order = torch.randperm(len(right), generator=torch.Generator().manual_seed(2))
    for measure in (calibration_error, ks_error, auroc, top_label_brier):
        assert measure(confidence[order], right[order]) == pytest.approx(measure(confidence, right))


def test_as_many_bins_of_equal_mass_as_samples_give_the_mean_gap(sample):
    confidence, right = sample
    found = calibration_error(confidence, right, len(right), by="mass")
    assert found == pytest.approx(float((confidence - right).abs().mean()))


def test_of_two_classes_the_classwise_error_is_that_of_either():
    p = torch.rand(200, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    labels = torch.bernoulli(p, generator=torch.Generator().manual_seed(4)).long()
    found = classwise_error(torch.stack([1 - p, p], dim=1), labels, 10)
    assert found == pytest.approx(calibration_error(p, labels, 10), abs=1e-12)


# --------------------------------------------------------------------------------------------------------- without bins


def test_ks_is_at_least_the_difference_of_means_and_takes_ties_together(sample):
    confidence, right = sample
    assert ks_error(confidence, right) >= float((right - confidence).mean().abs()) - 1e-12
    tied = torch.full((6,), 0.5)
    assert ks_error(tied, torch.tensor([1, 1, 1, 0, 0, 0])) == 0
    balanced = torch.tensor([0.25] * 4 + [0.5] * 2)
    assert ks_error(balanced, torch.tensor([0, 1, 0, 0, 1, 0])) == 0


def test_auroc_is_that_of_scikit_learn_and_undefined_for_one_kind(sample):
    from sklearn.metrics import roc_auc_score

    confidence, right = sample[0].mul(20).round() / 20, sample[1]
    assert auroc(confidence, right) == pytest.approx(roc_auc_score(right.numpy(), confidence.numpy()))
    assert math.isnan(auroc(confidence, torch.ones_like(right)))


def test_the_parts_of_the_brier_score_add_up(sample):
    confidence, right = sample[0].mul(20).round() / 20, sample[1]
    exact = Murphy.of(confidence, right)
    assert exact.score == pytest.approx(top_label_brier(confidence, right))
    assert exact.score == pytest.approx(exact.reliability - exact.resolution + exact.uncertainty)
    binned = Murphy.of(*sample, bins=15)
    bins = Bins.of(*sample)
    mean = bins.confidence[bins_of_equal_width(sample[0], 15)]
    assert binned.score == pytest.approx(top_label_brier(mean, right))


def test_scores_of_known_probabilities():
    probabilities, labels = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]), torch.tensor([0, 2])
    assert brier_score(probabilities, labels) == pytest.approx((0.09 + 0.04 + 0.01 + 0.01 + 0.64 + 0.81) / 2)
    assert negative_log_likelihood(probabilities.log(), labels) == pytest.approx(-math.log(0.7 * 0.1) / 2)
    assert negative_log_likelihood(torch.tensor([[1000.0, -1000.0]]), torch.tensor([1])) == 2000


def test_the_floor_is_what_a_perfect_model_has(sample):
    confidence, _ = sample
    floor = sampling_floor(confidence, draws=200)
    generator = torch.Generator().manual_seed(9)
    drawn = [calibration_error(confidence, torch.bernoulli(confidence, generator=generator)) for _ in range(200)]
    assert floor == pytest.approx(sum(drawn) / 200, rel=0.1)
    wide = sampling_floor(confidence.repeat(16), draws=50)
    assert wide == pytest.approx(floor / 4, rel=0.25)
    assert sampling_floor(torch.ones(50)) == 0


def test_a_perfect_model_and_the_square_of_its_logits():
    generator = torch.Generator().manual_seed(5)
    logits = 2 * torch.randn(20_000, 5, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    good, sharp = CalibrationReport.of(logits, labels), CalibrationReport.of(2 * logits, labels)
    assert good.ece < 2.5 * good.floor
    assert sharp.ece > 8 * sharp.floor
    assert good.accuracy == sharp.accuracy
    for name in ("ece", "ece_25", "ece_mass", "mce", "classwise", "ks", "nll", "brier", "top_brier"):
        assert getattr(good, name) < getattr(sharp, name)
    assert "ECE15" in str(good)


# ------------------------------------------------------------------------------------------------------- golden numbers


@pytest.mark.parametrize("case", CASES)
def test_released_code_gives_the_same_where_it_is_right(case):
    there = {name.removeprefix(f"{case}."): value for name, value in GOLDEN.items() if name.startswith(f"{case}.")}
    probabilities, labels = there["in.probs"], there["in.labels"]
    r, c = top(probabilities, labels)
    torch.testing.assert_close(r, there["in.confidence"])
    assert torch.equal(c.long(), there["in.correct"])
    wanted = {name: float(value) for name, value in there.items() if value.ndim == 0}

    def error(r, c, bins, norm="l1", by=bins_of_equal_width):  # without the refusal of fewer samples than bins
        return Bins.grouped(r, c, by(r, bins), bins).error(norm)

    for bins in (10, 15, 25):
        assert error(r, c, bins) == pytest.approx(wanted[f"out.ece{bins}"], abs=1e-9)
    for bins in (15, 25):
        assert error(r, c, bins, "max") == pytest.approx(wanted[f"out.mce{bins}_plain"], abs=1e-9)
    by_mass = error(r, c, 25, by=bins_of_equal_mass)
    assert by_mass == pytest.approx(wanted["ref.adaptive_ece25_chunks"], abs=1e-9)
    if case != "on_the_edges":  # there the code drops probabilities of exactly 0
        each = [error(probabilities[:, k], (labels == k).double(), 25) for k in range(probabilities.shape[1])]
        assert sum(each) / len(each) == pytest.approx(wanted["out.sce25"], abs=1e-9)
        if len(r) >= 25:
            assert classwise_error(probabilities, labels, 25) == sum(each) / len(each)
    assert ks_error(r, c) == pytest.approx(wanted["ref.ks_tie_groups"], abs=1e-9)
    assert top_label_brier(r, c) == pytest.approx(wanted["out.top_brier"])
    classes = probabilities.shape[1]
    assert brier_score(probabilities, labels) / classes == pytest.approx(wanted["out.brier_all_class_over_k"])
    assert auroc(r, c) == pytest.approx(wanted["out.auc"], nan_ok=True)


def test_ks_of_the_code_of_splines():
    for name, value in (golden := load_file(KS)).items():
        case, _, what = name.partition(".")
        if what != "out.ks":
            continue
        r, c = golden[f"{case}.out.top_score"], golden[f"{case}.out.top_correct"]
        assert ks_error(r, c) == pytest.approx(float(value), abs=0.01 if case == "ties" else 1e-9)


# ------------------------------------------------------------------------------------------------------------ bad input


def test_what_cannot_be_measured_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"there are 3 samples for 15 bins\. Give more samples, or fewer bins\."):
        calibration_error(torch.ones(3), torch.ones(3))
    with pytest.raises(InputError, match=r"a confidence is not between 0 and 1\. Give probabilities, not logits\."):
        calibration_error(torch.full((20,), 1.5), torch.ones(20))
    with pytest.raises(InputError, match="a confidence is not between 0 and 1"):
        ks_error(torch.tensor([math.nan]), torch.ones(1))
    logits, labels = torch.zeros(4, 3), torch.tensor([0, 1, 2, 3])
    with pytest.raises(InputError, match=r"label 3 is not a class\. There are 3 classes, counted from 0\."):
        CalibrationReport.of(logits, labels)
    logits[2, 0] = math.nan
    with pytest.raises(InputError, match="the logits of sample 2 are not numbers"):
        CalibrationReport.of(logits, labels.clamp(max=2))
    with pytest.raises(InputError, match="Give a row of logits and a label for each"):
        CalibrationReport.of(torch.zeros(0, 3), torch.zeros(0).long())
    with pytest.raises(InputError, match="the logits of sample 0 are not numbers"):
        CalibrationReport.of(torch.tensor([[0.0, math.inf]]), torch.tensor([1]))
    with pytest.raises(InputError, match="there is one column of logits"):
        CalibrationReport.of(torch.zeros(2, 1), torch.tensor([0, 0]))
    half = torch.full((20,), 0.5)
    with pytest.raises(InputError, match="bins is 0; it must be 1 or more"):
        calibration_error(half, half, 0)
    with pytest.raises(InputError, match="right has other values than 0 and 1"):
        calibration_error(half, torch.full((20,), 2.0))
    with pytest.raises(InputError, match="a probability is not between 0 and 1"):
        brier_score(torch.tensor([[3.0, -2.0]]), torch.tensor([0]))
    with pytest.raises(InputError, match=r"a label is not a class\. There are 2 classes"):
        brier_score(torch.tensor([[0.5, 0.5]]), torch.tensor([2]))


def test_a_word_that_is_mistyped_is_refused_and_no_other_measure_taken():
    half = torch.full((20,), 0.5)
    for given in ({"by": "masses"}, {"norm": "l3"}):
        with pytest.raises((InputError, BeartypeCallHintViolation)):  # the latter where the tests check types
            calibration_error(half, torch.ones(20), **given)


def test_a_confidence_of_single_precision_may_be_rounded_above_one():
    sure = torch.full((20,), 1 + 1.2e-7)
    assert calibration_error(sure, torch.ones(20)) < 1e-6
    assert ks_error(sure, torch.ones(20)) < 1e-6
    assert sampling_floor(sure, draws=2) < 1e-6


def test_a_class_that_is_left_out_has_no_probability():
    logits = torch.tensor([[1.0, 0.0, -math.inf]]).expand(20, 3)
    assert CalibrationReport.of(logits, torch.zeros(20).long()).accuracy == 1


def test_few_samples_have_the_measures_without_bins():
    report = CalibrationReport.of(torch.eye(3), torch.arange(3))
    assert math.isnan(report.ece)
    assert report.accuracy == 1
    assert report.nll == pytest.approx(float(-probabilities_of(torch.eye(3))[0, 0].log()))
