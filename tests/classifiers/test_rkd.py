import torch
import torch.nn.functional as F

from attar.classifiers.rkd import angle_loss, angles, distance_loss, distances


def embedding(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moved(points):
    rotation, _ = torch.linalg.qr(embedding(9, 5, 5))
    return 3 * points @ rotation + torch.arange(5, dtype=torch.float64)


def test_distances_are_relative_to_their_mean():
    points = embedding(0, 6, 5)
    plain = torch.cdist(points, points)
    assert torch.allclose(distances(points), plain / plain[plain > 0].mean(), atol=1e-9)
    assert torch.equal(distances(points).diagonal(), torch.zeros(6, dtype=torch.float64))


def test_angles_are_those_of_every_triple():
    points = embedding(0, 4, 5)
    found = angles(points)
    for j in range(4):
        for i in range(4):
            for k in range(4):
                first, second = (F.normalize(points[n] - points[j], dim=0) for n in (i, k))
                assert torch.isclose(found[j, i, k], first @ second, atol=1e-12)


def test_scale_shift_and_rotation_do_not_matter():
    student, teacher = embedding(0, 6, 5), embedding(1, 6, 8)
    for loss in (distance_loss, angle_loss):
        assert torch.isclose(loss(moved(student), teacher), loss(student, teacher), atol=1e-9)
        assert loss(moved(student), student) < 1e-12
        assert loss(student, teacher) > 1e-3


def test_a_match_pulls_nowhere():
    student = embedding(0, 6, 5).requires_grad_()
    for loss in (distance_loss, angle_loss):
        value = loss(student, student.detach())
        (slope,) = torch.autograd.grad(value, student)
        assert value < 1e-12
        assert slope.abs().max() < 1e-12


def test_samples_that_are_the_same_have_a_gradient():
    student = embedding(0, 6, 5)
    student[1] = student[0]
    student.requires_grad_()
    (distance_loss(student, embedding(1, 6, 5)) + angle_loss(student, embedding(1, 6, 5))).backward()
    assert student.grad.isfinite().all()
