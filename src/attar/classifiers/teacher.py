"""The teacher's outputs, computed for the batch, or read from a store if the same view was computed before."""

import copy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.classifiers.artefact import StoredClassifier
from attar.classifiers.subclasses import Grouping
from attar.classifiers.watched import Answers, Watched
from attar.core import cache, store
from attar.core.errors import InputError
from attar.core.extras import install
from attar.core.foreign import NO_CODE, check_no_code
from attar.core.runtime import Runtime
from attar.core.sending import sent
from attar.core.sharing import WHOLE, Share
from attar.images import layout
from attar.images.networks.architecture import parse
from attar.images.networks.outputs import logits_in
from attar.images.networks.pretrained import PREFIX, facts_of, labelling_classifier
from attar.images.protocols import Protocol, protocol_named
from attar.images.sources import ImageSource
from attar.images.trained import trained
from attar.images.training import TrainedNetwork

MOST_STORED = 2e9
"""Largest size in bytes of the outputs kept in memory. Above it the teacher is run again for every batch."""


class AnswersOfViews:
    """A teacher's outputs for numbered views of the training images.

    Logits and embeddings of stored views lie in the cache folder under the fingerprints of teacher and data, so that
    the
    next student finds them.

    Args:
        watched: The teacher.
        source: The images.
        method: Settings that define the views (`Distillation`).
        runtime: The machine.
    """

    def __init__(self, watched: Watched, source: ImageSource, method: Any, runtime: Runtime) -> None:
        self.watched, self.source, self.method, self.runtime = watched, source, method, runtime
        self.stored: dict[int, Answers] = {}
        self._answer = runtime.compiled(watched)
        self._key: str | None = None

    @torch.no_grad()
    def __call__(self, images: Tensor, rows: Int[Tensor, " sample"], view: int, share: Share = WHOLE) -> Answers:
        """The outputs for some rows in a view.

        Args:
            images: The images of this process's share of the rows.
            rows: All rows of the batch.
            view: The number of the view.
            share: The share. Default: all rows.
        """
        if not self.method.views or not self.fits:
            return self._said(images).joined(share, stages=self.method.uses_stages or self.method.uses_maps)
        if view not in self.stored:
            self.stored[view] = self._found(view)
        return sent(self.stored[view].rows(rows), self.runtime.device)

    @property
    def fits(self) -> bool:
        """Whether the outputs for all views may be kept in memory."""
        if not self.method.uses_stages:
            return True
        one = self.watched.tried(self.source.shape, self.runtime.device)
        numbers = sum(part[0].numel() for part in (one.logits, one.embedding, *one.stages))
        return 4.0 * numbers * self.method.images * self.method.views <= MOST_STORED

    def _said(self, images: Float[Tensor, "sample channel height width"]) -> Answers:
        found = self._answer(images)
        return Answers(found.logits.float(), found.embedding.float(), [stage.float() for stage in found.stages])

    def _found(self, view: int) -> Answers:
        if self.method.uses_stages:
            return self._all(view)
        path = store.cache_folder() / "teachers" / self.key / f"view-{view}.safetensors"
        cache.use(path.parent)
        found, processes = _read(path), self.runtime.processes
        missing = processes.any(found is None)  # in the cache of any machine
        if found is not None and not missing:
            return found
        answers = self._all(view)
        processes.once(lambda: _write(path, answers))
        return answers

    @property
    def key(self) -> str:
        """A key that differs for different teachers, data, precisions and views."""
        if self._key is None:
            method = self.method
            facts = [self.source.fingerprint, method.what_views_do, str(self.runtime.forward_dtype)]
            facts += [seen] if (seen := facts_of(self.watched.network)) else []
            self._key = store.digest_of(self.watched.network.state_dict(), facts)
        return self._key

    def _all(self, number: int) -> Answers:
        """The outputs for all images in a view, in one pass. Several processes share the images."""
        view, parts = self.method.drawn_view(number, self.source, self.runtime.seed), []
        at_once = max(layout.at_once(self.source.shape, self.runtime), 64)
        share = Share(self.method.images, self.runtime.processes)
        for rows in share.of(torch.arange(self.method.images)).split(at_once):
            images = view.seen(self.source.inputs, rows, self.runtime.device)
            said = self._said(layout.ordered(images, self.runtime))
            stages = said.stages if self.method.uses_stages else []
            parts.append([said.logits.cpu(), said.embedding.cpu(), *(stage.cpu() for stage in stages)])
        here = (
            torch.cat(some).to(self.runtime.device if not share.alone else "cpu") for some in zip(*parts, strict=True)
        )
        logits, embedding, *maps = (one.cpu() for part in here for one in share.joined(part))
        if not logits.isfinite().all():
            row = int((~logits.isfinite().all(dim=1)).nonzero()[0])
            raise InputError(f"the teacher's logits for training image {row} are not finite.")
        return Answers(logits, embedding, maps)


