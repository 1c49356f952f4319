"""A distilled student on disk and in memory: its parameters, where it came from, and what it scored."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.subclasses import Grouping
from attar.core import store
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import flat
from attar.images.networks import Architecture, multiply_adds, parameter_count
from attar.images.pretrained import network_named
from attar.images.whiten import Transform

SCHEMA = 1
WEIGHTS = "student.safetensors"
FILES = [WEIGHTS, "artefact.json", "README.md"]
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Size:
    """How large a network is."""

    parameters: int
    multiply_adds: int
    """Of one image, in convolutions and linear layers."""

    @classmethod
    def of(cls, network: nn.Module, shape: tuple[int, int, int]) -> Self:
        """A network's size for images of this shape."""
        return cls(parameter_count(network), multiply_adds(network, shape))


@dataclass(frozen=True)
class Origin:
    """Where a student came from."""

    source: str
    fingerprint: str
    method: str
    settings: dict[str, Any]
    seed: int
    student: Size
    teacher: Size | None
    machine: dict[str, Any]

    @classmethod
    def of(cls, pair: Any, method: Any, runtime: Runtime, student: nn.Module, teacher: nn.Module | None) -> Self:
        """The origin of what `method` makes of a `Pair`."""
        shape = pair.source.shape
        return cls(
            source=pair.source.name,
            fingerprint=pair.source.fingerprint,
            method=method.name,
            settings=method.to_json(),
            seed=runtime.seed,
            student=Size.of(student, shape),
            teacher=None if teacher is None else Size.of(teacher, shape),
            machine=runtime.describe(),
        )


@dataclass(frozen=True)
class DistilledClassifier:
    """A student, without what was learned beside it."""

    network: nn.Module
    student: str | None
    """What builds it, by name; none for a module of the caller's own."""
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    transform: Transform
    group: tuple[int, ...] | None
    """The class of each logit, where those are subclasses."""
    origin: Origin
    scores: dict[str, Any] = field(default_factory=dict)
    """Accuracies on the test images, in per cent: `student`, `teacher`, `kept`."""

    @property
    def labels_are_subclasses(self) -> bool:
        """Whether the data's labels are what its logits stand for (and not classes over subclasses that it found)."""
        return self.group is None or len(self.group) == len(self.classes)

    def logits(self, images: Float[Tensor, "sample channel height width"]) -> Float[Tensor, "sample classes"]:
        """Class logits of network input."""
        with torch.no_grad():
            found = self.network(images)
        found = getattr(found, "logits", found)
        return found if self.group is None else Grouping(self.group).class_logits(found)

    def save(self, folder: str | Path) -> "DistilledClassifier":
        """Write it to a folder, every file whole or not at all."""
        folder = Path(folder)
        store.make_folder(folder)
        if self.transform.whitening is not None:
            raise InputError("a student of whitened images cannot be saved; distill on images as they are.")
        digest = store.write_tensors(folder / WEIGHTS, self.network.state_dict(), {"schema": SCHEMA})
        facts = {
            "kind": "classifier",
            "schema": SCHEMA,
            "digest": digest,
            "student": self.student,
            "classes": list(self.classes),
            "shape": list(self.shape),
            "mean": list(self.transform.mean),
            "std": list(self.transform.std),
            "group": None if self.group is None else list(self.group),
            "origin": dataclasses.asdict(self.origin),
            "scores": self.scores,
        }
        store.write_json(folder / "artefact.json", facts)
        store.write_bytes(folder / "README.md", self.card().encode())
        return self

    @classmethod
    def load(cls, folder: str | Path, *, build: Build | None = None) -> "DistilledClassifier":
        """Read what `save` wrote.

        Args:
            folder: Where.
            build: Makes the network, where it was a module of the caller's own.

        Raises:
            InputError: No student there, a damaged file, or one whose network only its caller can build.
        """
        folder = Path(folder)
        facts = store.read_json(folder / "artefact.json") if (folder / "artefact.json").is_file() else None
        if not isinstance(facts, dict) or facts.get("kind") != "classifier":
            raise InputError(f"{folder} holds no distilled classifier.")
        if facts["schema"] > SCHEMA:
            raise InputError(f"{folder} was written by a newer attar; update it.")
        tensors, _ = store.read_tensors(folder / WEIGHTS)
        if store.digest_of(tensors, {"schema": SCHEMA}) != facts["digest"]:
            raise InputError(f"{folder / WEIGHTS} is not the file that artefact.json describes.")
        shape, group = tuple(facts["shape"]), facts["group"]
        outputs = len(facts["classes"]) if group is None else len(group)
        network = build() if build else _built(facts["student"], shape, outputs, folder)
        network.load_state_dict(tensors)
        origin = {**facts["origin"]}
        origin["student"] = Size(**origin["student"])
        origin["teacher"] = None if origin["teacher"] is None else Size(**origin["teacher"])
        return cls(
            network=network.eval(),
            student=facts["student"],
            classes=tuple(facts["classes"]),
            shape=shape,
            transform=Transform(tuple(facts["mean"]), tuple(facts["std"]), None),
            group=None if group is None else tuple(group),
            origin=Origin(**origin),
            scores=facts["scores"],
        )

    def picture(self) -> None:
        """A student has none."""

    def card(self) -> str:
        """Its README."""
        origin = self.origin
        settings = "\n".join(f"| {name} | {value} |" for name, value in flat(origin.settings))
        return f"""---
library_name: attar
pipeline_tag: image-classification
tags:
- knowledge-distillation
- attar
---
# A student of {origin.source}, by {origin.method}

{self}

```python
import attar

student = attar.open_artefact("FOLDER")
logits = student.logits(student.transform.forward(pixels))  # pixels: uint8, {list(self.shape)} each
```

| setting | value |
|---|---|
{settings}
| seed | {origin.seed} |
"""

    def __str__(self) -> str:
        lines = [f"student: {_told(self.origin.student)}{_percent(self.scores.get('student'))}"]
        if self.origin.teacher is not None:
            lines.append(f"teacher: {_told(self.origin.teacher)}{_percent(self.scores.get('teacher'))}")
        if "kept" in self.scores:
            lines.append(f"kept: {self.scores['kept']:.1f} %")
        return "\n".join(lines)


def _told(size: Size) -> str:
    return f"{size.parameters:,} parameters, {size.multiply_adds:,} multiply-adds an image"


def _percent(value: float | None) -> str:
    return "" if value is None else f", {value:.1f} % of the test images right"


def _built(student: str | None, shape: tuple[int, int, int], outputs: int, folder: Path) -> nn.Module:
    if student is None:
        raise InputError(f"the student in {folder} is a module of its maker's own; give build=, which makes one.")
    kind = network_named(student)
    return kind.build(shape, outputs, torch.Generator()) if isinstance(kind, Architecture) else kind(shape, outputs)
