import torch
import torch.nn.functional as F

from attar.classifiers.discovery import Discover
from attar.classifiers.kd import kd_loss
from attar.classifiers.skd import SubclassKD, subclass_loss
from attar.classifiers.subclasses import Grouping
from attar.classifiers.trainer import plain_loss
from attar.classifiers.watched import Answers

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
    assert torch.equal(subclass_loss(student, teacher), kd_loss(student, teacher))


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


def test_a_teachers_option_adds_the_classes_cross_entropy():
    a, labels = logits(0), torch.tensor([0, 1, 2, 3, 4, 5, 0, 1])
    said = Answers(a, a, [])
    method = SubclassKD(group=RAGGED.group, hard="subclass", teacher_weight=0.0, class_weight=0.5)
    over = F.cross_entropy(RAGGED.class_logits(a), RAGGED.labels(labels))
    assert torch.isclose(plain_loss(method, said, said, labels), F.cross_entropy(a, labels) + 0.5 * over)


def test_a_constant_added_to_all_logits_changes_nothing():
    student, teacher, labels = logits(0), logits(1), torch.tensor([0, 1, 2, 3, 4, 5, 0, 1])
    method = SubclassKD(group=RAGGED.group)
    found = [plain_loss(method, Answers(a, a, []), Answers(teacher, a, []), labels) for a in (student, student + 7)]
    assert torch.isclose(*found, atol=1e-12)


def test_settings_of_the_notebook():
    mnist = SubclassKD.paper("mnist-2x5")
    assert (mnist.optimizer, mnist.lr, mnist.batch, mnist.epochs) == ("adam", 1e-3, 256, 12)
    assert (mnist.teacher_weight, mnist.temperature, mnist.shift) == (0.5, 4, 0)
    mhist = SubclassKD.paper("mhist")
    assert round(mhist.head_share * 35) == round(mhist.cuts[0] * 35) == 10
    assert (mhist.keep, mnist.keep) == ("f1", "last")
    assert (mhist.turns, mnist.turns) == (True, False)
    assert Discover.paper("mnist-2x5").contrast_weight == 1


def test_the_gradient_of_the_class_loss_in_subclass_logits():
    a, y = logits(0, samples=1).requires_grad_(), 1
    F.cross_entropy(RAGGED.class_logits(a), torch.tensor([y])).backward()
    p = a.detach().softmax(dim=1)[0]
    inside = torch.tensor([group == y for group in RAGGED.group])
    wanted = p - inside * p / p[inside].sum()
    assert torch.allclose(a.grad[0], wanted, atol=1e-12)
