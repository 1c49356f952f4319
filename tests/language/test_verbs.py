import copy
import json
import math

import pytest
import torch

import attar
import attar.language as language
from attar.cli import main
from attar.core.errors import InputError

TINY = ["--max-length", "96", "--answers", "0", "--quiet"]


@pytest.fixture
def home(source, teacher, tokenizer, tmp_path):
    """A teacher's folder, data and further text, as files."""
    teacher.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    (tmp_path / "rows").mkdir()
    for part in ("train", "validation", "test"):
        lines = [json.dumps(row) for row in getattr(source, part)]
        (tmp_path / "rows" / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "book.txt").write_text("once upon a time there was a fox " * 40, encoding="utf-8")
    return tmp_path


def command(home, *words, teacher="teacher"):
    """Distil as the words ask, with what they leave open given."""
    usual = {"--data": home / "rows", "--teacher": home / teacher, "--student": "gpt2:layers=1,width=16,heads=2"}
    given = [str(word) for flag, value in usual.items() if flag not in words for word in (flag, value)]
    main(["distill", "language", *given, *TINY, *words])


def refused(capsys, home, *words, **names):
    """The one line with which the command refuses, exit code 2; there is no student then."""
    with pytest.raises(SystemExit) as stop:
        command(home, "--out", str(home / "run"), *words, **names)
    assert stop.value.code == 2
    assert not (home / "run" / "artefact.json").exists()
    return capsys.readouterr().err.splitlines()[-1]


