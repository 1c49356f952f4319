"""A trained encoder on disk and in memory: its weights, its heads, and what it remembers of its training samples."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core import artefact as core
from attar.core import registry, store
from attar.core.card import SCORES, escaped, made, model_header, score_table
from attar.core.cell import Cell
from attar.core.errors import InputError
from attar.core.pictures import KEPT, kept_in, links
from attar.embeddings.encoders import AT_ONCE, Encoder, encoder_built
from attar.embeddings.sources import Standard, check_finite_rows
from attar.images.data.pixels import from_numbers
from attar.images.data.whiten import Transform, whitening_of
from attar.images.networks.architecture import parameter_count

SCHEMA = 1
KIND = "embeddings"
WEIGHTS, REMEMBERED, WHITENING = "encoder.safetensors", "remembered.safetensors", "whitening.safetensors"
Build = Callable[[], nn.Module]
TEXT = "text"
"""The head that encodes texts, of methods for image-text pairs."""


@dataclass(frozen=True)
class TrainedEncoder(core.Shareable):
    """An encoder with its heads. `transform` gives features, in scikit-learn's manner."""

    encoder: Encoder
    heads: nn.ModuleDict
    method: Any
    """Settings of the method that trained it, resolved."""
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    labelled: str
    """How many labels a training sample had: none, one or several."""
    normalise: Transform | Standard
    """Samples to network input."""
    remembered: dict[str, Tensor]
    """What the method remembers of each training sample, such as its temperature."""
    origin: core.Origin
    samples: int = 0
    """Number of training samples."""
    folder: Path | None = field(default=None, compare=False)
    """Folder in which it was last saved."""

    kind = KIND
    repo_type = "model"
    files = (WEIGHTS, REMEMBERED, WHITENING, core.ARTEFACT, core.CARD, SCORES, KEPT)

    @property
    def title(self) -> str:
        """A title of a few words: the source and the method."""
        return f"An encoder of {self.origin.source}, by {self.origin.method}"

    @property
    def learned(self) -> dict[str, Tensor]:
        """The weights of encoder and heads, and the statistics of their norms."""
        return {**self._tensors(), **{f"remembered.{name}": value for name, value in self.remembered.items()}}

    def _tensors(self) -> dict[str, Tensor]:
        parts = {"encoder": self.encoder, "heads": self.heads}
        return {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}

    @property
    def parameters(self) -> int:
        """Number of parameters of the encoder, without heads."""
        return parameter_count(self.encoder)

    # ------------------------------------------------------------------------------------------------------- its use

    def transform(self, samples: Any) -> Float[np.ndarray, "sample width"]:
        """The features of samples.

        Args:
            samples: Images `[sample, height, width]`, with one or three channels before or after height and width, as
                uint8 or floats in [0, 1]; or rows of numbers, as the training table had them.

        Raises:
            InputError: They are of another shape than the training samples, or not finite.
        """
        return self._passed(samples, lambda features: features)

    def outputs(self, samples: Any) -> dict[str, Float[np.ndarray, "..."]]:
        """What the heads say of samples, by name: `logits`, and what else the method gives, such as `uncertainty`.

        Args:
            samples: As for `transform`.

        Raises:
            InputError: As for `transform`.
        """
        features = torch.from_numpy(self.transform(samples))
        with torch.no_grad():
            parts = [self.method.outputs(part, self.heads) for part in features.split(AT_ONCE)]
        return {name: torch.cat([part[name].float() for part in parts]).numpy() for name in parts[0]}

    def predict_proba(self, samples: Any) -> Float[np.ndarray, "sample classes"]:
        """The probability of each class; with several labels a sample, that of each label.

        Raises:
            InputError: There is no classifier on top, or as for `transform`.
        """
        found = self.outputs(samples)
        if "logits" not in found:
            raise InputError(f"{self.title} has no classifier. Train one with --linear.epochs 100.")
        logits = torch.from_numpy(found["logits"])
        share = logits.sigmoid() if self.labelled == "several" else logits.softmax(dim=1)
        return share.numpy()

    # ------------------------------------------------------------------------------------------- images and texts

    @property
    def paired(self) -> bool:
        """Whether it was trained on image-text pairs, and so has a text encoder."""
        return TEXT in self.heads

    def image_features(self, samples: Any) -> Float[np.ndarray, "sample d"]:
        """Images in the space that they share with texts, as rows of length one.

        Args:
            samples: As for `transform`.

        Raises:
            InputError: There is no text encoder, or as for `transform`.
        """
        self._check_paired()
        return self._passed(samples, lambda features: F.normalize(self.heads["projector"](features).float(), dim=1))

    @torch.no_grad()
    def text_features(self, captions: Sequence[str]) -> Float[np.ndarray, "text d"]:
        """Texts in the space that they share with images, as rows of length one.

        Raises:
            InputError: There is no text encoder, or no text.
        """
        self._check_paired()
        if isinstance(captions, str) or not captions:
            raise InputError("texts must be several: give a list with one string or more.")
        parts = [captions[start : start + AT_ONCE] for start in range(0, len(captions), AT_ONCE)]
        found = torch.cat([self.heads[TEXT](part).float().cpu() for part in parts])
        return F.normalize(found, dim=1).numpy()

    @torch.no_grad()
    def pair_features(self, features: Tensor, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Images, of which these are the features, and texts in the space that they share."""
        texts, projector = torch.from_numpy(self.text_features(captions)), self.heads["projector"]
        place = next(projector.parameters()).device
        parts = [projector(part.to(place)).float().cpu() for part in features.split(AT_ONCE)]
        return F.normalize(torch.cat(parts), dim=1), texts

    def _check_paired(self) -> None:
        if not self.paired:
            raise InputError(f"{self.title} has no text encoder. Train one on image-text pairs, by clip or sogclr.")

    @torch.no_grad()
    def _passed(self, samples: Any, head: Callable[[Tensor], Tensor]) -> Any:
        unit = self.checked(samples)
        parts = [head(self.encoder(self.normalise.forward(part))).float() for part in unit.split(AT_ONCE)]
        return torch.cat(parts).numpy()

    def checked(self, samples: Any) -> Tensor:
        """Samples as a tensor, in the form in which the encoder normalises them.

        Raises:
            InputError: They are of another shape than the training samples, or not finite.
        """
        if isinstance(self.normalise, Standard):
            rows = torch.as_tensor(np.asarray(samples, dtype=np.float32))
            if rows.ndim != 2 or rows.shape[1:] != self.shape:
                raise InputError(f"samples have shape {tuple(rows.shape)}; give [sample, {self.shape[0]}].")
            check_finite_rows(rows, "the samples", [str(number) for number in range(self.shape[0])])
            return rows
        images = from_numbers(samples)
        if tuple(images.shape[1:]) != self.shape:
            raise InputError(f"images have shape {tuple(images.shape[1:])}, but the encoder takes {self.shape}.")
        return images

    # ------------------------------------------------------------------------------------------------------- on disk

    def save(self, folder: str | Path) -> Self:
        """Write the artefact to a folder and return the saved copy. Each file is written whole or not at all."""
        folder = Path(folder)
        store.make_folder(folder)
        whitening = getattr(self.normalise, "whitening", None)
        facts = {
            "digest": store.write_tensors(folder / WEIGHTS, self._tensors(), {"schema": SCHEMA}),
            "remembered": store.write_tensors(folder / REMEMBERED, self.remembered, None) if self.remembered else None,
            "whitening": store.write_tensors(folder / WHITENING, vars(whitening), None) if whitening else None,
            "encoder": self.encoder.name,
            "seen": self.encoder.facts,
            "heads": {name: head.facts for name, head in self.heads.items() if hasattr(head, "facts")},
            "classes": list(self.classes),
            "shape": list(self.shape),
            "labelled": self.labelled,
            "samples": self.samples,
            "mean": list(self.normalise.mean),
            "std": list(self.normalise.std),
            "tabular": isinstance(self.normalise, Standard),
            "origin": dataclasses.asdict(self.origin),
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path, *, build: Build | None = None) -> Self:
        """Read what `save` wrote.

        Args:
            folder: The folder.
            build: A function that makes the encoder, if it was a module of the caller's own.

        Raises:
            InputError: There is no encoder, a file is damaged, or only the caller can build the encoder.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "trained encoder")
        _check_forms(facts)
        tensors, _ = core.read_tensors(folder / WEIGHTS, facts["digest"])
        remembered: dict[str, Tensor] = {}
        if facts["remembered"]:
            remembered, _ = core.read_tensors(folder / REMEMBERED, facts["remembered"])
        shape, origin = tuple(facts["shape"]), core.Origin(**facts["origin"])
        normalise: Transform | Standard = Standard(tuple(facts["mean"]), tuple(facts["std"]))
        if not facts["tabular"]:
            whitened = facts["whitening"]
            whitening = whitening_of(core.read_tensors(folder / WHITENING, whitened)[0]) if whitened else None
            normalise = Transform(tuple(facts["mean"]), tuple(facts["std"]), whitening)
        encoder = encoder_built(facts["encoder"], shape, facts["seen"], normalise, build, folder)
        method = registry.find(origin.method, "train").load().from_json(origin.settings)
        heads = method.heads_of(encoder.width, len(facts["classes"]), facts["samples"], shape, facts.get("heads"))
        for part, module in {"encoder": encoder, "heads": heads}.items():
            module.load_state_dict(store.within(part, tensors))
        return cls(
            encoder=encoder.eval(),
            heads=heads.eval(),
            method=method,
            classes=tuple(facts["classes"]),
            shape=shape,
            labelled=facts["labelled"],
            normalise=normalise,
            remembered=remembered,
            origin=origin,
            samples=facts["samples"],
            folder=folder,
        )

    # ------------------------------------------------------------------------------------------------------- shown

    def shown(self, images: int = 10) -> core.Shown:
        """The size of the encoder, what it was trained on, and pictures of its last evaluation."""
        from attar.embeddings.pictures import TITLES

        facts = {"encoder": self.encoder.name or "a module of its maker's own", "features": f"{self.encoder.width:,}"}
        facts |= {"heads": ", ".join(self.heads)} if len(self.heads) else {}
        facts |= {"labels": self.labelled, "training samples": f"{self.samples:,}"}
        pictures = tuple(kept_in(self.folder, TITLES))
        return core.Shown(size=f"{self.parameters:,} parameters", count=self.parameters, facts=facts, pictures=pictures)

    def card(self, scores: list[Cell]) -> str:
        """The text of README.md."""
        return f"""{model_header("representation-learning", pipeline="feature-extraction", made=self, scores=scores)}
# {escaped(self.title)}

{self}

```python
import attar

encoder = attar.open_artefact("FOLDER")
features = encoder.transform(samples)  # samples: {self._taken}
```
{score_table(scores)}{self._pictured}
{made(self.origin)}
"""

    @property
    def _pictured(self) -> str:
        """The pictures of the last evaluation, for the card."""
        from attar.embeddings.pictures import TITLES

        return links(self.folder, TITLES)

    @property
    def _taken(self) -> str:
        if isinstance(self.normalise, Standard):
            return f"rows of {self.shape[0]} numbers"
        return f"uint8 images, {list(self.shape)} each"

    def __str__(self) -> str:
        heads = f", heads: {', '.join(self.heads)}" if len(self.heads) else ""
        return f"encoder: {self.parameters:,} parameters, {self.encoder.width:,} features{heads}"


FORMS: dict[str, type | tuple[type, ...]] = {
    "encoder": (str, type(None)),
    "seen": dict,
    "heads": dict,
    "classes": list,
    "shape": list,
    "labelled": str,
    "samples": int,
    "mean": list,
    "std": list,
}
ITEMS: dict[str, type | tuple[type, ...]] = {"classes": str, "shape": int, "mean": (int, float), "std": (int, float)}
"""What the entries of a description are, and the items of its lists."""


def _check_forms(facts: dict[str, Any]) -> None:
    """Check that a description says what an encoder is built from.

    Raises:
        TypeError: An entry is of another type.
        ValueError: It is no shape of a sample.
    """
    held = {name: [facts.get(name, {})] for name in FORMS} | {f"{name} has an item that": facts[name] for name in ITEMS}
    for (name, found), form in zip(held.items(), [*FORMS.values(), *ITEMS.values()], strict=True):
        if not all(isinstance(one, form) for one in found):
            raise TypeError(f"{name} is of another type")
    if len(facts["shape"]) not in (1, 3) or min(facts["shape"]) < 1:
        raise ValueError(f"shape is {facts['shape']}")
