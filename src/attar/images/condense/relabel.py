"""Relabelled real images: chosen without learning, labelled with the mean probabilities of several trained networks.

Most tables do not have this rival, and many methods do not beat it. Much of the gain of condensing comes from soft
labels, whatever the images are, above all on small images. Try it first, and compare every method with soft labels with
it. Qin, Deng and Alvarez-Melis show that soft labels matter more than images: A Label is Worth A Thousand Images in
Dataset Distillation, NeurIPS 2024, arXiv:2406.10485.
"""

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.core.selection import Chosen
from attar.core.settings import Range, Role
from attar.images import layout
from attar.images.artefact import CondensedImages
from attar.images.condense.coresets import CORESETS, Coreset
from attar.images.networks.outputs import logits_in
from attar.images.sources import ImageSource
from attar.images.trained import TRAINED, Auxiliary


@dataclass
class Answered(Chosen):
    """Chosen images with their labels."""

    labels: Float[Tensor, "image classes"]


@dataclass(frozen=True, kw_only=True)
class Relabelled(Coreset):
    """Choose real images, and label each with the mean probabilities of networks trained on all the data.

    The label of an image x is Σ_t softmax(z_t(x) / τ) / T over T teachers, which differ only in their seeds. Its most
    probable class may differ from the class for which x was chosen.
    """

    chosen_by: Literal["random", "class-mean", "herding", "k-means"] = "random"
    """Selection method that chooses the images."""
    space: Literal["embedding", "pixel"] = "embedding"
    """What is clustered if chosen_by is k-means: embeddings or pixels."""
    teachers: Annotated[int, Range(1)] = 3
    """Number of teachers that label the images, T."""
    label_temperature: Annotated[float, Range(0.01)] = 1.0
    """Temperature of the labels, τ. Above 1 the labels are softer."""
    teacher: Annotated[Auxiliary, Role()] = TRAINED
    """The teachers' network and training. Images are chosen in the embeddings of such a network too. With --teachers 1
    its folder may be transformers:NAME_OR_FOLDER, or that of a student or an imported teacher."""

    moved = MappingProxyType(
        {"images": "chosen_by", "architecture": "teacher.architecture", "protocol": "teacher.protocol"}
    )
    name = "relabel"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher.folder is not None and self.teachers > 1:
            raise InputError(f"a folder holds one teacher, but teachers is {self.teachers}; give --teachers 1.")

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the networks' depth, and refuse a choice that is impossible."""
        settings = replace(super().resolve(source, runtime), teacher=self.teacher.resolve(source.shape))
        settings._selection()
        if self.chosen_by != "class-mean":
            self.check_enough(source)
        return settings

    def build(self, source: ImageSource, runtime: Runtime) -> Answered:
        """Choose the images, find or train the teachers, and label the images."""
        images = self.select(source, runtime)
        answers = self._asked(source.transform.forward(images), source, runtime)
        return Answered(images, source, answers)

    def select(self, source: ImageSource, runtime: Runtime) -> Tensor:
        """The images that the selection method chooses."""
        return self._selection().select(source, runtime)

    def _selection(self) -> Coreset:
        """The selection method, with those of these settings that it has."""
        kind = CORESETS[self.chosen_by]
        given: dict[str, Any] = {"ipc": self.ipc, "space": self.space, "observer": self.teacher}
        return kind(**{name: value for name, value in given.items() if name in kind.__dataclass_fields__})

    def _asked(self, images: Tensor, source: ImageSource, runtime: Runtime) -> Float[Tensor, "image classes"]:
        """The teachers' mean probabilities."""
        total = torch.zeros(len(images), len(source.classes))
        for teacher in range(self.teachers):
            turn = runtime.with_seed(derived_seed(runtime.seed, f"teacher {teacher}"))
            network = self.teacher.classifier(source, turn)
            total += (logits_of(network, images, source, runtime) / self.label_temperature).softmax(dim=1)
        return total / self.teachers

    def result(self, state: Any, runtime: Runtime) -> CondensedImages:
        """The chosen images with the teachers' mean probabilities as labels."""
        return replace(super().result(state, runtime), labels=state.labels)


@torch.inference_mode()
def logits_of(
    network: nn.Module, images: Tensor, source: ImageSource, runtime: Runtime
) -> Float[Tensor, "image classes"]:
    """A network's logits, computed on a few images at a time."""
    parts = images.split(layout.at_once(source.shape, runtime))
    return torch.cat([logits_in(network(part.to(runtime.device)), "teacher").float().cpu() for part in parts])
