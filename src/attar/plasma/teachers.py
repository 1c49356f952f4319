"""Teachers by name: what computes the line profile of a column. A caller's own needs `wavelengths` and `answer`."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from attar.core.artefact import Shareable
from attar.core.errors import InputError, near_path
from attar.plasma.column import Column
from attar.plasma.reading import called

NONE = "none"
NAMES = ("slab", "lightweaver")


ROUNDING = 1e-6
"""Share of the largest intensity by which others may be below zero."""


def numbers(given: Any, what: str) -> Float[np.ndarray, "..."]:
    """What was given as an array of float64.

    Args:
        given: It.
        what: What it is, for a refusal.

    Raises:
        InputError: It is none of real numbers.
    """
    try:
        found = np.asarray(given)
        if found.dtype.kind in "biuf":
            return found.astype(np.float64)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{what}: of type {type(given).__name__}. Give real numbers.")


@runtime_checkable
class Answering(Protocol):
    """A code, or whatever else gives profiles of columns."""

    @property
    def wavelengths(self) -> Float[np.ndarray, " wavelength"]:
        """In vacuum, in nm."""

    def answer(self, column: Column) -> Float[np.ndarray, " wavelength"]:
        """The profile that a column shows, in W m⁻² Hz⁻¹ sr⁻¹."""


@dataclass(frozen=True)
class Teacher:
    """A code that answers, with what is told of it."""

    code: Answering
    name: str
    line: str
    """The spectral line."""
    note: str
    """What to know of its answers."""
    fingerprint: str = ""
    """What tells it from all others; empty if nothing does."""

    @cached_property
    def wavelengths(self) -> Float[np.ndarray, "..."]:
        """In vacuum, in nm."""
        return numbers(self.code.wavelengths, f"wavelengths of {self.name}")

    def checked(self) -> "Teacher":
        """The teacher itself.

        Raises:
            InputError: Its wavelengths are no list of positive numbers that rise.
        """
        there = self.wavelengths
        if there.ndim != 1 or not len(there):
            raise InputError(
                f"wavelengths of {self.name} have the shape {list(there.shape)}. Give a list of them, in nm."
            )
        if not (np.isfinite(there).all() and there[0] > 0 and (np.diff(there) > 0).all()):
            raise InputError(f"wavelengths of {self.name} must be positive and rise from one to the next, in nm.")
        return self

    def answer(self, column: Column) -> tuple[Float[np.ndarray, " wavelength"], bool]:
        """The profile of a column and whether it converged; zeros where the code has found none that can be one.

        Raises:
            InputError: It is none, or of other wavelengths.
        """
        try:
            given = self.code.answer(column)
        except InputError as error:
            if type(error) is InputError:  # what does not converge is of a class of its own
                raise
            return np.zeros(len(self.wavelengths)), False
        found = numbers(given, f"what {self.name} answers")
        if found.shape != self.wavelengths.shape:
            raise InputError(f"{self.name} gives profiles of shape {found.shape}, not {self.wavelengths.shape}.")
        if not np.isfinite(found).all() or not found.max() > 0 or found.min() < -ROUNDING * found.max():
            return np.zeros(len(self.wavelengths)), False
        return found, True


def teacher_named(given: Any) -> Teacher | None:
    """A teacher by name, by the folder of an emulator, or as an object; None of `none`.

    Args:
        given: slab, lightweaver, none, the folder of an emulator, or an object with `wavelengths` and `answer`. None
            stands for slab.

    Raises:
        InputError: There is no such teacher, or what it needs is not installed.
    """
    if isinstance(given, Teacher):
        return given
    if given is None or given == NAMES[0]:
        from attar.plasma.slab import Slab

        code = Slab()
        return Teacher(code, code.name, code.line, code.note, code.fingerprint)
    if given == NONE:
        return None
    if given == NAMES[1]:
        return _lightweaver()
    if isinstance(given, (str, Path)):
        return _emulator(Path(given).expanduser())
    if isinstance(given, Shareable):
        return _answering(given, given.folder)
    if isinstance(given, type) or not isinstance(given, Answering):
        raise InputError(
            f"the teacher is of type {type(given).__name__}. Give slab, lightweaver, or an object with wavelengths and "
            "answer."
        )
    name = str(getattr(given, "name", "") or type(given).__name__)
    told = {what: str(getattr(given, what, "") or "") for what in ("line", "note", "fingerprint")}
    return Teacher(given, name, told["line"] or "a line", told["note"] or name, told["fingerprint"]).checked()


def _lightweaver() -> Teacher:
    from attar.core.kinds import imported

    code = imported("attar.plasma.nonlte:CalciumK", "spectra")()
    return Teacher(code, NAMES[1], "Ca II K", str(code), f"{code} {code.transfer}")


def _emulator(folder: Path) -> Teacher:
    from attar.plasma.artefact import StoredPlasma

    if not folder.is_dir():
        near = near_path(str(folder))
        meant = f"; did you mean {near!r}?" if near else "."
        raise InputError(f"there is no teacher {str(folder)!r}{meant} Give slab, lightweaver, or an emulator's folder.")
    return _answering(StoredPlasma.load(folder), folder)


def _answering(made: Any, folder: Path | None) -> Teacher:
    """An emulator as a teacher.

    Raises:
        InputError: It is something else.
    """
    from attar.plasma.emulated import Emulator

    if not isinstance(made, Emulator):
        held = "the teacher is" if folder is None else f"{folder} holds"
        raise InputError(f"{held} {called(made)}, which answers nothing. Give an emulator.")
    code: Any = made
    return Teacher(code, "emulator", made.line, f"an emulator of {made.teacher} ({made.note})", made.fingerprint)
