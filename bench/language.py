"""What each way of distilling a language model adds, on plays and on instructions, trained from scratch on a CPU.

    ATTAR_DATA=... python bench/language.py --quick                 # does it run
    ATTAR_DATA=... python bench/language.py --record language.json  # the table, recorded below bench/results
    python bench/language.py memory --record language_memory.json   # the losses at 4,096 tokens of 50,257 words
    ATTAR_DATA=... python bench/language.py again --record language_again.json  # re-generation with and without a cache

The table: a student of one layer beside a teacher of four. Divergences come first, then, on the forward one, the
student's own answers, their correction (SCRG), the clipped teacher (DAC-KL) and spans, each with all before it.
Differences are to the row before and to plain fine-tuning, in pairs of seeds, with intervals. A run that was stopped
goes on where it stopped: give the same --out. On two cores the two sets (--data) are best run side by side, a thread
each.
"""

import argparse
import dataclasses
import os
import statistics
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import harness
import torch

import attar.language as language
from attar.core import store
from attar.core.memory import anonymous_bytes
from attar.core.runtime import Engine
from attar.core.score import paired
from attar.language.clipping import Clipping
from attar.language.correction import Correction, correct
from attar.language.evaluation import divergence_by_position
from attar.language.generation import Reader, Voice, generate
from attar.language.losses import Places, Terms, chunked_loss
from attar.language.models import fresh_model
from attar.language.sources import TextSource
from attar.language.stops import stops_of

ENGINE = Engine(device="cpu", quiet=True)
OWN = {"divergence": "forward", "answers_by": "adaptive", "init_threshold": 0.5}
ROWS: dict[str, dict[str, Any]] = {
    "sft": {"divergence": "none"},
    "forward": {"divergence": "forward"},
    "reverse": {"divergence": "reverse"},
    "jsd 0.5": {"divergence": "jsd", "jsd_beta": 0.5},
    "skew forward": {"divergence": "skew-forward"},
    "skew reverse": {"divergence": "skew-reverse"},
    "forward, own answers": OWN,
    "+ SCRG": {**OWN, "corrections": 1},
    "+ DAC-KL": {**OWN, "corrections": 1, "teacher_clip": "learned"},
    "+ span": {**OWN, "corrections": 1, "teacher_clip": "learned", "span_weight": 1.0},
}
BEFORE = dict.fromkeys(ROWS, "sft") | dict(zip(list(ROWS)[6:], ["forward", *list(ROWS)[6:-1]], strict=True))
MEASURES = ("cross_entropy", "rouge_l", "length_ratio", "repetition", "excess_error", "own_divergence")
DATA: dict[str, dict[str, Any]] = {
    "tinyshakespeare": {"path": "tinyshakespeare/input.txt", "max_length": 96, "max_prompt": 32, "context": 32},
    "t0-instructions": {"path": "t0-instructions", "max_length": 160, "max_prompt": 128, "context": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="table", choices=("table", "memory", "again"))
    parser.add_argument("--quick", action="store_true", help="a few steps of each, which record nothing")
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300, help="of a student")
    parser.add_argument("--teacher-steps", type=int, default=900)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=1024, help="tokens of the byte-level BPE")
    parser.add_argument("--answers", type=int, default=48, help="test prompts that are answered, for each of 3 seeds")
    parser.add_argument("--new-tokens", type=int, default=32, help="tokens of an answer at most")
    parser.add_argument("--tokens", type=int, default=4096, help="memory: tokens")
    parser.add_argument("--words", type=int, default=50257, help="memory: words")
    parser.add_argument("--out", type=Path, default=Path("runs") / "language", help="where the runs go")
    parser.add_argument("--record", metavar="FILE.json", help="result file below bench/results")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.steps, args.teacher_steps, args.answers, args.new_tokens = args.seeds[:2], 3, 4, 4, 6
        args.tokens, args.words, args.out, args.record = 256, 5000, args.out / "quick", None
    found = {"table": table, "memory": memory, "again": again}[args.what](args)
    if args.record:
        setting = {name: str(value) for name, value in vars(args).items() if name not in ("out", "record", "quick")}
        harness.record(args.record, {"machine": harness.machine(), "setting": setting, **found}, beside=True)


# ----------------------------------------------------------------------------------------------------------- the table


def table(args: argparse.Namespace) -> dict[str, Any]:
    """Every row on every data set, printed as it comes."""
    cells: dict[str, Any] = {}
    for name in args.data:
        source, tokenizer = shortened(name, args)
        teacher = trained_teacher(name, source, tokenizer, args)
        cells[name] = {"teacher": teacher.scores["student"]}
        print(f"{source}\nteacher: {line(teacher.scores['student'])}", flush=True)
        for row in args.rows:
            cells[name][row] = [student(name, row, seed, source, teacher, args) for seed in args.seeds]
            print(said(row, cells[name]), flush=True)
        if args.record:  # as it stands, so that a long table can be read on the way
            harness.record(args.record, {"machine": harness.machine(), "cells": cells}, beside=True)
    return {"cells": cells}


