"""The tiny network of the released code's numbers, and Gaussian data, whose denoiser is known."""

import torch

from attar.samplers.denoisers import Denoiser


class Tiny(torch.nn.Module):
    """tanh(x A + c u + y V + a) B + b of the flattened sample; the term of y is absent without labels."""

    def __init__(self, golden, name="net", times=1.0):
        super().__init__()
        self.times = times
        for key in "AuVaBb":
            setattr(self, key, torch.nn.Parameter(golden[f"{name}.{key}"].clone()))

    def forward(self, x, noise, labels=None):
        told = self.times * noise[:, None] * self.u + self.a
        if labels is not None:
            told = told + self.V[labels]
        return (torch.tanh(x.flatten(1) @ self.A + told) @ self.B + self.b).view_as(x)


def denoiser_of(golden, *, name="net", sigma_data=0.5, boundary=None, times=1.0):
    return Denoiser(Tiny(golden, name, times), sigma_data, boundary)


def gaussian(mean=0.3, std=0.6):
    """The denoiser of data N(mean, std²)."""

    def denoise(x, sigma, labels=None):
        variance = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1)) ** 2
        return (std**2 * x + variance * mean) / (std**2 + variance)

    return denoise


def flow_of_gaussian(noise, high, mean=0.3, std=0.6):
    """Where the probability-flow ODE of that denoiser ends, from noise at level `high`."""
    return mean + (high * noise - mean) * std / (std**2 + high**2) ** 0.5
