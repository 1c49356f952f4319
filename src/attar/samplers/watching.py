"""The score of a sampler while it is trained: rFD and recall, beside those of two halves of the real samples."""

import dataclasses
import math
from dataclasses import dataclass

import torch

from attar.core.machine import Engine
from attar.core.runtime import Runtime
from attar.core.seeds import derived_seed
from attar.samplers import metrics
from attar.samplers.artefact import Sampler
from attar.samplers.comparing import Seen, draw, seen, seen_part
from attar.samplers.features import Judge, judges_of
from attar.samplers.schedules import SMALL
from attar.samplers.sources import Source

MOST, MOST_LARGE = 1000, 250
"""Samples that are drawn: no more than half of the training samples, and fewer of large images."""
NEIGHBOURS = 3


@dataclass(frozen=True)
class Watch:
    """Real samples, ready to be compared with, and the scores of as many others of them."""

    judge: Judge
    real: Seen
    floor: dict[str, float]


_last: dict[str, Watch] = {}
"""That of the source that was watched last, by its fingerprint."""


def watched(sampler: Sampler, source: Source, machine: Runtime | None = None) -> dict[str, float]:
    """RFD and recall of new samples in per cent, and of as many real ones; nothing if there are too few of these.

    The network is a small classifier of the training samples, which is trained with the first call and cached. The
    noise is the same each time.

    Args:
        sampler: The sampler as it is now.
        source: What it learns.
        machine: The machine of the run. Default: the usual one.
    """
    large = len(source.shape) > 1 and max(source.shape[1:]) > SMALL
    count = min(MOST_LARGE if large else MOST, len(source.train) // 2)
    if count <= NEIGHBOURS:
        return {}
    engine = Engine() if machine is None else machine.engine
    runtime = Runtime(dataclasses.replace(engine, quiet=True), 0)
    if source.fingerprint not in _last:
        _last.clear()
        _last[source.fingerprint] = _prepared(source, count, runtime)
    watch = _last[source.fingerprint]
    drawn = draw(sampler, sampler.labels_for(count), count, 0, runtime)
    if not drawn.samples.isfinite().all():
        return {}
    new = seen((watch.judge,), drawn.samples, runtime)
    if not new.features[0].isfinite().all():
        return {}
    found = _scores(watch.real, new)
    return {**found, **{f"{name} of halves": value for name, value in watch.floor.items()}}


def _prepared(source: Source, count: int, runtime: Runtime) -> Watch:
    judges = tuple(judges_of(source, runtime, 1))
    order = torch.randperm(len(source.train), generator=torch.Generator().manual_seed(derived_seed(0, "watched")))
    real, other = (seen_part(judges, source.train.select(rows), runtime) for rows in order[: 2 * count].split(count))
    real = real.with_radii(NEIGHBOURS)
    return Watch(judges[0], real, _scores(real, other))


def _scores(real: Seen, new: Seen) -> dict[str, float]:
    mine, theirs = real.features[0], new.features[0]
    recall = metrics.neighbourhoods(mine, theirs, NEIGHBOURS, real_radii=real.radii).recall
    found = {"rFD": metrics.relative_frechet(mine, theirs), "recall": 100 * recall}
    return {name: value for name, value in found.items() if math.isfinite(value)}
