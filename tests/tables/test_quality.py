"""Quality of synthetic rows: golden numbers in the right form, exact identities, and what copies give."""

import functools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attar.core.errors import InputError
from attar.tables import quality
from tables.made import SCHEMA, drawn

HERE = Path(__file__).parent / "golden"
ALPHA, LATENT = load_file(HERE / "alpha_precision.safetensors"), load_file(HERE / "fair_latent_metrics.safetensors")


def points(rows=200, seed=0, width=3):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)).double()


def cases(tensors):
    return sorted({name.split(".")[0] for name in tensors})


@pytest.mark.parametrize("case", cases(ALPHA))
def test_precision_recall_and_authenticity_of_the_golden_cases(case):
    told = {name.removeprefix(f"{case}."): value for name, value in ALPHA.items() if name.startswith(f"{case}.")}
    real, synthetic = told["in.real"], told["in.synthetic"]
    precision, curve = quality.alpha_precision(real, synthetic, told["in.centre"])
    torch.testing.assert_close(curve, told["out.precision_curve"], atol=1e-12, rtol=0)
    assert precision == pytest.approx(float(told["out.alpha_precision"]), abs=1e-12)
    recall, curve = quality.beta_recall(real, synthetic)
    if case != "discrete":  # where several synthetic rows are nearest, the code takes any
        torch.testing.assert_close(curve, told["out.recall_curve"], atol=1e-12, rtol=0)
        assert recall == pytest.approx(float(told["out.beta_recall"]), abs=1e-12)
    assert quality.authenticity(real, synthetic) == pytest.approx(float(told["ref.authenticity"]), abs=1e-12)


def test_density_and_coverage_are_those_of_a_loop():
    real, synthetic = points(40), points(30, seed=1)
    density, coverage = quality.density_and_coverage(real, synthetic, k=5)
    radii = [sorted(float((one - other).norm()) for other in real)[5] for one in real]
    balls = [
        [float((one - fake).norm()) <= radius for fake in synthetic] for one, radius in zip(real, radii, strict=True)
    ]
    assert density == pytest.approx(sum(map(sum, balls)) / (5 * 30))
    assert coverage == pytest.approx(sum(map(any, balls)) / 40)


def test_density_and_coverage_of_one_law_and_of_another():
    real = points(1500)
    density, coverage = quality.density_and_coverage(real, points(1500, seed=1))
    assert density == pytest.approx(1, abs=0.06)
    assert coverage == pytest.approx(1 - 0.5**5, abs=0.02)  # 1 - Π (M - j)/(N + M - 1 - j), of as many of both
    assert quality.density_and_coverage(real, points(100, seed=1) + 50) == (0, 0)


def test_the_nearest_of_the_same_rows_leave_out_the_row_itself():
    rows = torch.tensor([[0.0], [1.0], [3.0], [3.0]]).double()
    assert quality.nearest(rows, rows)[0].flatten().tolist() == [1, 1, 0, 0]
    assert quality.nearest(rows, rows.clone())[0].flatten().tolist() == [0, 0, 0, 0]
    with pytest.raises(InputError, match=r"^there are 4 rows; 4 neighbours need 5 or more\.$"):
        quality.nearest(rows, rows, 4)


def test_copies_are_found_and_fresh_rows_are_half():
    train, held_out, fresh = points(400, 0), points(400, 1), points(400, 2)
    assert quality.closest_record(train[:100], train, held_out) == 1
    assert quality.closest_record(fresh, train, held_out) == pytest.approx(0.5, abs=0.08)
    assert quality.closest_record(fresh, train, train) == 0.5
    other = quality.closest_record(fresh, held_out, train)
    assert other == pytest.approx(1 - quality.closest_record(fresh, train, held_out))
    assert quality.copies(torch.cat([train[:50], fresh[:150]]), train) == 0.25
    assert quality.authenticity(train, train[:100]) == 0


