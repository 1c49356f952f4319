"""Labelled images from wherever they are: scikit-learn's digits, a parquet file, a folder of pictures, two arrays."""

import bisect
import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.errors import InputError, unknown
from attar.core.seeds import derived_seed
from attar.images.pixels import Encoded, InMemory, Pixels, decode, decode_all, is_grey
from attar.images.whiten import Transform, fit_zca

STATISTICS = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny-imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Channel mean and spread as the field's tables use them, by data set (DM, arXiv:2110.04181, and its code)."""

DIGIT_SETS = ("digits", "mnist", "svhn")
"""Sets whose images mean something else when mirrored, so that no augmentation flips them."""

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
TEST_NAMES = ("test", "validation", "valid", "val")


@dataclass(frozen=True)
class Split:
    """Images and their labels."""

    pixels: Pixels
    labels: Int[Tensor, " image"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageSource:
    """A labelled image data set, split for training and testing."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    transform: Transform
    statistics: str = "measured"
    """Whose channel statistics the transform uses: a name of `STATISTICS`, or "measured" on the training images."""
    split: str = "given"
    """How train and test came apart: "given", or "80/20 by seed N"."""
    flips: bool = True
    """Whether a mirrored image keeps its label."""
    prepared: Tensor | None = None
    """The training images as network input, where computing that for each batch would cost more (whitening)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.train.pixels.shape

    @property
    def targets(self) -> Int[Tensor, " image"]:
        """The training labels."""
        return self.train.labels

    @cached_property
    def rows_of(self) -> tuple[Int[Tensor, " row"], ...]:
        """The rows of the training set by class."""
        return tuple(torch.nonzero(self.train.labels == label).flatten() for label in range(len(self.classes)))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every pixel and label, and of how they are normalised."""
        digest = hashlib.blake2b(digest_size=16)
        sizes = [*self.shape, len(self.train), len(self.test)]
        normalised = [self.transform.mean, self.transform.std, self.prepared is not None]
        digest.update(json.dumps([self.classes, *normalised, sizes]).encode())
        for split in (self.train, self.test):
            digest.update(split.labels.numpy().tobytes())
            for piece in _raw_bytes(split.pixels):
                digest.update(piece)
        return digest.hexdigest()

    def inputs(self, rows: Int[Tensor, " batch"], device: torch.device | str = "cpu") -> Tensor:
        """Training images of these rows as network input, `[batch, channel, height, width]`."""
        if self.prepared is not None:
            return self.prepared[rows].to(device)
        return self.transform.forward(self.train.pixels[rows].to(device))

    def whitened(self, epsilon: float = 0.1) -> "ImageSource":
        """The same source with ZCA whitening fitted on its training images, which are whitened once and kept."""
        rows = torch.arange(len(self.train))
        images = self.inputs(rows)
        transform = dataclasses.replace(self.transform, whitening=fit_zca(images, epsilon))
        assert transform.whitening is not None
        return dataclasses.replace(self, transform=transform, prepared=transform.whitening.forward(images))

    def without(self, rows: Int[Tensor, " row"]) -> "ImageSource":
        """The same source with these training rows held out."""
        keep = torch.ones(len(self.train), dtype=torch.bool)
        keep[rows] = False
        return self.subset(torch.nonzero(keep).flatten())

    def subset(self, rows: Int[Tensor, " row"]) -> "ImageSource":
        """The same source with only these training rows, test set and statistics as they were."""
        train = Split(InMemory(self.train.pixels[rows]), self.train.labels[rows])
        prepared = self.prepared[rows] if self.prepared is not None else None
        return dataclasses.replace(self, train=train, prepared=prepared)

    def __str__(self) -> str:
        channels, height, width = self.shape
        return (
            f"{self.name}: {len(self.train):,} training and {len(self.test):,} test images, {len(self.classes)} classes, "
            f"{channels}×{height}×{width}, statistics {self.statistics}, split {self.split}"
        )


def load(
    data: Any, *, size: int | None = None, memory: float = 4.0, seed: int = 0, statistics: str | None = None
) -> ImageSource:
    """Load labelled images.

    Args:
        data: `"digits"` (scikit-learn's), a parquet file or a folder of them in Hugging Face form, a folder of
            pictures with one folder per class (below `train/` and `test/` or not), or arrays: `(images, labels)`
            or `((images, labels), (test_images, test_labels))`.
        size: Side in pixels to which the middle square of every picture is scaled.
        memory: Budget in GB for decoded pixels; a larger set is decoded batch by batch.
        seed: Draws the stratified 80/20 split of a set that has no test images.
        statistics: A name of `STATISTICS`, or "measured". By default the field's for a set of the field's name
            and number of channels, measured on the training images otherwise.

    Raises:
        InputError: Unknown data, undecodable or unequal images, labels that are missing or no integers, one class.
    """
    if isinstance(data, ImageSource):
        return data
    if statistics is not None and statistics not in (*STATISTICS, "measured"):
        raise unknown("statistics", statistics, [*STATISTICS, "measured"])
    if isinstance(data, (str, Path)):
        name, train, test, classes = _read(str(data), size, memory)
    else:
        name, train, test, classes = _from_arrays(data)
    split = "given"
    if test is None:
        train, test, split = *_split(train, seed), f"80/20 by seed {seed}"
    _check_classes(name, train, classes)
    statistics = statistics or (name if name in STATISTICS else "measured")
    if statistics != "measured" and len(STATISTICS[statistics][0]) != train.pixels.shape[0]:
        statistics = "measured"
    mean, std = STATISTICS[statistics] if statistics != "measured" else _measure(train.pixels)
    flips = not any(name.startswith(digits) for digits in DIGIT_SETS)
    return ImageSource(name, classes, train, test, Transform(mean, std), statistics, split, flips)


def held_out(source: ImageSource, seed: int, share: float = 0.1) -> Int[Tensor, " row"]:
    """A stratified share of the training rows, on which anything that is chosen is chosen."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "held out"))
    picks = [rows[torch.randperm(len(rows), generator=generator)[: round(share * len(rows))]] for rows in source.rows_of]
    return torch.cat(picks).sort().values


Loaded = tuple[str, Split, Split | None, tuple[str, ...]]


def _read(data: str, size: int | None, memory: float) -> Loaded:
    if data == "digits":
        return _digits()
    path = Path(data)
    if not path.exists():
        near = f"{data!r}; no such file or folder. Bundled: digits"
        raise InputError(f"unknown data {near}." if "igit" not in data else f"unknown data {data!r}; did you mean 'digits'?")
    if path.is_file() and path.suffix != ".parquet":
        raise InputError(f"{path} is no parquet file; give a .parquet file, a folder, or 'digits'.")
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    name = path.resolve().stem.lower().replace("_", "-") if path.is_dir() or path.suffix else path.name
    name = name.replace("cifar-10", "cifar10")
    return _parquet(name, files, size, memory) if files else _folder(name, path, size, memory)


def _digits() -> Loaded:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = Split(InMemory(pixels[:1297]), labels[:1297]), Split(InMemory(pixels[1297:]), labels[1297:])
    return "digits", train, test, tuple(str(digit) for digit in range(10))


def _parquet(name: str, files: list[Path], size: int | None, memory: float) -> Loaded:
    """Hugging Face form: an `image` column of encoded bytes, a `label` column of integers, one file or more a split."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        part = next((test for test in TEST_NAMES if file.name.startswith(test)), "train")
        groups.setdefault("train" if part == "train" else "test", []).append(file)
    if "train" not in groups:
        groups = {"train": files}
    tables = {part: _parquet_rows(paths) for part, paths in groups.items()}
    _, labels, names, _ = tables["train"]
    classes = names or tuple(str(value) for value in sorted(set(labels)))
    numbers = {value: index for index, value in enumerate(range(len(names)) if names else sorted(set(labels)))}
    shape = None
    splits: dict[str, Split] = {}
    for part, (encoded, labels, _, where) in tables.items():
        if not labels:
            raise InputError(f"{groups[part][0]} has no rows.")
        strange = next((row for row, label in enumerate(labels) if label not in numbers), None)
        if strange is not None:
            lack = f"but the file names {len(names)} classes" if names else "a class that the training images lack"
            raise InputError(f"{where(strange)} has label {labels[strange]}, {lack}.")
        shape = shape or _shape_of(encoded, size, where)
        numbered = torch.tensor([numbers[label] for label in labels])
        splits[part] = Split(_hold(encoded, shape, size, memory, where), numbered)
    return name, splits["train"], splits.get("test"), classes


def _parquet_rows(files: list[Path]) -> tuple[list[bytes], list[int], tuple[str, ...] | None, Any]:
    """Encoded images, labels and class names of a split's files, and a function that names a row's place in them."""
    import pyarrow
    from pyarrow import parquet

    encoded: list[bytes] = []
    labels: list[int] = []
    starts: list[int] = []
    names = None
    for file in files:
        starts.append(len(labels))
        try:
            table = parquet.read_table(file)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise InputError(f"{file} is no readable parquet file ({str(error).splitlines()[0]}).") from None
        image = _column(table, ("image", "img", "images"), file)
        label = _column(table, ("label", "labels", "fine_label"), file)
        if not pyarrow.types.is_integer(table.schema.field(label).type):
            raise InputError(f"column {label!r} of {file} holds {table.schema.field(label).type}, not integers.")
        names = names or _class_names(table.schema, label)
        numbers = table.column(label).to_pylist()
        missing = next((row for row, number in enumerate(numbers) if number is None or number < 0), None)
        if missing is not None:
            raise InputError(f"row {missing} of {file} has no label.")
        labels += numbers
        encoded += [_image_bytes(cell, file, row) for row, cell in enumerate(table.column(image).to_pylist())]
    return encoded, labels, names, _row_namer(files, starts)


def _column(table: Any, wanted: Sequence[str], file: Path) -> str:
    for name in wanted:
        if name in table.column_names:
            return name
    raise InputError(f"{file} has no column {wanted[0]!r}; it has {', '.join(table.column_names)}.")


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """ClassLabel names from the Hugging Face note in the schema, if any."""
    note = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = note.get("info", {}).get("features", {}).get(label, {})
    return tuple(feature["names"]) if feature.get("names") else None


def _image_bytes(cell: Any, file: Path, row: int) -> bytes:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data is None and isinstance(cell, dict) and cell.get("path"):
        beside = file.parent / cell["path"]
        data = beside.read_bytes() if beside.is_file() else None
    if not isinstance(data, bytes):
        raise InputError(f"row {row} of {file} holds no image bytes.")
    return data


def _row_namer(files: list[Path], starts: list[int]) -> Any:
    def where(row: int) -> str:
        file = bisect.bisect_right(starts, row) - 1
        return f"row {row - starts[file]} of {files[file]}"

    return where


def _folder(name: str, path: Path, size: int | None, memory: float) -> Loaded:
    """One folder per class, below `train/` and `test/` (or `val/`) or directly here."""
    top = path / "train" if (path / "train").is_dir() else path
    test = next((path / part for part in TEST_NAMES if (path / part).is_dir()), None) if top != path else None
    classes = tuple(sorted(child.name for child in top.iterdir() if child.is_dir() and _pictures(child)))
    if not classes:
        raise InputError(f"{path} holds no parquet file and no folder of pictures for each class.")
    splits = []
    shape = None
    for part in filter(None, (top, test)):
        files = [file for name in classes for file in _pictures(part / name)]
        labels = [classes.index(name) for name in classes for _ in _pictures(part / name)]
        where = files.__getitem__
        shape = shape or _shape_of(files, size, lambda row, where=where: str(where(row)))
        pixels = _hold(files, shape, size, memory, lambda row, where=where: str(where(row)))
        splits.append(Split(pixels, torch.tensor(labels)))
    return name, splits[0], splits[1] if len(splits) > 1 else None, classes


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS)


def _shape_of(files: Any, size: int | None, where: Any) -> tuple[int, int, int]:
    """The shape of the first image; grey only if the first few all are."""
    grey = all(is_grey(file) for file in files[:16])
    height, width, channels = decode(files[0], grey=grey, size=size, where=lambda: where(0)).shape
    return channels, height, width


def _hold(files: Any, shape: tuple[int, int, int], size: int | None, memory: float, where: Any) -> Pixels:
    if len(files) * math.prod(shape) > memory * 1e9:
        return Encoded(files, shape, size, where)
    return InMemory(decode_all(files, list(range(len(files))), shape, size, where))


def _from_arrays(data: Any) -> Loaded:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise InputError(f"data is a {type(data).__name__}; give a name, a path, or a pair (images, labels).")
    pairs = data if isinstance(data[0], (tuple, list)) and len(data[0]) == 2 else (data,)
    raw = [(_array_pixels(images), _array_labels(labels, len(images))) for images, labels in pairs]
    if raw[0][0].shape != raw[-1][0].shape:
        raise InputError(f"training images have shape {raw[0][0].shape}, test images {raw[-1][0].shape}; give both alike.")
    values = raw[0][1].unique()
    splits = []
    for pixels, labels in raw:
        if not torch.isin(labels, values).all():
            raise InputError("the test labels have a class that the training labels lack.")
        splits.append(Split(pixels, torch.searchsorted(values, labels)))
    return "arrays", splits[0], splits[1] if len(splits) > 1 else None, tuple(str(int(value)) for value in values)


def _array_pixels(images: Any) -> InMemory:
    """`[image, height, width]`, `[image, height, width, channel]` or `[image, channel, height, width]`."""
    tensor = torch.as_tensor(np.asarray(images) if not isinstance(images, Tensor) else images)
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(1)
    if len(tensor) == 0:
        raise InputError("there are no images.")
    if tensor.ndim != 4 or not (tensor.shape[1] in (1, 3) or tensor.shape[3] in (1, 3)):
        raise InputError(f"images have shape {tuple(tensor.shape)}; give [image, height, width] with 1 or 3 channels.")
    if tensor.shape[1] not in (1, 3):
        tensor = tensor.permute(0, 3, 1, 2).contiguous()
    if tensor.dtype == torch.uint8:
        return InMemory(tensor)
    if not tensor.is_floating_point():
        raise InputError(f"images are {tensor.dtype}; give uint8, or floats from 0 to 1.")
    if not tensor.isfinite().all():
        row = int(torch.nonzero(~tensor.isfinite().flatten(1).all(dim=1))[0])
        raise InputError(f"image {row} has pixels that are not finite (NaN or infinite).")
    if tensor.min() < 0 or tensor.max() > 1:
        raise InputError(f"float pixels run from {tensor.min():.3g} to {tensor.max():.3g}; give 0 to 1, or uint8.")
    return InMemory(tensor.float())


def _array_labels(labels: Any, images: int) -> Int[Tensor, " image"]:
    if labels is None:
        raise InputError("labels are missing; give one integer per image.")
    tensor = torch.as_tensor(np.asarray(labels) if not isinstance(labels, Tensor) else labels) if _numeric(labels) else None
    if tensor is None or tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise InputError("labels are not integers; give one class number per image.")
    if tensor.shape != (images,):
        raise InputError(f"there are {images} images but labels of shape {tuple(tensor.shape)}; give one per image.")
    return tensor.long()


def _numeric(labels: Any) -> bool:
    return isinstance(labels, Tensor) or np.asarray(labels).dtype.kind in "iufb"


def _split(whole: Split, seed: int) -> tuple[Split, Split]:
    """Stratified 80/20, with a test image at least of every class that has two."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "split"))
    testing = torch.zeros(len(whole), dtype=torch.bool)
    for label in whole.labels.unique():
        rows = torch.nonzero(whole.labels == label).flatten()
        testing[rows[torch.randperm(len(rows), generator=generator)[: max(len(rows) // 5, int(len(rows) > 1))]]] = True
    return _rows(whole, ~testing), _rows(whole, testing)


def _rows(split: Split, mask: Tensor) -> Split:
    rows = torch.nonzero(mask).flatten()
    if isinstance(split.pixels, Encoded):
        files: Any = [split.pixels.files[row] for row in rows.tolist()]
        original, numbers = split.pixels.where, rows.tolist()
        pixels: Pixels = dataclasses.replace(split.pixels, files=files, where=lambda row: original(numbers[row]))
    else:
        pixels = InMemory(split.pixels[rows])
    return Split(pixels, split.labels[rows])


def _check_classes(name: str, train: Split, classes: tuple[str, ...]) -> None:
    counts = torch.bincount(train.labels, minlength=len(classes))
    if len(classes) < 2 or int((counts > 0).sum()) < 2:
        raise InputError(f"{name} has one class only; condensing a labelled set needs two or more.")
    if int(counts.min()) == 0:
        raise InputError(f"class {classes[int(counts.argmin())]!r} of {name} has no training images.")


def _measure(pixels: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Channel mean and spread of the training pixels, in [0, 1], rounded as the field prints them."""
    count, total, square = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for rows in torch.arange(len(pixels)).split(4096):
        batch = pixels[rows]
        values = batch.double() / (255 if batch.dtype == torch.uint8 else 1)
        count += values[:, 0].numel()
        total, square = total + values.sum(dim=(0, 2, 3)), square + values.square().sum(dim=(0, 2, 3))
    mean = total / count
    std = (square / count - mean.square()).clamp_min(0).sqrt().clamp_min(1e-4)
    return tuple(round(float(m), 4) for m in mean), tuple(round(float(s), 4) for s in std)


def _raw_bytes(pixels: Pixels) -> Any:
    if isinstance(pixels, Encoded):
        for file in pixels.files:
            yield file if isinstance(file, bytes) else f"{file} {file.stat().st_size}".encode()
    else:
        for rows in torch.arange(len(pixels)).split(8192):
            yield pixels[rows].contiguous().numpy().tobytes()
