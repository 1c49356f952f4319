"""Students read anew from their folders, by the shared verb and by the command."""

import json
import math

import pytest
import torch

import attar
import attar.language as language
from attar.cli import main
from attar.core.errors import InputError
from attar.language.models import byte_tokenizer, fresh_model
from attar.language.score import evaluate

TINY = {"student": "gpt2:layers=1,width=16,heads=2", "epochs": 1, "max_length": 96, "new_tokens": 6}


@pytest.fixture(scope="module")
def students(source, teacher, tokenizer, engine, tmp_path_factory):
    """Two seeds by forward divergence, one by the labels alone, and their folders."""
    home, made = tmp_path_factory.mktemp("students"), {}
    for name, seed, settings in (("a", 0, {}), ("b", 1, {}), ("labels", 0, {"divergence": "none"})):
        method = language.DistillLanguage.of(**TINY, **settings)
        given = {"teacher": teacher, "tokenizer": tokenizer, "engine": engine, "answers": 2, "seed": seed}
        language.distill(source, method, out=home / name, **given)
        made[name] = home / name
    teacher.save_pretrained(home / "teacher")
    tokenizer.save_pretrained(home / "teacher")
    return {**made, "teacher": home / "teacher"}


@pytest.fixture(scope="module")
def rows(source, tmp_path_factory):
    """The test data as a folder."""
    home = tmp_path_factory.mktemp("rows")
    for part in ("train", "validation", "test"):
        lines = [json.dumps(row) for row in getattr(source, part)]
        (home / f"{part}.jsonl").write_text("\n".join(lines))
    return home


def test_a_student_is_measured_as_it_was_when_it_was_made(students, source, engine):
    found = attar.evaluate(students["a"], source, repeats=1, answers=2, engine=engine)
    (row,) = found.rows
    (student,) = row.students
    stored = language.DistilledLanguageModel.load(students["a"]).scores
    assert student.measures.to_json() == {name: stored["student"][name] for name in student.measures.to_json()}
    assert student.kept == pytest.approx(stored["kept"])
    assert str(found).startswith("student of data: cross-entropy ")
    assert "kept: " in str(found)


def test_seeds_are_one_row_with_their_spread_and_other_settings_another(students, source, engine):
    folders = [students[name] for name in ("a", "labels", "b")]
    found = attar.evaluate(folders, source, repeats=2, answers=2, engine=engine)
    names = [row.name for row in found.rows]
    assert names == ["student of data, divergence forward", "student of data, divergence none"]
    pair, alone = found.rows
    assert [student.seed for student in pair.students] == [0, 1]
    each = [student.measures.cross_entropy.value for student in pair.students]
    assert pair.measures.cross_entropy.value == pytest.approx(sum(each) / 2)
    assert pair.measures.cross_entropy.spread == pytest.approx(abs(each[0] - each[1]) / 2)
    assert (pair.measures.rouge_l.n, pair.kept.n) == (2, 2)
    assert (alone.measures.rouge_l.n, alone.measures.cross_entropy.n) == (2, 1)  # rounds of answers; one student
    assert "student of data, divergence forward, 2 seeds: cross-entropy" in str(found)
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["rows"][0]["rouge_l"]["n"] == 2
    assert len(plain["rows"][0]["students"]) == 2
    assert plain["rows"][0]["excess_error"] is None


def test_rounds_of_answers_come_from_the_seed(students, source, engine):
    folder, common = students["a"], {"repeats": 2, "answers": 8, "engine": engine}
    one, other, third = (attar.evaluate(folder, source, seed=seed, **common).rows[0].measures for seed in (0, 0, 1))
    assert one == other
    assert (one.rouge_l, one.length_ratio) != (third.rouge_l, third.length_ratio)
    assert one.cross_entropy == third.cross_entropy
    known = language.DistilledLanguageModel.load(folder)
    sampling = language.Sampling(new_tokens=6)
    by_hand = language.evaluate(
        known, source, seeds=(10, 20), answers=8, max_length=96, max_prompt=48, sampling=sampling, engine=engine
    )
    assert by_hand == one


def test_a_teacher_adds_the_excess_error_and_what_is_kept_on_other_data(students, source, engine):
    few = language.load({part: list(source.test)[:4] for part in ("train", "validation", "test")})
    found = attar.evaluate(students["a"], few, repeats=1, answers=2, teacher=str(students["teacher"]), engine=engine)
    (student,) = found.rows[0].students
    assert math.isfinite(student.measures.excess_error.value)
    teachers = language.evaluate(students["teacher"], few, answers=0, max_length=96, max_prompt=48, engine=engine)
    assert student.kept == pytest.approx(100 * teachers.perplexity / student.measures.perplexity)


def test_what_is_kept_of_other_data_is_not_guessed(students, rows, engine):
    found = attar.evaluate(students["a"], rows, answers=0, engine=engine)
    assert found.rows[0].kept is None
    assert "kept" not in str(found)
    assert found.rows[0].measures.rouge_l is None


def test_what_cannot_be_measured_is_refused(students, source, engine, tmp_path):
    student = language.DistilledLanguageModel.load(students["a"])
    with pytest.raises(InputError, match="repeats is 0; it must be at least 1"):
        evaluate([student], source, repeats=0)
    with pytest.raises(InputError, match="there is no student to evaluate"):
        evaluate([], source)
    other = byte_tokenizer(["zzz qqq"] * 9, 259)
    fresh_model("gpt2:layers=1,width=16", other, 96, torch.Generator()).save_pretrained(tmp_path)
    other.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="teacher and student disagree in vocabulary: 259 and 300 tokens"):
        evaluate([student], source, teacher=tmp_path, engine=engine)
    with pytest.raises(InputError, match="give condensed sets, or students, of one kind; these are of none"):
        attar.evaluate([], source)


def test_the_command_measures_students_and_writes_what_it_found(students, rows, tmp_path, capsys):
    words = ["--data", str(rows), "--repeats", "1", "--answers", "2", "--teacher", str(students["teacher"]), "--quiet"]
    main(["evaluate", str(students["a"]), str(students["b"]), *words, "--json", str(tmp_path / "scores.json")])
    printed = capsys.readouterr().out
    assert printed.startswith("student of data, 2 seeds: cross-entropy ")
    assert "excess error on its own answers" in printed
    assert "kept: " in printed
    plain = json.loads((tmp_path / "scores.json").read_text())
    assert [student["seed"] for student in plain["rows"][0]["students"]] == [0, 1]


def test_the_data_at_hand_need_no_name_and_others_do(students, engine, tmp_path, capsys):
    method = language.DistillLanguage.of(**{**TINY, "divergence": "none", "steps": 1})
    language.distill("phrases", method, engine=engine, answers=0, out=tmp_path / "run")
    main(["evaluate", str(tmp_path / "run"), "--answers", "0", "--quiet"])
    assert capsys.readouterr().out.startswith("student of phrases: cross-entropy ")
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(students["a"])])
    assert stop.value.code == 2
    told = "attar: this was made from 'data', which is not bundled; give --data."
    assert capsys.readouterr().err.splitlines()[-1] == told


def test_text_of_the_same_name_is_told_from_the_students_own(students, tmp_path, capsys):
    (tmp_path / "data.jsonl").write_text("".join(json.dumps({"text": f"other text {n}"}) + "\n" for n in range(30)))
    main(["evaluate", str(students["a"]), "--data", str(tmp_path / "data.jsonl"), "--answers", "0"])
    told = capsys.readouterr()
    assert "note: data is not, row for row, the text of student of data." in told.err + told.out
    assert "kept" not in told.out
