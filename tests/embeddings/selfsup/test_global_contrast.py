"""The global contrastive loss: its exact facts, what it remembers, and what it refuses."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attar.core.errors import InputError
from attar.embeddings.selfsup.global_contrast import GlobalContrast
from attar.embeddings.selfsup.normaliser import (
    divergence,
    falling_rate,
    log_mean_exp,
    log_normaliser,
    moved_temperature,
    root_temperature,
    temperature_gradient,
    weights,
)

N = 12


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def unit(*shape, seed=0):
    return F.normalize(drawn(*shape, seed=seed), dim=-1)


def made(samples=N, **settings):
    return GlobalContrast(samples, **{"dtype": torch.float64, **settings})


def memory(loss):
    return {name: value.clone() for name, value in loss.state_dict().items()}


def close(ours, theirs, tolerance=1e-12):
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def near(a, b):
    """Similarities of each view to both views of the others, in both directions."""
    size = len(a)
    others = [[j for j in range(2 * size) if j % size != i] for i in range(size)]
    found = [first @ torch.cat([second, first]).T for first, second in ((a, b), (b, a))]
    return torch.stack([torch.stack([rows[i, others[i]] for i in range(size)]) for rows in found])


# ------------------------------------------------------------------------------------------------------- exact facts


@pytest.mark.parametrize("pos_weight", ["one", "normalised"])
def test_with_the_batch_alone_it_is_temperature_times_decoupled_contrast(pos_weight):
    loss = made(gamma=1.0, temperature=0.1, pos_weight=pos_weight)
    for visit in (1, 2):
        a, b = (drawn(4, 5, seed=10 * visit + side).requires_grad_() for side in (0, 1))
        ours = torch.autograd.grad(loss(a, b, torch.arange(4)), (a, b))
        first, second = F.normalize(a, dim=1), F.normalize(b, dim=1)
        mean = (near(first, second) / 0.1).exp().mean(dim=-1).log() * 0.1
        theirs = torch.autograd.grad((mean - (first * second).sum(dim=1)).mean(dim=1).sum(), (a, b))
        for one, other in zip(ours, theirs, strict=True):
            close(one, other, 1e-14)


def test_the_slope_of_the_temperature_is_the_bound_less_the_divergence():
    h, tau = drawn(2, 6, 9, seed=3), 0.05 + drawn(2, 6, seed=4).abs()
    tau.requires_grad_()
    dual = tau * log_mean_exp(h / tau[..., None]) + tau * 0.7
    logits = (h / tau[..., None]).detach()
    ours = temperature_gradient(logits, log_mean_exp(logits), 0.7)
    close(ours, torch.autograd.grad(dual.sum(), tau)[0])
    close(ours, 0.7 - divergence(h, tau.detach()))
    p = logits.softmax(dim=-1)
    close(divergence(h, tau.detach()), (p * (p * 9).log()).sum(dim=-1))


def test_at_the_root_the_divergence_is_the_bound_and_the_loss_the_expected_score():
    h = drawn(20, 30, seed=5)
    tau = root_temperature(h, 0.4)
    close(divergence(h, tau), torch.full_like(tau, 0.4))
    p = (h / tau[:, None]).softmax(dim=-1)
    close(tau * log_mean_exp(h / tau[:, None]) + 0.4 * tau, (p * h).sum(dim=-1))
    close(root_temperature(h + 3, 0.4), tau)
    assert (root_temperature(h, math.log(30), 0.01, 5.0) < 0.0101).all()
    assert (root_temperature(h, 0.0, 0.01, 5.0) > 4.99).all()


def test_temperatures_of_frozen_features_go_to_the_root():
    a, b = unit(N, 8, seed=6), unit(N, 8, seed=7)
    loss = made(temperatures="individual", temperature=0.2, gamma=1.0, rho=0.5, eta=0.05, beta=0.9)
    for _ in range(400):
        loss(a, b, torch.arange(N))
    slope = sum(0.5 - divergence(h, loss.tau) for h in near(a, b))
    assert slope.abs().max() < 1e-9  # the mean over both directions is what descends
    images = made(pairs=True, temperatures="individual", temperature=0.2, gamma=1.0, rho=0.5, eta=0.05)
    for _ in range(400):
        images(a, b, torch.arange(N))
    others = ~torch.eye(N, dtype=torch.bool)
    h = (a @ b.T)[others].view(N, N - 1)
    close(images.tau[0], root_temperature(h, 0.5), 1e-9)


def test_without_a_step_it_is_sogclr_bit_for_bit_and_with_the_batch_alone_order_does_not_matter():
    plain, still = (
        made(gamma=0.6, temperature=0.2),
        made(gamma=0.6, temperature=0.2, temperatures="individual", eta=0.0),
    )
    alone, gradients = made(gamma=1.0), {}
    for visit, rows in enumerate([[0, 1, 2], [3, 0, 4], [2, 4, 0]]):
        a, b, index = drawn(3, 5, seed=visit).requires_grad_(), drawn(3, 5, seed=visit + 9), torch.tensor(rows)
        pair = [torch.autograd.grad(loss(a, b, index), a)[0] for loss in (plain, still)]
        assert torch.equal(*pair) and torch.equal(plain.log_s, still.log_s)
        gradients[visit] = torch.autograd.grad(alone(a, b, index), a)[0]
    for visit, rows in reversed(list(enumerate([[0, 1, 2], [3, 0, 4], [2, 4, 0]]))):
        a, b = drawn(3, 5, seed=visit).requires_grad_(), drawn(3, 5, seed=visit + 9)
        again = torch.autograd.grad(alone(a, b, torch.tensor(rows)), a)[0]
        assert torch.equal(again, gradients[visit])


def test_the_logarithm_is_the_normaliser_with_its_shift():
    """s and b of the bimodal loss, updated as its authors do, beside the one number."""
    tau, gamma = 0.05, 0.8
    s, b, log_s = torch.zeros(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64), torch.full((6,), -math.inf)
    log_s = log_s.double()
    for visit in range(20):
        logits = drawn(6, 5, seed=visit) / tau
        b_new = torch.maximum(b, logits.amax(dim=1))
        share = gamma if visit else 1.0
        s = (1 - share) * s * (b - b_new).exp() + share * (logits - b_new[:, None]).exp().mean(dim=1)
        b = b_new
        log_s = log_normaliser(log_s, log_mean_exp(logits), gamma)
        close(log_s, s.log() + b)
        close(weights(logits, log_s), (logits - b[:, None]).exp() / s[:, None])
        assert weights(logits, log_s).max() <= 5 / gamma * (1 + 1e-12)


def test_the_smallest_temperature_with_far_negatives_has_a_gradient_in_single_precision():
    base = F.normalize(torch.ones(1, 6), dim=1)
    images = F.normalize(base + 0.01 * drawn(4, 6, dtype=torch.float32), dim=1)
    texts = torch.stack([images[0], *(-images[1:])])  # every other pair is far: h about -2 or +2
    far = torch.eye(4) - 0.15 * (1 - torch.eye(4))
    for a, b in ((far, far), (images, texts)):
        loss = GlobalContrast(N, pairs=True, temperature=0.005, temperatures="individual", eta=1e-4, rho=1.0)
        for _ in range(3):
            first, second = a.clone().requires_grad_(), b.clone()
            value = loss(first, second, torch.arange(4))
            (gradient,) = torch.autograd.grad(value, first)
            assert value.isfinite() and gradient.isfinite().all() and gradient.norm() > 1e-3
            assert loss.tau.isfinite().all() and loss.log_s[:, :4].isfinite().all()


def test_a_whole_data_set_in_one_batch_remembers_its_mean_whatever_the_rate():
    a, b = unit(N, 8, seed=6), unit(N, 8, seed=7)
    loss, means = made(gamma=0.3), []
    for _ in range(5):
        loss(a, b, torch.arange(N))
        close(loss.log_s.exp(), (near(a, b) / 0.1).exp().mean(dim=-1).mean(dim=0))
    for seed in range(4):  # features that move: a convex combination of what was visited
        a = unit(N, 8, seed=20 + seed)
        means.append((near(a, b) / 0.1).exp().mean(dim=-1).mean(dim=0))
    moving = made(gamma=0.3)
    for seed in range(4):
        moving(unit(N, 8, seed=20 + seed), b, torch.arange(N))
    share = [0.7**3, 0.3 * 0.7**2, 0.3 * 0.7, 0.3]
    close(moving.log_s.exp(), sum(w * mean for w, mean in zip(share, means, strict=True)))


def small_batches(gamma, *, samples=32, steps=700, size=4, tau=0.1):
    """Cosine and ratio of length of the mean of small-batch gradients with the full one (negatives alone)."""
    features = unit(samples, 8, seed=1)
    generator = torch.Generator().manual_seed(0)
    loss = made(samples, gamma=gamma, temperature=tau, normalise=False)
    mean, counted = torch.zeros(samples, 8, dtype=torch.float64), 0
    for step in range(steps):
        rows = torch.randperm(samples, generator=generator)[:size]
        z = features[rows].requires_grad_()
        (gradient,) = torch.autograd.grad(loss(z, z.detach(), rows) + (z * z.detach()).sum() / size * 2, z)
        if step >= steps // 6:
            mean[rows] += gradient
            counted += 1
    z = features.clone().requires_grad_()
    everyone = made(samples, gamma=1.0, temperature=tau, normalise=False)
    value = everyone(z, z.detach(), torch.arange(samples)) + (z * z.detach()).sum() / samples * 2
    (full,) = torch.autograd.grad(value, z)
    mean /= counted
    return F.cosine_similarity(mean.flatten(), full.flatten(), dim=0).item(), (mean.norm() / full.norm()).item()


def test_a_slow_rate_makes_small_batches_point_where_the_data_set_does():
    found = [small_batches(gamma) for gamma in (1.0, 0.3, 0.1)]
    cosines, lengths = zip(*found, strict=True)
    assert cosines[0] < cosines[1] < cosines[2] and lengths[0] < lengths[1] < lengths[2] < 1.05, found


def test_the_hinge_takes_the_place_of_the_score_and_needs_no_positive():
    a, b = (unit(4, 5, seed=side).requires_grad_() for side in (1, 2))
    ours = made(gamma=1.0, hinge=0.8, normalise=False)(a, b, torch.arange(4))
    scores = (near(a, b) - (a * b).sum(dim=1)[:, None] + 0.8).relu() ** 2
    mean = (0.1 * (scores / 0.1).exp().mean(dim=-1).log()).mean(dim=1).sum()
    for one, other in zip(torch.autograd.grad(ours, (a, b)), torch.autograd.grad(mean, (a, b)), strict=True):
        close(one, other)


def test_one_learned_temperature_descends_the_dual():
    loss = made(pairs=True, temperatures="global", temperature=0.3, gamma=1.0, rho=0.6, normalise=False)
    a, b = unit(N, 8, seed=6), unit(N, 8, seed=7)
    (ours,) = torch.autograd.grad(loss(a, b, torch.arange(N)), loss.tau)
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    h = torch.stack([a @ b.T, b @ a.T]) - (a * b).sum(dim=1)[:, None]
    logits = (h / tau).masked_fill(torch.eye(N, dtype=torch.bool), -math.inf)
    dual = tau * (logits.logsumexp(dim=-1) - math.log(N - 1)) + 0.6 * tau
    close(ours, torch.autograd.grad(dual.mean(), tau)[0])
    with torch.no_grad():
        loss.tau.fill_(7.0)
    loss(a, b, torch.arange(N))
    assert loss.tau.item() == 1.0  # the end of its range
    assert "tau" in dict(loss.named_parameters()) and "tau" in loss.state_dict()


def test_the_rate_falls_along_half_a_cosine():
    assert [falling_rate(0.2, share, 0.5) for share in (0.0, 0.25, 0.5, 0.9)] == pytest.approx([1, 0.6, 0.2, 0.2])
    assert falling_rate(0.2, 0.0, 0.0) == 0.2
    loss, same = made(gamma=0.2, gamma_schedule="cosine"), made(gamma=0.6)
    for seed in (0, 1):
        a, b = unit(N, 8, seed=seed), unit(N, 8, seed=seed + 5)
        assert torch.equal(loss(a, b, torch.arange(N), progress=0.25), same(a, b, torch.arange(N)))


def test_a_temperature_moves_by_a_quarter_of_itself_at_most():
    tau, u = torch.tensor([0.02, 0.02, 0.4]), torch.zeros(3)
    gradient = torch.tensor([-50.0, 50.0, 0.1])
    moved, momentum = moved_temperature(tau, u, gradient, eta=0.01, beta=0.9, between=(0.016, 1.0))
    torch.testing.assert_close(moved, torch.tensor([0.025, 0.016, 0.4 - 0.0009]))
    torch.testing.assert_close(momentum, 0.9 * gradient)
    free, _ = moved_temperature(tau, u, gradient, eta=0.01, beta=0.9, between=(0.005, 1.0), largest_step=None)
    torch.testing.assert_close(free, torch.tensor([0.47, 0.005, 0.4 - 0.0009]))


# ------------------------------------------------------------------------------------------------- what is remembered


@pytest.mark.parametrize("pairs", [False, True])
def test_the_order_within_batches_does_not_matter(pairs):
    losses = [made(pairs=pairs, temperatures="individual", gamma=0.7, eta=0.05) for _ in range(2)]
    generator = torch.Generator().manual_seed(1)
    for visit in range(12):
        rows = torch.randperm(N, generator=generator)[:7]
        for turn, loss in enumerate(losses):
            order = torch.randperm(7, generator=generator) if turn else torch.arange(7)
            loss(unit(7, 6, seed=visit)[order], unit(7, 6, seed=visit + 50)[order], rows[order])
    for name, value in memory(losses[0]).items():
        seen = losses[0].seen
        close(value[seen], memory(losses[1])[name][seen])
    assert losses[0].seen.any()


def test_a_sample_that_occurs_twice_is_one_and_leaves_the_mean():
    a, b = unit(4, 5, seed=1), unit(4, 5, seed=2)
    index = torch.tensor([5, 3, 5, 2])
    loss = made(temperatures="individual", gamma=0.7, eta=0.01)
    loss(a, b, index)
    # The anchors 0 and 2 have the four views of the others as negatives; 1 and 3 have all six.
    exact = [(first[i] @ torch.cat([second[[1, 3]], first[[1, 3]]]).T / 0.1).exp().mean() for first, second in
             ((a, b), (b, a)) for i in (0, 2)]  # fmt: skip
    close(loss.log_s[5].exp(), torch.stack(exact).mean())
    again = made(temperatures="individual", gamma=0.7, eta=0.01)
    again(a[[2, 1, 0, 3]], b[[2, 1, 0, 3]], index)
    for name in ("log_s", "tau", "u"):
        torch.testing.assert_close(memory(loss)[name], memory(again)[name], rtol=1e-14, atol=1e-14)
    assert loss.seen.nonzero().flatten().tolist() == [2, 3, 5]


def test_a_first_visit_is_that_of_the_sample():
    loss = made(gamma=0.5)
    loss(unit(3, 5, seed=1), unit(3, 5, seed=2), torch.tensor([0, 1, 2]))
    fresh = made(gamma=0.5)
    a, b, index = unit(4, 5, seed=3), unit(4, 5, seed=4), torch.tensor([9, 1, 8, 7])
    loss(a, b, index)
    fresh(a, b, index)
    assert torch.equal(loss.log_s[[9, 8, 7]], fresh.log_s[[9, 8, 7]])
    assert loss.log_s[1] != fresh.log_s[1]


def test_a_state_dict_is_complete():
    settings = {"temperatures": "individual", "gamma": 0.6, "eta": 0.05, "pairs": True}
    loss, later = GlobalContrast(N, **settings), GlobalContrast(N, **settings)
    assert {*loss.state_dict()} == {"log_s", "seen", "tau", "u"}
    for visit in range(3):
        loss(unit(6, 5, seed=visit).float(), unit(6, 5, seed=visit + 9).float(), torch.arange(visit, visit + 6))
    later.load_state_dict(copy.deepcopy(loss.state_dict()))
    for one in (loss, later):
        one(unit(6, 5, seed=4).float(), unit(6, 5, seed=5).float(), torch.arange(6))
    for name, value in memory(loss).items():
        assert torch.equal(value, memory(later)[name])
    assert loss.mean_temperature == loss.tau[loss.seen].mean()


def test_evaluation_and_batches_that_are_not_finite_leave_no_trace():
    loss = made(temperatures="individual")
    loss(unit(4, 5, seed=1), unit(4, 5, seed=2), torch.arange(4))
    before = memory(loss)
    loss.eval()(unit(4, 5, seed=3), unit(4, 5, seed=4), torch.arange(2, 6))
    spoilt = unit(4, 5, seed=3)
    spoilt[1] = math.nan
    assert loss.train()(spoilt, unit(4, 5, seed=4), torch.arange(4)).isnan()
    for name, value in memory(loss).items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pairs", [False, True])
def test_half_precision_gives_a_loss_in_single_precision(dtype, pairs):
    loss = GlobalContrast(N, pairs=pairs, temperature=0.01, temperatures="individual").to(dtype)
    assert loss.log_s.dtype == loss.tau.dtype == torch.float32
    a, b = (unit(4, 5, seed=side).to(dtype).requires_grad_() for side in (1, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(a, b, torch.arange(4))
    value.backward()
    assert value.dtype == torch.float32 and a.grad.dtype == dtype and a.grad.isfinite().all()
    exact = GlobalContrast(N, pairs=pairs, temperature=0.01, temperatures="individual")
    assert torch.equal(value, exact(a.detach().float(), b.detach().float(), torch.arange(4)))


def test_a_short_last_batch_and_two_samples_are_batches():
    loss = made(gamma=0.8)
    for size in (5, 5, 2):
        a = unit(size, 5, seed=size).requires_grad_()
        loss(a, unit(size, 5, seed=1), torch.arange(size, dtype=torch.int32)).backward()
        assert a.grad.norm() > 0


# -------------------------------------------------------------------------------------------------------- bad input


def test_what_is_no_number_of_a_sample_is_refused_in_one_line():
    loss, z = made(), unit(3, 5)
    for index, sentence in (
        (torch.tensor([0, 1, 12]), "index has 12, but there are 12 samples: numbers from 0 to 11."),
        (torch.tensor([0, -1, 2]), "index has -1, but there are 12 samples: numbers from 0 to 11."),
        (torch.tensor([0.0, 1, 2]), "index is float32; give whole numbers, one for each sample."),
        (torch.tensor([True, False, True]), "index is bool; give whole numbers, one for each sample."),
        (torch.arange(4), "index has shape [4] for 3 samples; give one number for each."),
        (torch.tensor([4, 4, 4]), "all samples of the batch are one and the same, so there are no negatives. "
         "Give two or more."),
    ):  # fmt: skip
        with pytest.raises(InputError) as raised:
            loss(z, z, index)
        assert str(raised.value) == sentence
    with pytest.raises(InputError, match=r"shapes \[3, 5\] and \[2, 5\]"):
        loss(z, z[:2], torch.arange(3))
    with pytest.raises(InputError, match="no negatives"):
        loss(z[:1], z[:1], torch.arange(1))
    with pytest.raises(InputError, match="give progress"):
        made(gamma_schedule="cosine")(z, z, torch.arange(3))
    assert not loss.seen.any()


def test_settings_out_of_range_are_refused():
    for settings, sentence in (
        ({"samples": 1}, "samples is 1; a contrast needs 2 or more."),
        ({"gamma": 0.0}, "gamma is 0; it must be above 0 and at most 1."),
        ({"temperature_range": (0.5, 0.1)}, "temperature_range is 0.5 to 0.1; give two positive numbers that rise."),
        ({"temperature": 0.0}, "temperature is 0; it must be positive."),
        ({"temperature": 2.0, "temperatures": "individual"},
         "temperature is 2, outside of temperature_range, 0.005 to 1."),
    ):  # fmt: skip
        with pytest.raises(InputError) as raised:
            made(**{"samples": N, **settings})
        assert str(raised.value) == sentence
    assert "samples=12, views, temperatures=fixed" in str(made())
    assert isinstance(made(), nn.Module)
