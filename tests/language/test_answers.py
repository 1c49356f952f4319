"""Answers that are stored once: the same bytes whatever happens, found by their tokens, and trained from."""

import copy
import dataclasses
import json
import shutil

import pytest
import torch
import transformers

import attar
import attar.language as language
from attar.cli import main
from attar.core.errors import InputError
from attar.language import storing
from attar.language.answers import StoredAnswers, shard_name
from attar.language.losses import Places
from attar.language.models import byte_tokenizer
from promises import EVERY_STEP, counted, dying
from two_processes import printed_by

LENGTHS = {"max_length": 96, "shard_megabytes": 1}
STUDENT = {"student": "gpt2:layers=1,width=16,heads=2", "epochs": 2, "batch": 16, "max_length": 96}


@pytest.fixture(scope="module")
def store(source, teacher, tokenizer, engine, tmp_path_factory):
    """Stores by settings, made once."""
    made = {}

    def stored(**settings):
        key = json.dumps(settings, sort_keys=True)
        if key not in made:
            folder = tmp_path_factory.mktemp("answers") / "store"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(storing, "MEGABYTE", 2**15)  # several files
                made[key] = language.label(
                    source,
                    language.StoreAnswers(**{**LENGTHS, **settings}),
                    teacher=teacher,
                    tokenizer=tokenizer,
                    out=folder,
                    engine=engine,
                    answers=2,
                )
        return made[key]

    return stored


def bytes_in(folder):
    """The files of a store; without what is told of the run."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "run" not in path.parts}


def curves(folder):
    text = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("logits", ["float16", "int8"])
def test_a_store_recalls_what_the_teacher_said(store, source, teacher, tokenizer, logits):
    """Of every token of every training row the top tokens, their probabilities, and the mass of the others."""
    made = store(top=20, logits=logits)
    tokens = made_tokens(made, source, tokenizer)
    assert len(made.shards) > 1
    assert made.tokens == sum(len(tokens.batch([row]).response_ids[0]) for row in range(len(tokens)))
    for row in range(0, len(tokens), 7):
        batch = tokens.batch([row])
        found, places = made.recall(batch), Places.of(batch.labels)
        with torch.no_grad():
            log_p = teacher(input_ids=batch.ids).logits[0, places.rows].log_softmax(dim=1)
        kept, best = log_p.topk(20, dim=1)
        assert (found.tokens == best).float().mean() > 0.99  # ties in the last place
        torch.testing.assert_close(found.kept.exp().sum(1), kept.exp().sum(1), atol=4e-3, rtol=0)
        torch.testing.assert_close(found.kept, log_p.gather(1, found.tokens), atol=0.03, rtol=0)
    assert made.recall(tokens.batch([0, 1, 2])).kept.shape[0] == len(Places.of(tokens.batch([0, 1, 2]).labels))


def made_tokens(made, source, tokenizer):
    settings = made.origin.settings
    by = language_tokeniser(tokenizer, settings["max_length"], settings["max_prompt"], settings["context"])
    return by.read(source, "train")


def language_tokeniser(tokenizer, *lengths):
    from attar.language.tokens import Tokeniser

    return Tokeniser(tokenizer, *lengths)


def test_a_store_tells_its_size(store):
    made = store(top=20)
    assert made.bytes_per_token == 20 * 4 + 4
    on_disk = sum((made.folder / shard_name(n)).stat().st_size for n in range(len(made.shards)))
    assert made.tokens * made.bytes_per_token <= on_disk <= 1.05 * made.tokens * made.bytes_per_token
    card = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "84 bytes per token" in card
    assert "20 most probable of 300 tokens" in card
    assert store(top=20, logits="int8").bytes_per_token == 20 * 3 + 4 + 8
    assert store(top=999).whole
    assert store(top=999).bytes_per_token == 2 * 300
    again = StoredAnswers.load(made.folder)
    assert (again.fingerprint, again.scores, again.origin) == (made.fingerprint, made.scores, made.origin)
    assert {"cross_entropy", "rouge_l"} <= set(again.scores)
    assert isinstance(attar.open_artefact(made.folder), StoredAnswers)


@pytest.mark.parametrize("divergence", ["forward", "jsd"])
def test_a_student_of_all_tokens_learns_as_from_the_teacher(store, source, teacher, tokenizer, tmp_path, divergence):
    """Without the teacher in memory the curves are the live teacher's, to float16; also with spans and temperature."""
    method = language.DistillLanguage.of(**STUDENT, divergence=divergence, span_weight=0.5, temperature=2.0)
    common = {"engine": EVERY_STEP, "answers": 2}
    live = language.distill(source, method, teacher=teacher, tokenizer=tokenizer, out=tmp_path / "live", **common)
    made = language.distill(source, method, stored_answers=store(top=300), out=tmp_path / "stored", **common)
    one, other = curves(tmp_path / "live"), curves(tmp_path / "stored")
    for name in ("loss", "labels", "teacher", "spans"):
        assert [row[name] for row in other] == pytest.approx([row[name] for row in one], rel=2e-3, abs=1e-5)
    assert made.origin.teacher_parameters == live.origin.teacher_parameters
    assert made.scores["teacher"]["cross_entropy"] == pytest.approx(live.scores["teacher"]["cross_entropy"], rel=1e-4)
    assert made.scores["teacher"]["rouge_l"] == live.scores["teacher"]["rouge_l"]
    assert made.scores["kept"] == pytest.approx(live.scores["kept"], rel=1e-2)
    assert "excess_error" not in made.scores["student"]


