"""What an evaluation tells of a sampler: columns, rivals, rows, pictures, and what is refused."""

import dataclasses
import functools
import json

import pytest
import torch

import attar
from attar.core.errors import InputError
from attar.core.progress import Line
from attar.core.registry import registered
from attar.core.score import Score
from attar.samplers.comparing import TEST, Comparison, check_finite, nearest_in
from attar.samplers.pairs import PairRegression
from attar.samplers.rivals import levels_within, teacher_of
from attar.samplers.score import columns_of, measure
from attar.samplers.scoring import Scoring
from attar.samplers.sources import Source
from attar.samplers.tasks import Teacher
from attar.samplers.toys import drawn
from attar.samplers.watching import watched

QUICK = {"network": "mlp:width=32,depth=1", "steps": 150, "batch": 64, "sampling_levels": 4}
SIDES = ("precision", "recall", "density", "coverage", "two-sample AUC", "kernel distance")


@pytest.fixture(scope="module", autouse=True)
def quick_pairs():
    """A student of pairs that is trained for a moment."""

    class Entry:
        load = staticmethod(lambda: functools.partial(PairRegression, steps=20, pair_count=64))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attar.samplers.rivals.registered", lambda name, verb: Entry)
        yield


@pytest.fixture(scope="module")
def images(few_digits):
    return Source.of_images(few_digits)


@pytest.fixture(scope="module")
def teacher(images, engine, tmp_path_factory):
    return attar.train(images, attar.EDM(**QUICK), out=tmp_path_factory.mktemp("made") / "teacher", engine=engine)


@pytest.fixture(scope="module")
def student(images, teacher, engine):
    method = registered("consistency", "distill").load()(steps=20, batch=32)
    folder = teacher.folder.parent / "student"
    return attar.distill(images, method, teacher=str(teacher.folder), out=folder, engine=engine)


@pytest.fixture(scope="module")
def found(student, images, engine):
    said = []
    one = attar.evaluate(student, images, engine=engine, say=said.append)
    return one, said


@pytest.fixture(scope="module")
def ring():
    return drawn("ring", 500)


@pytest.fixture(scope="module")
def of_points(ring, engine):
    return attar.train(ring, attar.EDM(**QUICK), engine=engine)


def cell_of(found, column, row=0):
    return next(one for one in found.rows[row].cells if one.column == column)


# --------------------------------------------------------------------------------------------------- a single sampler


def test_every_measure_is_a_column_against_training_and_test_samples(found):
    columns = found[0].columns
    networks = ("rFD, MLP (%)", "rFD, convnet (%)")
    assert {*networks, *SIDES, *(f"{one}{TEST}" for one in (*networks, *SIDES))} <= set(columns)
    assert {"class accuracy", "label variation", "memorisation excess", "seconds per 1,000 samples"} <= set(columns)
    assert columns[:5] == (*networks, "kernel distance", "precision", "recall")
    assert all(one.endswith(TEST) for one in columns[-8:])


def test_further_measures_stand_with_their_column(found):
    assert list(cell_of(found[0], "rFD, convnet (%)").further) == ["FD, convnet"]
    assert list(cell_of(found[0], f"rFD, MLP (%){TEST}").further) == ["FD, MLP"]
    memorised = cell_of(found[0], "memorisation excess")
    assert 0 <= memorised.further["nearer to training samples"].score.value <= 100
    assert cell_of(found[0], "kernel distance").score.interval is not None


def test_rivals_stand_beside_it(found, student, teacher):
    labels = [one.label for one in cell_of(found[0], "recall").beside]
    assert labels == [
        *("two real halves, 60 each", "real samples of the other split"),
        *("teacher, 7 calls", "teacher, 1 call", "pairs, 1 call"),
    ]
    others = {one.label: one for one in cell_of(found[0], "recall").beside}
    assert (others["teacher, 7 calls"].count, others["teacher, 7 calls"].bytes) == (7, teacher.bytes)
    assert found[0].count == student.calls == 1 and found[0].rows[0].full_count == 7
    assert others["two real halves, 60 each"].score.value > others["teacher, 7 calls"].score.value / 2
    assert "beside it, teacher, 1 call" in found[1]


def test_what_is_told_names_k_numbers_and_networks(found):
    note = cell_of(found[0], "recall").note
    assert note.startswith("120 new against 120 training and 120 test images, k = 3; MLP ") and "convnet" in note
    text = str(found[0])
    assert note in text and "calls of a network (NFE)" in text and "  FD, convnet" in text


def test_scores_are_plain_values_and_the_same_again(found, student, images, engine):
    again = attar.evaluate(student, images, engine=engine, beside="skip")
    timed = "seconds per 1,000 samples"
    for cell in again.networks:
        assert cell.column == timed or cell.values == cell_of(found[0], cell.column).values
    told = json.loads(json.dumps(found[0].to_json()))
    assert told["rows"][0]["columns"][0]["column"] == "rFD, MLP (%)"


