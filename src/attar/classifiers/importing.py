"""Trained classifiers of other packages as artefacts: `attar import teacher FILE --as resnet32x4 --data DATA`.

A file of tensors (`.pth`, `.pt`, `.safetensors`) becomes one of attar's own networks, without the package that wrote
it. What cannot be read off the tensors is known of the package or asked for: how images were normalised, their size,
and the order of classes. The accuracy on the test images tells whether all of it is right.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from torch import Tensor, nn

from attar.classifiers.artefact import DistilledClassifier, Origin
from attar.classifiers.families import Normalisation, Released, released_as
from attar.classifiers.keymap import OtherShape, filled, renamed
from attar.classifiers.pair import Pair
from attar.core import store
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings
from attar.core.state import rebuilt
from attar.images import importing
from attar.images.classes import columns_of, unnamed
from attar.images.data.whiten import Transform
from attar.images.networks.architecture import Architecture
from attar.images.networks.outputs import choosing
from attar.images.networks.pretrained import LARGEST_SIDE, built_as, network_named
from attar.images.networks.scaled import Scaled
from attar.images.sources import ImageSource

NESTS = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights")
"""Names under which training scripts save the tensors of a network, the surest first."""
NOT_NETWORKS = ("optim", "sched", "scaler")
"""Parts of the names under which they save what else has tensors."""
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What parallel training, compiling and other modules put before every name."""
DEEPEST = 8
"""Levels of dictionaries in a file."""
IMAGENET = "imagenet"
"""The known order of classes: ImageNet's WordNet ids, sorted."""
WORDNET = re.compile("n[0-9]{8}")
SMALLEST = 1e-6
"""Smallest standard deviation that a channel can have."""


@dataclass(frozen=True)
class Handed(importing.Released):
    """A file of a trained classifier, and the data whose classes it knows."""

    order: str | None = None
    """The order of its classes, which may be a file."""

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the data, of the file, and of the names in the order of classes."""
        whole = super().fingerprint
        return whole if self.order is None else store.digest_of({}, [whole, names_in(self.order)])

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by the file's names.

        Raises:
            InputError: There is not one file, or it holds more than tensors, or no network.
        """
        if len(self.files) != 1:
            raise InputError(f"{len(self.files)} files are given; give the file of one network.")
        (file,) = self.files
        if not file.is_file():
            raise InputError(f"{file} is {'no file' if file.exists() else 'missing'}.")
        return state_in(importing.contents(file), str(file))


@dataclass
class Imported:
    """The state of an import: the classifier that was read."""

    made: DistilledClassifier = rebuilt()


