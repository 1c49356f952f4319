import math

import pytest
import torch
import torch.nn.functional as F

from attar.core.errors import InputError
from attar.language.clipping import Clipping, QuantileNetwork
from attar.language.divergences import Objective
from attar.language.losses import Places, Terms, chunked_loss, compared, learned_bounds, log_probabilities
from attar.language.objective import distillation_loss

LABELS = torch.tensor([[-100, -100, 3, 1, 4, -100], [-100, 2, 2, 0, -100, -100]])
SPANS = torch.tensor([[0, 0, 0, 0, 1, 1], [-1, 0, 0, 1, 1, 1]])


@pytest.fixture
def models(generator):
    return torch.randn(2, 2, 6, 5, dtype=torch.float64, generator=generator)


def span_loss(student, teacher):
    """The definition for the pairs (0,2)-(0,3) and (1,1)-(1,2); each token is foretold one column before."""
    total = 0.0
    for row, column in ((0, 2), (1, 1)):
        p, q = teacher[row].softmax(1), student[row].softmax(1)
        total = total + (p[column - 1] * p[column] - q[column - 1] * q[column]).square().sum()
    return total


def test_places_are_those_before_counted_labels():
    places = Places.of(LABELS, SPANS)
    assert places.rows.tolist() == [1, 2, 3, 6, 7, 8]
    assert places.targets.tolist() == [3, 1, 4, 2, 2, 0]
    assert places.joined.tolist() == [True, False, False, True, False, False]


def test_the_first_token_is_foretold_by_nothing():
    assert Places.of(torch.tensor([[7, 8, 9]])).targets.tolist() == [8, 9]


@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
def test_all_terms_at_once_are_their_sum_whatever_the_chunks(chunk, models):
    student, teacher = models
    terms = Terms(labels=0.3, teacher=0.7, spans=5.0, objective=Objective(divergence="jsd", jsd_beta=0.2))
    free = student.clone().requires_grad_()
    loss, sums = chunked_loss(free, teacher, Places.of(LABELS, SPANS), terms, chunk=chunk)
    loss.backward()
    other = student.clone().requires_grad_()
    counted = LABELS[:, 1:] != -100
    q, p = other[:, :-1][counted].softmax(1), teacher[:, :-1][counted].softmax(1)
    m = 0.2 * p + 0.8 * q
    jsd = 0.2 * (p * (p / m).log()).sum() + 0.8 * (q * (q / m).log()).sum()
    labels = F.cross_entropy(other[:, :-1].reshape(-1, 5), LABELS[:, 1:].reshape(-1), reduction="sum")
    spans = span_loss(other, teacher)
    expected = 0.3 * labels + 0.7 * jsd + 5 * spans
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(free.grad, other.grad)
    torch.testing.assert_close([sums.labels, sums.teacher, sums.spans], [labels.detach(), jsd.detach(), spans.detach()])
    assert sums.mass == 6


def test_finite_differences_agree(models, differences):
    student, teacher = models
    terms = Terms(labels=1.0, teacher=torch.rand(6), spans=3.0, objective=Objective(divergence="skew-reverse"))
    places = Places.of(LABELS, SPANS)

    def loss(logits):
        return chunked_loss(logits, teacher, places, terms, chunk=2)[0]

    free = student.clone().requires_grad_()
    loss(free).backward()
    torch.testing.assert_close(free.grad, differences(loss, student), rtol=1e-5, atol=1e-7)


def test_each_token_may_have_a_weight_of_its_own(models):
    student, _ = models
    places = Places.of(LABELS)
    weight = torch.arange(6.0, dtype=torch.float64)
    free = student.clone().requires_grad_()
    loss, _ = chunked_loss(free, None, places, Terms(labels=weight), chunk=4)
    loss.backward()
    other = student.clone().requires_grad_()
    picked = other.reshape(-1, 5)[places.rows].log_softmax(1).gather(1, places.targets[:, None])[:, 0]
    expected = -(weight * picked).sum()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(free.grad, other.grad)


def test_spans_of_one_token_and_matched_models_have_no_loss_and_no_gradient(models):
    student, teacher = models
    alone = torch.arange(6).expand(2, 6)
    for pair, spans in (((student, teacher), alone), ((teacher, teacher), SPANS)):
        free = pair[0].clone().requires_grad_()
        loss, _ = chunked_loss(free, pair[1], Places.of(LABELS, spans), Terms(spans=1.0))
        loss.backward()
        assert loss == 0
        assert free.grad.abs().max() == 0


