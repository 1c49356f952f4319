"""From a name, a file, a folder or an object to a source: found, split, chosen, and ready as input."""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attar.core import stratify
from attar.core.errors import InputError
from attar.core.provenance import asked, shadowed
from attar.embeddings.data import arrays, mosaics, omniglot, pictures, tables
from attar.embeddings.data.raw import RawSamples
from attar.embeddings.data.subsets import few_shot, long_tail, novel_classes, one_label
from attar.embeddings.reading import BUNDLED, Reading, is_omniglot
from attar.embeddings.sources import Features, Part, Source, Standard
from attar.images.data import arrow, dataset, naming, readers
from attar.images.data.columns import field_name
from attar.images.data.folders import look_into
from attar.images.sources import DIGIT_SETS, ImageSource, normalisation

DIGITS = "digits"


def load(data: Any, **settings: Any) -> Source:
    """Load samples for training an encoder.

    Args:
        data: `"mosaics"` (bundled), a feature table (parquet, CSV, JSON lines, or a folder of them), images in any form
            that attar reads, with one label, several labels, captions or none, zip files of Omniglot, a `datasets`
            data set, a pyarrow or pandas table, or arrays: `samples`, `(samples, labels)`, or two such pairs.
        settings: Those of `Reading`, by name.

    Raises:
        InputError: The data are unknown or cannot be used.
    """
    return loaded(data, Reading.from_names(**settings))


def loaded(data: Any, how: Reading) -> Source:
    """Load samples as settings say.

    Raises:
        InputError: The data are unknown or cannot be used.
    """
    if isinstance(data, Source):
        return data
    wanted = dataclasses.replace(how, mosaics=how.mosaics or mosaics.TRAIN) if _is_bundled(data, BUNDLED) else how
    source = made(found_in(data, how), wanted)
    if isinstance(data, Path) and str(data) in (BUNDLED, DIGITS) and data.exists():
        data = f"./{data}"
    return asked(source, data, **how.to_json())


def _is_bundled(data: Any, name: str) -> bool:
    """Whether data are the bundled set of a name: as text, or as a path where nothing lies."""
    if isinstance(data, str):
        return data == name
    return isinstance(data, Path) and str(data) == name and not data.exists()


def mosaics_of(images: ImageSource, train: int = mosaics.TRAIN, test: int = mosaics.TEST, seed: int = 0) -> Source:
    """Mosaics of 2×2 images, with several labels and a caption each.

    Args:
        images: Images with one label each.
        train: Number of training mosaics, made of training images.
        test: Number of test mosaics, made of test images.
        seed: Seed of the draw.
    """
    return made(_of_images(images), Reading(mosaics=train, test_mosaics=test), seed=seed)


# ---------------------------------------------------------------------------------------------------------- the source


def made(found: RawSamples, how: Reading, *, seed: int = 0) -> Source:
    """The source of samples that were found: split, chosen and normalised.

    Args:
        found: The samples.
        how: Settings of reading.
        seed: Seed of the mosaics.

    Raises:
        InputError: Samples lack what a setting needs, or none are left.
    """
    if isinstance(found.train.samples, Features) and (how.size is not None or how.statistics is not None):
        raise InputError(f"size and statistics are settings of pictures, but {found.name} is a table.")
    base, split, novel = _split(found, how)
    train, test = base.train, base.test
    assert test is not None
    name, classes, notes = base.name, base.classes, list(base.notes)
    if how.mosaics:
        halves = [("training", train, how.mosaics), ("test", test, how.test_mosaics)]
        train, test = (mosaics.mosaic_part(one, classes, count, seed, part) for part, one, count in halves)
        name = BUNDLED if name == DIGITS else f"{name} {BUNDLED}"
    if how.imbalance > 1:
        labels = one_label(train, name, "--imbalance")
        train = train.select(long_tail(labels, len(classes), how.imbalance, how.split_seed).nonzero().flatten())
        notes.append(f"training samples are thinned to a long tail of ratio {how.imbalance:g}")
    if how.limit is not None and how.limit < len(train):
        train = train.select(stratify.kept(train.labels, len(train), how.limit, how.split_seed).nonzero().flatten())
    notes += check_classes(name, classes, train)
    depends = found.test is None or "seed" in split or how.limit is not None or how.imbalance > 1
    return Source(
        name,
        classes,
        train,
        test,
        transform=_transform(base, train, how),
        split=split,
        flips=base.flips and not base.name.startswith(DIGIT_SETS),
        novel=novel,
        again=(lambda other: made(found, dataclasses.replace(how, split_seed=other), seed=seed)) if depends else None,
        notes=tuple(dict.fromkeys(notes)),
    )


