"""Learned step sizes: at which step size networks are trained on a set, by protocol."""

import dataclasses
import math

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.scores import scores_in
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.rates import note, trained_at
from attar.images.score import measure_beside, train_and_test
from attar.verbs import evaluate

TINY = Architecture(width=4)
BRIEF = {
    "ipc": 1,
    "steps": 2,
    "student_steps": 2,
    "last_start": 2,
    "architecture": TINY,
    "experts": attar.Experts(experts=1, epochs=4, lr=0.05),
}
SGD = [name for name, protocol in PROTOCOLS.items() if protocol.optimizer == "sgd"]
TIMES = {"quick": 10, "sre2l-tiny": 20}
"""Protocols with other step sizes than that of `field`, and how many times as large they are."""


@pytest.fixture(scope="module")
def random(digits, engine):
    return attar.condense(digits, attar.Random(ipc=1), engine=engine)


@pytest.mark.parametrize("name", SGD)
def test_a_learned_step_size_replaces_that_of_field_and_others_keep_their_ratio(name):
    protocol = PROTOCOLS[name]
    for learned in (0.002, 0.01, 0.3):
        assert trained_at(protocol, learned).lr == pytest.approx(learned * TIMES.get(name, 1))
    assert trained_at(protocol, 0.01).lr == pytest.approx(protocol.lr)
    faster = trained_at(protocol, 0.5)
    assert faster.lr == pytest.approx(0.5 * protocol.lr / 0.01)
    assert dataclasses.replace(faster, lr=protocol.lr) == protocol
    assert trained_at(protocol, None) is protocol


def test_a_protocol_of_ones_own_that_trains_three_times_as_fast_does_so_here_too():
    own = Protocol(name="own", epochs=3, lr=0.03)
    assert trained_at(own, 0.002).lr == pytest.approx(0.006)
    assert note(own, 0.002) == "learned step size 0.002 × 3"


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - set(SGD)))
def test_adamw_keeps_its_own_and_says_so(name):
    protocol = PROTOCOLS[name]
    for learned in (0.02, -1.0, 0.0, math.nan):
        assert trained_at(protocol, learned) is protocol
    assert note(protocol, 0.02) == "learned step size 0.02 not used"
    assert note(protocol, None) == ""


@pytest.mark.parametrize("learned", [-0.003, 0.0, -0.0, 1e-30, 1e30, math.nan, math.inf, -math.inf])
def test_a_step_size_that_trains_nothing_is_refused(learned, random, digits, engine):
    with pytest.raises(InputError) as refusal:
        trained_at(PROTOCOLS["field"], learned)
    assert str(refusal.value) == (
        f"the set's learned step size is {learned:.3g}, and no network can be trained with that. Condense the set "
        "again with --learn-lr log; if it was imported, import it again with a --lr of its own."
    )
    with pytest.raises(InputError, match="learned step size is"):
        evaluate(dataclasses.replace(random, lr=learned), digits, networks=[TINY], protocol="quick", engine=engine)


@pytest.mark.parametrize("kind", ["MTT", "TESLA"])
def test_networks_are_trained_at_ten_times_a_learned_step_size_by_quick(kind, digits, few_digits, engine, runtime):
    small = attar.condense(few_digits, getattr(attar, kind)(**BRIEF), engine=engine)
    assert small.lr == pytest.approx(0.05, rel=0.1)
    brief = dataclasses.replace(PROTOCOLS["quick"], epochs=5)
    bare, faster = dataclasses.replace(small, lr=None), dataclasses.replace(brief, lr=10 * small.lr)
    found = train_and_test(small, digits, TINY, brief, 2, runtime.with_seed(0))
    assert found == train_and_test(bare, digits, TINY, faster, 2, runtime.with_seed(0))
    assert found != train_and_test(bare, digits, TINY, brief, 2, runtime.with_seed(0))


def measured(small, source, engine, **settings):
    given = {"networks": [TINY], "repeats": 2, "ceiling": "skip", "beside": "run", "engine": engine}
    brief = dataclasses.replace(PROTOCOLS["quick"], epochs=10)
    return evaluate(small, source, **{**given, "protocol": brief, **settings})