def test_numbering_the_vocabulary_anew_changes_nothing(models):
    order = torch.tensor([3, 0, 4, 1, 2])
    places = Places.of(LABELS, SPANS)
    for terms in (Terms(spans=1.0), Terms(teacher=1.0, clipping=Clipping(teacher_clip="top-p", clip_mass=0.7))):
        targets = torch.argsort(order)[places.targets]
        there = Places(places.rows, targets, places.joined)
        one, other = (
            chunked_loss(s, t, at, terms)[0] for s, t, at in ((*models, places), (*models[..., order], there))
        )
        torch.testing.assert_close(one, other)


def test_padding_and_longer_prompts_change_nothing(models):
    student, teacher = models
    terms = Terms(labels=1.0, teacher=1.0, spans=1.0)
    loss, _ = chunked_loss(student, teacher, Places.of(LABELS, SPANS), terms)
    before, after = torch.randn(2, 3, 5).double(), torch.randn(2, 2, 5).double()
    wide = [torch.cat([before, x, after], dim=1) for x in (student, teacher)]
    labels, spans = (
        torch.cat([torch.full((2, 3), fill), x, torch.full((2, 2), fill)], dim=1)
        for x, fill in ((LABELS, -100), (SPANS, -1))
    )
    torch.testing.assert_close(chunked_loss(*wide, Places.of(labels, spans), terms)[0], loss)


def test_a_sample_without_a_label_adds_nothing(models):
    student, teacher = models
    labels = LABELS.clone()
    labels[1] = -100
    free = student.clone().requires_grad_()
    loss, _ = chunked_loss(free, teacher, Places.of(labels), Terms(labels=1.0, teacher=1.0))
    loss.backward()
    assert loss.isfinite()
    assert free.grad[1].abs().max() == 0
    none = torch.full_like(labels, -100)
    loss, _ = chunked_loss(free, teacher, Places.of(none), Terms(labels=1.0, teacher=1.0))
    assert loss == 0


def gradient_of(terms, student, teacher, labels=LABELS, **given):
    free = student.clone().requires_grad_()
    loss, _ = chunked_loss(free, teacher, Places.of(labels), terms, **given)
    loss.backward()
    return loss.detach(), free.grad


def padded(logits, extra):
    return torch.cat([logits, 2 + torch.randn(*logits.shape[:2], extra, dtype=logits.dtype)], dim=2)


@pytest.mark.parametrize(("mine", "theirs"), [(3, 0), (0, 3), (1, 3), (3, 1)])
def test_labels_are_over_all_columns_and_divergences_over_the_common_words(mine, theirs, models):
    student, teacher = models
    wide = padded(student, mine)
    compared_alone = gradient_of(Terms(teacher=0.7), student, teacher)
    found = gradient_of(Terms(teacher=0.7), wide, padded(teacher, theirs), words=5)
    torch.testing.assert_close(found[0], compared_alone[0])
    torch.testing.assert_close(found[1][..., :5], compared_alone[1])
    assert found[1][..., 5:].abs().sum() == 0
    free = wide.clone().requires_grad_()
    labels = F.cross_entropy(free[:, :-1].flatten(0, 1), LABELS[:, 1:].flatten(), reduction="sum")
    labels.backward()
    terms = Terms(labels=1.0, teacher=0.7, spans=0.0)
    for chunk in (1, 4, 100):
        both = gradient_of(terms, wide, padded(teacher, theirs), words=5, chunk=chunk)
        torch.testing.assert_close(both[0], compared_alone[0] + labels.detach())
        torch.testing.assert_close(both[1], found[1] + free.grad)


