"""Prompts as what a text-conditioned sampler is distilled on: from a file, with or without pictures that they describe.

Their embeddings, and the latents of pictures, are computed once and lie in the cache, in files of their own from which
single rows are read.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core import cache, store
from attar.core.errors import InputError, near_path
from attar.core.notebook import Told
from attar.core.progress import Line
from attar.samplers.denoisers import Condition
from attar.samplers.sources import Part, Rows, Source
from attar.samplers.teaching import Work

TEXTS = (".txt",)
TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
COLUMNS = ("text", "prompt", "caption")
"""Columns that hold prompts, where none is named."""
FILES = ("file_name", "image", "path")
"""Columns that name pictures."""
HELD_OUT = 10
"""One in so many of the pictures is for testing."""
SHARD = 1024
"""Rows of a file of the cache."""
PORTION = 16
"""Rows that are computed at once."""


def looks_like_prompts(data: Any) -> bool:
    """Whether data are the name of a file of prompts, by its ending, and no table of pictures."""
    return isinstance(data, (str, Path)) and Path(data).suffix.lower() in (*TEXTS, *TABLES[:3])


@dataclass(frozen=True)
class Prompts(Told):
    """Prompts, and pictures that they describe, if there are any."""

    name: str
    texts: tuple[str, ...]
    pictures: tuple[Path, ...] = ()
    """A picture for each prompt, or none at all."""
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.texts:
            raise InputError(f"{self.name} has no prompt. Give one on each line.")
        if self.pictures and len(self.pictures) != len(self.texts):
            raise InputError(f"{self.name} has {len(self.texts)} prompts and {len(self.pictures)} pictures.")

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every prompt and every picture's file."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps(self.texts).encode())
        for path in self.pictures:
            digest.update(store.file_digest(path).encode())
        return digest.hexdigest()

    def __str__(self) -> str:
        pictures = ", each with a picture" if self.pictures else ""
        return "\n".join([f"{self.name}: {len(self):,} prompts{pictures}", *(f"note: {note}" for note in self.notes)])


def read_prompts(file: str | Path, column: str | None = None, folder: str | Path | None = None) -> Prompts:
    """Prompts from a file: one on each line, or a column of JSON lines, CSV or parquet.

    Args:
        file: The file. Blank lines are left out.
        column: Column of the prompts. Default: text, prompt or caption.
        folder: Where the pictures lie that a column file_name, image or path names. Default: beside the file.

    Raises:
        InputError: There is no such file or column, a prompt is empty or no text, or a picture is missing.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        near = near_path(str(file))
        raise InputError(f"{file} is no file of prompts{f'; did you mean {near!r}' if near else ''}.")
    if path.suffix.lower() not in TABLES:
        from attar.images.data.arrow import text_of

        lines = [line.strip() for line in text_of(path).splitlines()]
        return Prompts(path.stem, tuple(line for line in lines if line))
    from attar.images.data.arrow import of_files

    table = of_files([path])
    names = [name for name in ([column] if column else COLUMNS) if name in table.there]
    if not names:
        raise InputError(f"{path} has no column {column or ' or '.join(COLUMNS)}. It has {', '.join(table.there)}.")
    texts = table.columns[names[0]].to_pylist()
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"row {number} of {path} has no prompt in {names[0]!r}. Fill it in, or leave the row out.")
    place = Path(folder).expanduser() if folder else path.parent
    return Prompts(path.stem, tuple(texts), _pictures(table, path, place))


def _pictures(table: Any, path: Path, folder: Path) -> tuple[Path, ...]:
    """The pictures that a table names, if it names any."""
    name = next((name for name in FILES if name in table.there), None)
    if name is None:
        return ()
    found = []
    for number, value in enumerate(table.columns[name].to_pylist(), 1):
        place = folder / value if isinstance(value, str) else None
        if place is None or not place.is_file():
            raise InputError(f"row {number} of {path} names the picture {value!r}, which is not in {folder}.")
        found.append(place)
    return tuple(found)


# ---------------------------------------------------------------------------------------------------- rows in the cache