def _split(found: RawSamples, how: Reading) -> tuple[RawSamples, str, tuple[str, ...]]:
    """The samples with test samples, the split in words, and the novel classes."""
    if how.novel:
        one_label(found.train, found.name, "--novel")
        if how.mosaics:
            raise InputError("--novel needs samples with one label each, but mosaics have several. Give one of both.")
        base, novel = few_shot(found, novel_classes(found.classes, how.novel, how.split_seed))
        by_seed = len(how.novel) == 1 and how.novel[0] not in found.classes and "." in how.novel[0]
        return base, f"novel classes by seed {how.split_seed}" if by_seed else "novel classes", novel
    if found.test is not None:
        return found, "given", ()
    whole = found.train
    if len(whole) < 2:
        raise InputError(f"{found.name} has {len(whole)} samples; give two or more.")
    mask = stratify.split(whole.labels, len(whole), how.split_seed)
    if not mask.any() or mask.all():
        raise InputError(f"{found.name} has {len(whole)} samples, too few for a split into training and test samples.")
    train, test = (whole.select(rows.nonzero().flatten()) for rows in (~mask, mask))
    return dataclasses.replace(found, train=train, test=test), f"80/20 by seed {how.split_seed}", ()


def check_classes(name: str, classes: Sequence[str], train: Part) -> list[str]:
    """Check that every class has training samples; of several labels, only tell which are lacking.

    Raises:
        InputError: A class has none.
    """
    if train.labels is None:
        return []
    one = train.labels.ndim == 1
    counts = train.labels.bincount(minlength=len(classes)) if one else train.labels.sum(dim=0)
    lacking = [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]
    if lacking and one:
        raise InputError(f"class {lacking[0]!r} of {name} is left without training samples. Raise --limit.")
    return [f"labels without a training sample: {naming.few(lacking)}"] if lacking else []


def _transform(found: RawSamples, train: Part, how: Reading) -> Any:
    """The normalisation: of tables by their training rows, of images as those of the kind images."""
    if isinstance(train.samples, Features):
        return Standard.of(train.samples.tensor)
    if found.transform is not None and not how.mosaics:
        return found.transform
    name = "" if how.mosaics else found.name
    return normalisation(name, train.samples, how.statistics)[0]


# ------------------------------------------------------------------------------------------------------- what is there


def found_in(data: Any, how: Reading) -> RawSamples:
    """The samples that a name, a path or an object stands for.

    Raises:
        InputError: The data are unknown, or cannot be read.
    """
    if isinstance(data, ImageSource):
        return _of_images(data)
    if dataset.is_dataset(data):
        return pictures.from_dataset(data, "", how)
    if isinstance(data, (str, Path)):
        return _of_text(data, how)
    if _is_table(data):
        table = arrow.of_arrow(_as_arrow(data), "the table")
        return tables.from_tables("table", arrow.in_splits({"train": table}), how.label)
    if how.label is not None or how.image is not None or how.captions is not None:
        raise InputError("label, image and caption are names of columns, but arrays do not have columns.")
    return arrays.from_arrays(data)


def _of_text(data: str | Path, how: Reading) -> RawSamples:
    text = str(data)
    if not text:
        raise InputError("data has no name; give a name or a path.")
    if _is_bundled(data, BUNDLED):
        _check_plain(how, BUNDLED)
        images = readers.read(DIGITS, pictures.form_of(dataclasses.replace(how, size=None)))
        return dataclasses.replace(_of_loaded(images), notes=shadowed(BUNDLED, BUNDLED))
    if _is_bundled(data, DIGITS):
        return _of_loaded(readers.read(DIGITS, _with_label(how)))
    if is_omniglot(text):
        return omniglot.from_omniglot(text, how)
    path = Path(text)
    if _is_there(path):
        return _of_folder(path, how) if path.is_dir() else _of_file(path, how)
    if difflib.get_close_matches(text, [BUNDLED], cutoff=0.8):
        raise InputError(f"unknown data {text!r}; did you mean {BUNDLED!r}?")
    if path.suffix.lower() in arrow.ENDINGS:
        raise InputError(f"unknown data {text!r}; no such file.")
    near = readers.check_afar(text)
    return pictures.from_dataset(dataset.fetched(text, near=near), text.partition(":")[0], how, dataset.cached())


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _check_plain(how: Reading, name: str) -> None:
    """Check that nothing is asked of bundled data that they do not have.

    Raises:
        InputError: A column or a size is named.
    """
    if how.size is not None:
        raise InputError(f"size is for pictures in files only; {name} are 16×16.")
    if how.image or how.label or how.captions:
        raise InputError(f"image, label and captions are names of columns, but {name} do not have columns.")