@dataclass(frozen=True, kw_only=True)
class ImportTeacher(Settings):
    """Read a trained classifier of another package. Only tensors are read."""

    as_: str = ""
    """Network in the file, by the name that its package has for it: resnet32x4, wrn_40_2, torchvision:resnet50,
    timm:vit_base_patch16_224, conv3. Default: found by the tensors, if only one network fits."""
    mean: tuple[float, ...] = ()
    """Mean of each channel by which images were normalised in training, for pixels from 0 to 1. Default: that of the
    package."""
    std: tuple[float, ...] = ()
    """Standard deviation of each channel by which images were normalised in training. Default: that of the package."""
    input_size: Annotated[int, Range(1, LARGEST_SIDE - 1)] | None = None
    """Side, in pixels, to which the network scales images before it looks at them. Default: 224 for networks of
    ImageNet, otherwise images are not scaled."""
    class_order: str | None = None
    """Names of the network's outputs in their order: a file with one name on each line, or imagenet. Default: imagenet
    for 1,000 outputs of torchvision and timm, otherwise the order of the data's classes."""

    name = "import"
    kind = "classifiers"
    verb = "import"

    @property
    def total_steps(self) -> int:
        """Zero: the file is read in `build`."""
        return 0

    def resolve(self, handed: Handed, runtime: Runtime) -> Self:
        """Fill in the network, the normalisation and the size.

        Raises:
            InputError: The file is no such network, or nothing tells how it was shown images.
        """
        known = self._known(handed)
        mean, std = self._normalisation(known, handed.source)
        return replace(self, as_=known.told, mean=mean, std=std, input_size=self._side(known, handed.source, runtime))

    def build(self, handed: Handed, runtime: Runtime) -> Imported:
        """Read the network, and put its outputs in the order of the data's classes.

        Raises:
            InputError: The file is no such network, or its classes are not those of the data.
        """
        source, (known,) = handed.source, released_as(self.as_)
        scales = self.input_size is not None and source.shape[1:] != (self.input_size, self.input_size)
        word = f"{known.network}@{self.input_size}" if scales else known.network
        outputs = _outputs(known, handed.tensors)
        assert outputs is not None
        built: Any = built_as(word, source.shape, outputs)
        inner = built.network if isinstance(built, Scaled) else built
        inner.load_state_dict(filled(handed.tensors, known.rules, inner, _who(known, handed)))
        _check_finite(handed)
        network = choosing(built, self._columns(known, outputs, source, runtime)).eval()
        origin = Origin.of(Pair(source), self, runtime, network, None)
        return Imported(
            DistilledClassifier(
                network=network,
                student=word,
                classes=source.classes,
                shape=source.shape,
                transform=Transform(self.mean, self.std),
                group=None,
                origin=replace(origin, method=f"import:{known.told}"),
            )
        )

    def step(self, state: Imported, runtime: Runtime) -> Metrics:
        """Not implemented, because there are no steps."""
        raise NotImplementedError

    def result(self, state: Imported, runtime: Runtime) -> DistilledClassifier:
        """The classifier that was read."""
        return state.made

    def _known(self, handed: Handed) -> Released:
        """The network of a package whose tensors these are."""
        tensors, fits = handed.tensors, list[Released]()
        problems: list[tuple[int, InputError]] = []
        for one in released_as(self.as_):
            try:
                outputs = _outputs(one, tensors)
                if outputs is None:
                    raise InputError(f"{_who(one, handed)} do not fit: no tensor is that of its last layer.")
                outline = _outline(one, self.input_size or one.side, handed.source, outputs)
                filled(tensors, one.rules, outline, _who(one, handed))
            except InputError as error:
                problems.append((len(renamed(tensors, one.rules).unknown), error))
            else:
                fits.append(one)
                if self.as_:
                    return one
        if not fits and self.as_:
            raise min(problems, key=lambda problem: problem[0])[1]
        near = next((error for _, error in problems if isinstance(error, OtherShape)), None)
        if not fits and near:
            raise near
        if not fits:
            raise InputError(f"{handed.files[0]} is no network that attar knows. Name one with --as.")
        same = {(one.network, str(one.seen(handed.source.statistics)), one.side) for one in fits}
        if len(same) > 1:
            several = ", ".join(one.told for one in fits)
            raise InputError(f"{handed.files[0]} may be any of {several}. Give --as.")
        return fits[0]

    def _normalisation(self, known: Released, source: ImageSource) -> Normalisation:
        """Mean and standard deviation: as given, or as the package has them."""
        if bool(self.mean) != bool(self.std):
            raise InputError("only one of mean and std is given. Give both, --mean and --std, or none.")
        found = (self.mean, self.std) if self.mean else known.seen(source.statistics)
        if found is None:
            raise InputError(
                f"nothing tells how images were normalised for {known.told} of {source.name}. Give --mean and --std, a "
                "number for each channel."
            )
        channels = source.shape[0]
        if {len(found[0]), len(found[1])} != {channels}:
            raise InputError(f"mean and std have {len(found[0])} and {len(found[1])} numbers; give {channels} each.")
        if min(found[1]) < SMALLEST:
            raise InputError(f"std is {min(found[1]):g}; it must be above 0.")
        if max(found[0]) > 1:
            raise InputError(f"mean is {max(found[0]):g}; it is for pixels from 0 to 1. Divide mean and std by 255.")
        return found

    def _side(self, known: Released, source: ImageSource, runtime: Runtime) -> int | None:
        """The side to which images are scaled; None if they are not."""
        side = self.input_size or known.side
        if side is None or source.shape[1:] == (side, side):
            return None
        if self.input_size is None:
            size = f"{source.shape[2]}×{source.shape[1]}"
            runtime.say(
                f"images of {size} are scaled to {side}×{side}, as {known.told} was trained. To leave them: "
                f"--input-size {min(source.shape[1:])}"
            )
        return side

    def _columns(self, known: Released, outputs: int, source: ImageSource, runtime: Runtime) -> tuple[int, ...] | None:
        """The output of each class of the data, by names where there are any."""
        order = self.class_order or known.orders.get(str(outputs))
        names = None if order is None else names_in(order)
        if names is not None and len(names) != outputs:
            raise InputError(f"class_order {order} has {len(names):,} names, but the network has {outputs:,} outputs.")
        classes = list(source.classes)
        if names and all(map(WORDNET.match, (*names, *classes))):
            names, classes = ([name[:9] for name in several] for several in (names, classes))
        how: dict[str, Any] = {"who": known.told, "data": source.name, "say": runtime.say}
        try:
            return columns_of(names, outputs, classes, **how)
        except InputError:
            if self.class_order or outputs != len(classes) or unnamed(classes):
                raise
            return columns_of(None, outputs, classes, **how)


