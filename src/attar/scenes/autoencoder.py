"""An autoencoder of a scene's own views, for latents without a large pretrained model.

It maps pictures to a few channels at a quarter of their side and back, with attention in its middle, and learns by
the squared error of what it makes of the training views, and by a small penalty that keeps latents near zero, as the
autoencoders of latent diffusion models do. Use it when no pretrained autoencoder is at hand, or to try a scene in a
minute. With the autoencoder of a latent diffusion model, edits can use that model.

Rombach, Blattmann, Lorenz, Esser and Ommer, High-Resolution Image Synthesis with Latent Diffusion Models, CVPR 2022,
arXiv:2112.10752.
"""

import copy
import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.engine import Metrics
from attar.core.errors import Diverged
from attar.core.runtime import Runtime
from attar.core.settings import Hidden, Range, Settings
from attar.core.state import rebuilt
from attar.core.training import half_cosine, next_rows, set_lr
from attar.images.networks.architecture import parameter_count
from attar.scenes.artefact import Autoencoder, Origin
from attar.scenes.codecs import USUAL, Codec, Identity, Images, codec_named
from attar.scenes.work import PORTION, Work, encoded


@dataclass
class Learning:
    """A codec in training."""

    codec: Codec
    optimizer: torch.optim.Optimizer
    order: Int[Tensor, " row"]
    images: Images = rebuilt()
    work: Work = rebuilt()
    done: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainAutoencoder(Settings):
    """Learn latents of a scene's views (after Rombach et al., CVPR 2022, arXiv:2112.10752)."""

    network: str = USUAL
    """The network, by words: conv:width=32,latents=4,halvings=2, or kl with the same options (AutoencoderKL of
    diffusers)."""
    steps: Annotated[int, Range(1)] = 600
    """Steps in all."""
    batch: Annotated[int, Range(1)] = 4
    """Batch size: pictures per step."""
    lr: Annotated[float, Range(0)] = 3e-3
    """Step size (learning rate), which falls to zero along a half cosine."""
    latent_weight: Annotated[float, Range(0)] = 1e-4
    """Weight of the mean square of the latents before they are scaled."""
    samples: Annotated[int, Hidden()] = 0
    """Number of pictures; filled in from the data."""

    kind = "scenes"
    name = "autoencoder"
    verb = "train"

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return self.steps

    def resolve(self, work: Work, runtime: Runtime) -> Self:
        """The same settings with what follows from the data filled in."""
        return dataclasses.replace(self, samples=len(pictures_of(work)))

    def build(self, work: Work, runtime: Runtime) -> Learning:
        """The state before the first step."""
        codec = codec_named(self.network, runtime.generator("network")).to(runtime.device)
        images = pictures_of(work).to(runtime.device)
        codec.encode(images[:1])
        parameters = list(codec.parameters()) or [torch.nn.Parameter(torch.zeros(1))]
        optimizer = torch.optim.Adam(parameters, self.lr, betas=(0.9, 0.99), fused=True)
        return Learning(codec, optimizer, torch.zeros(len(images), dtype=torch.long), images, work)

    def step(self, state: Learning, runtime: Runtime) -> Metrics:
        """One batch of pictures."""
        rows = next_rows(state.order, state.done, self.batch, runtime.generator("batches"))
        images = state.images[rows.to(state.images.device)]
        state.codec.train()
        set_lr(state.optimizer, self.lr * half_cosine(state.done, self.total_steps))
        loss, error = autoencoder_loss(state.codec, images, self.latent_weight)
        state.optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:
            loss.backward()
            state.optimizer.step()
        state.done += 1
        return {"loss": loss.detach(), "rms": error.detach().sqrt()}

    @torch.no_grad()
    def result(self, state: Learning, runtime: Runtime) -> Autoencoder:
        """The autoencoder as it is now, with latents of unit standard deviation over the training views.

        Raises:
            Diverged: The latents of a picture are not finite.
        """
        codec = copy.deepcopy(state.codec).cpu().eval().requires_grad_(False)
        scene = state.work.scene
        if not isinstance(codec, Identity):
            codec.scale = 1.0
            spread = float(torch.cat([codec.encode(part) for part in scene.train.images.split(PORTION)]).std())
            if not math.isfinite(spread):
                raise Diverged.of("the latents became infinite")
            codec.scale = 1 / max(spread, 1e-6)
        origin = Origin.made(state.work, self, runtime, parameters=parameter_count(codec))
        views = scene.test if len(scene.test) else scene.train
        error = float((codec.decode(encoded(codec, views.images)).clamp(-1, 1) - views.images).square().mean().sqrt())
        return Autoencoder(codec, origin, error, views.images[:10].clone())


def autoencoder_loss(codec: Codec, images: Images, latent_weight: float) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean squared error of decoded pictures plus a weight times the mean square of the latents; and the error alone.

    Args:
        codec: The autoencoder.
        images: Pictures between -1 and 1.
        latent_weight: The weight.
    """
    means = codec.means(images)
    error = (codec.pictured(means) - images).square().mean()
    return error + latent_weight * means.square().mean(), error


def pictures_of(work: Work) -> Images:
    """The training views, and those of the other simulated scenes where there are any."""
    scene = work.scene
    return torch.cat([scene.train.images, *(views.images for views in scene.others)])
