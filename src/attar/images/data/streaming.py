"""Encoded pictures on disk. They are read when they are drawn and hashed once, so a set may be larger than memory.

A folder is read file by file, and a Hugging Face data set is mapped into memory. Parquet cannot be read one row at a
time. The image column of parquet files above the memory budget is therefore copied once, a few rows at a time, to an
Arrow file in the cache folder, which is then mapped. (`datasets` converts whole row groups, and many files have only
one: for a file of 0.6 GB it used three times that memory, this code 0.1 GB.) The copies and the cached digests may be
deleted at any time.
"""

import bisect
import hashlib
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from attar.core import cache, store
from attar.core.errors import InputError, shortened


@dataclass(frozen=True)
class NoPicture:
    """A row without a picture."""

    why: str
    """The reason, as the end of a sentence about the row."""


Picture = bytes | Path | NoPicture
"""An encoded picture, or the file that holds it."""

AT_ONCE = 64
"""Number of pictures that one thread reads and processes at a time."""

R = TypeVar("R")


class Pictures(ABC):
    """Encoded pictures by row number."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of pictures."""

    @abstractmethod
    def read(self, rows: list[int]) -> list[Picture]:
        """The pictures of these rows.

        Raises:
            InputError: A row names a file outside the data.
        """

    @abstractmethod
    def where(self, row: int) -> str:
        """A description of a row for messages."""

    @property
    @abstractmethod
    def stamp(self) -> str | None:
        """A digest of paths, sizes and times of change, which identifies the pictures without reading them, or None."""

    @cached_property
    def digests(self) -> UInt8[Tensor, "picture 16"]:
        """A digest of the bytes of every picture, computed once and stored in the cache folder."""
        memory = store.cache_folder() / "digests" / f"{self.stamp}.safetensors" if self.stamp else None
        if memory:
            cache.use(memory)
        if memory and memory.exists():
            with suppress(InputError):  # damaged cached digests are computed again
                return store.read_tensors(memory)[0]["digests"]
        parts = in_threads(self._hash, list(range(len(self))))
        digests = torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8).view(-1, 16)
        if memory:
            store.make_folder(memory.parent)
            store.write_tensors(memory, {"digests": digests}, {})
        return digests

    def _hash(self, rows: list[int]) -> bytes:
        contents = map(_bytes_of, self.read(rows))
        return b"".join(hashlib.blake2b(content, digest_size=16).digest() for content in contents)

    @cached_property
    def _self_contained(self) -> bool:
        """Whether the rows hold the pictures themselves instead of names of files."""
        return isinstance(self.read([0])[0], bytes)


@dataclass(frozen=True)
class Files(Pictures):
    """Picture files below a folder."""

    folder: Path
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, rows: list[int]) -> list[Picture]:
        """The paths of these rows."""
        return [self.folder / self.names[row] for row in rows]

    def where(self, row: int) -> str:
        """The path of a row."""
        return str(self.folder / self.names[row])

    @cached_property
    def stamp(self) -> str | None:
        """The stamp of all files."""
        return stamp_of(self.folder / name for name in self.names)


@dataclass(frozen=True)
class Cells(Pictures):
    """The image column of parquet files, one after the other."""

    cells: Any
    """A pyarrow.ChunkedArray of bytes, or of structs of bytes and a path."""
    column: str
    files: list[Path]
    starts: list[int]
    """First row of each file."""
    within: Path | None = None
    """Folder of the data, below which files that cells name must lie. Default: that of each parquet file."""

    def __len__(self) -> int:
        return len(self.cells)

    def read(self, rows: list[int]) -> list[Picture]:
        """The pictures of these rows, as bytes from Arrow."""
        return [self._picture(row) for row in rows]

    def _picture(self, row: int) -> Picture:
        beside = self.files[self._file(row)].parent
        return encoded(self.cells[row].as_py(), (beside, self.within or beside), self.within or beside, self.where(row))

    def where(self, row: int) -> str:
        """The number of the row within its file."""
        number = self._file(row)
        return f"row {row - self.starts[number]} of {self.files[number]}"

    def _file(self, row: int) -> int:
        return bisect.bisect_right(self.starts, row) - 1

    @cached_property
    def stamp(self) -> str | None:
        """The stamp of the parquet files; None if these name other files."""
        return stamp_of(self.files, self.column) if self._self_contained else None


