"""Omniglot: drawings of the characters of many alphabets, twenty of each, for few-shot learning.

Zip files and folders are merged by alphabet and character, because the small background sets share alphabets. A class
is a character, named `Alphabet/character01`. Strokes are 1 on 0, as in most papers. Drawings are scaled with
antialiasing, so that thin strokes do not vanish.
Lake, Salakhutdinov and Tenenbaum, Human-level concept learning through probabilistic program induction, Science 2015.
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import torch

from attar.core.errors import InputError
from attar.embeddings.data.pictures import form_of
from attar.embeddings.data.raw import RawSamples
from attar.embeddings.reading import CHARACTER
from attar.embeddings.sources import Part
from attar.images.data import naming
from attar.images.data.holding import Wanted, all_grey, hold
from attar.images.data.pixels import InMemory
from attar.images.data.streaming import NoPicture, Picture, Pictures

if TYPE_CHECKING:
    from attar.embeddings.reading import Reading

SIZE = 28
"""Side of drawings, unless another is given."""
UNREADABLE = (zipfile.BadZipFile, OSError, NotImplementedError, ValueError)
LARGEST = 2**24
"""Most bytes of one drawing."""


@dataclass(frozen=True)
class Drawing:
    """One drawing in a zip file or a folder."""

    alphabet: str
    character: str
    file: str
    place: Path
    """The zip file, or the picture itself."""
    member: str = ""
    """Its name in the zip file."""

    @property
    def label(self) -> str:
        """The name of its class."""
        return f"{self.alphabet}/{self.character}"


@dataclass(frozen=True)
class Drawings(Pictures):
    """Drawings by row number."""

    rows: list[Drawing]
    archives: Mapping[Path, zipfile.ZipFile]
    """The zip files, open."""

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: list[int]) -> list[Picture]:
        """The drawings of these rows, encoded."""
        return [self._picture(self.rows[row]) for row in rows]

    def _picture(self, one: Drawing) -> Picture:
        if not one.member:
            return one.place
        try:
            file = self.archives[one.place]
            if file.getinfo(one.member).file_size > LARGEST:
                return NoPicture("is too large for a drawing")
            return file.read(one.member)
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            RuntimeError,
            NotImplementedError,
            EOFError,
            KeyError,
        ) as error:
            return NoPicture(f"cannot be read from the zip file ({type(error).__name__})")

    def where(self, row: int) -> str:
        """The file of a row."""
        one = self.rows[row]
        return f"{one.member} of {one.place}" if one.member else str(one.place)

    @property
    def stamp(self) -> str | None:
        """None: drawings are held in memory."""
        return None


def from_omniglot(data: str, how: "Reading") -> RawSamples:
    """Read the drawings of zip files, joined by commas, or of a folder of zip files or of drawings.

    Raises:
        InputError: A file is not there or cannot be read, or there are no drawings.
    """
    paths = [Path(word.strip()) for word in data.split(",") if word.strip()]
    found: dict[tuple[str, str], Drawing] = {}
    twice = 0
    for path in paths:
        for drawing in _drawings_in(path):
            key = drawing.label, drawing.file
            twice += key in found
            found.setdefault(key, drawing)
    if not found:
        raise InputError(f"{data} holds no drawings of Omniglot, which lie in folders Alphabet/character01.")
    classes = tuple(naming.in_order({label for label, _ in found}))
    codes = {name: number for number, name in enumerate(classes)}
    ordered = sorted(found.values(), key=lambda one: (codes[one.label], one.file))
    form = form_of(how)
    notes = [f"{twice:,} drawings lie in several files and are read once"] if twice else []
    if form.size is None:
        form = replace(form, size=SIZE)
        notes.append(f"drawings are scaled to {SIZE} pixels; --size 105 keeps those of Omniglot as they are")
    with ExitStack() as stack:
        places = {one.place for one in ordered if one.member}
        archives = {place: stack.enter_context(zipfile.ZipFile(place)) for place in sorted(places)}
        pictures = Drawings(ordered, archives)
        held = hold(pictures, replace(form, memory=1e3), Wanted(grey=all_grey(pictures)))
    assert isinstance(held.pixels, InMemory)
    labels = torch.tensor([codes[one.label] for one in ordered])
    if held.kept is not None:
        labels = labels[held.kept]
        notes.append(f"{len(held.bad):,} drawings cannot be read and are left out: {held.bad[0]}")
    return RawSamples("omniglot", classes, Part(_ink(held.pixels), labels), notes=tuple(notes), flips=False)


def _ink(pixels: InMemory) -> InMemory:
    """Drawings with bright strokes on black: inverted, if they are mostly bright."""
    tensor = pixels.tensor
    return InMemory(255 - tensor) if tensor.float().mean() > 127.5 else pixels


def _drawings_in(path: Path) -> Iterator[Drawing]:
    """The drawings of a zip file or a folder."""
    if path.is_dir():
        for file in sorted(path.rglob("*.zip")):
            yield from _drawings_in(file)
        for file in sorted(path.rglob("*.png")):
            yield from _drawing(file.parts, file)
        return
    if not path.is_file():
        raise InputError(f"{path} is not there. Give zip files of Omniglot, joined by commas, or a folder of them.")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [one.filename for one in archive.infolist() if not one.is_dir()]
    except UNREADABLE as error:
        raise InputError(f"{path} is not a readable zip file ({error}).") from None
    for name in sorted(names):
        yield from _drawing(PurePosixPath(name).parts, path, name)


def _drawing(parts: Sequence[str], place: Path, member: str = "") -> Iterator[Drawing]:
    """The drawing of a path `Alphabet/character01/0001_01.png`, if it is one. Copies of macOS are left out."""
    usual = len(parts) >= 3 and parts[-1].lower().endswith(".png") and not parts[-1].startswith(".")
    if usual and CHARACTER.fullmatch(parts[-2]) and "__MACOSX" not in parts:
        yield Drawing(parts[-3], parts[-2], parts[-1], place, member)
