"""The Gaussian copula: exact margins, correlations, its special cases, and golden numbers of other libraries."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import ks_2samp, rankdata

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.tables.copula import (
    Copula,
    GaussianCopula,
    ReweighedCopula,
    correlation,
    log_density,
    margin_of,
    mid_ranks,
    positive_definite,
    shrunk,
)
from attar.tables.fairness import reweighing
from attar.tables.sources import Column, Rows, Schema, TableSource
from tables.toy import SCHEMA, rows, source

GOLDEN = load_file(Path(__file__).parent / "golden" / "gaussian_copula.safetensors")
RANKED = ("three_columns", "independent", "nearly_singular", "ties", "uniform_data")
STATSMODELS = ("sm_two", "sm_three", "sm_negative", "sm_identity")


def runtime(seed=0):
    return Runtime(Engine(device="cpu", quiet=True), seed)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fitted(method, data):
    machine = runtime()
    return method.generator_of(method.resolve(data, machine).build(data, machine))


# -------------------------------------------------------------------------------------------------------------- margins


@pytest.mark.parametrize("case", RANKED)
def test_scores_and_correlations_are_those_of_the_golden_cases(case):
    values = GOLDEN[f"{case}.in.x"]
    scores = torch.stack([torch.special.ndtri(mid_ranks(column)) for column in values.T], dim=1)
    torch.testing.assert_close(scores, GOLDEN[f"{case}.ref.rank_scores"], rtol=0, atol=1e-12)
    torch.testing.assert_close(correlation(scores), GOLDEN[f"{case}.ref.rank_correlation"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", STATSMODELS)
def test_shares_and_density_are_those_of_statsmodels(case):
    torch.testing.assert_close(torch.special.ndtr(GOLDEN[f"{case}.in.normal"]), GOLDEN[f"{case}.out.uniform"])
    found = log_density(GOLDEN[f"{case}.in.u"], GOLDEN[f"{case}.in.correlation"]).exp()
    torch.testing.assert_close(found, GOLDEN[f"{case}.out.density"], rtol=1e-10, atol=0)


def test_equal_values_share_the_mean_of_their_ranks():
    values = rows().of("age")
    torch.testing.assert_close(mid_ranks(values), torch.from_numpy((rankdata(values.numpy()) - 0.5) / len(values)))


@pytest.mark.parametrize("draws", [generator(), None])
def test_the_inverse_is_exact(draws):
    table = rows()
    for column in SCHEMA.columns:
        margin = margin_of(column, table.of(column))
        shares = margin.shares(table.of(column), draws)
        again = torch.special.ndtr(torch.special.ndtri(shares))
        assert float(shares.min()) > 0 and float(shares.max()) < 1
        torch.testing.assert_close(margin.values(again), table.of(column), rtol=0, atol=0, equal_nan=True)


def test_a_level_has_an_interval_as_wide_as_its_share_and_one_without_rows_is_never_drawn():
    table = rows()
    margin = margin_of(SCHEMA.column("town"), table.of("town"))
    drawn = margin.values(torch.linspace(0, 1, 600_001, dtype=torch.float64))
    shares = table.codes("town").bincount(minlength=4) / 600
    torch.testing.assert_close(drawn.long().bincount(minlength=4) / 600_001, shares, rtol=0, atol=1e-5)
    assert margin.order.tolist()[0] == int(shares.argmax()) and int(shares[3]) == 0


@pytest.mark.parametrize("values", [[torch.nan] * 5, [3.0] * 5, [1.0], [torch.nan, 2.0]])
def test_numbers_that_are_missing_or_all_the_same_stay_so(values):
    values = torch.tensor(values, dtype=torch.float64)
    margin = margin_of(Column(name="x", missing=True), values)
    found = margin.values(margin.shares(values, generator()))
    torch.testing.assert_close(found, values, rtol=0, atol=0, equal_nan=True)


# -------------------------------------------------------------------------------------------------------- what it draws


def distance(one, other):
    """Kolmogorov and Smirnov's, with missing numbers below all others."""
    return ks_2samp(*(column.nan_to_num(nan=-1e9).numpy() for column in (one, other))).statistic


def test_drawn_margins_are_those_of_the_table():
    data = TableSource("toy", rows(5000), rows(10))
    drawn = fitted(GaussianCopula(), data).sample(5000)
    for column in SCHEMA.columns:
        assert distance(drawn.of(column), data.train.of(column)) < 0.03
        assert set(drawn.of(column).nan_to_num(nan=-1e9).tolist()) <= set(
            data.train.of(column).nan_to_num(nan=-1e9).tolist()
        )


def numbers(factor, count=5000):
    """Rows of correlated exponentials and a label."""
    normal = torch.randn(count, len(factor), generator=generator(3), dtype=torch.float64) @ factor.T
    columns = tuple(Column(name=f"x{place}") for place in range(len(factor)))
    label = Column(name="y", role="label", type="category", levels=("0", "1"))
    values = torch.cat([normal.exp(), (normal[:, :1] > 0).double()], dim=1)
    return TableSource("numbers", Rows(Schema(columns=(*columns, label), positive="1"), values), rows(1))