def test_a_student_of_few_tokens_learns_too(store, source, tmp_path):
    """The lumped divergence from sixty-four tokens falls, and is close to that of all of them."""
    found = {}
    for top in (64, 300):
        method = language.DistillLanguage.of(**STUDENT, label_weight=0.0, divergence="jsd")
        language.distill(
            source, method, stored_answers=store(top=top).folder, out=tmp_path / str(top), engine=EVERY_STEP, answers=0
        )
        found[top] = [row["teacher"] for row in curves(tmp_path / str(top))]
    assert found[64][-1] < found[64][0]
    assert found[64][0] <= found[300][0] + 1e-6


def test_a_live_teacher_is_asked_about_the_student_s_answers_only(store, source, teacher, tokenizer, monkeypatch):
    asked = []
    made, real = store(top=300), StoredAnswers.recall

    def recall(self, batch, rest="lump"):
        found = real(self, batch, rest)
        asked.append(found is not None)
        return found

    monkeypatch.setattr(StoredAnswers, "recall", recall)
    method = language.DistillLanguage.of(**STUDENT, answers_by="on-policy", student_share=0.5, new_tokens=4)
    engine = EVERY_STEP
    both = language.distill(
        source, method, teacher=teacher, tokenizer=tokenizer, stored_answers=made, engine=engine, answers=0
    )
    assert {True, False} == set(asked)
    alone = language.distill(source, method, teacher=teacher, tokenizer=tokenizer, engine=engine, answers=0)
    one, other = (dict(found.model.named_parameters()) for found in (both, alone))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=2e-3, rtol=0)


