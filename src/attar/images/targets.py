"""What a network in training sees, and what it is to answer: examples augmented and mixed, labels, teachers."""

import copy
from typing import Any, runtime_checkable
from typing import Protocol as Interface

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.images import layout
from attar.images.protocols import Protocol
from attar.images.views.augment import augment, default_strategy, draw_batch, strategy
from attar.images.views.crops import crop_and_flip, cutmix, mixup, shuffle_tiles

Images = Float[Tensor, "batch channel height width"]
Targets = Int[Tensor, " batch"] | Float[Tensor, "batch classes"] | Float[Tensor, "batch 2 classes"]
"""Classes; what is said of each; or a teacher's answers, and the labels mixed as the images are."""


@runtime_checkable
class Examples(Interface):
    """What a network can be trained on: an `ImageSource`, or a condensed set."""

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
        """The same for the same examples."""

    def inputs(self, rows: Int[Tensor, " batch"], device: torch.device | str = "cpu") -> Tensor:
        """Network input of these rows."""


def augmented(images: Images, examples: Examples, protocol: Protocol, runtime: Runtime) -> Images:
    """A batch as the protocol augments it."""
    if not protocol.augmented:
        return images
    if protocol.augmentation != "dsa":
        tiles = getattr(examples, "tiles", 1) if protocol.augmentation == "tiles" else 1
        images = shuffle_tiles(images, tiles, runtime.generator("augment"))
        smallest = 1 / tiles if protocol.augmentation == "tiles" else 0.08
        return crop_and_flip(images, runtime.generator("augment"), smallest=smallest, flips=examples.flips)
    operations = strategy(getattr(examples, "augmentation", None) or default_strategy(examples.flips))
    draw = draw_batch(len(images), operations, runtime.generator("augment"))
    return augment(images, draw, align_corners=protocol.align_corners)


def targeted(
    images: Images,
    rows: Int[Tensor, " batch"],
    examples: Examples,
    protocol: Protocol,
    runtime: Runtime,
    *,
    teacher: nn.Module | None = None,
    at_once: int = 0,
) -> tuple[Images, Targets]:
    """The images, mixed if asked, and what the network is to answer.

    Args:
        images: Of these rows, augmented.
        rows: Which examples they are.
        examples: What the network is trained on.
        protocol: How they are mixed, and whether labels count beside a teacher's answers.
        runtime: The machine.
        teacher: Answers in place of the labels.
        at_once: How many images the teacher looks at together.
    """
    partner, share = None, 1.0
    if protocol.mix != "none":
        mix = cutmix if protocol.mix == "cutmix" else mixup
        images, partner, share = mix(images, runtime.generator("mix"))
    if teacher is not None:
        with torch.no_grad():
            answers = torch.cat([teacher(part).float() for part in images.split(at_once)])
        if not protocol.label_weight:
            return images, answers
    targets = examples.targets[rows].to(runtime.device)
    if targets.ndim == 1 and (partner is not None or teacher is not None):
        targets = F.one_hot(targets, len(examples.classes)).float()
    if partner is not None:
        targets = share * targets + (1 - share) * targets[partner.to(runtime.device)]
    return images, targets if teacher is None else torch.stack([answers, targets], dim=1)


def teacher_of(examples: Examples, runtime: Runtime) -> nn.Module:
    """The teacher that comes with a set, ready to answer.

    Raises:
        InputError: None does, or one of other classes.
    """
    carried = getattr(examples, "teacher", None)
    if carried is None:
        raise InputError("this protocol learns from a teacher, but the set has none; choose another --protocol.")
    if carried.classes != examples.classes:
        raise InputError(
            f"the teacher was trained on other classes than the {len(examples.classes)} of the set; "
            "choose another teacher."
        )
    return layout.place(copy.deepcopy(carried.network), runtime).eval().requires_grad_(False)


def labels_beside(examples: Examples) -> Any:
    """The labels that are stored beside a set.

    Raises:
        InputError: There are none.
    """
    found = getattr(examples, "soft", None)
    if found is None:
        raise InputError(
            "this protocol learns from stored labels, but the set has none; store some by `attar label`, or choose "
            "another --protocol."
        )
    return found


def loss_of(logits: Float[Tensor, "batch classes"], targets: Targets, protocol: Protocol) -> Float[Tensor, ""]:
    """The loss of a protocol, summed over a batch: cross-entropy with labels, or the distance from a teacher's answers.

    Where the stored labels count as well, `targets` has both, the answers first.
    """
    if protocol.target == "label":
        return F.cross_entropy(logits, targets, reduction="sum")
    answers = targets[:, 0] if protocol.label_weight else targets
    if protocol.distance == "mse":
        loss = squared_error(logits, answers)
    else:
        loss = distillation_loss(logits, answers, protocol.temperature)
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
