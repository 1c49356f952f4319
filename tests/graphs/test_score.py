import dataclasses
import json

import pytest
import torch

from attar.core import engine as core
from attar.core.errors import InputError
from attar.core.flags import parse
from attar.core.runtime import Runtime
from attar.graphs.coresets import GraphRandom, GraphStart
from attar.graphs.protocols import PROTOCOLS, Chosen, Protocol, protocol_named
from attar.graphs.score import CHOSEN, measure
from attar.graphs.scoring import Scoring
from attar.graphs.sources import load
from attar.verbs import evaluate
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
    chosen = row.further[CHOSEN]
    assert (row.score.n, chosen.score.n, row.chance, row.score.unit) == (2, 2, 50, "%")
    assert row.score.value == pytest.approx(sum(row.values[0]) / 2)
    assert chosen.score.value == pytest.approx(sum(chosen.values[0]) / 2)
    assert (report.count, report.rows[0].full_count) == (6, 288)
    assert f"{row.score} from 6 graphs" in str(report)
    assert f"best validation score: {chosen.score}" in str(report)
    assert "always guessing: 50.0 %" in str(report)
    facts = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert facts["rows"][0]["columns"][0]["further"][CHOSEN]["n"] == 2


def test_the_same_seed_gives_the_same_scores_whatever_stands_beside(motifs):
    one, two = (condensed(GraphStart(gpc=3), motifs, seed) for seed in (0, 1))
    together = scored([two, one], motifs)
    alone = scored(two, motifs)
    assert together.rows[0].seeds == (0, 1)
    assert together.of_set(1).networks[0].values == alone.networks[0].values
    assert together.of_set(1).networks[0].score == alone.networks[0].score
    assert together.of_set(1).networks[0].further == alone.networks[0].further


def test_methods_are_rows_that_are_compared_in_pairs(motifs):
    sets = [condensed(method, motifs, seed) for method in (GraphStart(gpc=3), GraphRandom(gpc=3)) for seed in (0, 1)]
    table = scored(sets, motifs)
    assert [row.label for row in table.rows] == ["graph-start", "graph-random"]
    assert table.difference(1).unit == "sets in pairs"
    assert table.difference(1, measure=CHOSEN).unit == "sets in pairs"
    assert "beside graph-random, gcn: at the epoch with the best validation score: " in str(table)


def test_networks_are_told_and_every_epoch_is_shown(motifs, monkeypatch):
    """G4."""
    from attar.graphs import score

    seen, said = [], []
    real = score.train_on_condensed

    def watching(*args, watch, tell):
        return real(*args, watch=lambda taken: seen.append(taken) or watch(taken), tell=tell)

    monkeypatch.setattr(score, "train_on_condensed", watching)
    row = scored(condensed(GraphStart(gpc=3), motifs), motifs, say=said.append).networks[0]
    assert seen[-1] == 2 * BRIEF.epochs
    assert f"gcn on graph-start: network 2 of 2, {row.values[0][1]:.1f} %" in said


def test_every_set_is_tested_on_the_split_that_it_was_made_with(motifs, monkeypatch):
    from attar.graphs import score

    fold = motifs.fold(1, folds=4, seed=3)
    small, seen = condensed(GraphStart(gpc=3), fold), []
    real = score.train_on_condensed
    monkeypatch.setattr(
        score, "train_on_condensed", lambda jobs, *a, **k: seen.extend(s for _, s in jobs) or real(jobs, *a, **k)
    )
    scored(small, motifs)
    assert {source.fingerprint for source in seen} == {fold.fingerprint}


def test_other_data_of_the_same_form_is_said(motifs):
    small, said = condensed(GraphStart(gpc=3), motifs), []
    graphs = dataclasses.replace(motifs.graphs, features=motifs.graphs.features.flip(1))
    scored(small, dataclasses.replace(motifs, graphs=graphs), say=said.append)
    assert any("differ from those that this set was condensed from" in line for line in said)


