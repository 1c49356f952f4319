"""A layer of shear between the corona, below y = 0, and a thread, above: the states at the start."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from attar.plasma.states import GAMMA, Grid, conserved


def shear_layer(
    grid: Grid,
    y: Float[Tensor, " row"],
    across: Float[Tensor, "row column"],
    *,
    layer: float,
    density_ratio: float,
    speeds: tuple[float, float],
    plasma_beta: float,
) -> Float[Tensor, "5 row column"]:
    """Conserved states of equal pressure 1/γ, whose density and speed follow ½(1 + tanh(y/a)).

    Args:
        grid: The cells.
        y: Centres of the rows.
        across: Speeds along y.
        layer: Half-width a.
        density_ratio: Density of the thread; that of the corona is 1.
        speeds: Of corona and thread along x.
        plasma_beta: Gas pressure over magnetic pressure.
    """
    thread = 0.5 * (1 + torch.tanh(y / layer))
    profile = torch.ones(grid.rows, grid.columns, dtype=torch.float64)
    density = profile * (1 + (density_ratio - 1) * thread)[:, None]
    along = profile * (speeds[0] + (speeds[1] - speeds[0]) * thread)[:, None]
    bz = math.sqrt(2 / (GAMMA * plasma_beta))
    return conserved(torch.stack((density, along, across, profile / GAMMA, profile * bz)))


def noise(grid: Grid, generator: torch.Generator) -> Float[Tensor, "row column"]:
    """Uniform between -1 and 1, drawn for each cell."""
    return 2 * torch.rand(grid.rows, grid.columns, dtype=torch.float64, generator=generator) - 1


def waves(grid: Grid, y: Float[Tensor, " row"], count: int) -> Float[Tensor, "row column"]:
    """Sines along x, as many as `count`, that fade as exp(-k|y|)."""
    phase = 2 * math.pi * count * (torch.arange(grid.columns, dtype=torch.float64) + 0.5) / grid.columns
    k = 2 * math.pi * count / (grid.columns * grid.dx)
    return torch.exp(-k * y.abs())[:, None] * torch.sin(phase)
