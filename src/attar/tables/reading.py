"""Reading tables: the settings, and the description of a source."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from attar.core import tasks
from attar.core.errors import shortened
from attar.core.settings import Range, Words

if TYPE_CHECKING:
    from attar.tables.sources import Column, TableSource

BUNDLED = "applicants"
RAW = ("adult.data", "adult.test", "german.data")
"""Files of the UCI repository that are known by their names, packed or not."""
PACKED = (".csv.gz", ".tsv.gz", ".csv.zip", ".tsv.zip")
"""Endings of packed tables."""
HEADS = (
    ("workclass", "fnlwgt", "occupation", "relationship"),
    ("c_charge_degree", "days_b_screening_arrest", "two_year_recid"),
    ("two_yr_recidivism", "number_of_priors", "african_american"),
    ("age", "job", "marital", "campaign", "pdays", "poutcome"),
    ("school", "famsize", "pstatus", "studytime", "g1", "g2"),
)
"""Names that stand in the first line of known tables."""
GROUPS = ("sex", "gender", "race", "ethnicity")
"""Names of columns by which a table is known for one of people."""
SHOWN = 8
"""Levels of a column that are shown."""


def looks_like(data: str) -> bool:
    """Whether a name is that of the bundled table, or a file that of a known table, a packed one, or one of people."""
    path = Path(data)
    if data == BUNDLED or path.name.removesuffix(".gz") in RAW:
        return True
    try:
        if path.name.lower().endswith(PACKED) and path.is_file():
            return True
        if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
            return False
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = file.readline(2**16).lower()
    except (OSError, ValueError):  # no name that a file can have
        return False
    named = {name.strip("\"' \n\r") for name in re.split(r"[,;\t|]", head)}
    return any(all(name in head for name in names) for names in HEADS) or not named.isdisjoint(GROUPS)


@dataclass(frozen=True, kw_only=True)
class Reading(tasks.Reading):
    """Settings of reading tables."""

    label: str | None = None
    """Column of the labels, which has two values, or a division of a column in two, as in "grade<10". Default: of a
    known table its label; else label, target, class, y, outcome, income or a similar name."""
    sensitive: str | None = None
    """Sensitive column, whose values are the groups that are compared, or a division in two, as in "age<30" or
    "race=White", which replaces the column. none: no column is. Default: of a known table its usual one; else sex,
    gender, race, ethnicity or group, if there is one."""
    positive: str | None = None
    """Value of the label that is the desirable outcome. Default: a word such as 1, yes or good, else the last value."""
    ignored: tuple[str, ...] = ()
    """Columns that are not read."""
    hashed: tuple[str, ...] = ()
    """Columns with many different values, which are hashed to a few buckets."""
    buckets: Annotated[int, Range(2, 100)] = 32
    """Number of buckets of a hashed column."""
    schema: Annotated[Any, Words()] = None
    """File with a schema as JSON, which takes the place of all that is inferred. `attar data FILE` prints one."""
    preparation: Literal["usual", "none"] = "usual"
    """Whether tables that are known (Adult, COMPAS, German credit, bank marketing, law school, student grades) are
    prepared as is usual: which rows are used, which columns are left out, and the roles of the others."""
    test_data: Annotated[Any, Words()] = None
    """Test rows: a file or a folder. Default: those that come with the data, else a fifth of the rows."""
    split_seed: int = 0
    """Seed of the split of a set that came without one. It is drawn from each label and group."""

    def load(self, data: Any) -> "TableSource":
        """The source that data stand for."""
        from attar.tables.data.load import check_classes, loaded

        return check_classes(loaded(data, self))

    def describe(self, source: "TableSource") -> str:
        """The columns, how many rows of each group have the desirable outcome, and the schema as JSON."""
        from attar.tables.data.load import schema_text

        lines = [str(source), f"fingerprint {source.fingerprint}"]
        lines += [f"  {column.name:<24} {told(column)}" for column in source.schema.columns]
        lines += _rates(source)
        return "\n".join([*lines, "schema, to be edited and given with --schema:", schema_text(source.schema)])


def told(column: "Column") -> str:
    """A column in words: its role and what it holds."""
    role = "" if column.role == "feature" else f"{column.role}, "
    if column.type == "number":
        what = "dates" if column.dated else "whole numbers" if column.whole else "numbers"
        return f"{role}{what}{', some missing' if column.missing else ''}, stored as {column.stored}"
    few = ", ".join(map(on_a_line, column.levels[:SHOWN]))
    more = f" and {len(column.levels) - SHOWN} more" if len(column.levels) > SHOWN else ""
    return f"{role}{len(column.levels)} level{'s' if len(column.levels) > 1 else ''}: {few}{more}"


def on_a_line(level: str) -> str:
    """A level without breaks of lines, and not too long."""
    return shortened(level.encode("unicode_escape").decode() if not level.isprintable() else level)


def _rates(source: "TableSource") -> list[str]:
    """The share of the desirable outcome in each group."""
    schema = source.schema
    if not schema.of_role("sensitive"):
        return [f"  {float(source.train.labels.double().mean()):.3f} of the training rows have {schema.positive}"]
    lines = []
    for code, name in enumerate(schema.groups):
        rows = source.train.labels[source.train.groups == code].double()
        lines.append(f"  {name:<24} {len(rows):,} training rows, {float(rows.mean()):.3f} with {schema.positive}")
    return lines