def test_the_score_of_all_the_data_is_remembered(motifs, monkeypatch):
    small = condensed(GraphRandom(gpc=3), motifs)
    first = scored(small, motifs, ceiling="run").networks[0]
    assert first.kept == pytest.approx(100 * first.score.value / first.full.value)
    monkeypatch.setattr("attar.graphs.trained.TrainGraphNetwork.step", lambda *a: pytest.fail("trained again"))
    assert scored(small, motifs, ceiling="auto").networks[0].full == first.full


def test_a_ceiling_that_takes_long_is_named_and_not_trained(motifs, monkeypatch):
    monkeypatch.setattr("attar.core.training.LONG", 1e-9)
    said = []
    slow = dataclasses.replace(BRIEF, name="slow", epochs=9)
    report = scored(condensed(GraphRandom(gpc=3), motifs), motifs, ceiling="auto", protocol=slow, say=said.append)
    assert report.networks[0].full is None
    assert any("training 2 networks on all 288 graphs would take about 0 minutes here" in line for line in said)
    assert any("Give --ceiling run to train them. Their score is kept for the next time." in line for line in said)


def test_networks_are_told_as_they_finish(motifs, monkeypatch):
    """Those that are trained together at once, and not when all are done."""
    monkeypatch.setattr("attar.graphs.together.AT_ONCE", 2)
    said, told = [], []
    monkeypatch.setattr("attar.core.progress.Line.at", lambda self, taken: told.append((taken, len(said))))
    scored(condensed(GraphStart(gpc=3), motifs), motifs, repeats=4, say=said.append)
    assert told[0] == (2, 0)
    assert told[-1] == (4 * BRIEF.epochs, 2)
    assert len(said) == 4


def test_molecules_are_scored_by_ranking(motifs):
    source = dataclasses.replace(motifs, metric="roc-auc")
    report = scored(condensed(GraphStart(gpc=3), source), source)
    row = report.networks[0]
    assert (row.score.unit, row.further[CHOSEN].score.unit, row.chance) == ("% AUC", "% AUC", 50)


def test_networks_of_every_kind_are_tried(motifs):
    small = condensed(GraphStart(gpc=2), motifs)
    names = ("gcn:width=8", "gin:width=8", "gat:width=8", "sage:width=8,pooling=sum")
    report = scored(small, motifs, networks=names, repeats=1)
    assert report.columns == names


def test_what_does_not_fit_is_refused(motifs):
    small = condensed(GraphStart(gpc=2), motifs)
    wider = dataclasses.replace(motifs.graphs, features=torch.cat([motifs.graphs.features] * 2, dim=1))
    with pytest.raises(
        InputError, match="the condensed set has 2 classes and 8 features per node, but motifs has 2 and 16"
    ):
        scored(small, dataclasses.replace(motifs, graphs=wider))
    with pytest.raises(InputError, match="there is no condensed set"):
        measure([], motifs, Scoring(), Runtime(ENGINE))
    with pytest.raises(InputError, match="repeats is 0"):
        scored(small, motifs, repeats=0)


def test_a_saved_set_knows_what_it_cost(motifs, tmp_path):
    runtime = Runtime(ENGINE)
    method = GraphStart(gpc=2).resolve(motifs, runtime)
    small = core.run(method, motifs, runtime, out=tmp_path)
    assert "made in" in str(scored(small, load("motifs", split_seed=4)))


def test_a_protocol_is_changed_setting_by_setting(motifs, tmp_path):
    changed = dataclasses.replace(Chosen.by("quick"), epochs=2, look_every=1)
    assert protocol_named(changed) == dataclasses.replace(PROTOCOLS["quick"], epochs=2, look_every=1)
    assert Scoring.from_names(protocol={"name": "molhiv", "batch": 8}).protocol.batch == 8
    words = ["--protocol", "quick", "--protocol.epochs", "2"]
    assert (
        protocol_named(parse({"scoring": Scoring()}, words, program="")["scoring"].protocol).told == "quick, epochs 2"
    )
    report = scored(condensed(GraphRandom(gpc=2), motifs), motifs, protocol=changed, repeats=1)
    cell = report.networks[0]
    assert cell.protocol == "quick, epochs 2, look_every 1"
    assert (cell.trained["epochs"], cell.trained["training_lr"]) == (2, 1e-3)
    with pytest.raises(InputError, match="did you mean 'quick'"):
        protocol_named(Chosen.by("quik"))
