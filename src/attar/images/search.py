"""Architecture search with a condensed set as a proxy: does it rank networks as training on all the data does?

The search space is DC's 720 ConvNets. Proxies, early stopping and measures are those of DM (arXiv:2110.04181), DataDAM
(arXiv:2310.00093) and DC (arXiv:2006.05929). The measures are the accuracy of the network that the proxy ranks first,
and Spearman's ρ between validation accuracies on proxy and whole set, over the networks that the proxy ranks highest.
"""

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

import torch

from attar.core import store
from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.runtime import Engine, Runtime
from attar.core.seeds import derived_seed
from attar.core.settings import Range, Settings
from attar.images.artefact import CondensedImages
from attar.images.data.pixels import Split
from attar.images.networks.architecture import Architecture, parameter_count
from attar.images.protocols import Protocol
from attar.images.rates import trained_at
from attar.images.repeats import accuracy, trainings
from attar.images.sources import ImageSource, held_out
from attar.images.training import TrainNetwork

WIDTHS, DEPTHS = (32, 64, 128, 256), (1, 2, 3, 4)
NORMS = ("none", "batch", "layer", "instance", "group")
ACTIVATIONS, POOLINGS = ("sigmoid", "relu", "leakyrelu"), ("none", "max", "avg")

WHOLE, EARLY = "all the data", "early stopping"


@dataclass(frozen=True, kw_only=True)
class ArchitectureSearch(Settings):
    """Settings of the networks that are tried and of their training."""

    sampled: Annotated[int, Range(1, 720)] = 12
    """Number of networks drawn from the 720."""
    runs: Annotated[int, Range(1)] = 1
    """Number of trainings of each network, whose accuracies are averaged."""
    batch: Annotated[int, Range(1)] = 250
    """Batch size, in images."""
    proxy_epochs: Annotated[int, Range(1)] = 60
    """Number of epochs on a proxy. Early stopping takes the same number of steps on all the data."""
    whole_epochs: Annotated[int, Range(1)] = 20
    """Number of epochs on all the data."""

    name = "architecture-search"
    kind = "images"

    @classmethod
    def paper(cls) -> Self:
        """The settings of DM and DataDAM: 720 networks, five runs, 100 epochs on CIFAR-10, 50 images per class."""
        return published(cls, "cifar10")


@dataclass(frozen=True)
class Judgement:
    """The accuracies of every network under one way of training."""

    way: str
    validation: tuple[float, ...]
    """Mean accuracy on held-out training images, in per cent, by network."""
    test: tuple[float, ...]
    """Mean accuracy on test images, in per cent, by network. It is reported and not used for choices."""
    seconds: float
    images: int
    """Number of images that have to be stored."""
    bytes: int = 0
    """What they weigh."""

    def best(self, whole: "Judgement") -> float:
        """The test accuracy of the network that this way ranks first, trained on all the data."""
        return whole.test[max(range(len(self.validation)), key=self.validation.__getitem__)]

    def correlation(self, whole: "Judgement", share: float = 1.0, count: int | None = None) -> float | None:
        """Spearman's ρ with all the data, over the top share (or number) of networks in this way's ranking.

        None if there are fewer than three networks, or if one side gives all of them the same accuracy.
        """
        from scipy import stats

        kept = count or max(1, round(share * len(self.validation)))
        top = sorted(range(len(self.validation)), key=lambda place: -self.validation[place])[:kept]
        mine, theirs = ([judged.validation[place] for place in top] for judged in (self, whole))
        if len(top) < 3 or len(set(mine)) == 1 or len(set(theirs)) == 1:
            return None
        return float(stats.spearmanr(mine, theirs).statistic)


def grid() -> list[Architecture]:
    """The 720 networks of the search space."""
    return [
        Architecture(width=width, depth=depth, norm=norm, activation=activation, pooling=pooling)  # type: ignore[arg-type]
        for width, depth, norm, activation, pooling in itertools.product(WIDTHS, DEPTHS, NORMS, ACTIVATIONS, POOLINGS)
    ]


def buildable(source: ImageSource) -> list[Architecture]:
    """The networks of the 720 that are not too deep for images of this size."""
    found = []
    for architecture in grid():
        try:
            with torch.device("meta"):
                narrow = replace(architecture, width=4)
                parameter_count(narrow._build(source.shape, 2))
        except InputError:
            continue
        found.append(architecture)
    return found


