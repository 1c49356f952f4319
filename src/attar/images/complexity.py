"""The complexity of a class: the share of places outside the class activation maps of its images.

According to the paper behind Comp-DD, classes whose objects cover little of the image are hard to condense. The paper
chose its easy and hard subsets in this way. Scores compare classes of one kind (birds with birds) under one network.
Another network, layer or kind of map gives a somewhat different ranking, so compare two before you rely on one.
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
from attar.images.networks.pretrained import PREFIX, Say, labelling_classifier
from attar.images.sources import ImageSource
from attar.images.trained import classifier_in, holds_artefact
from attar.images.training import TrainedNetwork

Values = Float[Tensor, " image"]


@dataclass(frozen=True, kw_only=True)
class Looking(Settings):
    """Settings of the maps and of the places that count."""

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
    """Complexity of each training image, in the order of the source."""
    labels: Int[Tensor, " image"]
    """Class of each training image."""
    classes: tuple[str, ...]
    """Names of the classes."""
    looking: Looking
    """Settings of the measurement."""

    @property
    def by_class(self) -> tuple[float, ...]:
        """The mean complexity of each class."""
        count = torch.bincount(self.labels, minlength=len(self.classes))
        total = torch.bincount(self.labels, self.images.double(), minlength=len(self.classes))
        return tuple((total / count).tolist())

    @property
    def undefined(self) -> Bool[Tensor, " image"]:
        """Whether an image's map is constant, so that no place counts. Its complexity is set to 1."""
        return self.images == 1


def complexity(maps: Maps, threshold: float = 0.5, *, strict: bool = False) -> Values:
    """The share of places that do not count, c = 1 - (1/HW) Σ 1[M ≥ threshold].

    Args:
        maps: Maps from 0 to 1 with largest value 1 (`cam.unit_range`), so that c < 1. A map of zeros has c = 1.
        threshold: The value from which a place counts.
        strict: Whether a place must be above the threshold, as in the released script.
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
            network or its folder, that of a student or an imported teacher, or `transformers:NAME`, with its weights
            and its own head.
        outputs: The network's output for each class, in the order of the classes, if they differ.
        runtime: The machine, and the seed of the noise.
        settings: Settings of `Looking`: kind, target, layer, resolution, threshold, strict.

    Raises:
        InputError: A setting or layer is unknown, the network has no maps, or its outputs are not the classes.
    """
    runtime, looking = runtime or Runtime(), Looking.from_json(settings)
    classifier = (
        layout.place(classifier_of(network, source, runtime.say, every=outputs is not None), runtime)
        .eval()
        .requires_grad_(False)
    )
    first = source.inputs(torch.tensor([0]), runtime.device)
    if looking.target == "label":
        outputs = _outputs(outputs, source, classifier, first)
    looking = replace(looking, layer=looking.layer or last_maps(classifier, first))
    # Noise is drawn for each image alone, so that it does not depend on the other images of the batch.
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


def classifier_of(
    network: nn.Module | TrainedNetwork | str, source: ImageSource, say: Say | None = None, *, every: bool = False
) -> nn.Module:
    """A copy of a module or trained network, or the classifier that a folder or `transformers:NAME` names.

    Outputs with names are put in the order of the data's classes, unless `every` output is wanted in its own order.

    Raises:
        InputError: The name is neither a folder of a trained network nor a classifier of `transformers`, or it has
            other classes.
    """
    if isinstance(network, nn.Module):
        return copy.deepcopy(network)
    if isinstance(network, TrainedNetwork):
        return copy.deepcopy((network if every else network.of(source, "the network", say)).network)
    if network.startswith(PREFIX):
        return labelling_classifier(network, source, say, every=every)
    if not Path(network).is_dir():
        raise InputError(f"{network!r} is not the folder of a trained network. Give such a folder, or {PREFIX}NAME.")
    if holds_artefact(network):
        return classifier_in(network, source, say)
    found = TrainedNetwork.load(Path(network))
    return found.network if every else found.of(source, network, say).network


def select(scores: Mapping[int, float], count: int = 10) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The classes of lowest and of highest complexity, in the order easiest first and hardest first.

    Args:
        scores: Complexity by class number.
        count: The number of easy classes, and of hard classes.

    Returns:
        Easy and hard class numbers, with no class in both. Among classes of equal complexity the lower number is first.

    Raises:
        InputError: There are fewer than two times `count` classes.
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
    """The output of each class, after a check that the network has it."""
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
    """The output whose map is taken, for each image."""
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
