"""From fair codes to rows: what a run leaves, so that further tables can be drawn from it.

A code is decoded with a group. With its own ("keep") or that of another row ("permute") the decoder writes the group
back into whatever goes with it. With all groups in equal shares ("neutral") it does not, and the column of the group is
drawn apart from all others. Levels are drawn, since the likeliest ones alone would lack variety.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.seeds import derived_seed
from attar.tables.coding import Coding
from attar.tables.dependence import Codes, Groups
from attar.tables.sources import Rows, Schema
from attar.tables.student import Student
from attar.tables.teacher import one_hot, sampled

Decoding = Literal["neutral", "keep", "permute"]


@dataclass(frozen=True)
class FairGenerator:
    """A decoder, and fair codes: a store of sampled ones, or a network that makes them from noise."""

    schema: Schema
    """The columns of its tables."""
    coding: Coding
    decoder: nn.Sequential
    decoding: Decoding
    shares: Float[Tensor, " group"]
    """The share of each group in the training rows."""
    codes: Codes
    """Sampled codes of training rows, never their means; none if a network makes them."""
    groups: Groups
    """The groups of those rows."""
    sampler: Student | None = None
    """Codes from noise."""

    @torch.no_grad()
    def sample(self, rows: int, seed: int = 0) -> Rows:
        """A table of so many rows.

        Args:
            rows: How many.
            seed: Another seed gives another table.
        """
        generator = torch.Generator().manual_seed(derived_seed(seed, "a fair table"))
        codes, groups = self.drawn(rows, generator)
        if self.decoding == "permute":
            groups = groups[torch.randperm(rows, generator=generator)]
        decoded = self.decoder(torch.cat([codes, self._told(groups)], dim=1))
        levels = self.coding.drawn(decoded, generator)
        if self.decoding == "neutral":
            groups = self._any_groups(rows, generator)
        return self.coding.rows(levels, groups, generator, self.schema)

    def drawn(self, rows: int, generator: torch.Generator) -> tuple[Codes, Groups]:
        """Codes, with the groups that belong to them; from noise, groups are drawn by their shares."""
        if self.sampler is not None:
            noise = torch.randn(2, rows, self.latent, generator=generator)
            return sampled(*self.sampler(noise[0]), noise[1]), self._any_groups(rows, generator)
        count = len(self.codes)
        if rows <= count:
            picks = torch.randperm(count, generator=generator)[:rows]
        else:
            picks = torch.randint(count, (rows,), generator=generator)
        return self.codes[picks], self.groups[picks]

    def _told(self, groups: Groups) -> Float[Tensor, "row group"]:
        """What the decoder is told of the group of each row."""
        count = len(self.shares)
        if self.decoding == "neutral":
            return torch.full((len(groups), count), 1 / count)
        return one_hot(groups, count)

    def _any_groups(self, rows: int, generator: torch.Generator) -> Groups:
        return torch.multinomial(self.shares, rows, replacement=True, generator=generator)

    @property
    def latent(self) -> int:
        """Size of a code."""
        return int(self.decoder[0].in_features) - len(self.shares)  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------------------------------ on disk

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that was learned, by name."""
        own = {"shares": self.shares, "codes": self.codes, "groups": self.groups}
        own |= {f"decoder.{name}": value for name, value in self.decoder.state_dict().items()}
        if self.sampler is not None:
            own |= {f"sampler.{name}": value for name, value in self.sampler.state_dict().items()}
        return own

    @property
    def facts(self) -> dict[str, Any]:
        """All else, as plain values."""
        return {"schema": self.schema.to_json(), "coding": self.coding.to_json(), "decoding": self.decoding}

    @classmethod
    def of_parts(cls, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Self:
        """The inverse of both."""
        shares = tensors["shares"]
        parts = {part: _below(f"{part}.", tensors) for part in ("decoder", "sampler")}
        hidden, wide = parts["decoder"]["0.weight"].shape
        width = len(parts["decoder"]["2.weight"])
        decoder = nn.Sequential(nn.Linear(wide, hidden), nn.ReLU(), nn.Linear(hidden, width))
        decoder.load_state_dict(parts["decoder"])
        sampler = None
        if parts["sampler"]:
            latent = wide - len(shares)
            sampler = Student(latent, 0, latent, len(parts["sampler"]["encoder.0.weight"]))
            sampler.load_state_dict(parts["sampler"])
        return cls(
            Schema.from_json(facts["schema"]),
            Coding.from_json(facts["coding"]),
            decoder,
            facts["decoding"],
            shares,
            tensors["codes"],
            tensors["groups"],
            sampler,
        )


def _below(start: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