@pytest.mark.parametrize("logits", ["float16", "int8"])
def test_a_killed_run_ends_in_the_same_bytes(store, source, teacher, tokenizer, tmp_path, logits, monkeypatch):
    whole = store(top=20, logits=logits)
    monkeypatch.setattr(storing, "MEGABYTE", 2**15)
    method = language.StoreAnswers(**LENGTHS, top=20, logits=logits)
    how = {"teacher": teacher, "tokenizer": tokenizer, "out": tmp_path / "store", "answers": 2}
    for step in (2, 1):
        with dying(method, step):
            language.label(source, method, engine=EVERY_STEP, **how)
        assert not (tmp_path / "store" / "artefact.json").exists()
    with counted(method) as taken:
        language.label(source, method, engine=EVERY_STEP, **how)
    assert len(taken) == 2  # of three
    one, other = bytes_in(whole.folder), bytes_in(tmp_path / "store")
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def test_a_file_that_is_removed_while_a_run_is_stopped_is_told_on_one_line(
    source, teacher, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr(storing, "MEGABYTE", 2**15)
    method, how = language.StoreAnswers(**LENGTHS), {"teacher": teacher, "tokenizer": tokenizer, "answers": 0}
    with dying(method, 3):
        language.label(source, method, out=tmp_path, engine=EVERY_STEP, **how)
    (tmp_path / shard_name(0)).unlink()
    with pytest.raises(InputError, match=r"answers-00000\.safetensors is missing\. Delete the folder"):
        language.label(source, method, out=tmp_path, engine=EVERY_STEP, **how)


def test_answers_do_not_stay_in_memory(store):
    """What a step holds is one file, however many there are."""
    made = store(top=20)
    assert all(shard.bytes < 2**15 + 2000 for shard in made.shards)
    assert len(made.shards) >= 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"answers_by": "mixed"}, "--answers-by mixed needs the teacher's word on other answers than the references"),
        ({"answers_by": "teacher", "divergence": "none"}, "--divergence none with --teacher-weight 1 uses no stored"),
        ({"teacher_weight": 0.0}, "with --teacher-weight 0 uses no stored"),
        ({"divergence": "none"}, "--divergence none with --teacher-weight 1 uses no stored"),
        ({"divergence": "policy"}, "--divergence policy with --teacher-weight 1 uses no stored"),
        ({"teacher_clip": "top-p"}, "--teacher-clip top-p works on the teacher's whole distribution"),
        ({"rest": "drop", "divergence": "jsd"}, "--rest drop needs --divergence forward, not jsd"),
        ({"temperature": 2.0}, "--temperature 2 changes the mass of the tokens that are not stored"),
        ({"span_weight": 1.0}, "--span-weight needs every token's probability, but 20 of 300 are stored"),
        ({"span_weight": 1.0, "rest": "drop"}, "--span-weight needs every token's probability"),
        ({"max_length": 80}, "--max-length is 80, but the answers were stored with 96"),
        ({"max_prompt": 7}, "--max-prompt is 7, but the answers were stored with 48"),
    ],
)
def test_what_a_store_cannot_tell_is_refused(store, source, settings, sentence):
    with pytest.raises(InputError) as refusal:
        language.distill(
            source,
            language.DistillLanguage.of(**{**STUDENT, **settings}),
            stored_answers=store(top=20),
            engine=EVERY_STEP,
        )
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("settings", [{"rest": "spread", "temperature": 2.0, "span_weight": 0.5}, {"rest": "drop"}])
def test_what_a_store_can_tell_is_learned(store, source, settings):
    method = language.DistillLanguage.of(**STUDENT, **settings)
    made = language.distill(source, method, stored_answers=store(top=20), engine=EVERY_STEP, answers=0)
    assert made.scores["student"]["cross_entropy"] > 0
    assert "rouge_l" not in made.scores["teacher"]


def test_other_data_other_tokens_and_other_folders_are_refused(store, source, teacher, tokenizer, student, tmp_path):
    made, method = store(top=20), language.DistillLanguage.of(**STUDENT)

    def refused(match, data=source, stored=made, **how):
        with pytest.raises(InputError, match=match) as refusal:
            language.distill(data, method, stored_answers=stored, engine=EVERY_STEP, **how)
        assert "\n" not in str(refusal.value)

    rows = [{"prompt": row["prompt"], "completion": row["response"]} for row in source.train]
    other = language.load([{**rows[0], "prompt": "What is it?\n"}, *rows[1:]], validation=1, test=1)
    some = language.load(rows, validation=1, test=1)
    language.distill(some, method, stored_answers=made, engine=EVERY_STEP, answers=0)  # a part of them is found
    changed = language.load([rows[0], {**rows[1], "prompt": "What is it?\n"}, *rows[2:]], validation=1, test=1)
    assert other
    refused("1 of 38 training rows of data, the first of them row 1, are not in the stored answers", changed)
    refused("the stored answers are of another tokenizer", tokenizer=byte_tokenizer(["abc " * 50], 290))
    refused("no folder", stored=tmp_path / "nowhere")
    model = language.train(source, "gpt2:layers=1,width=16", tokenizer=tokenizer, epochs=1, max_length=96, answers=0)
    model.save(tmp_path / "model")
    refused("holds a model, not stored answers", stored=tmp_path / "model")
    with pytest.raises(InputError, match=r"holds a teacher's stored answers, no model"):
        language.distill(source, method, teacher=made.folder, engine=EVERY_STEP)
    with pytest.raises(InputError, match="what `attar label` has made is not measured again"):
        attar.evaluate(made.folder, source)


@pytest.mark.parametrize("harm", ["truncated", "missing", "altered", "index", "tokenizer"])
def test_a_damaged_store_is_refused(store, source, tmp_path, harm):
    folder = tmp_path / "store"
    shutil.copytree(store(top=20).folder, folder)
    path = folder / {"index": "index.safetensors", "tokenizer": "tokenizer/tokenizer.json"}.get(harm, shard_name(1))
    data = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(data[:-100])
    else:
        data[-40] ^= 1
        path.write_bytes(data)
    with pytest.raises(InputError, match=r"truncated or altered|is missing|was altered|damaged") as refusal:
        language.distill(
            source, language.DistillLanguage.of(**STUDENT), stored_answers=folder, engine=EVERY_STEP, answers=0
        )
    assert "\n" not in str(refusal.value)