@dataclass(frozen=True)
class Shards:
    """Rows of a tensor in files of the cache, read one at a time."""

    files: tuple[store.Rows, ...]
    shape: tuple[int, ...]
    """The shape of a row."""
    rows: Rows
    """Numbers of the rows that there are, among all of them."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> Tensor:
        wanted = self.rows[rows].tolist()
        return torch.stack([self.files[row // SHARD][row % SHARD] for row in wanted])

    def select(self, rows: Rows) -> Self:
        """Only these rows."""
        return replace(self, rows=self.rows[rows])

    def content(self) -> Iterator[bytes]:
        """Yield the bytes that a fingerprint is computed from."""
        for row in self.rows.tolist():
            yield self.files[row // SHARD].plain["digests"][row % SHARD].encode()


def computed(
    what: str, key: list[Any], count: int, compute: Callable[[slice], Float[Tensor, "row ..."]], runtime: Any
) -> Shards:
    """Rows that are expensive: from the cache, or computed now, a file at a time, and kept there.

    Args:
        what: What they are, for the progress line and for messages.
        key: Plain values that tell them from others.
        count: How many there are.
        compute: Gives those of a slice.
        runtime: The machine.

    Raises:
        InputError: A value is not finite.
    """
    folder = store.cache_folder() / "rows" / store.digest_of({}, [what, *key, count])
    store.make_folder(folder)
    cache.use(folder)
    files = []
    with store.locked(folder, wait=True), Line(what, count, quiet=runtime.engine.quiet) as line:
        for number, start in enumerate(range(0, count, SHARD)):
            path = folder / f"{number:05d}.safetensors"
            if not path.is_file():
                found = []
                for begin in range(start, min(start + SHARD, count), PORTION):
                    found.append(compute(slice(begin, min(begin + PORTION, start + SHARD, count))).cpu())
                    line.at(begin)
                    if not found[-1].isfinite().all():
                        last = begin + len(found[-1])
                        raise InputError(f"{what} are not finite in rows {begin + 1} to {last}. Leave such rows out.")
                store.write_rows(path, torch.cat(found), {})
            files.append(store.Rows(path))
    return Shards(tuple(files), tuple(files[0].shape[1:]), torch.arange(count))


@dataclass(frozen=True)
class Unseen:
    """The place of samples that there are not: prompts came without pictures."""

    count: int
    shape: tuple[int, ...]
    name: str

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Rows) -> Tensor:
        raise InputError(
            f"{self.name} has prompts without pictures, but this needs real samples. Name pictures in a column "
            "file_name, or set gan_weight to 0."
        )

    def select(self, rows: Rows) -> Self:
        """Fewer of them."""
        return replace(self, count=len(rows))

    def content(self) -> Iterator[bytes]:
        """Yield nothing."""
        yield b""


# ------------------------------------------------------------------------------------------------------------- the work


@dataclass(frozen=True)
class TextWork(Work):
    """Prompts as conditions, latents of their pictures if there are any, and a teacher that is told by text."""

    prompts: Prompts | None = None
    embeddings: Shards | None = None
    """Of each prompt, in one row of numbers, as the teacher's network takes it."""
    nothing: Float[Tensor, "1 value"] | None = None
    """That of no prompt."""

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the prompts, the pictures and the teacher's parameters."""
        assert self.teacher is not None and self.prompts is not None
        return store.digest_of(self.teacher.learned, [self.prompts.fingerprint, self.teacher.levels().tolist()])

    def conditions(self, count: int, generator: torch.Generator, device: torch.device) -> Condition:
        """Embeddings of so many prompts, drawn with equal chances."""
        assert self.embeddings is not None
        rows = torch.randint(len(self.embeddings), (count,), generator=generator)
        return self.embeddings[rows].float().to(device)

    def labels_of(self, rows: Rows) -> Condition:
        """The embeddings of training rows."""
        assert self.embeddings is not None
        return self.embeddings[rows].float()

    @property
    def unconditional(self) -> bool:
        """Whether samples have no condition: they have a prompt."""
        return False

    @property
    def null(self) -> Condition:
        """The embedding of no prompt, for guidance."""
        return self.nothing

    def __str__(self) -> str:
        return str(self.prompts)


def text_work(prompts: Prompts, teacher: Any, runtime: Any) -> TextWork:
    """Prompts and pictures as a text-conditioned teacher takes them.

    Args:
        prompts: The prompts.
        teacher: A `PipelineSampler`.
        runtime: The machine; embeddings are computed on its device.

    Raises:
        InputError: The teacher takes no text.
    """
    parts = getattr(teacher, "parts", None)
    if parts is None:
        raise InputError(
            f"{prompts.name} holds prompts, but the teacher has no text encoder. Give --teacher the folder of a "
            "text-to-image pipeline of diffusers (text_encoder/, tokenizer/, unet/, vae/, scheduler/)."
        )
    embeddings = computed(
        "embeddings of prompts",
        [parts.text_digest, list(prompts.texts)],
        len(prompts),
        lambda rows: parts.embed(prompts.texts[rows], runtime.device),
        runtime,
    )
    if not prompts.pictures:
        absent = Unseen(len(prompts), teacher.shape, prompts.name)
        train, test = absent, Unseen(1, teacher.shape, prompts.name)
    else:
        latents = computed(
            "latents of pictures",
            [parts.image_digest, prompts.fingerprint, list(teacher.shape)],
            len(prompts),
            lambda rows: parts.encode(prompts.pictures[rows], runtime.device),
            runtime,
        )
        if latents.shape != teacher.shape:
            raise InputError(f"latents are {list(latents.shape)}, but the teacher makes {list(teacher.shape)}.")
        kept = torch.arange(len(prompts)) % HELD_OUT != HELD_OUT - 1
        every = torch.arange(len(prompts))
        train, test = latents.select(every[kept]), latents.select(every[~kept] if not kept.all() else every[:1])  # type: ignore[assignment]
        embeddings = embeddings.select(every[kept])
    source = Source(
        prompts.name,
        Part(train, pictures=False),
        Part(test, pictures=False),
        notes=prompts.notes,
    )
    null = parts.null(runtime.device).float().cpu()
    return TextWork(source, teacher, prompts=prompts, embeddings=embeddings, nothing=null)
