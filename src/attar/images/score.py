"""How good a condensed set is: fresh networks trained on it and tested, once, on the real test images.

Beside the number that the field prints stand those it is to be read with: the same set trained on without
augmentation and with hard labels, and real images drawn at random, as many as it has and as many as fit in its bytes.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from attar.core import store
from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score, Spread, kept
from attar.core.seeds import derived_seed
from attar.images.artefact import CondensedImages, Origin
from attar.images.networks.architecture import Architecture, Factory, from_factory
from attar.images.networks.pretrained import network_named
from attar.images.sources import ImageSource
from attar.images.training import (
    PROTOCOLS,
    Protocol,
    TrainNetwork,
    accuracy,
    network_folder,
    protocol_named,
    seconds_for,
    trained,
    trainings,
)

When = Literal["auto", "run", "skip"]
Kind = Architecture | Factory
Values = tuple[tuple[float, ...], ...]

LONG = 600.0
"""Seconds above which nothing is started unasked."""


@dataclass(frozen=True)
class Beside:
    """What the same networks learn in another way, to read a score with."""

    label: str
    score: Score
    images: int
    bytes: int


@dataclass(frozen=True)
class NetworkScore:
    """What one kind of network learns from a condensed set."""

    network: str
    protocol: str
    score: Score
    """Over all sets and networks, as the field prints it."""
    spread: Spread
    """The same, between sets apart from between networks."""
    values: Values
    """Test accuracy in per cent by set and network; the i-th network comes from the same seed whatever the set."""
    full: Score | None
    """The same networks trained on all the data, where that is known."""
    chance: float
    """Per cent of the test images that always guessing the largest class gets right."""
    beside: tuple[Beside, ...] = ()

    @property
    def kept(self) -> float | None:
        """Accuracy over that of all the data, in per cent."""
        return None if self.full is None else kept(self.score, self.full)

    @property
    def kept_above_chance(self) -> float | None:
        """The same, counted from what guessing gives."""
        return None if self.full is None else kept(self.score, self.full, chance=self.chance)

    @property
    def by_set(self) -> list[float]:
        """The mean of each set's networks."""
        return [statistics.fmean(values) for values in self.values]

    def of_set(self, index: int) -> "NetworkScore":
        """The same of one of the sets; what stands beside was measured with the first."""
        values = (self.values[index],)
        beside = self.beside if index == 0 else ()
        return dataclasses.replace(
            self, score=Score.of(values[0]), spread=Spread.of(values), values=values, beside=beside
        )

    def to_json(self) -> dict[str, object]:
        """Plain values, with what was kept."""
        return {**dataclasses.asdict(self), "kept": self.kept, "kept_above_chance": self.kept_above_chance}


@dataclass(frozen=True)
class Evaluation:
    """The scores of a condensed set, or of several by the same method, one per kind of network, with their cost."""

    networks: tuple[NetworkScore, ...]
    images: int
    bytes: int
    full_images: int
    full_bytes: int
    seconds: float
    """Spent on training and testing."""
    condensing_seconds: float | None = None
    """Spent on condensing one set, where its run is at hand."""
    condensing_memory: int | None = None
    """The most memory that took, in bytes."""

    def __str__(self) -> str:
        lines = [line for network in self.networks for line in self._lines(network)]
        share = 100 * self.bytes / self.full_bytes
        cost = f"{self.bytes:,} bytes, {share:.2g} % of the full set; "
        if self.condensing_seconds is not None:
            cost += f"condensed in {self.condensing_seconds:,.1f} s"
            cost += f" with {self.condensing_memory / 1e9:.2g} GB, " if self.condensing_memory else ", "
        return "\n".join([*lines, f"{cost}scored in {self.seconds:,.1f} s"])

    def of_set(self, index: int) -> "Evaluation":
        """The same of one of the sets."""
        return dataclasses.replace(self, networks=tuple(network.of_set(index) for network in self.networks))

    def _lines(self, row: NetworkScore) -> list[str]:
        prefix = f"{row.network}: " if len(self.networks) > 1 else ""
        line = f"{prefix}{row.score} from {self.images:,} images"
        if row.full is not None:
            line += f"; all {self.full_images:,}: {row.full}; "
            line += f"kept {row.kept:.1f} %, above chance {row.kept_above_chance:.1f} %"
        lines = [f"{line} ({_of(row)})"]
        lines += [f"  beside it, {other.label}: {other.score} ({other.bytes:,} bytes)" for other in row.beside]
        return lines

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {**dataclasses.asdict(self), "networks": [network.to_json() for network in self.networks]}