def sample(architectures: list[Architecture], count: int, seed: int) -> list[Architecture]:
    """Draw `count` of the networks, in the order of the grid."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "architectures"))
    chosen = torch.randperm(len(architectures), generator=generator)[:count].sort().values
    return [architectures[place] for place in chosen.tolist()]


def search(
    proxies: Mapping[str, Callable[[ImageSource], CondensedImages]],
    source: ImageSource,
    settings: ArchitectureSearch,
    *,
    seed: int = 0,
    out: Path | None = None,
    engine: Engine | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Judgement]:
    """Measure networks by every proxy, by early stopping and by all the data.

    Args:
        proxies: Functions, by name, that condense the training data, of which a tenth has been held out.
        source: All the data.
        settings: The networks and their training.
        seed: The seed of the networks, the held-out tenth and every training.
        out: Folder for measurements. Those that it holds are not repeated. None keeps them in memory.
        engine: Settings of the machine.
        say: Called with messages about the progress.

    Returns:
        The judgements of the proxies, of early stopping, and of all the data, in this order.
    """
    fitting = buildable(source)
    architectures = sample(fitting, min(settings.sampled, len(fitting)), seed)
    if say and len(fitting) < 720:
        say(f"{720 - len(fitting)} of the 720 networks are too deep for images of this size and are skipped.")
    rows = held_out(source, seed)
    validation = source.train.select(rows)
    rest = source.without(rows)
    judge = _Judge(rest, validation, settings, Runtime(engine, seed), out, say or (lambda line: None))
    found = []
    steps = 0
    for name, make in proxies.items():
        small = make(rest)
        protocol = trained_at(_protocol("proxy", settings.proxy_epochs, settings), small.lr)
        steps = TrainNetwork(protocol=protocol).resolve(small).total_steps
        found.append(judge(name, architectures, small, protocol, None))
    early = _protocol("early", settings.proxy_epochs, settings)
    if steps:
        found.append(judge(EARLY, architectures, rest, early, steps))
    whole = _protocol("whole", settings.whole_epochs, settings)
    return [*found, judge(WHOLE, architectures, rest, replace(whole, augmented=False), None)]


@dataclass(frozen=True)
class _Judge:
    """Trains every network in one way, and stores the accuracies."""

    rest: ImageSource
    validation: Split
    settings: ArchitectureSearch
    runtime: Runtime
    out: Path | None
    say: Callable[[str], None]

    def __call__(
        self,
        way: str,
        architectures: list[Architecture],
        examples: CondensedImages | ImageSource,
        protocol: Protocol,
        steps: int | None,
    ) -> Judgement:
        start = [self._remembered(way, one, examples, protocol, steps) for one in architectures]
        mean = [[sum(run[part] for run in runs) / len(runs) for runs in start] for part in ("validation", "test")]
        seconds = sum(run["seconds"] for runs in start for run in runs)
        self.say(f"{way}: {len(architectures)} networks, {seconds:,.0f} s")
        return Judgement(way, tuple(mean[0]), tuple(mean[1]), seconds, len(examples.targets), examples.bytes)

    def _remembered(
        self,
        way: str,
        architecture: Architecture,
        examples: CondensedImages | ImageSource,
        protocol: Protocol,
        steps: int | None,
    ) -> list[dict[str, float]]:
        words = "-".join(str(value) for value in architecture.to_json().values())
        file = None
        if self.out is not None:
            place = self.out / way.replace(" ", "-")
            store.make_folder(place)
            file = place / f"{words}-{protocol.epochs}-{self.settings.runs}.json"
        measured: list[dict[str, float]] = store.remembered(
            file, lambda: [self._run(architecture, examples, protocol, steps, run) for run in range(self.settings.runs)]
        )
        return measured

    def _run(
        self,
        architecture: Architecture,
        examples: CondensedImages | ImageSource,
        protocol: Protocol,
        steps: int | None,
        run: int,
    ) -> dict[str, float]:
        start = time.perf_counter()
        method = TrainNetwork(architecture=architecture, protocol=protocol).resolve(examples)
        self.runtime.plan(method.work(examples))
        (network,) = trainings(method, examples, self.runtime, repeats=[run], steps=steps)
        transform = self.rest.transform
        found = {
            "validation": accuracy(network, self.validation, transform, self.runtime),
            "test": accuracy(network, self.rest.test, transform, self.runtime),
        }
        return {**found, "seconds": round(time.perf_counter() - start, 3)}


def _protocol(name: str, epochs: int, settings: ArchitectureSearch) -> Protocol:
    return Protocol(name=name, epochs=epochs, batch=settings.batch)


def summary(judgements: list[Judgement]) -> list[dict[str, Any]]:
    """The papers' measures of every way of training, as plain values."""
    *_, whole = judgements
    count = len(whole.validation)
    return [
        {
            "way": judged.way,
            "best": judged.best(whole),
            "rho_all": judged.correlation(whole),
            "rho_top_20": judged.correlation(whole, 0.2),
            "rho_top_5": judged.correlation(whole, 0.05),
            "rho_top_10_networks": judged.correlation(whole, count=min(10, count)),
            "minutes": judged.seconds / 60,
            "images": judged.images,
            "bytes": judged.bytes,
            "networks": count,
            "top_5": math.ceil(0.05 * count),
        }
        for judged in judgements
    ]
