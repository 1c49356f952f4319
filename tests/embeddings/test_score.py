"""Encoders measured on their test samples, by the command and in Python, beside their rivals."""

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

import attar
from attar.cli import main
from attar.core.errors import InputError
from attar.core.scores import scores_in
from attar.embeddings.answers import Answer, of_several, probe_answer
from attar.embeddings.fewshot.outcomes import outcomes
from attar.embeddings.linear import Linear
from attar.embeddings.metrics import mean_average_precision
from attar.embeddings.multilabel.endtoend import MultiLabel
from attar.embeddings.neighbours import knn_votes
from attar.embeddings.probe import fit_probe
from attar.embeddings.reading import Reading
from attar.embeddings.retrieval import recalls
from attar.embeddings.scoring import Scoring
from attar.embeddings.selfsup.clip import CLIP
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.sources import Features, Part, Source, Standard
from attar.images.data.pixels import InMemory

BRIEF = {"epochs": 1, "encoder": "convnet:norm=batch,width=8"}


@pytest.fixture(autouse=True)
def few_trees_and_folds(monkeypatch):
    monkeypatch.setattr("attar.embeddings.rivals.TREES", 20)
    monkeypatch.setattr("attar.embeddings.probe.ENOUGH", 20)


def table(samples=150, several=True, seed=0):
    """Rows of which the labels are the signs of a few directions, or the largest of them."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(samples, 8, generator=generator)
    signs = rows @ torch.randn(8, 4, generator=generator)
    labels = signs > 0.7 if several else signs.argmax(dim=1)
    parts = [Part(Features(rows[some]), labels[some]) for some in torch.arange(samples).split([100, samples - 100])]
    return Source("signs", tuple("abcd"), *parts, Standard.of(rows[:100]))


@pytest.fixture(scope="module")
def source(few_digits):
    """Few digits, of which 60 are tested."""
    return Source.of_images(dataclasses.replace(few_digits, test=few_digits.test.select(torch.arange(60))))


@pytest.fixture(scope="module")
def novel(source):
    """Encoders of the digits 0 to 4 are tested on 5 to 9."""
    labels, samples = source.train.labels, source.train.samples
    first, others = (labels < 5).nonzero().flatten(), (labels >= 5).nonzero().flatten()
    parts = Part(samples.select(first), labels[first]), Part(samples.select(others), labels[others] - 5)
    return Source("digits", tuple("01234"), *parts, source.transform, split="novel classes", novel=tuple("56789"))


@pytest.fixture(scope="module")
def folders(source, tmp_path_factory):
    """Two seeds of SimCLR."""
    home = tmp_path_factory.mktemp("encoders")
    for seed in (0, 1):
        attar.train(source, SimCLR(**BRIEF), seed=seed, out=home / str(seed))
    return home


def test_the_command_scores_an_encoder_of_digits_and_leaves_scores_and_pictures(tmp_path, capsys):
    place = str(tmp_path / "digits")
    main(["train", "simclr", "--data", "digits", "--epochs", "1", "--out", place, "--quiet"])
    capsys.readouterr()
    main(["evaluate", place, "--quiet", "--json", str(tmp_path / "scores.json")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("kNN: ") and lines[0].endswith(" % from 37,824 parameters (20 neighbours)")
    begins = ["always guessing", "raw pixels", "random encoder", "ExtraTrees on raw pixels"]
    assert [line.split(", ", 1)[1].split(":")[0] for line in lines[1:5]] == begins
    assert lines[5].startswith("linear probe: ") and lines[-1].startswith("made in ")
    cells = scores_in(tmp_path / "digits")
    assert [cell.column for cell in cells] == ["kNN", "linear probe"]
    assert cells[0].score.value > 60 and cells[0].beside[0].score.value > 90
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["rows"][0]["count"] == 37824
    card = (tmp_path / "digits" / "README.md").read_text(encoding="utf-8")
    assert "| beside it, random encoder |" in card and "](evaluation/neighbours.png)" in card
    shown = attar.open_artefact(place).shown()
    assert [one.png[1:4] for one in shown.pictures] == [b"PNG", b"PNG"]


def test_knn_and_the_probe_are_those_of_the_features(folders, source):
    made = attar.open_artefact(folders / "0")
    knn, probe = attar.evaluate(made, source, beside="skip").networks
    train, test = (torch.from_numpy(made.transform(part.samples.tensor)) for part in (source.train, source.test))
    right = source.test.labels
    votes = knn_votes(test, train, source.train.labels, 10)
    assert knn.score.value == pytest.approx(100 * float((votes.argmax(dim=1) == right).double().mean()))
    told = fit_probe(train, source.train.labels, 10).predict(test)
    assert probe.score.value == pytest.approx(100 * float((told.argmax(dim=1) == right).double().mean()))
    assert knn.chance == pytest.approx(100 * float(torch.bincount(right).max()) / 60)


def test_the_same_encoder_has_the_same_scores_again(folders, source):
    first, second = (attar.evaluate(folders / "0", source).to_json()["rows"] for _ in range(2))
    assert first == second


def test_seeds_are_repeats_of_a_row_and_rows_are_compared_in_pairs(folders, source, tmp_path):
    for seed in (0, 1):
        attar.train(source, SimCLR(**BRIEF, batch=64), seed=seed, out=tmp_path / str(seed))
    four = [home / str(seed) for home in (folders, tmp_path) for seed in (0, 1)]
    found = attar.evaluate(four, source, measures=["knn"])
    assert [row.label for row in found.rows] == ["simclr batch 128", "simclr batch 64"]
    assert [row.seeds for row in found.rows] == [(0, 1)] * 2
    assert found.difference(1).unit == "encoders in pairs"
    assert len(found.networks[0].values) == 2 and not found.networks[0].beside
    assert "± over encoders and episodes" in str(found)


def test_several_labels_are_scored_by_map_and_by_micro_f1_at_a_chosen_threshold():
    source = table()
    made = attar.train(source, SimCLR(epochs=2))
    ranked, micro = attar.evaluate(made, source).networks
    train, test = (
        torch.from_numpy(made.transform(part.samples.tensor.numpy())) for part in (source.train, source.test)
    )
    answer = probe_answer(train, source.train.labels, test, 4, None)
    told = of_several(answer, source.test.labels)
    assert (ranked.column, ranked.score.value) == ("mAP", pytest.approx(told["mAP"]))
    assert (micro.column, micro.score.value) == ("OF1 (micro-F1)", pytest.approx(told["OF1"]))
    assert list(micro.further) == ["CP", "CR", "CF1", "OP", "OR", "CF1 of the top 3", "OF1 of the top 3"]
    assert micro.note == f"by a linear probe, threshold {answer.threshold:.2g} chosen on 20 held-out samples"
    votes = knn_votes(test, train, source.train.labels, 4)
    assert {name: one.score.value for name, one in ranked.further.items()} == {
        "by kNN": pytest.approx(100 * mean_average_precision(votes, source.test.labels))
    }
    assert ranked.chance == pytest.approx(100 * float(source.test.labels.double().mean(dim=0).mean()))
    labels = [other.label for other in ranked.beside]
    assert labels[:5] == [
        "raw features, linear probe",
        "raw features, kNN",
        "random encoder, linear probe",
        "random encoder, kNN",
        "ExtraTrees on raw features",
    ]
    bce = "BCE, same encoder, views and epochs"
    assert labels[5:] == [bce]
    assert [other.label for other in micro.beside] == [*labels[:5], f"{bce}, threshold 0.5"]


def test_a_classifier_is_scored_itself_and_its_threshold_is_chosen_on_what_it_held_out():
    source = table()
    made = attar.train(source, SimCLR(epochs=2, held_out=0.2, linear=Linear(epochs=20, loss="bce")))
    ranked, micro = attar.evaluate(made, source, beside="skip").networks
    right = source.test.labels
    scores = torch.from_numpy(made.predict_proba(source.test.samples.tensor.numpy()))
    told = of_several(Answer(scores, threshold_in(micro.note)), right)
    assert ranked.score.value == pytest.approx(told["mAP"]) and ranked.note == ""
    assert list(ranked.further) == ["by a linear probe", "by kNN"]
    assert micro.note.endswith("chosen on 20 held-out samples")
    given = attar.evaluate(made, source, beside="skip", label_threshold=0.4).networks[1]
    assert given.note == "threshold 0.4"
    assert given.score.value == pytest.approx(of_several(Answer(scores, 0.4), right)["OF1"])
    columns = attar.evaluate(made, source, beside="skip", measures=["knn", "probe"]).columns
    assert columns == ("mAP of kNN", "mAP of linear probe")


def threshold_in(note):
    return float(note.split()[1])


def test_a_classifier_of_one_label_has_a_column(source):
    made = attar.train(source, SimCLR(**BRIEF, linear=Linear(epochs=5)))
    found = attar.evaluate(made, source)
    assert found.columns == ("kNN", "linear probe", "its classifier")
    told = made.predict_proba(source.test.samples.tensor).argmax(axis=1)
    right = 100 * float((torch.from_numpy(told) == source.test.labels).double().mean())
    assert found.networks[2].score.value == pytest.approx(right)
    assert {other.label for other in found.networks[2].beside} == {other.label for other in found.networks[0].beside}


def test_novel_classes_are_scored_by_episodes_with_an_interval(novel):
    made = attar.train(novel, SimCLR(**BRIEF))
    how = {"queries": 5, "test_episodes": 40}
    found = attar.evaluate(made, novel, **how)
    assert found.columns == ("5-way 1-shot", "5-way 5-shot")
    one, five = found.networks
    assert len(one.values[0]) == 40 and one.chance == 20
    low, high = one.score.interval
    assert low < one.score.value < high < five.score.value + 20
    assert "(40 episodes)" in str(found) and "beside it, random encoder: " in str(found)
    assert one.of_set(0).score == one.score
    again = attar.evaluate(made, novel, **how, shots=[1], beside="skip")
    assert again.networks[0].values == one.values


def test_episodes_put_queries_into_the_class_of_the_nearest_prototype(generator):
    labels = torch.arange(60) % 6
    features = F.one_hot(labels, 6).float() + 0.01 * torch.randn(60, 6, generator=generator)
    perfect = list(outcomes(features, labels, 5, 2, 3, 7, generator))
    assert [one.accuracy for one in perfect] == [100.0] * 7
    for one in perfect:
        assert not set(one.support.tolist()) & set(one.query.tolist())
        assert torch.equal(labels[one.query], labels[one.support][::2][one.predicted])
    far = list(outcomes(features, labels, 5, 1, 3, 4, generator, distances=lambda q, p: -torch.cdist(q, p)))
    assert max(one.accuracy for one in far) == 0.0


def test_pairs_are_scored_by_recall_in_both_directions():
    mosaics = Reading().load("mosaics")
    rows = torch.arange(96)
    pairs = dataclasses.replace(mosaics, train=mosaics.train.select(rows), test=mosaics.test.select(rows[:40]))
    made = attar.train(pairs, CLIP(epochs=1, batch=48, encoder="convnet:norm=batch,width=8"))
    found = attar.evaluate(made, pairs, measures=["recall"])
    assert found.columns == ("image to text, recall at 1", "text to image, recall at 1")
    images = torch.from_numpy(made.image_features(pairs.test.samples.tensor))
    texts = torch.from_numpy(made.text_features(pairs.test.captions))
    right = recalls(images, texts, pairs.test.captions)
    for cell, by_count in zip(found.networks, right.values(), strict=True):
        assert cell.score.value == pytest.approx(100 * by_count[1])
        assert cell.further["at 10"].score.value == pytest.approx(100 * by_count[10])
        assert cell.chance == pytest.approx(2.5) and not cell.beside
    assert attar.evaluate(made, pairs, beside="skip").columns[2:] == ("mAP", "OF1 (micro-F1)")


def test_bce_with_the_same_views_stands_beside_several_labels():
    source = table()
    made = attar.train(source, SimCLR(epochs=2, batch=32, held_out=0.2))
    (ranked, micro), said = attar.evaluate(made, source, measures=["map"]).networks, []
    label = "BCE, same encoder, views and epochs"
    method = MultiLabel(loss="bce", epochs=2, batch=32, held_out=0.2, view=made.method.view)
    rival = attar.train(source, method)
    right = attar.evaluate(rival, source, measures=["map"], say=said.append).networks
    for cell, same in zip((ranked, micro), right, strict=True):
        assert {o.label: o.score.value for o in cell.beside}[label] == pytest.approx(same.score.value)
    assert label not in {other.label for other in right[0].beside}


def test_what_cannot_be_measured_is_refused_in_one_line(folders, source, novel):
    made = attar.open_artefact(folders / "0")
    bare = dataclasses.replace(source, train=Part(source.train.samples), test=Part(source.test.samples), classes=())
    few = attar.train(novel, SimCLR(**BRIEF))
    for given, one, data, words in (
        (
            {},
            None,
            bare,
            "digits has no labels, so there is nothing to measure its encoder by. Give --data with labels",
        ),
        ({"measures": ["map"]}, made, source, "map needs several labels for each sample, but those of digits have one"),
        ({"measures": ["recall"]}, made, source, "recall needs image-text pairs and a text encoder, but digits has"),
        ({"measures": ["knn"]}, few, novel, "knn needs test samples of the training classes, but digits is tested on"),
        ({"measures": ["episodes"]}, None, table(), "episodes need one label for each sample, but those of signs have"),
        ({"ways": [6], "queries": 5}, few, novel, "an episode has 6 classes with 6 samples each"),
    ):
        with pytest.raises(InputError, match=words):
            attar.evaluate(one or attar.train(data, SimCLR(epochs=1, batch=64)), data, beside="skip", **given)
    wide = dataclasses.replace(source, **dict.fromkeys(("train", "test"), Part(InMemory(torch.zeros(9, 1, 9, 9)))))
    with pytest.raises(InputError, match=r"the encoder takes samples of shape \(1, 8, 8\), but those of digits have"):
        attar.evaluate(made, wide)


def test_settings_are_checked():
    with pytest.raises(InputError, match="ways is 1; it must be at least 2"):
        Scoring(ways=(1,))


def test_an_episode_has_all_classes_where_there_are_fewer_than_five():
    digits = Reading(novel=("7", "8", "9"), limit=60).load("digits")
    made = attar.train(digits, SimCLR(**BRIEF))
    found = attar.evaluate(made, digits, test_episodes=5, beside="skip")
    assert found.columns == ("3-way 1-shot", "3-way 5-shot")
