"""Frozen networks for features: their sizes, what they learn, the cache, and their digests."""

import pytest
import torch

from attar.core.errors import InputError
from attar.samplers.features import WIDTH, Judge, TrainJudge, convnet, judges_of, network
from attar.samplers.sources import Source
from attar.samplers.toys import drawn


@pytest.fixture(scope="module")
def source(digits):
    return Source.of_images(digits)


@pytest.fixture
def judges(source, runtime):
    return judges_of(source, runtime)


def test_the_usual_network_has_two_hidden_layers(source, generator):
    net = network("mlp", source.shape, 10, generator)
    assert [tuple(one.shape) for one in net.parameters() if one.ndim == 2] == [(128, 64), (64, 128), (10, 64)]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (4, 5, 7), (2, 3, 3), (1, 28, 28), (3, 1, 9)])
def test_convolutions_take_samples_of_any_shape(shape):
    net = convnet(shape)
    assert net(torch.zeros(2, *shape)).shape == (2, WIDTH)


def test_they_know_test_samples_by_their_class(source, judges):
    assert [judge.name for judge in judges] == ["MLP", "convnet"]
    for judge in judges:
        features = judge.features(source.test.all())
        assert features.shape == (500, WIDTH) and features.dtype == torch.float64 and (features >= 0).all()
        assert float((judge.classified(features) == source.test.labels).double().mean()) > 0.88


def test_they_are_kept_and_the_seed_of_a_run_plays_no_part(source, judges, runtime):
    again = judges_of(source, runtime.with_seed(5))
    assert [one.digest for one in again] == [one.digest for one in judges]
    assert len({one.digest for one in judges}) == 2 and judges[0].digest[:8] in judges[0].title


def test_features_do_not_depend_on_how_many_are_seen_at_once(source, judges, monkeypatch):
    samples = source.test.all(50)
    whole = judges[1].features(samples)
    monkeypatch.setattr("attar.samplers.features.AT_ONCE", 7)
    torch.testing.assert_close(judges[1].features(samples), whole, rtol=1e-5, atol=1e-6)


def test_a_judge_is_saved_and_read(judges, tmp_path, source):
    judges[1].save(tmp_path)
    read = Judge.load(tmp_path)
    samples = source.test.all(20)
    assert read.digest == judges[1].digest and torch.equal(read.features(samples), judges[1].features(samples))
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged or truncated"):
        Judge.load(tmp_path)


def test_very_many_samples_are_seen_less_often(source):
    method = TrainJudge().resolve(source)
    assert (method.epochs, method.total_steps) == (30, 630)

    points = torch.zeros(50_000, 2)
    many = TrainJudge().resolve(Source.of_tensors(points, points[:1]))
    assert many.epochs == 7 and many.total_steps <= 6000


def test_without_classes_networks_stay_as_they_were_drawn(runtime):
    images = torch.rand(40, 1, 8, 8)
    source = Source.of_tensors(images[:30], images[30:])
    judges = judges_of(source, runtime)
    assert [judge.name for judge in judges] == ["random convnet", "random MLP"]
    assert [one.digest for one in judges] == [one.digest for one in judges_of(source, runtime)]
    assert judges[0].classified(judges[0].features(images)) is None
    assert len(judges[0].features(images).unique(dim=0)) == 40


def test_other_samples_than_images_are_brought_to_one_spread(runtime):
    values, labels = 50 * torch.randn(60, 4, 2, 2), torch.arange(60) % 2
    parts = (values[:40], values[40:]), (labels[:40], labels[40:])
    source = Source.of_tensors(*parts[0], labels=parts[1], classes=("a", "b"))
    assert judges_of(source, runtime, 1)[0].scale == pytest.approx(source.sigma_data)


def test_points_are_their_own_features(runtime):
    source = drawn("ring", 100)
    (judge,) = judges_of(source, runtime)
    points = source.test.all()
    assert torch.equal(judge.features(points), points.double()) and judge.title == "points"
