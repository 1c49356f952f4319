"""A calibrated classifier on disk and in memory: what the calibrator learned, and where the classifier lies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from attar.classifiers.artefact import (
    CALIBRATED,
    KIND,
    SCHEMA,
    WHITENING,
    Build,
    Opened,
    Origin,
    pipeline_of,
    read_form,
    read_origin,
    read_transform,
    takes,
    write_form,
)
from attar.classifiers.calibration.calibrated import calibrated
from attar.classifiers.calibration.calibration import Calibration
from attar.classifiers.calibration.opening import Form, Link
from attar.classifiers.calibration.pictures import TITLES
from attar.classifiers.encoder import FILE as ENCODER
from attar.classifiers.encoder import Encoder, read_encoder
from attar.core import artefact as core
from attar.core import store
from attar.core.card import SCORES, escaped, made, model_header, score_table
from attar.core.cell import Beside, Cell, Measure
from attar.core.errors import InputError
from attar.core.front import known_scores
from attar.core.jsonfiles import number
from attar.core.pictures import KEPT, kept_in, links
from attar.core.registry import find
from attar.core.score import Better, Score
from attar.images.data.whiten import Transform

LEARNED = "calibrator.safetensors"
PREVIEW = "preview.png"
UNCALIBRATED, RIVAL = "uncalibrated", "ts"
"""What a calibrated classifier is compared with."""
MEASURES: dict[str, tuple[str, str, Better]] = {
    "ece": ("calibration error (ECE, 15 bins)", "%", "lower"),
    "nll": ("negative log-likelihood", "nats", "lower"),
    "accuracy": ("accuracy", "%", "higher"),
}
"""The measures on the test images in words, with the unit and the direction that is better."""


@dataclass(frozen=True)
class CalibratedClassifier(Opened):
    """A classifier with a calibrator of its logits. The weights of the classifier stay where they are."""

    network: nn.Module
    """The classifier and its calibrator: log-probabilities of images."""
    link: Link
    """Where the classifier lies."""
    method: Calibration
    calibrator: Mapping[str, Tensor]
    """What the calibrator has learned."""
    rows: dict[str, Any]
    """The images that it was fitted to: which, how many, of which data, and their digest."""
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    transform: Transform
    group: tuple[int, ...] | None
    """The class of each logit, if the logits are subclasses."""
    origin: Origin
    scores: dict[str, Any] = field(default_factory=dict)
    """Measures on the test images, each of the calibrated classifier, of the uncalibrated one, and of `ts`."""
    diagram: bytes | None = field(default=None, repr=False)
    """Reliability diagram on the test images, as PNG."""
    folder: Path | None = field(default=None, compare=False)
    """Folder in which it was last saved."""
    encoder: Encoder | None = field(default=None, compare=False)
    """What makes network input of data that are not images."""

    files = (LEARNED, WHITENING, ENCODER, core.ARTEFACT, core.CARD, SCORES, PREVIEW, KEPT)

    @property
    def title(self) -> str:
        """A title of a few words: the source and the method."""
        return f"A classifier of {self.origin.source}, calibrated by {self.origin.method}"

    @property
    def learned(self) -> dict[str, Tensor]:
        """What the calibrator has learned."""
        return dict(self.calibrator)

    def picture(self) -> bytes | None:
        """The reliability diagram, if the test images were read."""
        return self.diagram

    def save(self, folder: str | Path) -> Self:
        """Write the calibrator to a folder and return the saved copy. Each file is written whole or not at all."""
        folder = Path(folder)
        store.make_folder(folder)
        tensors = {name: tensor.contiguous() for name, tensor in self.calibrator.items()}
        digest = store.write_tensors(folder / LEARNED, tensors, {"schema": SCHEMA})
        facts = {
            core.FORM: CALIBRATED,
            "digest": digest,
            "classifier": self.link.to_json(folder),
            "rows": self.rows,
            **write_form(folder, self),
            "scores": self.scores,
        }
        if self.diagram is not None:
            store.write_bytes(folder / PREVIEW, self.diagram)
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path, *, build: Build | None = None) -> Self:
        """Read what `save` wrote, and the classifier.

        Args:
            folder: The folder.
            build: A function that makes the classifier, if it was a module of the caller's own.

        Raises:
            InputError: There is no calibrator, a file is damaged, or the classifier has moved or was changed.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "calibrated classifier")
        if facts.get(core.FORM) != CALIBRATED:
            raise InputError(f"{folder} holds a classifier without a calibrator. Read it with attar.open_artefact.")
        learned, _ = core.read_tensors(folder / LEARNED, facts["digest"])
        origin = read_origin(facts)
        method = find(origin.method, "calibrate").load().from_json(origin.settings)
        transform, link = read_transform(folder, facts), Link.from_json(facts["classifier"], folder)
        shape, classes, group = read_form(facts)
        base = link.opened(Form(origin.source, shape, classes, transform), build=build)
        preview = folder / PREVIEW
        return cls(
            network=calibrated(base, method, learned, transform),
            link=link,
            method=method,
            calibrator=learned,
            rows=_checked_rows(facts["rows"]),
            classes=classes,
            shape=shape,
            transform=transform,
            group=group,
            origin=origin,
            scores=_checked_scores(facts["scores"]),
            diagram=preview.read_bytes() if preview.is_file() else None,
            folder=folder,
            encoder=read_encoder(folder, facts),
        )

    def to_hub(self, name: str, **how: Any) -> str:
        """Upload the calibrator to the Hugging Face hub as `user/name`, if its classifier lies there too.

        Args:
            name: `user/name`; made if it is not there.
            how: As of every artefact: private, license, token, message.

        Raises:
            InputError: Its classifier lies on this machine only.
        """
        if self.link.local:
            raise InputError(
                f"the classifier of this calibrator ({self.link.told}) is not on the hub. Push that first, and "
                "calibrate it by its name there (--classifier user/name)."
            )
        return super().to_hub(name, **how)

    @property
    def first_scores(self) -> tuple[Cell, ...]:
        """The calibration error on the test images."""
        return tuple(self.cells())

    def shown(self, images: int = 10) -> core.Shown:
        """What was calibrated, on which images, and the scores before and after."""
        size = self.origin.student.parameters
        facts = {"classifier": self.link.told, "calibrated on": self._rows_told, **self._learned_told}
        drawn = self.picture()
        return core.Shown(
            size=f"a classifier of {size:,} parameters",
            count=size,
            facts={**facts, "classes": str(len(self.classes))},
            scores=self.first_scores,
            pictures=(
                *(() if drawn is None else (core.Picture("reliability diagram", drawn),)),
                *kept_in(self.folder, TITLES),
            ),
        )

    @property
    def _rows_told(self) -> str:
        return f"{self.rows['count']:,} {self.things} of {self.rows['source']} ({self.rows['which']})"

    @property
    def _learned_told(self) -> dict[str, str]:
        return {name: f"{value:.4g}" for name, value in self.method.told(self.calibrator).items()}

    def cells(self) -> Iterator[Cell]:
        """The calibration error on the test images, with the other measures and the rivals beside it."""
        if "ece" not in self.scores:
            return
        further = {}
        for name, (words, unit, better) in MEASURES.items():
            for who, value in self.scores[name].items():
                if name == "ece" and who != "calibrated":
                    continue
                if name != "ece":
                    further[words if who == "calibrated" else f"{words}, {who}"] = Measure.of([[value]], unit, better)
        rivals = {who: value for who, value in self.scores["ece"].items() if who != "calibrated"}
        column, unit, better = MEASURES["ece"]
        yield Cell(
            Score(self.scores["ece"]["calibrated"], unit, better),
            column=column,
            further=further,
            beside=tuple(Beside(who, Score(value, unit, better)) for who, value in rivals.items()),
        )

    def card(self, scores: list[Cell]) -> str:
        """The text of README.md."""
        cells = known_scores(self, scores)
        picture = f"\n![Reliability diagram on the test {self.things}]({PREVIEW})\n" if self.diagram is not None else ""
        note = f"\nNote: {escaped(self.rows['note'])}\n" if "note" in self.rows else ""
        return f"""{model_header("calibration", pipeline=pipeline_of(self), made=self, scores=scores)}
# {escaped(self.title)}

{escaped(self.summary)}{takes(self)}
{note}{picture}{links(self.folder, TITLES)}
It holds no weights: the classifier is {escaped(self.link.told)} (digest `{self.link.digest}`).

```python
import attar

classifier = attar.open_artefact("FOLDER")
{self._example}
```
{score_table(cells)}
{made(self.origin)}
"""

    @property
    def _example(self) -> str:
        if self.encoder:
            return self.encoder.example
        forward = f"classifier.transform.forward(pixels))  # uint8, {list(self.shape)} each"
        return f"probabilities = classifier.predict_proba({forward}"

    def __str__(self) -> str:
        told = [f"{self.link.told}, calibrated by {self.origin.method} on {self._rows_told}"]
        told += [f"{name} {value}" for name, value in self._learned_told.items()]
        if "ece" in self.scores:
            values = self.scores["ece"]
            told += [f"ECE {values['calibrated']:.2f} %, uncalibrated {values[UNCALIBRATED]:.2f} %"]
        return "; ".join(told)


def _checked_rows(rows: Any) -> dict[str, Any]:
    """What is said of the calibration rows, if it is what `save` writes."""
    texts = [rows["source"], rows["which"], rows.get("note", "")]
    if not (type(rows["count"]) is int and all(isinstance(text, str) for text in texts)):
        raise ValueError(f"rows are {rows}")
    return dict(rows)


def _checked_scores(scores: Any) -> dict[str, Any]:
    """Numbers by measure and by what was measured, if that is what there is."""
    measured = [scores[name] for name in MEASURES] if "ece" in scores else []
    whole = all(number(value) is not None for values in measured for value in values.values())
    if not whole or any(not {"calibrated", UNCALIBRATED} <= values.keys() for values in measured[:1]):
        raise ValueError(f"scores are {scores}")
    return dict(scores)