def shortened(name: str, args: argparse.Namespace) -> tuple[TextSource, Any]:
    """The data and its own tokenizer; a little of it for a quick run."""
    source = language.load(Path(os.environ["ATTAR_DATA"]) / DATA[name]["path"])
    if args.quick:
        parts = {part: list(getattr(source, part))[:20] for part in ("train", "validation", "test")}
        if source.form == "text":
            parts = {part: [{"text": rows[0]["text"][:4000]}] for part, rows in parts.items()}
        source = dataclasses.replace(language.load(parts), name=name)
    return source, language.byte_tokenizer(source.texts(), args.vocabulary)


def lengths(name: str) -> dict[str, int]:
    return {key: value for key, value in DATA[name].items() if key != "path"}


def epochs(steps: int, rows: int, batch: int) -> int:
    return max(1, round(steps * batch / rows))


def trained_teacher(name: str, source: TextSource, tokenizer: Any, args: argparse.Namespace) -> Any:
    """Four layers of width 128, chosen by validation loss."""
    rows = rows_of(name, source, tokenizer)
    return language.train(
        source,
        "gpt2:layers=4,width=128,heads=4",
        tokenizer=tokenizer,
        out=args.out / name / "teacher",
        engine=ENGINE,
        answers=args.answers,
        **{"epochs": epochs(args.teacher_steps, rows, args.batch), "batch": args.batch, "lr": 1e-3},
        **{"select": "loss", "new_tokens": args.new_tokens, **lengths(name)},
    )


def rows_of(name: str, source: TextSource, tokenizer: Any) -> int:
    from attar.language.tokens import Tokeniser

    sizes = lengths(name)
    by = Tokeniser(tokenizer, sizes["max_length"], sizes["max_prompt"], sizes["context"])
    return len(by.read(source, "train"))


def student(
    name: str, row: str, seed: int, source: TextSource, teacher: Any, args: argparse.Namespace
) -> dict[str, float]:
    """One student, and what it is worth on the test part; read if it is there."""
    method = language.DistillLanguage.of(
        student="gpt2:layers=1,width=64,heads=2",
        epochs=epochs(args.steps, rows_of(name, source, teacher.tokenizer), args.batch),
        **{"batch": args.batch, "lr": 2e-3, "new_tokens": args.new_tokens, **lengths(name), **ROWS[row]},
    )
    folder = args.out / name / row.replace(" ", "-") / f"seed{seed}"
    made = language.distill(source, method, teacher=teacher, out=folder, seed=seed, engine=ENGINE, answers=0)
    taken = store.read_json(folder / "run" / "cost.json")["seconds"]

    def measure() -> dict[str, float]:
        found = language.evaluate(
            made,
            source,
            teacher=teacher,
            answers=args.answers,
            seeds=(10, 20, 30),
            sampling=method.sampling,
            engine=ENGINE,
            **lengths(name),
        )
        own = own_divergence(made, teacher, source, name, args)
        return {**found.to_json(), "own_divergence": own, "seconds": taken}

    return store.remembered(folder / f"measured-{args.answers}.json", measure)


def own_divergence(made: Any, teacher: Any, source: TextSource, name: str, args: argparse.Namespace) -> float:
    """Mean KL(p ‖ q) on what the student says: what SCRG is meant to lower."""
    from attar.language.tokens import Tokeniser

    sizes = lengths(name)
    by = Tokeniser(made.tokenizer, sizes["max_length"], sizes["max_prompt"], sizes["context"])
    tokens = by.read(source, "test")
    prompts = tokens.batch(range(min(args.answers, len(tokens)))).prompt_ids
    voice = Voice(made.model, len(made.tokenizer), stops_of(made.model, made.tokenizer))
    limits = [min(args.new_tokens, sizes["max_length"] - len(prompt)) for prompt in prompts]
    said = generate(voice, prompts, limits, torch.Generator().manual_seed(10))
    return float(divergence_by_position(voice, teacher.model, prompts, said).mean())


def said(row: str, cells: dict[str, Any]) -> str:
    """A row, and its differences."""
    values = {name: [one[name] for one in cells[row]] for name in MEASURES}
    text = f"{row:22s} {line({name: statistics.fmean(found) for name, found in values.items()})}"
    for other in dict.fromkeys((BEFORE[row], "sft")):
        if other in cells and other != row:
            apart = [
                f"{name} {difference(values[name], [one[name] for one in cells[other]])}"
                for name in ("cross_entropy", "rouge_l", "own_divergence")
            ]
            text += f"\n    minus {other}: {', '.join(apart)}"
    return text


