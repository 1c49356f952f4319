"""States of a fluid at the output times: in memory, or each in a file of its own that is read when it is asked for.

A snapshot is complete once it is made. So a run in a folder writes it there at once: it is held neither in memory nor
in any checkpoint, however large all of them are.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core import store
from attar.core.artefact import read_tensors

FOLDER = "snapshots"
FILES = f"{FOLDER}/*.safetensors"
NAME = "states"


class Snapshots(Sequence[Any]):
    """Primitive states `[5, row, column]` at each output time, float32."""

    def __init__(self, parts: Sequence[Tensor | Path], digests: Sequence[str] | None = None) -> None:
        """Take states, and files that hold one each.

        Args:
            parts: In the order of time.
            digests: What the files must be; unchecked unless given.
        """
        self._parts = list(parts)
        self._told = None if digests is None else list(digests)
        self._last: tuple[Path, Tensor] | None = None

    @classmethod
    def places(cls, folder: Path, count: int, digests: Sequence[str] | None = None) -> "Snapshots":
        """Those that lie in an artefact's folder, or will."""
        return cls([file_of(folder, index) for index in range(count)], digests)

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: Any) -> Any: ...
    def __getitem__(self, index: Any) -> Any:
        """The states of one time, or parts of them as of a tensor; a slice alone gives snapshots."""
        if isinstance(index, slice):
            return Snapshots(self._parts[index], None if self._told is None else self._told[index])
        if isinstance(index, tuple):
            first, rest = index[0], index[1:]
            return torch.stack([one[rest] for one in self[first]]) if isinstance(first, slice) else self[first][rest]
        part = self._parts[index]
        if isinstance(part, Tensor):
            return part
        if self._last is None or self._last[0] != part:  # whoever reads a snapshot reads it several times
            self._last = part, self._read(part, None if self._told is None else self._told[index])
        return self._last[1]

    @staticmethod
    def _read(path: Path, digest: str | None) -> Tensor:
        return (store.read_tensors(path) if digest is None else read_tensors(path, digest))[0][NAME]

    @property
    def shape(self) -> tuple[int, ...]:
        """Times, variables, rows and columns."""
        return (len(self), *self[0].shape)

    @property
    def bytes(self) -> int:
        """Size of all of them."""
        return math.prod(self.shape) * 4

    @cached_property
    def digests(self) -> list[str]:
        """A digest of each."""
        return self._told or [store.digest_of({NAME: states}, None) for states in self]

    def put(self, folder: Path | None, index: int, states: Float[Tensor, "5 row column"]) -> None:
        """Keep the states of one time: in a folder if there is one, else in memory."""
        if folder is None:
            self._parts[index] = states
            return
        self._parts[index] = _write(folder, index, states)

    def save(self, folder: Path) -> None:
        """Write those to an artefact's folder that do not lie there yet, and remove what else is there."""
        for index, part in enumerate(self._parts):
            if part != file_of(folder, index):
                _write(folder, index, self[index])
        for path in sorted((folder / FOLDER).glob("*.safetensors"))[len(self) :]:
            path.unlink()


def file_of(folder: Path, index: int) -> Path:
    """The file of a snapshot in an artefact's folder."""
    return folder / FOLDER / f"{index:05d}.safetensors"


def _write(folder: Path, index: int, states: Tensor) -> Path:
    path = file_of(folder, index)
    store.make_folder(path.parent)
    store.write_tensors(path, {NAME: states}, None)
    return path
