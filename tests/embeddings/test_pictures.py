"""Pictures of an evaluation: which of them fit which encoder, the same bytes each time, and where they are found."""

import dataclasses
import io

import pytest
import torch
from PIL import Image

import attar
from attar.core.runtime import Engine, Runtime
from attar.embeddings.drawing import in_the_plane, named, shares, short, spread_over_classes
from attar.embeddings.encoded import EncodedSource
from attar.embeddings.pictures import TITLES, pictures_of
from attar.embeddings.scoring import Scoring
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.sources import Features, Part, Source, Standard, evenly
from attar.reporting.collect import collect

BRIEF = SimCLR(epochs=1, encoder="convnet:norm=batch,width=8")


@pytest.fixture(scope="module")
def source(few_digits):
    return Source.of_images(dataclasses.replace(few_digits, test=few_digits.test.select(torch.arange(60))))


@pytest.fixture(scope="module")
def made(source):
    return attar.train(source, BRIEF)


def encoded_of(made, source, **more):
    return EncodedSource.of(dataclasses.replace(made, **more), source, Runtime(Engine(quiet=True), 0))


def size(png):
    return Image.open(io.BytesIO(png)).size


def test_images_of_one_label_are_drawn_the_same_each_time(made, source):
    first, second = (pictures_of(encoded_of(made, source)) for _ in range(2))
    assert list(first) == ["features", "neighbours"] and first == second
    assert all(len(png) < 100_000 for png in first.values())
    assert size(first["features"]) == (700, 460)


def test_novel_classes_have_an_episode_and_neighbours_among_the_test_samples(made, source):
    novel = dataclasses.replace(source, novel=source.classes)
    drawn = pictures_of(encoded_of(made, novel))
    assert list(drawn) == ["features", "neighbours", "episode"]


def test_several_labels_have_panels_and_their_uncertainty(made, source):
    marks = [torch.rand(len(part), 10, generator=torch.Generator().manual_seed(0)) < 0.3 for part in parts(source)]
    several = dataclasses.replace(source, train=marked(source.train, marks[0]), test=marked(source.test, marks[1]))
    encoded = encoded_of(made, several)
    encoded.__dict__["said"] = {"uncertainty": marks[1].sum(dim=1) + torch.linspace(0, 1, 60)}
    drawn = pictures_of(encoded)
    assert list(drawn) == ["features", "neighbours", "uncertainty"]
    assert size(drawn["features"]) == (750, 520)


def parts(source):
    return source.train, source.test


def marked(part, marks):
    return dataclasses.replace(part, labels=marks)


def test_temperatures_are_drawn_for_each_side_that_has_them(made, source):
    known = torch.linspace(0.1, 0.9, len(source.train))
    one = pictures_of(encoded_of(made, source, remembered={"temperature": known, "log_s": known}))
    two = pictures_of(encoded_of(made, source, remembered={"temperature": known, "text_temperature": known}))
    assert size(two["temperature"])[0] == 2 * size(one["temperature"])[0]
    assert "temperature" not in pictures_of(encoded_of(made, source, remembered={"log_s": known}))


def test_tables_have_only_features():
    rows = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    labels = (rows[:, 0] > 0).long()
    parts = [Part(Features(rows[some]), labels[some]) for some in torch.arange(60).split(40)]
    source = Source("table", ("low", "high"), *parts, Standard.of(rows))
    assert list(pictures_of(encoded_of(attar.train(source, SimCLR(epochs=1)), source))) == ["features"]


def test_the_command_s_pictures_are_reported_pushed_and_replaced(source, tmp_path):
    made = attar.train(source, BRIEF, out=tmp_path / "made")
    (tmp_path / "made/evaluation").mkdir()
    (tmp_path / "made/evaluation/episode.png").write_bytes(b"of an earlier evaluation")
    found = attar.evaluate(made, source, beside="skip")
    assert not (tmp_path / "made/evaluation/features.png").exists(), "Python alone leaves nothing"
    Scoring().remember([made], found)
    assert sorted(path.name for path in (tmp_path / "made/evaluation").iterdir()) == ["features.png", "neighbours.png"]
    (run,) = collect(tmp_path).runs
    assert [one.label for one in run.shown.pictures] == [TITLES["features"], TITLES["neighbours"]]
    assert "evaluation/*.png" in made.files
    others = attar.evaluate(attar.open_artefact(tmp_path / "made"), source, beside="skip")
    (tmp_path / "made/evaluation/features.png").unlink()
    Scoring().remember([], others)
    assert not (tmp_path / "made/evaluation/features.png").exists(), "an artefact that is not one's own stays as it is"


def test_without_matplotlib_there_is_none(made, source, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert pictures_of(encoded_of(made, source)) == {}


def test_points_in_the_plane_are_finite_whatever_the_features():
    for points in (torch.zeros(60, 4), torch.eye(3), torch.randn(70, 1).abs(), torch.randn(5, 8)):
        plane = in_the_plane(points)
        assert plane.shape == (len(points), 2) and torch.from_numpy(plane).isfinite().all()


def test_rows_words_and_what_counts_as_right():
    assert evenly(10, 4).tolist() == [0, 2, 5, 7] and evenly(3, 4).tolist() == [0, 1, 2]
    assert spread_over_classes(torch.tensor([1, 1, 0, 2]), 2).tolist() == [2, 0]
    assert spread_over_classes(torch.tensor([1, 1, 0, 0]), 3).tolist() == [2, 0, 1]
    marks = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0]]).bool()
    assert [shares(marks[0], other) for other in marks] == [True, True, False, False]
    assert shares(marks[3], marks[3]) and shares(torch.tensor(2), torch.tensor(2))
    assert named(marks[1], ["amazed", "angry", "relaxing-calm"]) == "amazed angry …"
    assert named(marks[3], "abc") == "none" and named(torch.tensor(1), "abc") == "b"
    assert short("abc", 3) == "abc" and short("Sanskrit/character12", 14) == "Sanskrit/…er12"
