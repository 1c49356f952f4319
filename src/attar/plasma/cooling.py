"""Exact cooling: how far gas of constant density cools in a time, without sub-steps and without overshoot.

Townsend, An exact integration scheme for radiative cooling in hydrodynamical simulations, ApJS 181 (2009). In
dT/dt = -γ(γ - 1) ρ Λ̂(T)/τ variables separate: a time step shifts Y(T) = ∫ dT/Λ̂ by a known amount, and the inverse of Y
gives the new temperature. Each interval of the loss table is divided until Λ̂ is a straight line in T on every piece,
where Y and its inverse are a logarithm and an exponential. The error of that is below 2e-6 of the time.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from attar.core.errors import InputError
from attar.plasma.arrays import Array, like, module_of
from attar.plasma.losses import LossTable
from attar.plasma.states import DENSITY, ENERGY, GAMMA, primitive, temperature

PIECES, STEEP = 64, 16
"""Pieces of an interval of a table over which losses hardly change, and how many times as many a steep one has at most:
as many as its losses have times their smaller value."""


@dataclass(frozen=True, eq=False)
class Cooling:
    """Losses of a plasma in its own units: ρ²Λ̂(T)/τ per volume and time."""

    table: LossTable
    tau: Any
    """τ, in units of time; a tensor where derivatives by it are wanted."""
    unit: float = 1e6
    """T_0, in K."""

    def __post_init__(self) -> None:
        if not isinstance(self.table, LossTable):
            raise InputError(f"the losses are of type {type(self.table).__name__}; give a LossTable.")
        for name, value in {"tau": self.tau, "unit": self.unit}.items():
            if isinstance(value, (int, float)) and not 0 < value < math.inf:
                raise InputError(f"{name} of the cooling is {value:g}; it must be positive and finite.")

    @cached_property
    def nodes(self) -> Float[np.ndarray, " node"]:
        """Temperatures between which Λ̂ is a straight line, ascending, in units of T_0."""
        logs, ends = self.table.log_t, self.table.losses
        small, large = np.minimum(ends[1:], ends[:-1]), np.maximum(ends[1:], ends[:-1])
        counts = PIECES * np.ceil(np.minimum(STEEP, large / np.maximum(small, large / STEEP))).astype(int)
        pairs = zip(itertools.pairwise(logs), counts, strict=True)
        parts = [np.linspace(low, high, count, endpoint=False) for (low, high), count in pairs]
        return 10 ** np.concatenate([*parts, logs[-1:]]) / self.unit

    @cached_property
    def losses(self) -> Float[np.ndarray, " node"]:
        """Λ̂ at the nodes."""
        return self.table.at(self.nodes * self.unit)

    @cached_property
    def slopes(self) -> Float[np.ndarray, " piece"]:
        """dΛ̂/dT between two nodes."""
        return np.diff(self.losses) / np.diff(self.nodes)

    @cached_property
    def elapsed(self) -> Float[np.ndarray, " node"]:
        """-Y at the nodes, ascending with T: 0 where losses are largest, and -∞ where they end."""
        rising, high = self.slopes, self.losses[1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            pieces = np.log(high / self.losses[:-1]) / rising
            flat = np.diff(self.nodes) / high
        level = np.abs(np.diff(self.losses)) < 1e-9 * high
        times, peak = np.where(level, flat, pieces), int(np.argmax(self.losses))
        # From the peak both ways: the times of gas that hardly cools would swallow those of gas that cools at once.
        return np.concatenate((-np.cumsum(times[:peak][::-1])[::-1], [0.0], np.cumsum(times[peak:])))

    def _tables(self, array: Array) -> tuple[Array, Array, Array, Array]:
        """Nodes, losses, slopes and -Y of the type and on the device of an array, where they are brought once."""
        place = str(array.dtype), str(getattr(array, "device", ""))
        if place not in self._placed:
            tables = self.nodes, self.losses, self.slopes, self.elapsed
            self._placed[place] = tuple(like(values, array) for values in tables)
        nodes, losses, slopes, elapsed = self._placed[place]
        return nodes, losses, slopes, elapsed

    @cached_property
    def _placed(self) -> dict[tuple[str, str], tuple[Array, ...]]:
        return {}

    def rate(self, conserved: Array) -> Array:
        """ρ²Λ̂(T)/τ in each cell, `[rows, columns]`."""
        states = primitive(conserved)
        density, heat = states[DENSITY], temperature(states)
        xp, (nodes, losses, _, _) = module_of(conserved), self._tables(conserved)
        piece = xp.clip(xp.searchsorted(nodes, heat, side="right") - 1, 0, len(nodes) - 2)
        share = (xp.clip(heat, nodes[0], nodes[-1]) - nodes[piece]) / (nodes[piece + 1] - nodes[piece])
        found = losses[piece] + share * (losses[piece + 1] - losses[piece])
        return density**2 * xp.where(heat < nodes[0], xp.zeros_like(heat), found) / self.tau

    def cooled(self, conserved: Array, dt: Any) -> Array:
        """Conserved states after they have lost radiation for a time at constant density, velocity and field.

        Args:
            conserved: `[5, rows, columns]`.
            dt: The time.
        """
        states, xp = primitive(conserved), module_of(conserved)
        density, before = states[DENSITY], temperature(states)
        after = self.temperature_after(before, GAMMA * (GAMMA - 1) * density * dt / self.tau)
        lost = density * (before - after) / (GAMMA * (GAMMA - 1))
        return xp.stack([part - lost if place == ENERGY else part for place, part in enumerate(conserved)])

    def temperature_after(self, heat: Array, passed: Array) -> Array:
        """T after dT/ds = -Λ̂(T) has run for s.

        Args:
            heat: T before, in units of T_0.
            passed: s ≥ 0, of the same shape.
        """
        xp = module_of(heat)
        nodes, losses, slopes, elapsed = self._tables(heat)
        last = len(nodes) - 2
        piece = xp.clip(xp.searchsorted(nodes, heat, side="right") - 1, 0, last)
        inside = xp.clip(heat, nodes[0], nodes[-1])
        top = nodes[piece + 1]
        now = elapsed[piece + 1] - _time_down(top - inside, losses[piece + 1], slopes[piece])
        hotter = xp.clip(heat - nodes[-1], 0.0, None)
        now = now + hotter / losses[-1].clip(1e-300)
        target = now - passed
        above = target > elapsed[-1]
        there = xp.clip(xp.searchsorted(elapsed, target, side="right") - 1, 0, last)
        left = elapsed[there + 1] - xp.clip(target, None, elapsed[-1])
        down = _fall_in(left, losses[there + 1], slopes[there])
        found = nodes[there + 1] - down
        found = xp.where(above, nodes[-1] + (target - elapsed[-1]) * losses[-1], found)
        found = xp.minimum(heat, xp.maximum(found, nodes[0]))
        return xp.where(heat <= nodes[0], heat, found)


def _time_down(fall: Array, high: Array, slope: Array) -> Array:
    """∫ dT/Λ̂ over a fall of temperature from the upper end of a piece, where Λ̂ = high - slope · fall."""
    xp = module_of(fall)
    share = slope * fall / high
    small = xp.abs(share) < 1e-8
    safe = xp.where(small, xp.full_like(share, 0.5), xp.clip(share, None, 1 - 1e-16))
    return fall / high * xp.where(small, 1 + 0.5 * share, -xp.log1p(-safe) / safe)


def _fall_in(time: Array, high: Array, slope: Array) -> Array:
    """The inverse of `_time_down`: the fall from the upper end of a piece in a time."""
    xp = module_of(time)
    share = slope * time
    small = xp.abs(share) < 1e-8
    safe = xp.where(small, xp.ones_like(share), share)
    return high * time * xp.where(small, 1 - 0.5 * share, -xp.expm1(-safe) / safe)
