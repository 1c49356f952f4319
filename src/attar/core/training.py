"""Parts of every training: schedules, optimisers, the order of an epoch, and the cache of trained networks.

These functions serve the `build` and the `step` of any method that trains a network. A training beside a run is a
method too. `cached` trains a network once and finds it again by everything that it depends on. Such a training can be
killed and resumed.
"""

import hashlib
import json
import math
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from attar.core import cache, engine, store
from attar.core.engine import Artefact, Method, Source
from attar.core.errors import InputError
from attar.core.processes import ALONE, Processes
from attar.core.runtime import Runtime

A = TypeVar("A", bound=Artefact)

LONG = 600.0
"""Seconds above which nothing is started unasked."""


# ----------------------------------------------------------------------- schedules: what a step size is multiplied by


def half_cosine(done: float, total: float = 1.0) -> float:
    """(1 + cos π d / D) / 2, which falls from 1 at the start to 0 at the end.

    Loshchilov and Hutter, SGDR, ICLR 2017, arXiv:1608.03983, without its restarts.

    Args:
        done: d, the steps or epochs taken so far; or the share of the way.
        total: D, all of them.
    """
    return 0.5 * (1 + math.cos(math.pi * done / total))


def after_cuts(epoch: int, cuts: Sequence[float], factor: float = 0.1) -> float:
    """The factor to the power of the cuts that are reached.

    Args:
        epoch: Counted from zero.
        cuts: The first epoch after each cut.
        factor: What each cut multiplies by.
    """
    return factor ** sum(epoch >= cut for cut in cuts)


def linear_rise(number: float, over: float) -> float:
    """min(1, n / W), a rise in a straight line (Goyal et al., arXiv:1706.02677).

    Args:
        number: n, the number of the step or epoch, the first of which is 1.
        over: W, how many of them the rise takes; up to 1 there is none.
    """
    return min(1.0, number / max(over, 1.0))


# ----------------------------------------------------------------------------------------------------------- optimisers


def set_lr(optimizer: torch.optim.Optimizer, *rates: float) -> None:
    """Set the step size: one for all groups of parameters, or one for each."""
    groups = optimizer.param_groups
    for group, rate in zip(groups, rates if len(rates) > 1 else rates * len(groups), strict=True):
        group["lr"] = rate


def in_float32(network: nn.Module) -> nn.Module:
    """A network whose 16-bit parameters and buffers are float32 now, in place: small steps vanish in fewer bits."""
    return network._apply(lambda one: one.float() if one.is_floating_point() and one.itemsize < 4 else one)


def betas_of(momentum: float) -> tuple[float, float]:
    """β₁ and β₂ of Adam, of which the first is the momentum.

    Raises:
        InputError: The momentum is 1, with which Adam divides by zero.
    """
    if momentum >= 1:
        raise InputError(f"momentum is {momentum:g}; with Adam it must be below 1.")
    return float(momentum), 0.999


def adamw(
    parameters: Sequence[nn.Parameter],
    lr: float,
    *,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    axes: int = 1,
) -> torch.optim.AdamW:
    """AdamW whose weight decay spares biases and norms, all parameters of a single axis.

    Of stacked networks these have two `axes`.
    Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, arXiv:1711.05101.
    """
    return torch.optim.AdamW(spared(parameters, axes), lr, betas=betas, weight_decay=weight_decay)


def spared(parameters: Sequence[nn.Parameter], axes: int = 1) -> list[dict[str, Any]]:
    """Two groups of parameters: matrices and kernels, and without weight decay biases and norms."""
    matrices = [parameter for parameter in parameters if parameter.ndim > axes]
    others = [parameter for parameter in parameters if parameter.ndim <= axes]
    return [{"params": matrices}, {"params": others, "weight_decay": 0.0}]


# --------------------------------------------------------------------------------------------------- order of an epoch


def next_rows(order: Int[Tensor, " row"], done: int, batch: int, generator: torch.Generator) -> Int[Tensor, " batch"]:
    """The rows of a step: every row once in each pass, in an order that is drawn when the pass begins.

    The order is part of the method's state, which is all that a resumed training needs to go on with the same rows.

    Args:
        order: The order of the pass, which is written anew, in place, at its first step.
        done: Steps taken so far.
        batch: Rows of a step; the last one of a pass has what is left.
        generator: Draws the order, on the CPU.
    """
    number = done % math.ceil(len(order) / batch)
    if number == 0:
        order.copy_(torch.randperm(len(order), generator=generator))
    return order[number * batch :][:batch].clone()


def rows_after(order: Int[Tensor, " row"], done: int, batch: int) -> Int[Tensor, " following"]:
    """The rows of the step after this one; none if it begins another pass, whose order is not drawn yet."""
    number = done % math.ceil(len(order) / batch) + 1
    return order[number * batch :][:batch].clone()


# ----------------------------------------------------------------------------------------- trainings beside a method


def cache_place(group: str, facts: Any) -> Path:
    """The folder of the cache for what depends on these plain values and on nothing else. It counts as in use."""
    key = json.dumps(facts, sort_keys=True)
    place = store.cache_folder() / group / hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    cache.use(place)
    return place


