"""Stored answers as distributions: what is lumped, spread or dropped, and how exactly they are stored."""

import itertools
import math

import pytest
import torch

from attar.core.errors import InputError
from attar.language.answer_formats import bytes_per_token, decoded, encoded, kinds_of
from attar.language.clipping import Clipping
from attar.language.divergences import Objective
from attar.language.losses import Places, Terms, chunked_loss
from attar.language.recalled import Recalled

DIVERGENCES = ("forward", "reverse", "symmetric", "jsd", "tvd", "skew-forward", "skew-reverse")
LABELS = torch.tensor([[-100, -100, 3, 1, 0, 7, 2], [-100, 5, 5, 8, -100, -100, -100]])
PLACES = Places.of(LABELS)


def recalled(logits, top, how="lump"):
    """What a store without rounding recalls of a teacher's logits."""
    log_p = torch.log_softmax(logits.reshape(-1, logits.shape[-1])[PLACES.rows], dim=1)
    if top == logits.shape[-1]:
        return Recalled(log_p, None, None, how)
    kept, tokens = log_p.topk(top, dim=1)
    rest = log_p.scatter(1, tokens, -torch.inf).logsumexp(dim=1, keepdim=True)
    return Recalled(kept, tokens, rest, how)


def loss_and_gradient(student, other, **terms):
    student = student.clone().requires_grad_()
    loss, _ = chunked_loss(student, other, PLACES, Terms(**terms), chunk=2)
    loss.backward()
    return loss.detach(), student.grad


def lumped(log_p, tokens):
    """The distribution in which all other tokens are one."""
    kept = log_p.gather(1, tokens)
    rest = log_p.scatter(1, tokens, -torch.inf).logsumexp(dim=1, keepdim=True)
    return torch.cat([kept, rest], dim=1)


def divergence(objective, log_p, log_q):
    """The same, written out, for autograd."""
    p, q = log_p.exp(), log_q.exp()

    def kl(one, log_one, other):
        return (one * (log_one - other)).sum()

    skew, beta, share = objective.skew, objective.jsd_beta, objective.reverse_share
    middle = (beta * p + (1 - beta) * q).log()
    return {
        "forward": lambda: kl(p, log_p, log_q),
        "reverse": lambda: kl(q, log_q, log_p),
        "symmetric": lambda: (1 - share) * kl(p, log_p, log_q) + share * kl(q, log_q, log_p),
        "jsd": lambda: beta * kl(p, log_p, middle) + (1 - beta) * kl(q, log_q, middle),
        "tvd": lambda: (p - q).abs().sum() / 2,
        "skew-forward": lambda: kl(p, log_p, (skew * p + (1 - skew) * q).log()),
        "skew-reverse": lambda: kl(q, log_q, ((1 - skew) * p + skew * q).log()),
    }[objective.divergence]()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_lump_is_one_token_in_value_and_gradient(logits, name):
    """Computed over the whole vocabulary, it is the divergence of the two distributions of K tokens and a rest."""
    one, other = logits, logits.flip(1).roll(1, dims=2)
    objective = Objective(divergence=name)
    stored = recalled(other, 3)
    found, gradient = loss_and_gradient(one, stored, teacher=1.0, labels=0.3, objective=objective)
    student = one.clone().requires_grad_()
    rows = torch.log_softmax(student.reshape(-1, 9)[PLACES.rows], dim=1)
    teacher = torch.log_softmax(other.reshape(-1, 9)[PLACES.rows], dim=1)
    log_q, log_p = lumped(rows, stored.tokens), lumped(teacher, stored.tokens)
    labels = -rows.gather(1, PLACES.targets.unsqueeze(1)).sum()
    wanted = divergence(objective, log_p, log_q) + 0.3 * labels
    wanted.backward()
    torch.testing.assert_close(found, wanted.detach())
    torch.testing.assert_close(gradient, student.grad)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_all_tokens_are_the_teacher_itself(logits, name):
    one, other = logits, logits.flip(1).roll(1, dims=2)
    terms = {"teacher": 0.7, "labels": 1.0, "spans": 0.2, "objective": Objective(divergence=name, temperature=2.0)}
    for found, wanted in zip(
        loss_and_gradient(one, recalled(other, 9), **terms), loss_and_gradient(one, other, **terms), strict=True
    ):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_rest_of_one_token_is_that_token(logits, name):
    """Then lump is the teacher itself, and so is spread, at any temperature and with spans."""
    one, other = logits, logits.flip(1).roll(1, dims=2)
    for how, temperature, spans in (("lump", 1.0, 0.0), ("spread", 1.0, 0.4), ("spread", 2.5, 0.4)):
        objective = Objective(divergence=name, temperature=temperature)
        terms = {"teacher": 0.7, "labels": 0.3, "spans": spans, "objective": objective}
        found = loss_and_gradient(one, recalled(other, 8, how), **terms)
        for here, there in zip(found, loss_and_gradient(one, other, **terms), strict=True):
            torch.testing.assert_close(here, there)


