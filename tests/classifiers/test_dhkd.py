import math

import pytest
import torch
import torch.nn.functional as F

from attar.classifiers.dhkd import AuxiliaryHead, aligned, binary_kl, binary_kl_norm, log_cosh, squared_error
from attar.classifiers.kd import kd_loss


@pytest.fixture
def pair():
    draw = torch.Generator().manual_seed(0)
    return [3 * torch.randn(6, 4, generator=draw, dtype=torch.float64) for _ in range(2)]


def bernoulli_kl(p, q):
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def test_binary_kl_and_its_gradient(pair):
    a, t = pair[0].requires_grad_(), pair[1]
    loss = binary_kl(a, t, 2.0)
    loss.backward()
    s_a, s_t = torch.sigmoid(a.detach() / 2), torch.sigmoid(t / 2)
    assert torch.isclose(loss, 4 * bernoulli_kl(s_t, s_a).sum(dim=1).mean(), atol=1e-12)
    assert torch.allclose(a.grad, 2 * (s_a - s_t) / 6, atol=1e-12)


def test_the_norm_form_is_a_log_cosh(pair):
    a, t = pair[0].requires_grad_(), pair[1]
    loss = binary_kl_norm(a, t, 2.0)
    loss.backward()
    plain = bernoulli_kl(torch.full_like(t, 0.5), torch.sigmoid((a.detach() - t) / 2))
    assert torch.isclose(loss, 4 * plain.sum(dim=1).mean(), atol=1e-12)
    assert torch.allclose(a.grad, torch.tanh((a.detach() - t) / 4) / 6, atol=1e-12)


def test_hot_limits_are_an_eighth_of_the_squared_error(pair):
    limit = (pair[0] - pair[1]).square().sum(dim=1).mean() / 8
    for loss in (binary_kl, binary_kl_norm):
        assert torch.isclose(loss(*pair, 500.0), limit, rtol=1e-4)
    assert torch.isclose(squared_error(*pair), limit)
    assert torch.isclose(squared_error(*pair, classes="mean"), limit / 4)


def test_a_cold_limit_is_the_absolute_error(pair):
    tau = 1e-6
    limit = tau / 2 * (pair[0] - pair[1]).abs().sum(dim=1).mean()
    assert torch.isclose(binary_kl_norm(*pair, tau), limit, rtol=1e-3)


def test_they_see_what_softmax_forgets(pair):
    a, t = pair
    assert torch.isclose(kd_loss(a + 1, t), kd_loss(a, t))
    assert not torch.isclose(binary_kl(a + 1, t), binary_kl(a, t))
    assert not torch.isclose(binary_kl_norm(a + 1, t), binary_kl_norm(a, t))
    assert torch.isclose(binary_kl_norm(a + 1, t + 1), binary_kl_norm(a, t))
    assert not torch.isclose(binary_kl(a + 1, t + 1), binary_kl(a, t))
    for loss in (binary_kl, binary_kl_norm):
        assert loss(t, t).abs() < 1e-12
        assert torch.isclose(loss(a, t, classes="mean") * 4, loss(a, t))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_overflows(dtype):
    far = torch.tensor([[1e4, -1e4]], dtype=dtype, requires_grad=True)
    for loss in (binary_kl, binary_kl_norm):
        value = loss(far, torch.zeros_like(far))
        value.backward()
        assert value.isfinite()
        assert far.grad.isfinite().all()
    assert math.isclose(float(log_cosh(torch.tensor(0.0))), 0.0, abs_tol=1e-7)


def test_a_gradient_against_the_main_one_is_projected():
    draw = torch.Generator().manual_seed(1)
    main = [torch.randn(3, 2, generator=draw), None, torch.randn(4, generator=draw)]
    other = [-main[0] + 0.1 * torch.randn(3, 2, generator=draw), torch.ones(2), None]
    total = aligned(main, other)
    flat = torch.cat([main[0].flatten(), main[2]])
    rest = torch.cat([(total[0] - main[0]).flatten(), total[2] - main[2]])
    assert flat @ rest >= -1e-5
    assert torch.equal(total[1], other[1])


@pytest.mark.parametrize("shared", [False, True])
def test_what_is_left_of_the_other_gradient_is_not_against_the_main_one(shared):
    draw = torch.Generator().manual_seed(2)
    for _ in range(20):
        both = [torch.randn(7, generator=draw, dtype=torch.float64) for _ in range(2)]
        own, second = torch.randn(3, generator=draw, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
        total = aligned([both[0], own, None], [both[1], None, second], shared=shared)
        kept_main = both[0] if shared else torch.cat([both[0], own])
        rest = total[0] - both[0] if shared else torch.cat([total[0] - both[0], total[1] - own])
        assert kept_main @ rest >= -1e-10
        if both[0] @ both[1] >= 0:
            assert torch.equal(total[0], both[0] + both[1])
            assert torch.equal(total[1], own)
        assert not shared or torch.equal(total[1], own)


def test_tied_heads_are_a_single_head():
    draw = torch.Generator().manual_seed(3)
    features, teacher = torch.randn(5, 8, generator=draw), torch.randn(5, 3, generator=draw)
    kept, second = torch.nn.Linear(8, 3), AuxiliaryHead(8, 3, hidden=None)
    second[0].load_state_dict(kept.state_dict())
    gradients = []
    for head in (kept, second):
        seen = features.clone().requires_grad_()
        binary_kl_norm(head(seen), teacher).backward()
        gradients.append(seen.grad)
    assert torch.equal(*gradients)


def test_gradients_that_agree_are_added():
    main, other = [torch.tensor([1.0, 2.0]), None], [torch.tensor([2.0, 0.0]), torch.ones(1)]
    assert torch.equal(aligned(main, other)[0], torch.tensor([3.0, 2.0]))
    nothing = [torch.zeros(2), None]
    assert torch.equal(aligned(nothing, other)[0], other[0])


def test_the_second_head_comes_in_two_forms():
    features = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert AuxiliaryHead(8, 3)(features).shape == (5, 3)
    assert len(AuxiliaryHead(8, 3, hidden=None)) == 1
    F.cross_entropy(AuxiliaryHead(8, 3)(features), torch.zeros(5, dtype=torch.long)).backward()
