"""HeLlO: a projector of a megabyte or two that labels images during training, in place of gigabytes of soft labels.

The images are RDED's. The projector is a frozen image encoder with low-rank deltas. It is fitted on the real images to
the mean logits of weak teachers, which are one network at several stages of its training. Prefer it if stored labels
are larger than the images; on a thousand classes they are forty times as large. At 50 images per class stored labels
still score higher in the paper's tables.
Yu, Liu, Chen, Ye and Wang, Heavy Labels Out! Dataset Distillation with Label Space Lightening, ICCV 2025,
arXiv:2408.08201. No code was released; "ours" marks what no source says.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.selection import labels_of
from attar.core.settings import Hidden, Range
from attar.core.state import rebuilt
from attar.core.training import half_cosine, next_rows, set_lr
from attar.images import layout
from attar.images.artefact import CondensedImages, Origin
from attar.images.condense.coresets import unit_pixels
from attar.images.condense.rded import RDED, Patches, Places, cut, tiled
from attar.images.data.pixels import eight_bits
from attar.images.labels.captions import CAPTION, TinyClip
from attar.images.labels.encoders import Encoder, Head, encoder_for
from attar.images.labels.lowrank import Factors, Form, Storage, adapt_, layers_of
from attar.images.labels.projector import Base, HeadKind, Labeller, Projector, match_
from attar.images.networks.blocks import Logits
from attar.images.sources import ImageSource
from attar.images.stages import spaced, stage_name, trained_stages
from attar.images.targets import squared_error
from attar.images.views.crops import crop_and_flip

MATCHED = 512
"""Number of real images on which scale and offset are matched before the fit."""
FITTED = 1000
"""Smallest default number of mini-batches of the fit."""


@dataclass
class Fitting:
    """A projector during its fit, and the images, which may be updated after the fit."""

    factors: Factors
    optimizer: torch.optim.AdamW
    order: Tensor
    images: Tensor
    patches: Tensor
    """The patches of the current class, in [0, 1]."""
    patch_optimizer: torch.optim.Adam
    wanted: Tensor
    """The encoder's features of the patches before they were scaled down."""
    done: int = 0
    labeller: Labeller = rebuilt(default=None)
    teachers: list[nn.Module] = rebuilt(default_factory=list)
    source: Any = rebuilt(default=None)
    places: list[Places] = rebuilt(default_factory=list)
    encoder: Encoder = rebuilt(default=None)
    head: Tensor = rebuilt(default=None)
    base: Base = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class HeLlO(RDED):
    """Save a small projector that labels the images, in place of the labels (Yu et al., ICCV 2025, arXiv:2408.08201).

    The linear layers and convolutions of the encoder and the head of class features each get a low-rank delta. One
    factor of each delta starts at zero, so the fit starts at CLIP's zero-shot classifier. Students learn the
    projector's logits in the `hello` protocol. The paper's encoder is CLIP's ResNet-50; `transformers` has the ViTs.
    """

    labels: Literal["teacher"] = "teacher"
    """Labels that the images get: class numbers, and the projector is saved with the set."""
    encoder: str = "tiny"
    """Encoder of the images for the projector: the folder or the hub name of a CLIP, the folder of a network trained
    here, or tiny, a small CLIP trained on these data. The small CLIP is saved with the set; its bytes are counted."""
    tiny: TinyClip = field(default_factory=TinyClip)
    """The small CLIP that is trained if the encoder is tiny."""
    class_features: HeadKind = "text"
    """Class features of the head. text: features of captions, computed again when the set is read. text-stored:
    features of captions, stored with the set, because a tokenizer may change. mean: mean features of each class's
    images, for classes that CLIP does not know."""
    caption: str = CAPTION
    """Caption of an image; `{name}` stands for its class (ours)."""
    adapted: str | None = None
    """Layers of the encoder that get a delta, as a regular expression. Default: all linear layers and convolutions
    except those that take pixels. (The paper adapts the 3×3 convolutions of a ResNet's stages.)"""
    rank: Annotated[int, Range(0)] = 8
    """Rank of the encoder's deltas; 0 for none."""
    head_rank: Annotated[int, Range(0)] | None = None
    """Rank of the head's delta. Default: 64 for up to 100 classes and 128 for more, but at most the number of
    classes."""
    convolution: Form = "loralib"
    """Form of a convolution's delta (see attar.images.labels.lowrank). The paper counts parameters as loralib does."""
    storage: Storage = "float16"
    """Number format in which the factors are stored."""
    stages: tuple[Annotated[int, Range(1)], ...] | None = None
    """Epochs of the teacher's training after which a copy is kept as a weak teacher. The last copy is also the
    observer. Default: nine epochs, evenly spaced."""
    fit_steps: Annotated[int, Range(0)] | None = None
    """Number of mini-batches of the projector's fit (ours). Default: those of 10 epochs, but at least 1,000."""
    fit_batch: Annotated[int, Range(1)] = 64
    """Number of real images in a mini-batch of the fit (ours)."""
    fit_lr: Annotated[float, Range(0)] = 2e-3
    """Step size of AdamW in the fit (ours). It falls to zero along a cosine."""
    fit_crop: Annotated[float, Range(0.001, 1)] = 0.5
    """Smallest share of an image's area in a crop of the fit (ours). At factor 2 it is the smallest
    crop that students see."""
    fit_label_weight: Annotated[float, Range(0)] = 0.1
    """Weight of the cross-entropy with the labels in the fit, λ (ours). The squared error from the teachers has weight
    1."""
    image_steps: Annotated[int, Range(0)] = 0
    """Number of update steps on the patches of each class after the fit; 0 leaves them. The updates bring the encoder's
    features of a patch back to those before it was scaled down. The paper gains 0.1 points."""
    image_lr: Annotated[float, Range(0)] = 0.01
    """Step size on pixels in [0, 1] in the updates of the patches by Adam (ours)."""
    updated: Annotated[int, Hidden()] = 0
    """Number of classes whose patches are updated, from the data."""

    moved = MappingProxyType({**RDED.moved, "head": "class_features"})
    name = "hello"

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in ranks, stages and numbers of steps."""
        settings, classes = super().resolve(source, runtime), len(source.classes)
        if source.transform.whitening is not None:
            raise InputError("a projector cannot take whitened images; give data without whitening.")
        epochs = self.observer.protocol.epochs
        stages = self.stages or spaced(9, epochs)
        if max(stages) > epochs:
            raise InputError(
                f"stages has {max(stages)}, but the teacher is trained for {epochs} epochs; choose earlier stages, or "
                "raise --observer.epochs."
            )
        batches = math.ceil(len(source.targets) / self.fit_batch)
        return replace(
            settings,
            stages=stages,
            head_rank=min(64 if classes <= 100 else 128, classes) if self.head_rank is None else self.head_rank,
            fit_steps=max(10 * batches, FITTED) if self.fit_steps is None else self.fit_steps,
            updated=classes if self.image_steps and settings.factor != 1 else 0,
        )

    @property
    def total_steps(self) -> int:
        """Number of mini-batches of the fit plus updates of all classes."""
        assert self.fit_steps is not None, "resolve the settings first"
        return self.fit_steps + self.image_steps * self.updated

    def build(self, source: ImageSource, runtime: Runtime) -> Fitting:  # type: ignore[override]
        """RDED's images, the teachers, and a projector that still equals the encoder."""
        assert self.stages is not None and self.factor is not None, "resolve the settings first"
        observer = self.observer
        found = trained_stages(source, observer.architecture, runtime, observer.protocol, self.stages)
        assert found.folder is not None
        last = str(found.folder / stage_name(max(self.stages)))
        looking = replace(self, observer=replace(observer, folder=observer.folder or last))
        mosaic = RDED.build(looking, source, runtime)
        encoder = encoder_for(self.encoder, source, self.tiny, self.caption, runtime)
        head, base = self._head(encoder, source, runtime)
        labeller = Labeller(encoder.look, copy.deepcopy(encoder.tower), head, scale=encoder.scale)
        factors = self._factors(labeller, runtime)
        layout.place(labeller, runtime)
        largest = max(len(rows) for rows, _ in mosaic.places) if self.updated else 0
        size = [side // self.factor for side in source.shape[1:]]
        patches = torch.zeros(largest, source.shape[0], *size, device=runtime.device).requires_grad_()
        state = Fitting(
            factors=factors,
            optimizer=torch.optim.AdamW(factors.values(), self.fit_lr, weight_decay=0.0),
            order=torch.arange(len(source.targets)),
            images=mosaic.chosen,
            patches=patches,
            patch_optimizer=torch.optim.Adam([patches], self.image_lr),
            wanted=torch.zeros(largest, head.shape[1], device=runtime.device),
            labeller=labeller,
            teachers=[network.network for network in found.networks.values()],
            source=source,
            places=mosaic.places,
            encoder=encoder,
            head=head,
            base=base,
        )
        self._match(state, runtime)
        return state

    def _head(self, encoder: Encoder, source: ImageSource, runtime: Runtime) -> tuple[Head, Base]:
        """Class features as they are after reading the set, and a description of the projector's base."""
        mean = self.class_features == "mean"
        head = encoder.mean_head(source, runtime) if mean else encoder.text_head(self.caption, source.classes)
        base = Base(
            encoder=self.encoder,
            weights=encoder.digest,
            head=self.class_features,
            caption=self.caption,
            words="" if mean else encoder.words(self.caption, source.classes),
            classes=source.classes,
            shape=source.shape,
            mean=source.transform.mean,
            std=source.transform.std,
        )
        return head if self.class_features == "text" else head.half().float(), base

    def _factors(self, labeller: Labeller, runtime: Runtime) -> Factors:
        """All parameters that are learned: low-rank factors, the scale, and the offset."""
        assert self.head_rank is not None
        layers = layers_of(labeller.encoder, self.adapted) if self.rank else []
        ranks = {f"encoder.{layer}": self.rank for layer in layers} | {"head": self.head_rank}
        factors = adapt_(labeller, ranks, self.convolution, runtime.generator("factors"))
        plain = {"scale": labeller.scale, "offset": labeller.offset}
        return factors | {name: value.requires_grad_() for name, value in plain.items()}

    @torch.no_grad()
    def _match(self, state: Fitting, runtime: Runtime) -> None:
        """Set the projector's scale and offset so that its logits have the spread and mean of the teachers' logits."""
        rows = torch.randperm(len(state.order), generator=runtime.generator("match"))[:MATCHED]
        parts = [state.source.inputs(part, runtime.device) for part in rows.split(self.fit_batch)]
        ours = torch.cat([state.labeller(part) for part in parts])
        match_(state.labeller, ours, torch.cat([mean_answer(state.teachers, part) for part in parts]))

    def step(self, state: Fitting, runtime: Runtime) -> Metrics:
        """Fit the projector to one mini-batch of real images; after the fit, update the patches of one class once."""
        assert self.fit_steps is not None
        fitting = state.done < self.fit_steps
        metrics = self._fit(state, runtime) if fitting else self._update(state.done - self.fit_steps, state, runtime)
        state.done += 1
        return metrics

    def _fit(self, state: Fitting, runtime: Runtime) -> Metrics:
        assert self.fit_steps is not None
        set_lr(state.optimizer, self.fit_lr * half_cosine(state.done, self.fit_steps))
        rows = next_rows(state.order, state.done, self.fit_batch, runtime.generator("shuffle"))
        images = state.source.inputs(rows, runtime.device)
        images = crop_and_flip(images, runtime.generator("augment"), smallest=self.fit_crop, flips=state.source.flips)
        images = layout.ordered(images, runtime)
        with torch.no_grad():
            wanted = mean_answer(state.teachers, images)
        with runtime.autocast(training=True):
            logits = state.labeller(images)
        labels = state.source.targets[rows].to(runtime.device)
        terms = fitting_loss(logits.float(), wanted, labels, self.fit_label_weight)
        state.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        state.optimizer.step()
        return {name: value.detach() for name, value in terms.items()}

    def _update(self, number: int, state: Fitting, runtime: Runtime) -> Metrics:
        """Update the patches of one class once. After the last update they are tiled into the images."""
        label, turn = divmod(number, self.image_steps)
        rows, boxes = state.places[label]
        see = self._sight(state, runtime)
        if turn == 0:
            self._begin(rows, boxes, see, state, runtime)
        patches = state.patches[: len(rows)]
        loss = lost_detail(see, patches, state.wanted[: len(rows)], state.source.shape[1:])
        state.patch_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.patch_optimizer.step()
        with torch.no_grad():
            state.patches.clamp_(0, 1)
        if turn == self.image_steps - 1:
            assert self.factor is not None
            mine = labels_of(self.ipc, len(state.places)) == label
            state.images[mine] = eight_bits(tiled(patches.detach().cpu(), self.factor))
        return {"loss": loss.detach()}

    @torch.no_grad()
    def _begin(
        self,
        rows: Int[Tensor, " patch"],
        boxes: Float[Tensor, "patch 4"],
        see: Callable[[Tensor], Tensor],
        state: Fitting,
        runtime: Runtime,
    ) -> None:
        """Scale a class's patches down, and keep the encoder's features of the patches before."""
        unit, (height, width) = unit_pixels(state.source, rows), state.source.shape[1:]
        size = state.patches.shape[2], state.patches.shape[3]
        state.patches[: len(rows)] = cut(unit, boxes, size).to(runtime.device)
        state.wanted[: len(rows)] = see(cut(unit, boxes, (height, width)).to(runtime.device))
        state.patch_optimizer.state.clear()

    def _sight(self, state: Fitting, runtime: Runtime) -> Callable[[Tensor], Tensor]:
        """A function from pixels in [0, 1] to features of the fitted encoder."""

        def see(pixels: Tensor) -> Tensor:
            images = layout.ordered(state.source.transform.forward(pixels), runtime)
            return state.labeller.encoder(state.labeller.look(images)).float()

        return see

    def result(self, state: Fitting, runtime: Runtime) -> CondensedImages:
        """The images as 8-bit pixels with their classes, and the projector."""
        source = state.source
        projector = Projector.of(state.encoder, state.base, state.factors, state.head, self.storage)
        labels, origin = labels_of(self.ipc, len(source.classes)), Origin.of(source, self, runtime)
        return CondensedImages(
            state.images.clone(), labels, source.classes, source.transform, source.flips, origin, teacher=projector
        )

    @classmethod
    def paper(cls, data: str, *, ipc: int) -> Self:
        """The settings of one cell of the paper's tables, as far as they are known.

        Raises:
            InputError: The table does not have the cell.
        """
        return published(cls, data, ipc)


def mean_answer(teachers: list[nn.Module], images: Float[Tensor, "batch channel height width"]) -> Logits:
    """The mean of the teachers' logits (the paper does not say how it combines them)."""
    return torch.stack([teacher(images).float() for teacher in teachers]).mean(dim=0)


def fitting_loss(
    logits: Logits, teachers: Logits, labels: Int[Tensor, " batch"], label_weight: float
) -> dict[str, Float[Tensor, ""]]:
    """MSE(logits, teachers') + λ · cross-entropy with the labels, and both terms separately."""
    error, entropy = squared_error(logits, teachers) / len(logits), F.cross_entropy(logits, labels)
    return {"loss": error + label_weight * entropy, "squared_error": error, "cross_entropy": entropy}


def lost_detail(
    see: Callable[[Tensor], Tensor], patches: Patches, wanted: Float[Tensor, "patch feature"], size: tuple[int, int]
) -> Float[Tensor, ""]:
    """MSE between an encoder's features of patches that are scaled up and its features of the original patches.

    Args:
        see: A function from pixels in [0, 1] to features.
        patches: The patches, scaled down.
        wanted: Features of the original patches.
        size: Height and width of the original patches, to which these are scaled up.
    """
    large = F.interpolate(patches, size=size, mode="bilinear")
    return F.mse_loss(see(large), wanted)
