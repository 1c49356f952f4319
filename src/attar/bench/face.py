"""What all tables of `attar bench` share: settings that are its flags, and one call that measures."""

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.core import store
from attar.core.machine import Engine
from attar.core.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Face(Settings):
    """The settings of a table."""

    record: Path | None = None
    """File to which the figures are written too, such as bench/results/cifar10.json."""

    @abstractmethod
    def measure(self, engine: Engine) -> None:
        """Print the table, and write what it holds.

        Args:
            engine: How the machine is used.
        """

    def keep(self, facts: Any) -> None:
        """Write the figures to the file that was asked for, if one was."""
        if self.record is not None:
            store.write_json(self.record, facts)
