"""Teachers by name: what computes the line profile of a column. A caller's own needs `wavelengths` and `answer`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from attar.core.errors import InputError, near_path
from attar.plasma.column import Column

NONE = "none"
NAMES = ("slab", "lightweaver")


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

    @property
    def wavelengths(self) -> Float[np.ndarray, " wavelength"]:
        """In vacuum, in nm."""
        return np.asarray(self.code.wavelengths, dtype=np.float64)

    def answer(self, column: Column) -> tuple[Float[np.ndarray, " wavelength"], bool]:
        """The profile of a column and whether it converged; zeros where the code has found none.

        Raises:
            InputError: It is none, or of other wavelengths.
        """
        try:
            found = np.asarray(self.code.answer(column), dtype=np.float64)
        except InputError as error:
            if type(error) is InputError:  # what does not converge is of a class of its own
                raise
            return np.zeros(len(self.wavelengths)), False
        if found.shape != self.wavelengths.shape:
            raise InputError(f"{self.name} gives profiles of shape {found.shape}, not {self.wavelengths.shape}.")
        if not np.isfinite(found).all():
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
    if not isinstance(given, Answering):
        raise InputError(
            f"the teacher is a {type(given).__name__}. Give slab, lightweaver, or an object with wavelengths and "
            "answer."
        )
    name = str(getattr(given, "name", "") or type(given).__name__)
    told = {what: str(getattr(given, what, "") or "") for what in ("line", "note", "fingerprint")}
    return Teacher(given, name, told["line"] or "a line", told["note"] or name, told["fingerprint"])


def _lightweaver() -> Teacher:
    from attar.core.kinds import imported

    code = imported("attar.plasma.nonlte:CalciumK", "spectra")()
    return Teacher(code, NAMES[1], "Ca II K", str(code), f"{code} {code.transfer}")


def _emulator(folder: Path) -> Teacher:
    from attar.plasma.artefact import StoredPlasma
    from attar.plasma.emulated import Emulator

    if not folder.is_dir():
        near = near_path(str(folder))
        meant = f"; did you mean {near!r}?" if near else "."
        raise InputError(f"there is no teacher {str(folder)!r}{meant} Give slab, lightweaver, or an emulator's folder.")
    made = StoredPlasma.load(folder)
    if not isinstance(made, Emulator):
        raise InputError(f"{folder} holds {made.title}, which answers nothing. Give the folder of an emulator.")
    code: Any = made
    return Teacher(code, "emulator", made.line, f"an emulator of {made.teacher} ({made.note})", made.fingerprint)