def _of(row: NetworkScore) -> str:
    """How many sets and networks a score is of, and how each of them varies."""
    sets, networks = len(row.values), sum(map(len, row.values))
    text = f"{row.protocol} protocol, {networks} networks"
    if sets > 1:
        text += f" on {sets} sets; sets vary by {row.spread.sets:.1f}"
        text += f", networks by {row.spread.networks:.1f}" if row.spread.networks is not None else ""
    return text


def evaluate(
    small: CondensedImages | Sequence[CondensedImages],
    source: ImageSource,
    *,
    networks: Sequence[str | Architecture | Factory] = ("convnet",),
    repeats: int = 5,
    protocol: str | Protocol = "field",
    ceiling: When = "auto",
    beside: When = "auto",
    seed: int = 0,
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Train fresh networks on a condensed set and test them on the real test images.

    Args:
        small: The condensed set, or several by the same method with other seeds.
        source: Where the test images come from.
        networks: Names (`convnet`, `convnet:norm=batch`, `resnet18`), architectures, or functions
            `(shape, classes) -> torch.nn.Module` for networks of one's own.
        repeats: Networks of each kind on each set.
        protocol: How they are trained: a name of `PROTOCOLS`, or a protocol.
        ceiling: What to do about the score of all the data: `auto` takes it from the cache, or trains when that
            takes less than ten minutes; `run` trains in any case; `skip` leaves it out.
        beside: The same about what a score is read with: no augmentation, hard labels, random real images.
        seed: The repeats' seeds come from it, the same for every set.
        engine: How to use the machine.
        say: Told what happens.

    Raises:
        InputError: Unknown network or protocol, or a set of other classes or shape than the source.
    """
    sets = [small] if isinstance(small, CondensedImages) else list(small)
    protocol = protocol_named(protocol)
    _check(sets, source)
    kinds = [network_named(network) if isinstance(network, str) else network for network in networks]
    names = [network if isinstance(network, str) else _name(network) for network in networks]
    runtime, start = Runtime(engine, seed, say=say), time.perf_counter()
    scores = []
    for name, kind in zip(names, kinds, strict=True):
        began = time.perf_counter()
        values = tuple(
            tuple(train_and_test(one, source, kind, protocol, repeats, runtime.with_seed(seed))) for one in sets
        )
        took = (time.perf_counter() - began) / len(sets)
        others = measure_beside(sets[0], source, kind, protocol, repeats, beside, took, runtime.with_seed(seed))
        full = full_score(source, kind, repeats, ceiling, runtime.with_seed(seed))
        score = Score.of([value for by_network in values for value in by_network])
        chance = 100 * float(torch.bincount(source.test.labels).max()) / len(source.test)
        scores.append(NetworkScore(name, protocol.name, score, Spread.of(values), values, full, chance, others))
    first, seconds = sets[0], time.perf_counter() - start
    sizes = (len(first.labels), first.bytes, first.origin.full_images, first.origin.full_bytes)
    return Evaluation(tuple(scores), *sizes, round(seconds, 3), *_condensing_cost(sets))


def _check(sets: list[CondensedImages], source: ImageSource) -> None:
    if not sets:
        raise InputError("there is no condensed set to evaluate.")
    for small in sets:
        if small.classes != source.classes or small.shape != source.shape:
            raise InputError(
                f"the condensed set has {len(small.classes)} classes of {small.shape}, "
                f"but {source.name} has {len(source.classes)} of {source.shape}; give the data it was condensed from."
            )


def _condensing_cost(sets: list[CondensedImages]) -> tuple[float | None, int | None]:
    """Seconds a set, and the most memory, where the runs are at hand."""
    files = [small.folder / "run" / "cost.json" for small in sets if small.folder is not None]
    costs = [store.read_json(file) for file in files if file.exists()]
    memory = [cost["peak_memory"] for cost in costs if cost["peak_memory"]]
    seconds = statistics.fmean(cost["seconds"] for cost in costs) if costs else None
    return seconds, max(memory, default=None)


def train_and_test(
    small: CondensedImages | Callable[[int], CondensedImages],
    source: ImageSource,
    kind: Kind,
    protocol: Protocol,
    repeats: int,
    runtime: Runtime,
) -> list[float]:
    """Test accuracies, in per cent, of fresh networks trained on a condensed set, or each on a set of its own.

    Several processes share the networks.
    """
    first = small(0) if callable(small) else small
    if first.lr is not None:
        protocol = dataclasses.replace(protocol, lr=first.lr)
    method, build = _method(kind, protocol, first)
    mine = runtime.processes.share(repeats)
    if build is None:
        runtime.plan(len(mine) * method.work(first))
    networks = trainings(method, small, runtime, repeats=mine, build=build)
    tested = [accuracy(network, source.test, first.transform, runtime) for network in networks]
    return runtime.processes.collect(tested)


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
    """What a score is read with. Under `auto`, not when it would take more than ten minutes.

    Args:
        small: The condensed set.
        source: Where test images and random images come from.
        kind: The network.
        protocol: How it is trained.
        repeats: Networks; random selection takes another set for each.
        when: Whether to.
        seconds: How long the score itself took.
        runtime: The machine and the seed.
    """
    if when == "skip":
        return ()
    ways = _ways(small, source, protocol, runtime)
    factor = max(1.0, _real_images_per_image(small, source))
    estimate = seconds * (len(ways) - 1 + factor)
    if when == "auto" and runtime.processes.any(estimate > LONG):
        runtime.say(
            f"nothing measured beside it: {', '.join(way[0] for way in ways)} would take about {estimate / 60:.0f} "
            "minutes here; ask with --beside run."
        )
        return ()
    found = []
    for label, images, how in ways:
        values = train_and_test(images, source, kind, how, repeats, runtime.with_seed(runtime.seed))
        one = images(0) if callable(images) else images
        found.append(Beside(label, Score.of(values), len(one.labels), one.bytes))
    return tuple(found)


def _ways(
    small: CondensedImages, source: ImageSource, protocol: Protocol, runtime: Runtime
) -> list[tuple[str, CondensedImages | Callable[[int], CondensedImages], Protocol]]:
    """Labels, images and protocols of everything that stands beside a score."""
    ways: list[tuple[str, CondensedImages | Callable[[int], CondensedImages], Protocol]] = []
    stored = dataclasses.replace(protocol, name=f"{protocol.name}, stored labels", target="label")
    others = protocol
    if protocol.target == "stored":  # they belong to these very images; of others their teacher is asked, if it is here
        asked = small.soft is not None and small.teacher is not None and small.soft.are_of(small.teacher)
        others = dataclasses.replace(protocol, target="teacher") if asked else stored
        if asked:
            ways.append(("with its teacher asked anew", dataclasses.replace(small, soft=None), others))
    if protocol.augmented and protocol.target != "stored":
        bare = dataclasses.replace(protocol, name=f"{protocol.name}, not augmented", augmented=False, mix="none")
        ways.append(("without augmentation", small, bare))
    if protocol.target != "label" or small.labels.ndim == 2:
        ways.append(("with hard labels", dataclasses.replace(small, labels=small.hard_labels), stored))
    teacher = ", same teacher" if others.target == "teacher" else ""
    ways.append((f"random, as many images{teacher}", _random(small, source, 1.0, runtime), others))
    factor = _real_images_per_image(small, source)
    if factor > 1:
        labelled = ", hard labels" if protocol.target != "label" else ""
        ways.append((f"random, as many bytes{labelled}", _random(small, source, factor, runtime), stored))
    return ways


def _real_images_per_image(small: CondensedImages, source: ImageSource) -> float:
    """How many real images, in 8 bits and with their class, fit into the bytes of one condensed image."""
    return small.bytes / len(small.labels) / (math.prod(source.shape) + 8)


def _random(
    small: CondensedImages, source: ImageSource, factor: float, runtime: Runtime
) -> Callable[[int], CondensedImages]:
    """Real images drawn at random for each repeat: by class as many as the set has, times a factor."""
    have = torch.bincount(small.hard_labels, minlength=len(small.classes)).tolist()
    counts = [max(1, int(factor * count)) for count in have]

    def draw(repeat: int) -> CondensedImages:
        generator = torch.Generator().manual_seed(derived_seed(runtime.seed, f"random {repeat}"))
        rows = torch.cat(
            [
                rows[torch.randperm(len(rows), generator=generator)[:count]]
                for rows, count in zip(source.rows_of, counts, strict=True)
            ]
        )
        pixels = source.train.pixels[rows]
        images = pixels if pixels.dtype == torch.uint8 else small.transform.forward(pixels)
        origin: Origin = dataclasses.replace(small.origin, method="random", settings={})
        labels, teacher = source.train.labels[rows], small.teacher if factor == 1 else None
        return CondensedImages(images, labels, small.classes, small.transform, small.flips, origin, teacher=teacher)

    return draw


def full_score(source: ImageSource, kind: Kind, repeats: int, ceiling: When, runtime: Runtime) -> Score | None:
    """The score of all the data: up to three networks, from the cache or trained now.

    Under `auto` a training of more than ten minutes in all is not started: what it would take is said instead.
    """
    if ceiling == "skip":
        return None
    repeats = min(repeats, 3)
    protocol, processes = PROTOCOLS["ceiling"], runtime.processes
    method, build = _method(kind, protocol, source)
    mine = processes.share(repeats)
    if build is not None:
        if ceiling != "run":
            runtime.say("no ceiling for a network of your own: train it on all the data with --ceiling run.")
            return None
        networks = trainings(method, source, runtime, repeats=mine, build=build)
        return Score.of(processes.collect([accuracy(n, source.test, source.transform, runtime) for n in networks]))
    assert isinstance(kind, Architecture)
    seeds = [derived_seed(runtime.seed, f"full {repeat}") for repeat in range(repeats)]
    folders = [network_folder(method, source, seed) for seed in seeds]
    missing = processes.once(lambda: sum(not (folder / "network.safetensors").exists() for folder in folders))
    if missing and ceiling == "auto":
        seconds = processes.once(lambda: missing * seconds_for(method, source, runtime))
        if seconds > LONG:
            runtime.say(
                f"no full-data ceiling: training {missing} networks on all {len(source.train):,} images would take "
                f"about {seconds / 60:.0f} minutes here; start it with --ceiling run, and it is kept for next time."
            )
            return None
    values = []
    for repeat in mine:
        network = trained(source, kind, runtime.with_seed(seeds[repeat]), protocol).network
        values.append(accuracy(network, source.test, source.transform, runtime))
    return Score.of(processes.collect(values))


def _method(
    kind: Kind, protocol: Protocol, examples: CondensedImages | ImageSource
) -> tuple[TrainNetwork, Callable[[int], nn.Module] | None]:
    if isinstance(kind, Architecture):
        return TrainNetwork(architecture=kind, protocol=protocol).resolve(examples), None
    method = TrainNetwork(protocol=protocol).resolve(examples)
    return method, lambda seed: from_factory(kind, examples.shape, len(examples.classes), seed)


def _name(network: Kind) -> str:
    return network.network if isinstance(network, Architecture) else getattr(network, "__name__", "network")
