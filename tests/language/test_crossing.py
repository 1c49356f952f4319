import copy
import dataclasses
import json
import math

import pytest
import torch

import attar.language as language
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.language.alignment import Alignment
from attar.language.artefact import DistilledLanguageModel
from attar.language.crossing import Crossing, their_tokeniser
from attar.language.distillation import DistillLanguage
from attar.language.generation import Sampling
from attar.language.models import byte_tokenizer, fresh_model
from attar.language.objective import Parts
from attar.language.offsets import Offsets
from attar.language.pair import LanguagePair, paired
from attar.language.sources import load
from attar.language.steps import add_gradient
from attar.language.tokens import Tokeniser
from attar.language.verbs import scores_of
from promises import EVERY_STEP
from tokenizer_cases import tokenizer_named

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ STOP }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
SMALL = {"student": "gpt2:layers=1,width=16,heads=2", "epochs": 1, "batch": 16, "max_length": 96, "new_tokens": 6}
KINDS = {
    "uld": {"align_by": "uld", "teacher_weight": 1.5},
    "spans": {"align_by": "spans", "micro": 6},
    "sorted, last": {"align_by": "spans", "span_words": "sorted", "span_merge": "last"},
    "gold": {"align_by": "spans", "hybrid_weight": "count", "divergence": "jsd", "answers_by": "mixed"},
    "alm": {"align_by": "likelihood", "label_weight": 0.0, "select": "loss"},
    "seqkd": {"align_by": "spans", "divergence": "none", "answers_by": "teacher"},
    "adaptive": {"align_by": "spans", "answers_by": "adaptive", "init_threshold": 0.9, "capacity": 12},
    "adapters, corpus": {"align_by": "spans", "lora_rank": 2, "corpus_weight": 0.5},
}


@pytest.fixture(scope="module")
def coarse(source):
    """A tokenizer of larger pieces than the student's."""
    return byte_tokenizer(source.texts(), 420)


@pytest.fixture(scope="module")
def stranger(coarse):
    return fresh_model("gpt2:layers=2,width=32,heads=2", coarse, 96, torch.Generator().manual_seed(3)).eval()


@pytest.fixture(scope="module")
def folder(stranger, coarse, tmp_path_factory):
    """The stranger with its tokenizer on disk."""
    home = tmp_path_factory.mktemp("stranger")
    stranger.save_pretrained(home)
    coarse.save_pretrained(home)
    return home


