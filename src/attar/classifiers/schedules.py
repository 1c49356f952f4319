"""The field's schedules, on which every published table of distilled classifiers rests, and its pairs of networks.

CIFAR-100 uses the 240 epochs of the CRD benchmark. ImageNet uses 100 epochs, or DeiT's 300 for a transformer. All
networks of the pairs are built by name, except RegNet, which must be given as a module or by `transformers:`.
"""

from typing import Any

from attar.core.presets import group, shared
from attar.core.training import after_cuts, half_cosine, linear_rise
from attar.images.networks.architecture import NETWORKS

HOME = "attar.classifiers"
CIFAR100_PAIRS = group(HOME, "pairs of CIFAR-100")
"""Pairs of the CRD benchmark, of one or two kinds of networks."""
IMAGENET_PAIRS = group(HOME, "pairs of ImageNet")
"""Pairs of the papers' ImageNet tables."""
DEIT_PAIRS = group(HOME, "pairs of DeiT")
"""Pairs with DeiT's schedule; all other pairs are of CIFAR-100."""
SPELLED = {"vgg8": "vgg8-bn", "vgg13": "vgg13-bn"}
"""Networks of the tables that have another name here."""
SPELLED_ON_IMAGENET = {
    **{f"resnet{depth}": f"resnet{depth}-imagenet" for depth in (18, 34, 50, 101, 152)},
    **{"vit_s": "vit_s16", "vit_b": "vit_b16", "deit_b": "vit_b16"},
}
"""Names of the networks of the ImageNet tables. DeiT-B is ViT-B/16 (for its distillation token see the docs)."""


def schedule(pair: str) -> dict[str, Any]:
    """The schedule of a pair `teacher-student`, or of cifar100, imagenet or deit: settings as JSON has them.

    It includes the student if attar builds it. Crops of ImageNet are taken from pictures as they were read, which have
    the size of the network input; the papers' are taken from larger pictures. DeiT is by Touvron, Cord, Douze, Massa,
    Sablayrolles and Jégou, ICML 2021, arXiv:2012.12877; attar does not have its RandAugment, erased boxes, repeated
    images, dropped blocks and floor of the cosine, and its terms warm up as long as the learning rate, because ND's
    warm-up is not known.

    Raises:
        InputError: There is no such schedule.
    """
    return shared(HOME, pair)


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
