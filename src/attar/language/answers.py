"""A teacher's answers on disk: of every token of the training references its distribution, in files of some megabytes.

A row of the data is found by its tokens, not by its number: other tokens, another template or other lengths are not
found, and a part of the data, or another order, is. Rows are read one by one as they are needed, each under a digest of
its own, so that neither opening nor training reads a whole store.
"""

import bisect
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attar.core import artefact as core
from attar.core import hub, store
from attar.core.card import escaped, fenced, machine_line, model_header, settings_table
from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.provenance import Call
from attar.language.answer_formats import Parts, bytes_per_token, decoded, joined, kinds_of
from attar.language.artefact import ANSWERS, KIND, MODEL, DistilledLanguageModel
from attar.language.models import silent, tokenizer_of
from attar.language.recalled import Recalled, Rest
from attar.language.tokens import Batch, Tokens
from attar.language.vocabulary import check_same

SCHEMA = 1
INDEX = "index.safetensors"
TOKENIZER = "tokenizer"
AT_ONCE = 1000
"""Rows whose tokens are looked at together."""
OPEN = 64
"""Files that are open at once."""


def shard_name(number: int) -> str:
    """The name of a file of answers."""
    return f"answers-{number:05d}.safetensors"


def key_of(tokens: Sequence[int], start: int) -> int:
    """What a row is found by: a digest of its tokens, and of the first one that is learned."""
    digest = hashlib.blake2b(np.asarray(tokens, "<i4").tobytes(), digest_size=8, salt=start.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little", signed=True)


def keys_of(batch: Batch) -> list[int]:
    """The keys of a batch's rows."""
    several = zip(batch.prompt_ids, batch.response_ids, strict=True)
    return [key_of(prompt + response, max(1, len(prompt))) for prompt, response in several]


def batches_of(tokens: Tokens) -> Iterator[Batch]:
    """All rows, some at a time."""
    for start in range(0, len(tokens), AT_ONCE):
        yield tokens.batch(range(start, min(start + AT_ONCE, len(tokens))))


def digest_of_row(parts: Parts) -> int:
    """A digest of what is stored of one row."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(parts):
        digest.update(parts[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return int.from_bytes(digest.digest(), "little", signed=True)


@dataclass(frozen=True)
class Index:
    """Where the rows lie, in the order in which they are stored."""

    keys: Int[Tensor, " row"]
    counts: Int[Tensor, " row"]
    """Number of tokens whose distributions are stored."""
    digests: Int[Tensor, " row"]

    @cached_property
    def ends(self) -> np.ndarray:
        """Number of stored tokens up to each row and with it."""
        return self.counts.cumsum(0).numpy()

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        order = self.keys.numpy().argsort(kind="stable")
        return order, self.keys.numpy()[order]

    def find(self, keys: Iterable[int]) -> list[int]:
        """The places of rows by their keys; -1 for one that is not there."""
        order, known = self._sorted
        wanted = np.fromiter(keys, np.int64)
        if not len(known):
            return [-1] * len(wanted)
        found = np.searchsorted(known, wanted).clip(0, len(known) - 1)
        return [int(place) for place in np.where(known[found] == wanted, order[found], -1)]

    def to_tensors(self) -> dict[str, Tensor]:
        """As tensors by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclass(frozen=True)
class Shard:
    """A file of answers."""

    rows: int
    bytes: int
    digest: str


@dataclass(frozen=True)
class Origin(core.Origin):
    """The origin of stored answers."""

    teacher_parameters: int
    teacher: str
    """The teacher's name, where it has one."""
    max_length: int
    words: int
    """Size of the vocabulary."""
    stops: list[int]
    """Tokens that end an answer of the teacher."""
    content: str
    """The data's own fingerprint."""


@dataclass(frozen=True)
class StoredAnswers(core.Shareable):
    """A teacher's distributions of every token of the training references, which train students without the teacher."""

    tokenizer: Any
    index: Index = field(repr=False)
    shards: tuple[Shard, ...] = field(repr=False)
    origin: Origin
    kept: float
    """Mean probability of the tokens that are named."""
    cross_entropy: float
    """The teacher's, on the references that it answered, in nats per token."""
    scores: dict[str, Any] = field(default_factory=dict)
    """The teacher's measures on the test part."""
    folder: Path | None = field(default=None, compare=False)

    kind = KIND
    repo_type = "dataset"
    files = (core.ARTEFACT, core.CARD, INDEX, f"{TOKENIZER}/*", "answers-*.safetensors")

    @property
    def title(self) -> str:
        """A title of a few words."""
        return f"A teacher's answers to {self.origin.source}"

    @property
    def top(self) -> int:
        """Number of tokens that are named at each place."""
        return min(int(self.origin.settings["top"]), self.words)

    @property
    def words(self) -> int:
        """Size of the vocabulary."""
        return self.origin.words

    @property
    def whole(self) -> bool:
        """Whether every token is named."""
        return self.top == self.words

    @property
    def tokens(self) -> int:
        """Number of tokens whose distributions are stored."""
        return int(self.index.counts.sum())

    @property
    def bytes_per_token(self) -> int:
        """Size of one distribution in bytes."""
        return bytes_per_token(self.top, self.words, self.origin.settings["logits"])

    @property
    def bytes(self) -> int:
        """Size of all distributions and of the index, in bytes."""
        return self.tokens * self.bytes_per_token + sum(part.nbytes for part in self.index.to_tensors().values())

    @cached_property
    def fingerprint(self) -> str:
        """A digest of what is stored."""
        return store.digest_of(self.index.to_tensors(), [self.origin.fingerprint, [one.digest for one in self.shards]])

    # -------------------------------------------------------------------------------------------------------- training

    def shared(self, words: int) -> int:
        """The size of the vocabulary that a student shares with the teacher.

        Raises:
            InputError: The student has fewer tokens.
        """
        if words < self.words:
            raise InputError(
                f"the stored answers are over {self.words} tokens, but the student has {words}. Give a student of the "
                "teacher's vocabulary."
            )
        return self.words

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Check that a tokenizer has the same tokens.

        Raises:
            InputError: It does not.
        """
        try:
            check_same(self.tokenizer, tokenizer)
        except InputError as error:
            raise InputError(f"the stored answers are of another tokenizer: {error}") from None

    def check_lengths(self, method: Any) -> None:
        """Check that a method cuts text to the same lengths, where it says so.

        Raises:
            InputError: It does not.
        """
        for name in ("max_length", "max_prompt", "context"):
            here, there = getattr(method, name), self.origin.settings[name]
            if here is not None and here != there:
                flag = name.replace("_", "-")
                raise InputError(
                    f"--{flag} is {here}, but the answers were stored with {there}. Give --{flag} {there}, or store "
                    "answers again (attar label)."
                )

    def check_rows(self, tokens: Tokens, data: str) -> None:
        """Check that every row of the data is stored.

        Raises:
            InputError: One is not.
        """
        missing, first, seen = 0, 0, 0
        for batch in batches_of(tokens):
            for place in self.index.find(keys_of(batch)):
                seen += 1
                if place < 0:
                    missing, first = missing + 1, first or seen
        if missing:
            raise InputError(
                f"{missing:,} of {seen:,} training rows of {data}, the first of them row {first}, are not in the "
                f"stored answers: they are of {self.origin.source} with other rows, another tokenizer or another chat "
                "template. Store answers to these data (attar label)."
            )

    def recall(self, batch: Batch, rest: Rest = "lump") -> Recalled | None:
        """The teacher's distributions of a batch's counted tokens; None if a row of it is not stored.

        Raises:
            InputError: A file is missing, truncated or altered.
        """
        places = self.index.find(keys_of(batch))
        if min(places, default=-1) < 0:
            return None
        return Recalled(*decoded(joined([self._row(place) for place in places])), rest)

    def _row(self, place: int) -> Parts:
        assert self.folder is not None
        number = bisect.bisect_right(self._bounds, place) - 1
        first, ends = self._bounds[number], self.index.ends
        before = int(ends[first - 1]) if first else 0
        start, stop = int(ends[place]) - int(self.index.counts[place]) - before, int(ends[place]) - before
        path = self.folder / shard_name(number)
        parts = _slices(path, self._names, start, stop)
        if digest_of_row(parts) != int(self.index.digests[place]):
            raise InputError(f"{path} was altered after it was written: a row does not match its digest.")
        return parts

    @cached_property
    def _bounds(self) -> list[int]:
        """The first row of each file."""
        return [0, *np.cumsum([shard.rows for shard in self.shards])[:-1].tolist()]

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(kinds_of(self.top, self.words, self.origin.settings["logits"]))

    # --------------------------------------------------------------------------------------------------------- on disk

    @classmethod
    def files_in(cls, folder: Path) -> list[str]:
        """Names of its files."""
        return list(cls.files)

    def save(self, folder: str | Path) -> Self:
        """Write the index, the tokenizer and the facts; the files of answers are copied if they lie elsewhere."""
        folder = Path(folder)
        store.make_folder(folder)
        if self.folder is not None and self.folder.resolve() != folder.resolve():
            store.copy_files(self.folder, folder, [shard_name(number) for number in range(len(self.shards))])
        store.write_tensors(folder / INDEX, self.index.to_tensors(), {})
        with silent():
            self.tokenizer.save_pretrained(folder / TOKENIZER)
        names = sorted(str(path.relative_to(folder)) for path in (folder / TOKENIZER).iterdir())
        facts = {
            core.FORM: ANSWERS,
            "digests": core.digests_of(folder, [INDEX, *names]),
            "shards": [dataclasses.asdict(shard) for shard in self.shards],
            "bytes_per_token": self.bytes_per_token,
            "tokens": self.tokens,
            "kept": self.kept,
            "cross_entropy": self.cross_entropy,
            "origin": dataclasses.asdict(self.origin),
            "scores": self.scores,
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote. The answers are read when they are needed.

        Raises:
            InputError: There are no stored answers, or a file is missing, truncated or altered.
        """
        folder = Path(folder).expanduser()
        facts = core.read_facts(folder, KIND, SCHEMA, "stored answers")
        if facts.get(core.FORM) != ANSWERS:
            raise InputError(f"{folder} holds a model, not stored answers. Store its answers: attar label.")
        core.check_files(folder, facts["digests"], facts["digests"])
        shards = tuple(Shard(**one) for one in facts["shards"])
        for number, shard in enumerate(shards):
            _check_size(folder / shard_name(number), shard.bytes)
        tensors, _ = store.read_tensors(folder / INDEX)
        index, origin = Index(**tensors), Origin(**facts["origin"])
        if sum(shard.rows for shard in shards) != len(index.keys):
            raise InputError(f"{folder / core.ARTEFACT} is damaged: its files do not hold {len(index.keys):,} rows.")
        tokenizer = tokenizer_of(folder / TOKENIZER)
        told = (facts["kept"], facts["cross_entropy"], facts["scores"])
        return cls(tokenizer, index, shards, origin, *told, folder)

    def card(self, scores: list[Cell]) -> str:
        """The text of README.md."""
        call = self.origin.call
        command = Call(**call).command(self.origin.method, self.origin.seed) if call else ""
        return f"""{model_header("knowledge-distillation")}
# {escaped(self.title)}

{self}

Every training row's response is stored token by token: {self._told_of_tokens()}. A student learns from them without the
teacher:

```
attar distill language --stored-answers FOLDER --data DATA --student gpt2:layers=1,width=64
```

Rows are found by their tokens. A student needs the same tokenizer (in `{TOKENIZER}/`), the same chat template and the
same lengths; others are refused.

## How it was made

{fenced(command) if command else ""}

{settings_table(self.origin.settings, seed=self.origin.seed)}

Made with: {machine_line(self.origin.machine)}. Data fingerprint: `{escaped(self.origin.content)}`.
"""

    def _told_of_tokens(self) -> str:
        if self.whole:
            return f"the probability of all {self.words:,} tokens"
        return (
            f"the {self.top} most probable of {self.words:,} tokens, and the probability of all others together. The "
            f"named ones have {100 * self.kept:.2f} % of it on average"
        )

    def __str__(self) -> str:
        teacher = f" ({escaped(self.origin.teacher)})" if self.origin.teacher else ""
        return (
            f"answers of a teacher of {self.origin.teacher_parameters:,} parameters{teacher} to {self.tokens:,} tokens "
            f"in {len(self.index.keys):,} rows: {self.bytes_per_token:,} bytes per token, {self.bytes:,} in all; "
            f"{'all' if self.whole else self.top} of {self.words:,} tokens with {100 * self.kept:.2f} % of the "
            "probability"
        )


class StoredLanguage(core.Stored, DistilledLanguageModel):
    """What lies in a folder of this kind."""

    forms = MappingProxyType(
        {
            MODEL: "attar.language.artefact:DistilledLanguageModel",
            ANSWERS: "attar.language.answers:StoredAnswers",
        }
    )
    extra = "transformers"

    @classmethod
    def files_in(cls, folder: Path) -> list[str]:
        """The files of the artefact in a folder."""
        found: list[str] = cls.form_in(folder).files_in(folder)
        return found

    @classmethod
    def from_hub(cls, name: str, *, revision: str | None = None) -> Any:
        """Read one from the Hugging Face hub: a model, or a data set of answers."""
        return cls.form_in(hub.find(name, core.ARTEFACT)).from_hub(name, revision=revision)


def opened_answers(given: Any) -> StoredAnswers | None:
    """Stored answers by themselves, by their folder, or by a name on the hub; None for none.

    Raises:
        InputError: There are none.
    """
    if given is None or isinstance(given, StoredAnswers):
        return given
    if not isinstance(given, (str, Path)) or str(given) == "":
        what = "an empty name" if given == "" else f"of type {type(given).__name__}"
        raise InputError(f"the stored answers are {what}. Give their folder (attar label makes one).")
    folder = Path(given).expanduser()
    if not folder.exists() and hub.looks_like_one(str(given)):
        return StoredAnswers.from_hub(str(given))
    return StoredAnswers.load(folder)


def _check_size(path: Path, size: int) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing.")
    found = path.stat().st_size
    if found != size:
        raise InputError(f"{path} is truncated or altered: it has {found:,} bytes, not {size:,}.")


def _slices(path: Path, names: Sequence[str], start: int, stop: int) -> Parts:
    """Some positions of a file."""
    from safetensors import SafetensorError

    try:
        status = path.stat()
        file = _opened(path, status.st_mtime_ns, status.st_size)
        return {name: file.get_slice(name)[start:stop] for name in names}
    except (SafetensorError, OSError, ValueError, IndexError) as error:
        raise InputError(f"{path} is missing, damaged or truncated ({error}).") from None


@lru_cache(maxsize=OPEN)
def _opened(path: Path, changed: int, size: int) -> Any:
    """A file that is mapped into memory, as it was at some moment."""
    from safetensors import safe_open

    return safe_open(path, framework="pt")
