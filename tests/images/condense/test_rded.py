import dataclasses

import pytest
import torch
import torch.nn.functional as F

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.images.condense.rded import cut, most_typical, most_typical_of_each, realism_loss, tiled
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.repeats import trainings
from attar.images.score import train_and_test
from attar.images.targets import distillation_loss, targeted
from attar.images.trained import Auxiliary, trained
from attar.images.training import TrainNetwork
from attar.verbs import evaluate
from images.helpers import save_classifier

SMALL = Architecture(width=8, norm="batch")
BRIEF = Protocol(name="brief", epochs=3)
OBSERVER = Auxiliary(architecture=SMALL, protocol=BRIEF)
ENGINE = Engine(device="cpu", compile="off", quiet=True)


def rded(**settings):
    return attar.RDED(**{"ipc": 2, "candidates": 30, "observer": OBSERVER, **settings})


@pytest.fixture(scope="module")
def taught(digits):
    """A set that carries its teacher."""
    return attar.condense(digits, rded(labels="teacher"), engine=ENGINE)


# Choosing.


def test_whole_images_are_chosen_by_the_observers_loss(digits, runtime):
    method = rded(ipc=3, candidates=10_000, crops=1, smallest_crop=1.0, labels="hard")
    small = attar.condense(digits, method, engine=ENGINE)
    observer = trained(digits, SMALL.resolve(digits.shape), runtime, BRIEF).network
    for label, rows in enumerate(digits.rows_of):
        with torch.no_grad():
            losses = F.cross_entropy(observer(digits.inputs(rows)), torch.full((len(rows),), label), reduction="none")
        best = digits.train.pixels[rows[losses.argsort()[:3]]]
        ours = small.images[small.labels == label]
        assert sorted(map(bytes, ours.numpy())) == sorted(map(bytes, best.numpy()))


def test_of_each_image_and_of_all_the_lowest_loss_is_taken():
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    assert most_typical_of_each(logits, 0, crops=2).tolist() == [1, 3]
    assert most_typical(logits, 0, 3).tolist() == [1, 3, 0]
    assert most_typical(logits, 1, 1).tolist() == [2]
    assert realism_loss(logits, 0)[1] == pytest.approx(float(torch.log1p(torch.exp(torch.tensor(-2.0)))))


def test_what_is_chosen_looks_more_typical_than_what_is_drawn(digits, runtime):
    observer = trained(digits, SMALL.resolve(digits.shape), runtime, BRIEF).network

    def loss(small):
        with torch.no_grad():
            return float(F.cross_entropy(observer(small.network_input), small.labels))

    chosen = attar.condense(digits, rded(ipc=5, labels="hard"), engine=ENGINE)
    drawn = [attar.condense(digits, attar.Random(ipc=5), seed=seed, engine=ENGINE) for seed in range(5)]
    assert loss(chosen) < min(map(loss, drawn))


# Putting together.


def test_tiles_lie_side_by_side_in_the_order_of_the_scripts():
    patches = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 2, 2)
    first, second = tiled(patches, 2)
    assert first[0, ::2, ::2].tolist() == [[0, 2], [4, 6]]
    assert second[0, ::2, ::2].tolist() == [[1, 3], [5, 7]]


def test_a_patch_is_the_box_scaled():
    image = torch.rand(1, 3, 8, 8)
    whole = cut(image, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), (8, 8))
    corner = cut(image, torch.tensor([[0.0, 0.0, 0.5, 0.5]]), (4, 4))
    assert torch.equal(whole, image)
    assert torch.equal(corner, image[:, :, :4, :4])
    halved = cut(image, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), (4, 4))
    assert halved.mean() == pytest.approx(float(image.mean()), abs=0.02)


def test_four_crops_share_an_image(shapes):
    small = attar.condense(shapes, rded(ipc=2, factor=2, candidates=16, labels="hard"), engine=ENGINE)
    assert small.images.shape == (6, 3, 16, 16)
    assert small.tiles == 2


@pytest.mark.parametrize("side, factor", [(8, 1), (64, 1), (128, 2), (224, 2)])
def test_large_images_hold_four_crops_unless_told(side, factor, runtime):
    pixels = torch.zeros(12, 3, side, side, dtype=torch.uint8)
    source = attar.load(((pixels, torch.arange(12) % 2), (pixels[:2], torch.arange(2))))
    assert rded(ipc=1).resolve(source, runtime).factor == factor


