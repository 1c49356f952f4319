"""Store a teacher's answers: its distribution of every token of the training references, so that it runs only once.

A step asks the teacher about a batch of rows, the longest rows first, and adds what it says to the file that is being
filled. A full file is written and forgotten, so that neither the answers nor the logits of more than a batch are ever
held together. A checkpoint has the file that is being filled.
"""

import bisect
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Self

import torch
from jaxtyping import Int
from torch import Tensor, nn

from attar.core import store
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Hidden, Range, Settings
from attar.core.state import rebuilt
from attar.language.answer_formats import Format, Parts, bytes_per_token, encoded, joined, kinds_of
from attar.language.answers import (
    Index,
    Origin,
    Shard,
    StoredAnswers,
    batches_of,
    digest_of_row,
    keys_of,
    shard_name,
)
from attar.language.generation import answering
from attar.language.losses import Places
from attar.language.models import check_runs
from attar.language.offloaded import placed
from attar.language.pair import LanguagePair
from attar.language.tokens import Batch, Tokeniser, Tokens

MEGABYTE = 2**20


@dataclass(frozen=True)
class Plan:
    """Which rows lie where, in the order in which they are asked and stored."""

    rows: Int[Tensor, " row"]
    """Their numbers in the data; the longest first, so that a batch has rows of like length."""
    keys: Int[Tensor, " row"]
    counts: Int[Tensor, " row"]
    firsts: tuple[int, ...]
    """The first row of each file."""
    ends: tuple[int, ...]
    """Number of tokens up to each row and with it."""

    @classmethod
    def of(cls, tokens: Tokens, room: int) -> "Plan":
        """A plan for some rows, with at most so many tokens in a file; a row lies in one file."""
        keys: list[int] = []
        lengths, counts = [], []
        for batch in batches_of(tokens):
            keys += keys_of(batch)
            lengths.append(batch.lengths)
            counts.append(batch.lengths - batch.prompts.clamp(min=1))
        length, count = torch.cat(lengths), torch.cat(counts)
        rows = length.argsort(descending=True, stable=True)
        count = count[rows]
        firsts, filled = [0], 0
        for row, more in enumerate(count.tolist()):
            if filled and filled + more > room:
                firsts.append(row)
                filled = 0
            filled += more
        return cls(rows, torch.tensor(keys)[rows], count, tuple(firsts), tuple(count.cumsum(0).tolist()))

    def __len__(self) -> int:
        return len(self.rows)

    def shard_of(self, row: int) -> int:
        """The number of the file in which a row lies."""
        return bisect.bisect_right(self.firsts, row) - 1

    def end_of(self, shard: int) -> int:
        """The row after the last one of a file."""
        return self.firsts[shard + 1] if shard + 1 < len(self.firsts) else len(self)

    def before(self, row: int) -> int:
        """Number of tokens in front of a row."""
        return self.ends[row - 1] if row else 0

    @property
    def longest(self) -> int:
        """Number of tokens of the fullest file."""
        files = range(len(self.firsts))
        return max(self.before(self.end_of(shard)) - self.before(self.firsts[shard]) for shard in files)


