"""Inputs and targets of a network in training: augmented and mixed examples, labels, and teachers' logits."""

import copy
from dataclasses import replace
from typing import Any, cast, runtime_checkable
from typing import Protocol as Interface

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.losses import Loss, as_shown
from attar.core.runtime import Runtime
from attar.core.sending import sent
from attar.core.sharing import WHOLE, Share
from attar.images import layout
from attar.images.networks.architecture import norms_of
from attar.images.protocols import Protocol
from attar.images.views.augment import CROP, Draw, augment, crop, default_strategy, draw_batch, strategy
from attar.images.views.crops import crop_and_flip, cutmix, mixup, shuffle_tiles

Images = Float[Tensor, "batch channel height width"]
Targets = Int[Tensor, " batch"] | Float[Tensor, "batch classes"] | Float[Tensor, "batch 2 classes"]
"""Classes; soft labels or logits; or a teacher's logits, and the labels mixed as the images are."""


@runtime_checkable
class Examples(Interface):
    """Examples to train a network on: an `ImageSource`, or a condensed set."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def flips(self) -> bool:
        """Whether a mirrored image keeps its label."""

    @property
    def targets(self) -> Int[Tensor, " image"] | Float[Tensor, "image classes"]:
        """Hard labels, or soft ones."""

    @property
    def fingerprint(self) -> str:
        """A digest that is equal for equal examples."""

    def inputs(self, rows: Int[Tensor, " batch"], device: torch.device | str = "cpu") -> Tensor:
        """Network input of these rows."""


def shown(
    rows: Int[Tensor, " batch"], examples: Examples, protocol: Protocol, runtime: Runtime
) -> tuple[Images, Targets]:
    """The augmented images of these rows and their labels. What a device needs for both goes there in one copy."""
    draw = _drawn(len(rows), examples, protocol, runtime)
    there, labels, draw = sent((rows, examples.targets[rows], draw), runtime.device)
    home = getattr(examples, "home", None)
    kept = home is not None and home(runtime.device).type != "cpu"
    images = examples.inputs(there if kept else rows, runtime.device)
    return augmented(images, examples, protocol, runtime, draw), labels


def _drawn(count: int, examples: Examples, protocol: Protocol, runtime: Runtime) -> Draw | None:
    """The draw of a batch, where it is DSA's."""
    if not protocol.augmented or protocol.augmentation != "dsa":
        return None
    operations = strategy(getattr(examples, "augmentation", None) or default_strategy(examples.flips))
    draw = draw_batch(count, operations, runtime.generator("augment"))
    return draw if protocol.largest_shift == CROP else replace(draw, shift=protocol.largest_shift)


def augmented(
    images: Images, examples: Examples, protocol: Protocol, runtime: Runtime, draw: Draw | None = None
) -> Images:
    """A batch with the protocol's augmentation; DSA's may have been drawn before."""
    if not protocol.augmented:
        return images
    if protocol.augmentation == "shift":
        return _shifted(images, examples, protocol, runtime)
    if protocol.augmentation != "dsa":
        tiles = getattr(examples, "tiles", 1) if protocol.augmentation == "tiles" else 1
        images = shuffle_tiles(images, tiles, runtime.generator("augment"))
        smallest = 1 / tiles if protocol.augmentation == "tiles" else 0.08
        return crop_and_flip(images, runtime.generator("augment"), smallest=smallest, flips=examples.flips)
    draw = draw or _drawn(len(images), examples, protocol, runtime)
    assert draw is not None
    return augment(images, draw, align_corners=protocol.align_corners)


def _shifted(images: Images, examples: Examples, protocol: Protocol, runtime: Runtime) -> Images:
    """Each image shifted along both axes, with black from outside, and mirrored with probability one half."""
    uniform = torch.rand(len(images), 3, generator=runtime.generator("augment")).to(images)
    transform = getattr(examples, "transform", None)
    black = images.new_zeros(1, images.shape[1], 1, 1)
    if transform is not None and transform.whitening is None:
        black = transform.forward(black)
    images = crop(images - black, uniform, protocol.largest_shift) + black
    mirrored = (uniform[:, 2] < 0.5).view(-1, 1, 1, 1) & examples.flips
    return torch.where(mirrored, images.flip(3), images)


