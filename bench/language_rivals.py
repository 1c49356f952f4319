"""attar's loop, and its mixin in two trainers, beside TRL's distillation trainers: one loss, seconds, memory.

    ATTAR_DATA=... python bench/language_rivals.py --quick                        # does it run
    ATTAR_DATA=... python bench/language_rivals.py --record language_rivals.json  # recorded below bench/results

The teacher has four layers of width 128, the student one of 64, both as they were drawn and without dropout, in
float32; the data are plays in blocks of 96 tokens, of which 32 are the prompt; the loss is the generalised
Jensen-Shannon divergence alone. off: on the references (GKD's λ = 0). on: on the student's own answers (λ = 1), 32
tokens of each unless they end before. TRL's DistillationTrainer knows only the second. losses: the same tokens given to
all. memory: from hidden states to their gradient, at 4,096 tokens of 50,257 words, for which TRL's GKD wants 14 GB.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # or TRL reports that it is used
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import datasets
import harness
import torch
import transformers
import trl
from trl.experimental.gkd import GKDConfig, GKDTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

import attar.language as language
from attar.core.runtime import Engine, Runtime
from attar.language.generation import Voice, generate
from attar.language.models import fresh_model
from attar.language.pair import LanguagePair, paired
from attar.language.stops import stops_of
from attar.language.tokens import Batch, Tokens

BETA = 0.5
LENGTHS = {"max_length": 96, "max_prompt": 32, "context": 32}
OFF = ("attar", "attar in transformers", "attar in TRL", "TRL GKD")
ON = ("attar", "attar in TRL", "TRL GKD", "TRL distillation")


class Plain(language.DistillationMixin, transformers.Trainer):
    pass


class InTrl(language.DistillationMixin, trl.SFTTrainer):
    pass


def main() -> None:
    if harness.run_worker({"step": step, "losses": losses, "memory": memory}):
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps of each, which record nothing")
    parser.add_argument("--parts", nargs="+", default=["losses", "off", "on", "memory"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side, in turn")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--words", type=int, default=50257)
    parser.add_argument("--record", metavar="FILE.json", help="result file below bench/results")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.new_tokens, args.rounds, args.tokens, args.words, args.record = 2, 4, 1, 256, 5000, None
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "losses" in args.parts:
            found["losses"] = harness.in_own_process(__file__, "losses", folder, batch=args.batch)
            print(found["losses"], flush=True)
        for part, sides in (("off", OFF), ("on", ON)):
            if part in args.parts:
                given = {"on": part == "on", "steps": args.steps, "batch": args.batch, "new_tokens": args.new_tokens}
                turns = {side: ("step", {"side": side, **given}) for side in sides}
                found[part] = harness.in_turns(__file__, folder, turns, args.rounds, against="TRL GKD")
                print(harness.described(part, found[part]), flush=True)
        if "memory" in args.parts:
            found["memory"] = {}
            for way in WAYS:
                sizes = {"way": way, "tokens": args.tokens, "words": args.words}
                one = found["memory"][way] = harness.in_own_process(__file__, "memory", folder, **sizes)
                print(f"memory, {way}: {one['peak_gb']:.2f} GB, {one['beyond_gb']:.2f} GB beyond logits and gradient")
    if args.record:
        setting = {name: value for name, value in vars(args).items() if name not in ("record", "quick", "parts")}
        versions = {"trl": trl.__version__, "transformers": transformers.__version__}
        facts = {"machine": harness.machine() | versions, "setting": setting, **found}
        harness.record(args.record, facts, beside=True, by_machine=True)


# -------------------------------------------------------------------------------------------------- models and batches


def method_of(*, on: bool, batch: int, new_tokens: int) -> language.DistillLanguage:
    own: dict[str, Any] = {"answers_by": "on-policy", "new_tokens": new_tokens} if on else {}
    return language.DistillLanguage.of(
        divergence="jsd", jsd_beta=BETA, label_weight=0.0, batch=batch, lr=1e-3, **LENGTHS, **own
    )


def prepared(method: language.DistillLanguage, runtime: Runtime) -> tuple[language.DistillLanguage, LanguagePair]:
    """Models, tokenizer and the first plays, the same in each process."""
    text = (Path(os.environ["ATTAR_DATA"]) / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")
    source = language.load({part: [{"text": text[:200_000]}] for part in ("train", "validation", "test")})
    tokenizer = language.byte_tokenizer(source.texts(), 1024)
    draw = torch.Generator().manual_seed(0)
    models = [
        fresh_model(name, tokenizer, LENGTHS["max_length"], draw)
        for name in ("gpt2:layers=4,width=128,heads=4", "gpt2:layers=1,width=64,heads=2")
    ]
    for model in models:
        model.get_input_embeddings().weight.data *= 10  # as drawn, every distribution is all but uniform
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    pair = paired(source, *models, tokenizer)
    return method.resolve(pair, runtime), pair


def rows_of(tokens: Tokens) -> datasets.Dataset:
    """The same tokens as trainers want them: prompts as text too, which TRL's own pass to their tokenizers."""
    rows = []
    for row in tokens.rows:
        prompt, response = row["prompt"], row["response"]
        labels = [-100] * len(prompt) + response
        mask = [0] * len(prompt) + [1] * len(response)
        text = tokens.by.tokenizer.decode(prompt)
        rows.append({"prompt": text, "input_ids": prompt + response, "labels": labels, "completion_mask": mask})
    return datasets.Dataset.from_list(rows)