def test_the_command_distils_with_further_text_as_python_does(home, engine, capsys):
    words = ["--epochs", "1", "--corpus", str(home / "book.txt"), "--corpus-weight", "0.5"]
    command(home, *words, "--out", str(home / "run"))
    assert "student: " in capsys.readouterr().out
    lines = [
        json.loads(line) for line in (home / "run" / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert all("corpus" in line for line in lines)
    method = language.DistillLanguage.of(
        student="gpt2:layers=1,width=16,heads=2", epochs=1, max_length=96, corpus_weight=0.5
    )
    given = {"teacher": home / "teacher", "corpus": home / "book.txt", "engine": engine, "answers": 0}
    made = language.distill(home / "rows", method, **given)
    known = language.DistilledLanguageModel.load(home / "run")
    assert all(torch.equal(*pair) for pair in zip(made.model.parameters(), known.model.parameters(), strict=True))
    without = language.distill(home / "rows", method, **{**given, "corpus": None})
    assert not all(torch.equal(*pair) for pair in zip(made.model.parameters(), without.model.parameters(), strict=True))


def test_the_command_starts_from_a_method_and_from_scripts(home, capsys):
    def settings(*words, out):
        command(home, *words, "--steps", "1", "--new-tokens", "4", "--max-prompt", "48", "--out", str(home / out))
        return language.DistilledLanguageModel.load(home / out).origin.settings

    gkd = settings("--baseline", "gkd", "--batch", "4", out="gkd")
    assert (gkd["objective"]["divergence"], gkd["schedule"]["answers_by"]) == ("jsd", "on-policy")
    both = ("--baseline", "distillm", "--paper", "gpt2-0.7b", "--validation-answers", "2", "--batch", "8")
    scripts = settings(*both, out="scripts")
    assert (scripts["objective"]["divergence"], scripts["lr"], scripts["select"]) == ("skew-reverse", 1e-4, "rouge")
    assert "did you mean 'gkd'?" in refused(capsys, home, "--baseline", "gdk")
    with pytest.raises(SystemExit):
        main(["distill", "kd", "--baseline", "gkd"])
    assert capsys.readouterr().err == "attar: kd has no baselines. Do not give --baseline.\n"


def test_the_command_refuses_in_a_line_what_it_cannot_use(home, teacher, tokenizer, capsys):
    broken = copy.deepcopy(teacher)
    with torch.no_grad():
        broken.transformer.wte.weight[7] = math.nan
    stranger = language.byte_tokenizer(["zzz qqq"] * 9, 300)
    for name, model, words in (("broken", broken, tokenizer), ("stranger", teacher, stranger)):
        model.save_pretrained(home / name)
        words.save_pretrained(home / name)
    teacher.config.save_pretrained(home / "pickle")
    torch.save(teacher.state_dict(), home / "pickle" / "pytorch_model.bin")
    assert "the teacher's logits hold NaN or infinity" in refused(capsys, home, teacher="broken")
    assert "holds only a pickle (pytorch_model.bin)" in refused(capsys, home, teacher="pickle")
    line = refused(capsys, home, "--student", str(home / "stranger"))
    assert "teacher and student have different vocabularies: 300 and" in line
    empty = [json.dumps({"prompt": "say: ", "completion": ""})] * 9
    (home / "empty.jsonl").write_text("\n".join(empty), encoding="utf-8")
    line = refused(capsys, home, "--data", str(home / "empty.jsonl"))
    assert "rows 1, 2, 3, 4, 5 and 4 more of empty have an empty response" in line


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


@pytest.mark.parametrize("widened", [True, False])
def test_a_student_whose_tokenizer_has_a_padding_token_more(
    source, teacher, student, tokenizer, engine, tmp_path, widened
):
    """The student is saved with its own tokenizer, and never says the token that its teacher does not know."""
    import transformers

    mine, one = copy.deepcopy(tokenizer), copy.deepcopy(student)
    mine.add_special_tokens({"pad_token": "[PAD]"})
    assert mine.pad_token_id == 300
    if widened:
        one.resize_token_embeddings(320, mean_resizing=False)
    for name, model, words in (("teacher", teacher, tokenizer), ("student", one, mine)):
        model.save_pretrained(tmp_path / name)
        words.save_pretrained(tmp_path / name)
    method = language.DistillLanguage.of(
        epochs=1, max_length=96, answers_by="mixed", new_tokens=4, label_weight=0.0, student=str(tmp_path / "student")
    )
    made = language.distill(
        source, method, teacher=tmp_path / "teacher", out=tmp_path / "made", engine=engine, answers=2
    )
    assert math.isfinite(made.scores["kept"])
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made")
    assert model.config.vocab_size == (301 if widened else 300)
    assert (model.generation_config.suppress_tokens == [300]) == widened
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "made").pad_token == "[PAD]"


def test_a_text_with_a_token_that_the_teacher_does_not_know_is_refused(source, teacher, student, tokenizer, tmp_path):
    mine, one = copy.deepcopy(tokenizer), copy.deepcopy(student)
    mine.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    one.resize_token_embeddings(301, mean_resizing=False)
    for name, model, words in (("teacher", teacher, tokenizer), ("student", one, mine)):
        model.save_pretrained(tmp_path / name)
        words.save_pretrained(tmp_path / name)
    rows = [*source.test, {"prompt": "use <|tool|>", "response": "now"}]
    data = {"train": list(source.train), "validation": list(source.validation), "test": rows}
    with pytest.raises(InputError) as refusal:
        language.distill(data, teacher=tmp_path / "teacher", student=tmp_path / "student")
    assert str(refusal.value) == (
        "row 9 of data (test) has the token '<|tool|>', which not all models know: they share the first 300 tokens. "
        "Remove it from the text, or give models of one vocabulary."
    )


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
    with pytest.raises(InputError, match="max_length is 4096, but the models read at most 96 tokens"):
        language.evaluate(student, source, tokenizer=tokenizer, max_length=4096)
    with pytest.raises(InputError, match="evaluate needs a model"):
        language.evaluate(None, source)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: language.distill(module=1), "unknown argument of attar.language.distill 'module'"),
        (lambda: language.distill("phrases", techer=1), "did you mean 'teacher'?"),
        (
            lambda: language.train("phrases", modle="gpt2:layers=1"),
            "attar.language.train 'modle'; did you mean 'model'?",
        ),
        (lambda: language.train("phrases", epoch=1), "attar.language.train 'epoch'; did you mean 'epochs'?"),
        (lambda: language.label("phrases", teacher="x"), "attar.language.label needs out. Give out."),
        (lambda: language.evaluate(), "attar.language.evaluate needs model"),
    ],
)
def test_wrong_arguments_in_python_are_one_line(call, sentence):
    with pytest.raises(InputError) as refusal:
        call()
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_student_of_the_kind_s_own_verb_remembers_its_call(home, engine):
    """A student by its name is the method's, so that the command on the card makes it again."""
    method, student = language.DistillLanguage.of(epochs=1, max_length=96), "gpt2:layers=1,width=24,heads=2"
    how = {"teacher": str(home / "teacher"), "student": student, "answers": 0, "engine": engine}
    one = language.distill(str(home / "rows"), method, **how)
    other = attar.distill(str(home / "rows"), method, **how)
    assert one.origin.call == other.origin.call
    assert one.origin.call["settings"]["student"] == student
    assert one.origin.settings["student"] == student
    assert one.origin.call["task"]["teacher"] == {"model": "teacher"}
    assert "--student gpt2:layers=1,width=24,heads=2" in one.card([])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rows": 0}, "rows is 0; it must be at least 1."),
        ({"answers": -1}, "answers is -1; it must be at least 0."),
        ({"max_length": 1}, "max_length is 1; it must be at least 2."),
        ({"max_prompt": 96, "max_length": 96}, "max_prompt is 96 of 96 tokens, so no token is left"),
        ({"max_length": 97}, "max_length is 97, but the models read at most 96"),
        ({"error_at": 0}, "error_at is 0; it must be at least 1."),
        ({"seeds": ()}, "seeds is empty"),
        ({"model": "gpt2:layers=1"}, "the model is 'gpt2:layers=1', which is not trained yet"),
        ({"model": ""}, "the model is an empty name"),
    ],
)
def test_a_measurement_that_cannot_be_is_refused(source, student, tokenizer, engine, settings, sentence):
    with pytest.raises(InputError) as refusal:
        language.evaluate(**{"model": student, "data": source, "tokenizer": tokenizer, "engine": engine, **settings})
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)


def test_one_seed_is_a_round(source, student, tokenizer, engine):
    common = {"tokenizer": tokenizer, "engine": engine, "answers": 2, "max_length": 96}
    assert language.evaluate(student, source, seeds=7, **common) == language.evaluate(
        student, source, seeds=(7,), **common
    )
