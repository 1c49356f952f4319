"""EnsLoss: the identities of its derivatives, its limits, the released code's numbers, and bad input."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from attar.classifiers.losses import EnsLoss, LogHinge, calibrated_loss_derivatives, ens_loss
from attar.classifiers.losses.ensloss import sizes_of
from attar.classifiers.losses.scores import checked_setting
from attar.core.errors import InputError

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "ensloss.safetensors")
CASES = sorted({name.partition(".")[0] for name in GOLDEN})
B = 64


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def margins():
    return 2 * torch.randn(B, generator=drawn(1), dtype=torch.float64)


@pytest.fixture
def normal():
    return torch.randn(B, generator=drawn(2), dtype=torch.float64)


@pytest.mark.parametrize("case", CASES)
def test_the_released_code_gives_the_same(case):
    given = {name.partition(".in.")[2]: tensor for name, tensor in GOLDEN.items() if name.startswith(f"{case}.in.")}
    wanted = {name.partition(".out.")[2]: tensor for name, tensor in GOLDEN.items() if name.startswith(f"{case}.out.")}
    how = {"lam": float(given["lam"]), "normal": given["normal"]}
    score = given["score"].clone().requires_grad_()
    signs = 2 * given["target"].flatten() - 1
    found = calibrated_loss_derivatives(signs * score.flatten(), **how)
    assert torch.allclose(found, wanted["derivative"], atol=1e-14, rtol=1e-13)
    loss = ens_loss(score, given["target"], **how)
    loss.backward()
    assert torch.allclose(loss, wanted["loss"], atol=1e-14)
    assert torch.allclose(score.grad, wanted["grad.score"], atol=1e-14)


@pytest.mark.parametrize("tail", ["inverse", "log2", "none"])
@pytest.mark.parametrize("lam, clip", [(0, 1), (0, None), (1, 1), (0.5, None), (-0.5, 1), (-1, 2), (1e-12, 1)])
def test_derivatives_are_negative_and_rise_with_the_margins(margins, normal, lam, clip, tail):
    g = calibrated_loss_derivatives(margins, lam=lam, clip=clip, tail=tail, normal=normal)
    assert (g < 0).all() and g.isfinite().all()
    assert (g[margins.argsort()].diff() >= 0).all()
    assert (margins < 1).any() and (margins > math.e).any()


def test_without_a_tail_the_sizes_are_those_drawn(margins, normal):
    g = calibrated_loss_derivatives(margins, tail="none", normal=normal)
    assert torch.allclose((-g - 1e-6).sort().values, normal.exp().clamp(max=1).sort().values, atol=1e-15)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_tail_divides_by_a_power_of_the_margin(margins, normal, power):
    g, plain = (
        calibrated_loss_derivatives(margins, tail=tail, tail_power=power, normal=normal) for tail in ("inverse", "none")
    )
    beyond = margins > 1
    assert torch.allclose(((-g - 1e-6) * margins**power)[beyond], (-plain - 1e-6)[beyond], atol=1e-14)
    assert torch.equal(g[~beyond], plain[~beyond])
    g = calibrated_loss_derivatives(margins, tail="log2", normal=normal)
    far = margins > math.e
    lowered = (-g - 1e-6) * margins * margins.clamp(min=1.1).log().square()
    assert torch.allclose(lowered[far], (-plain - 1e-6)[far], atol=1e-14)
    assert torch.equal(g[~far], plain[~far])


def test_the_gradient_is_the_derivative_and_goes_no_further(normal):
    score = torch.randn(B, generator=drawn(3), dtype=torch.float64, requires_grad=True)
    target = torch.randint(2, (B,), generator=drawn(4))
    signs = 2.0 * target - 1
    (gradient,) = torch.autograd.grad(ens_loss(score, target, normal=normal), score, create_graph=True)
    g = calibrated_loss_derivatives((signs * score).detach(), normal=normal)
    assert torch.equal(gradient, signs * g / B)
    assert not gradient.requires_grad
    assert not calibrated_loss_derivatives(score * signs, normal=normal).requires_grad


def test_an_order_of_the_batch_orders_the_derivatives(margins):
    order = torch.randperm(B, generator=drawn(5))
    first, second = (calibrated_loss_derivatives(m, generator=drawn(6)) for m in (margins, margins[order]))
    assert torch.equal(first[order], second)
    assert torch.equal(first, calibrated_loss_derivatives(margins, generator=drawn(6)))
    assert not torch.equal(first, calibrated_loss_derivatives(margins, generator=drawn(7)))


def test_labels_of_all_kinds_agree():
    score, target = torch.randn(B, generator=drawn(1)), torch.randint(2, (B,), generator=drawn(2))
    forms = [target, target.bool(), target.float(), 2 * target - 1, target.unsqueeze(1), 2.0 * target - 1]
    losses = [ens_loss(score, form, generator=drawn()) for form in forms]
    losses += [ens_loss(score.unsqueeze(1), target, generator=drawn())]
    assert all(torch.equal(loss, losses[0]) for loss in losses)


def test_equal_margins_keep_their_order():
    sizes = calibrated_loss_derivatives(torch.zeros(9, dtype=torch.float64), generator=drawn())
    assert torch.equal(sizes, sizes.sort().values)


def test_moments_of_the_clipped_sizes():
    many = torch.randn(400_000, generator=drawn(), dtype=torch.float64)
    sizes = sizes_of(many)
    below = 0.5 * math.erfc(1 / math.sqrt(2))
    assert abs(float((sizes == 1).double().mean()) - 0.5) < 3e-3
    assert abs(float(sizes.mean()) - (0.5 + math.exp(0.5) * below)) < 2e-3
    assert torch.allclose(sizes_of(many, lam=1.0), (1 + many).clamp(0, 1), atol=1e-14)
    reciprocal = torch.where(many < 1, 1 / (1 - many), math.inf).clamp(max=1)
    assert torch.allclose(sizes_of(many, lam=-1.0), reciprocal, rtol=1e-12)
    assert torch.allclose(sizes_of(many, lam=1e-9, clip=None), many.exp(), rtol=1e-6)


def test_constant_sizes_are_fixed_losses(margins):
    zeros = torch.zeros(B, dtype=torch.float64)
    score = margins.clone().requires_grad_()
    ones = torch.ones(B)
    (linear,) = torch.autograd.grad(ens_loss(score, ones, normal=zeros, tail="none", eps=0.0), score)
    assert torch.equal(linear, torch.full_like(linear, -1 / B))
    (tailed,) = torch.autograd.grad(ens_loss(score, ones, normal=zeros, eps=0.0), score)
    (fixed,) = torch.autograd.grad(LogHinge()(score, ones), score)
    assert torch.allclose(tailed, fixed, atol=1e-17)


def test_sizes_of_a_logistic_function_are_cross_entropy(margins):
    sizes = torch.sigmoid(-margins)
    score = margins.clone().requires_grad_()
    found = ens_loss(score, torch.ones(B), normal=sizes.log(), clip=None, tail="none", eps=0.0)
    (gradient,) = torch.autograd.grad(found, score)
    assert torch.allclose(gradient, -sizes / B, atol=1e-16)  # σ(-s) falls in s, as the sort has it


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 0.9])
def test_a_score_of_one_point_ends_on_the_side_of_the_majority(share):
    generator = drawn(11)
    score = torch.zeros(1, dtype=torch.float64)
    for step in range(4000):
        target = (torch.rand(16, generator=generator) < share).double()
        signs = 2 * target - 1
        g = calibrated_loss_derivatives(signs * score, generator=generator)
        score = score - 0.1 / (1 + step / 400) * (signs * g).mean()
    assert torch.sign(score) == math.copysign(1, share - 0.5)


def test_batches_of_one_and_of_very_large_margins():
    assert calibrated_loss_derivatives(torch.tensor([3.0]), generator=drawn()).shape == (1,)
    for tail in ("inverse", "log2", "none"):
        g = calibrated_loss_derivatives(torch.tensor([-200.0, 0.0, 200.0, 1e30]), tail=tail, generator=drawn())
        assert g.isfinite().all() and (g <= -1e-6).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype):
    score = torch.randn(B, generator=drawn(1)).to(dtype).requires_grad_()
    target = torch.ones(B)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ens_loss(score, target, generator=drawn())
    assert loss.dtype == torch.float32
    assert torch.equal(loss, ens_loss(score.float(), target, generator=drawn()))
    loss.backward()
    assert score.grad.dtype == dtype


def test_two_logits_are_their_difference_and_several_one_against_the_rest():
    labels = torch.randint(2, (B,), generator=drawn(2))
    logits = torch.randn(B, 2, generator=drawn(1), dtype=torch.float64)
    loss = EnsLoss(generator=drawn())
    assert torch.equal(loss(logits, labels), EnsLoss(generator=drawn())(logits[:, 1] - logits[:, 0], labels))
    logits = torch.randn(B, 4, generator=drawn(1), dtype=torch.float64)
    labels = torch.randint(4, (B,), generator=drawn(2))
    normal = torch.randn(B, 4, generator=drawn(3), dtype=torch.float64)
    alone = [ens_loss(logits[:, k], labels == k, normal=normal[:, k]) for k in range(4)]
    assert torch.isclose(loss.values(logits, labels, normal).mean(), torch.stack(alone).mean())
    assert loss.drawn(B, 4).shape == (B, 4) and loss.drawn(B, 2).shape == (B,)


def test_weights_of_samples_are_those_of_a_mean():
    score, target = torch.randn(8, generator=drawn(1)), torch.tensor([0, 1] * 4)
    weight = torch.arange(8.0)
    normal = torch.randn(8, generator=drawn(2))
    signs = 2.0 * target - 1
    values = calibrated_loss_derivatives(signs * score, normal=normal) * signs * score
    found = ens_loss(score, target, sample_weight=weight, normal=normal)
    assert torch.isclose(found, (weight * values).sum() / weight.sum())
    even = EnsLoss(generator=drawn())(score, target, torch.full((8,), 3.0))
    assert torch.isclose(even, EnsLoss(generator=drawn())(score, target))


def test_lam_can_be_drawn_anew():
    loss = EnsLoss(generator=drawn())
    seen = []
    for _ in range(50):
        loss.redraw()
        seen.append(loss.lam)
    assert -1 <= min(seen) < -0.5 and 0.5 < max(seen) <= 1


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: ens_loss(torch.zeros(4, 1), torch.zeros(3)), "there are 4 scores and 3 labels. Give a label for each"),
        (lambda: ens_loss(torch.zeros(4), torch.zeros(4, 4)), "labels have shape (4, 4); give [sample] or [sample, 1]"),
        (lambda: ens_loss(torch.zeros(4, 2), torch.zeros(4)), "scores have shape (4, 2); give [sample] or [sample, 1]"),
        (lambda: ens_loss(torch.zeros(0), torch.zeros(0)), "there are 0 scores and 0 labels"),
        (lambda: ens_loss(torch.zeros(2), torch.tensor([0.3, 1])), "a label is 0.3; give 0 and 1, or -1 and 1."),
        (lambda: ens_loss(torch.zeros(3), torch.tensor([0, 1, -1])), "a label is 0; give 0 and 1, or -1 and 1."),
        (lambda: ens_loss(torch.zeros(2), torch.tensor([1, math.nan])), "a label is nan; give 0 and 1"),
        (lambda: ens_loss(torch.zeros(2), torch.ones(2), sample_weight=torch.ones(3)), "3 weights for 2 samples"),
        (lambda: ens_loss(torch.zeros(2), torch.ones(2), sample_weight=torch.tensor([1.0, -1])), "at least 0"),
        (lambda: ens_loss(torch.zeros(2), torch.ones(2), sample_weight=torch.zeros(2)), "one above 0"),
        (lambda: EnsLoss(lam=-0.5, clip=None), "lam is -0.5, with which derivatives can be infinite. Set clip."),
        (lambda: EnsLoss(tail_power=-1), "tail_power is -1; it must be at least 0."),
        (lambda: EnsLoss(lam=math.nan), "lam is nan; it must be a finite number."),
        (lambda: EnsLoss(lam=math.inf), "lam is inf; it must be a finite number."),
        (lambda: ens_loss(torch.zeros(1), torch.ones(1), sample_weight=torch.tensor([math.inf])), "must be finite"),
        (lambda: EnsLoss(clip=math.nan), "clip is nan; it must be at least 0."),
        (lambda: EnsLoss()(torch.zeros(2, 3), torch.tensor([0, 3])), "a label is 3; classes are 0 to 2."),
        (lambda: EnsLoss()(torch.zeros(2, 3), torch.zeros(2)), "labels are of type torch.float32; give the number of"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(call, words):
    with pytest.raises(InputError, match=re.escape(words)) as told:
        call()
    assert "\n" not in str(told.value)


def test_numbers_of_numpy_are_numbers_and_settings_are_shown():
    assert checked_setting("gamma", np.float32(0.5)) == 0.5
    assert repr(EnsLoss(lam=0.5)) == "EnsLoss(lam=0.5, clip=1.0, tail='inverse', tail_power=1.0)"
