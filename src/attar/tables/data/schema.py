"""The schema of a table: inferred from its rows and from what is asked for, or given and completed."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attar.core.errors import InputError, shortened, unknown
from attar.images.data.arrow import Table
from attar.images.data.columns import LABELS, OTHER_LABELS
from attar.images.data.naming import few, in_order
from attar.tables.data.columns import MISSING, OTHER, TRUTH, Texts, numbers, texts
from attar.tables.data.types import held
from attar.tables.sources import Column, Role, Schema, Type

MOST_LEVELS = 100
"""Most levels of a column that is neither hashed nor ordered."""
MOST_GROUPS = 20
"""Most groups of a sensitive column."""
FEWEST_ROWS = 20
"""Rows from which a column without a value twice is taken for one of names."""
OUTCOMES = ("outcome", "decision", "approved", "admitted", "hired", "income", "default")
"""Names of a column that may be the label besides those of labelled images."""
GROUPS = ("sex", "gender", "race", "ethnicity", "group")
"""Names of a column that is taken for the sensitive one."""
DESIRABLE = ("1", "true", "yes", "y", "good", "positive", "accepted", "approved", "granted", "passed", "hired")
"""Levels that are taken for the desirable outcome."""
INDEX = re.compile(r"|unnamed: [0-9]+|__index_level_[0-9]+__")
"""Names that an index has in files."""
NUMBERING = re.compile(r"(|id|index|row|unnamed: 0|__index_level_\d+__|.*[_ -]id)")
"""Names of columns that number the rows."""
MEANT_AS_NUMBER = re.compile(r"[-+]?[$€£¥]?\s?[0-9][0-9.,'\s]*[%$€£¥]?")
"""Text that was probably meant as a number."""
DIVIDED = re.compile(r"(?P<of>.+?)\s*(?:<\s*(?P<below>-?[0-9.]+)|=\s*(?P<equals>.+))")


@dataclass(frozen=True)
class Wanted:
    """What is asked of a table's schema."""

    label: str | None = None
    sensitive: str | None = None
    positive: str | None = None
    ignored: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    buckets: int = 32


def inferred(train: Table, test: Table | None, wanted: Wanted) -> tuple[Schema, list[str]]:
    """The schema of a table, and what was decided.

    Args:
        train: The training rows, or all rows of a table that is split here. Levels are theirs.
        test: The test rows, if they were given. They show whether values are missing, or are no level.
        wanted: Roles and treatment of columns.

    Raises:
        InputError: A column is named that is not there, has too many levels, or cannot have its role.
    """
    notes: list[str] = []
    for name in (*wanted.ignored, *wanted.hashed):
        if name not in train.there:
            raise unknown(f"column of {train.name}", name, train.there)
    index = [
        name for name in train.there if INDEX.fullmatch(name.lower()) and _numbers_rows(train.columns.column(name))
    ]
    index = [name for name in index if name not in (wanted.label, wanted.sensitive, *wanted.hashed)]
    notes += [f"column {name!r} is left out: it numbers the rows" for name in index]
    free = [name for name in train.there if name not in (*wanted.ignored, *index)]
    label = _of_role(wanted.label or _usual_label(train, free), "label", train)
    sensitive = wanted.sensitive or next(
        (name for name in free if name.strip().lower() in GROUPS and name != label.name), None
    )
    if sensitive is not None and not wanted.sensitive:
        notes.append(f"column {sensitive!r} is taken for the sensitive one; name another with --sensitive")
    roles = {label.of or label.name: label}
    _check_read(label, wanted)
    if sensitive is not None and sensitive != "none":
        group = _of_role(sensitive, "sensitive", train)
        if (group.of or group.name) in roles:
            raise InputError(f"column {group.of or group.name!r} is both label and sensitive. Name two columns.")
        _check_read(group, wanted)
        roles[group.of or group.name] = group
    columns = []
    for name in free:
        column = roles.get(name) or Column(name=name, type=_type_of(train, name, name in wanted.hashed))
        if name in wanted.hashed:
            levels = tuple(f"bucket {number}" for number in range(wanted.buckets))
            column = replace(column, buckets=wanted.buckets, levels=levels)
        columns.append(replace(column, stored=_stored_of(train, column)))
    _check_named(train, columns)
    complete = [completed(column, train, test) for column in columns]
    notes += [note for _, told in complete for note in told]
    notes += [f"column {one.of!r} is replaced by {one.name!r}" for one in columns if one.of]
    filled = tuple(column for column, _ in complete)
    _check_columns(filled, train)
    of_label = next(column for column in filled if column.role == "label").levels
    positive, told = _positive(of_label, wanted.positive)
    return Schema(columns=filled, positive=positive), [
        *notes,
        *told,
        *_without_group(filled, train),
        *_of_no_use(filled, train),
    ]


