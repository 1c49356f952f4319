"""Edited images on disk and in memory: the images before and after, their prompts, and their scores."""

import builtins
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from attar.core import artefact as core
from attar.core import card as cards
from attar.core import store
from attar.core.artefact import Origin as Origin
from attar.core.card import SCORES
from attar.core.cell import Cell
from attar.core.errors import shortened
from attar.samplers.sources import pixels_of
from attar.scenes.artefact import EDITED, KIND, PREVIEW, SCHEMA

TENSORS = "edited.safetensors"
SHOWN = 10
"""Images in the preview."""
LABEL = 30
"""Characters of a prompt in the preview."""
TOLD = {
    "target_accuracy": "taken for the target, in %",
    "target_accuracy_before": "the same before the edit",
    "spread": "spread within the edited images (rms)",
    "spread_before": "the same before the edit",
    "rms_to_source": "distance from the images before (rms)",
    "direction": "direction score",
}
"""What was measured, in words."""


@dataclass(frozen=True)
class EditedImages(core.Shareable):
    """Images of one class that were turned into another."""

    edited: Float[Tensor, "image channel height width"]
    """Between -1 and 1, or a little beyond."""
    before: Float[Tensor, "image channel height width"]
    mask: Float[Tensor, "image height width"] | None
    """Where the edit could change something; None: everywhere."""
    classes: tuple[str, ...]
    source_prompt: str
    target_prompt: str
    origin: Origin
    scores: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)

    kind = KIND
    repo_type = "model"
    files = (TENSORS, core.ARTEFACT, core.CARD, PREVIEW, SCORES)

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return (
            f"Images of {self.origin.source}, from {shortened(self.source_prompt)} to {shortened(self.target_prompt)}"
        )

    @property
    def learned(self) -> dict[str, Tensor]:
        """The edited images."""
        return {"edited": self.edited}

    @property
    def bytes(self) -> int:
        """Size of the edited images in bytes."""
        return self.edited.numel() * self.edited.element_size()

    @property
    def images(self) -> UInt8[Tensor, "image channel height width"]:
        """The edited images as 8-bit pixels."""
        return pixels_of(self.edited)

    def save(self, folder: str | Path) -> Self:
        """Write it to a folder and return the saved copy. Each file is written whole or not at all.

        Raises:
            InputError: The folder cannot be written to.
        """
        folder = Path(folder)
        store.make_folder(folder)
        picture = self.picture()
        if picture is not None:
            store.write_bytes(folder / PREVIEW, picture)
        tensors = {"edited": self.edited, "before": self.before}
        tensors |= {} if self.mask is None else {"mask": self.mask}
        facts = {
            core.FORM: EDITED,
            "digest": store.write_tensors(folder / TENSORS, tensors, {}),
            "classes": list(self.classes),
            "source_prompt": self.source_prompt,
            "target_prompt": self.target_prompt,
            "origin": dataclasses.asdict(self.origin),
            "scores": self.scores,
        }
        return self.with_facts(folder, SCHEMA, facts)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder holds no edited images, or a file is missing, damaged or altered.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "edited images")
        tensors, _ = core.read_tensors(folder / TENSORS, facts["digest"])
        return cls(
            edited=tensors["edited"],
            before=tensors["before"],
            mask=tensors.get("mask"),
            classes=tuple(facts["classes"]),
            source_prompt=facts["source_prompt"],
            target_prompt=facts["target_prompt"],
            origin=Origin(**facts["origin"]),
            scores=facts["scores"],
            folder=folder,
        )

    def picture(self) -> builtins.bytes | None:
        """Images before and after as PNG; None of images that are neither grey nor in colour."""
        if self.edited.shape[1] not in (1, 3):
            return None
        from attar.images.preview import preview

        count = min(SHOWN, len(self.edited))
        pixels = pixels_of(torch.cat([self.before[:count], self.edited[:count]])).permute(0, 2, 3, 1)
        labels = torch.arange(2).repeat_interleave(count)
        prompts = shortened(self.source_prompt, LABEL), shortened(self.target_prompt, LABEL)
        return preview(pixels.numpy(), labels.numpy(), prompts)

    def shown(self, images: int = 10) -> core.Shown:
        """Numbers, scores and pictures."""
        drawn = self.picture()
        return core.Shown(
            size=f"{len(self.edited)} images",
            count=len(self.edited),
            bytes=self.bytes,
            facts={TOLD[name]: f"{value:.4g}" for name, value in self.scores.items() if name in TOLD},
            pictures=() if drawn is None else (core.Picture("before and after", drawn),),
        )

    def card(self, scores: list[Cell]) -> str:
        """The README of the images."""
        rows = [(TOLD[name], f"{value:.4g}") for name, value in self.scores.items() if name in TOLD]
        table = f"\n{cards.table(('', 'value'), rows)}\n" if rows else ""
        return f"""{cards.model_header("image-editing", made=self, scores=scores, split=None)}
# {cards.escaped(self.title)}

{cards.escaped(str(self))}.

![before and after](preview.png)
{table}{cards.score_table(scores)}
```python
import attar

made = attar.open_artefact(".")
made.edited, made.before  # [image, channel, height, width], between -1 and 1
```

{cards.made_again(self.origin)}

Made with: {cards.machine_line(self.origin.machine)}. Data fingerprint: `{cards.escaped(self.origin.fingerprint)}`.

The images derive from {cards.escaped(self.origin.source)}. The terms of that data also apply to them.
"""

    def __str__(self) -> str:
        found = self.scores.get("target_accuracy")
        source, target = shortened(self.source_prompt), shortened(self.target_prompt)
        told = "" if found is None else f"; {found:.1f} % are taken for {target}"
        return f"{len(self.edited)} images of {source}, edited into {target}{told}"
