import math

import pytest
import torch

from attar.language.divergences import Objective

KINDS = ["forward", "reverse", "symmetric", "jsd", "tvd", "skew-forward", "skew-reverse"]


def beliefs(logits):
    log = torch.log_softmax(logits, dim=1)
    return log, log.exp()


def value(teacher, student, **settings):
    return Objective(**settings).measure(*beliefs(teacher), *beliefs(student))[0]


def by_definition(teacher, student, kind, beta=0.5, share=0.9, skew=0.1):
    """The sheet's table, term by term."""
    p, q = teacher.softmax(1), student.softmax(1)

    def kl(one, other):
        return (one * (one / other).log()).sum(1)

    return {
        "forward": kl(p, q),
        "reverse": kl(q, p),
        "symmetric": (1 - share) * kl(p, q) + share * kl(q, p),
        "jsd": beta * kl(p, beta * p + (1 - beta) * q) + (1 - beta) * kl(q, beta * p + (1 - beta) * q),
        "tvd": (p - q).abs().sum(1) / 2,
        "skew-forward": kl(p, skew * p + (1 - skew) * q),
        "skew-reverse": kl(q, (1 - skew) * p + skew * q),
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_its_definition(kind, logits):
    teacher, student = logits
    torch.testing.assert_close(value(teacher, student, divergence=kind), by_definition(teacher, student, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_none_is_negative_and_all_are_zero_at_a_match(kind, logits):
    teacher, student = logits
    assert (value(teacher, student, divergence=kind) > 0).all()
    at_match, slope = Objective(divergence=kind).measure(*beliefs(teacher), *beliefs(teacher))
    torch.testing.assert_close(at_match, torch.zeros(7, dtype=torch.float64), atol=1e-14, rtol=0)
    q = teacher.softmax(1)
    assert (slope - q * slope.sum(1, keepdim=True)).abs().max() < 1e-14


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_give_the_gradient_in_the_logits(kind, logits):
    teacher, student = logits
    _, slope = Objective(divergence=kind).measure(*beliefs(teacher), *beliefs(student))
    free = student.clone().requires_grad_()
    by_definition(teacher, free, kind).sum().backward()
    torch.testing.assert_close(slope - student.softmax(1) * slope.sum(1, keepdim=True), free.grad)


def test_jsd_is_symmetric_at_one_half(logits):
    teacher, student = logits
    both = (value(*pair, divergence="jsd", jsd_beta=0.5) for pair in ((teacher, student), (student, teacher)))
    torch.testing.assert_close(*both)


@pytest.mark.parametrize(("beta", "limit"), [(1e-6, "forward"), (1 - 1e-6, "reverse")])
def test_jsd_over_its_weight_tends_to_either_divergence(beta, limit, logits):
    found = value(*logits, divergence="jsd", jsd_beta=beta) / min(beta, 1 - beta)
    torch.testing.assert_close(found, value(*logits, divergence=limit), rtol=1e-3, atol=0)
    ends = value(*logits, divergence="jsd", jsd_beta=float(round(beta)))
    torch.testing.assert_close(ends, value(*logits, divergence=limit))


def test_skew_tends_to_the_plain_divergence(logits):
    for name in ("forward", "reverse"):
        found = value(*logits, divergence=f"skew-{name}", skew=1e-9)
        torch.testing.assert_close(found, value(*logits, divergence=name), rtol=1e-5, atol=0)


def test_skew_is_finite_where_the_other_has_nothing():
    sure, other = torch.tensor([[0.0, -math.inf]]), torch.tensor([[-math.inf, 0.0]])
    bound = torch.tensor([-math.log(0.1)])
    for name in ("skew-forward", "skew-reverse"):
        torch.testing.assert_close(value(sure, other, divergence=name), bound)
    assert value(sure, other, divergence="forward").isinf().all()


def test_total_variation_goes_from_nothing_to_one():
    sure, other = torch.tensor([[0.0, -100.0]]), torch.tensor([[-100.0, 0.0]])
    assert value(sure, other, divergence="tvd") == 1
    assert value(sure, sure, divergence="tvd") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_words_that_cannot_come_add_nothing(kind, logits):
    teacher, student = logits
    never = torch.full((7, 2), -math.inf, dtype=torch.float64)
    padded = value(torch.cat([teacher, never], 1), torch.cat([student, never], 1), divergence=kind)
    torch.testing.assert_close(padded, value(teacher, student, divergence=kind))
