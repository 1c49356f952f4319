import math

import pytest
import torch

from attar.classifiers.crd import Embed, Memory, contrast, crd_loss, draw_negatives
from attar.core.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_scores_at_the_noise_cost_a_bit_each():
    negatives, examples = 6, 50
    scores = torch.full((3, negatives + 1), negatives / examples, dtype=torch.float64)
    assert torch.isclose(
        contrast(scores, negatives, examples), torch.tensor((negatives + 1) * math.log(2), dtype=torch.float64)
    )


def test_the_loss_is_that_of_its_formula():
    memory = Memory.fresh(40, 8, generator())
    student, teacher = Embed(5, 8), Embed(7, 8)
    s, t = student(torch.randn(3, 5, generator=generator(1))), teacher(torch.randn(3, 7, generator=generator(2)))
    rows, drawn = torch.tensor([4, 9, 30]), torch.randint(40, (3, 6), generator=generator(3))
    s, t = s.detach(), t.detach()
    found = crd_loss(s, t, rows, drawn, memory)
    total = 0.0
    for anchor, bank, constant in ((s, memory.teacher, 0), (t, memory.student, 1)):
        for number, row in enumerate(rows.tolist()):
            scores = [math.exp(float(anchor[number] @ bank[c]) / 0.07) for c in [row, *drawn[number].tolist()]]
            scores = [score / float(memory.constants[constant]) for score in scores]
            noise = 6 / 40
            total -= math.log(scores[0] / (scores[0] + noise))
            total -= sum(math.log(noise / (score + noise)) for score in scores[1:])
    assert torch.isclose(found, torch.tensor(total / 3), rtol=1e-4)


def test_the_first_batch_sets_the_constants_and_no_other():
    memory = Memory.fresh(40, 8, generator())
    units = torch.nn.functional.normalize(torch.randn(3, 8, generator=generator(1)), dim=1)
    rows, drawn = torch.tensor([1, 2, 3]), torch.randint(40, (3, 6), generator=generator(3))
    crd_loss(units, units, rows, drawn, memory)
    first = memory.constants.clone()
    assert (first > 0).all()
    crd_loss(units.flip(0), units, rows, drawn, memory)
    assert torch.equal(memory.constants, first)


def test_memory_moves_half_way_and_stays_on_the_sphere():
    memory = Memory.fresh(10, 8, generator())
    before = memory.student.clone()
    said = torch.nn.functional.normalize(torch.randn(2, 8, generator=generator(1)), dim=1)
    memory.remember(torch.tensor([3, 5]), said, said)
    wanted = torch.nn.functional.normalize(0.5 * before[[3, 5]] + 0.5 * said, dim=1)
    assert torch.allclose(memory.student[[3, 5]], wanted)
    assert torch.equal(memory.student[[0, 1, 2, 4]], before[[0, 1, 2, 4]])


def test_negatives_are_of_other_classes_and_reach_all_of_them():
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 2, 1])
    rows = torch.arange(8)
    drawn = draw_negatives(labels, rows, 400, generator())  # more than there are, so with replacement
    assert (labels[drawn] != labels[rows][:, None]).all()
    for row in range(8):
        assert set(drawn[row].tolist()) == {other for other in range(8) if labels[other] != labels[row]}


@pytest.mark.parametrize("many", [1, 3, 4])
def test_no_negative_is_drawn_twice_while_there_are_enough(many):
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 0, 0])
    rows = torch.tensor([0, 1, 2, 2])
    draw, counts = generator(), torch.zeros(4, 10)
    for _ in range(700):
        drawn = draw_negatives(labels, rows, many, draw)
        assert (labels[drawn] != labels[rows][:, None]).all()
        assert all(len(set(one.tolist())) == many for one in drawn)
        counts.scatter_add_(1, drawn, torch.ones(4, many))
    for row, drawn in zip(rows, counts, strict=True):
        there = drawn[labels != labels[row]]
        assert (there / there.sum() * len(there) - 1).abs().max() < 0.35  # each is as likely as any other


def test_all_negatives_are_a_permutation_of_what_there_is():
    labels = torch.tensor([0, 0, 1, 2, 1])
    (drawn,) = draw_negatives(labels, torch.tensor([0]), 3, generator())
    assert sorted(drawn.tolist()) == [2, 3, 4]
    (drawn,) = draw_negatives(labels, torch.tensor([0]), 4, generator())
    assert set(drawn.tolist()) <= {2, 3, 4}
    with pytest.raises(InputError, match="all samples are of one class"):
        draw_negatives(torch.zeros(4, dtype=torch.long), torch.tensor([0]), 2, generator())
