"""Large files of JSON lines row by row, so that neither their text nor their rows are in memory."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np

from attar.core.errors import InputError

LARGE = 2**26
"""Bytes from which a file is read row by row."""
AT_ONCE = 1000
"""Rows that are written together."""
Value = Callable[[str, Path, int], Any]
"""From a line, its file and its number to a row."""


class Lines(Sequence[Any]):
    """The rows of a file of JSON lines, each read when it is asked for."""

    def __init__(self, path: Path, value: Value) -> None:
        self.path, self.value = path, value
        places, numbers, place = [], [], 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip(b"\xef\xbb\xbf \t\r\n"):
                    places.append(place)
                    numbers.append(number)
                place += len(line)
        self.places, self.numbers = np.array(places, np.int64), np.array(numbers, np.int64)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, row: int) -> Any: ...

    @overload
    def __getitem__(self, row: slice) -> list[Any]: ...

    def __getitem__(self, row: int | slice) -> Any:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        with self.path.open("rb") as file:
            file.seek(int(self.places[row]))
            return self._value(file.readline(), int(self.numbers[row]))

    def __iter__(self) -> Iterator[Any]:
        with self.path.open("rb") as file:
            for place, number in zip(self.places, self.numbers, strict=True):
                file.seek(int(place))
                yield self._value(file.readline(), int(number))

    def _value(self, line: bytes, number: int) -> Any:
        try:
            return self.value(line.decode("utf-8-sig" if number == 1 else "utf-8"), self.path, number)
        except UnicodeDecodeError:
            raise InputError(f"{self.path} is not UTF-8 text.") from None


@contextmanager
def passing_file() -> Iterator[str]:
    """The name of a file that is removed afterwards; what is mapped into memory from it stays as long as it is used."""
    with tempfile.TemporaryDirectory(prefix="attar-", ignore_cleanup_errors=True) as folder:
        yield str(Path(folder) / "rows.arrow")


def on_disk(rows: Iterable[dict[str, Any]], form: str) -> Any:
    """Rows of text as a `datasets.Dataset` that is mapped into memory from a file.

    Args:
        rows: In their standard form.
        form: pair, chat or text.
    """
    import datasets
    import pyarrow as arrow

    text = arrow.string()
    turns = arrow.list_(arrow.struct([("role", text), ("content", text)]))
    schema = {
        "text": {"text": text},
        "chat": {"messages": turns},
        "pair": {"prompt": text, "response": text, "others": arrow.list_(text)},
    }[form]
    names, rows = arrow.schema(list(schema.items())), iter(rows)
    with passing_file() as path:
        with arrow.OSFile(path, "wb") as sink, arrow.ipc.new_stream(sink, names) as writer:
            while some := list(islice(rows, AT_ONCE)):
                some = [{"others": [], **row} for row in some] if form == "pair" else some
                writer.write_batch(arrow.RecordBatch.from_pylist(some, names))
        return datasets.Dataset.from_file(path)


def without_empty_others(rows: Any) -> Any:
    """A `datasets.Dataset` without its column of further references where no row has one."""
    if "others" not in rows.column_names or _longest(rows.data.column("others")):
        return rows
    return rows.remove_columns("others")


def _longest(lists: Any) -> int:
    import pyarrow.compute as compute

    return int(compute.max(compute.list_value_length(lists)).as_py() or 0)
