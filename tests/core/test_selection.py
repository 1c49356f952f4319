from types import SimpleNamespace

import pytest
import torch

from attar.core.engine import run
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.selection import (
    Selection,
    check_enough,
    draw_by_class,
    draw_rows,
    herding,
    k_center,
    k_means,
    labels_of,
    nearest,
    per_class,
    proportional,
    rows_by_class,
    shuffled,
)

POINTS = torch.tensor([[0.0], [1.0], [2.0], [10.0]])


def rows_of(*sizes):
    return tuple(torch.arange(sum(sizes)).split(list(sizes)))


# The choices, on points.


def test_k_center_takes_the_point_nearest_the_mean_and_then_the_farthest():
    assert POINTS[k_center(POINTS, 3)].flatten().tolist() == [2, 10, 0]


def test_herding_follows_the_mean():
    assert POINTS[herding(POINTS, 4)].flatten().tolist() == [2, 1, 10, 0]


@pytest.mark.parametrize("choose", [herding, k_center])
def test_asked_for_all_points_it_takes_each_once(choose, generator):
    points = torch.randn(30, 4, generator=generator)
    assert sorted(choose(points, 30).tolist()) == list(range(30))


@pytest.mark.parametrize("choose", [herding, k_center])
def test_equal_points_are_still_taken_once_each(choose):
    assert sorted(choose(torch.ones(5, 2), 5).tolist()) == list(range(5))


def test_with_one_sample_both_take_the_nearest_to_the_mean(generator):
    points = torch.randn(20, 3, generator=generator)
    first = int((points - points.mean(dim=0)).norm(dim=1).argmin())
    assert herding(points, 1).tolist() == k_center(points, 1).tolist() == [first]


def test_herding_keeps_the_mean_of_what_it_takes_nearest_to_that_of_all(generator):
    points = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    mean, taken = points.mean(dim=0), []
    for _ in range(7):
        left = [i for i in range(20) if i not in taken]
        taken.append(min(left, key=lambda i: float((mean - points[[*taken, i]].mean(dim=0)).norm())))
    assert herding(points, 7).tolist() == taken


def test_k_center_is_its_definition(generator):
    points = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    taken = [min(range(20), key=lambda i: float((points[i] - points.mean(dim=0)).norm()))]
    while len(taken) < 7:
        gaps = {i: min(float((points[i] - points[j]).norm()) for j in taken) for i in range(20) if i not in taken}
        taken.append(max(gaps, key=gaps.__getitem__))
    assert k_center(points, 7).tolist() == taken


@pytest.mark.parametrize("choose", [herding, k_center])
def test_choices_do_not_depend_on_where_the_points_lie_or_how_large_they_are(choose, generator):
    points = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    assert torch.equal(choose(points, 6), choose(8 * points + 2, 6))


def test_nearest_takes_each_point_once():
    centres = torch.tensor([[1.9], [2.1], [2.0], [0.4]])
    assert POINTS[nearest(POINTS, centres)].flatten().tolist() == [2, 1, 0, 10]


def test_k_means_finds_two_clusters_of_a_line(generator):
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [12.0]])
    assert sorted(k_means(points, 2, generator).flatten().tolist()) == [1, 11]


def test_the_one_centre_of_one_cluster_is_the_mean(generator):
    points = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(k_means(points, 1, generator)[0], points.mean(dim=0))


# Rows.


def test_every_row_is_in_its_class_in_order():
    found = rows_by_class(torch.tensor([2, 0, 2, 1, 0]), range(4))
    assert [rows.tolist() for rows in found] == [[1, 4], [3], [0, 2], []]


def test_shuffled_rows_are_the_same_rows(generator):
    rows = torch.arange(5, 40)
    assert shuffled(rows, generator).sort().values.equal(rows)


def test_rows_are_drawn_without_replacement_and_all_of_a_smaller_class(generator):
    drawn = draw_rows(rows_of(5, 2), 4, generator)
    assert len(set(drawn[:4].tolist())) == 4
    assert set(drawn[:4].tolist()) <= set(range(5))
    assert sorted(drawn[4:].tolist()) == [5, 6]


def test_every_row_is_drawn_sometimes(generator):
    seen = torch.cat([draw_rows(rows_of(6), 2, generator) for _ in range(300)])
    assert torch.bincount(seen).sub(100).abs().max() < 40


