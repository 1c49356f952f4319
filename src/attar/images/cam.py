"""Class activation maps of any network, by hooks. They show which places of an image a classifier uses.

Grad-CAM (Selvaraju et al., ICCV 2017, arXiv:1610.02391) is deterministic and the default. SmoothGrad-CAM++ (Omeiza et
al., arXiv:1908.01224) averages over noisy copies of the image. It is included because released code uses it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.images.networks.architecture import evaluating

Images = Float[Tensor, "image channel height width"]
Maps = Float[Tensor, "image map_height map_width"]
Features = Float[Tensor, "image filter map_height map_width"]


def grad_cam(network: nn.Module, images: Images, classes: Int[Tensor, " image"], layer: str | None = None) -> Maps:
    """Grad-CAM: ReLU(Σ_k w_k A_k), scaled from 0 to 1 in each image. w_k is the mean over places of ∂ logit / ∂A_k.

    Args:
        network: Any classifier. It is run in evaluation mode and its modes are restored.
        images: Network input.
        classes: The class of each map.
        layer: The module whose output is A. Default: the last one with more than one place (see `last_maps`).

    Returns:
        Maps at the layer's own resolution.
    """
    features, slopes = _features_and_slopes(network, images, classes, layer or last_maps(network, images[:1]))
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    return unit_range((weights * features).sum(dim=1).relu())


def smooth_grad_cam_pp(
    network: nn.Module,
    images: Images,
    classes: Int[Tensor, " image"],
    generator: torch.Generator,
    layer: str | None = None,
    *,
    copies: int = 4,
    spread: float = 0.3,
) -> Maps:
    """SmoothGrad-CAM++ as in the torchcam package.

    a_k = g² / (2 g² + Σ_places A_k g³ + 10⁻⁸), with g² and g³ averaged over noisy copies and A of the clean image.
    w_k = Σ_places a_k ReLU(g_k), and the map is ReLU(Σ_k w_k A_k). Both use g and A of the last noisy copy.

    Args:
        network: Any classifier.
        images: Network input.
        classes: The class of each map.
        generator: The generator that draws the noise.
        layer: The module, as for `grad_cam`.
        copies: The number of noisy copies.
        spread: The standard deviation of the noise, in units of network input.
    """
    layer = layer or last_maps(network, images[:1])
    clean, _ = _features_and_slopes(network, images, classes, layer)
    second, third = torch.zeros_like(clean), torch.zeros_like(clean)
    noisy, slopes = clean, clean
    for _ in range(copies):
        noise = spread * torch.randn(images.shape, generator=generator).to(images)
        noisy, slopes = _features_and_slopes(network, images + noise, classes, layer)
        second, third = second + slopes**2 / copies, third + slopes**3 / copies
    share = second / (2 * second + (clean * third).sum(dim=(2, 3), keepdim=True) + 1e-8)
    weights = (share * slopes.relu()).sum(dim=(2, 3), keepdim=True)
    return unit_range((weights * noisy).sum(dim=1).relu())


def unit_range(maps: Maps) -> Maps:
    """Scale each map from 0 to 1. A constant map becomes 0."""
    lowest = maps.amin(dim=(1, 2), keepdim=True)
    raised = maps - lowest
    return raised / (raised.amax(dim=(1, 2), keepdim=True) + 1e-8)


def resized(maps: Maps, height: int, width: int) -> Float[Tensor, "image height width"]:
    """Resize maps bilinearly."""
    scaled = F.interpolate(maps.unsqueeze(1), size=(height, width), mode="bilinear", align_corners=False)
    return scaled.squeeze(1)


@torch.no_grad()
def last_maps(network: nn.Module, images: Images) -> str:
    """The name of the last module whose output is a map of several filters and of more than one place.

    Raises:
        InputError: There is no such module, as in an MLP.
    """
    found: list[str] = []

    def note(name: str) -> object:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                found.append(name)

        return hook

    # Modules whose output is a map, in the order in which they finish.
    handles = [m.register_forward_hook(note(n)) for n, m in network.named_modules() if n and not _pools(m)]
    with evaluating(network):
        network(images)
    for handle in handles:
        handle.remove()
    if not found:
        raise InputError(f"{type(network).__name__} has no convolutional maps. Give a convolutional network.")
    return found[-1]


def _pools(module: nn.Module) -> bool:
    return isinstance(module, (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Dropout))


def _features_and_slopes(
    network: nn.Module, images: Images, classes: Int[Tensor, " image"], layer: str
) -> tuple[Features, Features]:
    """A layer's output, and the gradient of each image's class logit with respect to it."""
    modules = dict(network.named_modules())
    if layer not in modules:
        raise unknown("layer", layer, [name for name in modules if name])
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        kept.append(leaf)
        return leaf.clone()  # later modules may work in place

    handle = modules[layer].register_forward_hook(keep)
    try:
        with evaluating(network), torch.enable_grad():
            logits = network(images)
            # Images do not affect each other, so the gradient of the sum contains those of all.
            wanted = logits.gather(1, classes.to(logits.device).unsqueeze(1)).sum()
            (slopes,) = torch.autograd.grad(wanted, kept[-1])
    finally:
        handle.remove()
    return kept[-1].detach(), slopes