def test_scores_and_pictures_are_kept_beside_it(found, student):
    Scoring().remember([student], found[0])
    card = (student.folder / "README.md").read_text(encoding="utf-8")
    assert "two real halves, 60 each" in card and "evaluation/together.png" in card and "evaluation/calls.png" in card
    assert len(attar.open_artefact(student.folder).shown().pictures) == 3


def test_other_noise_makes_repeats(student, images, engine):
    found = attar.evaluate(student, images, engine=engine, beside="skip", repeats=3, samples=40)
    distance = cell_of(found, "rFD, MLP (%)")
    assert len(distance.values) == 1 and len(set(distance.values[0])) == 3 and distance.score.n == 3
    assert "40 new against 40 training and 40 test" in distance.note


# ------------------------------------------------------------------------------------------------------ several of them


def test_several_samplers_draw_from_the_same_noise(student, teacher, images, engine):
    found = attar.evaluate([teacher, student, dataclasses.replace(teacher, steps=1)], images, engine=engine)
    assert [row.count for row in found.rows] == [7, 1, 1]
    assert not any(cell.beside for row in found.rows for cell in row.cells)
    beside = {
        one.label: one.score.value for one in cell_of(attar.evaluate(student, images, engine=engine), "recall").beside
    }
    assert cell_of(found, "recall").score.value == beside["teacher, 7 calls"]
    assert cell_of(found, "recall", 2).score.value == beside["teacher, 1 call"]
    assert "recall (%)" in str(found)


def test_samplers_that_differ_in_their_seed_make_one_row(teacher, images, engine):
    other = attar.train(images, attar.EDM(**QUICK), seed=1, engine=engine)
    (row,) = attar.evaluate([teacher, other], images, engine=engine, beside="skip").rows
    assert row.seeds == (0, 1) and len(row.cells[0].values) == 2 and row.cells[0].score.spread is not None


# -------------------------------------------------------------------------------------------------------------- points


def test_points_are_held_against_their_law(of_points, ring, engine):
    found = attar.evaluate(of_points, ring, engine=engine)
    columns = found.columns
    assert columns[:4] == ("sliced W1", "modes, of 8", "mode mass, variation", "-ln p")
    assert "rFD, points (%)" in columns and "class accuracy" not in columns
    (law,) = cell_of(found, "sliced W1").beside
    assert law.label == "400 fresh draws" and law.score.value < cell_of(found, "sliced W1").score.value
    (exact,) = cell_of(found, "modes, of 8").beside
    assert exact.score.value == 8
    assert "energy distance" in cell_of(found, "sliced W1").further and "stray" in str(found)


def test_points_without_a_law_are_held_against_test_points(engine):
    points = torch.randn(300, 3)
    source = Source.of_tensors(points[:200], points[200:])
    found = attar.evaluate(attar.train(source, attar.EDM(**QUICK), engine=engine), source, engine=engine)
    assert found.columns[0] == "sliced W1" and "-ln p" not in found.columns
    assert cell_of(found, "recall").beside[0].label == "two real halves, 100 each"


# ------------------------------------------------------------------------------------------------------- single pieces


def test_perfect_samples_are_told_as_such(images, runtime):
    against = Comparison.of(images, runtime, k=3)
    found = against.measured(images.train.all(), images.train.labels)
    assert found["rFD, MLP (%)"].value < 1e-8 and found["precision"].value == found["recall"].value == 100
    assert found["memorisation excess"].value > 5 and found["nearer to training samples"].value == 100
    assert found["kernel distance"].value < 0 and found["class accuracy"].value > 80
    shuffled = against.measured(images.train.all(), images.train.labels.flip(0))
    assert shuffled["class accuracy"].value < 10 and shuffled["label variation"] == found["label variation"]


def test_a_class_alone_is_told_by_recall_and_labels(images, runtime):
    against, ones = Comparison.of(images, runtime, k=3), images.train.labels == 1
    found = against.measured(images.train[ones.nonzero()[:, 0].repeat(3)], None)
    assert found["recall"].value < 15 and found["label variation"].value > 80 and "class accuracy" not in found


def test_the_nearest_in_a_part_are_those_of_all_of_it(images, monkeypatch):
    samples = images.test.all(30)
    whole = nearest_in(images.train, samples, 2)
    monkeypatch.setattr("attar.samplers.comparing.AT_ONCE", 7)
    torch.testing.assert_close(nearest_in(images.train, samples, 2), whole)


def test_columns_stand_in_their_order():
    names = "recall, test", "FD, a", "coverage", "rFD, a (%)", "recall", "FD, a, test", "rFD, a (%), test"
    assert columns_of(dict.fromkeys(names, Score(0.0))) == {
        "rFD, a (%)": ["FD, a"],
        "recall": [],
        "coverage": [],
        "rFD, a (%), test": ["FD, a, test"],
        "recall, test": [],
    }


