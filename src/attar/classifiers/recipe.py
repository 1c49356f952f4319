"""How a student is trained, whatever it learns from: the optimiser, the step size, and the views of the images."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
from torch import nn

from attar.classifiers.schedules import step_share
from attar.classifiers.selection import Keep
from attar.classifiers.views import View
from attar.core.errors import InputError
from attar.core.settings import Hidden, Range, Settings
from attar.core.training import adamw, linear_rise
from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Settings of the training of a student."""

    student: str = "convnet:norm=batch,width=16"
    """The student: a network by name (convnet:norm=batch,width=16, resnet18, transformers:FOLDER)."""
    epochs: Annotated[int, Range(1)] = 60
    """Passes over the training data (the field's tables: 240)."""
    keep: Keep = "last"
    """Which epoch's student is kept: the last one's; or the best one's on held-out training images, by accuracy or by
    F1 (of the second of two classes; else the mean over classes), and of equals the later."""
    held_out: Annotated[float, Range(0, 1)] = 0.1
    """Share of each class's training images that are held out for that choice; none where the last one's is kept."""
    batch: Annotated[int, Range(2)] = 64
    """Batch size: images per step."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimiser: the field's SGD; or Adam or AdamW, which want a far smaller step size (1e-3)."""
    lr: Annotated[float, Range(0)] = 0.05
    """Step size."""
    momentum: Annotated[float, Range(0, 1)] = 0.9
    """Momentum of SGD, or Adam's β₁."""
    nesterov: bool = False
    """Whether SGD's momentum is Nesterov's."""
    weight_decay: Annotated[float, Range(0)] = 5e-4
    """Weight decay, added to the gradient; AdamW takes it off parameters themselves, and spares biases and norms."""
    clip_norm: Annotated[float, Range(0)] | None = None
    """Norm to which a longer gradient of all that is learned is cut; not at all unless given."""
    schedule: Literal["steps", "cosine"] = "steps"
    """How the step size falls, epoch by epoch: at the cuts, or by half a cosine to nothing."""
    cuts: tuple[float, ...] = (0.625, 0.75, 0.875)
    """Shares of the epochs after which the step size is divided by ten, where it falls in steps."""
    lr_warm_up: Annotated[float, Range(0, 1)] = 0.0
    """Share of the run over which the step size rises first, epoch by epoch in a straight line."""
    shift: Annotated[int, Range(0)] | None = None
    """Pixels by which a view is moved at most; an eighth of the side unless given, as the field has it at 32 pixels."""
    flips: Literal["auto", "on", "off"] = "auto"
    """Whether views are mirrored; auto: where the data say that a mirrored image keeps its label."""
    smallest_crop: Annotated[float, Range(0.01, 1)] | None = None
    """Smallest share of an image's area in a crop, which is resized and takes the place of the shift (ImageNet's
    papers: 0.08); no such crops unless given."""
    turns: bool = False
    """Whether views are turned by quarters too, as tissue has no upper side; with flips a square's eight symmetries."""
    mixup: Annotated[float, Range(0)] = 0.0
    """α of Mixup, which averages each image with another, and their labels (DeiT: 0.8); 0 for none."""
    cutmix: Annotated[float, Range(0)] = 0.0
    """α of CutMix, which pastes a box of another image (DeiT: 1); 0 for none. With both, a coin decides by image."""
    views: Annotated[int, Range(0)] = 0
    """How many views of each image there are, for which the teacher's answers are stored; 0 for a new one an epoch, and
    a teacher that answers anew."""
    warm_up: Annotated[float, Range(0, 1)] = 1 / 12
    """Share of the epochs over which a method's terms are warmed up, where it has such."""
    warm_from: Annotated[int, Range(0, 1)] = 1
    """Number of the first epoch in that warm-up: 1, or 0, which leaves its terms out (as in ND's scripts)."""
    images: Annotated[int, Hidden()] = 0
    """How many there are to train on; filled in from the data."""

    moved = MappingProxyType({"clip": "clip_norm"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.cuts) != sorted(self.cuts) or any(not 0 < cut <= 1 for cut in self.cuts):
            raise InputError(f"cuts are {self.cuts}; they must rise from above 0 to at most 1.")
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise InputError("nesterov goes with SGD and a momentum above 0; leave it out.")
        if self.shift and self.smallest_crop is not None:
            raise InputError("a view is shifted or cropped; give shift or smallest_crop, not both.")

    def fitted_to(self, source: ImageSource) -> Self:
        """The same for these training images, with what was left open filled in.

        Raises:
            InputError: Turns of images that are not square.
        """
        if self.turns and source.shape[1] != source.shape[2]:
            raise InputError(f"turns needs square images; those of {source.name} are not. Leave it out.")
        flips = source.flips if self.flips == "auto" else self.flips == "on"
        usual = min(source.shape[1:]) // 8 if self.smallest_crop is None else 0
        shift = usual if self.shift is None else self.shift
        return dataclasses.replace(self, images=len(source.train), shift=shift, flips="on" if flips else "off")

    @property
    def batches(self) -> int:
        """Steps per epoch; a last batch of one image, which batch norm cannot take, is left out."""
        return self.images // self.batch + (self.images % self.batch > 1)

    @property
    def total_steps(self) -> int:
        """Steps in all."""
        return self.epochs * self.batches

    def optimizer_of(self, learned: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser of these parameters."""
        betas = (self.momentum, 0.999)
        if self.optimizer == "adam":
            return torch.optim.Adam(learned, self.lr, betas=betas, weight_decay=self.weight_decay)
        if self.optimizer == "adamw":
            return adamw(learned, self.lr, weight_decay=self.weight_decay, betas=betas)
        return torch.optim.SGD(learned, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov)

    def lr_at(self, epoch: int) -> float:
        """The step size of an epoch."""
        cosine = self.schedule == "cosine"
        return self.lr * step_share(epoch, self.epochs, cuts=self.cuts, cosine=cosine, warm_up=self.lr_warm_up)

    def warmth(self, epoch: int) -> float:
        """How much a term counts in an epoch that is warmed up."""
        return linear_rise(epoch + self.warm_from, self.warm_up * self.epochs)

    def view_of(self, epoch: int) -> int:
        """The number of the view in which an epoch sees the images."""
        return epoch % self.views if self.views else epoch

    def drawn_view(self, number: int, source: ImageSource, seed: int) -> View:
        """The view of a number. With stored views it does not depend on the seed, so that students share them."""
        assert self.shift is not None, "resolve the settings first"
        size = source.shape[1], source.shape[2]
        return View.drawn(0 if self.views else seed, number, self.images, size=size, **self.what_views_do)

    @property
    def what_views_do(self) -> dict[str, Any]:
        """How views are drawn: all that stored answers depend on beside networks, images and numbers."""
        names = ("shift", "smallest_crop", "turns", "mixup", "cutmix")
        return {"flips": self.flips == "on", **{name: getattr(self, name) for name in names}}
