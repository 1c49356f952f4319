import pytest
import torch

from attar.core.runtime import Engine, Runtime
from attar.images.condense.adjoint import Batch, Student, Task, Waypoint, distance, match, with_drop
from attar.images.networks.architecture import Architecture
from attar.images.networks.flat import FlatNetwork
from attar.images.views.augment import OPERATIONS, draw_batch

ENGINE = Engine(device="cpu", compile="off", quiet=True)


@pytest.fixture
def flat():
    network = Architecture(width=8).build((3, 8, 8), 4, torch.Generator().manual_seed(0))
    return FlatNetwork(network.double())


@pytest.fixture
def images():
    return torch.randn(12, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def classes():
    return torch.arange(12) % 4


def label_logits():
    return torch.randn(12, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def beta(value=0.3):
    return torch.tensor(value, dtype=torch.float64)


def student(flat, *, soft=False, at_once=100):
    return Student(flat, Runtime(ENGINE), soft=soft, at_once=at_once)


def task(flat, steps, *, momentum=0.0, scale=1.0, drop=0.0, middle=False):
    generator = torch.Generator().manual_seed(3)
    batches = [
        Batch(torch.randint(12, (7,), generator=generator), draw_batch(7, OPERATIONS, generator)) for _ in range(steps)
    ]
    start = flat.vector()

    def near():
        return start + 0.1 * torch.randn(start.shape, dtype=start.dtype, generator=generator)

    points = {steps: Waypoint(near())} | ({steps // 2: Waypoint(near(), 0.5)} if middle else {})
    return Task(start, batches, points, momentum, scale, drop)


def gap(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("steps", [1, 2, 8])
@pytest.mark.parametrize(
    "momentum, scale, drop, middle", [(0, 1, 0, False), (0.9, 1.3, 0, True), (0.9, 0.7, 0.25, True)]
)
@pytest.mark.parametrize("soft", [False, True])
def test_going_back_step_by_step_is_backpropagating_through_all(
    flat, images, steps, momentum, scale, drop, middle, soft
):
    """With indices that repeat within and between batches, and with augmentation replayed."""
    targets, middle = label_logits() if soft else classes(), middle and steps > 1
    job = task(flat, steps, momentum=momentum, scale=scale, drop=drop, middle=middle)
    found = match(student(flat, soft=soft, at_once=3), images, targets, beta(), job)
    wanted = match(student(flat, soft=soft), images, targets, beta(), job, "unrolled")
    assert float(found.loss) == pytest.approx(float(wanted.loss), rel=1e-12)
    assert gap(found.images, wanted.images) < 1e-10
    assert gap(found.lr, wanted.lr) < 1e-10
    if soft:
        assert gap(found.targets, wanted.targets) < 1e-10


def test_teslas_gradient_is_the_exact_one_for_one_step_and_another_for_more(flat, images):
    for steps, same in ((1, True), (2, False), (10, False)):
        job = task(flat, steps)
        exact = match(student(flat), images, classes(), beta(), job)
        short = match(student(flat), images, classes(), beta(), job, "tesla")
        assert float(short.loss) == float(exact.loss)
        assert (gap(short.images, exact.images) < 1e-12) == same
        # Its derivative in β takes the steps as given as well.
        assert (gap(short.lr, exact.lr) < 1e-12) == same


def test_teslas_gradient_is_nearer_the_smaller_the_steps(flat, images):
    def cosine(lr):
        pair = [match(student(flat), images, classes(), beta(lr), task(flat, 10), way) for way in ("adjoint", "tesla")]
        return float(torch.cosine_similarity(pair[0].images.flatten(), pair[1].images.flatten(), dim=0))

    cosines = [cosine(lr) for lr in (0.01, 0.1, 0.5)]
    assert cosines[0] > 0.99 > cosines[1] > cosines[2]


def test_teslas_gradient_is_its_formula(flat, images):
    job, lr = task(flat, 5), beta()
    found = match(student(flat), images, classes(), lr, job, "tesla")
    target = job.waypoints[5].target
    vector, total, vectors = job.start, torch.zeros_like(job.start), []
    for batch in job.batches:
        vectors.append(vector)
        g = student(flat).gradient(vector, student(flat).seen(images, batch), classes()[batch.rows], 1.0)
        vector, total = vector - lr * g, total + g
    size = (job.start - target).square().sum()
    direction = 2 * lr / size * (target - job.start + lr * total)
    leaf, wanted = images.clone().requires_grad_(), torch.zeros_like(images)
    for vector, batch in zip(vectors, job.batches, strict=True):
        seen = student(flat).seen(leaf, batch)
        _, _, bar, _ = student(flat).pull(vector, seen.detach(), classes()[batch.rows], 1.0, direction)
        wanted += torch.autograd.grad(seen, leaf, bar)[0]
    assert gap(found.images, wanted) < 1e-12
    slope = -2 / size * (job.start - lr * total - target) @ total
    assert float(found.lr) == pytest.approx(float(slope), rel=1e-10)


@pytest.mark.parametrize("steps, lr", [(0, 0.3), (4, 0.0)])
def test_a_student_that_stays_has_a_loss_of_one(flat, images, steps, lr):
    found = match(student(flat), images, classes(), beta(lr), task(flat, steps))
    assert float(found.loss) == 1.0
    assert found.images.abs().max() == 0


def test_a_student_that_arrives_has_no_loss_and_no_gradient(flat, images):
    job = task(flat, 6, momentum=0.9)
    vector, velocity, vectors = job.start, torch.zeros_like(job.start), []
    for batch in job.batches:
        g = student(flat).gradient(vector, student(flat).seen(images, batch), classes()[batch.rows], 1.0)
        velocity = 0.9 * velocity + g
        vector = vector - 0.3 * velocity
        vectors.append(vector)
    arrived = Task(job.start, job.batches, {3: Waypoint(vectors[2]), 6: Waypoint(vector)}, momentum=0.9)
    found = match(student(flat), images, classes(), beta(), arrived)
    assert float(found.loss) < 1e-25
    assert found.images.abs().max() < 1e-12 and abs(float(found.lr)) < 1e-12


def test_the_loss_knows_neither_the_order_of_parameters_nor_their_scale():
    generator = torch.Generator().manual_seed(0)
    end, start, target = torch.randn(3, 50, dtype=torch.float64, generator=generator)
    loss = distance(end, start, Waypoint(target))
    order = torch.randperm(50, generator=generator)
    assert float(distance(end[order], start[order], Waypoint(target[order]))) == pytest.approx(float(loss))
    longer = distance(target + 7 * (end - target), target + 7 * (start - target), Waypoint(target))
    assert float(longer) == pytest.approx(float(loss))


def test_what_is_dropped_is_what_came_nearest(flat):
    job = task(flat, 3, drop=0.3)
    end = job.start + 0.05 * torch.randn_like(job.start)
    missed = (end - job.waypoints[3].target).square()
    keep = with_drop(job, end).waypoints[3].keep
    dropped = int(0.3 * len(end))
    assert int((keep == 0).sum()) == dropped
    assert missed[keep == 0].max() <= missed[keep == 1].min()
    assert (missed * keep).sum() >= 0.7 * missed.sum()
    slope = torch.func.grad(lambda e: distance(e, job.start, with_drop(job, end).waypoints[3]))(end)
    assert slope[keep == 0].abs().max() == 0
