"""Group fairness: golden numbers in the right form, fairlearn's values where all is defined, and identities."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from attar.core.errors import InputError
from attar.tables import fairness as fair

GOLDEN = load_file(Path(__file__).parent / "golden" / "fairness_metrics.safetensors")
LATENT = load_file(Path(__file__).parent / "golden" / "fair_latent_metrics.safetensors")
CASES = sorted({name.split(".")[0] for name in GOLDEN})


def golden(case):
    return {name.removeprefix(f"{case}."): value for name, value in GOLDEN.items() if name.startswith(f"{case}.")}


def drawn(rows=500, groups=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels, predictions = (torch.randint(2, (rows,), generator=generator) for _ in range(2))
    return predictions, labels, torch.randint(groups, (rows,), generator=generator)


def same(found, right):
    return (math.isnan(found) and math.isnan(float(right))) or found == pytest.approx(float(right), abs=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", ["", "weighted_"])
def test_the_golden_numbers_in_the_right_form(case, weighted):
    told = golden(case)
    predictions, labels, groups = (told[f"in.{name}"] for name in ("prediction", "label", "group"))
    weights = told["in.weight"] if weighted else None
    three = (predictions, labels, groups, weights)
    found = {
        "dpd": fair.demographic_parity_difference(predictions, groups, weights),
        "dpr": fair.demographic_parity_ratio(predictions, groups, weights),
        "eod": fair.equalized_odds_difference(*three),
        "eor": fair.equalized_odds_ratio(*three),
        "eod_mean": fair.equalized_odds_difference(*three, aggregate="mean"),
        "eor_mean": fair.equalized_odds_ratio(*three, aggregate="mean"),
        "equal_opportunity_difference": fair.equal_opportunity_difference(*three),
        "equal_opportunity_ratio": fair.equal_opportunity_ratio(*three),
    }
    for name, value in found.items():
        assert same(value, told[f"ref.{weighted}{name}"]), name
    if not weighted:
        assert same(float(fair.auc(told["in.probability"], labels)), told["ref.auroc_of_probability"])


@pytest.mark.parametrize("case", ["two_groups", "four_groups", "unequal_sizes"])
def test_the_rates_of_each_group_are_those_of_fairlearn(case):
    told = golden(case)
    found = fair.Rates.of(told["in.prediction"], told["in.label"], told["in.group"])
    for name, rates in {"selection_rate": found.selection, "tpr": found.tpr, "fpr": found.fpr}.items():
        torch.testing.assert_close(rates, told[f"out.group_{name}"], atol=1e-12, rtol=0)
    for name in ("dpd", "dpr", "eod", "eor"):
        assert float(getattr(found, name)) == pytest.approx(float(told[f"out.{name}"]), abs=1e-12)


@pytest.mark.parametrize("groups", [2, 3, 7])
def test_values_are_fairlearn_s_on_random_data(groups):
    metrics = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed")
    predictions, labels, members = drawn(groups=groups, seed=groups)
    weights = torch.rand(500, generator=torch.Generator().manual_seed(1)).double()
    given = {"sensitive_features": members.numpy(), "sample_weight": weights.numpy()}
    for theirs, ours in {
        "equalized_odds_difference": fair.equalized_odds_difference,
        "equalized_odds_ratio": fair.equalized_odds_ratio,
        "equal_opportunity_difference": fair.equal_opportunity_difference,
    }.items():
        right = getattr(metrics, theirs)(labels.numpy(), predictions.numpy(), **given)
        assert ours(predictions, labels, members, weights) == pytest.approx(right, abs=1e-12)
    for theirs, ours in {
        "demographic_parity_difference": fair.demographic_parity_difference,
        "demographic_parity_ratio": fair.demographic_parity_ratio,
    }.items():
        right = getattr(metrics, theirs)(labels.numpy(), predictions.numpy(), **given)
        assert ours(predictions, members, weights) == pytest.approx(right, abs=1e-12)


def test_a_constant_prediction_has_no_gap_and_prediction_by_group_the_largest():
    _, labels, groups = drawn(groups=2)
    ones, zeros = torch.ones(500), torch.zeros(500)
    assert fair.demographic_parity_difference(ones, groups) == 0
    assert fair.demographic_parity_ratio(ones, groups) == 1
    assert fair.demographic_parity_difference(zeros, groups) == 0
    assert math.isnan(fair.demographic_parity_ratio(zeros, groups))
    assert fair.demographic_parity_difference(groups, groups) == 1
    assert fair.demographic_parity_ratio(groups, groups) == 0
    assert fair.equalized_odds_difference(groups, labels, groups) == 1
    assert math.isnan(fair.equalized_odds_ratio(labels, labels, groups))
    assert fair.equalized_odds_difference(labels, labels, groups) == 0


def test_what_is_undefined_is_nan_and_not_zero():
    predictions = torch.tensor([1, 0, 1, 0])
    labels, groups = torch.tensor([1, 0, 0, 0]), torch.tensor([0, 0, 1, 1])
    found = fair.Rates.of(predictions, labels, groups)
    assert found.tpr.isnan().tolist() == [False, True]
    assert math.isnan(float(found.eod)) and math.isnan(float(found.equal_opportunity))
    assert math.isnan(fair.predictive_parity_difference(torch.tensor([1, 1, 0, 0]), labels, groups))
    assert math.isnan(float(fair.auc(torch.rand(4), torch.ones(4))))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.7]).double()
    only_ones = fair.Rates.of(predictions, torch.tensor([1, 0, 1, 1]), groups, weights)
    assert only_ones.fpr.isnan().tolist() == [False, True]


def test_signed_gaps_are_those_of_the_others_against_the_privileged_group():
    predictions = torch.tensor([1, 0, 0, 0, 1, 1, 1, 0])
    labels = torch.tensor([1, 1, 0, 0, 1, 1, 0, 0])
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    assert fair.statistical_parity_difference(predictions, groups, 1) == pytest.approx(-0.5)
    assert fair.statistical_parity_difference(predictions, groups, 0) == pytest.approx(0.5)
    assert fair.disparate_impact(predictions, groups, 1) == pytest.approx(1 / 3)
    assert fair.average_odds_difference(predictions, labels, groups, 1) == pytest.approx((-0.5 - 0.5) / 2)
    assert math.isnan(fair.disparate_impact(predictions * groups, groups, 0))


def test_the_numbers_and_the_order_of_groups_do_not_matter():
    predictions, labels, groups = drawn()
    again = torch.tensor([20, 5, 11])[groups]
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    for name in ("dpd", "dpr", "eod", "eor", "predictive_parity"):
        first = getattr(fair.Rates.of(predictions, labels, groups), name)
        second = getattr(fair.Rates.of(predictions[order], labels[order], again[order]), name)
        torch.testing.assert_close(first, second, rtol=0, atol=1e-15)


def test_probabilities_of_selection_count_as_shares():
    _, labels, groups = drawn(groups=2)
    halves = torch.full((500,), 0.5)
    assert fair.demographic_parity_difference(halves, groups) == 0
    assert fair.Rates.of(halves, labels, groups).tpr.tolist() == pytest.approx([0.5, 0.5])


def test_reweighing_makes_group_and_label_independent_exactly():
    _, labels, groups = drawn(seed=3)
    weights = fair.reweighing(groups, labels)
    assert float(weights.sum()) == pytest.approx(500)
    assert fair.demographic_parity_difference(labels, groups, weights) == pytest.approx(0, abs=1e-15)
    sizes = torch.stack([weights[groups == number].sum() for number in range(3)])
    torch.testing.assert_close(sizes, torch.bincount(groups).double())
    assert fair.demographic_parity_difference(labels, groups) > 0.01


def test_selection_at_a_rate_is_exact_and_shares_ties():
    generator = torch.Generator().manual_seed(0)
    scores = (torch.rand(97, generator=generator) * 6).round()
    for rate in (0.0, 0.13, 0.5, 1.0):
        chosen = fair.selected_at_rate(scores, rate)
        assert float(chosen.sum()) == pytest.approx(97 * rate)
        assert len({(score, share) for score, share in zip(scores.tolist(), chosen.tolist(), strict=True)}) <= 7
        assert ((chosen > 0) & (chosen < 1)).sum() == 0 or len(scores[(chosen > 0) & (chosen < 1)].unique()) == 1
    groups = torch.arange(97) % 2
    assert fair.dpd_at_rate(torch.zeros(97), groups, 0.3) == pytest.approx(0, abs=1e-15)
    plain = torch.linspace(0, 1, 10)
    assert fair.selected_at_rate(plain, 0.3).tolist() == [0.0] * 7 + [1.0] * 3


@pytest.mark.parametrize("steps", [None, 1, 6])
def test_auc_is_that_of_scikit_learn_with_ties_and_weights(steps):
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(211, generator=generator), torch.randint(2, (211,), generator=generator)
    scores = scores if steps is None else (scores * steps).round()
    weights = torch.randint(4, (5, 211), generator=generator).double()
    assert float(fair.auc(scores, labels)) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    right = [roc_auc_score(labels, scores, sample_weight=one) for one in weights]
    assert fair.auc(scores, labels, weights).tolist() == pytest.approx(right, abs=1e-12)


def test_rates_of_several_draws_are_those_of_each():
    predictions, labels, groups = drawn()
    weights = fair.resampled(groups, 4, torch.Generator().manual_seed(0))
    found = fair.Rates.of(predictions, labels, groups, weights)
    for draw in range(4):
        rows = torch.arange(500).repeat_interleave(weights[draw].long())
        one = fair.Rates.of(predictions[rows], labels[rows], groups[rows])
        torch.testing.assert_close(found.tpr[draw], one.tpr)
        torch.testing.assert_close(found.dpr[draw], one.dpr)


def test_bootstrap_samples_keep_the_size_of_each_group():
    _, _, groups = drawn()
    weights = fair.resampled(groups, 300, torch.Generator().manual_seed(0))
    for number in range(3):
        sizes = weights[:, groups == number].sum(dim=1)
        assert bool((sizes == int((groups == number).sum())).all())
    assert float(weights.var()) == pytest.approx(1, abs=0.05)  # as of a Poisson law, about


@pytest.mark.parametrize("case", ["leaking", "independent", "no_signal"])
def test_consistency_takes_five_other_neighbours(case):
    told = {name.removeprefix(f"{case}."): value for name, value in LATENT.items() if name.startswith(f"{case}.")}
    found = fair.consistency(told["in.predicted_label"], told["in.z_test"])
    assert found == pytest.approx(float(told["ref.consistency_five_others"]), abs=1e-12)
    assert found < 1 - float(told["out.fairdisco.ynn"])


def test_calibration_is_by_group():
    probabilities = torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2, 0.9, 0.9])
    labels, groups = torch.tensor([1, 0, 0, 0, 0, 0, 1]), torch.tensor([0, 0, 0, 0, 0, 1, 1])
    found = fair.calibration_within_groups(probabilities, labels, groups)
    assert found.tolist() == pytest.approx([0, 0.4], abs=1e-7)
    one_bin = fair.calibration_within_groups(probabilities, labels, torch.zeros(7).long(), bins=1)
    assert float(one_bin) == pytest.approx(abs(float(labels.double().mean() - probabilities.double().mean())))


def test_unawareness_is_the_mean_move_of_scores():
    assert fair.unawareness_gap(torch.tensor([0.1, 0.5]), torch.tensor([0.3, 0.5])) == pytest.approx(0.1)


def test_bad_input_is_told_in_one_line():
    predictions, labels, groups = drawn()
    with pytest.raises(InputError, match=r"^there are 3 predictions, 500 labels and 500 groups\. Give one of each"):
        fair.Rates.of(predictions[:3], labels, groups)
    with pytest.raises(InputError, match=r"^a label is 2; give 0 and 1, where 1 is the desirable outcome\.$"):
        fair.Rates.of(predictions, 2 * labels, groups)
    with pytest.raises(InputError, match=r"^a prediction is nan; give 0 and 1, or probabilities of selection\.$"):
        fair.Rates.of(torch.full((500,), torch.nan), labels, groups)
    with pytest.raises(InputError, match=r"^there are 5 rows; 5 others need 6 or more\.$"):
        fair.consistency(torch.ones(5), torch.rand(5, 2).double())