# Labels.


def test_soft_labels_are_the_observers_probabilities(digits):
    small = attar.condense(digits, rded(ipc=2, labels="soft"), engine=ENGINE)
    assert small.labels.shape == (20, 10)
    torch.testing.assert_close(small.labels.sum(dim=1), torch.ones(20))
    assert small.teacher is None


def test_a_set_carries_its_teacher_to_disk_and_counts_it(taught, digits, tmp_path):
    saved = taught.save(tmp_path / "set")
    loaded = attar.open_artefact(tmp_path / "set")
    for name, value in taught.teacher.network.state_dict().items():
        assert torch.equal(loaded.teacher.network.state_dict()[name], value)
    teacher = (tmp_path / "set" / "teacher" / "network.safetensors").stat().st_size
    assert saved.bytes == teacher + (tmp_path / "set" / "images.safetensors").stat().st_size


def test_a_teacher_that_was_exchanged_is_noticed(taught, digits, tmp_path):
    taught.save(tmp_path / "set")
    other = attar.condense(digits, rded(labels="teacher"), seed=1, engine=ENGINE)
    other.teacher.save(tmp_path / "set" / "teacher")
    with pytest.raises(InputError, match="is not the file that artefact"):
        attar.open_artefact(tmp_path / "set")


# Learning from a teacher.


def test_the_loss_is_zero_where_student_and_teacher_agree(generator):
    logits = torch.randn(4, 5, generator=generator)
    assert float(distillation_loss(logits, logits + 3, 20.0)) == pytest.approx(0, abs=1e-6)


def test_with_one_sure_answer_and_temperature_one_it_is_cross_entropy(generator):
    logits, labels = torch.randn(4, 5, generator=generator), torch.tensor([0, 3, 1, 4])
    sure = 1e4 * F.one_hot(labels, 5).float()
    torch.testing.assert_close(distillation_loss(logits, sure, 1.0), F.cross_entropy(logits, labels, reduction="sum"))


def test_at_high_temperature_it_matches_centred_logits(generator):
    student, teacher = torch.randn(2, 4, 5, generator=generator, dtype=torch.float64)
    centred = (student - student.mean(dim=1, keepdim=True)) - (teacher - teacher.mean(dim=1, keepdim=True))
    wanted = centred.square().sum() / (2 * 5)
    torch.testing.assert_close(1e8 * distillation_loss(student, teacher, 1e4), wanted, rtol=1e-3, atol=0)


def test_a_student_is_taught_what_the_teacher_says_of_each_augmented_image(taught, digits):
    runtime = Runtime(ENGINE, 0)
    method = TrainNetwork(architecture=SMALL, protocol=PROTOCOLS["rded"]).resolve(taught)
    state = method.build(taught, runtime)
    state.network.load_state_dict(taught.teacher.network.state_dict())
    state.network.eval()
    assert float(method.step(state, runtime)["loss"]) == pytest.approx(0, abs=1e-6)


def test_the_schedule_of_the_script_ends_halfway_down():
    protocol = PROTOCOLS["rded"]
    assert protocol.lr_at(0) == pytest.approx(1e-3)
    assert protocol.lr_at(150) == pytest.approx(1e-3 * 0.5 * (1 + 2**-0.5))
    assert protocol.lr_at(300) == pytest.approx(0.5e-3)
    assert dataclasses.replace(protocol, schedule="cosine").lr_at(300) == pytest.approx(0)


def test_adamw_spares_what_is_no_matrix(taught):
    runtime = Runtime(ENGINE, 0)
    method = TrainNetwork(architecture=SMALL, protocol=PROTOCOLS["rded"]).resolve(taught)
    matrices, others = method.build(taught, runtime).optimizer.param_groups
    assert matrices["weight_decay"] == 0.01
    assert others["weight_decay"] == 0
    assert all(p.ndim <= 1 for p in others["params"])


