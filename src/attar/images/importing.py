"""Imports condensed sets that others have released, as artefacts.

| released by | contents | recognised by |
|---|---|---|
| DC, DSA, DM, DataDAM | one `.pt`: `{"data": [[images, labels], ...], "accs_all_exps": ...}` | the key `data` |
| DCC, IDC | one `.pt`: `[images, labels]` | a pair of tensors |
| MTT, TESLA, FTD, DATM | `images_best.pt`, `labels_best.pt` (numbers or rows of logits), `lr_best.pt` | several files |
| SRe2L, CDA, RDED | a folder of pictures per class | a folder |
| others | `.safetensors` or `.npz` with `images` and `labels`, and the step size as `lr` | the names |

Tensors are network input: they are normalised with the statistics of the data, and whitened if the authors did so. A
`.pt` is a pickle. It is read with torch's `weights_only` and may hold tensors and plain numbers only. Anything else is
refused before it can run.
"""

import hashlib
import math
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from attar.core.divergence import LARGEST
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Settings
from attar.core.state import rebuilt
from attar.images.artefact import CondensedImages, Origin
from attar.images.data.form import Form
from attar.images.data.readers import read
from attar.images.data.whiten import Transform
from attar.images.matching import as_in, places, places_of_folders
from attar.images.sources import ImageSource

RATES = ("lr", "syn_lr")
"""Names of a learned step size beside images and labels; the second is that of MTT's code."""


@dataclass(frozen=True)
class Released:
    """The files of a released set, and the data that it was condensed from."""

    source: ImageSource
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The name of the data."""
        return self.source.name

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the data and of every file."""
        digest = hashlib.blake2b(self.source.fingerprint.encode(), digest_size=16)
        for file in self.files:
            for path in sorted(file.rglob("*")) if file.is_dir() else [file]:
                if path.is_file():
                    digest.update(path.read_bytes())
        return digest.hexdigest()


@dataclass
class Imported:
    """The state of an import: the set that was read."""

    small: CondensedImages = rebuilt()


@dataclass(frozen=True, kw_only=True)
class Import(Settings):
    """Settings of reading a released set."""

    which: int = -1
    """Number of the set if a file holds several sets, from 0; -1 is the last one."""
    whitened: Literal["no", "normalised", "raw"] = "no"
    """ZCA whitening (ε = 0.1) of the released images: fitted on normalised images, as for DataDAM and ATOM, or on raw
    pixels, as for MTT."""
    labels: Literal["auto", "logits", "probabilities"] = "auto"
    """Meaning of labels that are rows of numbers. auto: probabilities if every row sums to one, otherwise logits."""
    lr: float | None = None
    """Learning rate to train with, if the authors learned one and no file holds it."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the set's numbers or folders. Default: those of the data, if the order is
    certain."""

    name = "import"
    kind = "images"
    verb = "import"

    @property
    def total_steps(self) -> int:
        """Zero: the set is read in `build`."""
        return 0

    def resolve(self, released: Released, runtime: Runtime) -> Self:
        """Return the settings unchanged; there is nothing to fill in.

        Raises:
            InputError: No file is given, or a file is missing.
        """
        if not released.files:
            raise InputError("there is no file to import; give the file of a released set.")
        for file in released.files:
            if not file.exists():
                raise InputError(f"{file} is missing.")
        return self

    def build(self, released: Released, runtime: Runtime) -> Imported:
        """Read the set.

        Raises:
            InputError: A file has an unknown form, does not fit the data, or holds more than tensors.
        """
        files, source = released.files, _whitened(released.source, self)
        if files[0].is_dir():
            kind, images, labels, lr = _pictures(files[0], released.source, self, runtime)
        else:
            kind, images, labels, lr = _tensors(files, self)
            _check(images, source)
            labels = as_in(_labels(labels, len(images), source, self), places(source, self.classes, runtime))
        images = images if images.dtype == torch.uint8 else images.detach().float().contiguous()
        _check(images, source)
        return Imported(
            CondensedImages(
                images=images,
                labels=labels,
                classes=source.classes,
                transform=source.transform,
                flips=source.flips,
                origin=replace(Origin.of(source, self, runtime), method=f"import:{kind}"),
                lr=_rate(lr if self.lr is None else self.lr),
            )
        )

    def step(self, state: Imported, runtime: Runtime) -> Metrics:
        """Not implemented, because there are no steps."""
        raise NotImplementedError

    def result(self, state: Imported, runtime: Runtime) -> CondensedImages:
        """The set that was read."""
        return state.small


