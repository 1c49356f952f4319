"""How Gaussian mixtures are read: the settings, and the description of a source."""

import csv
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from attar.core import tasks
from attar.core.settings import Range

if TYPE_CHECKING:
    from attar.mixtures.sources import MixtureSource


NAMED = ("standard-1d",)
LABELS = ("label", "labels", "target", "class")
"""Names of columns that no table of samples has."""
ROWS = 200
"""Rows of a table that are looked at to recognise it."""


def looks_like(data: str) -> bool:
    """Whether a name, a file or a folder holds a mixture or a table of samples."""
    path = Path(data)
    if path.suffix == ".csv":
        return _holds_samples(path)
    if data in NAMED or path.suffix == ".npy" or (path / "mixture.safetensors").is_file():
        return True
    try:
        start = path.read_bytes()[:4096] if path.suffix in (".json", ".safetensors") else b""
    except OSError:
        return False
    return b'"covariances"' in start or b'"weights"' in start


def _holds_samples(path: Path) -> bool:
    """Whether a CSV file has columns of numbers alone, none of which is called a label or ends it with 0 and 1."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in islice(csv.reader(file), ROWS + 1) if row]
    except (OSError, ValueError, csv.Error):  # the reader says what is wrong with it
        return True
    named = rows and not all(map(_is_number, rows[0]))
    head, rest = (rows[0], rows[1:]) if named else ([], rows)
    if any(name.strip().lower() in LABELS for name in head):
        return False
    if not all(_is_number(cell) for row in rest for cell in row):
        return False
    return not rest or len(rest[0]) < 2 or not {row[-1].strip() for row in rest} <= {"0", "1"}


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class Reading(tasks.Reading):
    """Settings with which mixtures are read."""

    fit_components: Annotated[int, Range(1)] = 40
    """Number of components of the mixture that is fitted first if the data is a table of samples."""

    def load(self, data: Any) -> "MixtureSource":
        """The mixture of some data, as a source."""
        from attar.mixtures.sources import load

        return load(data, fit_components=self.fit_components)

    def describe(self, source: "MixtureSource") -> str:
        """The source in a line, and its heaviest components with their means."""
        mixture, shown = source.mixture, 10
        lines = [str(source), f"fingerprint {source.fingerprint}"]
        heaviest = mixture.weights.argsort(descending=True)[:shown].tolist()
        for number in heaviest:
            mean = ", ".join(f"{value:.3g}" for value in mixture.means[number, :6].tolist())
            more = ", ..." if mixture.dimension > 6 else ""
            lines.append(f"  component {number:<4} weight {float(mixture.weights[number]):.4f}, mean ({mean}{more})")
        if mixture.n_components > shown:
            lines.append(f"  and {mixture.n_components - shown} lighter ones")
        return "\n".join(lines)