def test_stored_labels_are_mixed_with_their_images(digits):
    small = attar.condense(digits, attar.Random(ipc=2), engine=ENGINE)
    protocol = Protocol(name="m", epochs=1, mix="mixup")
    _, targets = targeted(small.network_input, torch.arange(20), small, protocol, Runtime(ENGINE, 0))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(20))
    assert 0 < float((targets > 0).sum(dim=1).float().mean()) <= 2


def test_training_from_a_teacher_is_seeded(taught, digits):
    how = dataclasses.replace(PROTOCOLS["rded"], epochs=3)
    runs = [train_and_test(taught, digits, SMALL, how, 2, Runtime(ENGINE, 0)) for _ in range(2)]
    assert runs[0] == runs[1]


def test_beside_a_taught_score_stand_hard_labels_and_random_images_with_the_same_teacher(taught, digits):
    how = dataclasses.replace(PROTOCOLS["rded"], epochs=2)
    settings = {"networks": [SMALL], "repeats": 1, "protocol": how, "ceiling": "skip", "beside": "run"}
    row = evaluate(taught, digits, **settings, engine=ENGINE).networks[0]
    assert [other.label for other in row.beside] == [
        "without augmentation",
        "with hard labels",
        "random, as many images, same teacher",
        "random, as many bytes, hard labels",
    ]


def test_a_set_without_a_teacher_cannot_teach(digits):
    small = attar.condense(digits, attar.Random(ipc=2), engine=ENGINE)
    with pytest.raises(InputError, match="learns from a teacher, but the set has none; choose another --protocol"):
        evaluate(small, digits, networks=[SMALL], protocol="rded", ceiling="skip", engine=ENGINE)


# Presets and refusals.


def test_published_cells_are_the_scripts():
    cell = attar.RDED.paper("cifar10", ipc=10)
    assert (cell.factor, cell.candidates, cell.crops, cell.labels) == (1, 300, 5, "teacher")
    assert attar.RDED.paper("imagenette", ipc=1).factor == 2
    with pytest.raises(InputError, match="RDED has no cell of 'mnist'"):
        attar.RDED.paper("mnist", ipc=1)


def test_an_observer_of_ones_own_is_read_from_its_folder(digits, shapes, tmp_path, runtime):
    trained(digits, SMALL, runtime, BRIEF).save(tmp_path)
    own = attar.condense(digits, rded(observer=Auxiliary(folder=str(tmp_path))), engine=ENGINE)
    assert torch.equal(own.images, attar.condense(digits, rded(), engine=ENGINE).images)
    with pytest.raises(InputError, match="was trained on 10 classes of"):
        attar.condense(shapes, rded(observer=Auxiliary(folder=str(tmp_path)), factor=1), engine=ENGINE)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"factor": 3}, "factor is 3; it must divide both sides of the images, 8×8."),
        ({"ipc": 8, "factor": 2}, "needs 32 crops, 2×2 for each image, but it has only 30 candidates"),
    ],
)
def test_what_cannot_be_tiled_is_refused(settings, sentence, digits):
    with pytest.raises(InputError) as refusal:
        attar.condense(digits, rded(**settings), engine=ENGINE)
    assert sentence in str(refusal.value)


def test_networks_on_a_taught_set_differ_by_seed(taught):
    method = TrainNetwork(architecture=SMALL, protocol=dataclasses.replace(PROTOCOLS["rded"], epochs=1)).resolve(taught)
    first, second = (
        [p.detach().clone() for p in network.parameters()]
        for network in trainings(method, taught, Runtime(ENGINE, 0), repeats=2)
    )
    assert not torch.equal(first[0], second[0])


def test_an_observer_may_be_a_classifier_of_transformers(digits, tmp_path):
    save_classifier(tmp_path, classes=10)
    observer = Auxiliary(folder=f"transformers:{tmp_path}")
    made = attar.condense(digits, rded(observer=observer), engine=ENGINE)
    assert made.soft is None and made.labels.shape == (20, 10)
    assert attar.condense(digits, rded(observer=observer, labels="hard"), engine=ENGINE).labels.shape == (20,)
    with pytest.raises(InputError, match=r"^labels is teacher, but transformers:.* cannot be saved with a set\."):
        attar.condense(digits, rded(observer=observer, labels="teacher"), engine=ENGINE)