@pytest.mark.parametrize("calls, steps", [(1, 1), (2, 1), (3, 2), (4, 2), (7, 4)])
def test_a_teacher_is_given_no_more_calls_than_the_student(teacher, calls, steps):
    assert levels_within(calls, teacher) == steps


def test_the_teacher_is_found_where_the_student_says(student, teacher, images, runtime, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    runtime.say = said.append
    assert teacher_of(student, images, Scoring(), runtime).steps == teacher.steps
    assert teacher_of(teacher, images, Scoring(), runtime) is None
    lost = dataclasses.replace(student, folder=None, origin=dataclasses.replace(student.origin, call=None))
    assert teacher_of(lost, images, Scoring(), runtime) is None
    assert said == ["note: the teacher is not at hand. Give --teacher FOLDER to have it beside the student."]
    given = Scoring(teacher=Teacher(network=str(teacher.folder)))
    assert teacher_of(lost, images, given, runtime) is not None and len(said) == 1
    other = Scoring(teacher=Teacher(network=str(teacher.folder), levels=3))
    assert teacher_of(lost, images, other, runtime).steps == 3
    assert said[1:] == ["note: the teacher or the data are others than those that this student learned from."]


def test_scores_while_training_stand_beside_those_of_halves(teacher, images):
    found = watched(teacher, images)
    assert list(found) == ["rFD", "recall", "rFD of halves", "recall of halves"]
    assert found == watched(teacher, images) and found["rFD"] > found["rFD of halves"] > 0
    assert watched(teacher, dataclasses.replace(images, train=images.train.select(torch.arange(7)))) == {}


def test_a_training_is_watched(images, engine):
    seen = []
    method = attar.EDM(**{**QUICK, "steps": 4, "watch": 2})
    state_of = type(method).seen

    def seen_too(self, state, runtime):
        seen.append(state_of(self, state, runtime))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(method), "seen", seen_too)
        attar.train(images, method, engine=engine)
    assert seen[0] == {} and seen[1] == seen[2] and seen[3] != seen[2] and "recall" in seen[3]


# ------------------------------------------------------------------------------------------------------ what is refused


def test_too_many_neighbours_are_refused(student, images, engine):
    with pytest.raises(InputError) as refused:
        attar.evaluate(student, images, engine=engine, neighbours=60)
    assert str(refused.value) == (
        "neighbours is 60, but digits has 120 training samples, of which halves are compared, and 120 are drawn. "
        "Give fewer neighbours, or more samples."
    )


def test_samples_of_another_shape_or_of_other_classes_are_refused(student, of_points, images, ring, engine, runtime):
    with pytest.raises(InputError) as refused:
        attar.evaluate(student, ring, engine=engine)
    assert str(refused.value) == (
        "the sampler makes samples of shape [1, 8, 8] of 10 classes, but ring has [2] of 8. "
        "Give the data that it learned from."
    )
    with pytest.raises(InputError, match="other classes: '7' stands where ring has 'other'"):
        attar.evaluate(of_points, dataclasses.replace(ring, classes=(*ring.classes[:7], "other")), engine=engine)
    with pytest.raises(InputError, match="no sampler to evaluate"):
        measure([], images, Scoring(), runtime)


def test_samples_that_are_not_finite_are_refused(teacher, images, engine):
    broken = dataclasses.replace(teacher, denoiser=teacher.denoiser.thawed())
    with torch.no_grad():
        next(broken.denoiser.parameters()).fill_(torch.nan)
    with pytest.raises(InputError) as refused:
        attar.evaluate(broken, images, engine=engine, beside="skip")
    assert str(refused.value) == (
        "120 of 120 new samples are not finite. Sample with more noise levels, or train it anew."
    )
    check_finite(torch.zeros(3, 2))


def test_a_rival_that_diverges_is_left_out(student, teacher, images, engine, tmp_path):
    broken = dataclasses.replace(teacher, denoiser=teacher.denoiser.thawed())
    with torch.no_grad():
        next(broken.denoiser.parameters()).fill_(torch.nan)
    said = []
    found = attar.evaluate(student, images, engine=engine, say=said.append, teacher=broken)
    assert any(line.startswith("teacher, 7 calls is left out: 120 of 120 new samples") for line in said)
    assert [one.label for one in cell_of(found, "recall").beside][2:] == []
    assert any(line.startswith("pairs are left out") for line in said)


def test_the_progress_line_has_them_after_the_loss():
    line = Line("edm", 3, quiet=True)
    line.show({"loss": 0.5, "lr": 0.1, "rFD": 0.5612, "recall": 87.5, "rFD of halves": 0.4})
    assert line._progress.tasks[0].fields["loss"] == "loss 0.5, rFD 0.5612, recall 87.5, rFD of halves 0.4"