# ------------------------------------------------------------------------------------------------------------- seconds


class Clock(transformers.TrainerCallback):
    """When each step has ended."""

    def __init__(self) -> None:
        self.times = [time.perf_counter()]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())


def step(folder: str, side: str, *, on: bool, steps: int, batch: int, new_tokens: int) -> dict[str, float]:
    """Seconds of a step, data and optimiser included."""
    runtime = Runtime(Engine(device="cpu", quiet=True))
    method, pair = prepared(method_of(on=on, batch=batch, new_tokens=new_tokens), runtime)
    if side == "attar":
        runtime.plan(0)
        state = method.build(pair, runtime)
        return harness.timed(lambda: method.step(state, runtime), 3, steps)
    clock = Clock()
    made = trainer(side, folder, pair, method, steps + 3)
    made.add_callback(clock)
    clock.times = [time.perf_counter()]
    made.train()
    taken = [later - earlier for earlier, later in zip(clock.times, clock.times[1:], strict=False)]
    middle = sorted(taken[3:])[len(taken[3:]) // 2]
    return {"seconds": middle, "first_extra_seconds": taken[0] - middle, "peak_mb": harness.peak_mb()}


def trainer(side: str, folder: str, pair: LanguagePair, method: language.DistillLanguage, steps: int) -> Any:
    """A trainer of transformers or of TRL, with attar's loss or with TRL's own."""
    on, new_tokens = method.schedule.answers_by == "on-policy", method.sampling.new_tokens
    rows = rows_of(pair.tokens("train", method.tokeniser(pair)))
    settings: dict[str, Any] = {
        "output_dir": f"{folder}/out",
        "max_steps": steps,
        "per_device_train_batch_size": method.batch,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1000,
        "disable_tqdm": True,
    }
    given = {"model": pair.student, "processing_class": pair.tokenizer}
    ours = {**given, "teacher": pair.teacher, "distillation": method}
    theirs = {**given, "teacher_model": pair.teacher}
    if side == "attar in transformers":
        args = transformers.TrainingArguments(**settings)
        collator = transformers.DataCollatorForSeq2Seq(pair.tokenizer)
        return Plain(args=args, train_dataset=rows.remove_columns(["prompt"]), data_collator=collator, **ours)
    if side == "TRL distillation":
        pair.tokenizer.padding_side = "left"
        args = trl.DistillationConfig(beta=BETA, max_completion_length=new_tokens, **settings)
        return trl.DistillationTrainer(args=args, train_dataset=rows.select_columns(["prompt"]), **theirs)
    settings["max_length"] = LENGTHS["max_length"]
    if side == "attar in TRL":
        return InTrl(args=trl.SFTConfig(**settings), train_dataset=rows, **ours)
    own = {"beta": BETA, "lmbda": float(on), "temperature": 1.0, "max_new_tokens": new_tokens}
    return GKDTrainer(args=GKDConfig(**settings, **own), train_dataset=rows, **theirs)


# ---------------------------------------------------------------------------------------------------- losses and memory


def losses(folder: str, batch: int) -> dict[str, float]:
    """The loss of one batch by all; and of the student's answers, over the references' labels as TRL's GKD has it."""
    method, pair = prepared(method_of(on=False, batch=batch, new_tokens=32), Runtime(Engine(device="cpu", quiet=True)))
    references = pair.tokens("train", method.tokeniser(pair)).batch(range(batch))
    mixin, theirs = (trainer(side, folder, pair, method, 1) for side in OFF[2:])
    count = int((references.labels != -100).sum())
    given = {"input_ids": references.ids, "attention_mask": references.mask.long(), "labels": references.labels}
    mixin.model.train()
    with torch.no_grad():
        found = {
            "attar": by_function(pair, references),
            "attar in TRL": float(mixin.compute_loss(mixin.model, dict(given), num_items_in_batch=count)),
            "TRL GKD": float(theirs.compute_loss(theirs.model, dict(given), num_items_in_batch=count)),
            "TRL distillation": by_tiles(pair, references),
        }
        voice = Voice(pair.student, pair.words, stops_of(pair.student, pair.tokenizer))
        said = generate(voice, references.prompt_ids, [32] * batch, torch.Generator().manual_seed(0))
        answers = Batch.of(references.prompt_ids, said)
        own = {"input_ids": answers.ids, "attention_mask": answers.mask.long(), "labels": answers.labels}
        found["answers, attar"] = by_function(pair, answers)
        found["answers, TRL GKD"] = float(theirs.compute_loss(theirs.model, own, num_items_in_batch=count))
    found["answers' tokens over references' labels"] = int((answers.labels != -100).sum()) / count
    return found


def by_function(pair: LanguagePair, batch: Batch) -> float:
    given = {"input_ids": batch.ids, "attention_mask": batch.mask.long()}
    student, teacher = (model(**given).logits for model in (pair.student, pair.teacher))
    objective = language.Objective(divergence="jsd", jsd_beta=BETA, label_weight=0.0)
    return float(language.distillation_loss(student, teacher, batch.labels, objective=objective))


def by_tiles(pair: LanguagePair, batch: Batch) -> float:
    """TRL's newer loss, from the last hidden states."""
    models: tuple[Any, Any] = (pair.student, pair.teacher)
    hidden = [model.base_model(batch.ids, attention_mask=batch.mask.long()).last_hidden_state for model in models]
    heads = [model.get_output_embeddings().weight for model in models]
    mask = (batch.labels[:, 1:] != -100).long()
    return float(_chunked_divergence_loss(*(states[:, :-1] for states in hidden), *heads, mask, BETA)[0])


def memory(folder: str, way: str, tokens: int, words: int) -> dict[str, float]:
    """Peak memory and seconds from both models' hidden states to the gradient in the student's, heads included."""
    WAYS[way](*heads_and_states(8, 50))[0].backward()  # what is loaded on the first call is not the loss's
    given = heads_and_states(tokens, words)
    before, start = harness.peak_mb(), time.perf_counter()
    loss, held = WAYS[way](*given)
    loss.backward()
    peak = (harness.peak_mb() - before) / 1e3
    logits = tokens * words * 4 / 1e9
    seconds = time.perf_counter() - start
    return {"peak_gb": peak, "beyond_gb": peak - held * logits, "logits_gb": logits, "seconds": seconds}


def heads_and_states(tokens: int, words: int) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    shapes = ((tokens + 1, 64), (words, 64), (tokens + 1, 128), (words, 128))
    student, head, teacher, other = (torch.randn(shape, generator=draw) / 8 for shape in shapes)
    return student[None].requires_grad_(), head.requires_grad_(), teacher[None], other


def chunked_by_attar(student: Any, head: Any, teacher: Any, other: Any) -> tuple[torch.Tensor, int]:
    labels = torch.zeros(student.shape[:2], dtype=torch.long)
    objective = language.Objective(divergence="jsd", jsd_beta=BETA, label_weight=0.0)
    return language.distillation_loss(student @ head.T, teacher @ other.T, labels, objective=objective), 3


def whole_by_gkd(student: Any, head: Any, teacher: Any, other: Any) -> tuple[torch.Tensor, int]:
    one, two = (student @ head.T)[:, :-1], (teacher @ other.T)[:, :-1]
    return GKDTrainer.generalized_jsd_loss(one, two, torch.zeros(one.shape[:2], dtype=torch.long), BETA), 3


def tiled_by_trl(student: Any, head: Any, teacher: Any, other: Any) -> tuple[torch.Tensor, int]:
    mask = torch.ones(1, student.shape[1] - 1)
    return _chunked_divergence_loss(student[:, :-1], teacher[:, :-1], head, other, mask, BETA)[0], 0


WAYS: dict[str, Callable[..., tuple[torch.Tensor, int]]] = {
    "attar": chunked_by_attar,
    "TRL GKD": whole_by_gkd,
    "TRL distillation": tiled_by_trl,
}
"""Each gives the loss, and how many tensors of the logits' size it is meant to hold: two and a gradient, or none."""


if __name__ == "__main__":
    main()