def targeted(
    images: Images,
    rows: Int[Tensor, " batch"],
    examples: Examples,
    protocol: Protocol,
    runtime: Runtime,
    *,
    teacher: nn.Module | None = None,
    at_once: int = 0,
    labels: Targets | None = None,
    share: Share = WHOLE,
) -> tuple[Images, Targets]:
    """The images, mixed if the protocol mixes, and the targets of the network: the rows of this process.

    Args:
        images: Augmented images of these rows.
        rows: Rows of the examples.
        examples: The training examples.
        protocol: The mixing, and the weight of the labels beside a teacher's logits.
        runtime: The machine.
        teacher: A network whose logits replace the labels.
        at_once: Number of images that the teacher takes at once.
        labels: The labels of these rows, if they are on the device already.
        share: The rows of this process. Default: all.
    """
    partner, weight = None, 1.0
    if protocol.mix != "none":
        mix = cutmix if protocol.mix == "cutmix" else mixup
        images, partner, weight = mix(images, runtime.generator("mix"))
    images = share.of(images)
    if teacher is not None:
        with torch.no_grad(), share.within(rows_alone=protocol.teacher_statistics != "batch"):
            answers = torch.cat([teacher(part).float() for part in images.split(at_once)])
        if not protocol.label_weight:
            return images, answers
    targets = sent(examples.targets[rows], runtime.device) if labels is None else labels
    if targets.ndim == 1 and (partner is not None or teacher is not None):
        targets = F.one_hot(targets, len(examples.classes)).float()
    if partner is not None:
        targets = weight * targets + (1 - weight) * targets[partner.to(runtime.device)]
    targets = share.of(targets)
    return images, targets if teacher is None else torch.stack([answers, targets], dim=1)


def teacher_of(examples: Examples, runtime: Runtime, *, of_batch: bool = False) -> nn.Module:
    """The teacher of a set, in evaluation mode.

    Args:
        examples: The set.
        runtime: The machine.
        of_batch: Whether its batch norm takes the statistics of every batch, in place of those of its training.

    Raises:
        InputError: The set has no teacher, or its teacher has other classes.
    """
    carried = getattr(examples, "teacher", None)
    if carried is None:
        raise InputError("this protocol learns from a teacher, but the set has none; choose another --protocol.")
    if carried.classes != examples.classes:
        raise InputError(
            f"the teacher was trained on other classes than the {len(examples.classes)} of the set; "
            "choose another teacher."
        )
    teacher = layout.place(copy.deepcopy(carried.network), runtime).eval().requires_grad_(False)
    for norm in norms_of(teacher) if of_batch else ():
        norm.train()
    return teacher


def labels_beside(examples: Examples) -> Any:
    """The labels that are stored beside a set.

    Raises:
        InputError: No labels are stored beside it.
    """
    found = getattr(examples, "soft", None)
    if found is None:
        raise InputError(
            "this protocol learns from stored labels, but the set has none; store some by `attar label`, or choose "
            "another --protocol."
        )
    return found


def labels_loss(examples: Examples, protocol: Protocol, runtime: Runtime) -> Any:
    """The protocol's loss of labels, which draws from a generator of the run. None: the cross-entropy.

    Raises:
        InputError: It needs one class for each image, and the labels are soft.
    """
    if protocol.loss == "cross-entropy":
        return None
    if examples.targets.is_floating_point():
        raise InputError(
            f"{protocol.loss} needs one class for each image, but the labels are soft. Train with --protocol.loss "
            "cross-entropy."
        )
    built = Loss(name=protocol.loss).built()
    if built.pseudo:
        built.generator = runtime.generator("loss")
    return built


def loss_of(
    logits: Float[Tensor, "batch classes"], targets: Targets, protocol: Protocol, labels: Any = None
) -> Float[Tensor, ""]:
    """The loss of a protocol, summed over a batch: that of the labels, or the distance from a teacher's logits.

    Args:
        logits: The network's.
        targets: Labels or a teacher's logits; both, the logits first, if the set's labels count too.
        protocol: The protocol.
        labels: The loss of labels (`labels_loss`). Default: the cross-entropy.
    """
    if protocol.target == "label":
        if labels is not None:
            return cast(Tensor, as_shown(labels, logits, targets).sum())
        return F.cross_entropy(logits, targets, reduction="sum")
    answers = targets[:, 0] if protocol.label_weight else targets
    if protocol.distance == "mse":
        loss = squared_error(logits, answers)
    else:
        loss = distillation_loss(logits, answers, protocol.temperature)
        loss = protocol.temperature**2 * loss if protocol.squared else loss
    if protocol.label_weight:
        loss = loss + protocol.label_weight * F.cross_entropy(logits, targets[:, 1], reduction="sum")
    return loss


def distillation_loss(
    logits: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"], temperature: float
) -> Float[Tensor, ""]:
    """Σ over the batch of KL(softmax(teacher / τ) ‖ softmax(logits / τ)), without the factor τ² (SRe2L, RDED)."""
    wanted = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), wanted, reduction="sum", log_target=True)


def squared_error(logits: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"]) -> Float[Tensor, ""]:
    """Σ over the batch of the mean over classes of (logit - teacher's)²."""
    return (logits - teacher).square().mean(dim=1).sum()
