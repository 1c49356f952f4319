"""A synthetic table on disk and in memory: its rows, its schema, its origin, and its scores."""

from dataclasses import dataclass

from attar.core import artefact as core

SCHEMA = 1
KIND = "tables"
TABLE = "table.parquet"


@dataclass(frozen=True)
class Origin(core.Origin):
    """The origin of a synthetic table."""

    full: int
    """Number of rows that it was made from."""
