"""From a name, a file, a folder or an object to tables as they are: found, with the split that they came with."""

import gzip
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attar.core.errors import InputError, near_path, reason_of
from attar.core.hub import looks_like_one
from attar.core.provenance import ARTEFACT
from attar.images.data import arrow, dataset, naming
from attar.images.data.arrow import Table
from attar.images.data.columns import field_name
from attar.tables.data.known import raw_table
from attar.tables.sources import Schema

PACKED = (".gz", ".zip")
"""Endings of files that hold one packed file."""
RAW = (".data", ".test")
"""Endings of files of the UCI repository."""
LARGEST = 2**31
"""Most bytes of a packed file's content."""
FORM = "a name, a path, a DataFrame (pandas, polars, pyarrow), a datasets.Dataset, or a pair for training and testing"


@dataclass(frozen=True)
class Found:
    """Tables as they were found."""

    name: str
    train: Table
    test: Table | None = None
    notes: tuple[str, ...] = ()
    schema: Schema | None = None
    """The schema of a synthetic table."""


def found_in(data: Any) -> Found:
    """The tables that a name, a path or an object stands for.

    Raises:
        InputError: The data are unknown, or cannot be read.
    """
    if dataset.is_dataset(data):
        return _of_dataset(data, "")
    if isinstance(data, (str, Path)):
        return _of_text(data)
    if isinstance(data, (tuple, list)) and len(data) == 2:
        train, test = (found_in(part) for part in data)
        return replace(train, test=test.train, notes=tuple(dict.fromkeys([*train.notes, *test.notes])))
    return Found("table", named(_of_object(data, "the table")))


def _of_object(data: Any, name: str) -> Table:
    """The rows of a DataFrame, through Arrow."""
    import pyarrow

    if isinstance(data, (pyarrow.Table, pyarrow.RecordBatch)):
        return arrow.of_arrow(pyarrow.table(data), name)
    library = type(data).__module__.partition(".")[0]
    try:
        if library == "pandas" and hasattr(data, "columns"):
            arrow.check_columns(list(map(str, data.columns)), name)
            return arrow.of_arrow(pyarrow.Table.from_pandas(data, preserve_index=False), name)
        if hasattr(data, "__arrow_c_stream__") and type(data).__name__ != "Series":
            return arrow.of_arrow(pyarrow.table(data), name)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        reason = ": ".join(map(str, error.args[::-1])) if len(error.args) > 1 else reason_of(error)
        raise InputError(f"{name} has a column that cannot be read ({reason}).") from None
    raise InputError(f"data is of type {type(data).__name__}; give {FORM}.")


