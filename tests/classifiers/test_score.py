"""What is said of students beyond their accuracy."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import attar
from attar.classifiers.score import detection
from attar.core.errors import InputError
from attar.core.runtime import Engine
from attar.core.scores import scores_in

ENGINE = Engine(device="cpu", compile="off", quiet=True)


@pytest.fixture(scope="module")
def students(digits, tmp_path_factory):
    """Folders of two seeds of one method, and of another."""
    home = tmp_path_factory.mktemp("students")
    kd = attar.KD(student="convnet:norm=batch,width=4", epochs=1)
    alone = attar.Alone(student="convnet:norm=batch,width=4", epochs=1)
    teacher = attar.distill(digits, attar.Alone(student="convnet:norm=batch,width=8", epochs=2), engine=ENGINE).network
    for name, method, seed in (("a", kd, 0), ("b", kd, 1), ("alone", alone, 0)):
        beside = {} if method is alone else {"teacher": teacher}
        attar.distill(digits, method, out=home / name, seed=seed, engine=ENGINE, **beside)
    return home


def test_a_student_is_read_with_its_teacher_and_what_else_was_measured(students, digits):
    found = attar.evaluate(students / "a", digits, engine=ENGINE)
    (cell,) = found.networks
    made = attar.open_artefact(students / "a").scores
    assert cell.score.value == pytest.approx(made["student"])
    assert cell.full.value == made["teacher"]
    assert cell.kept == pytest.approx(made["kept"])
    assert {"macro F1", "effective rank of the classifier"} <= set(cell.further)
    assert f"beside it, its teacher: {made['teacher']:.1f} %" in str(found)


def test_seeds_are_one_row_and_methods_several(students, digits):
    found = attar.evaluate([students / name for name in ("a", "alone", "b")], digits, engine=ENGINE)
    assert [(row.label, row.seeds) for row in found.rows] == [("kd", (0, 1)), ("alone", (0,))]
    kd, alone = (row.cells[0] for row in found.rows)
    assert (kd.score.n, alone.score.n, alone.score.spread) == (2, 1, None)
    assert alone.kept is None
    assert "beside kd, accuracy: macro F1: " in str(found)


def test_scores_of_students_are_kept_and_stand_on_their_cards(students, digits):
    from attar.cli import main

    main(["evaluate", str(students / "a"), str(students / "b"), "--data", "digits", "--quiet"])
    for name in "ab":
        (cell,) = scores_in(students / name)
        assert len(cell.values) == 1
        text = (students / name / "README.md").read_text(encoding="utf-8")
        assert f"| **accuracy** |  | {cell.score} | 1 |" in text
        assert f"| beside it, its teacher |  | {cell.full} |" in text
        assert attar.open_artefact(students / name).scores


def test_a_student_of_other_data_is_refused(students, shapes):
    with pytest.raises(InputError, match="the student has 10 classes"):
        attar.evaluate(students / "a", shapes, engine=ENGINE)


def test_two_classes_have_an_f1_and_a_curve():
    logits = torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, 2.0], [0.0, -2.0], [0.0, 0.5]])
    labels = torch.tensor([1, 1, 1, 0, 0])
    macro, f1, auc = detection(logits, labels)
    assert np.isclose(f1, 100 * 2 * 2 / (3 + 3))
    assert np.isclose(macro, 100 * (2 / 3 + 1 / 2) / 2)
    assert np.isclose(auc, 100 * 5 / 6)


def test_more_classes_have_a_mean_f1_alone():
    logits, labels = torch.eye(3), torch.tensor([0, 1, 2])
    assert detection(logits, labels) == (100.0, None, None)
    assert detection(torch.eye(2), torch.tensor([0, 0]))[2] is None


class Never(nn.Module):
    """A teacher that is never right: it names the class after the one that the pixels of the first row spell."""

    def __init__(self, source):
        super().__init__()
        pixels = source.test.pixels[torch.arange(len(source.test))]
        self.register_buffer("seen", source.transform.forward(pixels).flatten(1))
        self.register_buffer("wrong", F.one_hot((source.test.labels + 1) % 10, 10).float())

    def forward(self, images):
        return self.wrong[torch.cdist(images.flatten(1), self.seen).argmin(dim=1)]


def test_nothing_is_said_to_be_kept_of_a_teacher_that_is_never_right(few_digits, tmp_path):
    from attar.cli import main

    def strictly(path):
        return json.loads(
            path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} in {path.name}")
        )

    method = attar.KD(student="convnet:norm=batch,width=4", epochs=1)
    made = attar.distill(few_digits, method, teacher=Never(few_digits), out=tmp_path, engine=ENGINE)
    assert made.scores["teacher"] == 0
    assert "kept" not in made.scores
    main(["evaluate", str(tmp_path), "--data", "digits", "--quiet"])
    (cell,) = scores_in(tmp_path)
    assert cell.kept is None
    assert cell.full.value == 0
    for name in ("artefact.json", "scores.json", "run/settings.json"):
        strictly(tmp_path / name)
    assert "nan" not in (tmp_path / "README.md").read_text(encoding="utf-8").lower()
    assert "kept" not in str(made)
