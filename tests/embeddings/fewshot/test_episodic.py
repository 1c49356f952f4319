"""The loop of episodes: what a batch holds, the step size, held-out classes, and the epoch that is kept."""

import dataclasses

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.state import pack, unpack
from attar.embeddings.distances import smooth_distances
from attar.embeddings.fewshot.episodes import class_major, episode_prototypes, episodes
from attar.embeddings.fewshot.outcomes import episode_accuracy
from attar.embeddings.fewshot.protonet import ProtoNet
from attar.embeddings.fewshot.susana import COMBINATIONS, ICNN, ProtoTriplet
from attar.embeddings.fewshot.triplet import Triplet
from attar.embeddings.sources import Features, Part, Source, Standard
from attar.embeddings.views import Views
from attar.images.sources import load as images

SMALL = {"encoder": "mlp:width=16,depth=1,features=8", "epochs": 2, "episodes": 3}
FEW = {**SMALL, "train_way": 4, "train_shot": 2, "train_query": 3}


@pytest.fixture(scope="module")
def rows():
    """Ten Gaussian classes in six dimensions."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(10).repeat_interleave(12)
    points = 2 * torch.randn(10, 6, generator=generator)[labels] + torch.randn(120, 6, generator=generator)
    part = Part(Features(points), labels)
    return Source("rows", tuple("abcdefghij"), part, part, Standard.of(points))


def started(method, source, seed=0):
    runtime = Runtime(Engine(quiet=True), seed)
    method = method.resolve(source, runtime)
    return method, method.build(source, runtime), runtime


def test_a_batch_is_an_episode_that_the_encoder_sees_once(rows):
    method, state, runtime = started(ProtoNet(**FEW), rows)
    sizes = []
    state.encoder.register_forward_hook(lambda module, given, found: sizes.append(len(found)))
    for _ in range(5):
        batch = method.drawn(state, runtime)
        support, query = batch.labels.split([8, 12])
        assert torch.equal(support.view(4, 2)[:, 0], query.view(4, 3)[:, 0]) and len(support.unique()) == 4
        assert len(batch.rows.unique()) == 20
        method.step(state, runtime)
    assert sizes == [20] * 5
    assert (method.batch, method.total_steps) == (20, 6)


def test_samples_are_seen_as_they_are_unless_a_view_is_asked_for(rows):
    digits = Source.of_images(images("digits"))
    for source, noisy in ((digits, {"jitter": 1.0}), (rows, {"recipe": "table"})):
        method, state, runtime = started(ProtoNet(**{**FEW, "encoder": "auto"}), source)
        batch = method.drawn(state, runtime)
        assert torch.equal(batch.views[0], source.inputs(batch.rows))
        view = dataclasses.replace(method.view, **noisy) if source is digits else Views(**noisy)
        method, state, runtime = started(dataclasses.replace(ProtoNet(**FEW), encoder="auto", view=view), source)
        batch = method.drawn(state, runtime)
        assert not torch.equal(batch.views[0], source.inputs(batch.rows))


def test_a_batch_of_triplets_has_several_samples_of_several_classes(rows):
    method, state, runtime = started(Triplet(**SMALL, classes_per_batch=5, samples_per_class=4), rows)
    labels = method.drawn(state, runtime).labels.view(5, 4)
    assert len(labels[:, 0].unique()) == 5 and (labels == labels[:, :1]).all()


@pytest.mark.parametrize(
    "method",
    [
        *(ICNN.baseline(name) for name in COMBINATIONS),
        ProtoTriplet(**FEW),
        ICNN.baseline("fullicnn").changed_by({"objective": {"score_form": "original", "score_terms": ["lambda"]}}),
        *(Triplet(**SMALL, samples_per_class=4, mining=one) for one in ("batch-all", "batch-hard", "semi-hard")),
        Triplet(**SMALL, samples_per_class=4, unit_length=True),
        ProtoNet(**FEW, distance="squared", temperature=4.0, weights_average=0.9),
    ],
    ids=lambda method: f"{method.name}",
)
def test_every_loss_is_finite_and_teaches(method, rows):
    if isinstance(method, ICNN):
        method = method.changed_by(FEW)
    method, state, runtime = started(method, rows)
    before = [parameter.clone() for parameter in state.encoder.parameters()]
    for _ in range(3):
        found = method.step(state, runtime)
    assert found["loss"].isfinite()
    assert any(not torch.equal(a, b) for a, b in zip(before, state.encoder.parameters(), strict=True))


def test_the_step_size_is_halved_as_in_the_scripts(rows):
    cell = ProtoTriplet.paper("mini-imagenet-5shot")
    assert (cell.epochs, cell.lr, cell.cut_factor, len(cell.cuts)) == (200, 1e-3, 0.5, 9)
    how = {"schedule": cell.schedule, "cuts": cell.cuts, "cut_factor": cell.cut_factor}
    method, state, runtime = started(ProtoNet(**{**FEW, "epochs": 20, "episodes": 1}, **how), rows)
    rates = []
    for _ in range(method.total_steps):
        method.step(state, runtime)
        rates.append(state.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3 * 0.5 ** (step // 2) for step in range(20)])


def test_held_out_classes_are_not_learned_from_and_the_best_epoch_is_kept(rows):
    settings = ProtoNet(**{**FEW, "epochs": 6}, held_out_classes=0.4, held_out_episodes=20, keep_epoch="best", lr=0.3)
    method, state, runtime = started(settings, rows)
    labels = rows.train.labels
    assert len(labels[state.learn].unique()) == 6 and len(labels[state.valid].unique()) == 4
    assert not {*labels[state.learn].tolist()} & {*labels[state.valid].tolist()}
    scores, weights = [], []
    for _ in range(method.total_steps):
        found = method.step(state, runtime)
        if "held_out_accuracy" in found:
            scores.append(found["held_out_accuracy"])
            weights.append([parameter.clone() for parameter in state.encoder.parameters()])
    best = scores.index(max(scores))
    assert len(scores) == 6 and best < 5  # the step size is far too large to end best
    kept = method.result(state, runtime).encoder
    assert all(torch.equal(a, b) for a, b in zip(weights[best], kept.parameters(), strict=True))


def test_a_run_that_was_stopped_ends_in_the_same_weights(rows):
    settings = ICNN(**{**FEW, "epochs": 3}, held_out_classes=0.4, held_out_episodes=5, keep_epoch="best")
    method, state, runtime = started(settings, rows)
    for done in range(method.total_steps):
        if done == 4:
            packed, drawn = pack(state), runtime.generator.state_dict()
        method.step(state, runtime)
    _, again, other = started(settings, rows)
    unpack(again, packed)
    other.generator.load_state_dict(drawn)
    while again.done < method.total_steps:
        method.step(again, other)
    for one, two in zip(state.encoder.parameters(), again.encoder.parameters(), strict=True):
        assert torch.equal(one, two)
    assert again.best_score == state.best_score


def test_the_number_of_classes_is_what_there_is_unless_it_is_given(rows):
    method, *_ = started(ProtoNet(**SMALL, train_shot=2, train_query=3), rows)
    assert method.train_way == 10
    method, *_ = started(Triplet(**SMALL, samples_per_class=4), rows)
    assert method.classes_per_batch == 10


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            ProtoNet(**{**FEW, "train_way": 30}),
            "an episode has 30 classes with 5 samples each, but there are 10 such classes in the training samples of "
            "rows. Ask for fewer classes or fewer samples of each.",
        ),
        (
            ProtoNet(**{**FEW, "train_query": 50}),
            "an episode has 4 classes with 52 samples each, but there is no such class, and 10 with fewer, in the "
            "training samples of rows. Ask for fewer classes or fewer samples of each.",
        ),
        (
            ProtoNet(**FEW, held_out_classes=0.1),
            "held_out_classes of 0.1 takes 1 of 10 classes of rows; at least 2 must be held out, and some be left.",
        ),
    ],
)
def test_what_the_data_lack_is_one_line_before_the_first_step(method, message, rows):
    with pytest.raises(InputError) as error:
        attar.train(rows, method)
    assert str(error.value) == message


def test_samples_without_one_label_each_are_refused(rows):
    bare = dataclasses.replace(rows, train=Part(rows.train.samples), classes=())
    with pytest.raises(InputError, match="protonet needs labels, but rows has none"):
        attar.train(bare, ProtoNet(**FEW))
    several = dataclasses.replace(rows, train=Part(rows.train.samples, torch.ones(120, 10, dtype=torch.bool)))
    with pytest.raises(InputError, match="protonet needs one label for each sample"):
        attar.train(several, ProtoNet(**FEW))
    with pytest.raises(InputError, match="no classes are held out"):
        ProtoNet(keep_epoch="best")


def test_accuracy_is_the_share_of_queries_nearest_their_own_mean(generator):
    support = torch.randn(12, 4, generator=generator)
    query = torch.randn(20, 4, generator=generator)
    nearest = smooth_distances(query, support.view(4, 3, 4).mean(dim=1)).argmin(dim=1)
    assert torch.allclose(episode_prototypes(support, 4), support.view(4, 3, 4).mean(dim=1))
    assert episode_accuracy(support, query, 4) == float((nearest == class_major(4, 5)).double().mean())


BRIEF = {"encoder": "mlp:width=32,depth=1,features=8", "epochs": 3, "episodes": 60, "lr": 0.01}
EPISODE = {"train_way": 10, "train_shot": 2, "train_query": 5}


@pytest.mark.parametrize(
    "method",
    [
        ProtoNet(**BRIEF, **EPISODE),
        ProtoNet(**BRIEF, **EPISODE, distance="squared"),
        ProtoTriplet(**BRIEF, **EPISODE),
        ICNN(**BRIEF, **EPISODE),
        Triplet(**BRIEF, classes_per_batch=10, samples_per_class=6, mining="batch-all"),
    ],
    ids=["protonet", "squared", "prototriplet", "icnn", "triplet"],
)
def test_it_learns_what_tells_new_classes_apart(method):
    """Three of fifteen features tell classes apart; the others are noise, of classes old and new."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(60).repeat_interleave(20)
    points = torch.randn(1200, 15, generator=generator)
    points[:, :3] += 3 * torch.randn(60, 3, generator=generator)[labels]
    points = points / points.std(dim=0)
    old = labels < 40
    train, test = Part(Features(points[old]), labels[old]), Part(Features(points[~old]), labels[~old] - 40)
    names = tuple(map(str, range(60)))
    found = attar.train(Source("rows", names[:40], train, test, Standard.of(points[old]), novel=names[40:]), method)
    features = torch.from_numpy(found.transform(points[~old].numpy()))
    raw, learned = [], []
    for support, query in episodes(test.labels, 5, 1, 10, 200, generator):
        raw.append(episode_accuracy(points[~old][support], points[~old][query], 5))
        learned.append(episode_accuracy(features[support], features[query], 5, method.distances))
    gained = torch.tensor(learned) - torch.tensor(raw)
    assert gained.mean() - 3 * gained.std() / len(gained) ** 0.5 > 0
