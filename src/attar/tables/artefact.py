"""A synthetic table on disk and in memory: its rows, its schema, its origin, and its scores.

`table.parquet` holds the rows in the types of the original. `tables/0001.parquet` and so on hold further tables of the
same method. `generator.safetensors` holds what draws more rows, if there is a generator. `artefact.json` states schema
and origin, with a digest of each file.
"""

import builtins
import dataclasses
import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from attar.core import artefact as core
from attar.core import store
from attar.core.card import SCORES
from attar.core.cell import Cell
from attar.core.errors import InputError, reason_of, shortened
from attar.core.extras import install
from attar.core.pictures import KEPT, kept_in
from attar.core.registry import class_in
from attar.images.data.arrow import Table, of_arrow
from attar.tables.card import TITLES, card, notes, numbers
from attar.tables.data.columns import arrow_of, rows_of, settled
from attar.tables.sources import Rows, Schema

SCHEMA = 1
KIND = "tables"
TABLE = "table.parquet"
FURTHER = "tables/{:04d}.parquet"
WEIGHTS = "generator.safetensors"
PREVIEW = "preview.png"
IN_DATASETS = {
    "double": "float64",
    "float": "float32",
    "halffloat": "float16",
    "date32[day]": "date32",
    "date64[ms]": "date64",
}
"""Types of Arrow that `datasets` calls otherwise."""


@dataclass(frozen=True)
class Origin(core.Origin):
    """The origin of a synthetic table."""

    full: int
    """Number of rows that it was made from."""


