"""TabFairGAN: the fairness term in both forms, the gradient penalty, uniform numbers, and small runs."""

import math

import pytest
import torch
from sklearn.preprocessing import QuantileTransformer
from torch import nn

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.tables.coding import Quantiles, TableCode, quantiles_of, table_code
from attar.tables.sources import Column, Schema, TableSource
from attar.tables.tabfairgan import Critic, TabFairGAN, gradient_penalty, rate_gap
from tables.toy import SCHEMA, rows, source

SMALL = TabFairGAN(epochs=2, fair_epochs=1, batch=100, critic_steps=2)


def runtime(seed=0):
    return Runtime(Engine(device="cpu", quiet=True), seed)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def trained(method, data, seed=0):
    machine = runtime(seed)
    method = method.resolve(data, machine)
    state = method.build(data, machine)
    curves = [method.step(state, machine) for _ in range(method.total_steps)]
    return method, state, {name: [float(one[name]) for one in curves] for name in curves[0]}


# ------------------------------------------------------------------------------------------------------------ the terms


def test_the_gap_is_that_of_two_rates():
    good, group = torch.tensor([1.0, 0, 1, 1, 0]), torch.tensor([1.0, 1, 0, 0, 0])
    assert float(rate_gap(good, group, 1 - group)) == pytest.approx(1 / 2 - 2 / 3)


def test_the_released_gap_is_divided_by_the_batch_too():
    good, one, other = torch.rand(3, 64, generator=generator(), dtype=torch.float64)
    right = (good * one).mean() / one.sum() - (good * other).mean() / other.sum()
    torch.testing.assert_close(rate_gap(good, one, other, divided=True), right)
    torch.testing.assert_close(rate_gap(good, one, other) / 64, right)


def test_the_gap_has_a_sign_and_grows_beyond_equality():
    good = torch.tensor([0.0, 1.0, 1.0, 1.0], requires_grad=True)
    group = torch.tensor([1.0, 1.0, 0.0, 0.0])
    rate_gap(good, group, 1 - group).backward()
    assert good.grad.tolist() == [0.5, 0.5, -0.5, -0.5]
    with torch.no_grad():
        assert float(rate_gap(torch.tensor([1.0, 1, 0, 0]), group, 1 - group)) == 1


def test_a_batch_without_a_group_has_a_finite_gap():
    assert math.isfinite(float(rate_gap(torch.ones(3), torch.zeros(3), torch.ones(3))))


def test_the_penalty_is_that_of_the_norm_of_the_slope():
    real, made, shares = torch.rand(3, 8, 4, generator=generator(), dtype=torch.float64)
    linear = nn.Linear(4, 1, bias=False).double()
    found = gradient_penalty(linear, real, made, shares[:, :1])
    torch.testing.assert_close(found, (linear.weight.norm() - 1).square())
    several = nn.Linear(4, 3).double()  # the sum of its outputs is differentiated, as released
    torch.testing.assert_close(
        gradient_penalty(several, real, made, shares), (several.weight.sum(dim=0).norm() - 1).square()
    )


def test_the_critic_has_a_scalar_output_or_none():
    assert Critic(5, scalar=True)(torch.rand(3, 5)).shape == (3, 1)
    assert Critic(5, scalar=False)(torch.rand(3, 5)).shape == (3, 5)


# ------------------------------------------------------------------------------------------------------ uniform numbers


@pytest.mark.parametrize("column", ["age", "wealth"])
def test_places_are_those_of_scikit_learn(column):
    values = rows().of(column)
    values = values[~values.isnan()]
    theirs = QuantileTransformer(n_quantiles=200).fit(values.unsqueeze(1).numpy())
    mine = quantiles_of(values, 200)
    new = torch.linspace(float(values.min()) - 1, float(values.max()) + 1, 333, dtype=torch.float64)
    for given in (values, new):
        right = torch.from_numpy(theirs.transform(given.unsqueeze(1).numpy()))[:, 0]
        torch.testing.assert_close(mine.encode(given, generator())[:, 0], right, rtol=0, atol=1e-6)
    places = torch.linspace(0, 1, 99, dtype=torch.float64)
    right = torch.from_numpy(theirs.inverse_transform(places.unsqueeze(1).numpy()))[:, 0]
    torch.testing.assert_close(mine.decode(places.unsqueeze(1)), right)


@pytest.mark.parametrize("values", [[3.0] * 5, [1.0], [torch.nan, 2.0, 2.0], [torch.nan, torch.nan], [0.0, 1.0]])
def test_numbers_that_are_missing_few_or_all_the_same_stay_so(values):
    values = torch.tensor(values, dtype=torch.float64)
    code = quantiles_of(values)
    torch.testing.assert_close(code.decode(code.encode(values, generator())), values, equal_nan=True)


def test_a_table_comes_back_from_its_matrix_and_a_code_from_its_tensors():
    table = rows()
    code = table_code(table, quantiles_of)
    entries = code.encode(table, generator())
    again = TableCode.of_tensors(SCHEMA, code.tensors(), Quantiles.of_tensors)
    for one in (code, again):
        found = one.decode(entries)
        torch.testing.assert_close(found.values, table.values, rtol=1e-3, atol=1e-3, equal_nan=True)
    label = SCHEMA.label
    assert code.entry_of(label, 1) == code.width - 1 and code.entry_of(SCHEMA.column("town"), 3) is None