@dataclass(frozen=True)
class Rows(Pictures):
    """The image column of a Hugging Face data set."""

    dataset: Any
    """A datasets.Dataset of this one column, in Arrow format."""
    name: str
    within: Path | None = None
    """Folder below which files that cells name must lie. None: they may lie anywhere."""

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, rows: list[int]) -> list[Picture]:
        """The pictures of these rows: bytes, or local files that the data set names."""
        cells = self.dataset[rows].column(0).to_pylist()
        places = (self.within or Path(),)
        return [encoded(cell, places, self.within, self.where(row)) for row, cell in zip(rows, cells, strict=True)]

    def where(self, row: int) -> str:
        """The number of the row within its split."""
        return f"row {row} of {self.name}"

    @cached_property
    def stamp(self) -> str | None:
        """The stamp of its Arrow files and of the choice of rows; None without files, or if these name other files."""
        files = [Path(file["filename"]) for file in self.dataset.cache_files]
        return stamp_of(files, self.dataset._fingerprint) if files and self._self_contained else None


def encoded(cell: Any, beside: Sequence[Path], within: Path | None, where: str) -> Picture:
    """The picture of a cell: bytes, or the path of a file, as text or in Hugging Face form.

    Args:
        cell: The cell.
        beside: Folders to which a path may be relative.
        within: Folder below which the file must lie. None: it may lie anywhere.
        where: A description of the row for messages.

    Raises:
        InputError: The file lies elsewhere.
    """
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data is None and isinstance(cell, dict):
        data = cell.get("path")
    if isinstance(data, bytes):
        return data
    if not isinstance(data, str) or not data:
        return NoPicture("does not hold image bytes")
    try:
        files = [folder / data for folder in beside]
        file = next((file for file in files if file.is_file()), files[0])
        if within is not None and not file.resolve().is_relative_to(within.resolve()):
            raise InputError(f"{where} names {data}, which is not below {within}. Files outside the data are not read.")
        there = file.exists()
    except (OSError, ValueError):
        return NoPicture(f"names {shortened(data)!r}, which is no name of a file")
    return file if there else NoPicture(f"names {data}, which is missing")


def _bytes_of(data: Picture) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, NoPicture):
        return data.why.encode()
    try:
        return data.read_bytes()
    except OSError as error:
        raise InputError(f"{data} cannot be read ({error.strerror}).") from None


def in_threads(work: Callable[[list[int]], R], rows: list[int]) -> list[R]:
    """Process rows on all cores, at most `AT_ONCE` at a time, and return the results in the order of the rows."""
    threads = torch.get_num_threads()
    size = max(1, min(AT_ONCE, math.ceil(len(rows) / threads)))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    if len(parts) == 1 or threads == 1:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))


def stamp_of(files: Iterable[Path], *more: str) -> str:
    """A digest of the present state of files: their paths, sizes and times of change."""
    digest = hashlib.blake2b("\n".join(more).encode(), digest_size=16)
    for file in files:
        status = file.stat()
        digest.update(f"{file.absolute()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def batches(file: Path, column: str) -> Iterator[Any]:
    """Yield a column of a parquet file, a few rows at a time."""
    from pyarrow import parquet

    # Buffered and not fetched ahead. Otherwise a whole row group is held, and many files have only one.
    with parquet.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as whole:
        yield from whole.iter_batches(AT_ONCE, columns=[column])


def mapped(files: list[Path], column: str) -> Any:
    """A column of parquet files as a memory map of its Arrow copy in the cache folder. The copy is made if necessary.

    Returns:
        A pyarrow.ChunkedArray. Only the rows in use are read from disk.

    Raises:
        InputError: There is no space for the copy, parquet cannot be read, or the copy is damaged.
    """
    import pyarrow

    folder = store.cache_folder() / "arrow" / stamp_of(files, column)
    store.make_folder(folder)
    cache.use(folder)
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
    """Copy a column of parquet files to one Arrow file, whole or not at all, a few rows at a time."""
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