def given(schema: Schema, train: Table, test: Table | None) -> tuple[Schema, list[str]]:
    """A schema that was given, with what it leaves out; ignored columns are left out of it.

    Raises:
        InputError: The table lacks a column of it, or has values that it does not allow.
    """
    columns = [column for column in schema.columns if column.role != "ignored"]
    complete: list[Column] = []
    notes: list[str] = []
    for column in columns:
        if column.name not in train.there and column.of not in train.there:
            raise unknown(f"column of {train.name}", column.of or column.name, train.there)
        open_ = column.type == "category" and not column.levels
        filled, told = completed(column, train, test) if open_ else widened(column, test)
        complete.append(filled)
        notes += told
    named = {name for column in columns for name in (column.name, column.of)}
    left = [name for name in train.there if name not in named]
    notes += [f"left out, because the schema does not have them: {few(left)}"] if left else []
    _check_columns(complete, train)
    return replace(schema, columns=tuple(complete)), notes


def completed(column: Column, train: Table, test: Table | None) -> tuple[Column, list[str]]:
    """A column with its levels, and whether values are missing or are none of them."""
    if column.type == "number":
        values = numbers(train, column.name)
        there = values[~np.isnan(values)]
        whole = bool((there == np.rint(there)).all()) and not column.dated
        return widened(replace(column, missing=len(there) < len(values), whole=whole), test)
    found = texts(train, column)
    counts = found.counted()
    known, missing = _levels(column, found, counts), None in counts
    return widened(replace(column, levels=_joined(known, missing=missing, other=False), missing=missing), test)


def widened(column: Column, test: Table | None) -> tuple[Column, list[str]]:
    """A column with a level for what only test rows have: missing values, and values that are no level.

    Raises:
        InputError: It is the label or sensitive, which must have such values in training rows.
    """
    if test is None or not len(test):
        return column, []
    if column.type == "number":
        absent = not column.missing and bool(np.isnan(numbers(test, column.name)).any())
        return replace(column, missing=column.missing or absent), []
    counts, known = texts(test, column).counted(), column.known
    unseen = [word for word in counts if word is not None and word not in known]
    if (unseen or None in counts) and column.role != "feature":
        value = shortened(repr(unseen[0])) if unseen else "no value"
        told = f"test rows of {test.name} have {value} in {column.role} column {column.name!r}"
        if unseen or not column.missing:
            raise InputError(f"{told}, which no training row has.")
    missing, other = column.missing or None in counts, column.other or bool(unseen)
    count = sum(counts[word] for word in unseen)
    notes = [f"{count:,} test rows have other values in column {column.name!r} than training rows"] if unseen else []
    return replace(column, levels=_joined(known, missing=missing, other=other), missing=missing, other=other), notes


def _joined(known: Sequence[str], *, missing: bool, other: bool) -> tuple[str, ...]:
    """The levels with those of missing and of other values."""
    return (*known, *([_free(MISSING, known)] if missing else []), *([_free(OTHER, known)] if other else []))


def _levels(column: Column, found: Texts, counts: dict[str | None, int]) -> tuple[str, ...]:
    """The known levels: those of a feature's type where it has some, else those that are there, in order."""
    if column.of or column.stored == "bool":
        return tuple(word for word in TRUTH if column.role == "feature" or counts.get(word))
    if column.buckets:
        return column.levels
    if column.stored.startswith("dictionary") and column.role == "feature":
        return tuple(dict.fromkeys(word for word in found.words if word is not None))
    there = [word for word in counts if word is not None]
    if column.stored.endswith("ordered=1>"):
        return tuple(word for word in dict.fromkeys(found.words) if word in there)
    return tuple(in_order(there))


