"""Random threads: lines of sight through cool, dense gas in the corona, drawn from a seed.

A line of sight crosses one thread or several. Each has a core of its own temperature, density and speed. Its density
falls to that of the corona by a tanh on either side, and the pressure is that of the core, so that the temperature
rises as the density falls. The widths of the two transitions (PCTR) are drawn independently.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float

from attar.core.errors import InputError
from attar.core.settings import Range, Settings
from attar.plasma.column import TURBULENCE, Column
from attar.plasma.gridding import POINTS, regridded

NAME = "threads"
REACH = 6.0
"""Half-widths of a transition that its tanh is followed for."""
AROUND, ALONG = 97, 257
"""Knots around each transition, and along the whole line of sight, before the points are placed."""

Length = Annotated[float, Range(1.0, 1e12)]
Kelvin = Annotated[float, Range(100.0, 1e9)]
Density = Annotated[float, Range(1.0, 1e30)]


@dataclass(frozen=True)
class RandomThreads:
    """The data `threads`: random lines of sight, drawn by the settings of the method `columns`."""

    name: str = NAME
    fingerprint: str = NAME

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return "random threads"

    def __str__(self) -> str:
        return "random threads, drawn from the seed when columns are made of them"


@dataclass(frozen=True, kw_only=True)
class Threads(Settings):
    """Ranges that random threads are drawn from; those of quiescent prominences."""

    most_threads: Annotated[int, Range(1, 100)] = 3
    """Largest number of threads on a line of sight; each number up to it is equally likely."""
    thread_widths: tuple[Length, Length] = (3e5, 5e6)
    """Smallest and largest width of a thread, in m, drawn uniformly in the logarithm."""
    pctr_widths: tuple[Length, Length] = (5e3, 1e5)
    """Smallest and largest half-width of the transition to the corona, in m, drawn uniformly in the logarithm."""
    core_temperatures: tuple[Kelvin, Kelvin] = (6e3, 1.2e4)
    """Lowest and highest temperature of a core, in K, drawn uniformly."""
    core_densities: tuple[Density, Density] = (1e16, 2e17)
    """Lowest and highest hydrogen density of a core, in m⁻³, drawn uniformly in the logarithm."""
    thread_speeds: tuple[float, float] = (-2e4, 2e4)
    """Lowest and highest speed of a thread towards the observer, in m/s, drawn uniformly."""
    speed_change: Annotated[float, Range(0, 1e6)] = 5e3
    """Largest difference of the speeds at both sides of a thread, in m/s, drawn uniformly with either sign."""
    corona_temperature: Kelvin = 1e6
    """Temperature of the corona, in K."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("thread_widths", "pctr_widths", "core_temperatures", "core_densities", "thread_speeds"):
            low, high = getattr(self, name)
            if low > high:
                raise InputError(f"{name} is {low:g} to {high:g}; give the smaller one first.")
        if self.core_temperatures[1] >= self.corona_temperature:
            raise InputError(
                f"corona_temperature is {self.corona_temperature:g}, but cores have up to "
                f"{self.core_temperatures[1]:g}. The corona must be hotter."
            )

    def drawn(self, count: int, generator: torch.Generator, turbulence: float = TURBULENCE) -> Iterator[Column]:
        """So many columns on the points that emulators take.

        Args:
            count: How many.
            generator: Draws them, on the CPU.
            turbulence: Micro-turbulence, in m/s.
        """
        for _ in range(count):
            yield regridded(self.one(generator, turbulence), POINTS)

    def one(self, generator: torch.Generator, turbulence: float = TURBULENCE) -> Column:
        """One line of sight from corona to corona, on knots that follow its transitions."""
        threads = int(torch.randint(1, self.most_threads + 1, (), generator=generator))
        draws = torch.rand(threads, 8, dtype=torch.float64, generator=generator).numpy()
        width, near, far, heat, density, speed, change, gap = draws.T
        widths = between(self.thread_widths, width, logarithmic=True)
        edges = np.stack([between(self.pctr_widths, one, logarithmic=True) for one in (near, far)])
        cores = between(self.core_temperatures, heat), between(self.core_densities, density, logarithmic=True)
        speeds, changes = between(self.thread_speeds, speed), self.speed_change * (2 * change - 1)
        gaps = (0.1 + gap) * widths + REACH * edges.sum(axis=0)
        starts = np.cumsum(gaps + widths) - widths
        depth = _knots(starts, starts + widths, edges)
        filled = _filled(depth, starts, starts + widths, edges)
        velocity = _speed(depth, filled, starts, widths, speeds, changes)
        return self._column(depth, filled, *cores, velocity, turbulence)

    def _column(
        self,
        depth: Float[np.ndarray, " knot"],
        filled: Float[np.ndarray, "thread knot"],
        temperatures: Float[np.ndarray, " thread"],
        densities: Float[np.ndarray, " thread"],
        velocity: Float[np.ndarray, " knot"],
        turbulence: float,
    ) -> Column:
        """A column from the share of each thread at each knot."""
        pressures = densities * temperatures
        outside = float(pressures.mean())
        inside = filled.sum(axis=0)
        thin = outside / self.corona_temperature
        hydrogen = thin + (densities - thin) @ filled
        pressure = outside * (1 - inside) + pressures @ filled
        heat = np.clip(pressure / hydrogen, temperatures.min(), self.corona_temperature)
        return Column(depth, heat, hydrogen, velocity, turbulence)


