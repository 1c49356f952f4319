"""How a classifier is trained with any method: the optimiser, the learning rate, and the views of the images."""

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
from attar.core.losses import Loss
from attar.core.settings import Hidden, Range, Settings
from attar.core.training import adamw, betas_of, linear_rise
from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Settings of the training of a classifier."""

    epochs: Annotated[int, Range(1)] = 60
    """Passes over the training data. The field's tables use 240."""
    keep: Keep = "last"
    """Epoch whose student is kept: the last one, or the best one on held-out training images by accuracy or F1 (F1 of
    the second of two classes, otherwise the mean over classes). The later of two equal epochs is kept."""
    held_out: Annotated[float, Range(0, 1)] = 0.1
    """Share of the training samples that is held out, from each class, to choose the best epoch. Not used with --keep
    last."""
    batch: Annotated[int, Range(2)] = 64
    """Batch size: number of images per step."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimiser: SGD as in the field's tables, Adam or AdamW. The last two need a much smaller step size (1e-3)."""
    lr: Annotated[float, Range(0)] = 0.05
    """Step size (learning rate)."""
    momentum: Annotated[float, Range(0, 1)] = 0.9
    """Momentum of SGD, or β₁ of Adam."""
    nesterov: bool = False
    """Whether SGD uses Nesterov momentum."""
    weight_decay: Annotated[float, Range(0)] = 5e-4
    """Weight decay, added to the gradient. AdamW subtracts it from the parameters instead, and not from biases and
    norms."""
    clip_norm: Annotated[float, Range(0)] | None = None
    """Norm to which a longer gradient of all that is learned is cut. Default: no limit."""
    schedule: Literal["steps", "cosine"] = "steps"
    """Schedule of the step size over the epochs: division at the --cuts, or half a cosine down to zero."""
    cuts: tuple[float, ...] = (0.625, 0.75, 0.875)
    """Shares of the epochs after which the step size is divided by ten, with --schedule steps."""
    lr_warm_up: Annotated[float, Range(0, 1)] = 0.0
    """Share of the run over which the step size rises first, linearly, epoch by epoch."""
    shift: Annotated[int, Range(0)] | None = None
    """Largest shift of a view in pixels. Default: an eighth of the side, which is the field's 4 at 32 pixels."""
    flips: Literal["auto", "on", "off"] = "auto"
    """Whether views are mirrored at random. auto: if the data set says that a mirrored image keeps its label."""
    smallest_crop: Annotated[float, Range(0.01, 1)] | None = None
    """Smallest share of an image's area in a crop. The resized crop replaces the shift. ImageNet papers use 0.08.
    Default: no crops."""
    turns: bool = False
    """Whether views are also rotated by quarter turns, for images without an upper side such as tissue. Together with
    flips this gives all eight symmetries of a square."""
    mixup: Annotated[float, Range(0)] = 0.0
    """α of Mixup, which averages each image and its label with another (DeiT: 0.8). 0 turns it off."""
    cutmix: Annotated[float, Range(0)] = 0.0
    """α of CutMix, which pastes a box of another image (DeiT: 1). 0 turns it off. If both are on, each image gets one
    of the two at random."""
    views: Annotated[int, Range(0)] = 0
    """Number of fixed views of each image, for which the teacher's outputs are stored. 0: a new view in every epoch,
    and the teacher is run on each."""
    warm_up: Annotated[float, Range(0, 1)] = 1 / 12
    """Share of the epochs in which a method's terms are warmed up, if the method warms terms up."""
    warm_from: Annotated[int, Range(0, 1)] = 1
    """Number of the first epoch in that warm-up: 1, or 0, which gives the terms no weight at first (as in ND's
    scripts)."""
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    """Share of the features before the last linear layer that is dropped in training."""
    dropout_samples: Annotated[int, Range(1)] = 1
    """Number M of dropout masks for each sample, whose losses are averaged (multi-sample dropout, Inoue,
    arXiv:1905.09788)."""
    dropout_average: Literal["losses", "logits"] = "losses"
    """What is averaged over the masks: the losses, as in the paper, or the logits, as in many contest heads."""
    reserved: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of the training samples, from each class, that nothing is trained or chosen on, so that the classifier can
    be calibrated on them."""
    images: Annotated[int, Hidden()] = 0
    """Number of training images; filled in from the data."""

    moved = MappingProxyType({"clip": "clip_norm"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.cuts) != sorted(self.cuts) or any(not 0 < cut <= 1 for cut in self.cuts):
            raise InputError(f"cuts are {self.cuts}; they must rise, from above 0 to at most 1.")
        if self.dropout_samples > 1 and not self.dropout:
            raise InputError(f"dropout_samples is {self.dropout_samples}, but nothing is dropped. Set dropout.")
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise InputError("nesterov needs SGD and a momentum above 0. Do not set nesterov.")
        if self.shift and self.smallest_crop is not None:
            raise InputError("a view is either shifted or cropped. Give shift or smallest_crop, not both.")

    def check_loss(self, loss: Loss, smoothing: float) -> None:
        """Check that a loss of the labels goes with the other settings.

        Raises:
            InputError: It needs one class for each image, or does not smooth labels.
        """
        if loss.name == "cross-entropy":
            return
        if self.mixup or self.cutmix:
            raise InputError(f"{loss.name} needs one class for each image. Do not set mixup or cutmix.")
        if smoothing and loss.name != "bce":
            raise InputError(f"smoothing is {smoothing:g}, but {loss.name} does not smooth labels. Do not set it.")

    def fitted_to(self, source: ImageSource) -> Self:
        """The same settings for these training images, with missing values filled in.

        Raises:
            InputError: Turns are asked for, but the images are not square.
        """
        if self.turns and source.shape[1] != source.shape[2]:
            raise InputError(f"turns needs square images, and those of {source.name} are not. Do not set turns.")
        flips = source.flips if self.flips == "auto" else self.flips == "on"
        usual = min(source.shape[1:]) // 8 if self.smallest_crop is None else 0
        shift = usual if self.shift is None else self.shift
        return dataclasses.replace(self, images=len(source.train), shift=shift, flips="on" if flips else "off")

    @property
    def batches(self) -> int:
        """Steps per epoch. A last batch of one image is dropped, because batch norm cannot take it."""
        return self.images // self.batch + (self.images % self.batch > 1)

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.epochs * self.batches

    def optimizer_of(self, learned: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser for these parameters."""
        if self.optimizer == "adam":
            betas = betas_of(self.momentum)
            return torch.optim.Adam(learned, self.lr, betas=betas, weight_decay=self.weight_decay)
        if self.optimizer == "adamw":
            return adamw(learned, self.lr, weight_decay=self.weight_decay, betas=betas_of(self.momentum))
        return torch.optim.SGD(learned, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov)

    def lr_at(self, epoch: int) -> float:
        """The learning rate in an epoch."""
        cosine = self.schedule == "cosine"
        return self.lr * step_share(epoch, self.epochs, cuts=self.cuts, cosine=cosine, warm_up=self.lr_warm_up)

    def warmth(self, epoch: int) -> float:
        """Weight in an epoch of a term that is warmed up, from 0 to 1."""
        return linear_rise(epoch + self.warm_from, self.warm_up * self.epochs)

    def view_of(self, epoch: int) -> int:
        """Number of the view that an epoch shows."""
        return epoch % self.views if self.views else epoch

    def drawn_view(self, number: int, source: ImageSource, seed: int) -> View:
        """The view with this number. Stored views do not depend on the seed, so that students share them."""
        assert self.shift is not None, "resolve the settings first"
        size = source.shape[1], source.shape[2]
        return View.drawn(0 if self.views else seed, number, self.images, size=size, **self.what_views_do)

    @property
    def what_views_do(self) -> dict[str, Any]:
        """The settings by which views are drawn.

        Stored outputs depend on them, and on networks, images and view numbers.
        """
        names = ("shift", "smallest_crop", "turns", "mixup", "cutmix")
        return {"flips": self.flips == "on", **{name: getattr(self, name) for name in names}}
