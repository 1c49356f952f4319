"""Tables in files: parquet, CSV with any usual separator, and JSON lines, as Arrow tables with checked columns."""

import bisect
import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from attar.core.errors import InputError, shortened
from attar.images.data import naming
from attar.images.data.parquet import class_names, readable

TEXT = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
ENDINGS = (".parquet", *TEXT)
"""Endings of the files that are read as tables."""
SEPARATORS = ",;\t|"
DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+")
SPLIT = "split"
"""Name of a column that tells the split of each row."""

Without = Callable[[Any, Path], Sequence[str]]
"""A function of a schema and its file: the columns that are not read."""


@dataclass(frozen=True)
class Table:
    """The rows of one split: columns of one or several files, or of a data set."""

    name: str
    """What they are called in messages."""
    columns: Any
    """A pyarrow.Table."""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Class names of columns whose integers have some."""
    starts: tuple[tuple[int, str], ...] = ()
    """First row of each file, with the file."""
    notes: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    """Number of each row within all files, if these are only some of their rows."""
    count: int | None = None
    """Number of rows of a table whose columns may all be elsewhere."""

    def __len__(self) -> int:
        return int(self.columns.num_rows) if self.count is None else self.count

    @cached_property
    def there(self) -> list[str]:
        """The names of the columns."""
        return list(self.columns.column_names)

    def where(self, row: int) -> str:
        """A description of a row for messages, by its number within its file."""
        start, file = self._place(row)
        return f"row {self._number(row) - start} of {file}"

    def file_of(self, row: int) -> Path:
        """The file of a row."""
        return Path(self._place(row)[1])

    def _number(self, row: int) -> int:
        return self.numbers[row] if self.numbers else row

    def _place(self, row: int) -> tuple[int, str]:
        place = bisect.bisect_right(self.starts, self._number(row), key=lambda one: one[0]) - 1
        return self.starts[place] if self.starts else (0, self.name)

    def rows(self, rows: Sequence[int]) -> "Table":
        """Only these rows."""
        numbers = tuple(map(self._number, rows))
        return replace(self, columns=self.columns.take(list(rows)), numbers=numbers, count=len(numbers))

    def without(self, *names: str) -> "Table":
        """The other columns."""
        return replace(self, columns=self.columns.drop_columns(list(names)), count=len(self))


def of_files(files: Sequence[Path], without: Without | None = None) -> Table:
    """The rows of files, one file after the other.

    Args:
        files: The files, with the same columns.
        without: A function of the schema and the file that tells which columns of parquet are not read.

    Raises:
        InputError: A file cannot be read, or its columns are other than those of the first.
    """
    import pyarrow

    tables: list[Any] = []
    starts: list[tuple[int, str]] = []
    notes: list[str] = []
    rows = 0
    names: dict[str, tuple[str, ...]] = {}
    for file in files:
        one, count, known, told = _read(file, without)
        if tables:
            one = _alike(one, tables[0], str(file), str(files[0]))
        for column, classes in known.items():
            if names.setdefault(column, classes) != classes:
                raise InputError(f"{file} numbers the classes of {column!r} in another way than {files[0]}.")
        starts.append((rows, str(file)))
        tables.append(one)
        notes += told
        rows += count
    try:
        whole = pyarrow.concat_tables(tables, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise InputError(f"the files beside {files[0]} have columns of other types ({_first(error)}).") from None
    return Table(str(files[0]), whole, names, tuple(starts), tuple(dict.fromkeys(notes)), count=rows)


def _read(file: Path, without: Without | None) -> tuple[Any, int, dict[str, tuple[str, ...]], list[str]]:
    """The columns of one file, its number of rows, the class names of columns that have some, and notes."""
    notes: list[str] = []
    if file.suffix.lower() == ".parquet":
        from pyarrow import parquet

        with readable(file):
            schema = parquet.read_schema(file)
            check_columns(schema.names, str(file))
            left_out = set(without(schema, file)) if without else set()
        wanted = [name for name in schema.names if name not in left_out]
        with readable(file), parquet.ParquetFile(file) as whole:
            columns, count = whole.read(columns=wanted) if left_out else whole.read(), whole.metadata.num_rows
        names: dict[str, tuple[str, ...]] = {}
        for name in columns.column_names:
            known, told = class_names(schema, name, file)
            names |= {name: known} if known else {}
            notes += told
        return columns, count, names, notes
    text = text_of(file)
    columns = (
        _json(text, file) if file.suffix.lower() in (".jsonl", ".ndjson", ".json") else csv_columns(text, file, notes)
    )
    check_columns(columns.column_names, str(file))
    return columns, columns.num_rows, {}, notes


def check_columns(names: Sequence[str], where: str) -> None:
    """Check that columns can be told apart by their names.

    Raises:
        InputError: There is none, or two have the same name.
    """
    if not names:
        raise InputError(f"{where} has no columns.")
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InputError(f"{where} has {times} columns of the name {shortened(name)!r}. Rename or remove them.")


def _alike(one: Any, first: Any, name: str, whose: str) -> Any:
    differing = set(one.column_names) ^ set(first.column_names)
    if differing:
        have = min(differing)
        with_it, without_it = (name, whose) if have in one.column_names else (whose, name)
        raise InputError(f"{with_it} has a column {have!r}, but {without_it} does not. Give files of one form.")
    return one.select(first.column_names)


def of_arrow(columns: Any, name: str, names: Mapping[str, tuple[str, ...]] | None = None) -> Table:
    """The rows of a pyarrow.Table.

    Args:
        columns: The table.
        name: What it is called in messages.
        names: Class names of columns whose integers have some.

    Raises:
        InputError: Two columns have the same name.
    """
    check_columns(columns.column_names, name)
    return Table(name, columns, names or {}, count=columns.num_rows)


# -------------------------------------------------------------------------------------------------------------- splits


def grouped(files: Sequence[PurePath], where: str) -> tuple[dict[str, list[Any]], list[str]]:
    """Files by their split; all of them as training rows if no name says one. Notes tell what is left out.

    Raises:
        InputError: It is not clear which files are for training.
    """
    groups = naming.files_by_split(files, where)
    naming.check_training(groups, where, "rows")
    if "train" in groups:
        splits = {split: list(groups[split]) for split in naming.SPLITS if split in groups}
        return splits, naming.left_out(groups.get(naming.NONE, ()))
    notes = [f"no name of the {len(files):,} tables says train or test: they are read as one set"]
    return {"train": list(groups[naming.NONE])}, notes if len(files) > 1 else []


def in_splits(tables: dict[str, Table]) -> dict[str, Table]:
    """Tables by split. One without splits is divided by its column `split`, if it has one.

    Raises:
        InputError: A value of that column names no split, or none of them is train.
    """
    table = tables["train"]
    column = next((name for name in table.there if name.lower() == SPLIT), None)
    if len(tables) > 1 or column is None or not len(table):
        return tables
    words = [str(word or "") for word in table.columns.column(column).to_pylist()]
    of_word = {word: naming.split_in([word], f"column {column!r} of {table.name}") for word in set(words)}
    strange = next((row for row, word in enumerate(words) if not of_word[word]), None)
    if strange is not None:
        raise InputError(f"{table.where(strange)} has {words[strange]!r} in column {column!r}. {naming.ADVICE}")
    rows = {split: [r for r, word in enumerate(words) if of_word[word] == split] for split in naming.SPLITS}
    found = {split: some for split, some in rows.items() if some}
    naming.check_training(found, table.name, "rows")
    return {split: table.without(column).rows(some) for split, some in found.items()}


# ---------------------------------------------------------------------------------------------------------------- text


def text_of(file: Path) -> str:
    """The text in a file.

    Raises:
        InputError: It cannot be read, is empty, or is not text in UTF-8.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{file} is not text in UTF-8. Save it so, or as parquet.") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}).") from None
    if "\0" in text:
        raise InputError(f"{file} holds zero bytes, so it is no text in UTF-8. Save it so, or as parquet.")
    if not text.strip():
        raise InputError(f"{file} is empty.")
    return text