def between(
    ends: tuple[float, float], share: Float[np.ndarray, "..."], *, logarithmic: bool = False
) -> Float[np.ndarray, "..."]:
    """Values between two ends, for shares between 0 and 1."""
    low, high = map(math.log, ends) if logarithmic else ends
    found = low + share * (high - low)
    return np.exp(found) if logarithmic else found


def _knots(
    starts: Float[np.ndarray, " thread"], ends: Float[np.ndarray, " thread"], edges: Float[np.ndarray, "2 thread"]
) -> Float[np.ndarray, " knot"]:
    """Depths that follow each transition, and that are spread over the whole line."""
    near = np.linspace(-REACH, REACH, AROUND)
    places = [place + edge * near for place, edge in zip((*starts, *ends), edges.ravel(), strict=True)]
    found = np.concatenate([*places, np.linspace(min(map(np.min, places)), max(map(np.max, places)), ALONG)])
    found = np.unique(found)
    return found[np.concatenate(([True], np.diff(found) > 1e-9 * (found[-1] - found[0])))]


def _filled(
    depth: Float[np.ndarray, " knot"],
    starts: Float[np.ndarray, " thread"],
    ends: Float[np.ndarray, " thread"],
    edges: Float[np.ndarray, "2 thread"],
) -> Float[np.ndarray, "thread knot"]:
    """The share of each thread at each depth: ½(tanh((s - a)/w₁) - tanh((s - b)/w₂))."""
    near, far = ((depth - place[:, None]) / edge[:, None] for place, edge in zip((starts, ends), edges, strict=True))
    return np.maximum(0.5 * (np.tanh(near) - np.tanh(far)), 0.0)  # a wide near edge reaches beyond a narrow far one


def _speed(
    depth: Float[np.ndarray, " knot"],
    filled: Float[np.ndarray, "thread knot"],
    starts: Float[np.ndarray, " thread"],
    widths: Float[np.ndarray, " thread"],
    speeds: Float[np.ndarray, " thread"],
    changes: Float[np.ndarray, " thread"],
) -> Float[np.ndarray, " knot"]:
    """The speed at each depth: the mean of the threads, by their shares, each with its own gradient."""
    place = np.clip((depth - starts[:, None]) / widths[:, None] - 0.5, -0.5, 0.5)
    own = speeds[:, None] + place * changes[:, None]
    weight = filled + 1e-6
    return (own * weight).sum(axis=0) / weight.sum(axis=0)
