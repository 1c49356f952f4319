"""Options of large students, of stored answers, of a server and of other tokenizers, two by two.

Each pair either takes a step, or is refused on one line before there is a student to train.
"""

import itertools
import math

import pytest
import torch

import attar.language as language
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.language import answered, distillation
from attar.language.answered import Answer
from attar.language.distillation import DistillLanguage
from attar.language.models import byte_tokenizer, fresh_model
from attar.language.server import Server
from attar.language.tasks import Distill
from two_processes import printed_by

STUDENT = {"student": "llama:layers=1,width=16,heads=2", "steps": 1, "batch": 4, "max_length": 96, "new_tokens": 2}
OPTIONS = {
    "packing": {"packing": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "bfloat16": {"student_precision": "bfloat16", "saved_precision": "bfloat16"},
    "adapters": {"lora_rank": 2, "lora_dropout": 0.1},
    "passes": {"micro": 3},
    "rouge": {"select": "rouge", "validation_answers": 2},
    "spans": {"span_weight": 0.1},
    "clip": {"teacher_clip": "learned"},
    "on-policy": {"answers_by": "on-policy"},
    "adaptive": {"answers_by": "adaptive"},
    "corrections": {"answers_by": "mixed", "corrections": 1},
    "policy": {"divergence": "policy", "rollouts": 4},
    "another tokenizer": {"align_by": "spans"},
    "stored answers": {},
    "server": {"answers_by": "teacher", "divergence": "none"},
}
REFUSED = {
    "policy": {"spans", "clip", "on-policy", "adaptive", "corrections"},
    "server": {"clip"},
    "stored answers": {"packing", "spans", "clip", "on-policy", "adaptive", "corrections", "policy", "server"},
    "another tokenizer": {"packing", "spans", "clip", "corrections", "policy", "stored answers"},
}


def pairs():
    """Pairs of options that do not set the same thing differently."""
    for one, other in itertools.combinations(OPTIONS, 2):
        both = OPTIONS[one].items() | OPTIONS[other].items()
        if len(dict(both)) == len(both):
            yield one, other


@pytest.fixture(scope="module")
def stored(source, teacher, tokenizer, engine, tmp_path_factory):
    method, out = language.StoreAnswers(top=8, max_length=96), tmp_path_factory.mktemp("answers") / "store"
    return language.label(source, method, teacher=teacher, tokenizer=tokenizer, out=out, engine=engine, answers=0)


@pytest.fixture(scope="module")
def stranger(source, tmp_path_factory):
    """The folder of a teacher of another tokenizer."""
    folder, own = tmp_path_factory.mktemp("teachers") / "stranger", byte_tokenizer(source.texts(), 280)
    model = fresh_model("gpt2:layers=1,width=16,heads=2", own, 192, torch.Generator().manual_seed(3))
    for one in (model, own):
        one.save_pretrained(folder)
    return folder


@pytest.fixture
def a_step(source, teacher, tokenizer, engine, stored, stranger, monkeypatch):
    """What a step with some options shows."""
    monkeypatch.setattr(answered, "collected", lambda _, requests, *more: [Answer("yes", True)] * len(requests))

    def taken(*options):
        one = None if "stored answers" in options else teacher
        task = Distill(
            teacher=language.Teacher(model=stranger if "another tokenizer" in options else one),
            tokenizer=tokenizer,
            stored_answers=stored if "stored answers" in options else None,
            server=Server(address="http://localhost:1/v1", model="big") if "server" in options else Server(),
            answers=0,
        )
        runtime = Runtime(engine)
        method = DistillLanguage.of(**{**STUDENT, **{k: v for name in options for k, v in OPTIONS[name].items()}})
        pair, method = task.prepare(source, method, runtime)
        method = method.resolve(pair, runtime)
        state = method.build(pair, runtime)
        shown = method.step(state, runtime)
        assert all(torch.isfinite(value).all() for value in method.result(state, runtime).model.parameters())
        return {name: float(value) for name, value in shown.items()}

    return taken


@pytest.mark.parametrize(("one", "other"), [*pairs()])
def test_two_options_work_together_or_are_refused(one, other, a_step, monkeypatch):
    refused = other in REFUSED.get(one, ()) or one in REFUSED.get(other, ())
    if not refused:
        assert math.isfinite(a_step(one, other)["loss"])
        return
    monkeypatch.setattr(distillation, "descend", None)
    with pytest.raises(InputError) as error:
        a_step(one, other)
    assert "\n" not in str(error.value)


TWO = """
import json, os
import torch
import attar.language as language
from attar.core.runtime import Engine
from attar.language.models import byte_tokenizer, fresh_model

FOLDER = os.environ["FOLDER"]
data = language.load([{"prompt": f"{n} and {n} is ", "completion": str(2 * n)} for n in range(30)])
tokenizer, other = byte_tokenizer(data.texts(), 270), byte_tokenizer(data.texts(), 264)
teacher, stranger = (
    fresh_model("gpt2:layers=1,width=16,heads=2", own, 64, torch.Generator().manual_seed(1)).eval()
    for own in (tokenizer, other)
)
for one in (stranger, other):
    one.save_pretrained(f"{FOLDER}/stranger")
engine = Engine(device="cpu", quiet=True, checkpoint_seconds=0)
small = {"student": "llama:layers=1,width=16,heads=2", "steps": 4, "batch": 9, "max_length": 64}
kinds = {
    "packing": {"packing": True, "gradient_checkpointing": True},
    "stored": {"micro": 4},
    "bfloat16": {"student_precision": "bfloat16", "lora_rank": 2, "select": "rouge", "validation_answers": 2},
    "another tokenizer": {"align_by": "spans"},
}

def losses(name, count):
    method = language.DistillLanguage.of(**small, **kinds[name])
    stored = f"{FOLDER}/answers" if name == "stored" else None
    who = f"{FOLDER}/stranger" if name == "another tokenizer" else None if stored else teacher
    out = f"{FOLDER}/{name} {count}"
    language.distill(
        data, method, teacher=who, tokenizer=tokenizer, out=out, engine=engine, answers=0, stored_answers=stored
    )
    with open(f"{out}/run/metrics.jsonl", encoding="utf-8") as file:
        return [json.loads(line)["loss"] for line in file]

language.label(
    data, language.StoreAnswers(top=9, max_length=64), teacher=teacher, tokenizer=tokenizer, out=f"{FOLDER}/answers",
    engine=engine, answers=0,
)
alone = {name: losses(name, 1) for name in kinds}
children = []
for rank in range(2):
    child = os.fork()
    if not child:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        found = {name: losses(name, 2) for name in kinds}
        if rank == 0:
            print(json.dumps([alone, found]), flush=True)
        os._exit(0)
    children.append(child)
assert not any(os.waitpid(child, 0)[1] for child in children)
"""


def test_two_processes_train_as_one(tmp_path, monkeypatch):
    """Also of a last batch of three rows, which passes of four give to one process alone."""
    monkeypatch.setenv("FOLDER", str(tmp_path))
    alone, together = printed_by(TWO)
    assert {name: len(losses) for name, losses in alone.items()} == dict.fromkeys(together, 4)
    for name, losses in alone.items():
        assert together[name] == pytest.approx(losses, rel=2e-3 if name == "bfloat16" else 1e-5), name
