"""The field's schedules, on which every published table of distilled classifiers rests, and its pairs of networks.

CIFAR-100 uses the 240 epochs of the CRD benchmark. ImageNet uses 100 epochs, or DeiT's 300 for a transformer. All
networks of the pairs are built by name, except RegNet, which must be given as a module or by `transformers:`.
"""

from typing import Any

from attar.core.errors import named
from attar.core.training import after_cuts, half_cosine, linear_rise
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
    "smallest_crop": 0.08,
    "flips": "on",
    "warm_up": 0.01,
}
"""Crops are taken from pictures as they were read, which have the size of the network input. The papers' are taken from
larger pictures."""
DEIT: dict[str, Any] = {
    "epochs": 300,
    "batch": 2048,
    "optimizer": "adamw",
    "lr": 5e-4 * 2048 / 512,
    "weight_decay": 0.05,
    "schedule": "cosine",
    "lr_warm_up": 5 / 300,
    "smallest_crop": 0.08,
    "flips": "on",
    "mixup": 0.8,
    "cutmix": 1.0,
    "smoothing": 0.1,
    "warm_up": 5 / 300,
}
"""Touvron, Cord, Douze, Massa, Sablayrolles and Jégou, Training Data-Efficient Image Transformers, ICML 2021,
arXiv:2012.12877. attar does not have their RandAugment, erased boxes, repeated images, dropped blocks and floor of the
cosine. The warm-up of terms is as long as that of the learning rate, because ND's is not known."""
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
"""Pairs of the CRD benchmark, of one or two kinds of networks."""
IMAGENET_PAIRS = (
    "resnet34-resnet18",
    "resnet50-resnet18",
    "resnet101-resnet18",
    "resnet152-resnet18",
    "vit_s-resnet18",
    "vit_b-resnet18",
    "resnet50-mobilenetv1",
)
"""Pairs of the papers' ImageNet tables."""
DEIT_PAIRS = ("regnety160-deit_b",)
"""Pairs with DeiT's schedule; all other pairs are of CIFAR-100."""
LIGHT = ("mobilenet", "shufflenet")
"""Students whose learning rate on CIFAR-100 is a fifth of the usual one."""
SPELLED = {"vgg8": "vgg8-bn", "vgg13": "vgg13-bn"}
"""Networks of the tables that have another name here."""
SPELLED_ON_IMAGENET = {
    **{f"resnet{depth}": f"resnet{depth}-imagenet" for depth in (18, 34, 50, 101, 152)},
    **{"vit_s": "vit_s16", "vit_b": "vit_b16", "deit_b": "vit_b16"},
}
"""Names of the networks of the ImageNet tables. DeiT-B is ViT-B/16 (for its distillation token see the docs)."""


def schedule(pair: str) -> dict[str, Any]:
    """The schedule of a pair `teacher-student`: of ImageNet or DeiT if their tables have it, otherwise of CIFAR-100.

    It includes the student if attar builds it.
    """
    student = {} if student_of(pair) is None else {"student": student_of(pair)}
    if of_imagenet(pair):
        return {**(DEIT if pair in DEIT_PAIRS else IMAGENET), **student}
    light = pair.rpartition("-")[2].startswith(LIGHT)
    return {**CIFAR100, **({"lr": 0.01} if light else {}), **student}


def of_imagenet(pair: str) -> bool:
    """Whether a pair or a data set is of the ImageNet tables; all others are of CIFAR-100."""
    return pair in (*IMAGENET_PAIRS, *DEIT_PAIRS, "imagenet")


def teacher_of(pair: str) -> str | None:
    """The name here of the teacher of a pair of the tables; None if attar does not build it."""
    return _network(pair, 0)


def student_of(pair: str) -> str | None:
    """The name here of the student of a pair of the tables; None if attar does not build it."""
    return _network(pair, 1)


def _network(pair: str, place: int) -> str | None:
    if pair not in (*CIFAR100_PAIRS, *IMAGENET_PAIRS, *DEIT_PAIRS):
        return None
    name, spelled = pair.split("-")[place], SPELLED if pair in CIFAR100_PAIRS else SPELLED_ON_IMAGENET
    return spelled.get(name, name if name in NETWORKS else None)


def step_share(epoch: int, epochs: int, *, cuts: tuple[float, ...], cosine: bool, warm_up: float) -> float:
    """The share of the learning rate in an epoch: the rise min(1, (e + 1) / W) times the fall.

    The fall is 10⁻ᵏ after k cuts, or half a cosine.

    Args:
        epoch: e, from 0.
        epochs: E.
        cuts: Shares of E after which there is a cut.
        cosine: Whether the learning rate falls by half a cosine instead of cuts.
        warm_up: W as a share of E.
    """
    fall = half_cosine(epoch, epochs) if cosine else after_cuts(epoch, [cut * epochs for cut in cuts])
    return linear_rise(epoch + 1, warm_up * epochs) * fall


def row_of(table: dict[str, Any], pair: str, what: str, *, any_pair: bool = True) -> Any:
    """The row of a table for a pair.

    Args:
        table: Rows by pair or by data set.
        pair: A pair or a data set.
        what: Name of the method whose table it is.
        any_pair: Whether the rows of CIFAR-100 and of ImageNet hold for every pair of that data set.

    Raises:
        InputError: The table does not have the pair.
    """
    pairs = {"cifar100": CIFAR100_PAIRS, "imagenet": IMAGENET_PAIRS} if any_pair else {}
    whole = {pair: table[data] for data, many in pairs.items() if data in table for pair in many}
    known = {**whole, **table}
    return named(f"pair of {what}'s table", pair, known)