def crossing_of(data, mine, theirs, align_by="spans", max_length=96):
    teacher = fresh_model("gpt2:layers=1,width=16", theirs, 256, torch.Generator().manual_seed(0))
    pair = LanguagePair(data, mine, teacher=teacher, foreign=theirs)
    by = Tokeniser(mine, max_length, max_length // 2, 16, words=pair.words)
    return Crossing.of(pair, by, Alignment(align_by=align_by)), pair, by


def texts_of_spans(told, response, mine, theirs):
    one, other = Offsets(mine), Offsets(theirs)
    return [(one.decoded(response[a:b]), other.decoded(told.response[c:d])) for a, b, c, d in told.spans]


@pytest.mark.parametrize("name", ["bytes300", "pieces", "characters", "slow"])
def test_references_are_read_by_both_and_their_spans_agree(source, coarse, name):
    mine = tokenizer_named(name)
    crossing, pair, by = crossing_of(source, mine, coarse, max_length=256)
    tokens = pair.tokens("train", by)
    batch = tokens.batch(range(8))
    beside = crossing.beside(batch)
    for row, (prompt, response) in enumerate(zip(batch.prompt_ids, batch.response_ids, strict=True)):
        told = crossing._told(tuple(prompt), tuple(response))
        asked, answer = source.train[row]["prompt"], source.train[row]["response"]
        assert coarse.decode(told.prompt) == asked
        assert coarse.decode(told.response) == answer + coarse.eos_token
        *spans, last = texts_of_spans(told, response, mine, coarse)
        assert "".join(theirs for _, theirs in spans) == answer
        if name != "characters":  # whose decoder may write unknown ones in another way
            assert all(one == other for one, other in spans)
        assert last == (mine.eos_token, coarse.eos_token)
        assert beside.batch.prompt_ids[row] == list(told.prompt)
        assert beside.batch.response_ids[row] == list(told.response)
    assert len(beside.aligned) == sum(
        len(crossing._told(tuple(p), tuple(r)).spans) for p, r in zip(batch.prompt_ids, batch.response_ids, strict=True)
    )


def test_predictions_and_targets_are_where_the_tokens_are(source, tokenizer, coarse):
    crossing, pair, by = crossing_of(source, tokenizer, coarse)
    batch = pair.tokens("train", by).batch(range(4))
    beside = crossing.beside(batch)
    for side, ids in ((beside.aligned.student, batch.ids), (beside.aligned.teacher, beside.batch.ids)):
        assert torch.equal(ids.reshape(-1)[side.rows + 1], side.targets)
    labels = batch.labels[batch.labels != -100]
    assert torch.equal(beside.aligned.student.targets, labels)  # every token of every answer is compared


def test_no_token_reaches_across_the_border(tokenizer, coarse):
    """ " the" and "the" would be one token each; prompt and answer are cut apart for either model."""
    rows = [{"prompt": f"the old fox {n} th", "completion": "e grey spoon"} for n in range(9)]
    crossing, pair, by = crossing_of(load(rows), tokenizer, coarse)
    batch = pair.tokens("train", by).batch([0])
    told = crossing._told(tuple(batch.prompt_ids[0]), tuple(batch.response_ids[0]))
    assert coarse.decode(told.prompt) == pair.data.train[0]["prompt"]
    assert coarse.decode(told.response) == "e grey spoon" + coarse.eos_token


def test_a_character_that_the_student_does_not_know_is_known_to_the_teacher(coarse):
    mine = tokenizer_named("characters")
    rows = [{"prompt": f"{n} ☃: ", "completion": f"the ☃ and a fox {n}"} for n in range(9)]
    crossing, pair, by = crossing_of(load(rows), mine, coarse)
    batch = pair.tokens("train", by).batch([0])
    told = crossing._told(tuple(batch.prompt_ids[0]), tuple(batch.response_ids[0]))
    assert coarse.decode(told.prompt) == pair.data.train[0]["prompt"]
    assert coarse.decode(told.response) == pair.data.train[0]["response"] + coarse.eos_token
    spans = texts_of_spans(told, batch.response_ids[0], mine, coarse)
    assert ("<unk>", "☃") in spans


def test_an_answer_of_the_student_is_read_as_its_text(source, tokenizer, coarse):
    crossing, pair, by = crossing_of(source, tokenizer, coarse)
    prompt = tuple(pair.tokens("train", by).batch([0]).prompt_ids[0])
    letters = tuple(tokenizer(letter)["input_ids"][0] for letter in "the fox")
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    cut = crossing._told(prompt, letters)
    assert coarse.decode(cut.response) == "the fox"
    ended = crossing._told(prompt, (*letters, end))
    assert coarse.decode(ended.response) == "the fox" + coarse.eos_token
    assert len(ended.spans) == len(cut.spans) + 1
    inside = crossing._told(prompt, (*letters[:2], pad, *letters[2:]))
    assert coarse.decode(inside.response) == "the fox"
    covered = {place for a, b, _, _ in inside.spans for place in range(a, b)}
    assert 2 not in covered  # a token without a text is compared with nothing
    twice = crossing._told(prompt, (*letters, end, *letters))
    assert coarse.decode(twice.response) == f"the fox{coarse.eos_token}the fox"
    nothing = crossing._told(prompt, ())
    assert (nothing.response, nothing.spans) == ((), ())
    partial = tuple(tokenizer("🦊")["input_ids"][:2])
    broken = crossing._told(prompt, (*letters, *partial))
    assert max(b for _, b, _, _ in broken.spans) == len(letters)


def test_a_cut_reference_is_cut_for_the_teacher_too(source, tokenizer, coarse):
    crossing, pair, by = crossing_of(source, tokenizer, coarse, max_length=24)
    batch = pair.tokens("train", by).batch(range(8))
    for row, response in enumerate(batch.response_ids):
        if response[-1] == tokenizer.eos_token_id:
            continue
        told = crossing._told(tuple(batch.prompt_ids[row]), tuple(response))
        assert coarse.decode(told.response) == tokenizer.decode(response)
        assert source.train[row]["response"].startswith(coarse.decode(told.response))


def test_uld_compares_one_position_after_the_other(source, tokenizer, coarse):
    crossing, pair, by = crossing_of(source, tokenizer, coarse, align_by="uld")
    batch = pair.tokens("train", by).batch([0])
    told = crossing._told(tuple(batch.prompt_ids[0]), tuple(batch.response_ids[0]))
    count = min(len(batch.response_ids[0]), len(told.response))
    assert told.spans == tuple((n, n + 1, n, n + 1) for n in range(count))


def test_each_model_has_its_own_chat_template_and_end(tokenizer, coarse):
    mine, theirs = copy.deepcopy(tokenizer), copy.deepcopy(coarse)
    for one, stop in ((mine, "<|im_end|>"), (theirs, "<|eot|>")):
        one.add_special_tokens({"additional_special_tokens": [stop]})
        one.chat_template = TEMPLATE.replace("{{ STOP }}", stop).replace("[", "[" if one is mine else "<")
    rows = [
        {"messages": [{"role": "user", "content": f"hi {n}"}, {"role": "assistant", "content": f"the old fox {n}"}]}
        for n in range(9)
    ]
    crossing, pair, by = crossing_of(load(rows), mine, theirs)
    batch = pair.tokens("train", by).batch([0])
    number = pair.data.train[0]["messages"][0]["content"].removeprefix("hi ")
    told = crossing._told(tuple(batch.prompt_ids[0]), tuple(batch.response_ids[0]))
    assert mine.decode(batch.prompt_ids[0]) == f"[user]hi {number}<|im_end|>[assistant]"
    assert theirs.decode(told.prompt) == f"<user]hi {number}<|eot|><assistant]"
    assert theirs.decode(told.response) == f"the old fox {number}<|eot|>"
    assert mine.decode(batch.response_ids[0]) == f"the old fox {number}<|im_end|>"
    assert texts_of_spans(told, batch.response_ids[0], mine, theirs)[-1] == ("<|im_end|>", "<|eot|>")
    stops = [one.convert_tokens_to_ids(stop) for one, stop in ((mine, "<|im_end|>"), (theirs, "<|eot|>"))]
    pairs = dict(zip(crossing.words.student.tolist(), crossing.words.teacher.tolist(), strict=True))
    assert pairs[stops[0]] == stops[1]


def test_plain_text_has_the_teachers_ends_between_its_texts(tokenizer, coarse):
    texts = [f"the old fox sees the grey spoon {n}. " for n in range(30)]
    crossing, pair, by = crossing_of(load(texts), tokenizer, coarse, max_length=40)
    batch = pair.tokens("train", by).batch([1])
    told = crossing._told(tuple(batch.prompt_ids[0]), tuple(batch.response_ids[0]))
    said = tokenizer.decode(batch.response_ids[0])
    assert tokenizer.eos_token in said
    assert coarse.decode(told.response) == said.replace(tokenizer.eos_token, coarse.eos_token)
    assert coarse.decode(told.prompt) == tokenizer.decode(batch.prompt_ids[0])
    assert all(one == other for one, other in texts_of_spans(told, batch.response_ids[0], tokenizer, coarse))


def test_the_teacher_answers_in_its_own_tokens(source, tokenizer, coarse):
    crossing, pair, by = crossing_of(source, tokenizer, coarse)
    prompts = pair.tokens("train", by).batch(range(3)).prompt_ids
    limits, draw = [20, 5, 1], torch.Generator().manual_seed(0)
    said = crossing.answers(pair.teacher, prompts, limits, Sampling(), draw)
    assert all(1 <= len(answer) <= limit for answer, limit in zip(said, limits, strict=True))
    assert max(token for answer in said for token in answer) < len(tokenizer)
    assert crossing._retold([coarse.eos_token_id], 5) == [tokenizer.eos_token_id]
    whole = crossing._retold([*coarse("the old fox")["input_ids"], coarse.eos_token_id], 50)
    assert tokenizer.decode(whole) == "the old fox" + tokenizer.eos_token


def test_a_teacher_with_little_room_reads_the_end_of_its_prompt(source, tokenizer, coarse):
    teacher = fresh_model("gpt2:layers=1,width=16", coarse, 12, torch.Generator())
    pair = LanguagePair(source, tokenizer, teacher=teacher, foreign=coarse)
    by = Tokeniser(tokenizer, 96, 48, 16, words=pair.words)
    assert their_tokeniser(pair, by).max_length == 12
    crossing = Crossing.of(pair, by, Alignment(align_by="spans"))
    beside = crossing.beside(pair.tokens("train", by).batch(range(4)))
    assert beside.batch.ids.shape[1] <= 12
    assert len(beside.aligned)


# ------------------------------------------------------------------------------------------------------------ the run


@pytest.fixture
def run(source, folder, tokenizer):
    def distilled(method, out=None, **settings):
        settings = {"teacher": folder, "tokenizer": tokenizer, "engine": EVERY_STEP, "answers": 0, **settings}
        if method.objective.corpus_weight != 1:
            settings["corpus"] = ["once upon a time " * 20] * 5
        return language.distill(source, method, out=out, **settings)

    return distilled


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_runs_and_gives_the_same_bytes(run, name, tmp_path):
    method = DistillLanguage.of(**SMALL, **KINDS[name])
    one, other = run(method, tmp_path / "one"), run(method)
    same = [torch.equal(*both) for both in zip(one.model.parameters(), other.model.parameters(), strict=True)]
    assert all(same)
    lines = [json.loads(line) for line in (tmp_path / "one" / "run" / "metrics.jsonl").read_text("utf-8").splitlines()]
    if name != "seqkd":
        assert all("teacher" in line for line in lines)
        assert all(line["compared"] > 0 for line in lines)
    assert len(one.tokenizer) == 300


@pytest.mark.parametrize("align_by", ["uld", "spans", "likelihood"])
def test_passes_add_up_to_one_large_one(source, folder, tokenizer, align_by):
    settings = {**SMALL, "student": "llama:layers=1,width=16,heads=2", "align_by": align_by}  # which has no dropout
    runtime, pair = Runtime(EVERY_STEP, 0), paired(source, folder, None, tokenizer, apart=True)
    method = DistillLanguage.of(**settings).resolve(pair, runtime)
    state = method.build(pair, runtime)
    found = []
    for micro in (None, 5, 1):
        state.student.zero_grad()
        shown = add_gradient(state.tokens.batch(range(16)), Parts(), micro, state, runtime)
        grads = torch.cat([parameter.grad.flatten() for parameter in state.student.parameters()])
        found.append((grads, {name: torch.as_tensor(float(value)) for name, value in shown.items()}))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[0], found[2], rtol=1e-4, atol=1e-6)


