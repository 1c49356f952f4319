"""Average precision is scikit-learn's, ties included; counted agreement is that of plain loops."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score, f1_score

from attar.core.errors import InputError
from attar.embeddings.metrics import (
    Agreement,
    agreement_at,
    agreement_of_top,
    average_precision,
    best_threshold,
    mean_average_precision,
)

GOLDEN = load_file(Path(__file__).parent / "golden" / "multilabel_metrics.safetensors")
CASES = sorted({name.split(".")[0] for name in GOLDEN})


def golden(case, name):
    return GOLDEN[f"{case}.{name}"]


def drawn(samples, classes, seed=0, steps=None):
    """Random scores, on a grid of so many steps for ties, and labels of which a third are yes."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(samples, classes, dtype=torch.float64, generator=generator)
    labels = torch.rand(samples, classes, generator=generator) < 0.33
    return (scores if steps is None else (scores * steps).round() / steps), labels


@pytest.mark.parametrize("steps", [None, 1, 7])
def test_average_precision_is_that_of_scikit_learn_with_ties(steps):
    scores, labels = drawn(211, 9, steps=steps)
    right = [average_precision_score(labels[:, k], scores[:, k]) for k in range(9)]
    torch.testing.assert_close(
        average_precision(scores, labels), torch.tensor(right, dtype=torch.float64), rtol=0, atol=1e-12
    )
    assert mean_average_precision(scores, labels) == pytest.approx(sum(right) / 9, abs=1e-12)


def test_the_order_of_the_samples_does_not_matter():
    scores, labels = drawn(50, 4, steps=3)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(average_precision(scores, labels), average_precision(scores[order], labels[order]))


def test_a_class_without_positives_is_left_out():
    scores, labels = drawn(40, 3)
    labels[:, 1] = False
    found = average_precision(scores, labels)
    assert found.isnan().tolist() == [False, True, False]
    assert mean_average_precision(scores, labels) == pytest.approx(float(found[[0, 2]].mean()))
    with pytest.raises(InputError, match="no sample has a label, so there is no average precision"):
        mean_average_precision(scores, torch.zeros_like(labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_ranked_too(dtype):
    scores, labels = drawn(64, 5)
    half = scores.to(dtype)
    right = [average_precision_score(labels[:, k], half[:, k].float()) for k in range(5)]
    assert average_precision(half, labels).tolist() == pytest.approx(right, abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_golden_numbers_in_the_right_form(case):
    scores, labels = golden(case, "in.scores"), golden(case, "in.labels").bool()
    torch.testing.assert_close(
        average_precision(scores, labels), golden(case, "restated.ap_tie_end"), rtol=0, atol=1e-12, equal_nan=True
    )
    assert mean_average_precision(scores, labels) == pytest.approx(float(golden(case, "restated.map")), abs=1e-12)
    for threshold in (50, 80):
        for name, value in vars(agreement_at(scores, labels, threshold / 100)).items():
            right = float(golden(case, f"restated.{name.rstrip('_')}_thr{threshold}"))
            assert value == pytest.approx(right, abs=1e-12), name


def test_a_meter_that_counts_the_empty_classes_is_lower():
    given = average_precision(golden("empty_class", "in.scores"), golden("empty_class", "in.labels").bool())
    assert float(golden("empty_class", "out.map")) == pytest.approx(float(given.nan_to_num().mean()), abs=1e-7)


def test_agreement_is_that_of_scikit_learn_and_of_plain_loops():
    scores, labels = drawn(60, 5, seed=3)
    predicted = scores >= 0.6
    found = agreement_at(scores, labels, 0.6)
    assert found.of1 == pytest.approx(f1_score(labels, predicted, average="micro"))
    precisions = []
    for k in range(5):
        said = [n for n in range(60) if predicted[n, k]]
        precisions.append(sum(bool(labels[n, k]) for n in said) / len(said))
    assert found.cp == pytest.approx(sum(precisions) / 5)
    assert found.cf1 == pytest.approx(2 * found.cp * found.cr / (found.cp + found.cr))
    assert list(found.in_percent()) == ["CP", "CR", "CF1", "OP", "OR", "OF1"]


def test_nothing_predicted_is_zero_and_all_right_is_one():
    _, labels = drawn(20, 3)
    assert Agreement.of(torch.zeros_like(labels), labels) == Agreement(0, 0, 0, 0, 0, 0)
    assert Agreement.of(labels, labels) == Agreement(1, 1, 1, 1, 1, 1)


def test_the_top_three_are_predicted_whatever_their_scores():
    scores = torch.tensor([[0.1, 0.1, 0.1, 0.1], [0.0, 0.9, 0.2, 0.1]])
    labels = torch.tensor([[True, True, True, False], [False, True, True, True]])
    assert agreement_of_top(scores, labels) == Agreement(1, 1, 1, 1, 1, 1)
    assert agreement_of_top(scores, labels, 1).op == 1
    assert agreement_of_top(scores[:, :2], labels[:, :2]).or_ == 1


@pytest.mark.parametrize("steps", [None, 6])
def test_no_other_threshold_has_a_higher_micro_f1(steps):
    scores, labels = drawn(70, 4, seed=5, steps=steps)
    chosen = best_threshold(scores, labels)
    best = agreement_at(scores, labels, chosen).of1
    others = [agreement_at(scores, labels, float(value)).of1 for value in scores.unique()]
    assert best == pytest.approx(max(others))
    assert best_threshold(labels.double(), labels) == 0.5


def test_neighbouring_floats_keep_the_threshold_at_the_score():
    high = torch.tensor([[0.5]], dtype=torch.float64)
    low = torch.nextafter(high, torch.zeros(1, 1, dtype=torch.float64))
    scores, labels = torch.cat([high, low]), torch.tensor([[True], [False]])
    assert agreement_at(scores, labels, best_threshold(scores, labels)).of1 == 1


def test_what_cannot_be_measured_is_refused():
    scores, labels = drawn(5, 3)
    scores[2, 1] = torch.nan
    for measure in (average_precision, best_threshold, agreement_of_top):
        with pytest.raises(InputError, match=r"^the score of sample 2 for class 1 is not a number \(NaN\)\.$"):
            measure(scores, labels)
    with pytest.raises(InputError, match=r"^scores have shape \(4, 3\), but labels \(5, 3\)\.$"):
        average_precision(scores[:4], labels)
    with pytest.raises(InputError, match="no sample has a label, so no threshold can be chosen"):
        best_threshold(scores[:2], torch.zeros(2, 3, dtype=torch.bool))