def difference(first: list[float], second: list[float]) -> str:
    found = paired(first, second)
    return f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def line(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {values[name]:.4f}" for name in MEASURES if name in values)


# --------------------------------------------------------------------------------------------------- memory and caches


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """What the losses hold beyond both models' logits and their gradient, clipped and with spans."""
    import threading

    student_logits, teacher_logits = torch.randn(2, 1, args.tokens + 1, args.words).unbind(0)
    student_logits.requires_grad_()
    labels = torch.randint(args.words, (1, args.tokens + 1))
    places = Places.of(labels, torch.zeros_like(labels))
    found = {}
    for clip in ("none", "learned"):
        bounds = torch.tensor([[0.95, 0.0]]).repeat(args.tokens, 1).requires_grad_() if clip == "learned" else None
        terms = Terms(labels=1.0, teacher=1.0, spans=1.0, floor=1.0, clipping=Clipping(teacher_clip=clip))
        student_logits.grad = None
        before, peak, stop = anonymous_bytes() or 0, [0], threading.Event()

        def watch(peak: list[int] = peak, stop: threading.Event = stop) -> None:
            while not stop.wait(0.005):
                peak[0] = max(peak[0], anonymous_bytes() or 0)

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        loss, _ = chunked_loss(student_logits, teacher_logits, places, terms, bounds=bounds)
        loss.backward()
        seconds = time.perf_counter() - start
        stop.set()
        watcher.join()
        gradient = student_logits.numel() * 4
        found[clip] = {"extra_gb": (peak[0] - before - gradient) / 1e9, "logits_gb": gradient / 1e9, "seconds": seconds}
        print(f"{clip}: {found[clip]['extra_gb']:.2f} GB beyond logits and gradient ({gradient / 1e9:.2f} GB each)")
    return {"memory": found}


def again(args: argparse.Namespace) -> dict[str, Any]:
    """Re-generation after a correction: reading the prefix again, as attar does, and keeping its cache.

    With a cache, the columns after each answer's error are masked out and the new tokens come after them.
    """
    source, tokenizer = shortened("tinyshakespeare", args)
    longest, half = (48, 24) if args.quick else (256, 128)
    generator = torch.Generator().manual_seed(0)
    model = fresh_model("gpt2:layers=4,width=128,heads=4", tokenizer, 2 * longest, generator).eval()
    other = fresh_model("gpt2:layers=4,width=128,heads=4", tokenizer, 2 * longest, generator).eval()
    ids = tokenizer(source.train[0]["text"][: 40 * longest])["input_ids"]
    prompts = [ids[start * half : (start + 1) * half] for start in range(2 if args.quick else args.batch)]
    voice = Voice(model, len(tokenizer), ())
    limits = [longest - half] * len(prompts)
    seconds: dict[str, list[float]] = {"answer": [], "correct and go on": [], "the same with a cache": []}
    for _ in range(1 if args.quick else 3):
        start = time.perf_counter()
        answers = generate(voice, prompts, limits, generator)
        seconds["answer"].append(time.perf_counter() - start)
        start = time.perf_counter()
        correct(voice, other, prompts, answers, limits, Correction(corrections=1), generator, context=nullcontext)
        seconds["correct and go on"].append(time.perf_counter() - start)
        seconds["the same with a cache"].append(with_cache(voice, other, prompts, answers, limits, generator))
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    print(", ".join(f"{name} {value:.3f} s" for name, value in middle.items()))
    return {"seconds": middle, "gain": middle["correct and go on"] / middle["the same with a cache"]}


@torch.no_grad()
def with_cache(voice: Voice, teacher: Any, prompts: Any, answers: Any, limits: Any, generator: Any) -> float:
    """Seconds of a correction whose scoring pass fills the cache that the rest is said from."""
    from attar.language.correction import error_places
    from attar.language.losses import compared
    from attar.language.tokens import Batch

    start = time.perf_counter()
    batch = Batch.of(prompts, answers)
    whole = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    places = Places.of(batch.labels)
    found_by = voice.model(input_ids=batch.ids, use_cache=True)
    theirs = teacher(input_ids=batch.ids, use_cache=False).logits
    found = compared(found_by.logits, theirs, places, words=voice.words)
    row = places.rows // batch.ids.shape[1]
    errors = error_places(found.divergence, places.targets, found.choice, row, len(batch))
    columns = places.rows[errors] % batch.ids.shape[1] + 1
    reader = Reader.__new__(Reader)
    reader.model, reader.past, reader.last = voice.model, found_by.past_key_values, None
    reader.told = frozenset({"position_ids", "logits_to_keep"})
    reader.mask = torch.arange(len(whole[0])) < columns.unsqueeze(1)
    reader.go_on(found.choice[errors])
    for _ in range(int((torch.tensor(limits) + batch.prompts - columns - 1).max())):
        p = voice.probabilities(reader.logits)
        reader.go_on(torch.multinomial(p, 1, generator=generator).squeeze(1))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
