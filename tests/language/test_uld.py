import pytest
import torch

from attar.core.errors import InputError
from attar.language.divergences import Objective
from attar.language.objective import distillation_loss
from attar.language.rows import by_jobs
from attar.language.uld import UniversalLogitLoss, sorted_distance, uld_loss

LABELS = torch.tensor([[-100, 2, 3, 1, -100], [-100, -100, 4, 0, 2]])
TEACHERS = torch.tensor([[-100, -100, 5, 1, 6, 2], [-100, 1, 2, -100, -100, -100]])


@pytest.fixture
def models(generator):
    """A student's logits of five words, a teacher's of seven."""
    draw = {"dtype": torch.float64, "generator": generator}
    return 2 * torch.randn(2, 5, 5, **draw), 2 * torch.randn(2, 6, 7, **draw)


def by_hand(student, teacher):
    """Position after position: three of the first answer, two of the second."""
    pairs = [((0, 0), (0, 1)), ((0, 1), (0, 2)), ((0, 2), (0, 3)), ((1, 1), (1, 0)), ((1, 2), (1, 1))]
    total = 0.0
    for mine, theirs in pairs:
        q = [*student[mine].softmax(0).sort(descending=True).values, 0.0, 0.0]
        p = teacher[theirs].softmax(0).sort(descending=True).values
        total = total + sum(abs(one - other) for one, other in zip(p, q, strict=True))
    return total / len(pairs)


def test_it_is_the_sorted_distance_of_paired_positions(models):
    student, teacher = models
    torch.testing.assert_close(uld_loss(student, teacher, LABELS, TEACHERS), by_hand(student, teacher))
    torch.testing.assert_close(UniversalLogitLoss()(*models, LABELS, TEACHERS), by_hand(student, teacher))


def test_a_small_example_by_hand():
    p, q = torch.tensor([[0.1, 0.7, 0.2]]), torch.tensor([[0.5, 0.5]])
    torch.testing.assert_close(sorted_distance(p, q), torch.tensor([0.2 + 0.3 + 0.1]))
    torch.testing.assert_close(sorted_distance(q, p), torch.tensor([0.6]))
    assert sorted_distance(p[:, :0], p[:, :0]).tolist() == [0.0]
    torch.testing.assert_close(sorted_distance(p[:, :0], p), torch.tensor([1.0]))


def test_it_is_zero_where_sorted_probabilities_agree(models):
    student, _ = models
    shuffled = student[:, :, [3, 0, 4, 2, 1]]
    assert uld_loss(student, shuffled, LABELS, LABELS) < 1e-15
    padded = torch.cat([shuffled, torch.full_like(shuffled, -torch.inf)], dim=2)
    assert uld_loss(student, padded, LABELS, LABELS) < 1e-15


def test_it_is_at_most_the_distance_word_by_word(models):
    """Sorting brings probabilities as near as any order can; where both orders are the same, it changes nothing."""
    student, teacher = models[0], models[0].flip(0)
    apart = Objective(divergence="tvd", label_weight=0.0)
    assert uld_loss(student, teacher, LABELS, LABELS) <= 2 * distillation_loss(
        student, teacher, LABELS, objective=apart
    )
    one, other = (x.sort(dim=2).values for x in (student, teacher))
    torch.testing.assert_close(
        uld_loss(one, other, LABELS, LABELS), 2 * distillation_loss(one, other, LABELS, objective=apart)
    )


def test_its_gradient(models, differences):
    student, teacher = models
    free = student.clone().requires_grad_()
    uld_loss(free, teacher, LABELS, TEACHERS, temperature=1.5).backward()
    found = differences(lambda x: uld_loss(x, teacher, LABELS, TEACHERS, temperature=1.5), student)
    torch.testing.assert_close(free.grad, found, rtol=1e-5, atol=1e-8)


def test_a_hundred_chunks_are_one(models, monkeypatch):
    student, teacher = models
    whole = uld_loss(student, teacher, LABELS, TEACHERS)
    monkeypatch.setattr("attar.language.uld.tokens_at_once", lambda device, words: 1)
    torch.testing.assert_close(uld_loss(student, teacher, LABELS, TEACHERS), whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_has_a_loss_in_float32(dtype, models):
    student, teacher = (x.to(dtype) for x in models)
    free = student.clone().requires_grad_()
    loss = uld_loss(free, teacher, LABELS, TEACHERS)
    loss.backward()
    assert loss.dtype == torch.float32
    assert free.grad.dtype == dtype
    torch.testing.assert_close(loss, by_hand(student.float(), teacher.float()))


def test_padding_beyond_a_vocabulary_is_left_out(models):
    student, teacher = models
    wide = torch.cat([student, torch.full_like(student, 9.0)], dim=2).requires_grad_()
    loss = uld_loss(wide, teacher, LABELS, TEACHERS, words=5, teacher_words=7)
    loss.backward()
    torch.testing.assert_close(loss.detach(), by_hand(student, teacher))
    assert wide.grad[:, :, 5:].abs().sum() == 0


def test_what_cannot_be_compared_is_refused(models):
    student, teacher = models
    with pytest.raises(InputError, match=r"the student has 2 rows, the teacher 1\. Give the same texts"):
        uld_loss(student, teacher[:1], LABELS, TEACHERS[:1])
    with pytest.raises(InputError, match="no answer has a token for both models"):
        uld_loss(student, teacher, torch.full_like(LABELS, -100), TEACHERS)
    for who, bad in (("student", 0), ("teacher", 1)):
        given = [x.clone() for x in models]
        given[bad][:] = torch.nan
        with pytest.raises(InputError, match=f"the {who}'s logits hold NaN or infinity"):
            uld_loss(*given, LABELS, TEACHERS)


def test_no_job_is_no_loss(models):
    loss, sums = by_jobs(models[0].reshape(-1, 5).requires_grad_(), [], 2)
    assert (loss.item(), sums.tolist()) == (0.0, [0.0, 0.0])
    loss.backward()
