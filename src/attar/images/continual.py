"""Class-incremental learning with condensed sets as the memory.

At each step some new classes are condensed from their data alone. Earlier memories are not changed. A fresh network is
then trained on the whole memory and tested on all classes seen so far, as in GDumb (Prabhu et al., ECCV 2020). The
protocol, class orders and budgets are those of DM (Zhao and Bilen, WACV 2023, arXiv:2110.04181).
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attar.core import engine as core
from attar.core import store
from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score
from attar.core.settings import Range, Settings
from attar.images.artefact import CondensedImages
from attar.images.networks.architecture import Architecture
from attar.images.protocols import PROTOCOLS, Protocol
from attar.images.score import train_and_test
from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class ContinualLearning(Settings):
    """Settings of the order of classes and of the repeats."""

    steps: Annotated[int, Range(1)] = 5
    """Number of equal steps into which the classes are divided."""
    orders: Annotated[int, Range(1)] = 5
    """Number of orders of the classes. The i-th order is drawn from seed i."""
    networks: Annotated[int, Range(1)] = 3
    """Number of networks that are trained on each memory."""
    architecture: Architecture = Architecture()  # noqa: RUF009
    """Architecture of the networks."""
    protocol: Protocol = PROTOCOLS["field"]
    """Protocol of training."""

    name = "continual"
    kind = "images"

    @classmethod
    def paper(cls, *, steps: int = 5) -> Self:
        """The settings of DM's and DataDAM's figures on CIFAR-100.

        They have 5 or 10 steps, 5 orders, 3 networks, and 20 images per class.

        Raises:
            InputError: The figures have another number of steps.
        """
        return published(cls, "cifar100", steps)


@dataclass(frozen=True)
class Continual:
    """The test accuracies after each step."""

    seen: tuple[int, ...]
    """Number of classes seen after each step."""
    values: tuple[tuple[tuple[float, ...], ...], ...]
    """Test accuracy on those classes in per cent, by order, step and network."""
    images: int
    """Number of images in the memory at the end."""
    bytes: int = 0
    """What they weigh."""

    def after(self, step: int) -> Score:
        """The score after a step, counted from zero, over orders and networks."""
        return Score.of([value for order in self.values for value in order[step]])

    @property
    def final(self) -> Score:
        """The score on all classes."""
        return self.after(len(self.seen) - 1)

    @property
    def final_by_order(self) -> list[float]:
        """The mean final accuracy of each order."""
        return [statistics.fmean(order[-1]) for order in self.values]


def learn(
    method: Any,
    source: ImageSource,
    settings: ContinualLearning,
    *,
    out: Path | None = None,
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> Continual:
    """Condense the new classes of each step, train networks on the memory, and test them.

    Args:
        method: Settings of a condensing method. Its ipc is the budget of every class.
        source: All the data.
        settings: The steps, orders, networks and protocol.
        out: Folder for memories and scores. Finished parts are not done again. None keeps all in memory.
        engine: Settings of the machine.
        say: Called with messages about the progress.

    Raises:
        InputError: The steps do not divide the classes, the method whitens, or condensing refuses its settings.
    """
    classes = len(source.classes)
    if classes % settings.steps:
        raise InputError(f"steps is {settings.steps}, which does not divide {classes} classes equally.")
    if getattr(method, "zca", False):
        raise InputError("whitening is fitted on all classes, but a step has only some of them. Do not set --zca.")
    size, values, images, weight = classes // settings.steps, [], 0, 0
    for order in range(settings.orders):
        come = class_order(classes, order)
        memory: list[CondensedImages] = []
        accuracies = []
        for step in range(settings.steps):
            folder = out / f"order-{order}" / f"step-{step}" if out else None
            new = come[step * size : (step + 1) * size]
            memory.append(_condensed(method, source.with_classes(new.tolist()), order, folder, engine))
            whole = merged(memory, come, source)
            seen = come[: (step + 1) * size]
            images, weight = len(whole.labels), whole.bytes
            fresh = partial(_tested, whole, source, seen, settings, order, engine)
            accuracies.append(tuple(store.remembered(folder and folder / "run" / _score_name(settings), fresh)))
            if say:
                say(f"order {order}, {len(seen)} classes: {statistics.fmean(accuracies[-1]):.1f} %")
        values.append(tuple(accuracies))
    return Continual(tuple(size * (step + 1) for step in range(settings.steps)), tuple(values), images, weight)


def class_order(classes: int, seed: int) -> Int[Tensor, " class"]:
    """The order of the classes. It is drawn by numpy's old generator, as in DM's script, to match the papers."""
    return torch.from_numpy(np.random.RandomState(seed).permutation(classes))


def merged(memory: Sequence[CondensedImages], come: Int[Tensor, " class"], source: ImageSource) -> CondensedImages:
    """The memories of all steps as one set. Labels are numbered as in the whole data."""
    labels, start = [], 0
    for small in memory:
        numbers = come[start : start + len(small.classes)]
        start += len(small.classes)
        if small.labels.ndim == 1:
            labels.append(numbers[small.labels])
        else:
            labels.append(small.labels.new_zeros(len(small.labels), len(source.classes)))
            labels[-1][:, numbers] = small.labels
    images = torch.cat([small.images for small in memory])
    return replace(
        memory[0], images=images, labels=torch.cat(labels), classes=source.classes, teacher=None, folder=None
    )


def _condensed(
    method: Any, part: ImageSource, seed: int, folder: Path | None, engine: Engine | None
) -> CondensedImages:
    runtime = Runtime(engine, seed)
    resolved = method.resolve(part, runtime)
    runtime.plan(resolved.work(part))
    small: CondensedImages = core.run(resolved, part, runtime, out=folder)
    return small


def _tested(
    memory: CondensedImages,
    source: ImageSource,
    seen: Int[Tensor, " class"],
    settings: ContinualLearning,
    order: int,
    engine: Engine | None,
) -> list[float]:
    """Test accuracy on the classes seen so far. The network has outputs for all classes, as in the papers."""
    rows = torch.nonzero(torch.isin(source.test.labels, seen)).flatten()
    judged = replace(source, test=source.test.select(rows))
    runtime = Runtime(engine, order)
    return train_and_test(memory, judged, settings.architecture, settings.protocol, settings.networks, runtime)


def _score_name(settings: ContinualLearning) -> str:
    return f"seen-{settings.protocol.name}-{settings.networks}.json"
