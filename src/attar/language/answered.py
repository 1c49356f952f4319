"""Answers of a server in place of the references: sequence-level distillation from a teacher that is never loaded.

Every answer is written to the run's folder as soon as it is there, with a digest of its request. A run that is killed
asks only for what is missing, and so does a run with other settings, as far as its requests are the same.
Kim and Rush, Sequence-Level Knowledge Distillation, EMNLP 2016, arXiv:1606.07947.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attar.core import store
from attar.core.errors import InputError, unwritable
from attar.core.jsonfiles import parsed
from attar.core.progress import Line
from attar.core.runtime import Runtime
from attar.language.generation import Sampling
from attar.language.pair import LanguagePair
from attar.language.schedules import Store
from attar.language.server import Answer, Request, Server, asked
from attar.language.tokens import Batch, Tokeniser

FILE = "answers.jsonl"
"""File in `run/` with the answers, one a line."""
TOGETHER = 256
"""Rows that are put into the store at once."""


def fill(kept: Store, pair: LanguagePair, by: Tokeniser, sampling: Sampling, runtime: Runtime) -> None:
    """Put a server's answers to all training prompts where the teacher's answers are kept.

    Args:
        kept: Where they are kept, by row.
        pair: Its server, and its training rows.
        by: Makes tokens of them.
        sampling: Temperature, nucleus and largest number of tokens of an answer.
        runtime: The machine, the seed and the folder. The first process asks.

    Raises:
        InputError: The server refuses or fails, or all of its answers are empty.
    """
    server = pair.server
    assert server is not None
    prompts = pair.tokens("train", by).rows["prompt"]
    limits = [min(sampling.new_tokens or by.max_length, by.max_length - len(prompt)) for prompt in prompts]
    how = (sampling.sampling_temperature, sampling.nucleus, runtime.seed)
    requests = [server.body(row, limit, *how) for row, limit in zip(pair.data.train, limits, strict=True)]
    home = None if runtime.folder is None else runtime.folder / "run" / FILE
    answers = runtime.processes.once(lambda: collected(server, requests, home, runtime))
    _check_empty(answers, server, runtime)
    rows = [_with_answer(row, answer.text) for row, answer in zip(pair.data.train, answers, strict=True)]
    tokens = by.read(replace(pair.data, train=_dataset(rows)), "train")
    for start in range(0, len(rows), TOGETHER):
        numbers = list(range(start, min(start + TOGETHER, len(rows))))
        found = tokens.batch(numbers)
        said = zip(found.response_ids, (answers[number] for number in numbers), strict=True)
        kept.put(Batch.of(found.prompt_ids, [_cut(ids, answer, pair.stops) for ids, answer in said]), numbers)


def _check_empty(answers: Sequence[Answer], server: Server, runtime: Runtime) -> None:
    """Tell how many answers are empty, and what a student makes of them.

    Raises:
        InputError: All are.
    """
    empty = [answer for answer in answers if not answer.text.strip()]
    cut = sum(not answer.whole for answer in empty)  # a model that thinks before it answers, say
    why = f", {cut:,} of them cut off before any text (--new-tokens, --max-length)" if cut else ""
    if len(empty) == len(answers):
        raise InputError(
            f"all {len(empty)} answers of {server.model} are empty{why}. Check the model and its endpoint."
        )
    if empty:
        told = f"{len(empty):,} of {len(answers):,} answers of {server.model} are empty{why}"
        runtime.say(f"note: {told}. To these prompts the student learns to say nothing.")


def collected(server: Server, requests: Sequence[Request], home: Path | None, runtime: Runtime) -> list[Answer]:
    """The answers to requests: those that a file holds, and the others from the server, which are added to it.

    Equal requests are one, so that a run that is continued learns from the same answers.
    """
    file = _File(home)
    keys = [hashlib.blake2b(one.path.encode() + one.data, digest_size=16).hexdigest() for one in requests]
    numbers = {key: row for row, key in reversed([*enumerate(keys)])}
    found = {key: file.known[key] for key in numbers if key in file.known}
    missing = {row: requests[row] for key, row in sorted(numbers.items(), key=lambda one: one[1]) if key not in found}
    if missing:
        there = f", {len(found):,} are there" if found else ""
        runtime.say(f"asking {server.model} for {len(missing):,} of {len(numbers):,} answers{there}.")
        with Line("answers", len(numbers), quiet=runtime.engine.quiet) as line, file:

            def keep(row: int, answer: Answer) -> None:
                found[keys[row]] = answer
                file.add(keys[row], answer)
                line.at(len(found))

            asked(server, missing, keep)
    return [found[key] for key in keys]


class _File:
    """The answers on disk, if there is a run's folder; a last line that was cut off by a kill is written anew."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.known: dict[str, Answer] = {}
        """Answers by the digest of their request."""
        lines = path.read_bytes().split(b"\n") if path is not None and path.is_file() else []
        for line in lines:
            try:
                facts = parsed(line)
                if isinstance(facts["text"], str):
                    self.known[str(facts["request"])] = Answer(facts["text"], bool(facts["whole"]))
            except (ValueError, KeyError, TypeError):  # cut off
                continue
        self._torn = bool(lines and lines[-1])
        self._stream: Any = None

    def __enter__(self) -> "_File":
        if self.path is not None:
            store.make_folder(self.path.parent)
            try:
                self._stream = self.path.open("a", encoding="utf-8", newline="\n")
            except OSError as error:
                raise unwritable(self.path, error) from None
            if self._torn:
                self._stream.write("\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, key: str, answer: Answer) -> None:
        """Write one answer."""
        if self._stream is None:
            return
        assert self.path is not None
        try:
            self._stream.write(f"{json.dumps({'request': key, 'text': answer.text, 'whole': answer.whole})}\n")
            self._stream.flush()
        except OSError as error:
            raise unwritable(self.path, error) from None


def _with_answer(row: dict[str, Any], text: str) -> dict[str, Any]:
    """A row with another response."""
    if "messages" in row:
        return {**row, "messages": [*row["messages"][:-1], {**row["messages"][-1], "content": text}]}
    return {**row, "response": text}


def _dataset(rows: list[dict[str, Any]]) -> Any:
    import datasets

    return datasets.Dataset.from_list(rows)


def _cut(ids: list[int], answer: Answer, stops: Sequence[int]) -> list[int]:
    """The tokens of an answer. One that was cut off does not end, so its end is not learned."""
    return ids[:-1] if not answer.whole and len(ids) > 1 and ids[-1] in stops else ids
