"""How labelled graphs are read: settings, and what is told of a source."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attar.core import tasks

if TYPE_CHECKING:
    from attar.graphs.sources import GraphSource


def looks_like(data: str) -> bool:
    """Whether a name or a folder is of a set of graphs: of OGB, or in the form of TU sets."""
    path = Path(data)
    if data.startswith("ogbg-") or (path / "raw" / "num-node-list.csv.gz").is_file():
        return True
    if (path.parent / f"{path.name}_A.txt").is_file():
        return True
    return any(any(path.glob(form)) for form in ("*_A.txt", "raw/*_A.txt", "*/raw/*_A.txt"))


@dataclass(frozen=True, kw_only=True)
class Reading(tasks.Reading):
    """How graphs are read."""

    split_seed: int = 0
    """Draws the split of a set that came without one: a fifth for testing, a tenth of the rest for validation."""

    def load(self, data: Any) -> "GraphSource":
        """The source that data stand for."""
        from attar.graphs.sources import load

        return load(data, split_seed=self.split_seed)

    def describe(self, source: "GraphSource") -> str:
        """Classes with their graphs."""
        lines = [str(source), f"scored by {source.metric}, fingerprint {source.fingerprint}"]
        parts = ("train", "validation", "test")
        counts = [getattr(source, part).labels.bincount(minlength=len(source.classes)).tolist() for part in parts]
        for name, *of_class in zip(source.classes, *counts, strict=True):
            train, validation, test = of_class
            lines.append(f"  {name:<24} {train:,} training graphs, {validation:,} to validate and {test:,} to test on")
        return "\n".join(lines)
