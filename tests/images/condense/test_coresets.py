import dataclasses

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.images.condense.coresets import (
    CORESETS,
    draw_rows,
    embed,
    herding,
    k_center,
    k_means,
    labels_of,
    nearest,
    per_class,
    proportional,
)
from attar.images.networks.architecture import Architecture
from attar.images.training import Auxiliary, Protocol

POINTS = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
SMALL = {"observer": Auxiliary(architecture=Architecture(width=8), protocol=Protocol(name="brief", epochs=1))}
EMBEDDING = ("herding", "k-center", "k-means")


def coreset(name, ipc):
    return CORESETS[name](ipc=ipc, **(SMALL if name in EMBEDDING else {}))


# The choices, on points of a line.


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


def test_herding_is_its_definition(generator):
    points = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    mean, taken = points.mean(dim=0), []
    for t in range(1, 8):
        left = [i for i in range(20) if i not in taken]
        chosen = sum((points[i] for i in taken), torch.zeros(3, dtype=torch.float64))
        taken.append(min(left, key=lambda i: float((t * mean - chosen - points[i]).norm())))
    assert herding(points, 7).tolist() == taken


def test_k_center_is_its_definition(generator):
    points = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    taken = [min(range(20), key=lambda i: float((points[i] - points.mean(dim=0)).norm()))]
    while len(taken) < 7:
        gaps = {i: min(float((points[i] - points[j]).norm()) for j in taken) for i in range(20) if i not in taken}
        taken.append(max(gaps, key=gaps.__getitem__))
    assert k_center(points, 7).tolist() == taken


def test_nearest_takes_each_point_once():
    centres = torch.tensor([[1.9], [2.1], [2.0], [0.4]])
    assert POINTS[nearest(POINTS, centres)].flatten().tolist() == [2, 1, 0, 10]


def test_k_means_finds_two_clusters_of_a_line(generator):
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [12.0]])
    assert sorted(k_means(points, 2, generator).flatten().tolist()) == [1, 11]


# On images.


@pytest.mark.parametrize("name", ["random", "herding", "k-center", "k-means"])
def test_a_selection_is_made_of_different_real_images_of_each_class(name, few_digits, engine):
    small = attar.condense(few_digits, coreset(name, 3), engine=engine)
    assert small.images.dtype == torch.uint8
    assert small.labels.tolist() == sorted(list(range(10)) * 3)
    for label, rows in enumerate(few_digits.rows_of):
        real = few_digits.train.pixels[rows].flatten(1).tolist()
        chosen = small.images[small.labels == label].flatten(1).tolist()
        assert len({real.index(image) for image in chosen}) == 3


def test_the_mean_image_is_the_mean_image(few_digits, engine):
    small = attar.condense(few_digits, attar.ClassMean(), engine=engine)
    for label, rows in enumerate(few_digits.rows_of):
        torch.testing.assert_close(small.images[label], few_digits.inputs(rows).mean(dim=0))


@pytest.mark.parametrize("source", ["few_digits", "shapes"])
def test_the_mean_image_is_the_centre_of_one_cluster_of_pixels(source, request, engine):
    source = request.getfixturevalue(source)
    mean = attar.condense(source, attar.ClassMean(), engine=engine)
    centre = attar.condense(source, attar.KMeans(ipc=1, space="pixel"), engine=engine)
    torch.testing.assert_close(mean.images, centre.images)


def test_cluster_centres_of_pixels_are_network_input_with_the_mean_of_the_class(few_digits, engine):
    small = attar.condense(few_digits, attar.KMeans(ipc=3, space="pixel"), engine=engine)
    assert small.images.dtype == torch.float32
    assert small.images.shape == (30, 1, 8, 8)


def test_embedding_choices_follow_the_embeddings_of_a_trained_network(few_digits, engine, runtime):
    settings = attar.Herding(ipc=3, **SMALL).resolve(few_digits, runtime)
    small = attar.condense(few_digits, settings, engine=engine)
    network = settings.observer.found(few_digits, runtime).network
    for label, rows in enumerate(few_digits.rows_of):
        picks = rows[herding(embed(network, few_digits, rows, runtime), 3)]
        assert torch.equal(small.images[small.labels == label], few_digits.train.pixels[picks])


def test_rows_are_drawn_without_replacement_and_all_of_a_smaller_class(generator):
    rows = (torch.arange(5), torch.arange(5, 7))
    drawn = draw_rows(rows, 4, generator)
    assert len(set(drawn[:4].tolist())) == 4
    assert set(drawn[:4].tolist()) <= set(range(5))
    assert sorted(drawn[4:].tolist()) == [5, 6]


