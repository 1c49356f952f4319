import pytest
import torch

import attar.language as language
from attar.core.errors import InputError


def test_names_come_from_the_package():
    for name in dir(language):
        if not name.startswith("_"):
            assert getattr(language, name) is not None


def test_a_teacher_is_trained_kept_and_distilled_from_folders(source, engine, tmp_path):
    said = []
    settings = {"epochs": 1, "max_length": 96, "engine": engine, "answers": 0}
    language.train(source, "gpt2:layers=1,width=32", out=tmp_path / "teacher", say=said.append, **settings)
    assert said[0] == str(source)
    method = language.DistillLanguage.of(student="gpt2:layers=1,width=16", epochs=1, max_length=96)
    first = language.distill(
        source, method, teacher=tmp_path / "teacher", out=tmp_path / "one", engine=engine, answers=2
    )
    assert set(first.scores) == {"student", "teacher", "kept"}
    again = language.distill(
        source,
        language.DistillLanguage.of(epochs=1, max_length=96),
        teacher=tmp_path / "teacher",
        student=tmp_path / "one",
        engine=engine,
        answers=0,
    )
    assert again.origin.parameters == first.origin.parameters
    assert again.origin.settings["student"] == str(tmp_path / "one")
    assert again.origin.settings["lr"] == 5e-4


def test_a_given_student_is_left_as_it_is(source, teacher, student, tokenizer, engine):
    before = [parameter.clone() for parameter in student.parameters()]
    method = language.DistillLanguage.of(epochs=1, max_length=96)
    made = language.distill(
        source, method, teacher=teacher, student=student, tokenizer=tokenizer, engine=engine, answers=0
    )
    assert all(torch.equal(*pair) for pair in zip(before, student.parameters(), strict=True))
    assert not torch.equal(next(iter(made.model.parameters())), before[0])


def test_a_model_is_measured_over_seeds(source, teacher, student, tokenizer, engine):
    found = language.evaluate(
        student,
        source,
        teacher=teacher,
        tokenizer=tokenizer,
        answers=2,
        rows=4,
        seeds=(1, 2),
        engine=engine,
        error_at=2,
    )
    assert found.rouge_l.n == 2
    assert found.excess_error is not None


def test_evaluate_refuses_what_it_cannot_measure(source, student, tokenizer):
    with pytest.raises(InputError, match="part is 'dev'; it must be train, validation or test"):
        language.evaluate(student, source, tokenizer=tokenizer, part="dev")
    with pytest.raises(InputError, match="max_length is 4096, but the models read 96 tokens"):
        language.evaluate(student, source, tokenizer=tokenizer, max_length=4096)
    with pytest.raises(InputError, match="evaluate needs a model"):
        language.evaluate(None, source)
