"""Columns as a network takes them, profiles as it gives them, and the ranges that it has seen."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
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
    """How channels and profiles become numbers around zero, from the columns of a training."""

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

    @classmethod
    def of(cls, values: Values, profiles: Profiles, floor: float) -> "Scaling":
        """Of training columns and their profiles.

        Args:
            values: The columns.
            profiles: Their intensities.
            floor: The floor, as a share of the median peak.
        """
        channels = channels_of(values)
        lowest = floor * profiles.amax(dim=1).median().clamp_min(1e-300)
        logarithms = profiles.clamp_min(lowest).log10()
        mean = logarithms.mean(dim=0)
        return cls(
            channels.mean(dim=(0, 2)),
            channels.std(dim=(0, 2)).clamp_min(1e-6),
            channels.amin(dim=(0, 2)),
            channels.amax(dim=(0, 2)),
            mean,
            (logarithms - mean).square().mean().sqrt().clamp_min(1e-6),
            lowest,
        )

    def inputs(self, values: Values) -> Float[Tensor, "column channel point"]:
        """Standardised channels, float32."""
        return ((channels_of(values) - self.centre[:, None]) / self.scale[:, None]).float()

    def targets(self, profiles: Profiles) -> Float[Tensor, "column wavelength"]:
        """Standardised logarithms of profiles, float32."""
        return ((profiles.clamp_min(self.floor).log10() - self.mean) / self.spread).float()

    def profiles(self, outputs: Float[Tensor, "column wavelength"]) -> Profiles:
        """The inverse: intensities, in W m⁻² Hz⁻¹ sr⁻¹."""
        return 10 ** (outputs.double() * self.spread + self.mean)

    def outside(self, values: Values) -> Float[Tensor, "column channel"]:
        """How far columns reach beyond what was seen, by channel, in units of the range that was seen."""
        channels = channels_of(values)
        beyond = torch.maximum(self.low - channels.amin(dim=2), channels.amax(dim=2) - self.high)
        return beyond.clamp_min(0) / (self.high - self.low).clamp_min(1e-6)