def test_every_row_is_drawn_sometimes(generator):
    seen = torch.cat([draw_rows((torch.arange(6),), 2, generator) for _ in range(300)])
    assert torch.bincount(seen).sub(100).abs().max() < 40


# A number for each class.


def test_one_number_stands_for_every_class():
    assert per_class(3, 4) == (3, 3, 3, 3)
    assert per_class((3, 1, 2), 3) == (3, 1, 2)
    assert labels_of((3, 1, 2), 3).tolist() == [0, 0, 0, 1, 2, 2]
    assert torch.equal(labels_of(2, 5), torch.arange(5).repeat_interleave(2))


@pytest.mark.parametrize("method", [attar.Random, attar.DM])
def test_the_same_number_for_each_class_is_that_number(method, few_digits, engine):
    brief = {"steps": 2, "real_batch": 4, "architecture": SMALL["observer"].architecture} if method is attar.DM else {}
    one, each = (attar.condense(few_digits, method(ipc=ipc, **brief), engine=engine) for ipc in (2, (2,) * 10))
    assert one.fingerprint == each.fingerprint


@pytest.mark.parametrize(
    "sizes, ipc, shares",
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
def test_shares_follow_the_sizes_of_the_classes(sizes, ipc, shares):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    pair = (torch.zeros(len(labels), 4, 4, dtype=torch.uint8), labels)
    assert proportional(attar.load((pair, pair)), ipc) == shares


def test_shares_add_up_and_never_ask_for_more_than_there_is(generator):
    for _ in range(50):
        sizes = torch.randint(1, 60, (7,), generator=generator)
        labels = torch.arange(7).repeat_interleave(sizes)
        pair = (torch.zeros(len(labels), 2, 2, dtype=torch.uint8), labels)
        ipc = int(torch.randint(1, int(sizes.sum()) // 7 + 1, (), generator=generator))
        shares = torch.tensor(proportional(attar.load((pair, pair)), ipc))
        assert shares.sum() == 7 * ipc
        assert shares.min() >= 1
        assert (shares <= sizes).all()
        assert (shares[:, None] >= shares)[sizes[:, None] > sizes].all()


def test_a_hundred_of_one_class_and_one_of_another_are_condensed_and_scored(digits, engine):
    uneven = digits.subset(torch.cat([rows[: 100 if label < 5 else 1] for label, rows in enumerate(digits.rows_of)]))
    shares = proportional(uneven, 4)
    assert shares == (7,) * 5 + (1,) * 5
    settings = attar.DM(ipc=shares, steps=3, real_batch=16, architecture=SMALL["observer"].architecture)
    small = attar.condense(uneven, settings, engine=engine)
    assert torch.bincount(small.labels).tolist() == list(shares)
    drawn = uneven.targets[draw_rows(uneven.rows_of, 16, torch.Generator())]
    assert torch.bincount(drawn).tolist() == [16] * 5 + [1] * 5
    alone = {"repeats": 1, "ceiling": "skip", "beside": "skip"}
    report = attar.evaluate(small, uneven, protocol="quick", engine=engine, **alone)
    assert report.networks[0].score.value > 30


# Refusals.


@pytest.mark.parametrize("name", ["random", "herding", "k-center", "k-means"])
def test_more_images_than_the_smallest_class_has_are_refused(name, few_digits, engine):
    fewer = few_digits.without(few_digits.rows_of[4][:5])
    with pytest.raises(InputError) as refusal:
        attar.condense(fewer, coreset(name, 8), engine=engine)
    assert str(refusal.value) == (
        "ipc is 8, but class '4' of digits has 7 images. "
        "Start a learning method from noise (--start noise), ask for 7 or fewer, or give a number per class."
    )


def test_the_class_that_lacks_most_is_named_with_its_own_number(few_digits, engine):
    fewer = few_digits.without(few_digits.rows_of[4][:5])
    wanted = (12,) * 3 + (13,) + (9,) + (12,) * 5
    with pytest.raises(InputError, match=r"^ipc is 9, but class '4' of digits has 7 images\."):
        attar.condense(fewer, attar.Random(ipc=wanted), engine=engine)


def test_a_class_has_one_mean():
    with pytest.raises(InputError) as refusal:
        attar.ClassMean(ipc=2)
    assert str(refusal.value) == "ipc is 2; it must be from 1 to 1."


def test_settings_name_their_network(few_digits, runtime):
    assert attar.Herding().resolve(few_digits, runtime).observer.architecture.depth == 2
    assert dataclasses.replace(attar.KMeans(), space="pixel").space == "pixel"