def _free(name: str, known: Sequence[str]) -> str:
    """A name that is none of the levels."""
    while name in known:
        name += "_"
    return name


def _type_of(table: Table, name: str, hashed: bool) -> Type:
    kind = held(table.columns.column(name).type)
    if kind not in ("none", "truth", "text", "whole", "real", "date"):
        raise InputError(
            f"{table.name} has {kind} in column {shortened(name)!r}, which cannot be read. Leave it out with "
            f"--ignored {shlex.quote(name)}."
        )
    return "category" if hashed or kind in ("none", "truth", "text") else "number"


def _stored_of(table: Table, column: Column) -> str:
    """The type in which a column is written."""
    if column.of:
        return "bool"
    return "string" if column.buckets else str(table.columns.column(column.name).type)


def _of_role(text: str, role: Role, table: Table) -> Column:
    """A column of a role: by its name, or by what divides it, as in age<30 and race=White."""
    if text in table.there:
        return Column(name=text, role=role, type="category")
    parts = DIVIDED.fullmatch(text)
    if parts is None or parts["of"] not in table.there:
        raise unknown(f"column of {table.name}", parts["of"] if parts else text, table.there, hint=f"Set --{role}.")
    below = _number(parts["below"], text)
    return Column(name=text, role=role, type="category", of=parts["of"], below=below, equals=parts["equals"] or "")


def _number(text: str | None, whole: str) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        raise InputError(f"{whole!r} has {text!r} where a number must stand, as in age<30.") from None