def test_marginals_are_zero_of_the_same_rows_in_any_order_and_one_of_others():
    rows = drawn()
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    same = quality.marginal_variation(rows, rows.select(order))
    assert set(same) == {"age", "income", "town", "group", "paid"} and max(same.values()) == 0
    assert max(quality.pair_variation(rows, rows.select(order)).values()) == 0
    other = quality.marginal_variation(rows, rows.replaced("age", torch.full((400,), 900.0)))
    assert other["age"] == pytest.approx(0.9, abs=0.02) and other["income"] == 0
    shares = quality.marginal_variation(rows, rows.replaced("town", torch.zeros(400)))["town"]
    assert shares == pytest.approx(float((rows.codes("town") != 0).double().mean()))


def test_pairs_see_what_single_columns_do_not():
    rows = drawn(2000)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    broken = rows.replaced("paid", rows.of("paid")[order])
    assert quality.marginal_variation(rows, broken)["paid"] == 0
    pairs = quality.pair_variation(rows, broken)
    assert pairs["income", "paid"] > 0.2 and pairs["age", "income"] == 0
    assert len(pairs) == 10


def test_missing_numbers_have_a_bin_of_their_own():
    rows = drawn()
    known = rows.replaced("income", rows.of("income").nan_to_num(nan=3.0))
    assert quality.marginal_variation(rows, known)["income"] == pytest.approx(
        float(rows.of("income").isnan().double().mean())
    )
    assert quality.marginal_variation(known, rows)["income"] > 0.05


def test_two_samples_of_one_law_cannot_be_told_apart_and_others_can():
    def told(synthetic):
        return quality.two_sample_auc(points(300), synthetic, torch.Generator().manual_seed(0), "logistic")

    assert told(points(300, seed=1)) == pytest.approx(0.5, abs=0.08)
    assert told(points(200, seed=1) + 3) > 0.99
    trees = quality.two_sample_auc(points(300), 3 * points(300, seed=1), torch.Generator().manual_seed(0))
    assert trees > 0.8 and told(3 * points(300, seed=1)) < 0.6


@pytest.mark.parametrize("case", cases(LATENT))
@pytest.mark.parametrize("of", ["s", "y"])
def test_what_a_code_tells_is_that_of_the_golden_cases(case, of):
    from sklearn.linear_model import LogisticRegression

    told = {name.removeprefix(f"{case}."): value for name, value in LATENT.items() if name.startswith(f"{case}.")}
    codes = told["in.z_train"], told[f"in.{of}_train"], told["in.z_test"], told[f"in.{of}_test"]
    found = quality.latent_auc(*codes, functools.partial(LogisticRegression))
    assert max(found, 1 - found) == pytest.approx(float(told[f"out.fairdisco.{of}auc"]), abs=1e-9)


def test_what_a_code_tells_of_several_groups_is_a_mean_and_of_one_undefined():
    codes, other = points(600, width=4), points(600, seed=1, width=4)
    marks, others = codes[:, :3].argmax(dim=1), other[:, :3].argmax(dim=1)
    assert quality.latent_auc(codes, marks, other, others) > 0.9
    assert quality.latent_auc(codes[:, 3:], marks, other[:, 3:], others, "logistic") == pytest.approx(0.5, abs=0.06)
    nothing = quality.latent_auc(codes, torch.zeros(600).long(), other, others)
    assert nothing != nothing


def test_what_constrains_the_sampled_code_does_not_constrain_its_mean():
    """A code of tiny group differences in μ and wide noise: s is read from μ without error, and hardly from z."""
    groups = torch.arange(2000) % 2
    mu = 1e-3 * groups.double().unsqueeze(1) + 1e-5 * points(2000, width=1)
    z = mu + points(2000, seed=1, width=1)
    halves = slice(None, 1000), slice(1000, None)
    told = [
        quality.latent_auc(code[halves[0]], groups[halves[0]], code[halves[1]], groups[halves[1]]) for code in (mu, z)
    ]
    assert told[0] > 0.99 and told[1] == pytest.approx(0.5, abs=0.06)


def test_the_schema_of_both_is_one():
    assert SCHEMA.of_role("ignored")[0].name not in quality.marginal_variation(drawn(50), drawn(50, seed=1))
