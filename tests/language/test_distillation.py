"""The house's battery for language models: same seed same bytes, killed equals uninterrupted, settings survive."""

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch

import attar.language as language
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.score import paired as paired_interval
from attar.language.correction import Correction, correct
from attar.language.distillation import DistillLanguage
from attar.language.generation import Voice, generate
from attar.language.losses import Places, log_probabilities
from attar.language.pair import paired
from attar.language.tokens import Batch, Tokeniser
from promises import EVERY_STEP

SMALL = {"student": "gpt2:layers=1,width=16,heads=2", "epochs": 2, "batch": 16, "max_length": 96, "new_tokens": 6}
KINDS = {
    "sft": {"divergence": "none"},
    "forward": {"label_weight": 0.5, "micro": 6},
    "jsd mixed": {"divergence": "jsd", "answers_by": "mixed", "corrections": 1},
    "seqkd": {"divergence": "none", "answers_by": "teacher"},
    "all levels": {
        "teacher_clip": "learned",
        "span_weight": 1.0,
        "corrections": 1,
        "answers_by": "adaptive",
        "init_threshold": 0.8,
        "capacity": 20,
        "select": "rouge",
        "validation_answers": 4,
    },
    "corpus": {"corpus_weight": 0.5, "teacher_weight": 0.5},
    "adapters": {"lora_rank": 2, "lora_dropout": 0.1, "select": "loss"},
    "policy": {"divergence": "policy", "rollouts": 16, "rollout_epochs": 2},
}


@pytest.fixture
def run(source, teacher, tokenizer):
    def distilled(method, out=None, **settings):
        settings = {"teacher": teacher, "tokenizer": tokenizer, "engine": EVERY_STEP, "answers": 0, **settings}
        if method.objective.corpus_weight != 1:
            settings["corpus"] = ["once upon a time " * 20] * 5
        return language.distill(source, method, out=out, **settings)

    return distilled


def test_further_text_is_learned_too(run, tmp_path):
    run(DistillLanguage.of(**SMALL, **KINDS["corpus"]), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"corpus", "labels", "teacher"} <= set(lines[0])
    assert lines[-1]["corpus"] < lines[0]["corpus"]


@pytest.fixture(scope="module")
def trained(source, tokenizer, engine):
    """A teacher of the forty rows."""
    return language.train(
        source,
        "gpt2:layers=1,width=48",
        tokenizer=tokenizer,
        engine=engine,
        answers=0,
        **{"epochs": 12, "lr": 5e-3, "batch": 8, "max_length": 96},
    )


def test_training_learns(trained, tokenizer):
    assert trained.scores["student"]["cross_entropy"] < 0.75 * math.log(len(tokenizer))


def test_a_teacher_that_has_seen_more_helps(source, engine, tokenizer):
    """Ten rows, and a teacher of six hundred: forward KL beats the labels in cross-entropy on new rows, run by run."""
    few = language.load({"train": list(source.train)[:10], "validation": list(source.test), "test": list(source.test)})
    common = {"student": "gpt2:layers=1,width=32", "epochs": 20, "batch": 5, "max_length": 96, "lr": 5e-3}
    wide = language.train(
        "phrases",
        "gpt2:layers=1,width=64",
        tokenizer=tokenizer,
        engine=engine,
        answers=0,
        **{"epochs": 2, "lr": 5e-3, "batch": 16, "max_length": 96},
    )
    found = {}
    for name, settings in {"labels": {"divergence": "none"}, "forward": {"label_weight": 0.0}}.items():
        method = DistillLanguage.of(**common, **settings)
        found[name] = [
            language.distill(few, method, teacher=wide, engine=engine, seed=seed, answers=0).scores["student"][
                "cross_entropy"
            ]
            for seed in range(3)
        ]
    gain = paired_interval(found["forward"], found["labels"])
    assert gain.high < 0


