"""What a simulation begins with besides its settings: the losses, by name."""

from dataclasses import dataclass

from attar.plasma.losses import LossTable, named


@dataclass(frozen=True)
class Setup:
    """What a simulation begins with besides its settings."""

    name: str
    losses: LossTable
    """Radiative losses."""

    @property
    def fingerprint(self) -> str:
        """A digest of the losses."""
        return self.losses.fingerprint

    def __str__(self) -> str:
        return f"losses of the table {self.losses.name}, {len(self.losses.log_t)} points"


def losses_named(name: str) -> LossTable:
    """A table of losses by name: that of the package, CHIANTI's, or a file.

    Raises:
        InputError: There is none.
    """
    return named(name)
