"""Scores: what is measured, what stands beside it, and how spreads come apart."""

import dataclasses
import json

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.score import measure, measure_beside, train_and_test
from attar.images.scoring import Scoring
from attar.verbs import evaluate

TINY = Architecture(width=8)
BRIEF = Protocol(name="brief", epochs=3, lr=0.05)


@pytest.fixture(scope="module")
def small(digits, engine):
    return attar.condense(digits, attar.DM(ipc=2, steps=2, real_batch=4, architecture=TINY), engine=engine)


def score(small, source, engine, **settings):
    given = {"networks": [TINY], "repeats": 2, "protocol": BRIEF, "ceiling": "skip", "beside": "skip"}
    return evaluate(small, source, engine=engine, **{**given, **settings})


def test_a_set_scores_the_same_alone_and_among_others(small, digits, engine):
    again = attar.condense(digits, attar.DM(ipc=2, steps=2, real_batch=4, architecture=TINY), seed=5, engine=engine)
    other = attar.condense(digits, attar.Random(ipc=2), seed=5, engine=engine)
    alone, several = score(small, digits, engine), score([other, again, small], digits, engine)
    assert [(row.label, row.seeds) for row in several.rows] == [("random", (5,)), ("dm", (0, 5))]
    assert several.rows[1].cells[0].values[0] == alone.networks[0].values[0]


def test_beside_a_score_stand_no_augmentation_and_random_images(small, digits, engine):
    row = score(small, digits, engine, beside="run").networks[0]
    labels = [other.label for other in row.beside]
    assert labels == ["without augmentation", "random, as many images", "random, as many bytes"]
    bare, as_many, as_heavy = row.beside
    assert (bare.count, as_many.count) == (20, 20)
    assert as_heavy.count > as_many.count
    assert as_heavy.bytes <= small.bytes
    assert as_heavy.bytes + 10 * (64 + 8) > small.bytes - 500  # not one image per class more, headers aside


def test_hard_labels_stand_beside_soft_ones(small, digits, engine):
    soft = dataclasses.replace(small, labels=torch.nn.functional.one_hot(small.labels, 10).float() * 0.9 + 0.01)
    hard = next(
        o for o in score(soft, digits, engine, beside="run").networks[0].beside if o.label == "with hard labels"
    )
    assert hard.score.value == score(small, digits, engine).networks[0].score.value


def test_without_augmentation_is_what_the_protocol_without_it_gives(small, digits, engine):
    bare = score(small, digits, engine, beside="run").networks[0].beside[0]
    direct = score(small, digits, engine, protocol=dataclasses.replace(BRIEF, augmented=False))
    assert bare.score == direct.networks[0].score


def test_random_images_keep_the_classes_shares(digits, runtime):
    uneven = attar.condense(digits, attar.Random(ipc=3), engine=runtime.engine)
    keep = torch.cat([torch.arange(3), torch.arange(3, 30, 3)])
    uneven = dataclasses.replace(uneven, images=uneven.images[keep], labels=uneven.labels[keep])
    found = measure_beside(uneven, digits, TINY, BRIEF, 1, "run", 0.0, runtime)
    assert found[1].count == 3 + 9


def test_what_takes_long_is_said_and_not_started(small, digits, engine):
    said = []
    runtime = Runtime(engine, 0, say=said.append)
    assert measure_beside(small, digits, TINY, BRIEF, 1, "auto", 1000.0, runtime) == ()
    assert said[0].startswith("further scores are not measured: without augmentation, random, as many images")
    assert said[0].endswith("Measure them with --beside run.")


def test_kept_above_chance_is_less_than_kept(small, digits, engine):
    row = score(small, digits, engine, repeats=1, ceiling="run").networks[0]
    assert row.chance == pytest.approx(100 * torch.bincount(digits.test.labels).max().item() / 500)
    assert row.kept_above_chance < row.kept


def test_the_text_says_what_was_kept_and_what_it_cost(digits, engine, tmp_path):
    small = attar.condense(digits, attar.Random(ipc=2), out=tmp_path, engine=engine)
    text = str(score(small, digits, engine, ceiling="run", beside="run"))
    assert "kept" in text
    assert "above chance" in text
    assert "beside it, random, as many images" in text
    assert "beside it, always guessing: 10.2 %" in text
    assert "of the whole; made in" in text
    assert "GB, scored in" in text


def test_scores_survive_json(small, digits, engine):
    report = score([small, small], digits, engine, beside="run")
    assert report.networks[0].spread.sets == 0
    facts = json.loads(json.dumps(report.to_json(), allow_nan=False))
    (row,) = facts["rows"]
    assert [other["label"] for other in row["columns"][0]["beside"]][-1] == "random, as many bytes"
    assert (row["count"], row["full_count"]) == (20, 1297)


def test_networks_are_told_as_they_finish(small, digits, engine):
    """G4."""
    said = []
    row = score(small, digits, engine, beside="run", say=said.append).networks[0]
    assert said[:2] == [f"convnet on dm: network {n} of 2, {row.values[0][n - 1]:.1f} %" for n in (1, 2)]
    assert f"beside it, without augmentation: network 2 of 2, {row.beside[0].score.value:.1f} %"[:48] in said[3]


def test_a_line_on_the_terminal_shows_every_mini_batch(small, digits, engine, monkeypatch):
    """G4."""
    from attar.images import score as module

    lines = []

    class Line:
        def __init__(self, title, total, *, quiet):
            self.told = (title, total, quiet, [])
            lines.append(self.told)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def at(self, step):
            self.told[3].append(step)

    monkeypatch.setattr(module, "Line", Line)
    score(small, digits, dataclasses.replace(engine, quiet=False))
    assert [(title, total, quiet) for title, total, quiet, _ in lines] == [("convnet on dm", 6, False)]
    assert lines[0][3] == [1, 2, 3, 4, 5, 6]


def test_each_network_may_have_a_set_of_its_own(digits, runtime):
    one, two = (attar.condense(digits, attar.Random(ipc=2), seed=seed, engine=runtime.engine) for seed in (0, 1))
    both = train_and_test(lambda repeat: (one, two)[repeat], digits, TINY, BRIEF, 2, runtime.with_seed(0))
    apart = [train_and_test(small, digits, TINY, BRIEF, 2, runtime.with_seed(0)) for small in (one, two)]
    assert both == [apart[0][0], apart[1][1]]


def test_no_set_and_a_set_of_other_data_are_refused(small, shapes, digits, engine):
    with pytest.raises(InputError, match="there is no condensed set to evaluate"):
        measure([], digits, Scoring(), Runtime(engine))
    with pytest.raises(InputError, match="Give the data it was condensed from"):
        score(small, shapes, engine)
