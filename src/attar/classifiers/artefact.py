"""A distilled student on disk and in memory: its parameters, its origin, and its scores."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.classifiers.encoder import FILE as ENCODER
from attar.classifiers.encoder import Encoder, read_encoder, write_encoder
from attar.classifiers.subclasses import Grouping
from attar.core import artefact as core
from attar.core import store
from attar.core.card import SCORES, escaped, made, model_header, score_table
from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.pictures import KEPT, kept_in, links
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.images.classes import columns_of, listed
from attar.images.data.whiten import Transform, whitening_of
from attar.images.networks.architecture import device_of, multiply_adds, parameter_count
from attar.images.networks.converted import for_images_of
from attar.images.networks.outputs import choosing, logits_in
from attar.images.networks.preprocessing import Preprocessing
from attar.images.networks.pretrained import Classifier, Data, built_as, facts_of

SCHEMA = 1
KIND = "classifiers"
WEIGHTS = "student.safetensors"
WHITENING = "whitening.safetensors"
LARGEST = 10**6
"""Above which no input has a side."""
"""File with the whitening of the images, if they are whitened."""
NETWORK, CALIBRATED = "network", "calibrated"
"""The forms; a description that names none is of a network."""
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Size:
    """The size of a network."""

    parameters: int
    multiply_adds: int
    """Number of multiply-adds for one image, in convolutions and linear layers."""

    @classmethod
    def of(cls, network: nn.Module, shape: tuple[int, int, int]) -> Self:
        """The size of a network for images of this shape."""
        return cls(parameter_count(network), multiply_adds(network, shape))


@dataclass(frozen=True)
class Origin(core.Origin):
    """The origin of a student."""

    student: Size
    teacher: Size | None

    @classmethod
    def of(cls, pair: Any, method: Any, runtime: Runtime, student: nn.Module, teacher: nn.Module | None) -> Self:
        """The origin of the student that `method` makes from a `Pair`."""
        shape = pair.source.shape
        large = None if teacher is None else Size.of(teacher, shape)
        return cls.made(pair.data, method, runtime, student=Size.of(student, shape), teacher=large)


class Opened(core.Shareable):
    """A classifier that was read or made: a network for the images and classes of its data."""

    network: nn.Module
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    transform: Transform
    group: tuple[int, ...] | None
    origin: Origin
    encoder: Encoder | None
    """What makes network input of data that are not images; None of a classifier of images."""

    kind = KIND
    repo_type = "model"

    @property
    def things(self) -> str:
        """What it classifies, in the plural."""
        return self.encoder.things if self.encoder else "images"

    def seen(self, source: Any) -> Any:
        """A source as its network takes it."""
        return self.encoder.of(source) if self.encoder else source

    @property
    def labels_are_subclasses(self) -> bool:
        """Whether the data's labels are the subclasses of the logits.

        If not, they are classes over discovered subclasses.
        """
        return self.group is None or len(self.group) == len(self.classes)

    def of(self, source: Data, who: str, say: Callable[[str], None] | None = None) -> Self:
        """The same classifier for the images and classes of these data, to be a teacher there.

        Its outputs are put in the order of the data's classes by name, and images are transformed as it knows them.

        Args:
            source: The data.
            who: The classifier, for messages.
            say: Function that prints a line, which is told if the order of classes is assumed.

        Raises:
            InputError: It has other classes, takes images of another shape, or has outputs for subclasses of classes
                in another order.
        """
        told = getattr(source, "name", "the set")
        if self.shape != source.shape:
            raise InputError(
                f"{who} has {len(self.classes)} classes of {self.shape} {self.things}, but {told} has "
                f"{len(source.classes)} of {source.shape}."
            )
        network, group = self.network, self.group
        if self.classes != source.classes:
            if not self.labels_are_subclasses:
                raise InputError(
                    f"{who} has subclasses of {listed(self.classes)}, but {told} has "
                    f"{listed(source.classes)}. Give the data that it was trained on."
                )
            count = len(self.classes)
            columns = columns_of(self.classes, count, source.classes, who=who, data=told, say=say)
            network = choosing(copy.deepcopy(network), columns)
            if columns and self.group:
                group = tuple(self.group[column] for column in columns)
        network = for_images_of(network, source.transform, self.transform)
        changes = {"network": network, "classes": source.classes, "transform": source.transform, "group": group}
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def logits(self, images: Float[Tensor, "sample channel height width"]) -> Float[Tensor, "sample classes"]:
        """Class logits for network input."""
        with torch.no_grad():
            found = logits_in(self.network(images), "classifier")
        return found if self.group is None else Grouping(self.group).class_logits(found)

    def predict_proba(self, data: Any) -> Float[Tensor, "sample classes"]:
        """The probabilities of the classes.

        Args:
            data: Network input; of a classifier of rows, rows with the columns of its table: a DataFrame, a
                pyarrow.Table, a file, `Rows`, or the test rows of a source.

        Raises:
            InputError: A column is missing, or holds what it cannot hold.
        """
        return self.logits(self._input_of(data)).softmax(dim=1)

    def predict(self, data: Any) -> np.ndarray:
        """The name of the likeliest class of each sample; of rows, the label as its column has it.

        Args:
            data: As for `predict_proba`.

        Raises:
            InputError: As for `predict_proba`.
        """
        numbers = self.predict_proba(data).argmax(dim=1).cpu()
        return self.encoder.named(self.classes, numbers) if self.encoder else np.asarray(self.classes)[numbers.numpy()]

    def _input_of(self, data: Any) -> Float[Tensor, "sample channel height width"]:
        size = ", ".join(map(str, self.shape))
        if isinstance(data, Tensor):
            if self.encoder and (data.ndim != 4 or tuple(data.shape[1:]) != self.shape):
                raise InputError(f"data is a tensor of shape {list(data.shape)}; give a table, or [rows, {size}].")
            return data
        if self.encoder is None:
            raise InputError(f"data is of type {type(data).__name__}; give network input, a tensor [images, {size}].")
        return self.encoder.input_of(data).to(device_of(self.network))


@dataclass(frozen=True)
class DistilledClassifier(Opened):
    """A student, without the modules that were trained beside it."""

    network: nn.Module
    student: str | None
    """Name by which the network is built; None for a module of the caller's own."""
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    transform: Transform
    group: tuple[int, ...] | None
    """The class of each logit, if the logits are subclasses."""
    origin: Origin
    scores: dict[str, Any] = field(default_factory=dict)
    """Accuracies on the test images in per cent: `student`, `teacher`, `kept`. If an epoch was chosen: `epoch`, and
    `held_out_accuracy` or `held_out_f1` on held-out training images."""
    folder: Path | None = field(default=None, compare=False)
    """Folder in which it was last saved."""
    encoder: Encoder | None = field(default=None, compare=False)
    """What makes network input of data that are not images."""

    files = (WEIGHTS, WHITENING, ENCODER, core.ARTEFACT, core.CARD, SCORES, KEPT)

    @property
    def title(self) -> str:
        """A title of a few words: the source and the method."""
        if self.word == "classifier":
            return f"A classifier of {self.origin.source}"
        return f"A student of {self.origin.source}, by {self.origin.method}"

    @property
    def word(self) -> str:
        """What it is called: a student, or a classifier that was trained on its own."""
        return "classifier" if (self.origin.call or {}).get("verb") in ("train", "import") else "student"

    @property
    def learned(self) -> dict[str, Tensor]:
        """The weights, and the running statistics of the norms."""
        return dict(self.network.state_dict())

    def save(self, folder: str | Path) -> Self:
        """Write the artefact to a folder and return the saved copy. Each file is written whole or not at all."""
        folder = Path(folder)
        store.make_folder(folder)
        digest = store.write_tensors(folder / WEIGHTS, self.network.state_dict(), {"schema": SCHEMA})
        facts = {
            "digest": digest,
            "student": self.student,
            **write_form(folder, self),
            "scores": self.scores,
        }
        if seen := facts_of(self.network):
            facts["seen"] = seen
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path, *, build: Build | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            folder: The folder.
            build: A function that makes the network, if it was a module of the caller's own.

        Raises:
            InputError: There is no student, a file is damaged, or only the caller can build the network.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "distilled classifier")
        if facts.get(core.FORM, NETWORK) != NETWORK:
            raise InputError(f"{folder} holds no network, but what calibrates one. Read it with attar.open_artefact.")
        tensors, _ = core.read_tensors(folder / WEIGHTS, facts["digest"])
        shape, classes, group = read_form(facts)
        outputs = len(classes) if group is None else len(group)
        student, scores = _named(facts["student"]), _numbers(facts["scores"])
        network = build() if build else _built(student, shape, outputs, folder)
        network.load_state_dict(tensors)
        transform = read_transform(folder, facts)
        if isinstance(network, Classifier) and "seen" in facts:
            network.see_as(transform, Preprocessing.from_json(facts["seen"]["preprocessing"]))
        return cls(
            network=network.eval(),
            student=student,
            classes=classes,
            shape=shape,
            transform=transform,
            group=group,
            origin=read_origin(facts),
            scores=scores,
            folder=folder,
            encoder=read_encoder(folder, facts),
        )

    @property
    def first_scores(self) -> tuple[Cell, ...]:
        """The accuracy on the test images."""
        return tuple(_measured(self.scores))

    def shown(self, images: int = 10) -> core.Shown:
        """The sizes of the student and its teacher, their scores, and pictures of the last evaluation."""
        from attar.classifiers.calibration.pictures import TITLES

        student, teacher = self.origin.student, self.origin.teacher
        facts = {who: _told(size, self.things) for who, size in ((self.word, student), ("teacher", teacher)) if size}
        chosen = _chosen(self.scores, self.origin.settings, self.things)
        return core.Shown(
            size=f"{student.parameters:,} parameters",
            count=student.parameters,
            share=100 * student.parameters / teacher.parameters if teacher else None,
            facts={**facts, **({"kept": chosen[0]} if chosen else {}), "classes": str(len(self.classes))},
            scores=self.first_scores,
            pictures=tuple(kept_in(self.folder, TITLES)),
        )

    def card(self, scores: list[Cell]) -> str:
        """The text of README.md."""
        from attar.classifiers.calibration.pictures import TITLES

        tag = "knowledge-distillation" if self.encoder is None or self.word == "student" else self.encoder.tag
        return f"""{model_header(tag, pipeline=pipeline_of(self), made=self, scores=scores)}
# {escaped(self.title)}

{self}{takes(self)}

```python
import attar

{self._example}
```
{score_table(scores)}{links(self.folder, TITLES)}
{made(self.origin)}
"""

    @property
    def _example(self) -> str:
        if self.encoder:
            return f'classifier = attar.open_artefact("FOLDER")\n{self.encoder.example}'
        return f"""{self.word} = attar.open_artefact("FOLDER")
logits = {self.word}.logits({self.word}.transform.forward(pixels))  # pixels: uint8, {list(self.shape)} each"""

    def __str__(self) -> str:
        sizes = ((self.word, "student", self.origin.student), ("teacher", "teacher", self.origin.teacher))
        told = [
            f"{word}: {_told(size, self.things)}{_percent(self.scores.get(who), self.things)}"
            for word, who, size in sizes
            if size
        ]
        kept = [f"kept: {self.scores['kept']:.1f} %"] if "kept" in self.scores else []
        return "\n".join([*told, *kept, *_chosen(self.scores, self.origin.settings, self.things)])


