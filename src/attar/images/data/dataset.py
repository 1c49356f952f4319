"""Data sets of the `datasets` library: in memory, saved to disk, or from the hub."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

from attar.core.errors import InputError
from attar.images.data import naming
from attar.images.data.columns import (
    NoLabels,
    Part,
    assemble,
    field_name,
    hold_numbers,
    holds_numbers,
    image_column,
    label_column,
    label_values,
    unlabelled,
)
from attar.images.data.form import Form
from attar.images.data.holding import Held, Wanted, all_grey, hold
from attar.images.data.pixels import Loaded
from attar.images.data.streaming import Rows


def is_dataset(data: Any) -> bool:
    """Whether this is a data set of the `datasets` library, which is not imported for this."""
    library = sys.modules.get("datasets")
    kinds = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
    return library is not None and isinstance(data, tuple(getattr(library, kind) for kind in kinds))


def from_hub(text: str, form: Form, *, near: str = "") -> Loaded:
    """Read a data set of the hub, `user/name` or `user/name:configuration`. It is stored in the cache of `datasets`.

    Args:
        text: The name.
        form: Columns, budget, and how pictures are decoded.
        near: What else may be meant, as a sentence, if there is no such data set.

    Raises:
        InputError: There is no such data set, the hub cannot be reached, or the data set has another form.
    """
    return from_dataset(fetched(text, near=near), form, text.partition(":")[0], within=cached())


def fetched(text: str, *, near: str = "") -> Any:
    """A data set of the hub, as `from_hub` takes it.

    Raises:
        InputError: There is no such data set, or the hub cannot be reached.
    """
    import datasets

    name, _, configuration = text.partition(":")
    try:
        return datasets.load_dataset(name, configuration or None)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = f"{near} {str(error).splitlines()[0]}".strip()
        raise InputError(f"unknown data {text!r}: no file or folder here, and from the hub: {reason}") from None


def cached() -> Path:
    """The folder in which data sets of the hub are stored."""
    import datasets

    return Path(datasets.config.HF_CACHE_HOME).expanduser()


def from_disk(path: Path, form: Form) -> Loaded:
    """Read a folder that `save_to_disk` wrote.

    Raises:
        InputError: The folder cannot be read, or the data set has another form.
    """
    return from_dataset(opened(path), form, path.resolve().name, within=path)


def opened(path: Path) -> Any:
    """The data set in a folder that `save_to_disk` wrote.

    Raises:
        InputError: The folder cannot be read.
    """
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a readable data set ({type(error).__name__}).") from None


def from_dataset(data: Any, form: Form, name: str = "", *, within: Path | None = None) -> Loaded:
    """Read a `datasets.Dataset`, or a `DatasetDict` whose splits are found by their names.

    Args:
        data: The data set.
        form: Columns, budget, and how pictures are decoded.
        name: Its name. Default: that which it has.
        within: Folder below which files that rows name must lie. None: they may lie anywhere.

    Raises:
        InputError: The data set is streamed, no split is for training, or columns do not hold images or labels.
    """
    import datasets

    if isinstance(data, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        kind = type(data).__name__
        raise InputError(
            f"data is an {kind}, from which images cannot be drawn at random. Load it without streaming=True; "
            "attar leaves it on disk and decodes it batch by batch."
        )
    where = name or "the data"
    splits, notes = splits_of(dict(data), where) if isinstance(data, datasets.DatasetDict) else ({"train": data}, [])
    name = name or splits["train"].info.dataset_name or "dataset"
    parts = {}
    for split, found in splits.items():
        try:
            parts[split] = _part(found, f"{name}, {split}", form, within)
        except NoLabels:
            if split == "train":
                raise
            parts[split] = unlabelled(f"{name}, {split}", len(found))
    return assemble(field_name(name), parts, notes)


def splits_of(data: dict[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """The data of each split, and notes about others. A single split that no word names is the training set.

    Raises:
        InputError: No split is for training, or there is a choice.
    """
    groups = naming.named_splits(data, where)
    naming.check_training(groups, where)
    if "train" not in groups:
        if len(data) != 1:
            raise InputError(f"{where} has no split named train. Its splits: {', '.join(data)}.")
        return {"train": next(iter(data.values()))}, []
    found = {split: data[groups[split][0]] for split in naming.SPLITS if split in groups}
    return found, naming.left_out(groups.get(naming.NONE, ()))


def _part(dataset: Any, name: str, form: Form, within: Path | None) -> Part:
    image_column(dataset.column_names, form.image, name)  # its absence is told first
    label = label_column(dataset.column_names, form.label, name)
    labels = label_values(dataset.select_columns([label]).with_format("arrow")[:].column(0), label, name)
    names = getattr(dataset.features[label], "names", None)
    return part_of(dataset, labels, tuple(names) if names else None, name, form, within)


def part_of(
    dataset: Any, labels: list[Any], names: tuple[str, ...] | None, name: str, form: Form, within: Path | None
) -> Part:
    """The images of a data set, with labels that were read before.

    Args:
        dataset: A datasets.Dataset.
        labels: One of each row.
        names: Class names of labels that are integers, if they are known.
        name: The name of the split, for messages.
        form: Columns, budget, and how pictures are decoded.
        within: Folder below which files that rows name must lie. None: they may lie anywhere.

    Raises:
        InputError: There is no column of images.
    """
    schema = dataset.features.arrow_schema
    image = image_column(dataset.column_names, form.image, name)
    images = dataset.select_columns([image])
    rows = Rows(images.with_format("arrow"), name, within)

    @cache
    def numbers() -> bool:
        return holds_numbers(schema.field(image).type, image, name)

    def pixels(wanted: Wanted) -> Held:
        if numbers():
            return hold_numbers(images.with_format("numpy"), image, name, form, wanted.shape)
        return hold(rows, form, wanted)

    def grey() -> bool:
        return not numbers() and all_grey(rows)

    return Part(name, labels, names, rows.where, pixels, grey)
