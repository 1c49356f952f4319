"""What a sampler is made from: samples, and the teacher that it is distilled from."""

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from attar.core import store
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.training import cached
from attar.samplers.artefact import Sampler, StoredSampler
from attar.samplers.denoisers import Condition
from attar.samplers.sources import Source


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


def teacher_named(given: Any, source: Source, runtime: Runtime, *, steps: int | None, levels: int | None) -> Sampler:
    """A teacher: as given, from its folder, or EDM of a network by words, trained here and kept in the cache.

    Args:
        given: A `Sampler`, the folder of one, words of a network, or None for the usual network.
        source: The samples that it learns from.
        runtime: The machine, and the seed of a training.
        steps: Steps of a training. Default: those of EDM.
        levels: Noise levels of its sampling. Default: as it was made.

    Raises:
        InputError: There is no such teacher.
    """
    if isinstance(given, Sampler):
        found = given
    elif given is not None and Path(str(given)).is_dir():
        found = StoredSampler.load(str(given))
        runtime.prepared.count(Path(str(given)))
    elif given is not None and (Path(str(given)).is_file() or "/" in str(given)):
        raise InputError(f"{given} is no folder of a sampler. Give one, or a network by words such as mlp:width=384.")
    else:
        from attar.samplers.edm import EDM

        method = EDM(network="auto" if given is None else str(given), steps=steps)
        work = Work(source)
        found = cached(method.resolve(work, runtime), work, runtime, title="training the teacher")
    found = replace(found, denoiser=copy.deepcopy(found.denoiser).requires_grad_(False))
    return found if levels is None else replace(found, steps=levels)
