"""A synthetic table on disk and in memory: its rows, its schema, its origin, and its scores."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from attar.core import artefact as core
from attar.core import store
from attar.core.card import SCORES, escaped, made, score_table
from attar.core.cell import Cell
from attar.tables.sources import Rows, Schema

SCHEMA = 1
KIND = "tables"
TABLE = "table.parquet"


@dataclass(frozen=True)
class Origin(core.Origin):
    """The origin of a synthetic table."""

    full: int
    """Number of rows that it was made from."""