class StoredClassifier(core.Stored, Opened):
    """What lies in a folder of this kind: a network, or what calibrates a network that lies elsewhere."""

    forms = MappingProxyType(
        {
            NETWORK: "attar.classifiers.artefact:DistilledClassifier",
            CALIBRATED: "attar.classifiers.calibration.artefact:CalibratedClassifier",
        }
    )


def read_form(facts: Mapping[str, Any]) -> tuple[tuple[int, int, int], tuple[str, ...], tuple[int, ...] | None]:
    """The shape of what a classifier reads, the names of its classes, and the class of each logit of subclasses.

    Raises:
        ValueError: `artefact.json` has something else in their place.
    """
    shape, classes, group = facts["shape"], facts["classes"], facts["group"]
    if not (len(shape) == 3 and all(type(size) is int and 0 < size < LARGEST for size in shape)):
        raise ValueError(f"shape is {shape}")
    if not (classes and all(isinstance(name, str) for name in classes)):
        raise ValueError(f"classes are {classes}")
    if group is not None and not all(type(one) is int and 0 <= one < len(classes) for one in group):
        raise ValueError(f"group is {group}")
    return (shape[0], shape[1], shape[2]), tuple(classes), None if group is None else tuple(group)


def _named(student: Any) -> str | None:
    """The name of a network in `artefact.json`; none of a module of the caller's own."""
    if student is None or isinstance(student, str):
        return student
    raise ValueError(f"student is {student}")