class Generator(ABC):
    """What draws rows after its method has learned from a table.

    It is stored as tensors and facts, and read by the name of its class, which must be attar's or that of a package
    whose method is registered.
    """

    schema: Schema

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What it has learned."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What else it needs, as plain values."""

    @classmethod
    @abstractmethod
    def restored(cls, schema: Schema, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Self:
        """The inverse of `tensors` and `facts`."""

    @abstractmethod
    def sample(self, n: int, seed: int = 0) -> Rows:
        """So many new rows, which depend on the seed alone."""


@dataclass(frozen=True)
class SyntheticTable(core.CondensedSet):
    """A table that stands for another one: rows of the same columns and types."""

    rows: Rows
    origin: Origin
    scores: dict[str, Any] = field(default_factory=dict)
    """What was measured when it was made."""
    folder: Path | None = field(default=None, compare=False)
    """Folder in which it was last saved."""
    further: tuple[Rows, ...] = ()
    """Further tables that were drawn in the same way, to tell chance in drawing from the method."""
    generator: Generator | None = field(default=None, compare=False)
    """What draws more rows, if the method leaves that."""

    kind = KIND
    files = (TABLE, "tables/*.parquet", WEIGHTS, core.ARTEFACT, core.CARD, PREVIEW, SCORES, KEPT)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", settled(self.rows.check("the synthetic table")))
        further = tuple(settled(one.check("a further table")) for one in self.further)
        object.__setattr__(self, "further", further)

    @property
    def schema(self) -> Schema:
        """The columns."""
        return self.rows.schema

    @property
    def tables(self) -> tuple[Rows, ...]:
        """All tables, of which the first is the result."""
        return (self.rows, *self.further)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def learned(self) -> dict[str, Tensor]:
        """What the generator has learned."""
        return {} if self.generator is None else self.generator.tensors()

    @property
    def bytes(self) -> int:
        """Size of the rows in bytes, as parquet."""
        return len(parquet_of(self.rows))

    def sample(self, n: int, seed: int = 0) -> Rows:
        """So many new rows.

        Raises:
            InputError: The method leaves no generator.
        """
        if self.generator is None:
            raise InputError(f"{self.origin.method} leaves no generator, so it draws no further rows.")
        if n < 1:
            raise InputError(f"n is {n}; give 1 or more.")
        return settled(self.generator.sample(n, seed).check("the sample"))

    # ----------------------------------------------------------------------------------------------------- other forms

    def to_arrow(self) -> Any:
        """The rows as a `pyarrow.Table`, with the names and types of the original."""
        return arrow_of(self.rows)

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            return self.to_arrow().to_pandas()
        except ImportError:
            raise InputError(f"to_pandas needs pandas: {install('tables')}.") from None

    def to_csv(self, path: str | Path) -> None:
        """Write the rows as CSV, with a line of names."""
        import pyarrow.csv

        sink = io.BytesIO()
        pyarrow.csv.write_csv(_undivided(self.to_arrow()), sink)
        store.write_bytes(Path(path), sink.getvalue())

    # ------------------------------------------------------------------------------------------------------- its folder

    def save(self, folder: str | Path) -> Self:
        """Write the table to a folder and return the saved copy. Each file is written whole or not at all."""
        folder = Path(folder)
        store.make_folder(folder)
        names = [TABLE, *(FURTHER.format(number) for number in range(1, len(self.tables)))]
        if self.further:
            store.make_folder(folder / "tables")
        for name, rows in zip(names, self.tables, strict=True):
            store.write_bytes(folder / name, parquet_of(rows))
        picture = self.picture()
        if picture is not None:
            store.write_bytes(folder / PREVIEW, picture)
        facts = {
            "table": self.schema.to_json(),
            "rows": len(self),
            "digests": core.digests_of(folder, names),
            "generator": None if self.generator is None else self._write_generator(folder, self.generator),
            "origin": dataclasses.asdict(self.origin),
            "scores": self.scores,
        }
        return self.with_facts(folder, SCHEMA, facts)

    def _write_generator(self, folder: Path, generator: Generator) -> dict[str, Any]:
        facts = generator.facts()
        digest = store.write_tensors(folder / WEIGHTS, generator.tensors(), {"schema": SCHEMA, "facts": facts})
        made = type(generator)
        return {"class": f"{made.__module__}:{made.__qualname__}", "digest": digest}

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            InputError: The folder holds no synthetic table, or a file is missing, damaged or altered.
        """
        folder = Path(folder)
        facts = core.read_facts(folder, KIND, SCHEMA, "synthetic table")
        schema = Schema.from_json(facts["table"])
        names = sorted(facts["digests"])
        core.check_files(folder, [TABLE, *names], facts["digests"])
        tables = [_read(folder / name, schema) for name in (TABLE, *(name for name in names if name != TABLE))]
        return cls(
            rows=tables[0],
            origin=Origin(**facts["origin"]),
            scores=facts["scores"],
            folder=folder,
            further=tuple(tables[1:]),
            generator=None if facts["generator"] is None else _generator_in(folder, schema, facts),
        )

    def picture(self) -> builtins.bytes | None:
        """The marginals of the columns as PNG; of a saved table the picture that was drawn when it was made."""
        if self.folder is not None and (self.folder / PREVIEW).is_file():
            return (self.folder / PREVIEW).read_bytes()
        from attar.tables.pictures import marginals_picture

        return marginals_picture(self.tables)

    def shown(self, images: int = 10) -> core.Shown:
        """The numbers of rows, the outcome in each group, and the marginals."""
        drawn = self.picture()
        return core.Shown(
            size=f"{len(self):,} rows",
            count=len(self),
            bytes=self.bytes,
            share=100 * len(self) / self.origin.full if self.origin.full else None,
            facts={
                "made from": f"{self.origin.full:,} rows of {self.origin.source}",
                "columns": str(len(self.schema.columns)),
                **rates(self.rows),
                **({"further tables": str(len(self.further))} if self.further else {}),
                **numbers(self.scores),
                **({"note": "; ".join(said)} if (said := notes(self.scores)) else {}),
                "privacy": "no guarantee",
            },
            pictures=(
                *(() if drawn is None else (core.Picture("", drawn),)),
                *kept_in(self.folder, TITLES),
            ),
        )

    def card(self, scores: list[Cell]) -> str:
        """The README of the table."""
        return card(self, scores)

    def __str__(self) -> str:
        told = ", ".join(f"{value} {name}" for name, value in rates(self.rows).items())
        return f"{len(self):,} rows of {len(self.schema.columns)} columns for {self.origin.full:,}" + (
            f" ({told})" if told else ""
        )


def rates(rows: Rows) -> dict[str, str]:
    """The share of the desirable outcome in each group."""
    if not rows.schema.of_role("sensitive"):
        return {}
    label = f"{rows.schema.label.name} {rows.schema.positive}"
    found = {}
    for code, name in enumerate(rows.schema.groups):
        mine = rows.labels[rows.groups == code].double()
        if len(mine):
            found[f"{label} in {name}"] = f"{float(mine.mean()):.3f}"
    return found


def parquet_of(rows: Rows) -> bytes:
    """The rows as parquet, with the note by which `datasets` knows their types. Categories are written as text."""
    table = _undivided(arrow_of(rows))
    columns = dict(zip(table.column_names, table.columns, strict=True))
    return core.parquet(columns, {name: _feature(column.type) for name, column in columns.items()})


def _feature(kind: Any) -> dict[str, Any]:
    """A type as `datasets` writes it."""
    return {"dtype": IN_DATASETS.get(str(kind), str(kind)), "_type": "Value"}


def _undivided(table: Any) -> Any:
    """A table with categories as one of their values, and text in the form that all readers know."""
    import pyarrow
    from pyarrow import types

    for place, kind in enumerate(table.schema):
        inside = kind.type.value_type if types.is_dictionary(kind.type) else kind.type
        inside = pyarrow.string() if types.is_string_view(inside) else inside
        if inside != kind.type:
            table = table.set_column(place, kind.name, table.column(place).cast(inside))
    return table


def _read(path: Path, schema: Schema) -> Rows:
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as whole:
            columns = whole.read()
    except (ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {reason_of(error)}.") from None
    table: Table = of_arrow(columns, str(path))
    return rows_of(table, schema)


def _generator_in(folder: Path, schema: Schema, facts: Mapping[str, Any]) -> Generator:
    description = facts["generator"]
    made = generator_class(str(description["class"]), str(facts["origin"]["method"]), str(folder / core.ARTEFACT))
    tensors, plain = core.read_tensors(folder / WEIGHTS, description["digest"])
    return made.restored(schema, tensors, plain["facts"])


def generator_class(ref: str, method: str, where: str) -> type[Generator]:
    """The class of a generator by its name.

    Args:
        ref: `package.module:Name`.
        method: The method that made it; a class of its package is accepted.
        where: The file that names it, for messages.

    Raises:
        InputError: It is neither attar's nor that of the method's package, or no generator.
    """
    found = class_in(ref, Generator, method, ("condense",))  # type: ignore[type-abstract]
    if found is None:
        raise InputError(f"{where} names the generator {shortened(ref)!r}, which this attar does not know.")
    return found


def drawn(generator: Generator, rows: int, tables: int, seed: int) -> tuple[Rows, tuple[Rows, ...]]:
    """The first table of a generator, and further ones, each from a seed of its own."""
    several = [generator.sample(rows, seed + number) for number in range(tables)]
    return several[0], tuple(several[1:])


def together(parts: tuple[Rows, ...]) -> Rows:
    """Several tables as one."""
    return Rows(parts[0].schema, torch.cat([part.values for part in parts]))
