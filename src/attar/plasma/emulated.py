"""An emulator on disk and in memory: its network, what it was scaled by, the ranges it has seen, and its origin.

`emulator.safetensors` holds the network's parameters, the wavelengths, and the scaling with the ranges.
`artefact.json` states the rest with the units, and `timing.json` what teacher and student take for a column.
"""

import builtins
import copy
import dataclasses
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core import artefact as core
from attar.core import store
from attar.core.artefact import Origin
from attar.core.card import SCORES
from attar.core.cell import Cell
from attar.core.errors import InputError, shortened
from attar.core.pictures import KEPT, kept_in
from attar.core.training import in_float32
from attar.plasma.artefact import EMULATOR, KIND
from attar.plasma.column import Column
from attar.plasma.columns import INTENSITY, PARTS, TIMING, UNITS, Columns, seconds_in
from attar.plasma.emulator_card import TITLES, emulator_card
from attar.plasma.features import CHANNELS, Scaling
from attar.plasma.gridding import THRESHOLD, regridded
from attar.plasma.network import network_named
from attar.plasma.reading import called

SCHEMA = 1
WEIGHTS = "emulator.safetensors"
AT_ONCE = 1024
"""Columns that are answered at once."""
TRIES = 5
"""Times that it is timed."""
OUTSIDE = ("refuse", "tell", "allow")
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Emulator(core.Shareable):
    """A network that gives the line profiles of columns."""

    network: nn.Module
    words: str | None
    """The network by words; None of a module of the caller's own."""
    scaling: Scaling
    wavelengths: Float[Tensor, " wavelength"]
    """In vacuum, in nm."""
    points: int
    """Points of a column."""
    rows: Int[Tensor, " _row"]
    """Which columns of the data it has learned from."""
    whole: str
    """A digest of all columns of the data."""
    teacher: str
    line: str
    """The spectral line."""
    note: str
    """What to know of the teacher's answers."""
    origin: Origin
    seconds: Mapping[str, float | None] = field(default_factory=dict, compare=False)
    """CPU seconds of a column, of teacher and student."""
    folder: Path | None = field(default=None, compare=False)

    kind = KIND
    repo_type = "model"
    files = (WEIGHTS, TIMING, core.ARTEFACT, core.CARD, SCORES, KEPT)

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"An emulator of {self.line} by {self.teacher}, for {self.origin.source}"

    @property
    def learned(self) -> dict[str, Tensor]:
        """The parameters of the network."""
        return dict(self.network.state_dict())

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(one.numel() for one in self.network.parameters())

    @property
    def bytes(self) -> int:
        """Size of the parameters in bytes."""
        return sum(one.numel() * one.element_size() for one in self.network.parameters())

    @property
    def fingerprint(self) -> str:
        """A digest of the network and of its scaling."""
        return store.digest_of(self._tensors(), self.note)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """What it has seen of each channel: log10 T, log10 n_H, v and log10 of a point's share of the depth, in SI."""
        ends = zip(self.scaling.low.tolist(), self.scaling.high.tolist(), strict=True)
        return dict(zip(CHANNELS, ends, strict=True))

    # ------------------------------------------------------------------------------------------------------- its use

    def predict(
        self, columns: Columns | Column | Sequence[Column], *, outside: str = "refuse"
    ) -> Float[np.ndarray, "column wavelength"]:
        """The profiles of columns, in W m⁻² Hz⁻¹ sr⁻¹, at `wavelengths`.

        Args:
            columns: Columns on any number of points; those that have another number than it takes are put on as many.
            outside: What happens to columns that reach beyond what it has seen: refuse, tell (a warning says how far),
                or allow. See `outside`.

        Raises:
            InputError: A column cannot be read, or reaches beyond what was seen.
        """
        values = self.values_of(columns)
        if outside not in OUTSIDE:
            raise InputError(f"outside is {outside!r}; give refuse, tell or allow.")
        if outside != "allow":
            told = self._told(self.scaling.outside(values))
            if told and outside == "refuse":
                raise InputError(f"{told}. Give outside='tell' to have their profiles all the same.")
            if told:
                warnings.warn(told, stacklevel=2)
        return self.passed(values).numpy()

    def answer(self, column: Column) -> Float[np.ndarray, " wavelength"]:
        """The profile of one column, however far it reaches beyond what was seen."""
        found: Float[np.ndarray, " wavelength"] = self.predict(column, outside="allow")[0]
        return found

    def outside(self, columns: Columns | Column | Sequence[Column]) -> Float[np.ndarray, "column channel"]:
        """How far columns reach beyond what was seen, by channel, in units of the range that was seen; 0 inside."""
        return self.scaling.outside(self.values_of(columns)).numpy()

    @torch.no_grad()
    def passed(self, values: Float[Tensor, "column 4 point"]) -> Float[Tensor, "column wavelength"]:
        """The profiles of columns on as many points as it takes."""
        parts = [self.network(self.scaling.inputs(part)) for part in values.split(AT_ONCE)]
        return self.scaling.profiles(torch.cat(parts), values)

    def timed(self, columns: Columns) -> Self:
        """The same with the CPU seconds of a column, on the threads of this process; the shortest of a few tries."""
        values, taken = self.values_of(columns), []
        for _ in range(TRIES):
            began = time.process_time()
            self.passed(values)
            taken.append((time.process_time() - began) / len(values))
        return dataclasses.replace(self, seconds={**self.seconds, "student": min(taken)})

    def values_of(self, columns: Columns | Column | Sequence[Column]) -> Float[Tensor, "column 4 point"]:
        """Columns as it takes them.

        Raises:
            InputError: There are none, or one cannot be read.
        """
        if isinstance(columns, Columns):
            columns.check_values()
            if columns.points == self.points:
                return columns.values
            columns = [columns.column(row) for row in range(len(columns))]
        if isinstance(columns, Column):
            columns = [columns]
        given: Any = columns
        several: list[Any] = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
        if not several:
            raise InputError("there is no column to answer; give one or more.")
        for one in several:
            if not isinstance(one, Column):
                raise InputError(
                    f"an emulator answers columns (attar.plasma.Column, or Columns), and this is {called(one)}."
                )
        placed = [self._placed(one) for one in several]
        return torch.from_numpy(np.stack([[getattr(one, part) for part in PARTS] for one in placed]))

    def _placed(self, column: Column) -> Column:
        """A column on as many points as the network takes, without its hot gas."""
        column.checked()
        fits = len(column) == self.points and float(column.temperature.max()) <= THRESHOLD * (1 + 1e-9)
        return column if fits else regridded(column, self.points)

    def _told(self, beyond: Float[Tensor, "column channel"]) -> str:
        """Which columns reach how far beyond what was seen; empty if none does."""
        rows = torch.nonzero(beyond.amax(dim=1) > 0).flatten()
        if not len(rows):
            return ""
        worst = int(beyond.amax(dim=0).argmax())
        name, (low, high) = list(CHANNELS.items())[worst], list(self.ranges.values())[worst]
        return (
            f"{len(rows)} of {len(beyond)} columns reach beyond what the emulator has seen, most by the {name[0]}: by "
            f"{float(beyond[:, worst].max()):.2g} of its range ({name[1]}, {low:.4g} to {high:.4g})"
        )

    # ------------------------------------------------------------------------------------------------------- on disk

    def _tensors(self) -> dict[str, Tensor]:
        scaling = {name: getattr(self.scaling, name) for name in _SCALING}
        held = {"wavelengths": self.wavelengths, "rows": self.rows, **store.named("scaling", scaling)}
        return {**store.named("network", self.network.state_dict()), **held}

    def save(self, folder: str | Path) -> Self:
        """Write it to a folder and return the saved copy. Each file is written whole or not at all.

        Raises:
            InputError: The folder cannot be written to.
        """
        folder = Path(folder)
        store.make_folder(folder)
        known = {name: seconds for name, seconds in self.seconds.items() if seconds is not None}
        if known:
            store.write_json(folder / TIMING, known)
        facts = {
            core.FORM: EMULATOR,
            "digest": store.write_tensors(folder / WEIGHTS, self._tensors(), {"schema": SCHEMA}),
            "network": self.words,
            "points": self.points,
            "teacher": self.teacher,
            "line": self.line,
            "note": self.note,
            "whole": self.whole,
            "units": {**UNITS, "wavelengths": "nm, vacuum", "profiles": INTENSITY},
            "ranges": {CHANNELS[name]: list(ends) for name, ends in self.ranges.items()},
            "origin": dataclasses.asdict(self.origin),
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path, *, build: Build | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            folder: The folder.
            build: A function that makes the network, if it was a module of the caller's own.

        Raises:
            InputError: There is no emulator, a file is damaged, or only the caller can build the network.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "emulator")
        tensors, _ = core.read_tensors(folder / WEIGHTS, facts["digest"])
        wavelengths, points = tensors["wavelengths"], int(facts["points"])
        if build is not None:
            network = own_network(build(), points, len(wavelengths))
        elif facts["network"] is None:
            raise InputError(
                f"the network in {folder} is a module of its maker's own. Open it in Python, by "
                "attar.plasma.Emulator.load(FOLDER, build=FUNCTION) with a function that makes the module."
            )
        else:
            network = network_named(facts["network"], points, len(wavelengths), torch.Generator())
        network.load_state_dict(store.within("network", tensors))
        scaling = store.within("scaling", tensors)
        return cls(
            network=network.eval(),
            words=facts["network"],
            scaling=Scaling(**{name: scaling[name] for name in _SCALING}),
            wavelengths=wavelengths,
            points=points,
            rows=tensors["rows"],
            whole=facts["whole"],
            teacher=facts["teacher"],
            line=facts["line"],
            note=facts["note"],
            origin=Origin(**facts["origin"]),
            seconds=seconds_in(folder),
            folder=folder,
        )

    # ------------------------------------------------------------------------------------------------------- shown

    @property
    def took(self) -> str:
        """Seconds of teacher and student for a column, in words; empty if neither is known."""
        known = {name: self.seconds.get(name) for name in ("teacher", "student")}
        return ", ".join(f"{name} {seconds:.3g} s" for name, seconds in known.items() if seconds is not None)

    def shown(self, images: int = 10) -> core.Shown:
        """The sizes, the ranges, and pictures of its last evaluation."""
        ends = {CHANNELS[name]: f"{low:.4g} to {high:.4g}" for name, (low, high) in self.ranges.items()}
        return core.Shown(
            size=f"{self.parameters:,} parameters",
            count=self.parameters,
            bytes=self.bytes,
            facts={
                "teacher": f"{self.teacher} ({self.note})",
                "line": self.line,
                "columns learned from": f"{len(self.rows):,}",
                "a column": self.took or "not timed",
                "network": self.words or "a module of its maker's own",
                **ends,
            },
            pictures=tuple(kept_in(self.folder, TITLES)),
        )

    def picture(self) -> builtins.bytes | None:
        """Nothing: its profiles are drawn beside those of the teacher when it is evaluated."""
        return None

    def card(self, scores: list[Cell]) -> str:
        """The README of the emulator."""
        return emulator_card(self, scores)

    def __str__(self) -> str:
        took = f"; a column: {self.took}" if self.took else ""
        return (
            f"{self.parameters:,} parameters in place of {self.teacher}, learned from {len(self.rows):,} columns of "
            f"{self.line}{took}"
        )


_SCALING = tuple(one.name for one in dataclasses.fields(Scaling))


def own_network(module: Any, points: int, wavelengths: int) -> nn.Module:
    """A copy of a module of the caller's own, in float32, that takes columns and gives profiles.

    Raises:
        InputError: It is no module, does not take the columns, or gives something else.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"the student is a {type(module).__name__}; give a torch.nn.Module.")
    made = in_float32(copy.deepcopy(module))
    given = torch.zeros(2, len(CHANNELS), points)
    try:
        with torch.no_grad():
            found = made.eval()(given)
    except Exception as error:
        why = shortened(" ".join(str(error).split()) or type(error).__name__)
        raise InputError(f"the student does not take columns of shape {list(given.shape)}: {why}") from error
    if not isinstance(found, Tensor) or found.shape != (2, wavelengths):
        told = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"of two columns the student gives {told}; it must give {[2, wavelengths]}.")
    return made