def test_equal_tokenizers_train_alike(source, teacher, tokenizer, engine):
    """The aligned loss of one tokenizer is the plain one, whole runs included."""
    common = {**SMALL, "steps": 3, "divergence": "jsd"}
    given = {"teacher": teacher, "tokenizer": tokenizer, "engine": engine, "answers": 0}
    one, other = (
        language.distill(source, DistillLanguage.of(**common, **more), **given) for more in ({}, {"align_by": "spans"})
    )
    for mine, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_a_killed_run_goes_on_to_the_same_bytes(run, tmp_path, monkeypatch):
    method = DistillLanguage.of(**{**SMALL, "epochs": 2}, **KINDS["adaptive"])
    whole = run(method)
    step, done = DistillLanguage.step, []

    def killed(self, state, runtime):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return step(self, state, runtime)

    monkeypatch.setattr(DistillLanguage, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(method, tmp_path)
    monkeypatch.undo()
    resumed = run(method, tmp_path)
    assert all(torch.equal(*both) for both in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))


def test_scores_are_of_the_same_text(run, source, folder, coarse, stranger, engine):
    made = run(DistillLanguage.of(**{**SMALL, "steps": 1}, **KINDS["spans"]), answers=2, engine=engine)
    found = language.evaluate(folder, source, answers=0, engine=engine, max_length=96)
    counts = [sum(len(by(row["response"])["input_ids"]) + 1 for row in source.test) for by in (coarse, made.tokenizer)]
    teachers = made.scores["teacher"]["cross_entropy"]
    assert teachers == pytest.approx(found.cross_entropy.value * counts[0] / counts[1], rel=1e-6)
    assert 0 < made.scores["kept"] < 10000
    assert "excess_error" not in made.scores["student"]


