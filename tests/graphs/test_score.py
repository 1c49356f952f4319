import dataclasses
import json

import pytest
import torch

from attar.core import engine as core
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.graphs.coresets import GraphRandom, GraphStart
from attar.graphs.score import evaluate
from attar.graphs.sources import load
from attar.graphs.training import Protocol
from graphs.helpers import ENGINE, NARROW

BRIEF = Protocol(name="brief", epochs=8, training_lr=0.01, look_every=2)


def condensed(method, source, seed=0):
    runtime = Runtime(ENGINE, seed)
    return core.run(method.resolve(source, runtime), source, runtime)


def scored(small, source, **settings):
    return evaluate(
        small,
        source,
        **{"networks": (NARROW,), "repeats": 2, "protocol": BRIEF, "ceiling": "skip", "engine": ENGINE, **settings},
    )


def test_a_score_has_both_epochs_and_survives_json(motifs):
    report = scored(condensed(GraphStart(gpc=3), motifs), motifs)
    row = report.networks[0]
    assert (row.score.n, row.last.n, row.chance, row.metric) == (2, 2, 50, "accuracy")
    assert row.score.value == pytest.approx(sum(row.values[0]) / 2)
    assert row.last.value == pytest.approx(sum(row.last_values[0]) / 2)
    assert (report.graphs, report.full_graphs) == (6, 288)
    assert "at the last epoch from 6 graphs" in str(report)
    assert "best validation score" in str(report)
    assert json.loads(json.dumps(report.to_json()))["networks"][0]["last"]["n"] == 2


def test_the_same_seed_gives_the_same_scores_whatever_stands_beside(motifs):
    one, two = (condensed(GraphStart(gpc=3), motifs, seed) for seed in (0, 1))
    together = scored([one, two], motifs)
    alone = scored(two, motifs)
    assert together.of_set(1).networks[0].last_values == alone.networks[0].last_values
    assert together.of_set(1).networks[0].score == alone.networks[0].score


def test_every_set_is_tested_on_the_split_that_it_was_made_with(motifs, monkeypatch):
    from attar.graphs import score

    fold = motifs.fold(1, folds=4, seed=3)
    small, seen = condensed(GraphStart(gpc=3), fold), []
    real = score.train_on_condensed
    monkeypatch.setattr(score, "train_on_condensed", lambda jobs, *a: seen.extend(s for _, s in jobs) or real(jobs, *a))
    scored(small, motifs)
    assert {source.fingerprint for source in seen} == {fold.fingerprint}


def test_other_data_of_the_same_form_is_said(motifs):
    small, said = condensed(GraphStart(gpc=3), motifs), []
    graphs = dataclasses.replace(motifs.graphs, features=motifs.graphs.features.flip(1))
    scored(small, dataclasses.replace(motifs, graphs=graphs), say=said.append)
    assert any("is not, graph for graph, what this set was condensed from" in line for line in said)


def test_the_score_of_all_the_data_is_remembered(motifs, monkeypatch):
    small = condensed(GraphRandom(gpc=3), motifs)
    first = scored(small, motifs, ceiling="run").networks[0]
    assert first.kept == pytest.approx(100 * first.last.value / first.full.value)
    monkeypatch.setattr("attar.graphs.training._train_alone", lambda *a, **k: pytest.fail("trained again"))
    assert scored(small, motifs, ceiling="auto").networks[0].full == first.full


def test_a_ceiling_that_takes_long_is_named_and_not_trained(motifs, monkeypatch):
    monkeypatch.setattr("attar.graphs.score.LONG", 1e-9)
    said = []
    slow = dataclasses.replace(BRIEF, name="slow", epochs=9)
    report = scored(condensed(GraphRandom(gpc=3), motifs), motifs, ceiling="auto", protocol=slow, say=said.append)
    assert report.networks[0].full is None
    assert any("ask with --ceiling run" in line for line in said)


def test_molecules_are_scored_by_ranking(motifs):
    source = dataclasses.replace(motifs, metric="roc-auc")
    report = scored(condensed(GraphStart(gpc=3), source), source)
    row = report.networks[0]
    assert (row.metric, row.score.unit, row.chance) == ("roc-auc", "% AUC", 50)


def test_networks_of_every_kind_are_tried(motifs):
    small = condensed(GraphStart(gpc=2), motifs)
    names = ("gcn:width=8", "gin:width=8", "gat:width=8", "sage:width=8,pooling=sum")
    report = scored(small, motifs, networks=names, repeats=1)
    assert [row.network for row in report.networks] == list(names)


def test_what_does_not_fit_is_refused(motifs):
    small = condensed(GraphStart(gpc=2), motifs)
    wider = dataclasses.replace(motifs.graphs, features=torch.cat([motifs.graphs.features] * 2, dim=1))
    with pytest.raises(
        InputError, match="the condensed set has 2 classes and 8 features a node, but motifs has 2 and 16"
    ):
        scored(small, dataclasses.replace(motifs, graphs=wider))
    with pytest.raises(InputError, match="there is no condensed set"):
        scored([], motifs)
    with pytest.raises(InputError, match="repeats is 0"):
        scored(small, motifs, repeats=0)


def test_a_saved_set_knows_what_it_cost(motifs, tmp_path):
    runtime = Runtime(ENGINE)
    method = GraphStart(gpc=2).resolve(motifs, runtime)
    small = core.run(method, motifs, runtime, out=tmp_path)
    assert "condensed in" in str(scored(small, load("motifs", seed=4)))
