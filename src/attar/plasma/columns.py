"""Columns with the line profiles that a teacher computed of them: what emulators learn from, as an artefact.

`columns.safetensors` holds depth, temperature, hydrogen density and velocity of every column in SI, the profiles if
there are any, which columns converged, and which are held out. `timing.json` holds what the teacher took.
"""

import builtins
import dataclasses
import io
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.core import artefact as core
from attar.core import store
from attar.core.artefact import Origin as Origin
from attar.core.card import SCORES
from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.jsonfiles import number
from attar.core.seeds import permutation
from attar.plasma.artefact import KIND, LINES, PREVIEW
from attar.plasma.column import Column

SCHEMA = 1
TENSORS, TIMING = "columns.safetensors", "timing.json"
PARTS = ("depth", "temperature", "hydrogen", "velocity")
"""What is known of each point, in this order."""
UNITS = {"depth": "m", "temperature": "K", "hydrogen": "m⁻³", "velocity": "m/s, positive towards the observer"}
INTENSITY = "W m⁻² Hz⁻¹ sr⁻¹"
BLOCKS = 20
"""Parts of a run's columns that are held out whole: neighbours look alike."""
SHOWN = 200
"""Columns in a preview."""

Rows = Int[Tensor, " _row"]


@dataclass(frozen=True)
class Answers:
    """What a teacher said of columns."""

    teacher: str
    """Its name."""
    note: str
    """What to know of it, such as where its electrons are from."""
    line: str
    """The spectral line."""
    wavelengths: Float[Tensor, " wavelength"]
    """In vacuum, in nm."""
    profiles: Float[Tensor, "column wavelength"]
    """Intensities, in W m⁻² Hz⁻¹ sr⁻¹."""
    converged: Bool[Tensor, " column"]
    """Whether the teacher's own iterations came to an end."""
    seconds: float | None = None
    """CPU seconds of a column, on one thread."""

    def of(self, rows: Rows) -> "Answers":
        """Those of some columns."""
        return replace(self, profiles=self.profiles[rows], converged=self.converged[rows])


