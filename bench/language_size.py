"""What the settings for large students save: memory by recomputed activations, time by packed rows, either by bfloat16.

    python bench/language_size.py --quick    # does it run
    python bench/language_size.py            # some minutes

A student of eight layers and a teacher of four take steps of forward KL. Each setting has a process of its own, in
turns. Memory is the peak of anonymous memory above that before the first step, AdamW's moments included. Short texts
are prompts with responses of 15 words and some of 150, as instructions are. The numbers go to
bench/results/language_size.json.
"""

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import harness
import torch

import attar.language as language
from attar.core.memory import anonymous_bytes
from attar.core.runtime import Engine, Runtime
from attar.language.models import fresh_model
from attar.language.pair import paired

SIDES = {
    "as it is": {},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "bfloat16": {"student_precision": "bfloat16"},
    "packed": {"packing": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that records nothing")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each setting")
    args = parser.parse_args()
    sizes = {"width": 32, "steps": 2} if args.quick else {"width": 128, "steps": 4}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for _ in range(1 if args.quick else args.rounds):
            for side, settings in SIDES.items():
                done = harness.in_own_process(__file__, "steps", Path(name), settings=settings, **sizes)
                found.setdefault(side, []).append(done)
                print(side, done, flush=True)
    result = {
        side: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for side, runs in found.items()
    }
    if not args.quick:
        harness.record("language_size.json", {"machine": harness.machine(), "sides": result, "rounds": found})


def steps(folder: str, settings: dict[str, Any], width: int, steps: int) -> dict[str, Any]:
    """Some steps of a student on short texts, and what they take."""
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    words = ["the", "old", "fox", "sees", "a", "green", "spoon", "by", "river", "and", "answers", "who", "asks"]
    rows = []
    for number in range(128):
        length = 150 if number % 8 == 0 else 15
        picks = torch.randint(len(words), (length,), generator=draw).tolist()
        rows.append({"prompt": f"say {number}: ", "completion": " ".join(words[pick] for pick in picks)})
    runtime = Runtime(Engine(device="cpu", compile="off", quiet=True))
    source = language.load(rows, validation=4, test=4)
    tokenizer = paired(source, None, None).tokenizer
    teacher = fresh_model(f"llama:layers=4,width={width}", tokenizer, 512, torch.Generator().manual_seed(1)).eval()
    pair = paired(source, teacher, None, tokenizer)
    method = language.DistillLanguage.of(
        student=f"llama:layers=8,width={width}", batch=16, epochs=99, max_length=512, **settings
    )
    method = method.resolve(pair, runtime)
    state = method.build(pair, runtime)
    before, peak = anonymous_bytes() or 0, _Peak()
    tokens, seconds = 0, []
    with peak:
        method.step(state, runtime)
        for _ in range(steps):
            number = state.done % method.batches
            taken = state.order[number * method.batch :][: method.batch].tolist() if number else None
            begun = time.perf_counter()
            method.step(state, runtime)
            seconds.append(time.perf_counter() - begun)
            taken = taken or state.order[: method.batch].tolist()
            tokens += int(state.tokens.batch(taken).lengths.sum())
    return {
        "seconds": statistics.median(seconds),
        "tokens_per_second": tokens / sum(seconds),
        "peak_mb": (peak.bytes - before) / 1e6,
    }


class _Peak:
    """The most anonymous memory while this is open, looked at every two milliseconds."""

    def __init__(self) -> None:
        self.bytes, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.bytes = max(self.bytes, anonymous_bytes() or 0)

    def __enter__(self) -> "_Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


if __name__ == "__main__" and not harness.run_worker({"steps": steps}):
    main()
