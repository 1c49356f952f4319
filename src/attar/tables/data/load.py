"""From data and settings of reading to a source: found, prepared if it is known, with a schema, and split."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from attar.core import stratify
from attar.core.errors import InputError
from attar.core.jsonfiles import read_json
from attar.core.provenance import asked, shadowed
from attar.images.data.arrow import Table
from attar.tables.data import applicants
from attar.tables.data.columns import rows_of
from attar.tables.data.found import Found, found_in
from attar.tables.data.known import Known, recognised
from attar.tables.data.schema import Wanted, given, inferred
from attar.tables.reading import BUNDLED, Reading
from attar.tables.sources import Rows, Schema, TableSource

FEWEST = 10
"""Fewest rows of a table that is split."""


def sources_from(data: Any, **settings: Any) -> TableSource:
    """Read a table with a label and, if there is one, a sensitive column.

    Args:
        data: `"applicants"` (bundled), a file (CSV, JSON lines, parquet, packed or not), a folder of such files, a name
            on the hub, a DataFrame of pandas or polars, a `pyarrow.Table`, a `datasets` data set, or a pair of these
            for training and testing.
        settings: Those of `attar.tables.Reading`, by name.

    Raises:
        InputError: The data are unknown or cannot be used.
    """
    return loaded(data, Reading.from_names(**settings))


def loaded(data: Any, how: Reading) -> TableSource:
    """Read a table as settings say.

    Raises:
        InputError: The data are unknown or cannot be used.
    """
    if isinstance(data, TableSource):
        return data
    if _is_bundled(data):
        _check_plain(how)
        return asked(replace(applicants.applicants(), notes=shadowed(data, BUNDLED)), data)
    found = found_in(data)
    if how.test_data is not None:
        if found.test is not None:
            raise InputError(f"{found.name} has test rows of its own. Do not set test_data.")
        found = replace(found, test=found_in(how.test_data).train)
    if isinstance(data, Path) and str(data) == BUNDLED:
        data = f"./{data}"
    return asked(replace(made(found, how), preparation=how.preparation), data, **how.to_json())


def _is_bundled(data: Any) -> bool:
    if isinstance(data, str):
        return data == BUNDLED
    return isinstance(data, Path) and str(data) == BUNDLED and not data.exists()


def _check_plain(how: Reading) -> None:
    """Check that nothing is asked of the bundled table that it does not have.

    Raises:
        InputError: A role or a treatment of a column is set.
    """
    usual = Reading()
    for name in ("label", "sensitive", "positive", "schema", "ignored", "hashed", "test_data"):
        if getattr(how, name) != getattr(usual, name):
            raise InputError(f"{name} is for tables of one's own; the columns of {BUNDLED} have their roles.")


def made(found: Found, how: Reading) -> TableSource:
    """The source of tables that were found.

    Args:
        found: The tables.
        how: Settings of reading.

    Raises:
        InputError: There are no rows, or columns cannot have their roles.
    """
    for part in [found.train, *([] if found.test is None else [found.test])]:
        if not len(part):
            raise InputError(f"{part.name} has no rows.")
    known = recognised(found.train) if how.preparation == "usual" and found.schema is None else None
    train, test = found.train, found.test
    if known is not None:
        train = known.prepare(train)
    of_test = recognised(test) if test is not None and how.preparation == "usual" else None
    if of_test is not None and test is not None:
        test = of_test.prepare(test)
    schema, notes = _schema(found, how, known, train, test)
    notes = [*found.notes, *([known.note] if known else []), *notes]
    name = known.name if known else found.name
    whole = rows_of(train, schema)
    if test is not None:
        return TableSource(name, whole, rows_of(test, schema), notes=tuple(notes))
    return divided(name, whole, how.split_seed, tuple(notes))


def _schema(
    found: Found, how: Reading, known: Known | None, train: Table, test: Table | None
) -> tuple[Schema, list[str]]:
    """The schema: given in a file, kept with a synthetic table, or inferred."""
    schema = found.schema if how.schema is None else schema_in(how.schema)
    if schema is not None:
        for name in ("label", "sensitive", "positive", "ignored", "hashed"):
            if getattr(how, name):
                raise InputError(f"{name} is in the schema too. Set it there, or give no schema.")
        return given(schema, train, test)
    wanted = Wanted(how.label, how.sensitive, how.positive, how.ignored, how.hashed, how.buckets)
    if known is not None:
        by_label = how.label is None
        roles = {how.label, how.sensitive}
        wanted = replace(
            wanted,
            label=known.label if by_label else how.label,
            positive=known.positive if by_label and how.positive is None else how.positive,
            sensitive=how.sensitive or known.sensitive,
            ignored=tuple(dict.fromkeys([*how.ignored, *(name for name in known.ignored if name not in roles)])),
        )
    return inferred(train, test, wanted)


def schema_in(schema: Any) -> Schema:
    """A schema that was given: itself, its JSON, or a file of it.

    Raises:
        InputError: The file is missing or holds no schema.
    """
    if isinstance(schema, Schema):
        return schema
    values = schema if isinstance(schema, Mapping) else read_json(Path(schema).expanduser())
    if isinstance(values, Mapping) and "columns" not in values and isinstance(values.get("table"), Mapping):
        values = values["table"]  # an artefact's description
    if not isinstance(values, Mapping) or "columns" not in values:
        raise InputError(f"{schema} holds no schema. `attar data FILE` prints one.")
    return Schema.from_json(values)


def divided(name: str, whole: Rows, seed: int, notes: tuple[str, ...] = ()) -> TableSource:
    """A table without test rows of its own, split 80/20 by a seed, with as much of each label and group in both.

    Raises:
        InputError: There are too few rows.
    """
    if len(whole) < FEWEST:
        raise InputError(f"{name} has {len(whole)} rows, too few to split. Give {FEWEST} or more, or --test-data.")
    testing = stratify.split(strata(whole), len(whole), seed)
    train, test = (whole.select(mask.nonzero().flatten()) for mask in (~testing, testing))
    return TableSource(
        name,
        train,
        test,
        split=f"80/20 by seed {seed}",
        again=lambda other: divided(name, whole, other, notes),
        notes=notes,
    )


def strata(rows: Rows) -> Int[Tensor, " row"]:
    """A number for each row's label and group."""
    labels = rows.labels
    return labels + 2 * rows.groups if rows.schema.of_role("sensitive") else labels


def check_classes(source: TableSource) -> TableSource:
    """Check that training rows are of both classes and of every group; return the source.

    Raises:
        InputError: One has none.
    """
    schema, train = source.schema, source.train
    for column in (schema.label, *schema.of_role("sensitive")):
        counts = torch.bincount(train.codes(column), minlength=len(column.levels))
        if int(counts.min()) == 0:
            level = column.levels[int(counts.argmin())]
            told = f"{level!r} in {column.role} column {column.name!r}"
            raise InputError(f"{source.name} has no training row with {told}.")
    return source


def schema_text(schema: Schema) -> str:
    """A schema as JSON that can be edited and given back, a column on each line."""
    lines = [json.dumps(_short(column), ensure_ascii=False) for column in schema.columns]
    inside = ",\n    ".join(lines)
    positive = json.dumps(schema.positive, ensure_ascii=False)
    return f'{{\n  "positive": {positive},\n  "columns": [\n    {inside}\n  ]\n}}'


def _short(column: Any) -> dict[str, Any]:
    """What of a column is not as usual."""
    usual = type(column)(name=column.name).to_json()
    values: dict[str, Any] = column.to_json()
    kept = ("name", "role", "type")
    return {name: value for name, value in values.items() if name in kept or value != usual[name]}
