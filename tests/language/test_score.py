"""Students read anew from their folders, by the shared verb and by the command."""

import json
import math

import pytest
import torch

import attar
import attar.language as language
from attar.cli import main
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.scores import scores_in
from attar.language.models import byte_tokenizer, fresh_model
from attar.language.score import FURTHER, measure
from attar.language.scoring import Scoring

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
        (home / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return home


def test_a_student_is_measured_as_it_was_when_it_was_made(students, source, engine):
    found = attar.evaluate(students["a"], source, repeats=1, answers=2, engine=engine)
    (cell,) = found.networks
    stored = language.DistilledLanguageModel.load(students["a"]).scores
    named = {"perplexity": "perplexity", **FURTHER}
    assert cell.score.value == stored["student"]["cross_entropy"]
    assert {word: cell.further[word].score.value for word in cell.further} == {
        named[name]: value for name, value in stored["student"].items() if name in named and named[name] in cell.further
    }
    assert cell.full.value == stored["teacher"]["cross_entropy"]
    assert cell.kept == pytest.approx(stored["kept"])
    line = f"cross-entropy: {cell.score} from {found.count:,} parameters; kept {cell.kept:.1f} %"
    assert str(found).startswith(line)
    assert "beside it, its teacher: " in str(found)


def test_seeds_are_one_row_with_their_spread_and_other_settings_another(students, source, engine):
    folders = [students[name] for name in ("a", "labels", "b")]
    found = attar.evaluate(folders, source, repeats=2, answers=2, engine=engine)
    assert [row.label for row in found.rows] == ["language divergence forward", "language divergence none"]
    pair, alone = found.rows
    assert pair.seeds == (0, 1)
    (both,), (single,) = pair.cells, alone.cells
    assert both.score.value == pytest.approx(sum(both.by_set) / 2)
    assert both.score.spread == pytest.approx(abs(both.by_set[0] - both.by_set[1]) / math.sqrt(2))
    assert (both.further["ROUGE-L"].score.n, len(both.further["ROUGE-L"].values)) == (4, 2)
    assert (single.further["ROUGE-L"].score.n, single.score.n, single.score.spread) == (2, 1, None)
    assert "nats" in str(found)
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["rows"][0]["columns"][0]["further"]["ROUGE-L"]["n"] == 4
    assert FURTHER["excess_error"] not in plain["rows"][0]["columns"][0]["further"]


def test_rounds_of_answers_come_from_the_seed(students, source, engine):
    folder, common = students["a"], {"repeats": 2, "answers": 8, "engine": engine}
    one, other, third = (attar.evaluate(folder, source, seed=seed, **common).networks[0] for seed in (0, 0, 1))
    assert one == other
    assert one.further["ROUGE-L"].values != third.further["ROUGE-L"].values
    assert one.score == third.score
    known = language.DistilledLanguageModel.load(folder)
    sampling = language.Sampling(new_tokens=6)
    by_hand = language.evaluate(
        known, source, seeds=(10, 20), answers=8, max_length=96, max_prompt=48, sampling=sampling, engine=engine
    )
    assert by_hand.cross_entropy.value == one.score.value
    assert by_hand.rounds["rouge_l"] == one.further["ROUGE-L"].values[0]


def test_a_teacher_adds_the_excess_error_and_what_is_kept_on_other_data(students, source, engine):
    few = language.load({part: list(source.test)[:4] for part in ("train", "validation", "test")})
    found = attar.evaluate(students["a"], few, repeats=1, answers=2, teacher=str(students["teacher"]), engine=engine)
    (cell,) = found.networks
    assert math.isfinite(cell.further[FURTHER["excess_error"]].score.value)
    teachers = language.evaluate(students["teacher"], few, answers=0, max_length=96, max_prompt=48, engine=engine)
    assert cell.kept == pytest.approx(100 * teachers.perplexity / math.exp(cell.score.value))


def test_what_is_kept_of_other_data_is_not_guessed(students, rows, engine):
    found = attar.evaluate(students["a"], rows, answers=0, engine=engine)
    (cell,) = found.networks
    assert (cell.kept, cell.full) == (None, None)
    assert "kept" not in str(found)
    assert set(cell.further) == {"perplexity"}


def test_what_cannot_be_measured_is_refused(students, source, engine, tmp_path):
    student = language.DistilledLanguageModel.load(students["a"])
    with pytest.raises(InputError, match="repeats is 0; it must be at least 1"):
        attar.evaluate([student], source, repeats=0)
    with pytest.raises(InputError, match="there is no student to evaluate"):
        measure([], source, Scoring(), Runtime(engine))
    other = byte_tokenizer(["zzz qqq"] * 9, 259)
    fresh_model("gpt2:layers=1,width=16", other, 96, torch.Generator()).save_pretrained(tmp_path)
    other.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="teacher and student have different vocabularies: 259 and 300 tokens"):
        attar.evaluate([student], source, teacher=str(tmp_path), engine=engine)
    with pytest.raises(InputError, match=r"there is nothing to evaluate\. Give an artefact"):
        attar.evaluate([], source)


def test_the_command_measures_students_and_writes_what_it_found(students, rows, tmp_path, capsys):
    words = ["--data", str(rows), "--repeats", "1", "--answers", "2", "--teacher", str(students["teacher"]), "--quiet"]
    main(["evaluate", str(students["a"]), str(students["b"]), *words, "--json", str(tmp_path / "scores.json")])
    printed = capsys.readouterr().out
    assert printed.startswith("cross-entropy: ")
    assert "2 students; students vary by" in printed
    assert "excess error on its own answers" in printed
    assert "kept " in printed
    plain = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert plain["rows"][0]["seeds"] == [0, 1]
    for name in "ab":
        (cell,) = scores_in(students[name])
        assert f"| **cross-entropy** |  | {cell.score} | 1 |  |" in (students[name] / "README.md").read_text(
            encoding="utf-8"
        )


def test_the_data_at_hand_need_no_name_and_others_do(students, engine, tmp_path, capsys):
    method = language.DistillLanguage.of(**{**TINY, "divergence": "none", "steps": 1})
    language.distill("phrases", method, engine=engine, answers=0, out=tmp_path / "run")
    main(["evaluate", str(tmp_path / "run"), "--answers", "0", "--quiet"])
    assert capsys.readouterr().out.startswith("cross-entropy: ")
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(students["a"])])
    assert stop.value.code == 2
    told = "attar: this artefact was made from 'data', which was not found. Give --data."
    assert capsys.readouterr().err.splitlines()[-1] == told


def test_text_of_the_same_name_is_told_from_the_students_own(students, tmp_path, capsys):
    (tmp_path / "data.jsonl").write_text(
        "".join(json.dumps({"text": f"other text {n}"}) + "\n" for n in range(30)), encoding="utf-8"
    )
    main(["evaluate", str(students["a"]), "--data", str(tmp_path / "data.jsonl"), "--answers", "0"])
    told = capsys.readouterr()
    assert "note: data differs from the text of language, compared row for row." in told.err + told.out
    assert "kept" not in told.out