def csv_columns(text: str, file: Path, notes: list[str]) -> Any:
    """Columns of separated values. The types are those of all rows together."""
    import pyarrow
    import pyarrow.csv

    text = text.lstrip("\r\n")
    lines = text.split("\n", 2)
    separator = _separator(lines[0], file)
    head = _cells(lines[0], separator)
    second = _cells(lines[1], separator) if len(lines) > 1 else []
    comma = separator != "," and any(map(DECIMAL_COMMA.fullmatch, [*head, *second]))
    bare = all(_is_number(cell.replace(",", ".") if comma else cell) for cell in head)
    if bare:
        notes.append(f"{file.name} has no line of names: columns are called by their numbers, from 0")
    data = text.encode()
    reading = pyarrow.csv.ReadOptions(block_size=min(max(len(data) + 1, 2**20), 2**31 - 1))
    if bare:
        reading.column_names = list(map(str, range(len(head))))
    try:
        return pyarrow.csv.read_csv(
            io.BytesIO(data),
            read_options=reading,
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(decimal_point="," if comma else "."),
        )
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(f"{file} is not a readable table ({_first(error)}).") from None


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line.rstrip("\r")], delimiter=separator), [])]
    except csv.Error:  # a longer cell than the module takes
        return line.split(separator)


def _separator(head: str, file: Path) -> str:
    """The separator that the first line has most often outside of quotes."""
    if file.suffix.lower() == ".tsv":
        return "\t"
    outside = re.sub(r'"[^"]*"', "", head)
    return max(SEPARATORS, key=outside.count)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _json(text: str, file: Path) -> Any:
    """Columns of JSON lines, or of one list of objects. What an object leaves out is missing."""
    import pyarrow

    if text.lstrip().startswith("["):
        rows = _parsed(text, str(file))
        places = [f"object {number} of {file}" for number in range(len(rows) if isinstance(rows, list) else 0)]
    else:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        places = [f"line {number} of {file}" for number, _ in lines]
        rows = [_parsed(line, where) for (_, line), where in zip(lines, places, strict=True)]
    if not isinstance(rows, list):
        raise InputError(f"{file} holds no list of objects.")
    for where, row in zip(places, rows, strict=True):
        if not isinstance(row, dict):
            raise InputError(f"{where} is no object with names and values, as {{...}}.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        return pyarrow.table({name: pyarrow.array([row.get(name) for row in rows]) for name in names})
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError, UnicodeError) as error:
        raise InputError(f"{file} has a column that cannot be read as one type ({_first(error)}).") from None


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{where} is not JSON.") from None


def _first(error: Exception) -> str:
    """The first line of an error, shortened."""
    return shortened((str(error).splitlines() or [type(error).__name__])[0], 150)