def test_drawing_class_by_class_is_drawing_all_of_them():
    first, second = (torch.Generator().manual_seed(3) for _ in range(2))
    apart = draw_by_class(rows_of(9, 4), (3, 2), first)
    assert [len(rows) for rows in apart] == [3, 2]
    assert torch.equal(torch.cat(apart), draw_rows(rows_of(9, 4), (3, 2), second))


# How many of each class.


def test_one_number_stands_for_every_class():
    assert per_class(3, 4) == (3, 3, 3, 3)
    assert per_class((3, 1, 2), 3) == (3, 1, 2)
    assert labels_of((3, 1, 2), 3).tolist() == [0, 0, 0, 1, 2, 2]
    assert torch.equal(labels_of(2, 5), torch.arange(5).repeat_interleave(2))


def test_numbers_for_other_classes_are_refused_by_the_name_of_the_setting():
    with pytest.raises(InputError) as refusal:
        per_class((1, 2, 3), 2, "gpc")
    assert (
        str(refusal.value) == "gpc has 3 numbers for 2 classes. Give one number for all classes, or one for each class."
    )


@pytest.mark.parametrize(
    "sizes, count, shares",
    [
        ((60, 30, 10), 10, (18, 9, 3)),
        ((50, 50), 3, (3, 3)),
        ((1000, 10), 10, (19, 1)),  # 19.8 and 0.2, which is raised to one
        ((100, 5, 5, 1), 2, (5, 1, 1, 1)),  # 7.2 and thrice below one
        ((3, 2, 2), 2, (2, 2, 2)),  # 2.57, 1.71 and 1.71: both thirds go to the larger remainders
        ((7, 7, 7), 1, (1, 1, 1)),
        ((5, 5, 4), 3, (3, 3, 3)),
        ((4, 4, 4, 2), 1, (1, 1, 1, 1)),
    ],
)
def test_shares_follow_the_sizes_of_the_classes(sizes, count, shares):
    assert proportional(rows_of(*sizes), count) == shares


def test_shares_add_up_and_never_ask_for_more_than_there_is(generator):
    for _ in range(50):
        sizes = torch.randint(1, 60, (7,), generator=generator)
        count = int(torch.randint(1, int(sizes.sum()) // 7 + 1, (), generator=generator))
        shares = torch.tensor(proportional(rows_of(*sizes.tolist()), count))
        assert shares.sum() == 7 * count
        assert shares.min() >= 1
        assert (shares <= sizes).all()
        assert (shares[:, None] >= shares)[sizes[:, None] > sizes].all()


@pytest.mark.parametrize("wanted, words", [(3, "ipc is 3, but class 'owl' of birds has 1"), ((6, 1, 3), "ipc is 6")])
def test_the_class_that_lacks_most_is_named_with_its_own_number(wanted, words):
    birds = SimpleNamespace(name="birds", classes=("tit", "owl", "jay"), rows_of=rows_of(2, 1, 2))
    with pytest.raises(InputError) as refusal:
        check_enough(wanted, birds, setting="ipc", samples="images")
    assert str(refusal.value).startswith(words)


def test_too_many_are_refused_with_what_would_be_right():
    farm = SimpleNamespace(name="data/farm", classes=("cow", "horse"), rows_of=rows_of(60, 38))
    check_enough((60, 38), farm, setting="ipc", samples="images")
    with pytest.raises(InputError) as refusal:
        check_enough(50, farm, setting="ipc", samples="images")
    assert str(refusal.value) == (
        "ipc is 50, but class 'horse' of data/farm has 38 images. "
        "Give 38 or fewer, a number for each class, or start a learning method from noise (--start noise)."
    )


# Methods without steps.


class Word:
    def __init__(self, text):
        self.text = text

    def save(self, folder):
        (folder / "word.txt").write_text(self.text, encoding="utf-8")

    def picture(self):
        return None


class First(Selection):
    """The first of what there is."""

    name = "first"

    def select(self, source, runtime):
        return Word(source.words[0])

    def to_json(self):
        return {}


@pytest.mark.parametrize("saved", [False, True])
def test_a_selection_is_made_without_a_step(saved, tmp_path):
    source, out = SimpleNamespace(words=("oak", "elm"), fingerprint=""), tmp_path / "run" if saved else None
    method, read = First(), lambda folder: Word((folder / "word.txt").read_text(encoding="utf-8"))
    assert method.resolve(source, Runtime(Engine(quiet=True))) is method
    assert method.total_steps == method.work(source) == 0
    assert run(method, source, Runtime(Engine(quiet=True)), out=out, load=read).text == "oak"