@dataclass(frozen=True)
class Columns(core.Shareable):
    """Lines of sight on the same number of points each, with or without line profiles."""

    values: Float[Tensor, "column 4 point"]
    """Depth, temperature, hydrogen density and velocity, in SI, float64."""
    testing: Bool[Tensor, " column"]
    """Which columns are held out."""
    turbulence: float
    """Micro-turbulence, in m/s."""
    origin: Origin
    answers: Answers | None = None
    folder: Path | None = field(default=None, compare=False)

    kind = KIND
    repo_type = "dataset"
    files = (TENSORS, TIMING, core.ARTEFACT, core.CARD, PREVIEW, SCORES)

    @classmethod
    def of(cls, columns: Iterable[Column], testing: Bool[Tensor, " column"], origin: Origin) -> Self:
        """Columns without profiles.

        Args:
            columns: On the same number of points each.
            testing: Which of them are held out.
            origin: Where they came from.
        """
        several = list(columns)
        values = np.stack([[getattr(one, part) for part in PARTS] for one in several])
        return cls(torch.from_numpy(values), testing, several[0].turbulence, origin)

    def __len__(self) -> int:
        return len(self.values)

    def column(self, row: int) -> Column:
        """One of them."""
        depth, temperature, hydrogen, velocity = self.values[row].numpy()
        return Column(depth, temperature, hydrogen, velocity, self.turbulence)

    def check_values(self) -> None:
        """See that all of them can be read.

        Raises:
            InputError: One of them cannot.
        """
        if self.values.ndim != 3 or self.values.shape[1] != len(PARTS):
            raise InputError(f"columns have values of shape {list(self.values.shape)}, not [column, 4, point].")
        depth, heat, hydrogen, _ = self.values.unbind(dim=1)
        fine = ((heat > 0) & (hydrogen > 0) & self.values.isfinite().all(dim=1)).all(dim=1)
        for row in torch.nonzero(~(fine & (depth.diff(dim=1) > 0).all(dim=1))).flatten().tolist():
            try:
                self.column(row).checked()
            except InputError as error:
                raise InputError(f"column {row}: {error}") from None

    def subset(self, rows: Rows) -> "Columns":
        """Some of them, with their profiles."""
        answers = None if self.answers is None else self.answers.of(rows)
        return replace(self, values=self.values[rows], testing=self.testing[rows], answers=answers, folder=None)

    # ---------------------------------------------------------------------------------------------------- what is in it

    @property
    def name(self) -> str:
        """What it is called as a source."""
        return self.origin.source

    @cached_property
    def inputs(self) -> str:
        """A digest of the columns and of their split, without profiles."""
        return store.digest_of({"values": self.values, "testing": self.testing}, self.turbulence)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the columns and of their profiles."""
        if self.answers is None:
            return self.inputs
        held = {"profiles": self.answers.profiles, "wavelengths": self.answers.wavelengths}
        return store.digest_of(held, [self.inputs, self.answers.teacher])

    @property
    def usable(self) -> Bool[Tensor, " column"]:
        """Which columns can be learned from and measured on: all that converged."""
        return torch.ones(len(self), dtype=torch.bool) if self.answers is None else self.answers.converged

    @property
    def converged(self) -> "Columns":
        """Those of them that can be used."""
        return self if bool(self.usable.all()) else self.subset(torch.nonzero(self.usable).flatten())

    @property
    def train_rows(self) -> Rows:
        """Rows of the usable columns that are not held out."""
        return torch.nonzero(~self.testing & self.usable).flatten()

    @property
    def test_rows(self) -> Rows:
        """Rows of the usable columns that are held out."""
        return torch.nonzero(self.testing & self.usable).flatten()

    @property
    def points(self) -> int:
        """Points of a column."""
        return self.values.shape[2]

    @property
    def known(self) -> Answers:
        """The profiles and what belongs to them.

        Raises:
            InputError: There are none.
        """
        if self.answers is None:
            raise InputError(
                f"the columns of {self.name} have no profiles yet. Make some: attar simulate columns --data FOLDER "
                "--teacher slab"
            )
        return self.answers

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        what = "lines of sight" if self.answers is None else f"profiles of {self.answers.line}"
        return (
            f"{len(self):,} columns of {self.origin.source} with {what}"
            if self.answers
            else (f"{len(self):,} {what} through {self.origin.source}")
        )

    @property
    def learned(self) -> dict[str, Tensor]:
        """The profiles, which must be finite."""
        return {} if self.answers is None else {"profiles": self.answers.profiles}

    @property
    def bytes(self) -> int:
        """Size of columns and profiles in bytes."""
        held = [self.values, *([] if self.answers is None else [self.answers.profiles])]
        return sum(one.numel() * one.element_size() for one in held)

    # -------------------------------------------------------------------------------------------------------- on disk

    def save(self, folder: str | Path) -> Self:
        """Write it to a folder and return the saved copy. Each file is written whole or not at all.

        Raises:
            InputError: The folder cannot be written to.
        """
        folder = Path(folder)
        store.make_folder(folder)
        store.write_bytes(folder / PREVIEW, self.picture())
        tensors = {"values": self.values, "testing": self.testing}
        answers = None
        if self.answers is not None:
            held = {"wavelengths", "profiles", "converged"}
            tensors |= {name: getattr(self.answers, name) for name in sorted(held)}
            answers = {name: getattr(self.answers, name) for name in ("teacher", "note", "line")}
            if self.answers.seconds is not None:
                store.write_json(folder / TIMING, {"teacher": self.answers.seconds})
        facts = {
            core.FORM: LINES,
            "digest": store.write_tensors(folder / TENSORS, tensors, None),
            "turbulence": self.turbulence,
            "units": {**UNITS, "wavelengths": "nm, vacuum", "profiles": INTENSITY},
            "answers": answers,
            "origin": dataclasses.asdict(self.origin),
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder holds no columns, or a file is missing, damaged or altered.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "columns")
        tensors, _ = core.read_tensors(folder / TENSORS, facts["digest"])
        answers = None
        if facts["answers"] is not None:
            held: dict[str, Any] = {name: tensors[name] for name in ("wavelengths", "profiles", "converged")}
            answers = Answers(**facts["answers"], **held, seconds=seconds_in(folder)["teacher"])
        return cls(
            values=tensors["values"],
            testing=tensors["testing"],
            turbulence=float(facts["turbulence"]),
            origin=Origin(**facts["origin"]),
            answers=answers,
            folder=folder,
        )

    def picture(self) -> builtins.bytes:
        """Log T of the points of the columns, and their profiles if there are any, side by side, as PNG."""
        return preview(self)

    def shown(self, images: int = 10) -> core.Shown:
        """Numbers and the preview."""
        answers = self.answers
        facts = {"held out": f"{int(self.testing.sum()):,}", "points": str(self.points)}
        if answers is not None:
            facts |= {"teacher": f"{answers.teacher} ({answers.note})", "line": answers.line}
            facts |= {"converged": f"{int(answers.converged.sum()):,}", "seconds a column": _seconds(answers.seconds)}
        label = "log T by column and point" + ("" if answers is None else ", and profiles")
        return core.Shown(
            size=f"{len(self):,} columns",
            count=len(self),
            bytes=self.bytes,
            facts=facts,
            pictures=(core.Picture(label, self.picture()),),
        )

    def card(self, scores: list[Cell]) -> str:
        """The README of the columns."""
        from attar.plasma.emulator_card import columns_card

        return columns_card(self, scores)

    def __str__(self) -> str:
        held = int(self.testing.sum())
        start = f"{len(self):,} columns of {self.points} points ({len(self) - held:,} to learn from, {held:,} held out)"
        if self.answers is None:
            return f"{start}, without profiles"
        lost = int((~self.answers.converged).sum())
        told = f", {lost:,} of which did not converge" if lost else ""
        took = "" if self.answers.seconds is None else f", {_seconds(self.answers.seconds)} s each"
        return f"{start}{told}, with profiles of {self.answers.line} by {self.answers.teacher}{took}"


def _seconds(seconds: float | None) -> str:
    return "not known" if seconds is None else f"{seconds:.3g}"


def seconds_in(folder: Path) -> dict[str, float | None]:
    """Seconds of a column by teacher and student, as `timing.json` has them; None where unknown."""
    path = folder / TIMING
    try:
        facts = store.read_json(path) if path.is_file() else None
    except InputError:
        facts = None
    known = facts if isinstance(facts, dict) else {}
    return {name: number(known.get(name)) for name in ("teacher", "student")}


def split(count: int, share: float, seed: int, blocks: int = 0) -> Bool[Tensor, " column"]:
    """Which columns are held out: at least one, and not all.

    Args:
        count: How many columns there are.
        share: The share that is held out.
        seed: Draws them.
        blocks: Parts of neighbouring columns that are held out whole; 0 where columns have no neighbours.
    """
    size = max(1, count // blocks) if blocks else 1
    parts = -(-count // size)
    held = min(max(1, round(share * parts)), parts - 1)
    found = torch.zeros(parts, dtype=torch.bool)
    found[permutation(seed, "held-out columns", parts)[:held]] = True
    return found.repeat_interleave(size)[:count]


def preview(columns: Columns) -> bytes:
    """Log T of the points of the columns, and the logarithm of their profiles, a line for each column, as PNG."""
    from PIL import Image

    from attar.plasma.pictures import GAP, raised

    rows = np.linspace(0, len(columns) - 1, min(SHOWN, len(columns))).round().astype(int)
    maps: list[np.ndarray] = [np.log10(columns.values[rows, 1].numpy())]
    if columns.answers is not None:
        profiles = columns.answers.profiles[rows].double().numpy()
        maps.append(np.log10(np.maximum(profiles, max(float(profiles.max()), 1e-300) * 1e-4)))
    drawn: list[np.ndarray] = []
    for one in maps:
        grown = raised(one).repeat(max(1, 240 // one.shape[1]), axis=1).repeat(max(1, 200 // len(one)), axis=0)
        drawn += [np.full((grown.shape[0], GAP, 3), 255, dtype=np.uint8)] if drawn else []
        drawn.append(grown)
    sink = io.BytesIO()
    Image.fromarray(np.concatenate(drawn, axis=1)).save(sink, format="PNG")
    return sink.getvalue()
