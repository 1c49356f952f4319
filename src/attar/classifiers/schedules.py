"""The field's two schedules, on which every published table of distilled classifiers rests, and its pairs of networks.

The networks themselves are not attar's: give them as modules, or by `transformers:`. CIFAR-100: the CRD benchmark's 240
epochs. ImageNet: 100 epochs.
"""

from typing import Any

from attar.core.errors import unknown

CIFAR100: dict[str, Any] = {
    "epochs": 240,
    "batch": 64,
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "cuts": (150 / 240, 180 / 240, 210 / 240),
    "shift": 4,
    "flips": "on",
    "warm_up": 20 / 240,
}
IMAGENET: dict[str, Any] = {
    "epochs": 100,
    "batch": 512,
    "lr": 0.2,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "cuts": (0.3, 0.6, 0.9),
    "warm_up": 0.01,
}
"""Views there are random resized crops in the papers; here they are shifts, which a preset cannot mend."""
IMAGENET_PAIRS = (
    "resnet34-resnet18",
    "resnet50-resnet18",
    "resnet101-resnet18",
    "resnet152-resnet18",
    "vit_s-resnet18",
    "vit_b-resnet18",
    "resnet50-mobilenetv1",
)
"""Pairs of the papers' ImageNet tables; all others are of CIFAR-100."""
LIGHT = ("mobilenet", "shufflenet")
"""Students whose step size is a fifth on CIFAR-100."""


def schedule(pair: str) -> dict[str, Any]:
    """The schedule of a pair `teacher-student`: of ImageNet where its tables have the pair, else of CIFAR-100."""
    if pair in (*IMAGENET_PAIRS, "imagenet"):
        return IMAGENET
    light = pair.rpartition("-")[2].startswith(LIGHT)
    return {**CIFAR100, "lr": 0.01} if light else CIFAR100


def row_of(table: dict[str, Any], pair: str, what: str) -> Any:
    """A pair's row of a table.

    Raises:
        InputError: A pair that it does not have.
    """
    if pair not in table:
        raise unknown(f"pair of {what}'s table", pair, table)
    return table[pair]
