"""How little of its pictures a class fills: the share of places that a class activation map leaves out.

Classes whose objects cover little of the frame are the hard ones for condensing, says the paper behind Comp-DD, which
chose its easy and hard subsets so. Scores compare classes of one kind (birds with birds) under one network; another
network, layer or kind of map ranks somewhat otherwise, so look at two before building on a ranking.
Wang, Li et al., Emphasizing Discriminative Features for Dataset Distillation in Complex Scenarios, CVPR 2025,
arXiv:2410.17193.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Range, Settings
from attar.images import layout
from attar.images.cam import Images, Maps, grad_cam, last_maps, resized, smooth_grad_cam_pp
from attar.images.networks.pretrained import PREFIX, labelling_classifier
from attar.images.sources import ImageSource
from attar.images.training import TrainedNetwork

Values = Float[Tensor, " image"]


@dataclass(frozen=True, kw_only=True)
class Looking(Settings):
    """Which map of a network is taken, of which class, and what of it counts."""

    kind: Literal["grad-cam", "smooth"] = "grad-cam"
    """Kind of map: Grad-CAM, or SmoothGrad-CAM++ as in the released script. Its noise is drawn for each image alone."""
    target: Literal["predicted", "label"] = "predicted"
    """Class of the map: the class that the network predicts, as in the script, or the image's own class."""
    layer: str | None = None
    """Module whose output the map is of. Default: the last module whose output has more than one place."""
    resolution: Literal["native", "image"] = "native"
    """Resolution at which places are counted: that of the layer, as in the script, or that of the image."""
    threshold: Annotated[float, Range(0, 1)] = 0.5
    """Share of a map's maximum from which a place counts."""
    strict: bool = False
    """Whether a place must be above the threshold, as in the script, instead of at or above it, as in the paper."""


@dataclass(frozen=True)
class ClassComplexity:
    """The complexity of every training image and class, from 0 to 1."""

    images: Values
    """Of each training image, in the order of the source."""
    labels: Int[Tensor, " image"]
    """Their classes."""
    classes: tuple[str, ...]
    """Names of the classes."""
    looking: Looking
    """How it was measured."""

    @property
    def by_class(self) -> tuple[float, ...]:
        """The mean over each class's images."""
        count = torch.bincount(self.labels, minlength=len(self.classes))
        total = torch.bincount(self.labels, self.images.double(), minlength=len(self.classes))
        return tuple((total / count).tolist())

    @property
    def undefined(self) -> Bool[Tensor, " image"]:
        """Images whose map is the same everywhere, so that nothing of it counts; their complexity is set to 1."""
        return self.images == 1


def complexity(maps: Maps, threshold: float = 0.5, *, strict: bool = False) -> Values:
    """The share of places that a map leaves out, c = 1 - (1/HW) Σ 1[M ≥ threshold].

    Args:
        maps: Maps from 0 to 1, whose largest value is 1 (`cam.unit_range`), so that c < 1; a map of zeros has c = 1.
        threshold: From where on a place counts.
        strict: Whether it has to be above that, as in the released script.
    """
    counts = maps > threshold if strict else maps >= threshold
    return 1 - counts.flatten(1).float().mean(dim=1)


def class_complexity(
    source: ImageSource,
    network: nn.Module | TrainedNetwork | str,
    *,
    outputs: Sequence[int] | None = None,
    runtime: Runtime | None = None,
    **settings: Any,
) -> ClassComplexity:
    """Measure the complexity of every training image of a source.

    Args:
        source: Any labelled images.
        network: A classifier with convolutional maps: a module that takes the source's network input, a trained
            network or its folder, or `transformers:NAME`, with its weights and its own head.
        outputs: Which output of the network each class is, in the order of the classes, where they are not the same.
        runtime: The machine, and the seed of the noise.
        settings: Those of `Looking`: kind, target, layer, resolution, threshold, strict.

    Raises:
        InputError: An unknown setting or layer, a network without maps, or one whose outputs are not the classes.
    """
    runtime, looking = runtime or Runtime(), Looking.from_json(settings)
    classifier = layout.place(classifier_of(network, source), runtime).eval().requires_grad_(False)
    first = source.inputs(torch.tensor([0]), runtime.device)
    if looking.target == "label":
        outputs = _outputs(outputs, source, classifier, first)
    looking = replace(looking, layer=looking.layer or last_maps(classifier, first))
    # Noise is drawn for an image by itself, so that it does not depend on which others are beside it.
    at_once = layout.at_once(source.shape, runtime) if looking.kind == "grad-cam" else 1
    found = []
    for rows in torch.arange(len(source.train)).split(at_once):
        images = layout.ordered(source.inputs(rows, runtime.device), runtime)
        classes = _targets(source.targets[rows], outputs, looking, classifier, images)
        found.append(_of_images(images, classes, rows, looking, classifier, runtime).cpu())
    measured = ClassComplexity(torch.cat(found), source.targets, source.classes, looking)
    if measured.undefined.any():
        runtime.say(
            f"{int(measured.undefined.sum()):,} of {len(measured.images):,} maps are constant; "
            "the complexity of their images is set to 1."
        )
    return measured


