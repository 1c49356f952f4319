"""Reading labelled graphs: the settings, and the description of a source."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attar.core import tasks

if TYPE_CHECKING:
    from attar.graphs.sources import GraphSource


def looks_like(data: str) -> bool:
    """Whether a name or a folder is that of a set of graphs, of OGB or in the TU format."""
    path = Path(data)
    if data.startswith("ogbg-") or (path / "raw" / "num-node-list.csv.gz").is_file():
        return True
    if (path.parent / f"{path.name}_A.txt").is_file():
        return True
    return any(any(path.glob(form)) for form in ("*_A.txt", "raw/*_A.txt", "*/raw/*_A.txt"))


@dataclass(frozen=True, kw_only=True)
class Reading(tasks.Reading):
    """Settings of reading graphs."""

    split_seed: int = 0
    """Seed of the split of a set that came without one: a fifth for testing, a tenth of the rest for validation."""

    def load(self, data: Any) -> "GraphSource":
        """Load the source that `data` names."""
        from attar.graphs.sources import load

        return load(data, split_seed=self.split_seed)

    def describe(self, source: "GraphSource") -> str:
        """A description of the source: its classes with their numbers of graphs."""
        lines = [str(source), f"scored by {source.metric}, fingerprint {source.fingerprint}"]
        parts = ("train", "validation", "test")
        counts = [getattr(source, part).labels.bincount(minlength=len(source.classes)).tolist() for part in parts]
        for name, *of_class in zip(source.classes, *counts, strict=True):
            train, validation, test = of_class
            lines.append(f"  {name:<24} {train:,} training graphs, {validation:,} validation and {test:,} test graphs")
        return "\n".join(lines)
