"""The card of a synthetic table: a README in the form that the hub reads, with its scores."""

from collections.abc import Mapping, Sequence
from typing import Any

from attar.core import card as core
from attar.core.cell import Cell
from attar.core.pictures import links

TITLES = {"marginals": "each column of the real and of the synthetic rows"}
"""Pictures that an evaluation leaves."""

Synthetic = Any
"""A `SyntheticTable`. It is not imported here, because its file imports this one."""


def card(table: Synthetic, scores: Sequence[Cell]) -> str:
    """The README of a synthetic table, with the scores stored beside it."""
    origin, schema = table.origin, table.schema
    rows = [(core.escaped(column.name), column.role, _held(column)) for column in schema.columns]
    return f"""{_header(table, scores)}
# {core.escaped(table.title)}

{core.escaped(str(table))}. The rows are for training classifiers of {core.escaped(schema.label.name)}; \
{core.escaped(schema.positive)} is the desirable outcome.{_of_groups(schema)}

![marginals](preview.png)
{_noted(table)}{core.score_table(scores)}{links(table.folder, TITLES)}
What was measured, if there is a table above, was measured on the test rows of {core.escaped(origin.source)}, by \
classifiers that were trained on these rows. It says nothing about other people and other times.

**There is no privacy guarantee.** The rows were made from {origin.full:,} real ones, and may resemble or repeat them. \
No gap between groups is guaranteed either: a classifier that is trained on these rows and used on real ones sees real \
proxies of the sensitive attribute.

```python
import attar

table = attar.open_artefact(".")
frame = table.to_pandas()
```

{core.table(("column", "role", "values"), rows)}

{core.made_again(origin)}

Made with: {core.machine_line(origin.machine)}. Data fingerprint: `{core.escaped(origin.fingerprint)}`.

The rows derive from {core.escaped(origin.source)}. The terms of that data set also apply to them.
"""


def _header(table: Synthetic, scores: Sequence[Cell]) -> str:
    told = {"path": "table.parquet", "made": table, "scores": scores}
    return core.dataset_header(table.title, "tabular-classification", len(table), **told)


def numbers(scores: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that a method left when it made a table, in words."""
    return {name: f"{value:.4g}" for name, value in scores.items() if isinstance(value, (int, float))}


def notes(scores: Mapping[str, Any]) -> list[str]:
    """What a method says of the table that it made, such as that its codes are collapsed."""
    return [value for value in scores.values() if isinstance(value, str)]


def _noted(table: Synthetic) -> str:
    """What the method left when it made the table."""
    found = [(core.escaped(name), value) for name, value in numbers(table.scores).items()]
    told = "".join(f"\n**Note: {core.escaped(note)}.**\n" for note in notes(table.scores))
    return told + (f"\n{core.table(('found when it was made', ''), found)}\n" if found else "")


def _held(column: Any) -> str:
    if column.type == "category":
        return core.escaped(", ".join(column.levels[:8]) + (", …" if len(column.levels) > 8 else ""))
    return "dates" if column.dated else "whole numbers" if column.whole else "numbers"


def _of_groups(schema: Any) -> str:
    groups = schema.of_role("sensitive")
    if not groups:
        return ""
    return f" The groups are those of {core.escaped(groups[0].name)}: {core.escaped(', '.join(groups[0].levels))}."