def _tensors(files: Sequence[Path], how: Import) -> tuple[str, Tensor, Tensor, float | None]:
    """The kind, images, labels and learning rate of a set in files of numbers."""
    found = [contents(file) for file in files]
    if len(files) > 1:
        if not all(isinstance(part, Tensor) for part in found):
            raise InputError(
                "several files must hold one tensor each: images, labels and the learning rate, in this order."
            )
        if len(found) > 3:
            raise InputError(f"{len(found)} files were given; a set has at most three: images, labels, learning rate.")
        lr = _one_rate(found[2], files[2]) if len(found) > 2 else None
        return "files", _dense(found[0], files[0]), _dense(found[1], files[1]), lr
    (held,) = found
    if isinstance(held, dict) and "data" in held:
        sets = held["data"]
        if not isinstance(sets, list) or not -len(sets) <= how.which < len(sets):
            count = len(sets) if isinstance(sets, list) else 0
            raise InputError(f"{files[0]} holds {count} sets, but which is {how.which}. Give another --which.")
        return "experiments", *_pair(sets[how.which], files[0]), None
    if isinstance(held, dict) and {"images", "labels"} <= set(held):
        rate = next((_one_rate(held[name], files[0]) for name in RATES if name in held), None)
        return "named", *_pair([held["images"], held["labels"]], files[0]), rate
    return "pair", *_pair(held, files[0]), None


def _one_rate(held: Any, file: Path) -> float:
    """A learning rate that a file holds."""
    if isinstance(held, Tensor) and held.numel() == 1 and not held.is_complex():
        return float(held)
    if isinstance(held, (int, float)) and not isinstance(held, bool):
        return float(held)
    raise InputError(f"{file} holds a learning rate that is not one number. Give the number with --lr.")


def _pair(held: Any, file: Path) -> tuple[Tensor, Tensor]:
    if isinstance(held, (list, tuple)) and len(held) == 2 and all(isinstance(part, Tensor) for part in held):
        return _dense(held[0], file), _dense(held[1], file)
    raise InputError(f"{file} holds a {type(held).__name__}, not images and labels. Also give the file of the labels.")


def _dense(tensor: Tensor, file: Path) -> Tensor:
    """A plain tensor.

    Raises:
        InputError: It is sparse, quantised or without values.
    """
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        raise InputError(f"{file} holds a sparse, quantised or empty kind of tensor. Save a plain one.")
    return tensor.detach()


def contents(file: Path) -> Any:
    """The contents of a file: tensors in lists and dictionaries, and numbers.

    Raises:
        InputError: The file is damaged, or holds anything that could run code.
    """
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError as error:
            raise InputError(f"{file} is damaged or truncated: {error}.") from None
    if file.suffix in (".npz", ".npy"):
        try:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return _native(found)
            with found as arrays:
                return {name: _native(np.asarray(arrays[name])) for name in arrays.files}
        except (ValueError, OSError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"{file} does not hold plain arrays of numbers ({type(error).__name__}).") from None
    try:
        # The scripts of DC and DM store accuracies beside their images, as numbers of numpy.
        with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or type(error).__name__}).") from None
    except Exception as error:  # torch raises what its pickle reader meets: KeyError and IndexError among them
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            raise InputError(
                f"{file} was not read, because it holds more than tensors and numbers and could run code when read."
            ) from None
        raise InputError(f"{file} is damaged, empty or no file of torch.save ({type(error).__name__}).") from None


def _native(array: np.ndarray) -> Tensor:
    """A tensor of an array in any order of bytes."""
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