def state_in(held: Any, file: str) -> dict[str, Tensor]:
    """The tensors of one network in what a file holds, by names without what wrappers put before them.

    Raises:
        InputError: There are none, or those of several networks.
    """
    if _depth(held) > DEEPEST:
        raise InputError(f"{file} holds dictionaries in one another without end. Save the network's own state_dict().")
    while inside := _inside(held):
        named = next((name for name in NESTS if name in inside), None)
        if named is None and len(inside) > 1:
            raise InputError(f"{file} holds several networks ({', '.join(inside)}). Save one of them to a file.")
        held = next(iter(inside.values())) if named is None else inside[named]
    found = {str(name): value for name, value in held.items()} if isinstance(held, Mapping) else {}
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors or len(tensors) < len(found):
        raise InputError(f"{file} holds no tensors by name. Save them: torch.save(network.state_dict(), FILE)")
    while prefix := next((one for one in WRAPPERS if all(name.startswith(one) for name in tensors)), ""):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            raise InputError(f"{file} holds a sparse, quantised or empty kind of tensor, {name}. Save a plain one.")
    return tensors


def _depth(held: Any) -> int:
    """How deep dictionaries lie in one another; at most one more than the deepest, for one may hold itself."""
    depth, level = 0, [held]
    while depth <= DEEPEST and (level := [one for one in level if isinstance(one, Mapping)]):
        level = list({id(inner): inner for one in level for inner in one.values()}.values())
        depth += 1
    return depth


def _inside(held: Any) -> dict[str, Any]:
    """The dictionaries inside one that have tensors, without what belongs to an optimiser; none in what is flat."""
    if not isinstance(held, Mapping):
        return {}
    own = {str(name): one for name, one in held.items() if not any(word in str(name) for word in NOT_NETWORKS)}
    return {
        name: one
        for name, one in own.items()
        if isinstance(one, Mapping) and (any(isinstance(value, Tensor) for value in one.values()) or _inside(one))
    }


def names_in(order: str) -> list[str]:
    """The names of a known order of classes, or the lines of a file.

    Raises:
        InputError: There is no such order or file, or a name stands twice.
    """
    path = Path(importing.__file__).parent / "data" / "imagenet.txt" if order == IMAGENET else Path(order)
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, RuntimeError):  # the last: no such home
        raise InputError(
            f"class_order is {order!r}; give {IMAGENET}, or a text file with a name on each line."
        ) from None
    names = [line.strip() for line in lines if line.strip()]
    twice = next(_repeated(names), None)
    if twice is not None:
        raise InputError(f"class_order {order} names {twice!r} twice. Give each output a name of its own.")
    return names


def _repeated(names: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)


def _who(known: Released, handed: Handed) -> str:
    return f"{handed.files[0]} and {known.told}"


def _outputs(known: Released, tensors: Mapping[str, Tensor]) -> int | None:
    """The number of outputs of a network, by the size of its last layer; None if the file has no such layer."""
    names = renamed(tensors, known.rules).names
    last = next((tensors[key] for key, name in names.items() if name == "classifier.weight"), None)
    return None if last is None or last.ndim != 2 or not len(last) else len(last)


def _outline(known: Released, side: int | None, source: ImageSource, outputs: int) -> nn.Module:
    """A network without memory for its parameters, for images of a side, or of the data's."""
    kind, shape = network_named(known.network), source.shape if side is None else (source.shape[0], side, side)
    if isinstance(kind, Architecture):
        return kind.outline(shape, outputs)
    with torch.device("meta"):
        return kind(shape, outputs)


def _check_finite(handed: Handed) -> None:
    for name, tensor in handed.tensors.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise InputError(f"{handed.files[0]} has values in {name} that are not finite, or too large for float32.")