def rank_correlation(one, other):
    return float(
        correlation(torch.stack([torch.special.ndtri(mid_ranks(one)), torch.special.ndtri(mid_ranks(other))], 1))[0, 1]
    )


def test_correlations_are_kept_and_independent_columns_stay_uncorrelated():
    factor = torch.linalg.cholesky(torch.tensor([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1]], dtype=torch.float64))
    drawn = fitted(GaussianCopula(), numbers(factor)).sample(20_000)
    pairs = [(drawn.of("x0"), drawn.of(other)) for other in ("x1", "x2")]
    assert abs(rank_correlation(*pairs[0]) - 0.8) < 0.02
    assert abs(rank_correlation(*pairs[1])) < 0.04


def test_without_dependence_it_shuffles_the_columns():
    factor = torch.linalg.cholesky(torch.tensor([[1, 0.8], [0.8, 1]], dtype=torch.float64))
    data = numbers(factor)
    copula = fitted(GaussianCopula(dependence=0.0), data)
    assert torch.equal(copula.factor, torch.eye(3, dtype=torch.float64))
    drawn = copula.sample(5000)
    assert abs(rank_correlation(drawn.of("x0"), drawn.of("x1"))) < 0.04
    for name in ("x0", "x1"):
        assert distance(drawn.of(name), data.train.of(name)) < 0.03
        assert bool(torch.isin(drawn.of(name), data.train.of(name)).all())


def test_correlations_are_shrunk_by_as_little_as_makes_them_positive_definite():
    twins = torch.ones(3, 3, dtype=torch.float64)
    found = positive_definite(twins, 1e-3)
    torch.testing.assert_close(torch.linalg.eigvalsh(found)[0], torch.tensor(1e-3, dtype=torch.float64))
    torch.testing.assert_close(found, shrunk(twins, 1e-3))
    sound = torch.tensor([[1, 0.5], [0.5, 1]], dtype=torch.float64)
    assert positive_definite(sound, 1e-3) is sound


@pytest.mark.parametrize("spread, alike", [(True, 0.7), (False, 0.97)])
def test_a_constant_column_and_a_copy_of_another_do_no_harm(spread, alike):
    """Places that are drawn dilute the correlation of two categories; without them that of a copy is 1."""
    table = rows(200)
    table = table.replaced("age", torch.full((200,), 7.0)).replaced("paid", table.of("group"))
    drawn = fitted(GaussianCopula(spread_levels=spread), TableSource("odd", table, table)).sample(1000)
    assert bool((drawn.of("age") == 7).all())
    assert alike < float((drawn.of("paid") == drawn.of("group")).double().mean()) < alike + 0.15


def test_it_comes_back_from_its_tensors():
    copula = fitted(GaussianCopula(), source())
    again = Copula.restored(SCHEMA, copula.tensors(), copula.facts())
    one, other = (each.sample(50, 4).values for each in (copula, again))
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


# ----------------------------------------------------------------------------------------------------------- reweighing


def gap(labels, groups, weights):
    """The weighted difference of the groups' rates of good outcomes."""
    rates = [(weights * labels)[groups == group].sum() / weights[groups == group].sum() for group in (0, 1)]
    return float((rates[0] - rates[1]).abs())


def test_weights_make_group_and_label_independent():
    table = rows()
    weights = reweighing(table.groups, table.labels)
    assert gap(table.labels.double(), table.groups, torch.ones(600).double()) > 0.3
    assert gap(table.labels.double(), table.groups, weights) < 1e-12
    torch.testing.assert_close(weights.sum(), torch.tensor(600.0, dtype=torch.float64))
    for group in (0, 1):  # the groups keep their sizes
        here = table.groups == group
        torch.testing.assert_close(weights[here].sum(), here.sum().double())


def test_a_copula_of_reweighed_rows_has_a_smaller_gap():
    data = TableSource("toy", rows(5000), rows(10))
    gaps = []
    for method in (GaussianCopula(), ReweighedCopula()):
        drawn = fitted(method, data).sample(20_000)
        gaps.append(gap(drawn.labels.double(), drawn.groups, torch.ones(20_000).double()))
    assert gaps[0] > 0.1 and gaps[1] < 0.03


def test_a_group_without_a_label_is_refused():
    table = rows(200)
    table = table.select(((table.groups == 0) | (table.labels == 0)).nonzero().flatten())
    with pytest.raises(InputError) as refused:
        fitted(ReweighedCopula(), TableSource("toy", table, table))
    assert str(refused.value) == (
        "no training row of group 'b' has the label 'yes', so rows cannot be reweighed. Take copula, or other data."
    )


def test_settings_out_of_range_are_refused():
    with pytest.raises(InputError, match="dependence is 2; it must be from 0 to 1"):
        dataclasses.replace(GaussianCopula(), dependence=2)
