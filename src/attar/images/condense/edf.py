"""EDF: trajectory matching without the parameters that a student matches easily, weighted to discriminative pixels.

Prefer it for pictures in which the object fills only a part of the frame: gradients of the pixels that a classifier
uses count more. On small pictures without background (digits, CIFAR) it does not improve on DATM.
Wang, Li et al., Emphasizing Discriminative Features for Dataset Distillation in Complex Scenarios, CVPR 2025,
arXiv:2410.17193.
"""

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.settings import Range, Role
from attar.images import layout
from attar.images.cam import grad_cam, resized, smooth_grad_cam_pp
from attar.images.condense.adjoint import Matched
from attar.images.condense.datm import DATM
from attar.images.condense.trajectory import Distilling, Images, LabelLogits
from attar.images.sources import ImageSource
from attar.images.trained import BATCH_NORM, Auxiliary

Maps = Float[Tensor, "image height width"]


@dataclass(frozen=True, kw_only=True)
class EDF(DATM):
    """Emphasise discriminative features (Wang, Li et al., CVPR 2025, arXiv:2410.17193).

    It extends DATM. The share `parameter_dropout` of parameters that came nearest to the target is removed from the
    loss (common pattern dropout). Each pixel's gradient is multiplied by 1 where the class activation map is below its
    mean, and by `emphasis` plus the map elsewhere (discriminative area enhancement). Maps are Grad-CAM of a network
    trained on the real images, computed on the synthetic images for the class of their slot.
    """

    parameter_dropout: Annotated[float, Range(0, 0.99)] | None = None
    """Share of the parameters that are removed from the loss, α. Default: 0 at one image per class, 0.25 below fifty,
    0.375 from fifty on."""
    emphasis: Annotated[float, Range(0)] = 1.0
    """Number added to the activation map where it is above its mean, β_e. 0 leaves the gradient of every pixel as it
    is."""
    threshold: Annotated[float, Range(0, 1)] | None = None
    """Threshold above which an activation map multiplies the gradient. Default: the map's mean."""
    refresh: Annotated[int, Range(1)] = 50
    """Number of steps after which the maps are computed again."""
    maps: Literal["grad-cam", "smooth"] = "grad-cam"
    """Kind of class activation map: Grad-CAM, as in the paper (grad-cam), or SmoothGrad-CAM++, as in the code
    (smooth)."""
    map_class: Literal["slot", "label"] = "slot"
    """Class for which a map is computed: the class of the image (slot), or the class of its learned label, as in the
    code (label). (The code also takes a number among ten classes for one among ImageNet's thousand. That is not
    offered.)"""
    observer: Annotated[Auxiliary, Role()] = BATCH_NORM
    """The network from which the maps are computed. Its folder may be transformers:NAME_OR_FOLDER of any classifier of
    these classes. Default width: that of the method's network."""

    moved = MappingProxyType(
        {
            "dropout": "parameter_dropout",
            "observer": "observer.folder",
            "observer_architecture": "observer.architecture.network",
        }
    )
    name = "edf"

    @property
    def drop(self) -> float:
        """α."""
        assert self.parameter_dropout is not None, "resolve the settings first"
        return self.parameter_dropout

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value."""
        few = self.ipc if isinstance(self.ipc, int) else min(self.ipc, default=1)
        usual = 0.0 if few == 1 else 0.25 if few < 50 else 0.375
        settings, observer = super().resolve(source, runtime), self.observer
        if observer.architecture.width is None:
            observer = replace(observer, architecture=replace(observer.architecture, width=settings.architecture.width))
        settings = replace(settings, observer=observer)
        return replace(settings, parameter_dropout=usual if self.parameter_dropout is None else self.parameter_dropout)

    def initial(self, state: Distilling, runtime: Runtime) -> tuple[Images, LabelLogits | None]:
        """DATM's initial images and labels; the pixel weights are set to one."""
        images, logits = super().initial(state, runtime)
        state.extra["weights"] = torch.ones(len(images), *state.source.shape[1:], device=runtime.device)
        return images, logits

    def prepare(self, state: Distilling, runtime: Runtime) -> None:
        """Compute the maps again every `refresh` steps."""
        if self.emphasis and state.done % self.refresh == 0:
            maps = self._maps(state, runtime)
            state.extra["weights"].copy_(pixel_weights(maps, self.emphasis, self.threshold))

    def corrected(self, found: Matched, state: Distilling, runtime: Runtime) -> Images:
        """The gradient, multiplied by the weight of each pixel."""
        return found.images * state.extra["weights"].unsqueeze(1)

    def _maps(self, state: Distilling, runtime: Runtime) -> Maps:
        """Maps of the current synthetic images."""
        if state.observer is None:
            state.observer = self.observer.classifier(state.source, runtime)
        observer: nn.Module = state.observer
        images, classes = state.images.detach(), state.labels
        if self.map_class == "label" and state.label_logits is not None:
            classes = state.label_logits.detach().argmax(dim=1).cpu()
        parts = zip(*(x.split(layout.at_once(state.source.shape, runtime)) for x in (images, classes)), strict=True)
        if self.maps == "smooth":
            generator = runtime.generator("maps")
            found = [smooth_grad_cam_pp(observer, pixels, of, generator) for pixels, of in parts]
        else:
            found = [grad_cam(observer, pixels, of) for pixels, of in parts]
        return resized(torch.cat(found), *state.source.shape[1:])

    @classmethod
    def paper(cls, data: str, *, ipc: int, variant: Literal["paper", "released"] = "paper") -> Self:
        """The settings of one released configuration (`attar condense edf --paper` lists them).

        Args:
            data: An ImageNet subset, such as imagewoof or bird-easy, or cifar10, cifar100 or tiny-imagenet.
            ipc: Number of images per class.
            variant: paper has Grad-CAM for the class of the image; released has the code's SmoothGrad-CAM++ for the
                class of the learned label. All numbers are the released ones in both.

        Raises:
            InputError: There is no configuration of the cell.
        """
        return published(cls, data, ipc, variant=variant)


def pixel_weights(maps: Maps, emphasis: float, threshold: float | None = None) -> Maps:
    """F(M): 1 where a map is below its mean (or a threshold), `emphasis` + M elsewhere."""
    bound = maps.mean(dim=(1, 2), keepdim=True) if threshold is None else threshold
    return torch.where(maps < bound, torch.ones_like(maps), emphasis + maps)
