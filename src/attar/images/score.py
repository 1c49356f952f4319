"""The quality of a condensed set: fresh networks are trained on it and tested once on the real test images.

Further scores are given beside the one that papers report: training without augmentation, training with hard labels,
and real images drawn at random, as many as the set has and as many as fit into its bytes. If the set has learned a step
size, random images are trained on at the protocol's own step size and at the set's. The better of the two stands first.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from attar.core.cell import Beside, Cell
from attar.core.dealing import deal, in_order
from attar.core.errors import InputError
from attar.core.evaluation import Evaluation, Row
from attar.core.progress import Line
from attar.core.rows import rows_of
from attar.core.runtime import Runtime
from attar.core.score import Score
from attar.core.seeds import derived_seed
from attar.core.selection import draw_rows
from attar.core.training import LONG, ceiling_starts
from attar.images.artefact import CondensedImages, Origin
from attar.images.networks.architecture import Architecture, Factory, from_factory
from attar.images.networks.pretrained import network_named
from attar.images.protocols import PROTOCOLS, Protocol, protocol_named
from attar.images.ranking import HARD, RANDOM, SAME, with_robust_scores
from attar.images.rates import AT_THE_SETS, note, trained_at
from attar.images.repeats import accuracy, trainings
from attar.images.scoring import Scoring
from attar.images.sources import ImageSource
from attar.images.splits import own_split, same_classes
from attar.images.trained import trained
from attar.images.training import TrainNetwork

When = Literal["auto", "run", "skip"]
Kind = Architecture | Factory


def measure(sets: Sequence[CondensedImages], source: ImageSource, how: Scoring, runtime: Runtime) -> Evaluation:
    """Train fresh networks on condensed sets: a row for each method, a column for each kind of network.

    Args:
        sets: Condensed sets. Each is tested on the split that it was made with.
        source: The source of the test images.
        how: The networks, the protocol of training, and the further scores. Under `auto` further scores are measured
            only if there is a single row.
        runtime: The machine and the seed.

    Raises:
        InputError: A network or protocol is unknown, or a set has other classes or another shape than the source.
    """
    start = time.perf_counter()
    how = dataclasses.replace(how, protocol=protocol_named(how.protocol))
    _check(sets, source, how.protocol)
    grouped = rows_of(sets, lambda small: {"images": len(small.labels)})
    if len(grouped) > 1 and how.beside == "auto":
        how = dataclasses.replace(how, beside="skip")
    rows = []
    for label, members in grouped:
        first, sources = members[0], [own_split(one, source, runtime) for one in members]
        cells = [_cell(label, network, members, sources, how, runtime) for network in how.networks]
        rows.append(
            Row.of(
                label,
                members,
                cells,
                count=len(first.labels),
                bytes=first.bytes,
                full_count=first.origin.full_images,
                full_bytes=first.origin.full_bytes,
            )
        )
    return Evaluation(tuple(rows), "images", seconds=round(time.perf_counter() - start, 3))


def _cell(
    label: str,
    network: Any,
    sets: Sequence[CondensedImages],
    sources: Sequence[ImageSource],
    how: Scoring,
    runtime: Runtime,
) -> Cell:
    """The scores of one kind of network on the sets of a row, with the scores to compare them with."""
    kind = network_named(network) if isinstance(network, str) else network
    name, source = network if isinstance(network, str) else _name(network), sources[0]
    began, values = time.perf_counter(), []
    for number, (one, its_own) in enumerate(zip(sets, sources, strict=True), start=1):
        title = f"{name} on {label}" + (f", set {number} of {len(sets)}" if len(sets) > 1 else "")
        given = (how.protocol, how.repeats, runtime.with_seed(runtime.seed))
        values.append(train_and_test(one, its_own, kind, *given, title=title))
    took = (time.perf_counter() - began) / len(sets)
    beside = measure_beside(
        sets[0], source, kind, how.protocol, how.repeats, how.beside, took, runtime.with_seed(runtime.seed)
    )
    cell = Cell.of(
        values,
        column=name,
        protocol=how.protocol.told,
        trained=_trained_by(how.protocol, sets).to_json(),
        full=full_score(source, kind, how.repeats, how.ceiling, runtime.with_seed(runtime.seed)),
        whole=f"all {sets[0].origin.full_images:,}",
        chance=100 * float(torch.bincount(source.test.labels).max()) / len(source.test),
        beside=beside,
        notes=tuple(note(how.protocol, one.lr) for one in sets),
    )
    plain = how.protocol.target == "label"
    hard = plain and all(one.labels.ndim == 1 for one in sets)
    return with_robust_scores(cell, hard=hard, random=RANDOM if plain else RANDOM + SAME)


def _trained_by(protocol: Protocol, sets: Sequence[CondensedImages]) -> Protocol:
    """The protocol with the learned step size of the sets, if they have the same one."""
    rates = {one.lr for one in sets}
    return trained_at(protocol, rates.pop()) if len(rates) == 1 else protocol


def _check(sets: Sequence[CondensedImages], source: ImageSource, protocol: Protocol) -> None:
    if not sets:
        raise InputError("there is no condensed set to evaluate; give one or more.")
    for small in sets:
        if not same_classes(small, source):
            raise InputError(
                f"the condensed set has {len(small.classes)} classes of {small.shape}, but "
                f"{source.name} has {len(source.classes)} of {source.shape}. Give the data it was condensed from."
            )
        trained_at(protocol, small.lr)


def train_and_test(
    small: CondensedImages | Callable[[int], CondensedImages],
    source: ImageSource,
    kind: Kind,
    protocol: Protocol,
    repeats: int,
    runtime: Runtime,
    *,
    title: str = "",
) -> list[float]:
    """Test accuracies, in per cent, of fresh networks trained on one condensed set, or each on its own set.

    Several processes share the networks. If there is a title, a line shows the progress, and each accuracy is printed.
    """
    first = small(0) if callable(small) else small
    method, build = _method(kind, trained_at(protocol, first.lr), first)
    work = 0.0 if build else method.work(first)
    dealt = deal(repeats, runtime.processes, work / method.total_steps, runtime.device)
    many = sum(len(numbers) for numbers, _ in dealt)
    if build is None:
        runtime.plan(many * work)
    quiet, tested = not title or runtime.engine.quiet or not runtime.processes.first, dict[int, float]()
    with Line(title, many * method.total_steps, quiet=quiet) as line:
        for numbers, together in dealt:
            machine, done = runtime.among(together), len(tested) * method.total_steps
            networks = trainings(
                method,
                small,
                machine,
                repeats=numbers,
                build=build,
                watch=partial(_show, line.at, done),
            )
            for number, network in zip(numbers, networks, strict=True):
                centred = protocol.tested_on == "centre"
                tested[number] = accuracy(network, source.test, first.transform, runtime, centred=centred)
                if title:
                    runtime.say(f"{title}: network {len(tested)} of {many}, {tested[number]:.1f} %")
    return in_order(tested, runtime.processes)


def _show(at: Callable[[int], None], done: int, taken: int) -> None:
    at(done + taken)


def measure_beside(
    small: CondensedImages,
    source: ImageSource,
    kind: Kind,
    protocol: Protocol,
    repeats: int,
    when: When,
    seconds: float,
    runtime: Runtime,
) -> tuple[Beside, ...]:
    """Measure the scores to compare a score with. Under `auto` they are skipped if they take more than ten minutes.

    Args:
        small: The condensed set.
        source: The source of test images and random images.
        kind: The network.
        protocol: The protocol of training.
        repeats: The number of networks. Random selection draws another set for each.
        when: Whether to measure them.
        seconds: The time that the score itself took, in seconds.
        runtime: The machine and the seed.
    """
    if when == "skip":
        return ()
    ways = _ways(small, source, protocol, runtime)
    estimate = seconds * sum(way.size for way in ways)
    if when == "auto" and runtime.processes.any(estimate > LONG):
        runtime.say(
            f"further scores are not measured: {', '.join(way.label for way in ways)} would take about "
            f"{estimate / 60:.0f} minutes here. Measure them with --beside run."
        )
        return ()
    found = []
    for way in ways:
        title, own = f"beside it, {way.label}", runtime.with_seed(runtime.seed)
        values = train_and_test(way.images, source, kind, way.protocol, repeats, own, title=title)
        one = way.images(0) if callable(way.images) else way.images
        found.append(Beside(way.label, Score.of(values), len(one.labels), one.bytes))
    return _better_first(found)


@dataclass(frozen=True)
class _Way:
    """A score to compare a score with."""

    label: str
    images: CondensedImages | Callable[[int], CondensedImages]
    protocol: Protocol
    size: float = 1.0
    """Number of images, in those of the set."""


def _ways(small: CondensedImages, source: ImageSource, protocol: Protocol, runtime: Runtime) -> list[_Way]:
    """The labels, images and protocols of the scores to compare a score with."""
    ways: list[_Way] = []
    stored = dataclasses.replace(protocol, name=f"{protocol.name}, stored labels", target="label")
    others = protocol
    if protocol.target == "stored":  # stored labels are of these images only; others need the teacher
        asked = small.soft is not None and small.teacher is not None and small.soft.are_of(small.teacher)
        others = dataclasses.replace(protocol, target="teacher") if asked else stored
        if asked:
            ways.append(_Way("with new answers of its teacher", dataclasses.replace(small, soft=None), others))
    if protocol.augmented and protocol.target != "stored":
        bare = dataclasses.replace(protocol, name=f"{protocol.name}, not augmented", augmented=False, mix="none")
        ways.append(_Way("without augmentation", small, bare))
    if protocol.target != "label" or small.labels.ndim == 2:
        ways.append(_Way(HARD, dataclasses.replace(small, labels=small.hard_labels), stored))
    teacher = SAME if others.target == "teacher" else ""
    ways += _at_both(f"{RANDOM}{teacher}", 1.0, others, small, source, runtime)
    factor = _real_images_per_image(small, source)
    if factor > 1:
        labelled = ", hard labels" if protocol.target != "label" else ""
        ways += _at_both(f"random, as many bytes{labelled}", factor, stored, small, source, runtime)
    return ways


def _at_both(
    label: str, size: float, protocol: Protocol, small: CondensedImages, source: ImageSource, runtime: Runtime
) -> list[_Way]:
    """Random images at the protocol's own step size, and at the set's if that is another."""
    draw = _random(small, source, size, runtime)
    ways = [_Way(label, draw, protocol, size)]
    if trained_at(protocol, small.lr) != protocol:
        ways.append(
            _Way(label + AT_THE_SETS, lambda repeat: dataclasses.replace(draw(repeat), lr=small.lr), protocol, size)
        )
    return ways


def _better_first(found: Sequence[Beside]) -> tuple[Beside, ...]:
    """The same with the better of two step sizes first."""
    order = list(found)
    for place in range(len(order) - 1):
        one, other = order[place : place + 2]
        if other.label == one.label + AT_THE_SETS and other.score.value > one.score.value:
            order[place : place + 2] = other, one
    return tuple(order)


def _real_images_per_image(small: CondensedImages, source: ImageSource) -> float:
    """The number of real 8-bit images with their class that fit into the bytes of one condensed image."""
    return small.bytes / len(small.labels) / (math.prod(source.shape) + 8)


def _random(
    small: CondensedImages, source: ImageSource, factor: float, runtime: Runtime
) -> Callable[[int], CondensedImages]:
    """A function that draws random real images for each repeat: per class as many as the set has, times a factor."""
    have = torch.bincount(small.hard_labels, minlength=len(small.classes)).tolist()
    counts = tuple(max(1, int(factor * count)) for count in have)

    def draw(repeat: int) -> CondensedImages:
        generator = torch.Generator().manual_seed(derived_seed(runtime.seed, f"random {repeat}"))
        rows = draw_rows(source.rows_of, counts, generator)
        pixels = source.train.pixels[rows]
        images = pixels if pixels.dtype == torch.uint8 else small.transform.forward(pixels)
        origin: Origin = dataclasses.replace(small.origin, method="random", settings={})
        labels, teacher = source.train.labels[rows], small.teacher if factor == 1 else None
        return CondensedImages(images, labels, small.classes, small.transform, small.flips, origin, teacher=teacher)

    return draw


def full_score(source: ImageSource, kind: Kind, repeats: int, ceiling: When, runtime: Runtime) -> Score | None:
    """The score of all the data: up to three networks, from the cache or trained now.

    Under `auto` training of more than ten minutes in all is not started. The estimated time is printed instead.
    """
    if ceiling == "skip":
        return None
    repeats = min(repeats, 3)
    protocol, processes = PROTOCOLS["ceiling"], runtime.processes
    method, build = _method(kind, protocol, source)
    values: dict[int, float] = {}
    if build is not None:
        if ceiling != "run":
            runtime.say("the ceiling of your own network is not measured. Train it on all the data with --ceiling run.")
            return None
        for numbers, together in deal(repeats, processes, 0.0, runtime.device):
            networks = trainings(method, source, runtime.among(together), repeats=numbers, build=build)
            for number, network in zip(numbers, networks, strict=True):
                values[number] = accuracy(network, source.test, source.transform, runtime)
        return Score.of(in_order(values, processes))
    assert isinstance(kind, Architecture)
    seeds = [derived_seed(runtime.seed, f"full {repeat}") for repeat in range(repeats)]
    what = f"all {len(source.train):,} images"
    if ceiling == "auto" and not ceiling_starts(method, source, seeds, runtime, what=what):
        return None
    for numbers, together in deal(repeats, processes, method.work(source) / method.total_steps, runtime.device):
        for number in numbers:
            network = trained(source, kind, runtime.among(together).with_seed(seeds[number]), protocol).network
            values[number] = accuracy(network, source.test, source.transform, runtime)
    return Score.of(in_order(values, processes))


def _method(
    kind: Kind, protocol: Protocol, examples: CondensedImages | ImageSource
) -> tuple[TrainNetwork, Callable[[int], nn.Module] | None]:
    if isinstance(kind, Architecture):
        return TrainNetwork(architecture=kind, protocol=protocol).resolve(examples), None
    method = TrainNetwork(protocol=protocol).resolve(examples)
    return method, lambda seed: from_factory(kind, examples.shape, len(examples.classes), seed)


def _name(network: Kind) -> str:
    return network.network if isinstance(network, Architecture) else getattr(network, "__name__", "network")