def _read(path: Path) -> Answers | None:
    """The outputs for a view in a file. None if there is no such file, or it is truncated or altered."""
    try:
        tensors, _ = store.read_tensors(path)
        return Answers(tensors["logits"], tensors["embedding"], [])
    except (InputError, KeyError):
        return None


def _write(path: Path, answers: Answers) -> None:
    store.make_folder(path.parent)
    store.write_tensors(path, {"logits": answers.logits, "embedding": answers.embedding}, {})


def teacher_named(text: str, source: ImageSource, runtime: Runtime, protocol: str | Protocol = "ceiling") -> nn.Module:
    """Find a teacher: a folder of a trained network or student, `transformers:NAME`, or an architecture to train here.

    A network that is trained here is kept in the cache.

    Args:
        text: The folder or name.
        source: The images and classes that the teacher has to fit.
        runtime: The machine, and the seed of a training.
        protocol: How the teacher is trained.

    Raises:
        InputError: There is nothing of that name, it is a pickle, or the network has other classes or images.
    """
    folder = Path(text)
    if folder.is_file():
        raise InputError(
            f"{text} is a file. Give as teacher a folder that attar or transformers wrote, or a network by name."
        )
    if (folder / "artefact.json").is_file():
        return StoredClassifier.load(folder).of(source, f"the teacher in {text}", runtime.say).network
    if (folder / "network.safetensors").is_file():
        return TrainedNetwork.load(folder).of(source, f"the teacher in {text}", runtime.say).network
    if text.startswith(PREFIX) or (folder / "config.json").is_file():
        _check_safe(Path(text.removeprefix(PREFIX)))
        return labelling_classifier(text, source, runtime.say)
    if folder.is_dir():
        _check_safe(folder)
        raise InputError(f"{text} holds a safetensors file, but no config.json or artefact.json that describes it.")
    if "/" in text:
        raise InputError(f"there is no folder {text}. Give a trained network's, or a network by name.")
    return trained(source, parse(text), runtime, protocol_named(protocol)).network


def opened_in(network: Any) -> Any:
    """The classifier of attar's in a folder; None of anything else.

    Raises:
        InputError: It is damaged, or not a classifier.
    """
    if not isinstance(network, (str, Path)) or not (Path(network) / "artefact.json").is_file():
        return None
    return StoredClassifier.load(Path(network))


def classifier_named(text: str) -> nn.Module:
    """Load a trained classifier of images or text from `transformers`, with its own head and its own inputs.

    Args:
        text: A folder or a name on the hub, with or without `transformers:` before it.

    Raises:
        InputError: `transformers` is not installed, there is no such model, its weights are a pickle, or it is not a
            classifier.
    """
    try:
        import transformers
    except ModuleNotFoundError:
        raise InputError(f"classifiers by name need transformers. Install it: {install('transformers')}.") from None
    name = text.removeprefix(PREFIX)
    _check_safe(Path(name))
    check_no_code(name)
    try:
        known = transformers.AutoConfig.from_pretrained(name, **NO_CODE).architectures or ["an unnamed network"]
        if not known[0].endswith(("ForImageClassification", "ForSequenceClassification")):
            raise InputError(f"{name!r} is a {known[0]}. Give a teacher that classifies images or texts.")
        network = getattr(transformers, known[0]).from_pretrained(name, use_safetensors=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{name!r} is not a classifier in a folder or on the hub ({reason}).") from None
    assert isinstance(network, nn.Module)
    return network.eval()


def _check_safe(folder: Path) -> None:
    """Check that a folder holds something that is not a pickle."""
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder} holds no network that is safe to read (safetensors). Pickles are not opened.")


def accuracy_on_classes(
    network: nn.Module,
    source: ImageSource,
    runtime: Runtime,
    group: tuple[int, ...] | None = None,
    *,
    known: bool = True,
) -> float:
    """Accuracy on the test images in per cent; arguments as in `class_logits_of`."""
    logits, labels = class_logits_of(network, source, runtime, group, known=known)
    return 100 * int((logits.argmax(dim=1) == labels).sum()) / len(labels)


@torch.no_grad()
def class_logits_of(
    network: nn.Module,
    source: ImageSource,
    runtime: Runtime,
    group: tuple[int, ...] | None = None,
    *,
    known: bool = True,
) -> tuple[Float[Tensor, "sample classes"], Int[Tensor, " sample"]]:
    """Class logits of the test images, and their classes.

    Args:
        network: A network with a logit for every label of the data, or for every subclass.
        source: The images.
        runtime: The machine.
        group: The class of every logit, if the logits are subclasses.
        known: Whether the data's labels are those subclasses (True) or the classes (False).
    """
    parts, grouping = [], None if group is None else Grouping(group)
    network = layout.place(copy.deepcopy(network), runtime).eval()
    labels = source.test.labels if grouping is None or not known else grouping.labels(source.test.labels)
    for rows in torch.arange(len(source.test)).split(512):
        images = source.transform.forward(source.test.pixels[rows].to(runtime.device))
        found = network(images)
        logits = logits_in(found)
        parts.append((logits if grouping is None else grouping.class_logits(logits)).float().cpu())
    return torch.cat(parts), labels
