import pytest
import torch

from attar.core.errors import InputError
from attar.language.aligned import Aligned, aligned_loss, aligned_terms, likelihood, merged
from attar.language.alignment import Alignment
from attar.language.divergences import Objective
from attar.language.losses import Places
from attar.language.objective import distillation_loss
from attar.language.uld import sorted_distance, uld_loss
from attar.language.wordmap import WordMap

DIVERGENCES = ["forward", "reverse", "symmetric", "jsd", "tvd", "skew-forward", "skew-reverse"]
LABELS = torch.tensor([[-100, -100, 3, 1, 4, -100], [-100, 2, 2, 0, -100, -100]])
"""Answers of three tokens each, of a vocabulary of five."""
SINGLE = [[(n, n + 1, n, n + 1) for n in (2, 3, 4)], [(n, n + 1, n, n + 1) for n in (1, 2, 3)]]
SPANS = [[(2, 4, 3, 4), (4, 5, 4, 7)], [(1, 2, 1, 2), (2, 4, 2, 4)]]
"""Two tokens of the student for one of the teacher's, one for three, one for one, and two for two."""
TEACHERS = torch.tensor([[0, 0, 0, 5, 1, 6, 2], [0, 1, 2, 3, 0, 0, 0]])
PAIRS = {0: 6, 2: 0, 3: 4}


@pytest.fixture
def equal(generator):
    """Logits of two models of one vocabulary."""
    return 2 * torch.randn(2, 2, 6, 5, dtype=torch.float64, generator=generator)


@pytest.fixture
def models(generator):
    """Logits of a student of five words and of a teacher of seven."""
    draw = {"dtype": torch.float64, "generator": generator}
    return 2 * torch.randn(2, 6, 5, **draw), 2 * torch.randn(2, 7, 7, **draw)


def of_equal(**settings):
    words = WordMap.of({n: n for n in range(5)}, 5, 5)
    return Aligned.of(SINGLE, LABELS, LABELS, words, Alignment(**{"align_by": "spans", **settings}))


def apart(**settings):
    words = WordMap.of(PAIRS, 5, 7)
    return Aligned.of(SPANS, LABELS, TEACHERS, words, Alignment(**{"align_by": "spans", **settings}))


def chain(logits, ids, row, first, stop, merge):
    """The distribution of a span times the probabilities of its other tokens, and the probability of the span."""
    at = range(first, stop)
    own = first if merge == "first" else stop - 1
    d = {n: logits[row, n - 1].softmax(0) for n in at}
    whole = 1.0
    for n in at:
        whole = whole * d[n][ids[row, n]]
    return d[own] * whole / d[own][ids[row, own]], whole


def every_span(models, merge):
    student, teacher = models
    for row, spans in enumerate(SPANS):
        for a, b, c, d in spans:
            yield chain(student, LABELS, row, a, b, merge), chain(teacher, TEACHERS, row, c, d, merge)


def kl(p, q):
    return (p * (p / q).log()).sum()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("weight", ["mass", "count"])
def test_equal_tokenizers_give_the_plain_divergence(equal, divergence, weight, temperature):
    student, teacher = equal
    objective = Objective(divergence=divergence, label_weight=0.0, temperature=temperature)
    found = []
    for loss in (
        lambda x: distillation_loss(x, teacher, LABELS, objective=objective),
        lambda x: aligned_loss(x, teacher, of_equal(hybrid_weight=weight), objective),
    ):
        free = student.clone().requires_grad_()
        value = loss(free)
        value.backward()
        found.append((value.detach(), free.grad))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)


def test_equal_tokenizers_in_float32_and_with_words_ruled_out(equal):
    student, teacher = (x.float() for x in equal)
    teacher[:, :, 2] = -torch.inf
    plain = distillation_loss(student, teacher, LABELS, objective=Objective(label_weight=0.0))
    torch.testing.assert_close(aligned_loss(student, teacher, of_equal()), plain, rtol=0, atol=1e-6)


