"""From fair codes to rows: what a run leaves, so that further tables can be drawn from it.

A code is decoded with a group. With its own ("keep") or that of another row ("permute") the decoder writes the group
back into whatever goes with it. With all groups in equal shares ("neutral") it does not, and the column of the group is
drawn apart from all others. Levels are drawn, since the likeliest ones alone would lack variety.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.seeds import derived_seed
from attar.core.store import named, within
from attar.tables.artefact import Generator
from attar.tables.dependence import Codes, Groups
from attar.tables.discrete import Coding
from attar.tables.sources import Rows, Schema
from attar.tables.student import Student
from attar.tables.teacher import decoder, one_hot, sampled

Decoding = Literal["neutral", "keep", "permute"]


@dataclass(frozen=True)
class FairGenerator(Generator):
    """A decoder, and fair codes: a store of sampled ones, or a network that makes them from noise."""

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
    def sample(self, n: int, seed: int = 0) -> Rows:
        """So many rows; another seed gives other ones."""
        generator = torch.Generator().manual_seed(derived_seed(seed, "a fair table"))
        codes, groups = self.drawn(n, generator)
        if self.decoding == "permute":
            groups = groups[torch.randperm(n, generator=generator)]
        decoded = self.decoder(torch.cat([codes, self._told(groups)], dim=1))
        levels = self.coding.drawn(decoded, generator)
        if self.decoding == "neutral":
            groups = self._any_groups(n, generator)
        return self.coding.rows(levels, groups, generator)

    def drawn(self, rows: int, generator: torch.Generator) -> tuple[Codes, Groups]:
        """Codes, with the groups that belong to them; from noise, groups are drawn by their shares."""
        if self.sampler is not None:
            noise = torch.randn(2, rows, self.latents, generator=generator)
            mean, log_variance = self.sampler(noise[0])
            return sampled(mean, log_variance, noise[1]), self._any_groups(rows, generator)
        count = len(self.codes)
        if rows <= count:
            picks = torch.randperm(count, generator=generator)[:rows]
        else:
            picks = torch.randint(count, (rows,), generator=generator)
        return self.codes[picks], self.groups[picks]

    @torch.no_grad()
    def labelled(self, rows: int, generator: torch.Generator) -> tuple[Codes, Groups]:
        """Codes, and whether the label that is decoded from each is the desirable one."""
        codes, groups = self.drawn(rows, generator)
        decoded = self.decoder(torch.cat([codes, self._told(groups)], dim=1))[:, self.coding.label]
        drawn = torch.multinomial(decoded.softmax(dim=1), 1, generator=generator)[:, 0]
        return codes, (drawn == self.schema.label.levels.index(self.schema.positive)).long()

    def _told(self, groups: Groups) -> Float[Tensor, "row group"]:
        """What the decoder is told of the group of each row."""
        if self.decoding == "neutral":
            present = (self.shares > 0).float()  # of a group without a row the decoder has learned nothing
            return (present / present.sum()).expand(len(groups), -1)
        return one_hot(groups, len(self.shares))

    def _any_groups(self, rows: int, generator: torch.Generator) -> Groups:
        return torch.multinomial(self.shares, rows, replacement=True, generator=generator)

    @property
    def schema(self) -> Schema:  # type: ignore[override]
        """The columns of its tables."""
        return self.coding.schema

    @property
    def latents(self) -> int:
        """Size of a code."""
        return int(self.decoder[0].in_features) - len(self.shares)  # type: ignore[arg-type]

    # ------------------------------------------------------------------------------------------------------ on disk

    def tensors(self) -> dict[str, Tensor]:
        """All that was learned, by name."""
        own = {"shares": self.shares, "codes": self.codes, "groups": self.groups}
        own |= named("decoder", self.decoder.state_dict())
        if self.sampler is not None:
            own |= named("sampler", self.sampler.state_dict())
        return own

    def facts(self) -> dict[str, Any]:
        """All else, as plain values."""
        return {"coding": self.coding.to_json(), "decoding": self.decoding}

    @classmethod
    def restored(cls, schema: Schema, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Self:
        """The inverse of both."""
        shares = tensors["shares"]
        layers, own = (within(part, tensors) for part in ("decoder", "sampler"))
        hidden, read = layers["0.weight"].shape
        network = decoder(read, hidden, len(layers["2.weight"]))
        network.load_state_dict(layers)
        sampler = None
        if own:
            latents = read - len(shares)
            sampler = Student(latents, 0, latents, len(own["encoder.0.weight"]))
            sampler.load_state_dict(own)
        coding = Coding.from_json(schema, facts["coding"])
        return cls(coding, network, facts["decoding"], shares, tensors["codes"], tensors["groups"], sampler)
