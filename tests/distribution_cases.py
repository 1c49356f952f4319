"""The released code's numbers of distribution matching, and its tiny network."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from attar.samplers.denoisers import broadcast
from attar.samplers.schedules import VP, to_x0

FIXTURES = Path(os.environ.get("ATTAR_DATA", "")).parent / "fixtures" / "generators"
GOLDEN = load_file(Path(__file__).parent / "samplers" / "golden" / "dmd2.safetensors")


def released(name):
    """All numbers of a case, where the fixtures are at hand."""
    path = FIXTURES / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip("the released code's numbers are not at hand")
    return load_file(path)


class Told(torch.nn.Module):
    """tanh(x A + c u + y V + a) B + b of flattened samples, y a condition as numbers."""

    def __init__(self, golden, name):
        super().__init__()
        for key in "AuVaBb":
            setattr(self, key, torch.nn.Parameter(golden[f"{name}.{key}"].clone()))

    def hidden(self, x, noise, labels=None):
        told = noise[:, None] * self.u + self.a
        return torch.tanh(x.flatten(1) @ self.A + (told if labels is None else told + labels @ self.V))

    def forward(self, x, noise, labels=None):
        return (self.hidden(x, noise, labels) @ self.B + self.b).view_as(x)


class Preserving:
    """A network that predicts ε at the steps of a variance-preserving schedule, as D(x, σ) in exploding form."""

    pure = True

    def __init__(self, network, alphas_cumprod):
        self.network, self.schedule = network, VP(alphas_cumprod)
        self.levels = self.schedule.exploding()

    def step(self, sigma, x):
        near = (self.levels.log() - sigma.reshape(-1, 1).to(self.levels).log()).abs().argmin(dim=1)
        return near.expand(len(x))

    def epsilon(self, x, t, labels):
        return self.network(broadcast(self.schedule.alpha(t), x) * x, t.double() / 1000, labels)

    def __call__(self, x, sigma, labels=None):
        t = self.step(sigma, x)
        alpha, noise = broadcast(self.schedule.alpha(t), x), broadcast(self.schedule.sigma(t), x)
        return to_x0(self.epsilon(x, t, labels), alpha * x, alpha, noise, "epsilon").to(x)