def _numbers(scores: Any) -> dict[str, Any]:
    """The scores in `artefact.json`."""
    if all(type(value) in (int, float) for value in scores.values()):
        return dict(scores)
    raise ValueError(f"scores are {scores}")


def write_form(folder: Path, made: Opened) -> dict[str, Any]:
    """Write what a classifier is fed through, and return what `artefact.json` says of its form and origin."""
    return {
        "classes": list(made.classes),
        "shape": list(made.shape),
        **write_transform(folder, made.transform),
        **write_encoder(folder, made.encoder),
        "group": None if made.group is None else list(made.group),
        "origin": dataclasses.asdict(made.origin),
    }


def read_origin(facts: Mapping[str, Any]) -> Origin:
    """The origin that `artefact.json` tells."""
    found = {**facts["origin"]}
    sizes = {who: None if found[who] is None else Size(**found[who]) for who in ("student", "teacher")}
    return Origin(**found | sizes)


def write_transform(folder: Path, transform: Transform) -> dict[str, Any]:
    """Write the whitening of a transform, if it has one; return what `artefact.json` says of the transform."""
    whitening = transform.whitening
    digest = None if whitening is None else store.write_tensors(folder / WHITENING, vars(whitening), None)
    return {"mean": list(transform.mean), "std": list(transform.std), "whitening": digest}


