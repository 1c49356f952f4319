"""What the tests of distilled samplers share: exact teachers, small runs, and the released numbers."""

import os
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from attar.core import engine
from attar.core.runtime import Engine, Runtime
from attar.samplers.artefact import Origin, Sampler
from attar.samplers.denoisers import Denoiser
from attar.samplers.networks import MLPWords, ResidualMLP
from attar.samplers.schedules import Grid
from attar.samplers.sources import Source
from attar.samplers.teaching import Work

GOLDEN = Path(__file__).parent / "samplers" / "golden"
RELEASED = Path(os.environ.get("ATTAR_DATA", "")).parent / "fixtures" / "generators"
WORDS = "mlp:width=32,depth=1"
EVERY_STEP = Engine(device="cpu", checkpoint_seconds=0, quiet=True)
IN_ONE_GO = Engine(device="cpu", quiet=True)


class Silent(nn.Module):
    """F = 0: with EDM's scalings the exact denoiser of a Gaussian of mean 0 whose standard deviation is σ_d."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, noise, labels):
        return torch.zeros_like(x) + self.nothing


def released(name):
    """The numbers of a case; None where they are not at hand."""
    path = RELEASED / f"{name}.safetensors"
    return load_file(path) if path.is_file() else None


def teacher_of(denoiser, shape=(2,), classes=(), words=None, **how):
    """A sampler around a denoiser."""
    how = {"grid": Grid().resolve(shape), "steps": 6, "solver": "heun", **how}
    shares = tuple(1 / len(classes) for _ in classes)
    origin = Origin("points", "", "edm", {}, 0, {}, parameters=1)
    return Sampler(
        denoiser, words, shape=shape, classes=classes, class_shares=shares, pictures=False, origin=origin, **how
    )


def gaussian_teacher(spread=0.7, **how):
    """The exact diffusion model of a centred Gaussian in the plane."""
    return teacher_of(Denoiser(Silent(), spread).requires_grad_(False), **how)


def small_teacher(seed=0, dropout=0.0, **how):
    """A teacher with random weights, of points in two classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ResidualMLP((2,), 2, MLPWords(width=32, depth=1, dropout=dropout))
    denoiser = Denoiser(network, 0.7).requires_grad_(False)
    words = WORDS + (f",dropout={dropout}" if dropout else "")
    return teacher_of(denoiser, classes=("left", "right"), words=words, **how)


def points(rows=40, seed=0):
    """Points around two places, labelled."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 2
    values = 0.3 * torch.randn(rows, 2, generator=generator) + (2 * labels[:, None] - 1) * torch.tensor([0.6, 0.0])
    return Source.of_tensors(values, values[:10], labels=(labels, labels[:10]), classes=("left", "right"))


def made(method, teacher=None, source=None, *, seed=0, out=None, how=IN_ONE_GO):
    """What a method makes."""
    runtime = Runtime(how, seed)
    work = Work(source or points(), teacher)
    return engine.run(method.resolve(work, runtime), work, runtime, out=out)


def started(method, teacher=None, source=None, seed=0):
    """Resolved settings, the state before the first step, and the runtime."""
    runtime = Runtime(IN_ONE_GO, seed)
    work = Work(source or points(), teacher)
    method = method.resolve(work, runtime)
    return method, method.build(work, runtime), runtime


def bytes_of(sampler):
    """The parameters, comparable."""
    return {name: tensor.numpy().tobytes() for name, tensor in sampler.learned.items()}
