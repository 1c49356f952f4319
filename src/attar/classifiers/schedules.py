"""The field's two schedules, on which every published table of distilled classifiers rests, and its pairs of networks.

CIFAR-100: the CRD benchmark's 240 epochs, and its networks, which attar builds by name. ImageNet: 100 epochs; of its
networks attar builds ResNet-18 and ResNet-50, the others come as modules, or by `transformers:`.
"""

from typing import Any

from attar.core.errors import unknown
from attar.images.networks.architecture import NETWORKS

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
CIFAR100_PAIRS = (
    "wrn40_2-wrn16_2",
    "wrn40_2-wrn40_1",
    "resnet56-resnet20",
    "resnet110-resnet20",
    "resnet110-resnet32",
    "resnet32x4-resnet8x4",
    "vgg13-vgg8",
    "vgg13-mobilenetv2",
    "resnet50-mobilenetv2",
    "resnet50-vgg8",
    "resnet32x4-shufflenetv1",
    "resnet32x4-shufflenetv2",
    "wrn40_2-shufflenetv1",
)
"""Pairs of the CRD benchmark, of one kind of network and of two."""
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
SPELLED = {"vgg8": "vgg8-bn", "vgg13": "vgg13-bn", "resnet18": "resnet18:norm=batch"}
"""Networks of the tables that have another name here."""


def schedule(pair: str) -> dict[str, Any]:
    """The schedule of a pair `teacher-student`: of ImageNet where its tables have the pair, else of CIFAR-100.

    With it comes the student, where attar builds it.
    """
    student = {} if student_of(pair) is None else {"student": student_of(pair)}
    if pair in (*IMAGENET_PAIRS, "imagenet"):
        return {**IMAGENET, **student}
    light = pair.rpartition("-")[2].startswith(LIGHT)
    return {**CIFAR100, **({"lr": 0.01} if light else {}), **student}


def teacher_of(pair: str) -> str | None:
    """The name here of the teacher of a pair of the tables; None where attar does not build it."""
    return _network(pair, 0)


def student_of(pair: str) -> str | None:
    """The name here of the student of a pair of the tables; None where attar does not build it."""
    return _network(pair, 1)


def _network(pair: str, place: int) -> str | None:
    if pair not in (*CIFAR100_PAIRS, *IMAGENET_PAIRS):
        return None
    name = pair.split("-")[place]
    return SPELLED.get(name, name if name in NETWORKS else None)


def row_of(table: dict[str, Any], pair: str, what: str, *, any_pair: bool = True) -> Any:
    """A pair's row of a table.

    Args:
        table: Rows by pair, or by data set.
        pair: A pair, or a data set.
        what: Whose table it is.
        any_pair: Whether the row of CIFAR-100 holds for every pair of its benchmark.

    Raises:
        InputError: A pair that it does not have.
    """
    known = {**dict.fromkeys(CIFAR100_PAIRS, table["cifar100"]), **table} if any_pair and "cifar100" in table else table
    if pair not in known:
        raise unknown(f"pair of {what}'s table", pair, known)
    return known[pair]