def _numpy_numbers() -> list[Any]:
    """Number types of numpy, under their new and their old name."""
    make = np.float64(0).__reduce__()[0]
    kinds = [np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType]
    return [make, (make, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


def _pictures(
    folder: Path, source: ImageSource, how: Import, runtime: Runtime
) -> tuple[str, Tensor, Tensor, float | None]:
    """Read a folder of pictures per class. Folders match classes by name, or by the numbers in their names."""
    side = source.shape[1] if source.shape[1] == source.shape[2] else None
    found = read(folder, Form(size=side))
    for note in found.notes:
        runtime.say(f"note: {note}")
    if found.test is not None:
        runtime.say(f"note: only the training images of {folder} are imported, not its {len(found.test):,} test images")
    if len(found.classes) != len(source.classes):
        raise InputError(f"{folder} has {len(found.classes)} classes, but {source.name} has {len(source.classes)}.")
    labels = torch.tensor(places_of_folders(found.classes, folder, source, how.classes, runtime))[found.train.labels]
    order = labels.argsort(stable=True)
    pixels = found.train.pixels[order]
    if pixels.shape[1] == 3 and source.shape[0] == 1:
        pixels = pixels.float().mean(dim=1, keepdim=True).round().byte()
    if pixels.shape[1] == 1 and source.shape[0] == 3:
        pixels = pixels.repeat(1, 3, 1, 1)
    return "pictures", pixels, labels[order], None


def _whitened(source: ImageSource, how: Import) -> ImageSource:
    """The source with the transform that the authors used."""
    if how.whitened == "no":
        return source
    if how.whitened == "raw":
        channels = source.shape[0]
        source = replace(source, transform=Transform((0.0,) * channels, (1.0,) * channels))
    return source.whitened()


def _rate(lr: float | None) -> float | None:
    if lr is not None and not 0 < lr < math.inf:
        raise InputError(f"the learning rate is {lr:g}; it must be a finite number above 0. Give another with --lr.")
    return lr


def _check(images: Tensor, source: ImageSource) -> None:
    if not images.is_floating_point() and images.dtype != torch.uint8:
        raise InputError(f"the images are {images.dtype}; give floats as a network's input, or uint8 for pixels.")
    if images.ndim != 4 or tuple(images.shape[1:]) != source.shape:
        raise InputError(f"images have shape {tuple(images.shape)}, but those of {source.name} have {source.shape}.")
    if len(images) == 0:
        raise InputError("the set has no images.")
    _check_finite(images, "images")
    if images.is_floating_point() and float(images.abs().max()) > LARGEST:
        raise InputError(f"the images have values up to {float(images.abs().max()):.3g}, which are no network input.")


def _check_finite(values: Tensor, what: str) -> None:
    """Check that all values are numbers.

    Raises:
        InputError: One is not, with its row.
    """
    if values.is_floating_point() and not values.isfinite().all():
        bad = torch.nonzero(~values.isfinite().reshape(len(values), -1).all(dim=1)).flatten()
        raise InputError(
            f"the {what} have values that are not finite (NaN or infinite) at {len(bad):,} of {len(values):,} "
            f"images, first at image {int(bad[0])}."
        )


def _labels(labels: Tensor, images: int, source: ImageSource, how: Import) -> Tensor:
    """Labels as integer class numbers or as probabilities."""
    classes = len(source.classes)
    if labels.is_complex() or labels.ndim == 0 or len(labels) == 0:
        raise InputError(f"labels of shape {tuple(labels.shape)} and type {labels.dtype} are not labels of images.")
    _check_finite(labels.float(), "labels")
    if labels.ndim == 2 and labels.shape == (images, classes) and classes > 1:
        rows = labels.detach().float()
        sums_to_one = bool((rows.sum(dim=1) - 1).abs().max() < 1e-3) and bool(rows.min() >= 0)
        probabilities = how.labels == "probabilities" or (how.labels == "auto" and sums_to_one)
        return rows if probabilities else rows.softmax(dim=1)
    if labels.numel() != images:
        raise InputError(f"there are {images} images but labels of shape {tuple(labels.shape)}.")
    numbers = labels.detach().flatten().long()
    if not torch.equal(numbers.to(labels.dtype), labels.detach().flatten()):
        raise InputError("labels are neither class numbers nor rows with a number for each class.")
    if int(numbers.min()) < 0 or int(numbers.max()) >= classes:
        low, high = int(numbers.min()), int(numbers.max())
        raise InputError(
            f"labels run from {low} to {high}, but {source.name} has {classes} classes, which are 0 to {classes - 1}."
        )
    return numbers
