"""Radiative losses: Λ(T) of an optically thin plasma, as a table that is linear in log T between its points.

`sheet` lies in the package. `read` reads a table of one's own, and `of_chianti` asks ChiantiPy or fiasco, where a user
has them with the CHIANTI data. `cut` makes the corona stable, as Snow, Osborne and Hillier do: from log T = 5.5 on the
points are multiplied by sech²((log T - 5.5)/0.1), at the points and not after interpolation.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from attar.core import store
from attar.core.errors import InputError, near_path, reason_of, shortened

CUT_FROM, CUT_WIDTH = 5.5, 0.1
"""In log T: where the cut begins, and how wide it is."""
ERG_CM3 = 1e-13
"""One erg cm³/s in W m³."""
LOG_T = 0.0, 12.0
"""Between these log10 of a temperature in K lies. Others are temperatures themselves, or in other units."""
PEAK = 1e-27, 1e-17
"""Between these the largest loss lies, in erg cm³/s."""
MOST = 10_000
"""Points of a table."""
CHIANTI_POINTS = 101
"""Points of CHIANTI's table, from log T = 3 to 7."""


@dataclass(frozen=True, eq=False)
class LossTable:
    """Losses at the points of a table: none below the first one, and those of the last one above it."""

    name: str
    log_t: Float[np.ndarray, " point"]
    """log10 of the temperature in K, ascending."""
    losses: Float[np.ndarray, " point"]
    """Λ in erg cm³/s."""

    @cached_property
    def peak(self) -> float:
        """The largest loss, in erg cm³/s, by which normalised losses are divided."""
        return float(self.losses.max())

    @cached_property
    def normalised(self) -> Float[np.ndarray, " point"]:
        """Λ̂ = Λ / max Λ."""
        return self.losses / self.peak

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the points."""
        return store.digest_of({}, [self.log_t.tolist(), self.losses.tolist()])

    def cut(self) -> Self:
        """The table with the losses of the corona removed. The peak that it is divided by stays that of the whole."""
        factor = np.where(self.log_t >= CUT_FROM, np.cosh((self.log_t - CUT_FROM) / CUT_WIDTH) ** -2.0, 1.0)
        made = type(self)(f"{self.name}, cut", self.log_t, self.losses * factor)
        made.__dict__["peak"] = self.peak
        return made

    def acting(self, radiation: str) -> "LossTable | None":
        """The losses as they act: cut, true (the whole table), or None where they are off."""
        if radiation == "off":
            return None
        return self.cut() if radiation == "cut" else self

    def at(self, temperature: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Λ̂ at temperatures in K."""
        positive = np.maximum(temperature, 1e-300)
        return np.interp(np.log10(positive), self.log_t, self.normalised, left=0.0)


def packaged(name: str = "sheet") -> LossTable:
    """A table of the package."""
    text = files("attar.plasma").joinpath("tables", f"{name}.txt").read_text(encoding="utf-8")
    points = np.array([list(map(float, line.split())) for line in text.splitlines() if not line.startswith("#")])
    return LossTable(name, points[:, 0], points[:, 1] * 1e-22)


def named(name: str) -> LossTable:
    """A table by name: `sheet`, `chianti`, or a file.

    Raises:
        InputError: There is none, or it is no table of losses.
    """
    if name == "sheet":
        return packaged()
    if name == "chianti":
        return of_chianti()
    path = Path(name).expanduser()
    if not path.is_file():
        near = near_path(path)
        hint = f" Perhaps {near}?" if near else ""
        raise InputError(f"there is no table of losses {name!r}. Give sheet, chianti, or a file.{hint}")
    return read(path)


def of_chianti() -> LossTable:
    """CHIANTI's table at 10⁴ electrons per cm³ with photospheric abundances.

    Raises:
        InputError: Neither ChiantiPy nor fiasco is here with its data.
    """
    from attar.plasma import chianti

    log_t = np.linspace(3.0, 7.0, CHIANTI_POINTS)
    return checked("chianti", log_t, chianti.losses(log_t))


