"""DD-Ranking's scores: the formulas exactly, and what they are made of."""

import dataclasses
import math

import pytest
import torch

import attar
from attar.core.cell import Beside, Cell
from attar.core.score import Score
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.images.ranking import hard_label_recovery, improvement_over_random, robust_score, with_robust_scores
from attar.verbs import evaluate

TINY = Architecture(width=8)
BRIEF = Protocol(name="brief", epochs=3, lr=0.05)


def test_the_formulas():
    assert hard_label_recovery(0.9, 0.6) == pytest.approx(0.3)
    assert improvement_over_random(0.7, 0.5) == pytest.approx(0.2)
    assert robust_score(-1, 1) == pytest.approx(1)
    assert robust_score(1, -1) == pytest.approx(0)
    assert robust_score(0.2, 0.2) == pytest.approx(1 / (1 + math.e))  # α = 0
    assert robust_score(0.3, 0.1, weight=1) == pytest.approx(robust_score(-0.1, 0.1))
    assert robust_score(0.3, 0.2) == pytest.approx((math.exp(-0.05) - math.exp(-1)) / (math.e - math.exp(-1)))


def cell(values, full=None, **beside):
    names = {
        "hard": "with hard labels",
        "random": "random, as many images",
        "same": "random, as many images, same teacher",
    }
    others = tuple(Beside(names[name], Score(value)) for name, value in beside.items())
    return Cell.of(values, column="convnet", full=None if full is None else Score(full), beside=others)


def told(found):
    return {name: [value for (value,) in one.values] for name, one in found.further.items()}


def test_each_set_has_its_own_if_its_labels_are_hard():
    found = told(with_robust_scores(cell([[60, 80], [50]], full=90, random=40), hard=True))
    assert found["HLR"] == [20, 40] and found["IOR"] == [30, 10]
    assert found["DDRS"] == pytest.approx([100 * robust_score(0.2, 0.3), 100 * robust_score(0.4, 0.1)])


def test_what_was_measured_for_the_first_set_is_told_of_the_first():
    found = with_robust_scores(cell([[70], [50]], full=90, hard=30, random=40), hard=False)
    assert told(found)["HLR"] == [60] and told(found)["IOR"] == [30, 10]
    assert told(found)["DDRS"] == pytest.approx([100 * robust_score(0.6, 0.3)])
    assert found.of_set(0).further.keys() == {"HLR", "IOR", "DDRS"}
    assert found.of_set(1).further.keys() == {"IOR"}


def test_nothing_is_made_up():
    assert told(with_robust_scores(cell([[70]]), hard=True)) == {}
    assert told(with_robust_scores(cell([[70]], full=90, random=40), hard=False)) == {"IOR": [30]}
    assert told(with_robust_scores(cell([[70]], full=90), hard=True)) == {"HLR": [20]}
    only = cell([[70]], random=40)  # random images that the set's protocol cannot train on
    assert told(with_robust_scores(only, hard=False, random="random, as many images, same teacher")) == {}


def test_less_is_better_of_what_is_not_recovered():
    found = with_robust_scores(cell([[70]], full=90, random=40), hard=True)
    assert [one.score.better for one in found.further.values()] == ["lower", "higher", "higher"]


def test_evaluate_tells_them_and_keeps_them(digits, engine, tmp_path):
    made = attar.condense(digits, attar.DM(ipc=1, steps=1, real_batch=4, architecture=TINY), engine=engine)
    soft = dataclasses.replace(made, labels=torch.nn.functional.one_hot(made.labels, 10).float() * 0.9 + 0.01)
    given = {"networks": [TINY], "repeats": 1, "protocol": BRIEF, "ceiling": "run", "beside": "run"}
    for one in (made, soft):
        found = evaluate(one, digits, engine=engine, **given).networks[0]
        beside = {other.label: other.score.value for other in found.beside}
        own = found.score.value
        hlr = found.full.value - beside.get("with hard labels", own)
        assert found.further["HLR"].score.value == pytest.approx(hlr)
        assert found.further["IOR"].score.value == pytest.approx(own - beside["random, as many images"])
        assert 0 < found.further["DDRS"].score.value < 100
    saved = made.save(tmp_path)
    saved.remember([found])
    assert "beside it, DDRS" in (tmp_path / "README.md").read_text(encoding="utf-8")