def test_a_lump_never_exceeds_the_divergence_of_all_tokens(logits):
    one, other = logits, logits.flip(1).roll(1, dims=2)
    values = [loss_and_gradient(one, recalled(other, top), teacher=1.0)[0] for top in range(1, 10)]
    assert all(low <= high + 1e-12 for low, high in itertools.pairwise(values))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_a_spread_rest_is_a_teacher_with_equal_logits_there(logits, temperature):
    one, other = logits, logits.flip(1)
    stored = recalled(other, 4, "spread")
    dense = torch.zeros_like(other)
    even = (stored.rest - math.log(5)).expand(-1, 9).scatter(1, stored.tokens, stored.kept)
    dense.reshape(-1, 9)[PLACES.rows] = even
    terms = {"teacher": 1.0, "spans": 0.5, "objective": Objective(divergence="jsd", temperature=temperature)}
    for found, wanted in zip(
        loss_and_gradient(one, stored, **terms), loss_and_gradient(one, dense, **terms), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_a_dropped_rest_is_the_clip_by_number(logits):
    """Where the label is among the kept tokens, which the clip always keeps."""
    one, other = logits, logits.flip(1).clone()
    other.reshape(-1, 9)[PLACES.rows, PLACES.targets] = 6.0
    clip = Clipping(teacher_clip="top-k", top_k=4)
    stored = recalled(other, 4, "drop")
    found = loss_and_gradient(one, stored, teacher=1.0)
    wanted = loss_and_gradient(one, other, teacher=1.0, clipping=clip)
    for here, there in zip(found, wanted, strict=True):
        torch.testing.assert_close(here, there)


def test_nothing_is_learned_from_a_student_s_own_answers(logits):
    for how in ("lump", "spread"):
        same = recalled(logits, 9, how)
        _, gradient = loss_and_gradient(logits, same, teacher=1.0)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient))
    _, gradient = loss_and_gradient(logits, recalled(logits, 3), teacher=1.0, objective=Objective(divergence="jsd"))
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("kind", ["float16", "int8"])
@pytest.mark.parametrize(("top", "words"), [(64, 300), (300, 300), (1, 300), (40, 70_000)])
def test_what_is_stored_comes_back_within_its_bound(kind, top, words):
    """Each log-probability to |log p| / 1024, or to the distance of the kept ones over 255; and it sums to one."""
    draw = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2, 7, words, generator=draw)
    parts, told = encoded(logits, PLACES, words=words, top=top, kind=kind)
    kept, tokens, rest = decoded(parts)
    log_p = torch.log_softmax(logits.reshape(-1, words)[PLACES.rows], dim=1)
    wanted = log_p if tokens is None else log_p.gather(1, tokens)
    assert (tokens is None) == (top == words)
    if tokens is not None:
        torch.testing.assert_close(tokens, log_p.topk(top, dim=1).indices)
        total = torch.cat([kept, rest], dim=1)
        others = log_p.scatter(1, tokens, -torch.inf).logsumexp(dim=1, keepdim=True)
        wanted, kept = torch.cat([wanted, others], dim=1), total
    torch.testing.assert_close(kept.exp().sum(dim=1), torch.ones(len(PLACES)))
    span = wanted[:, :top].amax(dim=1) - wanted[:, :top].amin(dim=1)
    bound = wanted.abs().amax(dim=1) / 1024 if kind == "float16" else span / 255
    assert ((kept - wanted).abs().amax(dim=1) <= bound + 1e-5).all()
    size = sum(part[0].numel() * part.element_size() for part in parts.values())
    assert size == bytes_per_token(top, words, kind)
    assert {name: (part.dtype, part.shape[1]) for name, part in parts.items()} == kinds_of(top, words, kind)
    torch.testing.assert_close(told[:, 1], log_p.gather(1, PLACES.targets.unsqueeze(1)).squeeze(1))


@pytest.mark.parametrize("kind", ["float16", "int8"])
@pytest.mark.parametrize("masked", [-1e4, -1e9, -1e30])
def test_tokens_that_a_teacher_masks_leave_the_others_exact(kind, masked):
    logits = torch.randn(2, 7, 9, generator=torch.Generator().manual_seed(0))
    logits[..., 4:] = masked
    kept, tokens, _ = decoded(encoded(logits, PLACES, words=9, top=6, kind=kind)[0])
    wanted = torch.log_softmax(logits.reshape(-1, 9)[PLACES.rows], dim=1).exp().gather(1, tokens)
    torch.testing.assert_close(kept.exp(), wanted, rtol=0.25, atol=1e-6)


@pytest.mark.parametrize("token", [0, 4])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [(-math.inf, "rules out tokens"), (math.nan, "hold NaN or infinity"), (math.inf, "hold NaN or infinity")],
)
def test_logits_that_cannot_be_stored_are_refused(value, sentence, token):
    logits = torch.zeros(2, 7, 9)
    logits[..., token] = value
    with pytest.raises(InputError, match=sentence):
        encoded(logits, PLACES, words=9, top=3, kind="float16")


def test_answers_to_other_tokens_are_refused(logits):
    short = recalled(logits, 3)
    short = Recalled(short.kept[1:], short.tokens[1:], short.rest[1:])
    with pytest.raises(InputError, match="stored answers are for 7 tokens, but 8 count"):
        chunked_loss(logits, short, PLACES, Terms(teacher=1.0))
