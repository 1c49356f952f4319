"""Scores on held-out samples while an encoder is trained."""

import json

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.embeddings import watching
from attar.embeddings.linear import Linear
from attar.embeddings.metrics import mean_average_precision
from attar.embeddings.neighbours import knn_votes
from attar.embeddings.selfsup.simclr import SimCLR
from attar.embeddings.sources import Features, Part, Source, Standard, evenly


def signs(several):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(90, 6, generator=generator)
    labels = rows[:, :3] > 0.3 if several else rows[:, :3].argmax(dim=1)
    return Source(
        "signs", ("a", "b", "c"), Part(Features(rows), labels), Part(Features(rows), labels), Standard.of(rows)
    )


@pytest.mark.parametrize("several, name", [(False, "held-out kNN"), (True, "held-out mAP")])
def test_the_last_score_is_that_of_the_result_and_stays_on_the_curve(several, name, tmp_path):
    source = signs(several)
    method = SimCLR(epochs=4, batch=32, held_out=0.2, watch=2, linear=Linear(epochs=2))
    attar.train(source, method, out=tmp_path / "made")
    lines = [
        json.loads(line) for line in (tmp_path / "made/run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    steps = 3  # of 72 samples
    known = [line.get(name) for line in lines[: 4 * steps]]
    first, last = known[2 * steps - 1], known[4 * steps - 1]
    assert known == [None] * (2 * steps - 1) + [first] * (2 * steps) + [last]
    made = attar.open_artefact(tmp_path / "made")
    learn, held = source.held_out(0.2)
    features = torch.from_numpy(made.transform(source.train.samples.tensor.numpy()))
    labels = source.train.labels
    votes = knn_votes(features[held], features[learn], labels[learn], 3)
    right = (
        mean_average_precision(votes, labels[held])
        if several
        else float((votes.argmax(dim=1) == labels[held]).double().mean())
    )
    assert last == pytest.approx(100 * right)


def test_watching_changes_nothing_of_the_result(tmp_path):
    source = signs(several=True)
    made = [attar.train(source, SimCLR(epochs=3, held_out=0.2, watch=watch)) for watch in (0, 1)]
    assert all(torch.equal(one, made[1].learned[name]) for name, one in made[0].learned.items())


def test_many_samples_are_thinned_and_none_without_labels_are_scored(monkeypatch, tmp_path):
    monkeypatch.setattr(watching, "MOST_LEARNED", 7)
    assert evenly(20, 7).tolist() == [0, 2, 5, 8, 11, 14, 17]
    bare = Source("bare", (), *[Part(signs(True).train.samples)] * 2, signs(True).transform)
    attar.train(bare, SimCLR(epochs=1, held_out=0.2, watch=1), out=tmp_path / "bare")
    assert "held-out" not in (tmp_path / "bare/run/metrics.jsonl").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="watch is 1, but no samples are held out"):
        SimCLR(watch=1)