def test_corrected_answers_are_nearer_to_the_teacher_s(source, trained, student, tokenizer):
    """The teacher gives the tokens of corrected answers more than those of raw ones, prompt by prompt."""
    prompts = Tokeniser(tokenizer, 96, 48, 8).read(source, "train").batch(range(40)).prompt_ids
    voice, generator = Voice(student, len(tokenizer), (tokenizer.eos_token_id,)), torch.Generator().manual_seed(0)
    said = generate(voice, prompts, [8] * 40, generator)
    better, changed = correct(voice, trained.model, prompts, said, [8] * 40, Correction(corrections=3), generator)
    likely = []
    for answers in (said, better):
        batch = Batch.of(prompts, answers)
        places = Places.of(batch.labels)
        with torch.no_grad():
            found = log_probabilities(trained.model(input_ids=batch.ids).logits, places, words=len(tokenizer))
        row = places.rows // batch.ids.shape[1]
        total = torch.zeros(40).index_add_(0, row, found)
        likely.append((total / torch.bincount(row, minlength=40)).tolist())
    assert all(changed)
    assert paired_interval(likely[1], likely[0]).low > 0


def test_a_run_shows_what_the_sheet_asks_for(run, tmp_path):
    run(DistillLanguage.of(**SMALL, **KINDS["all levels"]), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = set().union(*lines)
    assert {"loss", "labels", "teacher", "spans", "kept mass", "upper", "lower", "corrected", "threshold"} <= shown
    assert len(lines) == 6


def test_the_best_epoch_is_kept(source, tokenizer, engine):
    """At a step size that undoes what was learned, the choice by loss is no worse on validation than the last."""
    settings = {**SMALL, "lr": 0.08, "epochs": 4, "divergence": "none"}
    found = []
    for select in ("last", "loss"):
        made = language.distill(
            source, DistillLanguage.of(**settings, select=select), tokenizer=tokenizer, engine=engine, answers=0
        )
        measured = language.evaluate(made, source, part="validation", answers=0, max_length=96, engine=engine)
        found.append(measured.cross_entropy.value)
    assert found[1] <= found[0]


def test_a_number_of_steps_takes_the_place_of_epochs(run, tmp_path):
    """Four steps are an epoch of three and a begun one, which is chosen from as well."""
    run(DistillLanguage.of(**{**SMALL, "epochs": 9}, steps=4, select="loss"), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 4
    assert lines[3]["validation"] != lines[2]["validation"]


def test_the_step_size_rises_and_falls_to_nothing():
    method = DistillLanguage.of(epochs=10, batch=1, lr_warm_up=0.2)
    method = dataclasses.replace(method, rows=1)
    pace = [method.pace(step) for step in range(10)]
    assert pace[:3] == [0.5, 1.0, 1.0]
    assert pace[2:] == sorted(pace[2:], reverse=True)
    assert method.pace(10) == pytest.approx(0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"corrections": 1}, "corrections need the student's answers, but --answers-by off-policy has none"),
        ({"divergence": "none", "answers_by": "mixed"}, "on the student's answers, but --divergence is none"),
        ({"divergence": "policy", "answers_by": "mixed"}, "--divergence policy samples its own answers"),
        ({"divergence": "policy", "sampling_temperature": 0.5}, "Leave sampling_temperature and nucleus at 1"),
        (
            {"divergence": "jsd", "teacher_clip": "top-p"},
            "teacher_clip top-p needs --divergence forward, not jsd",
        ),
        ({"divergence": "none", "label_weight": 0.0}, "--label-weight and every other weight are 0"),
        ({"teacher_weight": 0.0, "label_weight": 0.0}, "--label-weight and every other weight are 0"),
        ({"jsd_beta": 2.0}, "jsd_beta is 2.0; it must be from 0 to 1."),
        ({"divergence": "kl"}, "unknown divergence 'kl'"),
        ({"divergence": "none", "temperature": 2.0}, "--temperature 2 has no effect with --divergence none"),
        ({"divergence": "policy", "temperature": 2.0}, "--temperature 2 has no effect with --divergence policy"),
        ({"batches": 2}, "unknown setting of DistillLanguage 'batches'; did you mean 'batch'?"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, sentence):
    with pytest.raises(InputError) as refusal:
        DistillLanguage.of(**settings)
    assert sentence in str(refusal.value)


def test_what_does_not_fit_the_models_is_refused_and_nothing_is_lost(run, source, tokenizer, tmp_path, engine):
    for flag, settings in {
        "--divergence forward": {},
        "--divergence policy": {"divergence": "policy", "teacher_weight": 0.0},
        "--span-weight": {"divergence": "none", "span_weight": 1.0},
        "--answers-by teacher": {"divergence": "none", "answers_by": "teacher"},
        "--align-by spans": {"divergence": "none", "align_by": "spans"},
    }.items():
        with pytest.raises(InputError, match=f"^{flag} needs a teacher"):
            run(DistillLanguage.of(**{**SMALL, **settings}), teacher=None)
    with pytest.raises(InputError, match="max_length is 200, but the models read at most 96 tokens"):
        run(DistillLanguage.of(**{**SMALL, "max_length": 200}), tmp_path / "run")
    with pytest.raises(InputError, match="max_prompt is 96 of 96 tokens, so no token is left"):
        run(DistillLanguage.of(**SMALL, max_prompt=96))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_student_of_16_bits_is_trained_in_32_from_either_door(run, student, tokenizer, tmp_path, dtype):
    import copy

    half = copy.deepcopy(student).to(dtype)
    half.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    method = DistillLanguage.of(**{**SMALL, "epochs": 1}, lr=1e-5)
    made, other = (run(method, student=one).model for one in (half, tmp_path))
    for (name, mine), same, before in zip(made.named_parameters(), other.parameters(), half.parameters(), strict=True):
        assert torch.equal(mine, same), name
        assert (mine.dtype, before.dtype) == (torch.float32, dtype)
    moved = torch.cat([(a != b.float()).flatten() for a, b in zip(made.parameters(), half.parameters(), strict=True)])
    assert moved.float().mean() > 0.9


class Odd(torch.nn.Module):
    """A model whose output is what a function makes of the logits."""

    def __init__(self, words, output):
        super().__init__()
        self.table = torch.nn.Embedding(words, words)
        self.config = SimpleNamespace(vocab_size=words, max_position_embeddings=96)
        self.output = output

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=False):
        return self.output(self.table(input_ids))


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (lambda logits: (logits,), "the teacher gives a tuple for 2 tokens of a vocabulary of 300"),
        (lambda logits: {"scores": logits}, "the teacher gives a dict for 2 tokens"),
        (lambda logits: SimpleNamespace(logits=None), "the teacher gives a SimpleNamespace for 2 tokens"),
        (lambda logits: SimpleNamespace(logits=logits[:, -1:]), r"the teacher gives logits of shape \[1, 1, 300\]"),
        (lambda logits: SimpleNamespace(logits=logits[..., :9]), r"the teacher gives logits of shape \[1, 2, 9\]"),
        (lambda logits: logits[5], r"the teacher cannot run \(index 5 is out of bounds"),
        (lambda logits: SimpleNamespace(logits=logits), "the teacher cannot run .*past_key_values"),
    ],
)
def test_a_teacher_that_cannot_be_used_is_refused_before_the_first_step(run, output, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        run(DistillLanguage.of(**SMALL), teacher=Odd(300, output), answers=1)
    assert "\n" not in str(refusal.value)


def test_a_teacher_that_never_answers_needs_no_cache(run):
    run(
        DistillLanguage.of(**{**SMALL, "steps": 1}),
        teacher=Odd(300, lambda logits: SimpleNamespace(logits=logits)),
        answers=0,
    )


def test_a_student_that_cannot_be_trained_is_refused(run, student):
    import copy

    frozen = copy.deepcopy(student).requires_grad_(False)
    with pytest.raises(InputError, match=r"every parameter of the student is frozen\. Set requires_grad"):
        run(DistillLanguage.of(**SMALL), student=frozen)
    with pytest.raises(
        InputError, match=r"the student cannot run \(.+\)\. Check its sizes, or give another one\."
    ) as told:
        run(DistillLanguage.of(**{**SMALL, "student": "gptj:layers=1,width=32"}))
    assert "\n" not in str(told.value)
    with pytest.raises(InputError, match="the student is not causal: it sees the tokens that it has to foretell"):
        run(DistillLanguage.of(**{**SMALL, "student": "bert:layers=1,width=32"}))


def test_two_temperatures_have_two_names_and_older_settings_are_read():
    method = DistillLanguage.of(temperature=2.0, sampling_temperature=0.5)
    assert (method.objective.temperature, method.sampling.sampling_temperature) == (2.0, 0.5)
    older = DistillLanguage.of(sampling_temperature=0.5).to_json()
    older["sampling"]["temperature"] = older["sampling"].pop("sampling_temperature")
    del older["objective"]["temperature"]
    assert DistillLanguage.from_json(older) == DistillLanguage.of(sampling_temperature=0.5)


def with_rows(source, **parts):
    rows = {part: list(getattr(source, part)) for part in ("train", "validation", "test")}
    return language.load(rows | {part: [*rows[part], row] for part, row in parts.items()})


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"prompt": "", "response": "a"}, r"row 9 of data \(test\) has nothing before the response"),
        ({"prompt": "a", "response": ""}, r"row 9 of data \(test\) has an empty response"),
        ({"prompt": None, "response": "a"}, r"row 9 of data \(test\) does not have .*, pair: None is not text"),
        ({"prompt": "a", "response": float("nan")}, r"row 9 of data \(test\) does not have .*, pair: nan is not text"),
        ({"prompt": "<|endoftext|>", "response": "a"}, r"row 9 of data \(test\) has a prompt without a token"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_before_training(run, source, tokenizer, teacher, row, sentence, tmp_path):
    """Where it is read, or at the latest before the first step."""
    with pytest.raises(InputError, match=sentence):
        language.distill(
            with_rows(source, test=row),
            DistillLanguage.of(**SMALL),
            teacher=teacher,
            tokenizer=tokenizer,
            out=tmp_path / "run",
            engine=EVERY_STEP,
        )
    assert not (tmp_path / "run" / "run" / "metrics.jsonl").exists()


def test_a_teacher_of_no_numbers_is_refused(run, teacher):
    import copy

    broken = copy.deepcopy(teacher)
    with torch.no_grad():
        broken.transformer.wte.weight[7] = math.nan
    with pytest.raises(InputError, match="the teacher's logits hold NaN or infinity"):
        run(DistillLanguage.of(**SMALL), teacher=broken)


@pytest.mark.parametrize("kind", ["forward", "all levels", "jsd mixed", "policy"])
def test_several_processes_share_the_passes_of_a_step(kind, source, teacher, tokenizer):
    """What two processes have, added up, is the gradient of one alone."""
    from attar.core.processes import Processes
    from attar.language.steps import descend

    pair = paired(source, teacher, None, tokenizer)
    method = DistillLanguage.of(**{**SMALL, **KINDS[kind], "micro": 4}).resolve(pair, Runtime(EVERY_STEP))
    grads = []
    for rank, count in ((0, 1), (0, 2), (1, 2)):
        runtime = Runtime(EVERY_STEP)
        runtime.processes = Processes()
        runtime.processes.rank, runtime.processes.count = rank, count
        state = method.build(pair, runtime)
        state.student.eval()
        descend(method, list(range(14)), state, runtime)
        learned = [*state.learned.values(), *state.network.parameters()]
        grads.append(torch.cat([parameter.grad.flatten() for parameter in learned]))
    torch.testing.assert_close(grads[0], grads[1] + grads[2], rtol=1e-4, atol=1e-6)


def test_a_teacher_that_rules_out_a_reference_teaches_the_rest(run, tokenizer):
    """Its cross-entropy is infinite, which no file says; the student learns from the other tokens."""

    def without_a_word(logits):
        return SimpleNamespace(logits=logits.index_fill(2, torch.tensor([tokenizer("e")["input_ids"][0]]), -math.inf))

    for kind in ("forward", "reverse", "jsd", "tvd"):
        made = run(DistillLanguage.of(**{**SMALL, "steps": 1}, divergence=kind), teacher=Odd(300, without_a_word))
        assert all(torch.isfinite(parameter).all() for parameter in made.model.parameters())
        assert set(made.scores) == {"student", "teacher"}
        assert "cross_entropy" not in made.scores["teacher"]
        assert "teacher: 90,000 parameters" in str(made)
        assert "Infinity" not in json.dumps(made.scores)