def test_a_store_needs_a_teacher_and_a_folder(source, teacher, tokenizer, tmp_path, store):
    with pytest.raises(InputError, match="answers are those of a teacher"):
        attar.label(source, language.StoreAnswers(), out=tmp_path)
    with pytest.raises(InputError, match="answers are stored in a folder"):
        attar.label(source, language.StoreAnswers(), teacher=teacher, tokenizer=tokenizer)
    with pytest.raises(InputError, match="max_length is 500, but the teacher reads at most 96"):
        language.label(
            source, language.StoreAnswers(max_length=500), teacher=teacher, tokenizer=tokenizer, out=tmp_path
        )
    made = store(top=20)
    with pytest.raises(InputError, match=r"other settings \(top: 20 in the folder, 10 requested"):
        method = language.StoreAnswers(**LENGTHS, top=10)
        language.label(source, method, teacher=teacher, tokenizer=tokenizer, out=made.folder, answers=2)


def test_settings_survive_json():
    method = language.StoreAnswers(top=5, logits="int8", max_length=80)
    assert language.StoreAnswers.from_json(json.loads(json.dumps(method.to_json()))) == method
    assert dataclasses.replace(method, rows=33, batch=16).total_steps == 3


class Trainer(language.DistillationMixin, transformers.Trainer):
    pass


def test_a_trainer_learns_from_stored_answers(store, source, teacher, tokenizer, student, tmp_path):
    """Its loss is that with the live teacher, and rows that are not stored are refused."""
    made = store(top=300)
    batch = made_tokens(made, source, tokenizer).batch(range(6))
    parts = zip(batch.ids, batch.labels, batch.mask, strict=True)
    rows = [{"input_ids": ids, "labels": labels, "attention_mask": mask.long()} for ids, labels, mask in parts]

    def loss(inputs=None, **beside):
        settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "max_steps": 1}
        arguments = transformers.TrainingArguments(str(tmp_path), **settings)
        method = language.DistillLanguage.of(divergence="jsd")
        model = copy.deepcopy(student).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer = Trainer(
            model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, distillation=method, **beside
        )
        collated = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return trainer.compute_loss(trainer.model, inputs or collated)

    stored = loss(stored_answers=made.folder)
    torch.testing.assert_close(stored, loss(teacher=teacher), rtol=1e-3, atol=0)
    other = {"input_ids": batch.ids + 1, "labels": batch.labels, "attention_mask": batch.mask.long()}
    with pytest.raises(InputError, match="a row of the trainer is not in the stored answers"):
        loss(other, stored_answers=made)
    with pytest.raises(InputError, match="the mixin needs a teacher"):
        loss()


TWO = """
import json, os, sys
import torch, transformers, datasets
import attar.language as language
from attar.language.models import byte_tokenizer, fresh_model
from attar.core.runtime import Engine

data = language.load([{"prompt": f"{n} and {n} is ", "completion": str(2 * n)} for n in range(30)])
tokenizer = byte_tokenizer(data.texts(), 270)
teacher = fresh_model("gpt2:layers=1,width=16,heads=2", tokenizer, 64, torch.Generator().manual_seed(1)).eval()
method = language.StoreAnswers(top=9, batch=7, max_length=64)

def stored(folder):
    engine = Engine(device="cpu", quiet=True)
    return language.label(data, method, teacher=teacher, tokenizer=tokenizer, out=folder, engine=engine, answers=0)

stored(os.environ["FOLDER"] + "/one")
children = []
for rank in range(2):
    child = os.fork()
    if not child:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        stored(os.environ["FOLDER"] + "/two")
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(json.dumps(codes))
"""


def test_two_processes_share_the_rows(tmp_path, monkeypatch):
    monkeypatch.setenv("FOLDER", str(tmp_path))
    assert printed_by(TWO) == [0, 0]
    one, two = (StoredAnswers.load(tmp_path / name) for name in ("one", "two"))
    assert torch.equal(one.index.keys, two.index.keys)
    first, second = (one._row(place) for place in (0, 17)), (two._row(place) for place in (0, 17))
    for mine, other in zip(first, second, strict=True):
        assert torch.equal(mine["tokens"], other["tokens"])
        torch.testing.assert_close(mine["values"], other["values"], atol=4e-3, rtol=0)