def _usual_label(table: Table, free: Sequence[str]) -> str:
    """The column with a usual name of labels.

    Raises:
        InputError: There is none, or there are several.
    """
    for usual in (LABELS, (*OTHER_LABELS, *OUTCOMES)):
        found = [name for name in free if name.strip().lower() in usual]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{table.name} has several columns of labels: {', '.join(found)}. Name one with --label.")
    line = " Its first line must hold names, not values." if any(map(_is_number, table.there)) else ""
    raise InputError(f"no column of {table.name} has a usual name of labels: {few(free)}. Name one with --label.{line}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _positive(levels: Sequence[str], asked: str | None) -> tuple[str, list[str]]:
    """The level that is the desirable outcome, as asked for or guessed."""
    if asked is not None:
        fitting = [level for level in levels if level == asked] or [
            level for level in levels if level.lower() == str(asked).lower()
        ]
        if not fitting:
            raise unknown("desirable outcome", str(asked), levels)
        return fitting[0], []
    usual = [level for level in levels if level.strip().lower() in DESIRABLE or level.startswith(">")]
    chosen = usual[0] if len(usual) == 1 else levels[-1]
    return chosen, [f"{chosen!r} is taken for the desirable outcome; name another with --positive"]


# -------------------------------------------------------------------------------------------------------------- checks


def _check_read(column: Column, wanted: Wanted) -> None:
    """Check that a column with a role is neither ignored nor hashed.

    Raises:
        InputError: It is.
    """
    for setting in ("ignored", "hashed"):
        if (column.of or column.name) in getattr(wanted, setting):
            raise InputError(f"column {column.of or column.name!r} is both {column.role} and {setting}. Give one.")


def _check_named(table: Table, columns: Sequence[Column]) -> None:
    """Check that no column names or numbers the rows.

    Raises:
        InputError: Some do: all of them are told at once.
    """
    told = []
    for column in columns:
        if column.role != "feature" or column.buckets or column.name not in table.there:
            continue
        values = table.columns.column(column.name)
        numbering = column.type == "number" and NUMBERING.fullmatch(column.name.lower()) is not None
        if column.type != "category" and not numbering:
            continue
        distinct = len(values.unique())
        alone = len(values) >= FEWEST_ROWS and distinct == len(values)
        if (alone and held(values.type) != "truth") or (column.type == "category" and distinct > MOST_LEVELS):
            told.append((column.name, distinct))
    if "" in dict(told):
        raise InputError(f"{table.name} has a column without a name. Give it one, or remove it.")
    if told:
        name, distinct = told[0]
        rest = f" (and {few(one for one, _ in told[1:])})" if told[1:] else ""
        names = " ".join(shlex.quote(one) for one, _ in told)
        raise InputError(
            f"column {shortened(name)!r} of {table.name}{rest} has {distinct:,} different values in {len(table):,} "
            f"rows{_such_as(table, name)}. Leave it out with --ignored {names}, or hash it with --hashed {names}."
        )


def _check_columns(columns: Sequence[Column], table: Table) -> None:
    """Check label and sensitive columns.

    Raises:
        InputError: One has too few or too many levels, or the label is missing in a row.
    """
    for column in columns:
        count = len(column.levels)
        told = f"column {shortened(column.name)!r} of {table.name}"
        if column.role == "label" and column.missing:
            found = texts(table, column)
            absent = [code for code, word in enumerate(found.words) if word is None]
            row = next((row for row, code in enumerate(found.codes.tolist()) if code in absent), None)
            where = f"a test row of {table.name}" if row is None else table.where(row)
            raise InputError(
                f"{where} has no label in column {shortened(column.name)!r}. Leave out such rows, or name another "
                "column with --label."
            )
        if column.role == "label" and count == 1:
            raise InputError(f"all rows are of one class: label {told} is {column.levels[0]!r} everywhere.")
        if column.role == "label" and count != 2:
            raise InputError(
                f"label {told} has {count:,} values ({few(column.levels)}); give one with two, or divide it, as in "
                f"--label {_division(column)}."
            )
        if column.role == "sensitive" and count < 2:
            raise InputError(f"sensitive {told} has one group, {few(column.levels)}; name a column with two or more.")
        if column.role == "sensitive" and count > MOST_GROUPS:
            raise InputError(
                f"sensitive {told} has {count:,} groups; name one with up to {MOST_GROUPS}, or divide it, as in "
                f"--sensitive {_division(column)}."
            )


def _numbers_rows(values: Any) -> bool:
    """Whether whole numbers count the rows one by one."""
    if held(values.type) != "whole" or values.null_count or len(values) < FEWEST_ROWS:
        return False
    counted = values.to_numpy()
    return int(counted[-1]) - int(counted[0]) == len(counted) - 1 and bool((counted[1:] > counted[:-1]).all())


def _such_as(table: Table, name: str) -> str:
    """An example of text that begins with a digit or a currency, since it may be meant as a number."""
    first = next((one for one in table.columns.column(name).slice(0, 100).to_pylist() if one is not None), None)
    if not isinstance(first, str) or not MEANT_AS_NUMBER.fullmatch(first.strip()):
        return ""
    return f", such as {shortened(first)!r}, which is read as text: write plain numbers if it is one"


def _division(column: Column) -> str:
    """An example of how a column is divided in two: at a number in the middle, or by a level."""
    middle = column.known[len(column.known) // 2]
    return shlex.quote(f"{column.name}{'<' if _is_number(middle) else '='}{middle}")


def _without_group(columns: Sequence[Column], table: Table) -> list[str]:
    """A note of the rows whose group is not known."""
    missing = [column for column in columns if column.role == "sensitive" and column.missing]
    return [
        f"{texts(table, column).counted().get(None, 0):,} rows have no value in sensitive column {column.name!r}: they "
        "are a group of their own"
        for column in missing
    ]


def _of_no_use(columns: Sequence[Column], table: Table) -> list[str]:
    """A note of the features that have one value, and of those that number the rows."""
    features = [one.name for one in columns if one.role == "feature" and one.name in table.there and not one.buckets]
    same = [name for name in features if len(table.columns.column(name).unique()) == 1]
    counting = [name for name in features if _numbers_rows(table.columns.column(name))]
    left = " ".join(map(shlex.quote, counting))
    return [
        *([f"the same in all rows: {few(same)}"] if same else []),
        *([f"numbers the rows: {few(counting)}. Leave it out with --ignored {left}"] if counting else []),
    ]
