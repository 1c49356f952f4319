"""EDM: a diffusion model with preconditioning, trained on log-normal noise and sampled by Heun's method.

The teacher of this kind's students, and the model to prefer where many calls of a network cost nothing. Tero Karras,
Miika Aittala, Timo Aila and Samuli Laine, Elucidating the Design Space of Diffusion-Based Generative Models, NeurIPS
2022, arXiv:2206.00364.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.samplers.denoisers import Condition, Denoiser, Denoising, Noisy, broadcast
from attar.samplers.learner import Batch, Learning, SamplerMethod
from attar.samplers.networks import NO_LABEL, network_named, usual
from attar.samplers.sampling import Churn
from attar.samplers.teaching import Work


@dataclass(frozen=True, kw_only=True)
class EDM(SamplerMethod):
    """A diffusion model with EDM's preconditioning, trained on log-normal noise and sampled by Heun's method.

    Karras, Aittala, Aila and Laine, NeurIPS 2022, arXiv:2206.00364. The teacher of all students; prefer it to them
    where many calls of a network cost nothing.
    """

    network: str = "auto"
    """The network, by words: mlp:width=384,depth=3, or unet:width=32 (diffusers' UNet2DModel). auto: an MLP for points
    and images up to 16 pixels, a U-Net for larger ones."""
    lr: Annotated[float, Range(0)] = 2e-3
    """Step size (learning rate)."""
    weights_average: Annotated[float, Range(0, 1)] = 0.995
    """Decay of a moving average of the weights, which then is the result. It is smaller in the first steps. 0: none."""
    noise_mean: float = -1.2
    """P_mean: mean of ln σ in training."""
    noise_std: Annotated[float, Range(0)] = 1.2
    """P_std: standard deviation of ln σ in training."""
    label_dropout: Annotated[float, Range(0, 1)] = 0.0
    """Share of samples that are shown without their label, so that guidance is possible."""
    sigma_data: Annotated[float, Range(0)] | None = None
    """Standard deviation of the data in the preconditioning. Default: measured on the training samples."""
    sampling_levels: Annotated[int, Range(1, 10_000)] = 18
    """Number of noise levels of the sampler; n levels take 2n - 1 calls of the network."""
    churn: Churn = field(default_factory=Churn)
    """Noise that is added while sampling."""

    name = "edm"
    verb = "train"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published row.

        Args:
            data: cifar10, ffhq, afhqv2 or imagenet-64.

        Raises:
            InputError: There is no such row.
        """
        from attar.core.presets import published

        return published(cls, data)

    def started(self, work: Work, runtime: Runtime) -> Denoiser:
        """A fresh network in EDM's form."""
        source = work.source
        network = network_named(self.network, source.shape, len(source.classes), runtime.generator("network"))
        return Denoiser(network, self.sigma_data or source.sigma_data)

    def loss(self, batch: Batch, state: Learning, runtime: Runtime) -> Tensor:
        """λ(σ) (D(x + σ ε, σ) - x)², mean over values."""
        draw = runtime.generator("levels")
        sigma = (self.noise_mean + self.noise_std * torch.randn(len(batch.clean), generator=draw)).exp()
        labels = batch.labels
        if self.label_dropout and labels is not None:
            hidden = torch.rand(len(labels), generator=runtime.generator("label dropout")) < self.label_dropout
            labels = torch.where(hidden.to(labels.device), NO_LABEL, labels)
        noise = self.noise(batch.clean, runtime)
        return edm_loss(state.student, batch.clean, sigma.to(batch.clean), noise, labels, state.student.sigma_data)

    def form(self, state: Any) -> dict[str, Any]:
        """Heun's method."""
        return {"solver": "heun", "steps": self.sampling_levels, "churn": self.churn}

    def network_of(self, work: Work) -> str:
        """As it was named, or the usual one."""
        return usual(work.source.shape) if self.network == "auto" else self.network


def edm_loss(
    denoiser: Denoising,
    clean: Noisy,
    sigma: Float[Tensor, " _batch"],
    noise: Noisy,
    labels: Condition = None,
    sigma_data: float = 0.5,
) -> Float[Tensor, ""]:
    """Mean over samples and values of λ(σ) (D(x + σ ε, σ) - x)², λ = (σ² + σ_d²) / (σ σ_d)² (equations 2 and 8).

    The released training loop sums over the values of a sample where this takes their mean.

    Args:
        denoiser: D.
        clean: x.
        sigma: σ of each sample.
        noise: ε.
        labels: The condition.
        sigma_data: σ_d.
    """
    weight = (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()
    found = denoiser(clean + broadcast(sigma, clean) * noise, sigma, labels)
    return (broadcast(weight, clean) * (found - clean).square()).mean()
