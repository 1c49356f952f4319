import torch
import torch.nn.functional as F

from attar.classifiers.kd import kd_loss
from attar.classifiers.skd import subclass_loss
from attar.classifiers.subclasses import Grouping

RAGGED = Grouping((0, 1, 0, 1, 1, 2))


def logits(seed, samples=8, subclasses=6):
    draw = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(samples, subclasses, generator=draw, dtype=torch.float64)


def summed(probabilities, grouping):
    owners = torch.tensor(grouping.group)
    return torch.stack([probabilities[:, owners == c].sum(dim=1) for c in range(grouping.classes)], dim=1)


def test_the_divergence_over_subclasses_is_that_over_classes_and_within_them():
    student, teacher = logits(0), logits(1)
    p, q = teacher.softmax(dim=1), student.softmax(dim=1)
    over = kd_loss(RAGGED.class_logits(student), RAGGED.class_logits(teacher), 1.0)
    owners, big, small = torch.tensor(RAGGED.group), summed(p, RAGGED), summed(q, RAGGED)
    inside, other = p / big[:, owners], q / small[:, owners]
    within = (p * (inside / other).log()).sum(dim=1).mean()
    assert torch.isclose(subclass_loss(student, teacher, 1.0), over + within, atol=1e-12)


def test_one_subclass_a_class_is_plain_kd():
    student, teacher = logits(0), logits(1)
    alone = Grouping(tuple(range(6)))
    assert torch.allclose(alone.class_logits(student), student, atol=1e-12)
    assert torch.isclose(subclass_loss(student, teacher), kd_loss(student, teacher), atol=1e-12)


def test_cross_entropy_differs_by_the_teachers_entropy_alone():
    student, teacher = logits(0).requires_grad_(), logits(1)
    plain, entropy = subclass_loss(student, teacher), subclass_loss(student, teacher, entropy=True)
    known = 16 * torch.special.entr((teacher / 4).softmax(dim=1)).sum(dim=1).mean()
    assert torch.isclose(entropy - plain, known)
    first, second = (torch.autograd.grad(loss, student)[0] for loss in (plain, entropy))
    assert torch.allclose(first, second, atol=1e-12)


def test_one_class_of_everything_has_nothing_to_learn():
    a = logits(0).requires_grad_()
    loss = F.cross_entropy(Grouping((0,) * 6).class_logits(a), torch.zeros(8, dtype=torch.long))
    loss.backward()
    assert loss.abs() < 1e-12
    assert a.grad.abs().max() < 1e-12


def test_the_gradient_of_the_class_loss_in_subclass_logits():
    a, y = logits(0, samples=1).requires_grad_(), 1
    F.cross_entropy(RAGGED.class_logits(a), torch.tensor([y])).backward()
    p = a.detach().softmax(dim=1)[0]
    inside = torch.tensor([group == y for group in RAGGED.group])
    wanted = p - inside * p / p[inside].sum()
    assert torch.allclose(a.grad[0], wanted, atol=1e-12)