def test_the_command_stores_and_trains(source, teacher, tokenizer, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = language.train(source, "gpt2:layers=1,width=16", tokenizer=tokenizer, epochs=1, max_length=96, answers=0)
    model.save("teacher")
    rows = [{"prompt": row["prompt"], "completion": row["response"]} for row in source.train]
    text = "\n".join(map(json.dumps, rows))
    (tmp_path / "data.jsonl").write_text(text, encoding="utf-8")
    quiet = ["--device", "cpu", "--quiet"]
    asked = ["--teacher", "teacher", "--data", "data.jsonl", "--out", "answers", "--top", "8", "--answers", "0"]
    main(["label", *asked, *quiet])
    printed = capsys.readouterr().out
    assert "36 bytes per token" in printed
    assert printed.splitlines()[-1] == "train:   attar distill language --stored-answers answers --data data.jsonl"
    shutil.rmtree("teacher")
    student = ["--student", "gpt2:layers=1,width=16,heads=2", "--epochs", "1", "--answers", "0", "--out", "student"]
    main(["distill", "language", "--stored-answers", "answers", "--data", "data.jsonl", *student, *quiet])
    assert "kept:" in capsys.readouterr().out
    main(["report", "answers", "--out", "page.html"])
    for words, sentence in (
        (["label", "--data", "data.jsonl", "--out", "x"], "answers are those of a teacher. Give one (--teacher)."),
        (["label", "--teacher", "answers", "--data", "data.jsonl", "--out", "x"], "stored answers, no model"),
        (["evaluate", "answers"], "is not measured again"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
        assert sentence in capsys.readouterr().err


def test_the_command_s_help_is_that_of_the_data(capsys):
    main(["label", "--kind", "language", "--help"])
    told = capsys.readouterr().out
    assert told.startswith("usage: attar label --teacher TEACHER --data DATA")
    assert "--top" in told and "For labelled images: attar label --kind images --help" in told.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("phrases --teacher x", "data are given by a flag. Give --data phrases."),
        ("--kind language x", "data are given by a flag. Give --data x."),
        ("--kind language --teacher x", "--data must be given."),
        ("language --data phrases --teacher x", "takes neither METHOD nor FOLDER with --data. Leave out 'language'."),
        ("--data phrases --teacher x y", "'y' belongs to no flag"),
        ("--data phrases --teacher", "--teacher needs a value"),
        ("--data phrases --teacher.model x", "unknown flag --teacher.model; did you mean '--teacher'?"),
        ("--data phrases --teacher gpt2:layers=1", "which is not trained yet"),
        ("--data phrases --teacher http://localhost:1/v1", "a server does not tell the distribution of every token"),
        ("--teacher x", "no FOLDER of a condensed set is given. Give a folder, or --data DATA --kind language."),
        ("--data user/name --teacher x", "given, and 'user/name' is not recognised as data of language"),
        ("nowhere --teacher x", "there is no folder nowhere."),
    ],
)
def test_a_command_in_a_wrong_form_is_told_what_is_wrong(words, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["label", *words.split()])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert sentence in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"answers_by": "teacher"}, "--answers-by teacher never compares on the references"),
        ({"answers_by": "on-policy"}, "--answers-by on-policy with --student-share 1 never compares on the references"),
    ],
)
def test_stored_answers_that_would_not_be_looked_at_are_refused(store, source, teacher, tokenizer, settings, sentence):
    method = language.DistillLanguage.of(**STUDENT, **settings)
    with pytest.raises(InputError, match=sentence):
        language.distill(
            source, method, teacher=teacher, tokenizer=tokenizer, stored_answers=store(top=20), engine=EVERY_STEP
        )


def test_rows_and_sources_are_data_to_be_answered(source, teacher, tokenizer, engine, tmp_path):
    """Without a method too: what is no artefact can only be data."""
    how = {"teacher": teacher, "tokenizer": tokenizer, "answers": 0, "engine": engine}
    rows = [dict(row) for row in source.train]
    one, other = (attar.label(data, out=tmp_path / name, **how) for data, name in ((source, "one"), (rows, "two")))
    assert (len(one.index.keys), len(other.index.keys)) == (40, 32)
    with pytest.raises(InputError, match="text cannot be read from a"):
        attar.label(attar.load("digits"), out=tmp_path / "three", **how)