def classifier_of(network: nn.Module | TrainedNetwork | str, source: ImageSource) -> nn.Module:
    """A copy of a module or trained network, or the classifier that a folder or `transformers:NAME` stands for.

    Raises:
        InputError: Neither a folder of a trained network nor a classifier of `transformers`.
    """
    if isinstance(network, TrainedNetwork):
        network = network.network
    if isinstance(network, nn.Module):
        return copy.deepcopy(network)
    if network.startswith(PREFIX):
        return labelling_classifier(network, source.shape)
    if not Path(network).is_dir():
        raise InputError(f"{network!r} is not the folder of a trained network. Give such a folder, or {PREFIX}NAME.")
    return TrainedNetwork.load(Path(network)).network


def select(scores: Mapping[int, float], count: int = 10) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The classes of lowest and of highest complexity in a pool, easiest first and hardest first.

    Args:
        scores: Complexity by class number.
        count: How many of each.

    Returns:
        Easy and hard class numbers, none in both; among equals the lower number goes first.

    Raises:
        InputError: Fewer than two times `count` classes.
    """
    if count < 1 or len(scores) < 2 * count:
        raise InputError(
            f"count is {count}, but there are {len(scores)} classes to choose easy and hard ones from. "
            f"Give {2 * max(count, 1)} classes or more, or a count of at most {max(len(scores) // 2, 1)}."
        )
    order = sorted(scores, key=lambda label: (scores[label], label))
    return tuple(order[:count]), tuple(sorted(order[-count:], key=lambda label: (-scores[label], label)))


@torch.no_grad()
def _outputs(outputs: Sequence[int] | None, source: ImageSource, network: nn.Module, first: Images) -> tuple[int, ...]:
    """The output of each class, seen to be one of the network's."""
    classes, there = len(source.classes), int(network(first).shape[1])
    if outputs is None and classes != there:
        raise InputError(f"the network has {there} outputs, but {source.name} has {classes} classes. Give outputs=...")
    wanted = tuple(range(classes) if outputs is None else outputs)
    if len(wanted) != classes or not all(0 <= output < there for output in wanted):
        raise InputError(f"outputs must be {classes} numbers from 0 to {there - 1}, one for each class.")
    return wanted


@torch.no_grad()
def _targets(
    labels: Int[Tensor, " image"],
    outputs: Sequence[int] | None,
    looking: Looking,
    network: nn.Module,
    images: Images,
) -> Int[Tensor, " image"]:
    """Of which output each image's map is."""
    if looking.target == "predicted":
        return network(images).argmax(dim=1)
    return torch.tensor(outputs)[labels]


def _of_images(
    images: Images,
    classes: Int[Tensor, " image"],
    rows: Int[Tensor, " image"],
    looking: Looking,
    network: nn.Module,
    runtime: Runtime,
) -> Values:
    if looking.kind == "smooth":
        generator = torch.Generator().manual_seed(derived_seed(runtime.seed, f"map of image {int(rows)}"))
        maps = smooth_grad_cam_pp(network, images, classes, generator, looking.layer)
    else:
        maps = grad_cam(network, images, classes, looking.layer)
    if looking.resolution == "image":
        maps = resized(maps, *images.shape[2:])
    return complexity(maps, looking.threshold, strict=looking.strict)
