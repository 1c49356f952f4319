"""How good a condensed set is: fresh networks trained on it and tested, once, on the real test images."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from attar.core.errors import InputError
from attar.core.runtime import Engine, Runtime
from attar.core.score import Score, kept
from attar.core.seeds import derived_seed
from attar.images.artefact import CondensedImages
from attar.images.networks import Architecture, Factory, from_factory, parse
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

Ceiling = Literal["auto", "run", "skip"]

LONG = 600.0
"""Seconds above which a full-data ceiling is not started unasked."""


@dataclass(frozen=True)
class NetworkScore:
    """What one kind of network learns from a condensed set."""

    network: str
    protocol: str
    score: Score
    values: tuple[float, ...]
    """Test accuracy of each trained network, in per cent; the i-th from the same seed whatever the set."""
    full: Score | None
    """The same networks trained on all the data, where that is known."""
    chance: float

    @property
    def kept(self) -> float | None:
        """Accuracy over that of all the data, in per cent."""
        return None if self.full is None else kept(self.score, self.full)

    @property
    def kept_above_chance(self) -> float | None:
        """The same, counted from what guessing gives."""
        return None if self.full is None else kept(self.score, self.full, chance=self.chance)


@dataclass(frozen=True)
class Evaluation:
    """The scores of a condensed set, one per kind of network, with what it costs to keep."""

    networks: tuple[NetworkScore, ...]
    images: int
    bytes: int
    full_images: int
    full_bytes: int

    def __str__(self) -> str:
        return "\n".join(self._line(network) for network in self.networks)

    def _line(self, row: NetworkScore) -> str:
        prefix = f"{row.network}: " if len(self.networks) > 1 else ""
        text = f"{prefix}{row.score} from {self.images:,} images"
        if row.full is not None:
            text += f"; all {self.full_images:,}: {row.full}; kept {row.kept:.1f} %"
        share = 100 * self.bytes / self.full_bytes
        size = f"{self.bytes:,} bytes, {share:.2g} % of the full set"
        return f"{text} ({size}; {row.protocol} protocol, {row.score.n} networks)"

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return dataclasses.asdict(self)


def evaluate(
    small: CondensedImages,
    source: ImageSource,
    *,
    networks: Sequence[str | Architecture | Factory] = ("convnet",),
    repeats: int = 5,
    protocol: str | Protocol = "field",
    ceiling: Ceiling = "auto",
    seed: int = 0,
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Train fresh networks on a condensed set and test them on the real test images.

    Args:
        small: The condensed set.
        source: Where the test images come from.
        networks: Names (`convnet`, `convnet:norm=batch`, `mlp`), architectures, or functions
            `(shape, classes) -> torch.nn.Module` for networks of one's own.
        repeats: Networks of each kind.
        protocol: How they are trained: a name of `PROTOCOLS`, or a protocol.
        ceiling: What to do about the score of all the data: `auto` takes it from the cache, or trains when that
            takes less than ten minutes; `run` trains in any case; `skip` leaves it out.
        seed: The repeats' seeds come from it, the same for every set.
        engine: How to use the machine.
        say: Told what happens.

    Raises:
        InputError: Unknown network or protocol, or a set of other classes or shape than the source.
    """
    protocol = protocol_named(protocol)
    if small.classes != source.classes or small.shape != source.shape:
        raise InputError(
            f"the condensed set has {len(small.classes)} classes of {small.shape}, "
            f"but {source.name} has {len(source.classes)} of {source.shape}; give the data it was condensed from."
        )
    kinds = [parse(network) if isinstance(network, str) else network for network in networks]
    names = [network if isinstance(network, str) else _name(network) for network in networks]
    scores = []
    for name, kind in zip(names, kinds, strict=True):
        values = train_and_test(small, source, kind, protocol, repeats, Runtime(engine, seed, say=say))
        full = full_score(source, kind, repeats, ceiling, Runtime(engine, seed, say=say))
        chance = 100 * float(torch.bincount(source.test.labels).max()) / len(source.test)
        scores.append(NetworkScore(name, protocol.name, Score.of(values), tuple(values), full, chance))
    origin = small.origin
    return Evaluation(tuple(scores), len(small.labels), small.bytes, origin.full_images, origin.full_bytes)


def train_and_test(
    small: CondensedImages,
    source: ImageSource,
    kind: Architecture | Factory,
    protocol: Protocol,
    repeats: int,
    runtime: Runtime,
) -> list[float]:
    """Test accuracies, in per cent, of fresh networks trained on a condensed set."""
    if small.lr is not None:
        protocol = dataclasses.replace(protocol, lr=small.lr)
    method, build = _method(kind, protocol, small)
    if build is None:
        runtime.plan(repeats * method.work(small))
    networks = trainings(method, small, runtime, repeats=repeats, build=build)
    return [accuracy(network, source.test, small.transform, runtime) for network in networks]


def full_score(
    source: ImageSource, kind: Architecture | Factory, repeats: int, ceiling: Ceiling, runtime: Runtime
) -> Score | None:
    """The score of all the data: up to three networks, from the cache or trained now.

    Under `auto` a training of more than ten minutes in all is not started: what it would take is said instead.
    """
    if ceiling == "skip":
        return None
    repeats = min(repeats, 3)
    protocol = PROTOCOLS["ceiling"]
    method, build = _method(kind, protocol, source)
    if build is not None:
        if ceiling != "run":
            runtime.say("no ceiling for a network of your own: train it on all the data with --ceiling run.")
            return None
        networks = trainings(method, source, runtime, repeats=repeats, build=build)
        return Score.of([accuracy(network, source.test, source.transform, runtime) for network in networks])
    assert isinstance(kind, Architecture)
    seeds = [derived_seed(runtime.seed, f"full {repeat}") for repeat in range(repeats)]
    folders = [network_folder(method, source, seed) for seed in seeds]
    missing = sum(not (folder / "network.safetensors").exists() for folder in folders)
    if missing and ceiling == "auto":
        seconds = missing * seconds_for(method, source, runtime)
        if seconds > LONG:
            runtime.say(
                f"no full-data ceiling: training {missing} networks on all {len(source.train):,} images would take "
                f"about {seconds / 60:.0f} minutes here; start it with --ceiling run, and it is kept for next time."
            )
            return None
    values = []
    for seed in seeds:
        network = trained(source, kind, runtime.with_seed(seed), protocol).network
        values.append(accuracy(network, source.test, source.transform, runtime))
    return Score.of(values)


def _method(
    kind: Architecture | Factory, protocol: Protocol, examples: CondensedImages | ImageSource
) -> tuple[TrainNetwork, Callable[[int], nn.Module] | None]:
    if isinstance(kind, Architecture):
        return TrainNetwork(architecture=kind, protocol=protocol).resolve(examples), None
    method = TrainNetwork(protocol=protocol).resolve(examples)
    return method, lambda seed: from_factory(kind, examples.shape, len(examples.classes), seed)


def _name(network: Architecture | Factory) -> str:
    return network.network if isinstance(network, Architecture) else getattr(network, "__name__", "network")