def test_a_student_with_padding_is_trained_as_transformers_does_it():
    """Alone, on labels: the loss and the gradient of transformers, padding included."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=24, n_positions=8)
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 1, 8, 2]])
    model(input_ids=ids, labels=ids).loss.backward()
    theirs = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    loss = distillation_loss(model(input_ids=ids).logits, None, ids, objective=Objective(divergence="none"), words=20)
    loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("out", [-math.inf, torch.finfo(torch.float32).min, torch.finfo(torch.bfloat16).min])
@pytest.mark.parametrize(
    ("objective", "clipping"),
    [
        *((Objective(divergence=kind), Clipping()) for kind in ("forward", "reverse", "symmetric", "jsd", "tvd")),
        (Objective(divergence="skew-forward", temperature=2.0), Clipping()),
        (Objective(divergence="skew-reverse"), Clipping()),
        (Objective(), Clipping(teacher_clip="top-k", top_k=2)),
        (Objective(), Clipping(teacher_clip="top-p", clip_mass=0.8)),
    ],
)
def test_tokens_that_the_teacher_rules_out_are_left_out(objective, clipping, out, models):
    """As with the logits of the other tokens alone, whichever those are at each place."""
    student, teacher = models
    labels = torch.tensor([[-100, 2, 2, 2, 2, 2], [-100, -100, -100, 2, -100, -100]])
    terms = Terms(teacher=1.0, labels=0.5, objective=objective, clipping=clipping)
    gone = torch.rand(teacher.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    gone[..., 2:4] = False
    gone[0, 0], gone[0, 1] = torch.tensor([True, False, False, False, True]), False
    loss, gradient = gradient_of(terms, student, teacher.masked_fill(gone, out), labels)
    total, whole = gradient_of(Terms(labels=0.5), student, None, labels)
    for row in range(2):
        for column in range(5):
            if labels[row, column + 1] < 0:
                continue
            kept = ~gone[row, column]
            pair = (logits[row : row + 1, column : column + 1, kept] for logits in (student, teacher))
            one, other = (torch.cat([logits, logits], dim=1) for logits in pair)
            label = torch.tensor([[-100, int(kept[:2].sum())]])
            alone = Terms(teacher=1.0, objective=objective, clipping=clipping)
            value, slope = gradient_of(alone, one, other, label)
            total += value
            whole[row, column, kept] += slope[0, 0]
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(gradient, whole)


def test_a_learned_mask_and_spans_live_with_tokens_ruled_out(models):
    student, teacher = (logits.float() for logits in models)
    teacher[:, :, 1] = -math.inf
    clipping = Clipping(teacher_clip="learned", seen=4)
    network = QuantileNetwork(clipping, 5)
    places = Places.of(LABELS, SPANS)
    bounds = learned_bounds(student, teacher, places, network, clipping, 5)
    free = student.clone().requires_grad_()
    loss, sums = chunked_loss(free, teacher, places, Terms(teacher=1.0, spans=1.0, clipping=clipping), bounds=bounds)
    loss.backward()
    assert all(torch.isfinite(x).all() for x in (loss, sums.spans, free.grad, network[1].weight.grad))
    assert free.grad[..., 1].abs().max() == 0
    assert torch.isfinite(compared(student, teacher, places, words=5).divergence).all()


def test_a_teacher_that_rules_out_everything_is_refused(models):
    student, teacher = models
    with pytest.raises(InputError, match="the teacher's logits hold NaN or infinity"):
        chunked_loss(student, torch.full_like(teacher, -math.inf), Places.of(LABELS), Terms(teacher=1.0))


@pytest.mark.parametrize("kind", ["forward", "reverse", "jsd", "tvd", "skew-forward"])
def test_a_temperature_divides_the_logits_of_the_divergence_alone(kind, models):
    student, teacher = models
    warm = Terms(labels=0.3, teacher=1.0, objective=Objective(divergence=kind, temperature=2.5))
    loss, gradient = gradient_of(warm, student, teacher)
    alone = gradient_of(Terms(labels=0.3), student, None)
    cool = gradient_of(Terms(teacher=1.0, objective=Objective(divergence=kind)), student / 2.5, teacher / 2.5)
    torch.testing.assert_close(loss, alone[0] + cool[0])
    torch.testing.assert_close(gradient, alone[1] + cool[1] / 2.5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_added_up_in_float32(dtype, generator):
    student, teacher = (torch.randn(1, 40, 300, generator=generator).to(dtype) * 4 for _ in range(2))
    labels = torch.randint(300, (1, 40), generator=generator)
    free = student.clone().requires_grad_()
    loss, _ = chunked_loss(free, teacher, Places.of(labels), Terms(labels=1.0, teacher=1.0))
    exact = chunked_loss(student.double(), teacher.double(), Places.of(labels), Terms(labels=1.0, teacher=1.0))[0]
    loss.backward()
    assert loss.dtype == torch.float32
    assert free.grad.dtype == dtype
    torch.testing.assert_close(loss, exact.float(), rtol=1e-5, atol=1e-4)


def test_the_gradient_is_scaled_by_what_comes_from_above(models):
    student, teacher = models
    grads = []
    for scale in (1.0, 8.0):
        free = student.clone().requires_grad_()
        (scale * chunked_loss(free, teacher, Places.of(LABELS), Terms(teacher=1.0))[0]).backward()
        grads.append(free.grad)
    torch.testing.assert_close(grads[1], 8 * grads[0])


@pytest.mark.parametrize("who", ["student", "teacher"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(who, bad, models):
    student, teacher = models.clone()
    (student if who == "student" else teacher)[0, 2, 1] = bad
    with pytest.raises(InputError) as refusal:
        chunked_loss(student, teacher, Places.of(LABELS), Terms(labels=1.0, teacher=1.0))
    assert str(refusal.value) == (f"the {who}'s logits hold NaN or infinity. Check the {who} or its precision.")


def test_masked_words_are_no_fault(models):
    student, teacher = models.clone()
    student[..., 4] = teacher[..., 4] = -math.inf
    loss, _ = chunked_loss(student, teacher, Places.of(LABELS.clamp(max=3)), Terms(labels=1.0, teacher=1.0))
    assert loss.isfinite()


def test_what_does_not_fit_is_refused(models):
    student, teacher = models
    places = Places.of(LABELS)
    with pytest.raises(InputError, match="a divergence from the teacher needs the teacher's logits"):
        chunked_loss(student, None, places, Terms(teacher=1.0))
    with pytest.raises(InputError, match=r"the teacher's logits are for \[2, 5\] tokens"):
        chunked_loss(student, teacher[:, :5], places, Terms(teacher=1.0))
    with pytest.raises(InputError, match="a label is token 4, but the vocabulary has 3"):
        chunked_loss(student, teacher, places, Terms(teacher=1.0), words=3)
    with pytest.raises(InputError, match="a label is token 4, but the vocabulary has 4"):
        chunked_loss(student, None, places, Terms(labels=1.0), columns=4)
    with pytest.raises(InputError, match="the vocabulary has 9 tokens, but there are only 5 logits"):
        chunked_loss(student, teacher, places, Terms(labels=1.0), words=9)


def test_two_models_are_compared_place_by_place(models):
    student, teacher = models.float()
    places = Places.of(LABELS)
    found = compared(student, teacher, places, words=5)
    p, q = (x.reshape(-1, 5)[places.rows].softmax(1) for x in (teacher, student))
    torch.testing.assert_close(found.divergence, (p * (p / q).log()).sum(1))
    assert found.choice.tolist() == p.argmax(1).tolist()
    drawn = compared(student, teacher, places, words=5, draw=torch.Generator().manual_seed(0))
    assert drawn.choice.shape == found.choice.shape
    torch.testing.assert_close(
        log_probabilities(student, places, words=5), q.gather(1, places.targets[:, None])[:, 0].log()
    )


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers the largest tensor that an operation has made anew."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        before = {x.data_ptr() for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for x in torch.utils._pytree.tree_leaves(found):
            if isinstance(x, torch.Tensor) and x.numel() and x.data_ptr() not in before:
                self.made.append(x.numel() * x.element_size())
        return found


@pytest.mark.parametrize("clip", ["none", "learned"])
def test_nothing_as_large_as_the_logits_is_made_but_their_gradient(clip, generator):
    tokens, words, chunk = 256, 1000, 16
    student, teacher = (torch.randn(1, tokens + 1, words, generator=generator) for _ in range(2))
    student.requires_grad_()
    labels = torch.randint(words, (1, tokens + 1), generator=generator)
    terms = Terms(labels=1.0, teacher=1.0, spans=1.0, floor=1.0, clipping=Clipping(teacher_clip=clip))
    bounds = torch.full((tokens, 2), 0.5) if clip == "learned" else None
    places = Places.of(labels, torch.zeros_like(labels))
    with Largest() as watch:
        loss, _ = chunked_loss(student, teacher, places, terms, bounds=bounds, chunk=chunk)
        loss.backward()
    whole = student.numel() * 4
    assert sum(size >= whole for size in watch.made) == 1
    assert max(size for size in watch.made if size < whole) <= (chunk + 1) * words * 8