def read_transform(folder: Path, facts: Mapping[str, Any]) -> Transform:
    """The inverse."""
    digest = facts.get("whitening")
    whitening = whitening_of(core.read_tensors(folder / WHITENING, digest)[0]) if digest else None
    return Transform(tuple(facts["mean"]), tuple(facts["std"]), whitening)


def takes(made: Opened) -> str:
    """What a classifier takes and answers, as a paragraph of its card; empty of images."""
    return f"\n\n{escaped(made.encoder.told)}" if made.encoder else ""


def pipeline_of(made: Opened) -> str:
    """The hub's word for what a classifier is for."""
    return made.encoder.pipeline if made.encoder else "image-classification"


def _told(size: Size, things: str) -> str:
    return f"{size.parameters:,} parameters, {size.multiply_adds:,} multiply-adds per {things.removesuffix('s')}"


def _measured(scores: dict[str, Any]) -> Iterator[Cell]:
    """The accuracy on the test images, compared with the teacher's, as a score."""
    if "student" in scores:
        full = Score(scores["teacher"]) if "teacher" in scores else None
        yield Cell(Score(scores["student"]), column="accuracy", full=full, whole="its teacher")


def _percent(value: float | None, things: str) -> str:
    return "" if value is None else f", {value:.1f} % of the test {things} correct"


def _chosen(scores: dict[str, Any], settings: dict[str, Any], things: str) -> list[str]:
    """Which epoch was kept, if it was chosen."""
    if "epoch" not in scores:
        return []
    by = {"accuracy": "right", "f1": "F1"}[settings["keep"]]
    found = scores[f"held_out_{settings['keep']}"]
    return [f"epoch {scores['epoch']} of {settings['epochs']}: {found:.1f} % {by} on held-out training {things}"]


def _built(student: str | None, shape: tuple[int, int, int], outputs: int, folder: Path) -> nn.Module:
    if student is None:
        raise InputError(
            f"the student in {folder} is a module of its maker's own. Give build=, a function that makes the module."
        )
    return built_as(student, shape, outputs)
