"""Pictures with several labels, one label, captions or none: in columns, or in folders with a table beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attar.core.errors import InputError, shortened
from attar.embeddings.data import tables
from attar.embeddings.data.label_columns import NONE, caption_column, labelling
from attar.embeddings.data.labels import captions_of, labels_of
from attar.embeddings.data.raw import RawSamples
from attar.embeddings.sources import Labels, Part
from attar.images.data import arrow, columns, dataset, naming, parquet
from attar.images.data.arrow import Table
from attar.images.data.columns import image_column, left_out, read_pixels
from attar.images.data.folders import Inside
from attar.images.data.form import Form
from attar.images.data.holding import Held, Wanted, all_grey, hold
from attar.images.data.streaming import Files, NoPicture, Picture, Pictures, encoded
from attar.images.reading import ENDINGS

if TYPE_CHECKING:
    from attar.embeddings.reading import Reading

FILES = ("file_name", "filename", "file", "image", "path")
"""Usual names of a column of picture files."""
BESIDE = ("metadata", "labels")
"""Names of tables, without their endings, that say something of the pictures beside them."""


@dataclass(frozen=True)
class Half:
    """One split: what is known of its pictures, and how they are read."""

    table: Table
    """Columns without the pictures."""
    images: columns.Part

    @classmethod
    def of(cls, table: Table, pictures: Pictures, form: Form) -> "Half":
        """Encoded pictures with a row for each."""

        def pixels(wanted: Wanted) -> Held:
            return hold(pictures, form, wanted)

        rows = list(range(len(pictures)))
        where = pictures.where
        return cls(table, columns.Part(table.name, rows, None, where, pixels, partial(all_grey, pictures)))


def form_of(how: "Reading") -> Form:
    """How pictures are decoded."""
    return Form(
        size=how.size,
        memory=how.memory,
        image=how.image,
        background=how.background,
        pixel_bits=how.pixel_bits,
        skip_bad=how.skip_bad,
    )


def assembled(name: str, halves: Mapping[str, Half], how: "Reading", notes: Sequence[str] = ()) -> RawSamples:
    """Samples from pictures and what is known of them.

    Args:
        name: The name of the set.
        halves: What there is of each split; training pictures at least.
        how: Settings of reading.
        notes: What was left out or decided so far.

    Raises:
        InputError: Labels or captions are wrong, or pictures cannot be read.
    """
    parts = {split: half.table for split, half in halves.items()}
    first = parts["train"]
    if not len(first):
        raise InputError(f"{first.name} has no rows.")
    caption = caption_column(first, how.captions)
    found = labelling(first, how.label, [one for one in first.there if one != caption], features=False)
    labels, classes, told = labels_of(parts, found)
    train, test, more = naming.chosen(
        {split: split for split in halves},
        labelled=lambda split: labels[split] is not None or found.form == "none",
        images=lambda split: len(parts[split]),
    )
    held = read_pixels(halves[train].images, halves[test].images if test else None)
    chosen, texts = [], []
    for split, one in zip((train, test), held, strict=True):
        if split is not None and one is not None:
            half, text = _part(parts[split], one, labels[split], caption)
            chosen.append(half)
            texts += text
            texts += [left_out(halves[split].images, one)] if one.bad else []
    told = [*first.notes, *notes, *told, *more, *texts]
    return RawSamples(name, classes, chosen[0], chosen[1] if len(chosen) > 1 else None, tuple(dict.fromkeys(told)))


def _part(table: Table, held: Held, labels: Labels | None, caption: str | None) -> tuple[Part, list[str]]:
    if caption is not None and caption not in table.there:
        raise InputError(f"{table.name} has no column {caption!r} of captions, which the training rows have.")
    captions, notes = captions_of(table, caption) if caption is not None else ((), [])
    if held.kept is not None:
        labels = None if labels is None else labels[held.kept]
        captions = tuple(captions[row] for row in held.kept.tolist()) if captions else ()
    return Part(held.pixels, labels, captions), notes


# ---------------------------------------------------------------------------------------------------- columns of images


def has_images(names: Sequence[str], asked: str | None, where: str) -> bool:
    """Whether there is a column of images."""
    try:
        image_column(names, asked, where)
    except InputError:
        if asked is not None:
            raise
        return False
    return True


def from_parquet(name: str, path: Path, files: Sequence[Path], how: "Reading") -> RawSamples:
    """Read parquet files with a column of images.

    Raises:
        InputError: Files cannot be read, or have another form.
    """
    form, root = form_of(how), path.parent if path.is_file() else path
    groups: dict[str, list[Path]] = {"train": [path]}
    notes: list[str] = []
    if not path.is_file():
        names, notes = arrow.grouped([file.relative_to(path) for file in files], str(path))
        groups = {split: [path / one for one in some] for split, some in names.items()}
    halves = {}
    for split, some in groups.items():
        table = arrow.of_files(some, without=partial(_images_in, asked=how.image))
        starts = [start for start, _ in table.starts]
        halves[split] = Half(table, parquet.part_of(some, starts, list(range(len(table))), None, root, form))
    return assembled(name, halves, how, notes)


def _images_in(schema: Any, file: Path, asked: str | None) -> list[str]:
    """The columns of images, which are read later or not at all."""
    from pyarrow import types

    image = image_column(schema.names, asked, str(file))
    heavy = [one.name for one in schema if types.is_struct(one.type) or types.is_binary(one.type)]
    return [image, *(name for name in heavy if name != image)]


def from_dataset(data: Any, name: str, how: "Reading", within: Path | None = None) -> RawSamples:
    """Read a `datasets.Dataset`, or a `DatasetDict` whose splits are found by their names.

    Raises:
        InputError: It is streamed, no split is for training, or columns are of another form.
    """
    import datasets

    if isinstance(data, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        raise InputError(f"data is an {type(data).__name__}. Load it without streaming=True; attar leaves it on disk.")
    where, several = name or "the data", isinstance(data, datasets.DatasetDict)
    splits, notes = dataset.splits_of(dict(data), where) if several else ({"train": data}, [])
    name = columns.field_name(name or splits["train"].info.dataset_name or "dataset")
    arrow.check_columns(splits["train"].column_names, where)
    if not has_images(splits["train"].column_names, how.image, where):
        found = {split: _table(one, f"{name}, {split}", one.column_names) for split, one in splits.items()}
        return tables.from_tables(name, arrow.in_splits(found), how.label, notes)
    halves = {}
    for split, one in splits.items():
        called = f"{name}, {split}"
        image = image_column(one.column_names, how.image, called)
        light = [column for column in one.column_names if column != image and _is_light(one.features[column])]
        rows = list(range(len(one)))
        images = dataset.part_of(one, rows, None, called, form_of(how), within)
        halves[split] = Half(_table(one, called, light), images)
    return assembled(name, halves, how, notes)


def _is_light(feature: Any) -> bool:
    return type(feature).__name__ in ("Value", "ClassLabel", "Sequence", "List", "LargeList", "list")


def _table(data: Any, name: str, wanted: Sequence[str]) -> Table:
    import pyarrow

    features = {column: data.features[column] for column in wanted}
    names = {column: getattr(getattr(one, "feature", one), "names", None) for column, one in features.items()}
    known = {column: tuple(one) for column, one in names.items() if one}
    rows = data.select_columns(list(wanted)).with_format("arrow")[:] if wanted and len(data) else None
    empty = pyarrow.table({column: pyarrow.array([]) for column in wanted})
    return Table(name, empty if rows is None else rows, known, count=len(data))


# ---------------------------------------------------------------------------------------- folders with a table, or none


@dataclass(frozen=True)
class Named(Pictures):
    """Picture files that the rows of a table name, from the folder of the table on."""

    table: Table
    files: list[Any]
    within: Path
    """Folder below which the files must lie."""

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: list[int]) -> list[Picture]:
        """The paths of these rows."""
        return [self._picture(row) for row in rows]

    def _picture(self, row: int) -> Picture:
        name, beside = self.files[row], self.table.file_of(row).parent
        if isinstance(name, str) and not name.isprintable():
            return NoPicture(f"names {shortened(repr(name))}, which is no name of a file")
        return encoded(name, (beside, self.within), self.within, self.where(row))

    def where(self, row: int) -> str:
        """The row in its file, with the name of the picture."""
        name, place = self.files[row], self.table.where(row)
        return f"{name} ({place})" if isinstance(name, str) and name and name.isprintable() else place

    @property
    def stamp(self) -> str | None:
        """None: the pictures are hashed again each time."""
        return None


def file_column(table: Table, asked: str | None) -> str | None:
    """The column of picture files, if there is one whose first name ends as pictures do, or is that of a file."""
    for name in [asked] if asked is not None else FILES:
        column = next((one for one in table.there if one.lower() == str(name).lower()), None)
        cells = table.columns.column(column).to_pylist() if column else []
        cell = next((cell for cell in cells if cell), None)
        if isinstance(cell, str) and (asked is not None or _is_picture(table.file_of(0).parent, cell)):
            return column
    return None


def _is_picture(folder: Path, name: str) -> bool:
    """Whether a name ends as pictures do, or is that of a file."""
    try:
        return name.lower().endswith(ENDINGS) or (folder / name).is_file()
    except (OSError, ValueError):
        return False


def from_named(
    name: str, path: Path, files: Sequence[Path], how: "Reading", inside: Inside | None = None
) -> RawSamples:
    """Read pictures that tables name: `metadata.csv`, for instance, with a column `file_name`.

    Args:
        name: The name of the set.
        path: The folder, below which all pictures lie.
        files: The tables.
        how: Settings of reading.
        inside: The files of the folder, so that pictures without a row are told of.

    Raises:
        InputError: There is no column of files, or pictures cannot be read.
    """
    groups, notes = arrow.grouped([file.relative_to(path) for file in files], str(path))
    found = {split: arrow.of_files([path / one for one in some]) for split, some in groups.items()}
    if not len(found["train"]):
        raise InputError(f"{found['train'].name} has no rows.")
    column = file_column(found["train"], how.image)
    if column is None:
        raise InputError(
            f"{found['train'].name} has no column of picture files. Its columns: {naming.few(found['train'].there)}. "
            "Name one with --image."
        )
    parts = _by_folders(arrow.in_splits(found), column)
    halves, named = {}, 0
    for split, table in parts.items():
        if column not in table.there:
            raise InputError(f"{table.name} has no column {column!r}, which the training rows have.")
        cells = table.columns.column(column).to_pylist()
        named += len(set(map(str, cells)))
        halves[split] = Half.of(table.without(column), Named(table, cells, path), form_of(how))
    more = len(inside.pictures) - named if inside else 0
    if more > 0:
        notes.append(f"left out, because no row of a table names them: {more:,} picture{'s' * (more > 1)}")
    return assembled(name, halves, how, notes)


def _by_folders(parts: dict[str, Table], column: str) -> dict[str, Table]:
    """A table without splits, divided by the folders of its files if these name splits, training among them."""
    if len(parts) > 1:
        return parts
    table = parts["train"]
    files = [Path(str(cell)) for cell in table.columns.column(column).to_pylist()]
    said = [set().union(*map(naming.splits_in, file.parts[:-1])) for file in files]
    if not files or any(len(one) != 1 for one in said) or {"train"} not in said or len(set().union(*said)) < 2:
        return parts
    rows = {split: [row for row, one in enumerate(said) if one == {split}] for split in naming.SPLITS}
    return {split: table.rows(some) for split, some in rows.items() if some}


def is_bare(inside: Inside) -> bool:
    """Whether the pictures of a folder lie in no folders of classes: in one folder, or in those of splits."""
    depths = {len(names) for names in inside.pictures}
    tops = inside.in_folders
    if depths == {1} or (len(tops) == 1 and depths == {2}):
        return True
    return depths == {2} and all(len(naming.splits_in(top)) == 1 for top in tops)


def from_bare(name: str, path: Path, inside: Inside, how: "Reading") -> RawSamples:
    """Read pictures without labels. Folders may be named after splits.

    Raises:
        InputError: There are no training pictures, or pictures cannot be read.
    """
    import pyarrow

    if how.captions or how.image or how.label not in (None, NONE):
        raise InputError(f"image, label and captions are names of columns, but {path} has no table of its pictures.")
    groups: dict[str, list[str]] = {}
    several = len(inside.in_folders) > 1
    for names in sorted(inside.pictures):
        split = naming.split_in([names[0]], f"folder {names[0]} of {path}") if several else "train"
        groups.setdefault(split, []).append("/".join(names))
    naming.check_training(groups, str(path))
    empty = pyarrow.table({})
    halves = {
        split: Half.of(Table(str(path), empty, count=len(files)), Files(path, files), form_of(how))
        for split, files in groups.items()
    }
    return assembled(name, halves, how, inside.ignored)
