import dataclasses

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.selection import draw_rows, herding, proportional
from attar.images.condense.coresets import CORESETS, embed
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.trained import Auxiliary

SMALL = {"observer": Auxiliary(architecture=Architecture(width=8), protocol=Protocol(name="brief", epochs=1))}
EMBEDDING = ("herding", "k-center", "k-means")


def coreset(name, ipc):
    return CORESETS[name](ipc=ipc, **(SMALL if name in EMBEDDING else {}))


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


# A number for each class.


@pytest.mark.parametrize("method", [attar.Random, attar.DM])
def test_the_same_number_for_each_class_is_that_number(method, few_digits, engine):
    brief = {"steps": 2, "real_batch": 4, "architecture": SMALL["observer"].architecture} if method is attar.DM else {}
    one, each = (attar.condense(few_digits, method(ipc=ipc, **brief), engine=engine) for ipc in (2, (2,) * 10))
    assert one.fingerprint == each.fingerprint


def test_a_hundred_of_one_class_and_one_of_another_are_condensed_and_scored(digits, engine):
    uneven = digits.subset(torch.cat([rows[: 100 if label < 5 else 1] for label, rows in enumerate(digits.rows_of)]))
    shares = proportional(uneven.rows_of, 4)
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
        "Give 7 or fewer, a number for each class, or start a learning method from noise (--start noise)."
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