def test_the_labels_beside_it_are_those_of_the_plain_loss(equal):
    student, teacher = (x.float() for x in equal)
    places = Places.of(LABELS)
    each = 1 / len(places)
    loss, sums = aligned_terms(
        student, teacher, of_equal(), Objective(), places=places, by_labels=0.5 * each, by_teacher=2 * each
    )
    plain = distillation_loss(student, teacher, LABELS, objective=Objective(label_weight=0.5, teacher_weight=2.0))
    torch.testing.assert_close(loss, plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(0.5 * each * sums[0] + 2 * each * sums[1], loss)


def test_positions_in_spans_are_uld(equal):
    student, teacher = equal
    torch.testing.assert_close(
        aligned_loss(student, teacher, of_equal(align_by="uld")), uld_loss(student, teacher, LABELS, LABELS)
    )


@pytest.mark.parametrize("divergence", ["forward", "reverse", "jsd", "tvd"])
def test_a_likelihood_sees_no_more_than_all_words(equal, divergence):
    """At τ = 1 it is the divergence of "this token" and "another one", which lumping makes no larger."""
    student, teacher = equal
    objective = Objective(divergence=divergence, label_weight=0.0)
    known = of_equal(align_by="likelihood", likelihood_temperature=1.0)
    found = aligned_loss(student, teacher, known, objective)
    assert 0 < found <= distillation_loss(student, teacher, LABELS, objective=objective)
    q, p = (torch.stack([x[row, a - 1].softmax(0)[LABELS[row, a]] for row, several in enumerate(SINGLE)
                         for a, *_ in several]) for x in equal)  # fmt: skip
    if divergence == "tvd":
        torch.testing.assert_close(found, (p - q).abs().mean())


def test_both_merges_give_a_span_one_likelihood(models):
    student, _ = models
    side = apart().student
    log_q = student.reshape(-1, 5)[side.rows].log_softmax(1)
    one, other = (merged(log_q, side.targets, side.starts, merge) for merge in ("first", "last"))
    torch.testing.assert_close(one.log_likelihood, other.log_likelihood)
    for found in (one, other):  # what the merged distribution adds up to is the probability of the other tokens
        torch.testing.assert_close(found.mass(torch.arange(5)).sum(1).log(), found.log_others)


@pytest.mark.parametrize("merge", ["first", "last"])
def test_sorted_spans_are_as_defined(models, merge):
    spans = list(every_span(models, merge))
    expected = sum(sorted_distance(p[None], q[None]) for (q, _), (p, _) in spans) / len(spans)
    found = aligned_loss(*models, apart(span_words="sorted", span_merge=merge))
    torch.testing.assert_close(found, expected.squeeze())


@pytest.mark.parametrize("weight", ["mass", "count"])
@pytest.mark.parametrize("merge", ["first", "last"])
def test_hybrid_spans_are_as_defined(models, merge, weight):
    total, spans = 0.0, list(every_span(models, merge))
    for (q, _), (p, _) in spans:
        p_m, q_m = p[[6, 0, 4]], q[[0, 2, 3]]
        m, u = (p_m.sum(), 1.0) if weight == "mass" else (3 / 7, 4 / 7)
        total += m * kl(p_m / p_m.sum(), q_m / q_m.sum())
        total += u * sorted_distance(p[[1, 2, 3, 5]][None], q[[1, 4]][None]).squeeze()
    found = aligned_loss(*models, apart(span_merge=merge, hybrid_weight=weight))
    torch.testing.assert_close(found, total / len(spans))


@pytest.mark.parametrize("divergence", ["forward", "tvd"])
def test_likelihoods_are_as_defined(models, divergence):
    total, spans, tau = 0.0, list(every_span(models, "first")), 7.0
    for (_, q), (_, p) in spans:
        one, other = (torch.stack([x ** (1 / tau), 1 - x ** (1 / tau)]) for x in (p, q))
        total += tau * (kl(one, other) if divergence == "forward" else (one - other).abs().sum() / 2)
    settings = apart(align_by="likelihood", likelihood_temperature=tau)
    torch.testing.assert_close(aligned_loss(*models, settings, Objective(divergence=divergence)), total / len(spans))


@pytest.mark.parametrize("merge", ["first", "last"])
@pytest.mark.parametrize("settings", [{}, {"span_words": "sorted"}, {"align_by": "likelihood"}])
def test_gradients_are_those_of_the_loss(models, differences, settings, merge):
    student, teacher = models
    aligned, objective = apart(span_merge=merge, **settings), Objective(divergence="jsd", temperature=1.3)
    free = student.clone().requires_grad_()
    aligned_loss(free, teacher, aligned, objective).backward()
    found = differences(lambda x: aligned_loss(x, teacher, aligned, objective), student)
    torch.testing.assert_close(free.grad, found, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
def test_chunks_are_of_whole_spans_and_add_up(models, size, monkeypatch):
    aligned = apart()
    parts = list(aligned.chunks(size))
    assert torch.cat([mine.rows for mine, _ in parts]).tolist() == aligned.student.rows.tolist()
    assert torch.cat([theirs.targets for _, theirs in parts]).tolist() == aligned.teacher.targets.tolist()
    assert all(len(s.starts) == 2 or max(len(s.rows), len(t.rows)) <= size for s, t in parts)
    whole = aligned_loss(*models, aligned)
    monkeypatch.setattr("attar.language.aligned.tokens_at_once", lambda device, words: size)
    torch.testing.assert_close(aligned_loss(*models, aligned), whole)


@pytest.mark.parametrize("settings", [{}, {"span_words": "sorted"}, {"align_by": "likelihood"}])
def test_half_precision_has_a_loss_in_float32(models, settings):
    student, teacher = (x.bfloat16() for x in models)
    free = student.clone().requires_grad_()
    loss = aligned_loss(free, teacher, apart(**settings))
    loss.backward()
    assert (loss.dtype, free.grad.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(loss.detach(), aligned_loss(student.float(), teacher.float(), apart(**settings)))
    assert free.grad.isfinite().all()


def test_models_that_are_certain_stay_finite(models):
    student, teacher = (100 * x.float() for x in models)
    for settings in ({}, {"span_words": "sorted"}, {"align_by": "likelihood"}):
        free = student.clone().requires_grad_()
        loss = aligned_loss(free, teacher, apart(**settings))
        loss.backward()
        assert loss.isfinite()
        assert free.grad.isfinite().all()


def test_a_teacher_that_rules_all_pairs_out_is_compared_by_the_rest(models):
    student, teacher = models
    teacher[:, :, [6, 0, 4]] = -torch.inf
    free = student.clone().requires_grad_()
    loss = aligned_loss(free, teacher, apart())
    loss.backward()
    assert loss.isfinite()
    assert free.grad.isfinite().all()


def test_likelihoods_agree_where_the_spans_do():
    log_d = torch.tensor([[0.2, 0.8], [0.5, 0.5]]).log()
    one = merged(log_d, torch.tensor([0, 1]), [0, 2])
    two = merged(torch.tensor([[0.1, 0.9]]).log(), torch.tensor([0]), [0, 1])
    torch.testing.assert_close(one.log_likelihood, two.log_likelihood)
    assert likelihood(one, two, Objective().measure, 10.0).abs().item() < 1e-6


def test_the_first_token_of_a_sequence_is_foretold_by_nothing():
    spans = [[(0, 1, 0, 1), (1, 2, 1, 2)], [(1, 2, 0, 1)]]
    assert len(Aligned.of(spans, LABELS, TEACHERS, WordMap.of({}, 5, 7), Alignment())) == 1


def test_no_shared_span_is_refused(models):
    aligned = Aligned.of([[], []], LABELS, TEACHERS, WordMap.of(PAIRS, 5, 7), Alignment())
    with pytest.raises(InputError, match="share no span of any answer"):
        aligned_loss(*models, aligned)
    for who, bad in (("student", 0), ("teacher", 1)):
        given = [x.clone() for x in models]
        given[bad][:] = torch.nan
        with pytest.raises(InputError, match=f"the {who}'s logits hold NaN or infinity"):
            aligned_loss(*given, apart())
