"""What a sampler is made from: samples, and the teacher that it is distilled from."""

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from attar.core import store
from attar.core.checks import shown
from attar.core.errors import InputError, near_path
from attar.core.runtime import Runtime
from attar.core.training import cached, is_cached
from attar.samplers.artefact import Sampler, StoredSampler
from attar.samplers.denoisers import Condition, Denoiser
from attar.samplers.sources import Rows, Source


@dataclass(frozen=True)
class Work:
    """Samples, and a teacher if there is one."""

    source: Source
    teacher: Sampler | None = None

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the samples and the teacher's parameters."""
        if self.teacher is None:
            return self.source.fingerprint
        return store.digest_of(self.teacher.learned, [self.source.fingerprint, self.teacher.levels().tolist()])

    def conditions(self, count: int, generator: torch.Generator, device: torch.device) -> Condition:
        """Class numbers of so many samples, drawn in the shares of the training samples; None without classes."""
        if not self.source.classes:
            return None
        shares = torch.tensor(self.source.class_shares)
        return torch.multinomial(shares, count, replacement=True, generator=generator).to(device)

    def labels_of(self, rows: Rows) -> Condition:
        """The conditions of training rows: their class numbers, if there are any."""
        labels = self.source.train.labels
        return None if labels is None else labels[rows]

    @property
    def unconditional(self) -> bool:
        """Whether samples have no condition."""
        return not self.source.classes

    @property
    def null(self) -> Condition:
        """The condition of no condition, for guidance: no label."""
        return None

    @property
    def name(self) -> str:
        """The name of the data."""
        return self.source.name

    def __str__(self) -> str:
        return str(self.source)


def check_alike(what: str, one: Sampler, source: Source) -> None:
    """See that a sampler makes samples like those of a source.

    Args:
        what: What it is called.
        one: The sampler.
        source: The source.

    Raises:
        InputError: They are of another shape, or of other classes.
    """
    if one.shape == source.shape and one.classes == source.classes:
        return
    mine, theirs = len(one.classes), len(source.classes)
    other = next((pair for pair in zip(one.classes, source.classes, strict=False) if pair[0] != pair[1]), None)
    if one.shape != source.shape or mine != theirs or other is None:
        told = f"of shape {list(one.shape)} of {mine} classes, but {source.name} has {list(source.shape)} of {theirs}"
    else:
        told = f"of other classes: {shown(other[0])} stands where {source.name} has {shown(other[1])}"
    raise InputError(f"{what} makes samples {told}. Give the data that it learned from.")


def work_of(source: Any, teacher: Sampler | None, runtime: Runtime) -> Work:
    """Data and a teacher as methods take them: prompts become embeddings.

    Raises:
        InputError: Prompts, and a teacher that takes no text, or images and one that takes text alone.
    """
    if isinstance(source, Source):
        return Work(source, teacher)
    if teacher is None:
        raise InputError(
            f"{source.name} holds prompts, but without a teacher only images or points can be learned from."
        )
    from attar.samplers.prompts import text_work

    return text_work(source, teacher, runtime)


def teacher_named(
    given: Any,
    source: Any,
    runtime: Runtime,
    *,
    steps: int | None,
    levels: int | None,
    prediction: str | None = None,
    schedule: str | None = None,
) -> Sampler:
    """A teacher: as given, from its folder, or EDM of a network by words, trained here and kept in the cache.

    Args:
        given: A `Sampler`, a denoiser such as `Wrapped`, a pipeline of diffusers, the folder of one of these, a name on
            the hub, words of a network, or None for the usual network.
        source: The samples that it learns from, or prompts.
        runtime: The machine, and the seed of a training.
        steps: Steps of a training. Default: those of EDM.
        levels: Noise levels of its sampling. Default: as it was made.
        prediction: What a model of diffusers predicts. Default: as its scheduler says.
        schedule: How a network of diffusers without a scheduler adds noise.

    Raises:
        InputError: There is no such teacher.
    """
    found = foreign_teacher(given, source, runtime, prediction=prediction, schedule=schedule)
    if found is not None:
        pass
    elif not isinstance(source, Source):
        raise InputError(
            f"{source.name} holds prompts, so the teacher must take text. Give --teacher the folder of a text-to-image "
            "pipeline of diffusers, or its name on the hub."
        )
    elif given is not None and (folder := Path(str(given)).expanduser()).is_dir():
        for name, told in (("prediction", prediction), ("schedule", schedule)):
            if told is not None:
                raise InputError(
                    f"{name} is {told}, but {given} is a sampler of attar, which needs none. Leave it out."
                )
        if steps is not None:
            runtime.say(f"note: {given} is trained already, so the steps of a teacher's training play no part.")
        found = StoredSampler.load(folder)
        runtime.prepared.count(folder)
    elif given is not None and (folder.is_file() or "/" in str(given) or not _is_network(str(given))):
        near = "" if folder.exists() else near_path(str(given))
        meant = f"; did you mean {near!r}?" if near else ". Give one, or a network by words such as mlp:width=384."
        raise InputError(f"{given} is no folder of a sampler{meant}")
    else:
        from attar.samplers.edm import EDM

        method = EDM(network="auto" if given is None else str(given), steps=steps)
        work = Work(source)
        method = method.resolve(work, runtime)
        if not is_cached(method, work, runtime.seed):
            runtime.say(
                f"the teacher, {method.network_of(work)}, is trained on {source.name} by edm first, for "
                f"{method.total_steps:,} steps; it is kept in the cache. To use one of your own, give --teacher FOLDER."
            )
        found = cached(method, work, runtime, title="training the teacher")
    found = replace(found, denoiser=copy.deepcopy(found.denoiser).requires_grad_(False))
    return found if levels is None else replace(found, steps=levels)


def _is_network(given: str) -> bool:
    """Whether a text names a network, or is meant to by its options."""
    return ":" in given or given in ("auto", "mlp", "unet")


def foreign_teacher(
    given: Any, source: Any, runtime: Runtime, *, prediction: str | None, schedule: str | None
) -> Sampler | None:
    """A teacher that is an object, or a model of diffusers; None of what attar has made or is to make itself.

    Raises:
        InputError: It is a bare network, or does not fit the data.
    """
    from attar.samplers.folders import looks_foreign

    if given is None or isinstance(given, Sampler):
        return given
    if looks_foreign(given):
        from attar.samplers.pipeline import opened_sampler

        if (folder := Path(str(given))).is_dir():
            runtime.prepared.count(folder)
        made: Sampler = opened_sampler(given, source, runtime, prediction=prediction, schedule=schedule)
        return made
    if isinstance(given, (str, Path)):
        return None
    if isinstance(given, Denoiser) and isinstance(source, Source):
        from attar.samplers.foreign import sampler_of

        return sampler_of(given, source, runtime)
    if hasattr(given, "text_encoder") and hasattr(given, "unet"):
        from attar.samplers.pipeline import text_sampler

        texts = getattr(source, "texts", ())
        return text_sampler(given, runtime, prediction=prediction, prompts=texts)
    raise InputError(
        f"the teacher is a {type(given).__name__}. Wrap a network or a function: attar.samplers.Wrapped(network, "
        '"epsilon", "linear").'
    )