def test_random_images_stand_beside_at_both_step_sizes_the_better_first(random, digits, engine):
    own = {other.label: other.score for other in measured(random, digits, engine).networks[0].beside}
    assert list(own) == ["without augmentation", "random, as many images", "random, as many bytes"]
    firsts = set()
    for lr in (1e-6, 0.02):
        cell = measured(dataclasses.replace(random, lr=lr), digits, engine).networks[0]
        assert cell.trained["lr"] == trained_at(PROTOCOLS[cell.trained["name"]], lr).lr
        for label in list(own)[1:]:
            two = [other for other in cell.beside if other.label.startswith(label)]
            assert {other.label for other in two} == {label, f"{label}, at the set's step size"}
            assert two[0].score.value >= two[1].score.value
            assert own[label] in [other.score for other in two]
            firsts.add(two[0].label)
        assert len(cell.beside) == 5
    assert "random, as many images" in firsts  # nothing learns at a millionth


def test_a_step_size_of_fields_own_needs_no_second_rival(random, digits, engine):
    small = dataclasses.replace(random, lr=0.01)
    cells = [measured(one, digits, engine).networks[0] for one in (small, random)]
    assert cells[0].beside == cells[1].beside and cells[0].values == cells[1].values


def test_what_a_second_rival_costs_is_estimated(random, digits, runtime):
    said = []
    runtime = Runtime(runtime.engine, 0, say=said.append)
    small = dataclasses.replace(random, lr=0.02)
    assert measure_beside(small, digits, TINY, PROTOCOLS["quick"], 1, "auto", 220.0, runtime) == ()
    assert "random, as many images, at the set's step size, random, as many bytes" in said[0]
    assert "would take about 20 minutes here" in said[0]  # five scores, two of them of a few bytes more


def test_the_step_size_is_said_with_the_score_everywhere(random, digits, engine, tmp_path):
    small = dataclasses.replace(random, lr=0.02).save(tmp_path / "a")
    found = measured(small, digits, engine, beside="skip")
    small.remember(list(found.networks))
    assert "(quick, epochs 10 protocol, learned step size 0.02 × 10, 2 networks)" in str(found)
    assert found.to_json()["rows"][0]["columns"][0]["notes"] == ["learned step size 0.02 × 10"]
    (kept,) = scores_in(tmp_path / "a")
    assert kept.note == "learned step size 0.02 × 10"
    assert "| quick, epochs 10, learned step size 0.02 × 10 |" in (tmp_path / "a" / "README.md").read_text(
        encoding="utf-8"
    )
    assert "notes" not in measured(random, digits, engine).to_json()["rows"][0]["columns"][0]


def test_repeats_are_trained_each_at_its_own(digits, engine):
    sets = [
        dataclasses.replace(attar.condense(digits, attar.Random(ipc=1), seed=seed, engine=engine), lr=lr)
        for seed, lr in ((0, 0.02), (1, 0.03))
    ]
    both = measured(sets, digits, engine, beside="skip").rows[0]
    assert both.cells[0].note == "learned step size 0.02 × 10; learned step size 0.03 × 10"
    for index, small in enumerate(sets):
        alone = measured(small, digits, engine, beside="skip").networks[0]
        assert both.cells[0].values[index] == alone.values[0]
        assert both.of_set(index).cells[0].note == alone.note
    assert both.cells[0].score.spread > 0


def test_an_imported_set_follows_the_same_rule(digits, engine, tmp_path):
    images, labels = torch.randn(10, 1, 8, 8), torch.arange(10)
    for name, value in (("images", images), ("labels", labels), ("lr", torch.tensor(0.03))):
        torch.save(value, tmp_path / f"{name}_best.pt")
    files = [tmp_path / f"{name}_best.pt" for name in ("images", "labels", "lr")]
    small = attar.import_set(files, digits)
    cell = measured(small, digits, engine, beside="skip").networks[0]
    assert cell.note == "learned step size 0.03 × 10"
    torch.save(torch.tensor(-0.03), files[2])
    with pytest.raises(InputError, match=r"the learning rate is -0\.03; it must be a finite number above 0"):
        measured(attar.import_set(files, digits), digits, engine)
    assert (
        measured(attar.import_set(files, digits, lr=0.03), digits, engine, beside="skip").networks[0].note == cell.note
    )