def read(path: str | Path) -> LossTable:
    """A table from a file: text or CSV of log10 T in K and Λ in erg cm³/s, or an .npz of `log_t` and `losses`.

    Raises:
        InputError: It cannot be read, or is no table of losses.
    """
    path = Path(path)
    log_t, losses = _of_npz(path) if path.suffix == ".npz" else _of_text(path)
    return checked(path.name, log_t, losses)


def checked(name: str, log_t: Float[np.ndarray, " point"], losses: Float[np.ndarray, " point"]) -> LossTable:
    """A table of points that can be one. Of the zeros at its cool end only the last is kept.

    Raises:
        InputError: Points are missing, not finite, not ascending in T, negative, all zero, or in other units.
    """

    def refuse(problem: str) -> InputError:
        return InputError(f"the table of losses {shortened(name)} {problem}")

    if not 2 <= len(log_t) <= MOST:
        raise refuse(f"has {len(log_t):,} points. It needs 2 to {MOST:,}, each log10 T in K and Λ in erg cm³/s.")
    for point in np.flatnonzero(~(np.isfinite(log_t) & np.isfinite(losses))):
        raise refuse(f"has {log_t[point]:g}, {losses[point]:g} as point {point + 1}. All must be finite.")
    for point in np.flatnonzero(np.diff(log_t) <= 0) + 1:
        raise refuse(
            f"does not ascend in T: log10 T is {log_t[point]:g} at point {point + 1}, after {log_t[point - 1]:g}."
        )
    if log_t[0] < LOG_T[0] or log_t[-1] > LOG_T[1]:
        raise refuse(
            f"has log10 T from {log_t[0]:g} to {log_t[-1]:g}. The logarithm of a temperature in K lies between "
            f"{LOG_T[0]:g} and {LOG_T[1]:g}."
        )
    for point in np.flatnonzero(losses < 0):
        raise refuse(
            f"has the loss {losses[point]:g} as point {point + 1}. Losses must not be negative: give Λ, not its "
            "logarithm."
        )
    if not losses.any():
        raise refuse("is 0 everywhere. Simulate without it instead: --radiation off.")
    if not PEAK[0] <= losses.max() <= PEAK[1]:
        least, most = PEAK
        raise refuse(f"has {losses.max():g} as its largest loss. In erg cm³/s it is between {least:g} and {most:g}.")
    first = int(np.flatnonzero(losses)[0])
    for point in np.flatnonzero(losses[first:] == 0) + first:
        raise refuse(f"is 0 at point {point + 1}, among positive losses. Only its first points may be 0.")
    kept = slice(max(first - 1, 0), None)
    return LossTable(name, log_t[kept].copy(), losses[kept].copy())


Columns = tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]


def _of_npz(path: Path) -> Columns:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            log_t, losses = (np.asarray(arrays[key], dtype=float) for key in ("log_t", "losses"))
    except KeyError:
        raise InputError(f"{path} must hold the arrays log_t (log10 of T in K) and losses (erg cm³/s).") from None
    except Exception as error:
        raise InputError(f"{path} cannot be read as .npz: {reason_of(error)}.") from error
    if log_t.ndim != 1 or log_t.shape != losses.shape:
        raise InputError(
            f"{path} holds log_t of shape {log_t.shape} and losses of shape {losses.shape}. Both must be lists of one "
            "length."
        )
    return log_t, losses


def _of_text(path: Path) -> Columns:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {reason_of(error)}.") from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].replace(",", " ").replace(";", " ").split()
        found = [_number(word) for word in words]
        if not words or (not rows and all(value is None for value in found)):  # nothing, or the names of the columns
            continue
        if len(words) != 2 or None in found:
            told = shortened(line.strip(), 40)
            raise InputError(f"{path}, line {number}: {told!r} is not log10 T in K and Λ in erg cm³/s.")
        rows.append([value for value in found if value is not None])
    points = np.array(rows, dtype=float).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _number(word: Any) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