# ------------------------------------------------------------------------------------------------------------- the runs


def test_the_worse_off_group_is_found_or_named():
    data = source()
    for named, places in ((None, (1, 0)), ("a", (0, 1)), ("b", (1, 0))):
        method = TabFairGAN(unprivileged=named)
        state = method.resolve(data, runtime()).build(data, runtime())
        first = state.code.entry_of(SCHEMA.sensitive, 0)
        good = state.code.entry_of(SCHEMA.label, 0)
        assert state.where == (good, first + places[0], first + places[1])


def test_rows_of_the_generator_are_numbers_and_choices():
    _, state, _ = trained(SMALL, source())
    made = state.maker(*state.maker.noise(50, generator(), torch.device("cpu")))
    assert bool((made[:, state.code.numbers] >= 0).all())
    for place in state.code.choices:
        torch.testing.assert_close(made[:, place].sum(dim=1), torch.ones(50))


def test_fair_epochs_are_the_last_and_use_their_own_optimiser():
    data = source(300)
    method, state, _ = trained(TabFairGAN(epochs=3, fair_epochs=1, batch=100, critic_steps=1), data)
    assert (method.total_steps, state.done) == (9, 9)
    counts = [int(next(iter(one.state.values()))["step"]) for one in (state.optimizer, state.fair_optimizer)]
    assert counts == [6, 3]
    assert int(next(iter(state.critic_optimizer.state.values()))["step"]) == 9


def test_a_great_weight_closes_the_gap_and_goes_on_beyond_it():
    data, gaps = source(300), []
    for weight in (0.0, 50.0):
        settings = {"epochs": 30, "fair_epochs": 20, "batch": 100, "lr": 2e-3, "fair_lr": 1e-2, "critic_steps": 1}
        _, _, curves = trained(TabFairGAN(fair_weight=weight, **settings), data)
        gaps.append(sum(curves["rate_gap"][-20:]) / 20)
        assert all(map(math.isfinite, curves["loss"] + curves["critic_loss"]))
    assert gaps[1] > gaps[0] + 0.2 and gaps[1] > 0.2


def test_margins_come_nearer():
    data = source(400)
    settings = {"epochs": 40, "fair_epochs": 0, "batch": 100, "lr": 2e-3, "critic_steps": 2}
    method = TabFairGAN(**settings).resolve(data, runtime())
    before = method.generator_of(method.build(data, runtime())).sample(2000)
    _, state, _ = trained(method, data)
    after = method.generator_of(state).sample(2000)
    gaps = [
        sum(
            float(
                (table.codes(name).bincount(minlength=4) / 2000 - data.train.codes(name).bincount(minlength=4) / 400)
                .abs()
                .sum()
            )
            for name in ("town", "group", "paid")
        )
        for table in (before, after)
    ]
    assert gaps[1] < gaps[0] / 2


@pytest.mark.parametrize("count, batch, steps", [(30, 256, 2), (101, 100, 4)])
def test_fewer_rows_than_a_batch_are_learned_from(count, batch, steps):
    method, _, curves = trained(TabFairGAN(epochs=2, fair_epochs=1, batch=batch, critic_steps=1), source(count))
    assert method.total_steps == steps and all(map(math.isfinite, curves["loss"]))


def test_published_settings():
    paper, released = (TabFairGAN.paper("adult", variant=variant) for variant in ("paper", "released"))
    assert (paper.epochs, paper.fair_epochs, paper.fair_weight, paper.batch) == (200, 30, 0.5, 256)
    assert (paper.fair_term, paper.critic_output, paper.mixing) == ("rates", "scalar", "rows")
    assert (released.fair_term, released.critic_output, released.mixing) == ("released", "features", "entries")
    assert TabFairGAN.paper("compas").fair_weight == 2.2


def three_groups():
    columns = [column for column in SCHEMA.columns if column.name != "group"]
    third = Column(name="group", role="sensitive", type="category", levels=("a", "b", "c"))
    table = rows(50)
    schema = Schema(columns=(*columns[:3], third, columns[3]), positive="yes")
    table = type(table)(schema, table.values)
    return TableSource("three", table, table)


def without(group):
    table = rows(100)
    table = table.select((table.groups != group).nonzero().flatten())
    return TableSource("toy", table, table)


@pytest.mark.parametrize(
    "method, data, sentence",
    [
        (
            TabFairGAN(),
            three_groups,
            "tabfairgan needs two groups, but group of three has 3. Join groups, or take another method.",
        ),
        (TabFairGAN(unprivileged="B"), source, "unknown group of group 'B'; did you mean 'b'? Known: a, b."),
        (
            TabFairGAN(),
            lambda: without(1),
            "tabfairgan needs both groups and both outcomes, but no training row has 'b'.",
        ),
    ],
)
def test_what_it_cannot_be_fair_to_is_refused(method, data, sentence):
    data = data()
    with pytest.raises(InputError) as refused:
        method.resolve(data, runtime()).build(data, runtime())
    assert str(refused.value) == sentence


def test_more_fair_epochs_than_epochs_are_refused():
    with pytest.raises(InputError, match="fair_epochs is 50; it must be at most epochs, 20"):
        TabFairGAN(epochs=20)