@dataclass
class Storing:
    """The state of storing: the file that is being filled, and the digests of what is done."""

    filling: Parts
    """The parts of the file that is being filled, with room for the fullest one."""
    digests: Tensor
    """The digest of each row."""
    files: dict[str, str]
    """The digest of each file."""
    sums: Tensor
    """Of the kept mass and of log p of the references' tokens."""
    done: int = 0
    teacher: nn.Module = rebuilt(default=None)
    pair: LanguagePair = rebuilt(default=None)
    tokens: Tokens = rebuilt(default=None)
    plan: Plan = rebuilt(default=None)
    folder: Path = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class StoreAnswers(Settings):
    """Store a teacher's distributions of the next token, for every token of the training references."""

    top: Annotated[int, Range(1)] = 64
    """Number K of the teacher's most probable tokens that are kept for each token, beside the probability of all
    others. The size of the vocabulary, or more, keeps all."""
    logits: Format = "float16"
    """Format of stored log-probabilities. int8 is a third smaller; each is off by at most the distance of the least and
    the largest of a place, divided by 255. One below -100 counts as -100."""
    batch: Annotated[int, Range(1)] = 16
    """Batch size: rows that the teacher reads together."""
    max_length: Annotated[int, Range(2)] | None = None
    """Largest number of tokens of a prompt and its response together. Default: 512, or the most that the teacher can
    read."""
    max_prompt: Annotated[int, Range(1)] | None = None
    """Largest number of tokens of a prompt; the beginning of a longer prompt is cut off. Default: half of
    --max-length."""
    context: Annotated[int, Range(0)] = 16
    """Number of tokens of plain text before each block, which serve as its prompt."""
    shard_megabytes: Annotated[int, Range(1)] = 128
    """Largest size of a file of answers, in megabytes."""
    rows: Annotated[int, Hidden()] = 0
    """Number of training rows; filled in from the data."""

    name = "answers"
    kind = "language"
    verb = "label"
    shares = True

    def resolve(self, pair: LanguagePair, runtime: Runtime) -> Self:
        """Fill in the settings that have no value yet.

        Raises:
            InputError: There is no teacher, or lengths are too large for it.
        """
        if pair.teacher is None:
            raise InputError("answers are those of a teacher. Give one (--teacher).")
        longest, prompt = pair.lengths_for(self, of="the teacher reads")
        given = replace(self, max_length=longest, max_prompt=prompt, top=min(self.top, pair.words))
        by = given.tokeniser(pair)
        pair.tokens("test", by)  # a row that cannot be used is refused now
        return replace(given, rows=len(pair.tokens("train", by, on_disk=True)))

    def tokeniser(self, pair: LanguagePair) -> Tokeniser:
        """The conversion of the pair's text to tokens."""
        assert self.max_length is not None and self.max_prompt is not None, "resolve the settings first"
        return Tokeniser(pair.tokenizer, self.max_length, self.max_prompt, self.context, words=pair.words)

    @property
    def total_steps(self) -> int:
        """Number of steps of the run: one for each batch."""
        return math.ceil(self.rows / self.batch)

    def work(self, pair: LanguagePair) -> float:
        """Zero, because compiling does not pay."""
        return 0.0

    def build(self, pair: LanguagePair, runtime: Runtime) -> Storing:
        """The state before the first step: the teacher, the plan, and an empty file."""
        assert pair.teacher is not None and runtime.folder is not None
        teacher = placed(pair.teacher, runtime.device)
        check_runs(teacher, "teacher", pair.words, answers=pair.answers > 0)
        tokens = pair.tokens("train", self.tokeniser(pair))
        room = self.shard_megabytes * MEGABYTE // bytes_per_token(self.top, pair.words, self.logits)
        plan = Plan.of(tokens, room)
        parts = kinds_of(self.top, pair.words, self.logits).items()
        return Storing(
            filling={name: torch.zeros(plan.longest, count, dtype=dtype) for name, (dtype, count) in parts},
            digests=torch.zeros(len(plan), dtype=torch.long),
            files={str(number): "" for number in range(len(plan.firsts))},
            sums=torch.zeros(2, dtype=torch.float64),
            teacher=teacher,
            pair=pair,
            tokens=tokens,
            plan=plan,
            folder=runtime.folder,
        )

    def step(self, state: Storing, runtime: Runtime) -> Metrics:
        """Ask the teacher about one batch, and write a file that is full."""
        if state.done == 0 and runtime.processes.first:
            _clear(state.folder)
        start = state.done * self.batch
        batch = state.tokens.batch(state.plan.rows[start : start + self.batch].tolist())
        several = batch.cut(math.ceil(len(batch) / runtime.processes.count))
        mine = [self._asked(several[number], state, runtime) for number in runtime.processes.share(len(several))]
        found = runtime.processes.collect(mine)
        told = torch.cat([said for _, said in found]).double()
        _put(joined([parts for parts, _ in found]), start, start + len(batch), state, runtime)
        state.sums += told.sum(dim=0)
        state.done += 1
        mass, likely = told.mean(dim=0).tolist()
        return {"kept mass": mass, "cross-entropy": -likely}

    def _asked(self, batch: Batch, state: Storing, runtime: Runtime) -> tuple[Parts, Tensor]:
        """What the teacher says of some rows."""
        here = batch.to(runtime.device)
        with torch.no_grad(), answering(state.teacher), runtime.autocast():
            logits = state.teacher(**here.inputs, use_cache=False).logits
        return encoded(logits, Places.of(here.labels), words=state.pair.words, top=self.top, kind=self.logits)

    def result(self, state: Storing, runtime: Runtime) -> StoredAnswers:
        """The answers so far."""
        plan, pair = state.plan, state.pair
        done = min(state.done * self.batch, len(plan))
        mass, likely = (state.sums / max(plan.before(done), 1)).tolist()
        index = Index(plan.keys, plan.counts, state.digests)
        shards = [self._shard(number, digest, state) for number, digest in enumerate(state.files.values()) if digest]
        origin = Origin.made(
            pair,
            self,
            runtime,
            teacher_parameters=pair.teacher_parameters,
            teacher=Path(str(getattr(getattr(state.teacher, "config", None), "_name_or_path", ""))).name,
            max_length=self.max_length,
            words=pair.words,
            stops=list(pair.stops),
            content=pair.data.fingerprint,
        )
        return StoredAnswers(pair.tokenizer, index, tuple(shards), origin, mass, -likely, folder=state.folder)

    def _shard(self, number: int, digest: str, state: Storing) -> Shard:
        rows, path = state.plan.end_of(number) - state.plan.firsts[number], state.folder / shard_name(number)
        if not path.is_file():  # somebody has removed it since
            raise InputError(f"{path} is missing. Delete the folder, and store the answers again.")
        return Shard(rows, path.stat().st_size, digest)


def _put(parts: Parts, start: int, stop: int, state: Storing, runtime: Runtime) -> None:
    """Add what was said of rows to the file that is being filled; write each file that becomes full."""
    plan, first = state.plan, state.plan.before(start)
    for row in range(start, stop):
        shard = plan.shard_of(row)
        own = slice(plan.before(row) - first, plan.before(row + 1) - first)
        offset = plan.before(plan.firsts[shard])
        place = slice(plan.before(row) - offset, plan.before(row + 1) - offset)
        said = {name: part[own] for name, part in parts.items()}
        state.digests[row] = digest_of_row(said)
        for name, part in said.items():
            state.filling[name][place] = part
        if row + 1 == plan.end_of(shard):
            whole = {name: part[: place.stop] for name, part in state.filling.items()}
            path = state.folder / shard_name(shard)
            write = partial(store.write_tensors, path, whole, {"file": shard})
            state.files[str(shard)] = runtime.processes.once(write)


def _clear(folder: Path) -> None:
    """Remove the files of an earlier run, whose settings are not known."""
    for shard in folder.glob("answers-*.safetensors"):
        store.remove(shard)
