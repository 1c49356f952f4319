import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.seeds import derived_seed
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.score import train_and_test
from attar.images.trained import Auxiliary, trained

SMALL = Architecture(width=8)
BRIEF = Protocol(name="brief", epochs=10, batch=64, lr=0.1, augmented=False)
TEACHER = Auxiliary(architecture=SMALL, protocol=BRIEF)
ENGINE = Engine(device="cpu", compile="off", quiet=True)


def relabelled(source, seed=0, **settings):
    settings = {"ipc": 2, "teachers": 2, "teacher": TEACHER, **settings}
    return attar.condense(source, attar.Relabelled(**settings), seed=seed, engine=ENGINE)


def teacher(source, runtime, number):
    turn = runtime.with_seed(derived_seed(runtime.seed, f"teacher {number}"))
    return trained(source, SMALL.resolve(source.shape), turn, BRIEF).network


@pytest.mark.parametrize(
    "images, plain",
    [
        ("random", attar.Random(ipc=2)),
        ("herding", attar.Herding(ipc=2, observer=TEACHER)),
        ("k-means", attar.KMeans(ipc=2, observer=TEACHER)),
    ],
)
def test_images_are_those_of_the_method_of_that_name(images, plain, digits):
    assert torch.equal(relabelled(digits, chosen_by=images).images, attar.condense(digits, plain, engine=ENGINE).images)


@pytest.mark.parametrize(
    "settings", [{"chosen_by": "class-mean", "ipc": 1}, {"chosen_by": "k-means", "space": "pixel"}]
)
def test_averages_are_kept_as_network_input(settings, digits):
    small = relabelled(digits, **settings)
    plain = attar.ClassMean() if settings["chosen_by"] == "class-mean" else attar.KMeans(ipc=2, space="pixel")
    assert torch.equal(small.images, attar.condense(digits, plain, engine=ENGINE).images)
    assert small.images.dtype == torch.float32


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_labels_are_the_mean_probabilities_of_the_teachers(temperature, digits, runtime):
    small = relabelled(digits, label_temperature=temperature)
    with torch.no_grad():
        answers = [(teacher(digits, runtime, n)(small.network_input) / temperature).softmax(dim=1) for n in range(2)]
    torch.testing.assert_close(small.labels, sum(answers) / 2, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(small.labels.sum(dim=1), torch.ones(20))


def test_teachers_differ_and_agree_with_the_classes_mostly(digits, runtime):
    first, second = (teacher(digits, runtime, number).classifier.weight for number in range(2))
    assert not torch.equal(first, second)
    small = relabelled(digits, ipc=10)
    classes = torch.arange(10).repeat_interleave(10)
    assert float((small.hard_labels == classes).float().mean()) > 0.9


def test_soft_labels_teach_more_than_hard_ones(digits):
    how = Protocol(name="short", epochs=60, batch=64, lr=0.1, augmented=False)
    scores = {}
    for name in ("soft", "hard"):
        sets = [
            relabelled(digits, seed=seed, label_temperature=2.0)
            if name == "soft"
            else attar.condense(digits, attar.Random(ipc=2), seed=seed, engine=ENGINE)
            for seed in range(3)
        ]
        values = [train_and_test(small, digits, SMALL, how, 2, Runtime(ENGINE, 0)) for small in sets]
        scores[name] = sum(map(sum, values)) / 6
    assert scores["soft"] > scores["hard"]


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"chosen_by": "class-mean", "ipc": 2}, "ipc is 2; it must be from 1 to 1."),
        ({"chosen_by": "kmeans"}, "did you mean 'k-means'"),
        ({"teachers": 0}, "teachers is 0; it must be at least 1."),
        ({"ipc": 200}, "ipc is 200, but class"),
    ],
)
def test_what_cannot_be_chosen_is_refused(settings, sentence, digits):
    with pytest.raises(InputError) as refusal:
        relabelled(digits, **settings)
    assert sentence in str(refusal.value)
