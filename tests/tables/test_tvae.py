"""TVAE: its terms, the modes of numbers, tables as matrices and back, and small runs."""

import math

import pytest
import torch
from scipy.stats import ks_2samp
from torch.distributions import Normal, kl_divergence

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.training import next_rows
from attar.tables.coding import TableCode, drawn_choices, table_code
from attar.tables.sources import TableSource
from attar.tables.tvae import DEVIATIONS, TVAE, Modes, modes_of, reconstruction, to_prior
from tables.toy import SCHEMA, rows, source

SMALL = TVAE(epochs=2, batch=100, width=16, latents=4)


def runtime(seed=0):
    return Runtime(Engine(device="cpu", quiet=True), seed)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def trained(method, data, seed=0):
    machine = runtime(seed)
    method = method.resolve(data, machine)
    state = method.build(data, machine)
    losses = [float(method.step(state, machine)["loss"]) for _ in range(method.total_steps)]
    return method, state, losses


# ------------------------------------------------------------------------------------------------------------ the terms


def test_the_reconstruction_is_the_likelihood_of_numbers_and_choices():
    decoded = torch.randn(7, 6, generator=generator(), dtype=torch.float64)
    entries = torch.zeros(7, 6, dtype=torch.float64)
    entries[:, 0] = torch.linspace(-0.9, 0.9, 7)
    entries[:, 1] = torch.linspace(0.9, -0.9, 7)
    entries[torch.arange(7), 2 + torch.arange(7) % 4] = 1
    deviations = torch.tensor([0.2, 0.7, 9, 9, 9, 9], dtype=torch.float64)
    found = reconstruction(decoded, entries, deviations, [0, 1], [slice(2, 6)])
    right = 0.0
    for row in range(7):
        for place in (0, 1):
            likelihood = Normal(decoded[row, place].tanh(), deviations[place]).log_prob(entries[row, place])
            right -= float(likelihood) + math.log(2 * math.pi) / 2
        right -= float(decoded[row, 2:].log_softmax(dim=0)[row % 4])
    assert float(found) == pytest.approx(right / 7, rel=1e-12)


