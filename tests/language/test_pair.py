import copy
import functools

import pytest
import torch
from torch import nn

from attar.core.errors import InputError
from attar.language.models import byte_tokenizer, fresh_model
from attar.language.pair import paired


def test_the_fingerprint_knows_data_teacher_and_student(source, teacher, student, tokenizer):
    prints = [
        paired(source, *models, tokenizer).fingerprint
        for models in ((teacher, None), (teacher, student), (student, None), (None, None))
    ]
    assert len(set(prints)) == 4
    assert paired(source, teacher, None, tokenizer).fingerprint == prints[0]


def test_models_come_from_folders_with_their_tokenizer(source, teacher, tokenizer, tmp_path):
    teacher.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    pair = paired(source, tmp_path, "gpt2:layers=1,width=16")
    assert pair.student is None
    assert pair.words == 300
    assert pair.longest == 96
    assert str(pair) == str(source)


def test_without_any_model_a_tokenizer_is_learned_from_the_data(source):
    assert 300 < len(paired(source, None, None).tokenizer) <= 512


def test_what_does_not_fit_is_refused(source, teacher, student, tokenizer, tmp_path):
    with pytest.raises(InputError, match="the model has no tokenizer"):
        paired(source, teacher, None)
    with pytest.raises(InputError, match=r"the teacher is a Linear\. Give a causal model of transformers"):
        paired(source, nn.Linear(2, 2), None, tokenizer)
    with pytest.raises(InputError, match=r"which is not trained yet\. Train it first"):
        paired(source, "gpt2:layers=1", None, tokenizer)
    other = byte_tokenizer(["zzz qqq"] * 9, 259)
    stranger = fresh_model("gpt2:layers=1,width=16", other, 32, torch.Generator())
    for name, model, words in (("one", teacher, tokenizer), ("two", stranger, other)):
        model.save_pretrained(tmp_path / name)
        words.save_pretrained(tmp_path / name)
    with pytest.raises(InputError, match="teacher and student have different vocabularies: 300 and 259 tokens"):
        paired(source, tmp_path / "one", tmp_path / "two")


def test_a_student_with_a_trainers_forward_is_refused(source, teacher, student, tokenizer):
    replaced = copy.deepcopy(student)
    replaced.forward = functools.partial(type(student).forward, replaced)
    paired(source, replaced, None, tokenizer)
    with pytest.raises(InputError, match=r"a trainer has replaced the student's forward\. Save the model"):
        paired(source, teacher, replaced, tokenizer)