def _with_label(how: Reading) -> Any:
    return dataclasses.replace(pictures.form_of(how), label=how.label)


def _of_file(path: Path, how: Reading) -> RawSamples:
    name, ending = field_name(path.stem), path.suffix.lower()
    if ending not in arrow.ENDINGS:
        raise InputError(
            f"{path} is not a table or a zip file of Omniglot. Give .parquet, .csv, .tsv or .jsonl, or a folder."
        )
    if _names_files(path, how):
        return pictures.from_named(name, path.parent, [path], how)
    if ending == ".parquet" and pictures.has_images(_columns_of(path), how.image, str(path)):
        return pictures.from_parquet(name, path, [path], how)
    return tables.from_files(name, path, [path], how.label)


def _columns_of(path: Path) -> list[str]:
    from pyarrow import parquet

    from attar.images.data.parquet import readable

    with readable(path):
        return list(parquet.read_schema(path).names)


def _names_files(path: Path, how: Reading) -> bool:
    """Whether a table has a column of picture files."""
    if path.suffix.lower() == ".parquet" and not set(map(str.lower, _columns_of(path))) & set(pictures.FILES[:3]):
        return False
    return pictures.file_column(arrow.of_files([path]), how.image) is not None


def _of_folder(path: Path, how: Reading) -> RawSamples:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return pictures.from_dataset(dataset.opened(path), path.resolve().name, how, path)
    name, inside = field_name(path.resolve().name), look_into(path)
    beside = [file for file in _tables_in(path) if file.stem.lower() in pictures.BESIDE]
    if inside.pictures and beside:
        return pictures.from_named(name, path, beside, how, inside)
    if inside.pictures and not inside.parquet and pictures.is_bare(inside):
        return pictures.from_bare(name, path, inside, how)
    if inside.pictures and (not inside.parquet or inside.in_folders):
        return _of_loaded(readers.read(path, _with_label(how)))
    if inside.parquet:
        if pictures.has_images(_columns_of(inside.parquet[0]), how.image, str(inside.parquet[0])):
            return pictures.from_parquet(name, path, inside.parquet, how)
        return tables.from_files(name, path, inside.parquet, how.label)
    files = _tables_in(path)
    if not files:
        seen = "".join(f" ({note})" for note in inside.ignored)
        raise InputError(f"{path} holds neither tables nor pictures{seen}.")
    return tables.from_files(name, path, files, how.label)


def _tables_in(path: Path) -> list[Path]:
    """The tables below a folder, without hidden ones."""
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in arrow.ENDINGS and file.is_file())
    return [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]


def _of_loaded(images: Any) -> RawSamples:
    """What a reader of the kind images has read."""
    halves = [Part(one.pixels, one.labels) if one is not None else None for one in (images.train, images.test)]
    assert halves[0] is not None
    return RawSamples(images.name, images.classes, halves[0], halves[1], images.notes)


def _of_images(images: ImageSource) -> RawSamples:
    """An image source as it is, with its split and normalisation."""
    train, test = (Part(one.pixels, one.labels) for one in (images.train, images.test))
    return RawSamples(images.name, images.classes, train, test, images.notes, images.flips, images.transform)


def _is_table(data: Any) -> bool:
    return type(data).__module__.partition(".")[0] in ("pyarrow", "pandas") and hasattr(data, "columns")


def _as_arrow(data: Any) -> Any:
    import pyarrow

    if isinstance(data, pyarrow.Table):
        return data
    try:
        arrow.check_columns(list(map(str, data.columns)), "the table")
        return pyarrow.Table.from_pandas(data, preserve_index=False)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the table has a column that cannot be read ({reason}).") from None