def _of_dataset(data: Any, name: str) -> Found:
    import datasets

    if isinstance(data, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        raise InputError(f"data is an {type(data).__name__}. Load it without streaming=True.")
    where = name or "the data"
    several = isinstance(data, datasets.DatasetDict)
    splits, notes = dataset.splits_of(dict(data), where) if several else ({"train": data}, [])
    name = name or splits["train"].info.dataset_name or "dataset"
    parts = {}
    for split, one in splits.items():
        classes = {key: tuple(kind.names) for key, kind in one.features.items() if getattr(kind, "names", None)}
        parts[split] = named(arrow.of_arrow(one.with_format("arrow")[:], f"{name}, {split}", classes))
    return _chosen(field_name(name), arrow.in_splits(parts), notes)


def _of_text(data: str | Path) -> Found:
    text, path = str(data), Path(data).expanduser()
    if not text:
        raise InputError("data has no name; give a name or a path.")
    if _is_there(path):
        return _of_folder(path) if path.is_dir() else of_file(path)
    known = path.suffix.lower() in (*arrow.ENDINGS, *PACKED, *RAW)
    if known or not looks_like_one(text.partition(":")[0]):
        near = near_path(path)
        guess = f"did you mean {near!r}?" if near else "no such file or folder."
        raise InputError(f"unknown data {text!r}; {guess}")
    return _of_dataset(dataset.fetched(text), text.partition(":")[0])


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _of_folder(path: Path) -> Found:
    if (path / ARTEFACT).is_file():
        return _of_artefact(path)
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return _of_dataset(dataset.opened(path), path.resolve().name)
    raw = sorted(file for file in path.iterdir() if bare(file).suffix == ".data")
    files = sorted(file for file in path.rglob("*") if _is_table(file) and _shown(file.relative_to(path)))
    if len(raw) == 1 and not files:
        return of_file(raw[0])
    if not files:
        raise InputError(f"{path} holds no tables. Give .csv, .tsv, .jsonl or .parquet, or a folder of such files.")
    groups, notes = arrow.grouped([file.relative_to(path) for file in files], str(path))
    parts = {split: _of_files([path / one for one in some]) for split, some in groups.items()}
    return _chosen(field_name(path.resolve().name), arrow.in_splits(parts), notes)


def _of_artefact(path: Path) -> Found:
    from attar.tables.artefact import SyntheticTable

    made = SyntheticTable.load(path)
    return Found(field_name(path.resolve().name), arrow.of_arrow(made.to_arrow(), str(path)), schema=made.schema)


def _shown(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts)


def _is_table(path: Path) -> bool:
    return bare(path).suffix.lower() in arrow.ENDINGS and path.is_file()


def bare(path: Path) -> Path:
    """The name of a file without the ending of its packing."""
    return path.with_suffix("") if path.suffix.lower() in PACKED else path


def of_file(path: Path) -> Found:
    """The table in one file; Adult's test file is found beside its training file.

    Raises:
        InputError: It is no table, or cannot be read.
    """
    name = field_name(bare(path).stem)
    ending = bare(path).suffix.lower()
    if ending in RAW:
        train = _of_files([path])
        beside = path.with_name(path.name.replace(".data", ".test"))
        if ending != ".data" or not beside.is_file():
            return Found(name, train)
        return Found(name, train, _of_files([beside]), (f"the test rows are those of {beside.name}",))
    if ending not in arrow.ENDINGS:
        raise InputError(f"{path} is no table. Give .csv, .tsv, .jsonl or .parquet, or a folder of such files.")
    return _chosen(name, arrow.in_splits({"train": _of_files([path])}), [])


def _of_files(files: Sequence[Path]) -> Table:
    """The rows of files, of which a packed or raw one is alone."""
    if all(file.suffix.lower() in arrow.ENDINGS for file in files):
        found = arrow.of_files(files)
        return named(blank_is_missing(found) if files[0].suffix.lower() in arrow.TEXT[:2] else found)
    if len(files) > 1:
        raise InputError(f"{files[0].parent} has several packed tables for one split. Unpack them.")
    text = text_in(files[0])
    table = raw_table(text, str(files[0]))
    if table is not None:
        return table
    if bare(files[0]).suffix.lower() not in arrow.TEXT[:2]:
        raise InputError(f"{files[0]} is no table that attar knows. Save it as .csv with a line of names.")
    notes: list[str] = []
    columns = arrow.csv_columns(text, bare(files[0]), notes)
    found = arrow.of_arrow(columns, str(files[0]))
    return blank_is_missing(replace(found, notes=tuple(notes)))


def text_in(path: Path) -> str:
    """The text in a file, packed or not.

    Raises:
        InputError: It cannot be read, is not text in UTF-8, or a zip file holds several files.
    """
    if path.suffix.lower() not in PACKED:
        return arrow.text_of(path)
    try:
        with _unpacked(path) as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise InputError(f"{path} holds more than {LARGEST / 1e9:.0f} GB of text. Save it as parquet.")
        text: str = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} does not hold text in UTF-8.") from None
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read ({reason_of(error)}).") from None
    if not text.strip():
        raise InputError(f"{path} is empty.")
    return text


def _unpacked(path: Path) -> Any:
    if path.suffix.lower() == ".gz":
        return gzip.open(path)
    with zipfile.ZipFile(path) as whole:
        names = [name for name in whole.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        if len(names) != 1:
            raise InputError(f"{path} holds {len(names)} files. Give a zip file with one table.")
        with whole.open(names[0]) as file:
            return io.BytesIO(file.read(LARGEST + 1))


def blank_is_missing(table: Table) -> Table:
    """The table with empty text as missing, as CSV writes it."""
    import pyarrow
    import pyarrow.compute as pc
    from pyarrow import types

    there, columns = table.there, table.columns.columns
    filled = [pc.if_else(pc.equal(one, ""), None, one) if types.is_string(one.type) else one for one in columns]
    return replace(table, columns=pyarrow.table(filled, names=there))


def named(table: Table) -> Table:
    """The table with integers that have class names as categories."""
    import pyarrow
    import pyarrow.compute as pc

    columns = table.columns
    for name, classes in table.names.items():
        place = columns.column_names.index(name)
        codes = columns.column(place).combine_chunks().cast(pyarrow.int32())
        codes = pc.if_else(pc.less(codes, 0), None, codes)
        levels = pyarrow.array(classes, pyarrow.string())
        columns = columns.set_column(place, name, pyarrow.DictionaryArray.from_arrays(codes, levels))
    return replace(table, columns=columns, names={})


def _chosen(name: str, parts: dict[str, Table], notes: Sequence[str]) -> Found:
    train, test, more = naming.chosen(parts, labelled=lambda one: True, images=len, what="rows")
    return Found(name, train, test, tuple(dict.fromkeys([*train.notes, *notes, *more])))