def test_scores_of_texts_that_are_cut_are_by_their_letters(source, tokenizer, coarse):
    """A teacher that gives all tokens the same probability, and reads a part of the text only."""
    teacher = fresh_model("gpt2:layers=1,width=16,heads=2", coarse, 30, torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(teacher.transformer.wte.weight)
    pair = LanguagePair(source, tokenizer, teacher=teacher, student=None, foreign=coarse)
    method = DistillLanguage.of(max_length=96, max_prompt=48, align_by="spans")
    by = method.tokeniser(pair)
    model = fresh_model("gpt2:layers=1,width=16,heads=2", tokenizer, 96, torch.Generator())
    found = scores_of(model, pair, method, Runtime(EVERY_STEP), 0)
    tokens = pair.of_teacher().tokens("test", their_tokeniser(pair, by))
    assert tokens.cut
    assert not pair.tokens("test", by).cut
    per_letter = math.log(420) * tokens.count / tokens.letters
    whole = pair.tokens("test", by)
    assert found["teacher"]["cross_entropy"] == pytest.approx(per_letter * whole.letters / whole.count, rel=1e-5)


def test_a_teacher_without_tokens_is_refused(source, stranger, tokenizer, tmp_path):
    stranger.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"the teacher's tokenizer has no tokens\. Save one into the folder"):
        paired(source, tmp_path, None, tokenizer, apart=True)