def test_the_divergence_is_that_of_normal_distributions():
    mean, log_variance = torch.randn(2, 9, 3, generator=generator(), dtype=torch.float64)
    there = Normal(mean, (log_variance / 2).exp())
    right = kl_divergence(there, Normal(torch.zeros_like(mean), 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(to_prior(mean, log_variance), right)
    assert float(to_prior(torch.zeros(2, 3), torch.zeros(2, 3))) == 0


def test_choices_are_drawn_by_their_probabilities():
    shares = torch.tensor([0.6, 0.3, 0.1])
    logits = torch.cat([torch.full((30_000, 1), 5.0), shares.log().expand(30_000, 3)], dim=1)
    drawn = drawn_choices(logits, [slice(1, 4)], generator())
    assert bool((drawn[:, 0] == 5).all())
    torch.testing.assert_close(drawn[:, 1:].argmax(1).bincount() / 30_000, shares, rtol=0, atol=0.01)


# ---------------------------------------------------------------------------------------------------- modes of a number


def test_two_modes_are_found_whatever_the_scale():
    normal = torch.randn(2000, generator=generator(), dtype=torch.float64)
    for scale in (1e-6, 1.0, 1e6):
        values = scale * torch.where(torch.arange(2000) < 600, normal * 0.1 - 3, normal * 0.5 + 4)
        modes = modes_of(values)
        near = (modes.means / scale).round()
        weights = [float(modes.weights[near == place].sum()) for place in (-3, 4)]
        assert weights == pytest.approx([0.3, 0.7], abs=0.05)
        place = modes.encode(values, generator())[:, 0]
        assert float(place.abs().max()) <= 0.99 and float(place.abs().mean()) < 0.5


def test_a_value_comes_back_from_its_mode_and_place():
    values = rows().of("wealth")
    modes = modes_of(values)
    entries = modes.encode(values, generator())
    assert modes.missing and entries.shape == (600, 1 + modes.choices)
    assert torch.equal(entries[:, -1].bool(), values.isnan())
    inside = (entries[:, 0].abs() < 0.99) | values.isnan()
    found = modes.decode(entries)
    assert float(inside.double().mean()) > 0.98
    torch.testing.assert_close(found[inside], values[inside], equal_nan=True)


def test_no_value_lies_outside_of_what_there_was():
    values = rows().of("age")
    modes = modes_of(values)
    entries = torch.zeros(2, 1 + modes.choices, dtype=torch.float64)
    entries[:, 0], entries[:, 1] = torch.tensor([-1e9, 1e9]), 1
    assert modes.decode(entries).tolist() == [float(values.min()), float(values.max())]


@pytest.mark.parametrize("values", [[3.0] * 5, [1.0], [torch.nan, 2.0, 2.0], [torch.nan, torch.nan], [0.0, 1.0]])
def test_numbers_that_are_missing_few_or_all_the_same_stay_so(values):
    values = torch.tensor(values, dtype=torch.float64)
    modes = modes_of(values)
    torch.testing.assert_close(modes.decode(modes.encode(values, generator())), values, equal_nan=True)


def test_a_table_comes_back_from_its_matrix_and_a_code_from_its_tensors():
    table = rows()
    code = table_code(table, modes_of)
    entries = code.encode(table, generator())
    assert entries.shape == (600, code.width) and entries.dtype == torch.float32
    assert code.choices[-1].stop == code.width and len(code.numbers) == 2
    town = next(span for span in code.spans if span.column == "town")
    assert town.stop - town.start == 3  # the level without rows is no choice
    for one in (code, TableCode.of_tensors(SCHEMA, code.tensors(), Modes.of_tensors)):
        found = one.decode(entries)
        for column in SCHEMA.columns:
            there, here = table.of(column), found.of(column)
            if column.type == "category":
                assert torch.equal(there, here)
            else:
                kept = (there - here).abs() < 1e-3 * there.abs() + 1e-3
                assert float((kept | there.isnan()).double().mean()) > 0.97
                assert torch.equal(there.isnan(), here.isnan())
    assert torch.equal(found.of("age"), found.of("age").round())


# ------------------------------------------------------------------------------------------------------------- the runs


def test_the_loss_falls_and_the_deviations_stay_in_their_bounds():
    _, state, losses = trained(TVAE(epochs=20, batch=100, width=32, latents=8), source(300))
    assert sum(losses[-6:]) / 6 < 0.8 * losses[0]
    low, high = map(float, state.network.deviations.detach().aminmax())
    assert DEVIATIONS[0] <= low <= high <= DEVIATIONS[1] + 1e-6


def test_it_learns_the_margins_and_what_goes_with_what():
    data = source(1000)
    method, state, _ = trained(TVAE(epochs=40, batch=100, width=64, latents=8, modes=4), data)
    drawn = method.generator_of(state).sample(4000)
    age = ks_2samp(drawn.of("age").numpy(), data.train.of("age").numpy()).statistic
    real, made = (
        [float(table.labels[table.groups == group].double().mean()) for group in (0, 1)]
        for table in (data.train, drawn)
    )
    assert age < 0.15
    assert real[0] - real[1] > 0.3 and made[0] - made[1] > 0.15
    assert abs(float(drawn.of("wealth").isnan().double().mean()) - 0.1) < 0.06


@pytest.mark.parametrize("count, batch, steps", [(600, 100, 12), (600, 500, 4), (30, 500, 2), (101, 100, 4)])
def test_every_row_is_seen_once_an_epoch_and_fewer_rows_than_a_batch_are_one(count, batch, steps):
    method, state, _ = trained(TVAE(epochs=2, batch=batch, width=4, latents=2), source(count))
    assert method.total_steps == steps and state.done == steps
    order = torch.arange(count)
    seen = torch.cat([next_rows(order, step, batch, generator()) for step in range(steps // 2)])
    assert torch.equal(seen.sort().values, torch.arange(count))


def test_drawing_a_table_changes_nothing_of_the_rest_of_the_run():
    data, machine = source(), runtime()
    method = SMALL.resolve(data, machine)
    state = method.build(data, machine)
    method.generator_of(state).sample(10)
    method.step(state, machine)
    before = {name: tensor.clone() for name, tensor in state.network.state_dict().items()}
    one, other = (method.result(state, machine).rows.values for _ in range(2))
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.network.state_dict().items())


def test_rows_are_drawn_by_a_seed_and_only_levels_that_there_were():
    method, state, _ = trained(SMALL, source())
    fitted = method.generator_of(state)
    one, same, other = (fitted.sample(300, seed).values for seed in (1, 1, 2))
    torch.testing.assert_close(one, same, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(one.nan_to_num(), other.nan_to_num())
    assert int(fitted.sample(2000).codes("town").max()) <= 2


def test_published_settings():
    paper, released = TVAE.paper("adult"), TVAE.paper("adult", variant="released")
    assert (paper.batch, paper.epochs, paper.latents, paper.width, paper.depth) == (500, 300, 128, 128, 2)
    assert (paper.fit_weight, paper.weight_decay, paper.levels, released.levels) == (2.0, 1e-5, "drawn", "likeliest")
    with pytest.raises(InputError, match="TVAE has no cell of 'adlt'; did you mean 'adult'"):
        TVAE.paper("adlt")


def test_a_table_of_two_rows_is_learned_from():
    table = rows(2)
    method, state, losses = trained(SMALL, TableSource("two", table, table))
    assert all(map(math.isfinite, losses)) and len(method.generator_of(state).sample(5)) == 5
