import pytest
import torch

from attar.core.errors import InputError
from attar.language.clipping import Clipping, QuantileNetwork
from attar.language.divergences import Objective
from attar.language.losses import Places, Terms, chunked_loss
from attar.language.objective import Counts, Loss, Parts, Spans, distillation_loss, seeded_globally


@pytest.fixture
def batch(generator):
    student, teacher = torch.randn(2, 4, 6, 9, dtype=torch.float64, generator=generator)
    labels = torch.randint(9, (4, 6), generator=generator)
    labels[0, :4] = labels[2, 5] = -100
    return student, teacher, labels, torch.randint(3, (4, 6), generator=generator)


def test_it_is_the_mean_over_counted_tokens_and_pairs(batch):
    student, teacher, labels, spans = batch
    places = Places.of(labels, spans)
    found = distillation_loss(
        student, teacher, labels, objective=Objective(divergence="tvd"), span_weight=2.0, spans=spans
    )
    terms = Terms(labels=1.0, teacher=1.0, objective=Objective(divergence="tvd"))
    by_token = chunked_loss(student, teacher, places, terms)[0] / len(places)
    by_pair = chunked_loss(student, teacher, places, Terms(spans=1.0))[0] / places.joined.sum()
    torch.testing.assert_close(found, by_token + 2 * by_pair)


@pytest.mark.parametrize("clip", ["none", "learned"])
def test_passes_add_up_to_one_large_one(clip, batch):
    student, teacher, labels, spans = batch
    clipping = Clipping(teacher_clip=clip)
    network = QuantileNetwork(clipping, 9).double() if clip == "learned" else None
    loss = Loss(Objective(), clipping, Spans(span_weight=1.0), 9, network)
    grads = []
    for size in (4, 2, 1):
        free = student.clone().requires_grad_()
        parts = [slice(start, start + size) for start in range(0, 4, size)]
        places = [Places.of(labels[one], spans[one]) for one in parts]
        for one, here in zip(parts, places, strict=True):
            loss(free[one], teacher[one], here, Counts.of(places), Parts())[0].backward()
        grads.append(free.grad)
        if network is not None:
            grads[-1] = torch.cat([free.grad.flatten(), *(p.grad.flatten() for p in network.parameters())])
            network.zero_grad()
    torch.testing.assert_close(grads[0], grads[1])
    torch.testing.assert_close(grads[0], grads[2])


def test_labels_alone_need_no_teacher(batch):
    student, _, labels, _ = batch
    found = distillation_loss(student, None, labels, objective=Objective(divergence="none"))
    expected = torch.nn.functional.cross_entropy(student[:, :-1].reshape(-1, 9), labels[:, 1:].reshape(-1))
    torch.testing.assert_close(found, expected)


def test_what_is_shown_are_the_parts(batch):
    student, teacher, labels, spans = batch
    clipping = Clipping(teacher_clip="learned")
    loss = Loss(Objective(), clipping, Spans(span_weight=1.0), 9, QuantileNetwork(clipping, 9).double())
    places = Places.of(labels, spans)
    _, shown = loss(student, teacher, places, Counts.of([places]), Parts())
    assert set(shown) == {"loss", "labels", "teacher", "kept mass", "upper", "lower", "spans"}
    assert 0.5 < shown["kept mass"] <= 1
    assert 0 < shown["lower"] < shown["upper"] < 1


def test_a_batch_without_a_label_is_refused(batch):
    student, teacher, labels, _ = batch
    for nothing in (torch.full_like(labels, -100), labels[:0]):
        with pytest.raises(InputError) as refusal:
            distillation_loss(student[: len(nothing)], teacher[: len(nothing)], nothing)
        assert str(refusal.value) == (
            "a batch holds no token to learn from: every label is masked, or every response is empty. Remove such rows."
        )


def test_dropout_is_seeded_for_a_while_and_left_as_it_was():
    before = torch.random.get_rng_state()
    drawn = []
    for seed in (0, 0, 1):
        with seeded_globally(torch.Generator().manual_seed(seed), torch.device("cpu")):
            drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1] != drawn[2]
    assert torch.equal(before, torch.random.get_rng_state())