def test_another_vocabulary_is_refused_with_the_setting_that_allows_it(run, source, folder, tokenizer, student):
    with pytest.raises(InputError) as refusal:
        run(DistillLanguage.of(**SMALL))
    assert str(refusal.value).startswith("teacher and student have different vocabularies: 420 and 300 tokens, ")
    assert str(refusal.value).endswith(
        "Give models of one family, or let each of them read its own tokens (--align-by spans)."
    )
    with pytest.raises(InputError, match=r"different vocabularies.*Give models of one family\.$"):
        language.evaluate(student, source, teacher=folder, tokenizer=tokenizer)


def test_a_student_of_its_own_keeps_its_tokenizer(source, folder, student, tokenizer, engine, tmp_path):
    student.save_pretrained(tmp_path / "student")
    tokenizer.save_pretrained(tmp_path / "student")
    method = DistillLanguage.of(align_by="spans", steps=1, max_length=96)
    made = language.distill(
        source, method, teacher=folder, student=tmp_path / "student", out=tmp_path / "made", engine=engine, answers=0
    )
    assert made.tokenizer.get_vocab() == tokenizer.get_vocab()
    again = DistilledLanguageModel.load(tmp_path / "made")
    assert again.origin.settings["alignment"]["align_by"] == "spans"
    assert again.answer("the old fox", tokens=3) is not None


def test_the_fingerprint_knows_the_teachers_tokenizer(source, folder, tokenizer, stranger, teacher):
    one = paired(source, folder, None, tokenizer, apart=True)
    assert one.foreign is not None
    other = dataclasses.replace(one, foreign=tokenizer_named("bytes400"))
    assert one.fingerprint != other.fingerprint
    assert paired(source, teacher, None, tokenizer, apart=True).foreign is None
