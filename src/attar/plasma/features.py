"""Columns as a network takes them, profiles as it gives them, and the ranges that it has seen."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Values = Float[Tensor, "column 4 point"]
Channels = Float[Tensor, "column channel point"]
Profiles = Float[Tensor, "column wavelength"]
CHANNELS = {
    "temperature": "log10 of the temperature in K",
    "hydrogen": "log10 of the hydrogen density in m⁻³",
    "velocity": "velocity towards the observer in m/s",
    "depth": "log10 of a point's share of the depth in m",
}
"""The channels, in their order."""
VELOCITY = 2
"""Place of the velocity among the channels."""
LIGHT = 2.99792458e8
THINNEST = 1e-3
"""Smallest share of the depth that is told apart, in m."""


def channels_of(values: Values) -> Channels:
    """Log T, log n_H, v, and the logarithm of each point's share of the depth."""
    depth, heat, hydrogen, velocity = values.unbind(dim=1)
    half = 0.5 * depth.diff(dim=1)
    share = torch.nn.functional.pad(half, (1, 0)) + torch.nn.functional.pad(half, (0, 1))
    return torch.stack((heat.log10(), hydrogen.log10(), velocity, share.clamp_min(THINNEST).log10()), dim=1)


@dataclass(frozen=True)
class Scaling:
    """How channels and profiles become numbers around zero, from the columns of a training.

    Where no light falls on a column from outside, its profile moves with the gas. Then speeds are taken relative to the
    column's mean, and the profile is moved back, by whole steps of the wavelengths.
    """

    centre: Float[Tensor, " channel"]
    scale: Float[Tensor, " channel"]
    low: Float[Tensor, " channel"]
    """Smallest value of each channel that was seen."""
    high: Float[Tensor, " channel"]
    """Largest value of each channel that was seen."""
    mean: Float[Tensor, " wavelength"]
    """Mean log10 of the intensities."""
    spread: Float[Tensor, ""]
    """Standard deviation of log10 of the intensities."""
    floor: Float[Tensor, ""]
    """Intensity below which intensities count as equal to it."""
    step: Float[Tensor, ""]
    """Speed that moves a profile by one wavelength, in m/s; 0 where profiles do not move with the gas."""

    @classmethod
    def of(cls, values: Values, profiles: Profiles, floor: float, step: float = 0.0) -> "Scaling":
        """Of training columns and their profiles.

        Args:
            values: The columns.
            profiles: Their intensities.
            floor: The floor, as a share of the median peak.
            step: Speed that moves a profile by one wavelength; 0 where profiles do not move with the gas.
        """
        seen = channels_of(values)
        lowest = floor * profiles.amax(dim=1).median().clamp_min(1e-300)
        shift = torch.tensor(step, dtype=values.dtype)
        moved = moves_of(values, shift)
        channels = at_rest(seen, moved, shift)
        logarithms = moved_by(profiles, -moved).clamp_min(lowest).log10()
        centre, mean = channels.mean(dim=(0, 2)), logarithms.mean(dim=0)
        if step:  # a mirrored velocity gives the mirrored profile
            centre[VELOCITY], mean = 0.0, 0.5 * (mean + mean.flip(0))
        return cls(
            centre,
            (channels - centre[:, None]).square().mean(dim=(0, 2)).sqrt().clamp_min(1e-6),
            seen.amin(dim=(0, 2)),
            seen.amax(dim=(0, 2)),
            mean,
            (logarithms - mean).square().mean().sqrt().clamp_min(1e-6),
            lowest,
            shift,
        )

    def inputs(self, values: Values) -> Float[Tensor, "column channel point"]:
        """Standardised channels, float32."""
        channels = at_rest(channels_of(values), moves_of(values, self.step), self.step)
        return ((channels - self.centre[:, None]) / self.scale[:, None]).float()

    def targets(self, profiles: Profiles, values: Values) -> Float[Tensor, "column wavelength"]:
        """Standardised logarithms of profiles, float32."""
        still = moved_by(profiles, -moves_of(values, self.step))
        return ((still.clamp_min(self.floor).log10() - self.mean) / self.spread).float()

    def profiles(self, outputs: Float[Tensor, "column wavelength"], values: Values) -> Profiles:
        """The inverse: intensities, in W m⁻² Hz⁻¹ sr⁻¹."""
        return moved_by(10 ** (outputs.double() * self.spread + self.mean), moves_of(values, self.step))

    def outside(self, values: Values) -> Float[Tensor, "column channel"]:
        """How far columns reach beyond what was seen, by channel, in units of the range that was seen."""
        channels = channels_of(values)
        beyond = torch.maximum(self.low - channels.amin(dim=2), channels.amax(dim=2) - self.high)
        return beyond.clamp_min(0) / (self.high - self.low).clamp_min(1e-6)


def step_of(wavelengths: Float[Tensor, " wavelength"]) -> float:
    """Speed that moves a profile by one wavelength, in m/s; 0 where wavelengths are not equally spaced."""
    steps = wavelengths.diff()
    if len(steps) < 2 or not torch.allclose(steps, steps.mean().expand_as(steps), rtol=1e-3):
        return 0.0
    return float(LIGHT * steps.mean() / wavelengths.mean())


def moves_of(values: Values, step: Float[Tensor, ""]) -> Int[Tensor, " column"]:
    """By how many wavelengths the profile of each column is moved: its mean velocity, weighted by the hydrogen."""
    if not step:
        return torch.zeros(len(values), dtype=torch.long)
    depth, _, hydrogen, velocity = values.unbind(dim=1)
    half = 0.5 * depth.diff(dim=1)
    weight = hydrogen * (torch.nn.functional.pad(half, (1, 0)) + torch.nn.functional.pad(half, (0, 1)))
    return ((velocity * weight).sum(dim=1) / weight.sum(dim=1) / step).round().long()


def at_rest(channels: Channels, moves: Int[Tensor, " column"], step: Float[Tensor, ""]) -> Channels:
    """Channels with the velocity relative to these moves."""
    found = channels.clone()
    found[:, VELOCITY] -= (moves * step)[:, None]
    return found


def moved_by(profiles: Profiles, moves: Int[Tensor, " column"]) -> Profiles:
    """Profiles moved to shorter wavelengths by so many of them; what comes in at an end is the value there."""
    places = torch.arange(profiles.shape[1]) + moves[:, None]
    return profiles.gather(1, places.clamp(0, profiles.shape[1] - 1))
