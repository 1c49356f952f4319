"""V² against its definition, its identities, the released code's numbers, and its gradient."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Normal

from attar.tables.dependence import dependence, pair_density, permuted_dependence, spectral_dependence

GOLDEN = load_file(Path(__file__).parent / "golden" / "distance_covariance_penalty.safetensors")
CASES = sorted({name.partition(".")[0] for name in GOLDEN})


def drawn(rows=23, latent=3, groups=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, rows, latent, generator=generator, dtype=dtype)
    return mean, 0.5 * log_variance - 1, torch.randint(groups, (rows,), generator=generator)


def pair_mean(mean, variance, first, second):
    """d(A, B) by the textbook."""
    spread = variance[first][:, None] + variance[second]
    gap = mean[first][:, None] - mean[second]
    return Normal(torch.zeros_like(gap), spread.sqrt()).log_prob(gap).sum(dim=2).exp().mean()


def by_definition(mean, log_variance, groups):
    variance, everyone = log_variance.exp(), torch.ones_like(groups, dtype=torch.bool)
    total = 0
    for group in groups.unique():
        own = groups == group
        inside = pair_mean(mean, variance, own, own) + pair_mean(mean, variance, everyone, everyone)
        total += own.double().mean() ** 2 * (inside - 2 * pair_mean(mean, variance, own, everyone))
    return total


@pytest.mark.parametrize("groups", [2, 5])
@pytest.mark.parametrize("chunk", [1, 4, 23, 128])
def test_it_is_its_definition_in_chunks_of_any_size(groups, chunk):
    codes = drawn(groups=groups)
    torch.testing.assert_close(dependence(*codes, chunk=chunk), by_definition(*codes), rtol=1e-12, atol=1e-16)


def test_in_one_dimension_it_is_the_integral():
    mean, log_variance = torch.tensor([[-0.4], [1.1], [0.3]]).double(), torch.tensor([[-0.2], [0.5], [0.1]]).double()
    groups = torch.tensor([0, 1, 1])
    grid = torch.linspace(-25, 25, 200_001, dtype=torch.float64)
    densities = Normal(mean, (log_variance / 2).exp()).log_prob(grid).exp()
    everyone = densities.mean(dim=0)
    squares = [
        (groups == group).double().mean() ** 2 * (densities[groups == group].mean(dim=0) - everyone) ** 2
        for group in range(2)
    ]
    assert float(dependence(mean, log_variance, groups)) == pytest.approx(
        float(torch.trapezoid(sum(squares), grid)), rel=1e-6
    )


def test_groups_with_the_same_codes_have_none():
    mean, log_variance, _ = drawn()
    groups = torch.tensor([0] * 23 + [1] * 23)
    assert abs(float(dependence(mean.repeat(2, 1), log_variance.repeat(2, 1), groups))) < 1e-12


@pytest.mark.parametrize("normalise", [False, True])
def test_a_single_group_has_none(normalise):
    mean, log_variance, _ = drawn()
    assert float(dependence(mean, log_variance, torch.full((23,), 4), normalise=normalise)) == 0


@pytest.mark.parametrize("seed", range(20))
def test_it_is_never_negative(seed):
    assert float(dependence(*drawn(rows=9, latent=2, groups=3, seed=seed))) >= -1e-18


def test_order_place_and_names_do_not_matter():
    mean, log_variance, groups = drawn(groups=3)
    value = dependence(mean, log_variance, groups)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))
    for others in [
        (mean[order], log_variance[order], groups[order]),
        (mean + 7.5, log_variance, groups),
        (mean, log_variance, torch.tensor([5, 0, 9])[groups]),
    ]:
        torch.testing.assert_close(dependence(*others), value, rtol=1e-11, atol=0)


def test_normalised_it_does_not_hang_on_the_scale():
    mean, log_variance, groups = drawn()
    shares = groups.bincount() / len(groups)
    value = dependence(mean, log_variance, groups, normalise=True)
    plain = dependence(mean, log_variance, groups) / (shares.square().sum() * pair_density(mean, log_variance))
    torch.testing.assert_close(value, plain)
    wider = dependence(20 * mean, log_variance + 2 * math.log(20), groups, normalise=True)
    torch.testing.assert_close(wider, value)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("chunk", [2, 128])
def test_the_gradient_is_that_of_finite_differences(normalise, chunk):
    mean, log_variance, groups = drawn(rows=7, latent=2, groups=3)
    values = [one.requires_grad_() for one in (mean, log_variance)]
    assert torch.autograd.gradcheck(lambda *codes: dependence(*codes, groups, normalise=normalise, chunk=chunk), values)


def test_the_spectral_form_has_a_gradient_too():
    mean, log_variance, groups = drawn(rows=7, latent=2)
    frequencies = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = [one.requires_grad_() for one in (mean, log_variance)]
    assert torch.autograd.gradcheck(lambda *codes: spectral_dependence(*codes, groups, frequencies), values)


def test_the_spectral_form_estimates_it_for_wider_codes():
    mean, log_variance, groups = drawn()
    frequencies = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wider = (log_variance.exp() + 0.5).log()
    for normalise, scale in [(False, (2 * math.pi) ** 1.5), (True, 1.0)]:
        exact = dependence(mean, wider, groups, normalise=normalise) * scale
        found = spectral_dependence(mean, log_variance, groups, frequencies, normalise=normalise)
        torch.testing.assert_close(found, exact, rtol=0.02, atol=0)


def test_permutations_give_what_they_should():
    mean, log_variance, groups = drawn(groups=3)
    generator = torch.Generator().manual_seed(4)
    found = permuted_dependence(mean, log_variance, groups, permutations=3, generator=generator, chunk=5)
    generator.manual_seed(4)
    orders = [torch.randperm(23, generator=generator) for _ in range(3)]
    torch.testing.assert_close(found, torch.stack([dependence(mean, log_variance, groups[order]) for order in orders]))


def test_where_codes_follow_the_group_it_stands_out_from_its_permutations():
    mean, log_variance, groups = drawn(rows=200)
    generator = torch.Generator().manual_seed(0)
    shifted = mean + 2.0 * groups[:, None]
    chance = permuted_dependence(shifted, log_variance, groups, generator=generator)
    assert len(chance) == 20
    assert float(dependence(shifted, log_variance, groups)) > 3 * float(chance.max())
    assert float(dependence(mean, log_variance, groups)) < 3 * float(chance.max())


@pytest.mark.parametrize(("latent", "log_variance"), [(8, -9.0), (20, 6.0), (64, -30.0)])
def test_float32_holds_where_densities_are_huge_or_tiny(latent, log_variance):
    mean, spread, groups = drawn(latent=latent, dtype=torch.float32)
    spread = 0.1 * spread + log_variance
    exact = dependence(mean.double(), spread.double(), groups, normalise=True)
    torch.testing.assert_close(dependence(mean, spread, groups, normalise=True).double(), exact, rtol=1e-4, atol=1e-7)


def test_half_precision_is_computed_in_single():
    mean, log_variance, groups = drawn(dtype=torch.float32)
    found = dependence(mean.bfloat16(), log_variance.bfloat16(), groups)
    assert found.dtype == torch.float32 and found.isfinite()


def test_gradients_flow_under_autocast():
    mean, log_variance, groups = drawn(dtype=torch.float32)
    mean.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dependence(mean, log_variance, groups).backward()
    plain = mean.detach().clone().requires_grad_()
    dependence(plain, log_variance, groups).backward()
    torch.testing.assert_close(mean.grad, plain.grad, rtol=0.05, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_released_penalty_without_its_small_number(name):
    golden = {key.partition(".")[2]: value for key, value in GOLDEN.items() if key.startswith(f"{name}.")}
    mean, log_variance = (golden[f"in.{part}"].requires_grad_() for part in ("mean", "logvar"))
    value, scale = dependence(mean, log_variance, golden["in.group"]), golden["ref.mean_pair_density"]
    assert_near(pair_density(mean, log_variance), scale, scale)
    assert_near(value, golden["ref.v2"], scale)
    value.backward()
    assert_near(mean.grad, golden["ref.v2_grad.mean"], scale)
    assert_near(log_variance.grad, golden["ref.v2_grad.logvar"], scale)
    if name != "narrow":  # where 1e-10 in the denominators of the code makes it a twentieth
        share = len(mean) / int(golden["in.nominal_batch"])
        torch.testing.assert_close(share * value.detach(), golden["out.penalty"], rtol=1e-9, atol=1e-15)


def assert_near(found, expected, scale):
    """Equal to ten digits, or to fourteen of the mean density, of which V² may be a tiny part."""
    torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-13 * float(scale))