def network_folder(method: Any, source: Source, seed: int) -> Path:
    """Where the cache keeps, or would keep, what resolved settings make of a source with a seed."""
    return cache_place("networks", [method.to_json(), source.fingerprint, seed])


def cached(method: Method[A], source: Source, runtime: Runtime, *, title: str) -> A:
    """What a method makes of a source with the seed of a run: from the cache, or made now and kept there.

    Several processes that all need it make it together, if the method shares its work. A process that needs it for
    itself has to ask with `runtime.alone()`.
    """
    folder, shared = network_folder(method, source, runtime.seed), getattr(method, "shares", False)
    return made_in(folder, method, source, runtime, title=title, shared=shared)


def made_in(
    folder: Path, method: Method[A], source: Source, runtime: Runtime, *, title: str, shared: bool = False
) -> A:
    """What a method makes beside another, in a run folder of its own: read, or made now.

    Progress is shown, a killed training goes on where it stopped, and who comes second waits for the first. What it
    cost is counted with the run that it is for.

    Args:
        folder: The run folder.
        method: Resolved settings, with a `load` that reads what they make.
        source: What they work on.
        runtime: The machine, and the seed.
        title: What the progress line calls it.
        shared: Whether the processes of the runtime, all of which are here, make it together. Default: each process
            makes it, or finds it, by itself; so does each if they have no folder in common.

    Raises:
        InputError: The folder cannot be written to or holds something else, or the training diverged.
        Interrupted: Stopped by Ctrl-C, SIGTERM or SIGHUP.
    """
    store.make_folder(folder)
    cache.use(folder)
    settings = replace(runtime.engine, track=(), tensorboard=False, snapshots=0)
    together = runtime.processes if shared and _is_common(folder, runtime.processes) else ALONE
    machine = Runtime(settings, runtime.seed, say=runtime.say).among(together)
    machine.plan(engine.work_of(method, source))
    with runtime.prepared.making():
        made = engine.run(method, source, machine, out=folder, title=title, wait=True)
    runtime.prepared.count(folder)
    return made


def _is_common(folder: Path, processes: Processes) -> bool:
    """Whether a folder without a result is the same one for all processes, as a cache of each machine would not be."""
    if processes.count == 1 or not processes.any(not engine.finished(folder)):
        return False  # or it is to be read only
    mark = folder / processes.once(lambda: f".{uuid.uuid4().hex}.tmp")  # named as a draft, which no other run minds
    with suppress(OSError):
        mark.touch() if processes.first else None
    processes.any(False)  # once it is there
    missing = processes.any(not mark.exists())
    with suppress(OSError):
        mark.unlink(missing_ok=True) if processes.first else None
    return not missing


# ------------------------------------------------------------------------------------------------ the gate to long work


def seconds_for(method: Method[Any], source: Source, runtime: Runtime, *, tried: int = 3) -> float:
    """About how long a training takes, from the time of a few steps that are thrown away.

    Args:
        method: Resolved settings.
        source: What they work on.
        runtime: The machine and the seed.
        tried: How many steps are timed, after one that is not. A training of no more steps counts as nothing.
    """
    if method.total_steps <= tried + 1:
        return 0.0
    trial = runtime.alone()
    state = method.build(source, trial)
    method.step(state, trial)
    start = time.perf_counter()
    for _ in range(tried):
        method.step(state, trial)
    return (time.perf_counter() - start) / tried * method.total_steps


def is_cached(method: Any, source: Source, seed: int) -> bool:
    """Whether the cache has what resolved settings make of a source with a seed."""
    return engine.finished(network_folder(method, source, seed))


def affordable(label: str, seconds: float, when: str, runtime: Runtime) -> bool:
    """Whether a rival is measured: up to ten minutes where none is asked for; where it is not, that is said.

    Args:
        label: What it is called.
        seconds: About how long it takes.
        when: run, skip, or auto.
        runtime: The machine.
    """
    if when != "auto":
        return when == "run"
    if seconds > LONG:
        runtime.say(
            f"{label} is not measured beside it: it would take about {seconds / 60:.0f} minutes here. "
            "Measure it with --beside run."
        )
    return seconds <= LONG


def ceiling_starts(method: Method[Any], source: Source, seeds: Sequence[int], runtime: Runtime, *, what: str) -> bool:
    """Whether networks may be trained on all the data unasked: those that the cache lacks take ten minutes at most.

    Where they would take longer, that is said, and how to ask for them.

    Args:
        method: Resolved settings of the training.
        source: The data.
        seeds: One for each network.
        runtime: The machine.
        what: What they are trained on, as it is said.
    """

    def estimate() -> tuple[int, float]:
        missing = sum(not is_cached(method, source, seed) for seed in seeds)
        return missing, missing * seconds_for(method, source, runtime) if missing else 0.0

    missing, seconds = runtime.processes.once(estimate)
    if seconds > LONG:
        runtime.say(
            f"no score of the full data: training {missing} networks on {what} would take about {seconds / 60:.0f} "
            "minutes here. Give --ceiling run to train them. Their score is kept for the next time."
        )
    return seconds <= LONG
