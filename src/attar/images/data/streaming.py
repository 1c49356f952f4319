"""Encoded pictures where they lie: read when they are drawn and hashed once, so that a set may be larger than memory.

A folder is read file by file, and a Hugging Face data set is mapped into memory as it is. Parquet cannot be read one
row at a time, so the image column of parquet files above the memory budget is copied once, a few rows at a time, to an
Arrow file in the cache folder, which is then mapped. (`datasets` converts whole row groups, of which many files have
one: it held three times a file of 0.6 GB, these few lines 0.1 GB.) Both the copies and the remembered digests may be
deleted at any time.
"""

import bisect
import hashlib
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from attar.core import store
from attar.core.errors import InputError

Picture = bytes | Path
"""An encoded picture, or the file that holds it."""

AT_ONCE = 64
"""Pictures that one thread reads and works on before it takes more."""

R = TypeVar("R")


class Pictures(ABC):
    """Encoded pictures by row number."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def read(self, rows: list[int]) -> list[Picture]:
        """The pictures of these rows.

        Raises:
            InputError: A row that holds none.
        """

    @abstractmethod
    def where(self, row: int) -> str:
        """What a person would call a row."""

    @property
    @abstractmethod
    def stamp(self) -> str | None:
        """What tells these pictures from others without a look at them: places, sizes, times of change; or nothing."""

    @cached_property
    def digests(self) -> UInt8[Tensor, "picture 16"]:
        """A digest of the bytes of every picture, computed once and remembered in the cache folder."""
        memory = store.cache_folder() / "digests" / f"{self.stamp}.safetensors" if self.stamp else None
        if memory and memory.exists():
            with suppress(InputError):  # a damaged memory is no reason to stop
                return store.read_tensors(memory)[0]["digests"]
        parts = in_threads(self._hash, list(range(len(self))))
        digests = torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8).view(-1, 16)
        if memory:
            store.make_folder(memory.parent)
            store.write_tensors(memory, {"digests": digests}, {})
        return digests

    def _hash(self, rows: list[int]) -> bytes:
        contents = (data if isinstance(data, bytes) else _bytes_of(data) for data in self.read(rows))
        return b"".join(hashlib.blake2b(content, digest_size=16).digest() for content in contents)

    @cached_property
    def _self_contained(self) -> bool:
        """Whether pictures are read from where the rows are, and not from files which those only name."""
        return isinstance(self.read([0])[0], bytes)


@dataclass(frozen=True)
class Files(Pictures):
    """Picture files below a folder."""

    folder: Path
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, rows: list[int]) -> list[Picture]:
        """Their paths."""
        return [self.folder / self.names[row] for row in rows]

    def where(self, row: int) -> str:
        """The path."""
        return str(self.folder / self.names[row])

    @cached_property
    def stamp(self) -> str | None:
        """Of all the files."""
        return stamp_of(self.folder / name for name in self.names)


@dataclass(frozen=True)
class Cells(Pictures):
    """The image column of parquet files, one after the other."""

    cells: Any
    """A pyarrow.ChunkedArray of bytes, or of structs of bytes and a path."""
    column: str
    files: list[Path]
    starts: list[int]
    """The first row of each file."""

    def __len__(self) -> int:
        return len(self.cells)

    def read(self, rows: list[int]) -> list[Picture]:
        """Bytes, from wherever Arrow has them."""
        return [encoded(self.cells[row].as_py(), self.files[self._file(row)].parent, self.where(row)) for row in rows]

    def where(self, row: int) -> str:
        """The row within its file."""
        number = self._file(row)
        return f"row {row - self.starts[number]} of {self.files[number]}"

    def _file(self, row: int) -> int:
        return bisect.bisect_right(self.starts, row) - 1

    @cached_property
    def stamp(self) -> str | None:
        """Of the parquet files, unless those name other files."""
        return stamp_of(self.files, self.column) if self._self_contained else None


@dataclass(frozen=True)
class Rows(Pictures):
    """The image column of a Hugging Face data set."""

    dataset: Any
    """A datasets.Dataset of this one column, in Arrow format."""
    name: str

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, rows: list[int]) -> list[Picture]:
        """Bytes, or the local files that the data set names."""
        cells = self.dataset[rows].column(0).to_pylist()
        return [encoded(cell, Path(), self.where(row)) for row, cell in zip(rows, cells, strict=True)]

    def where(self, row: int) -> str:
        """The row within its split."""
        return f"row {row} of {self.name}"

    @cached_property
    def stamp(self) -> str | None:
        """Of its Arrow files and of how rows were chosen from them, unless there are none or they name other files."""
        files = [Path(file["filename"]) for file in self.dataset.cache_files]
        return stamp_of(files, self.dataset._fingerprint) if files and self._self_contained else None


def encoded(cell: Any, beside: Path, where: str) -> Picture:
    """The picture of a cell in Hugging Face form: bytes, or a path, which may be relative to where the cell lies.

    Raises:
        InputError: Neither.
    """
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data is None and isinstance(cell, dict) and cell.get("path") and (beside / cell["path"]).is_file():
        return beside / cell["path"]
    if not isinstance(data, bytes):
        raise InputError(f"{where} does not hold image bytes.")
    return data


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}).") from None


def in_threads(work: Callable[[list[int]], R], rows: list[int]) -> list[R]:
    """Give rows to all cores, at most `AT_ONCE` at a time; the results in the order of the rows."""
    threads = torch.get_num_threads()
    size = max(1, min(AT_ONCE, math.ceil(len(rows) / threads)))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    if len(parts) == 1 or threads == 1:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))


def stamp_of(files: Iterable[Path], *more: str) -> str:
    """A short name for files as they are now: where they lie, how large they are, when they were changed."""
    digest = hashlib.blake2b("\n".join(more).encode(), digest_size=16)
    for file in files:
        status = file.stat()
        digest.update(f"{file.absolute()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def batches(file: Path, column: str) -> Iterator[Any]:
    """A column of a parquet file, a few rows at a time."""
    from pyarrow import parquet

    # Buffered and not fetched ahead, or a whole row group is held; and many files have one.
    with parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as whole:
        yield from whole.iter_batches(AT_ONCE, columns=[column])


def mapped(files: list[Path], column: str) -> Any:
    """A column of parquet files as a memory map of its Arrow copy in the cache folder, which is made if need be.

    Returns:
        A pyarrow.ChunkedArray, of which only what is looked at is read from disk.

    Raises:
        InputError: No room for the copy, parquet that cannot be read, or a damaged copy.
    """
    import pyarrow

    folder = store.cache_folder() / "arrow" / stamp_of(files, column)
    store.make_folder(folder)
    target = folder / "images.arrow"
    with store.locked(folder, wait=True):
        if not target.exists():
            store.sweep(folder)
            _copy(files, column, target)
    try:
        return pyarrow.ipc.open_file(pyarrow.memory_map(str(target))).read_all().column(0)
    except pyarrow.ArrowException:
        raise InputError(f"{target} is damaged. Delete it; it is then made again.") from None


def _copy(files: list[Path], column: str, target: Path) -> None:
    """Copy a column of parquet files to one Arrow file, whole or not at all, holding a few rows at a time."""
    import pyarrow
    from pyarrow import parquet

    _check_room(files, target.parent)
    draft = target.with_name(f".{target.name}.tmp")
    schema = pyarrow.schema([parquet.read_schema(files[0]).field(column)])
    try:
        with pyarrow.OSFile(str(draft), "wb") as sink, pyarrow.ipc.new_file(sink, schema) as writer:
            for file in files:
                for batch in batches(file, column):
                    writer.write_table(pyarrow.Table.from_batches([batch]).cast(schema))
        draft.replace(target)
    except (pyarrow.ArrowException, OSError) as error:
        draft.unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        raise InputError(f"the images of {files[0].parent} cannot be copied to {target} ({reason}).") from None


def _check_room(files: list[Path], folder: Path) -> None:
    needed, free = sum(file.stat().st_size for file in files), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder} has {free / 1e9:.1f} GB left, but a copy of {files[0].parent} takes {needed / 1e9:.1f} GB. "
            "Set ATTAR_CACHE to a folder with more space, or raise --memory."
        )
