"""The usual student of an emulator: a small 1-D convolutional network over the points of a column.

Columns come as log T, log n_H, v and the logarithm of each point's share of the depth, standardised. Convolutions see
the neighbourhood of each point; what they find is pooled over all points, and a last layer gives the profile.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.core.settings import Range, Settings, words

CHANNELS = 4
Columns = Float[Tensor, "column channel point"]
Profiles = Float[Tensor, "column wavelength"]


@dataclass(frozen=True, kw_only=True)
class Convolutions(Settings):
    """Options of the network `cnn`."""

    width: Annotated[int, Range(1)] = 64
    """Channels of every convolution."""
    depth: Annotated[int, Range(1, 12)] = 3
    """Blocks of a convolution each; after each but the last, two points become one."""
    kernel: Annotated[int, Range(1, 31)] = 5
    """Points that a convolution sees."""


class ColumnNetwork(nn.Module):
    """Convolutions over depth, a pool over what is left of it, and a layer for the profile."""

    def __init__(self, how: Convolutions, points: int, wavelengths: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, left = CHANNELS + 1, points
        for block in range(how.depth):
            layers += [nn.Conv1d(channels, how.width, how.kernel, padding=how.kernel // 2), nn.GELU()]
            channels = how.width
            if block + 1 < how.depth and left > 1:
                layers.append(nn.AvgPool1d(2, ceil_mode=True))
                left = -(-left // 2)
        self.convolutions = nn.Sequential(*layers)
        self.last = nn.Sequential(
            nn.Linear(2 * channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, wavelengths)
        )
        self.place: Tensor
        self.register_buffer("place", torch.linspace(-1, 1, points).view(1, 1, points), persistent=False)

    def forward(self, columns: Columns) -> Profiles:
        """The standardised logarithm of profiles."""
        place = self.place.expand(len(columns), -1, -1)
        found = self.convolutions(torch.cat((columns, place), dim=1))
        profiles: Profiles = self.last(torch.cat((found.mean(dim=2), found.amax(dim=2)), dim=1))
        return profiles


def network_named(text: str, points: int, wavelengths: int, generator: torch.Generator) -> nn.Module:
    """A fresh network by words: `cnn:width=64,depth=3,kernel=5`.

    Args:
        text: The words.
        points: Points of a column.
        wavelengths: Wavelengths of a profile.
        generator: Draws the weights.

    Raises:
        InputError: There is no network of that name, or an option is unknown.
    """
    from attar.core.seeds import seeded

    name, given = words(text)
    if name != "cnn":
        raise unknown("student", name, ["cnn"])
    how = Convolutions.from_json({key: _whole(key, one) for key, one in given.items()})
    with seeded(generator):
        return ColumnNetwork(how, points, wavelengths)


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} of the student is {text!r}; give a whole number.") from None
