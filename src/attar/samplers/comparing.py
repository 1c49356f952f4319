"""New samples against the training and the test samples of a source: everything that is measured of them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.score import Better, Score
from attar.core.seeds import derived_seed
from attar.samplers import metrics
from attar.samplers.artefact import Sampler, kept
from attar.samplers.features import Features, Judge, judges_of
from attar.samplers.sources import Labels, Part, Rows, Samples, Source, evenly

Scores = Mapping[str, Score]
TEST = ", test"
"""What ends the name of a column of which the test samples are the real ones."""
USUAL, AT_ONCE, COPIES = 10_000, 4096, 2000
"""Most samples that are drawn unless asked for, real ones that are read at once, and new ones that are held against
all training samples, value by value."""
FEWEST = 4
"""Real samples below which nothing is compared with them."""


@dataclass(frozen=True)
class Seen:
    """Samples as the networks see them."""

    features: tuple[Features, ...]
    """By network."""
    said: Int[Tensor, " sample"] | None
    """The classes that the first network takes them for."""
    radii: Float[Tensor, " sample"] | None = None
    """How far the k-th neighbour of each is, by the first network, where it is known."""

    def __len__(self) -> int:
        return len(self.features[0])

    def select(self, rows: Rows) -> Self:
        """The samples of these rows."""
        features = tuple(one[rows] for one in self.features)
        return type(self)(features, None if self.said is None else self.said[rows])

    def with_radii(self, k: int) -> Self:
        """The same, with the way to their neighbours."""
        return replace(self, radii=metrics.radii(self.features[0], k))


@dataclass(frozen=True)
class Comparison:
    """The real samples of a source, ready to be compared with new ones."""

    source: Source
    runtime: Runtime
    judges: tuple[Judge, ...]
    k: int
    count: int
    """New samples that are drawn."""
    everyone: Seen
    """All training samples."""

    @classmethod
    def of(cls, source: Source, runtime: Runtime, *, k: int, samples: int | None = None, networks: int = 2) -> Self:
        """The real samples of a source.

        Args:
            source: The source.
            runtime: The machine; its seed draws halves.
            k: Number of neighbours.
            samples: New samples that are drawn. Default: as many as there are training samples, 10,000 at most.
            networks: Networks by which they are compared.

        Raises:
            InputError: There are too few samples for so many neighbours.
        """
        count = min(len(source.train), USUAL) if samples is None else samples
        fewest = min(count, len(source.train) // 2)
        if fewest <= max(k, FEWEST):
            raise InputError(
                f"neighbours is {k}, but {source.name} has {len(source.train)} training samples, of which halves are "
                f"compared, and {count} are drawn. Give fewer neighbours, or more samples."
            )
        judges = tuple(judges_of(source, runtime, networks))
        return cls(source, runtime, judges, k, count, seen_part(judges, source.train, runtime))

    @cached_property
    def train(self) -> Seen:
        """As many training samples as new ones are drawn, evenly spaced."""
        return self.everyone.select(evenly(len(self.everyone), self.count)).with_radii(self.k)

    @cached_property
    def test(self) -> Seen | None:
        """As many test samples at most; None of too few."""
        part = self.source.test
        if len(part) <= max(self.k, FEWEST):
            return None
        rows = evenly(len(part), self.count)
        return seen_part(self.judges, part.select(rows), self.runtime).with_radii(self.k)

    @cached_property
    def by_chance(self) -> float:
        """The share of training samples that lie nearer to another training sample than to a test sample."""
        rows = evenly(len(self.source.train), min(self.count, COPIES))
        samples = self.source.train[rows]
        to_train, to_test = nearest_in(self.source.train, samples, 2)[:, 1], nearest_in(self.source.test, samples)[:, 0]
        return metrics.nearer(to_train, to_test)

    @cached_property
    def drawn(self) -> Float[Tensor, "point width"] | None:
        """Fresh draws of the law of points, as many as new ones; the test points of those without a law."""
        if len(self.source.shape) != 1:
            return None
        if self.source.law is None:
            return self.source.test.all(self.count)
        draw = torch.Generator().manual_seed(derived_seed(self.runtime.seed, "fresh draws"))
        return self.source.law.draw(self.count, draw)[0]

    def seen(self, samples: Samples) -> Seen:
        """New samples as the networks see them."""
        return seen(self.judges, samples, self.runtime)

    # ------------------------------------------------------------------------------------------------ what is measured

    def measured(self, samples: Samples, labels: Labels | None) -> dict[str, Score]:
        """Everything that is measured of new samples.

        Raises:
            InputError: One of them is not finite.
        """
        check_finite(samples)
        new = self.seen(samples)
        for features in new.features:
            check_finite(features)
        new = new.with_radii(self.k)
        found = self.against(self.train, new)
        found |= self.of_labels(new, labels) | self.of_points(samples)
        if self.test is not None:
            found |= self.of_copies(samples)
            found |= {f"{name}{TEST}": score for name, score in self.against(self.test, new).items()}
        return found

    def against(self, real: Seen, new: Seen) -> dict[str, Score]:
        """New samples against real ones: distances on each network, and neighbourhoods on the first."""
        found: dict[str, Score] = {}
        for judge, mine, theirs in zip(self.judges, real.features, new.features, strict=True):
            distance = metrics.frechet(mine, theirs)
            found[f"rFD, {judge.name} (%)"] = Score(metrics.relative(distance, mine), "", "lower")
            found[f"FD, {judge.name}"] = Score(distance, "", "lower")
        mine, theirs = real.features[0], new.features[0]
        draw = torch.Generator().manual_seed(derived_seed(self.runtime.seed, "half splits"))
        kernel = None if self.judges[0].network is not None else metrics.gaussian(*metrics.bandwidths(mine))
        kernel_distance = metrics.kernel_distance(mine, theirs, generator=draw, kernel=kernel)
        found["kernel distance"] = Score(
            kernel_distance.value, "", "lower", interval=(kernel_distance.low, kernel_distance.high)
        )
        around = metrics.neighbourhoods(mine, theirs, self.k, real_radii=real.radii, fake_radii=new.radii)
        found |= {name: per_cent(value) for name, value in around._asdict().items()}
        seed = derived_seed(self.runtime.seed, "two-sample classifier")
        found["two-sample AUC"] = per_cent(metrics.two_sample_auc(mine, theirs, seed=seed), "lower")
        return found

    def of_copies(self, samples: Samples) -> dict[str, Score]:
        """How much more often new samples lie nearer to training than to test samples than training samples do."""
        some = samples[evenly(len(samples), COPIES)]
        share = metrics.nearer(nearest_in(self.source.train, some)[:, 0], nearest_in(self.source.test, some)[:, 0])
        return {
            "memorisation excess": per_cent(share - self.by_chance, "lower"),
            "nearer to training samples": per_cent(share, "lower"),
        }

    def of_labels(self, new: Seen, labels: Labels | None) -> dict[str, Score]:
        """Whether the first network takes samples for the classes that were asked for, and as often as there are."""
        if new.said is None:
            return {}
        shares = torch.tensor(self.source.class_shares, dtype=torch.float64)
        found = {"label variation": per_cent(metrics.label_variation(new.said, shares), "lower")}
        if labels is not None:
            found["class accuracy"] = per_cent(float((new.said == labels).double().mean()))
        return found

    def of_points(self, samples: Samples) -> dict[str, Score]:
        """Points against fresh draws of their law, and how they spread over its modes."""
        if self.drawn is None:
            return {}
        points, real, law = samples.double(), self.drawn.double(), self.source.law
        found = {
            "sliced W1": Score(metrics.sliced_wasserstein(real, points), "", "lower"),
            "energy distance": Score(metrics.energy_distance(real, points), "", "lower"),
        }
        if law is None or law.modes is None:
            return found
        modes = metrics.modes(points, law.modes, law.std)
        return found | {
            f"modes, of {len(law.modes)}": Score(float(modes.found), ""),
            "mode mass, variation": per_cent(modes.variation, "lower"),
            "stray": per_cent(modes.stray, "lower"),
            "-ln p": Score(metrics.negative_log_likelihood(points, law.modes, law.std), "nats", "lower"),
        }

    # --------------------------------------------------------------------------------------------------- real samples

    def halves(self) -> tuple[int, dict[str, Score]]:
        """Two halves of the training samples against each other, each of as many as are drawn if there are enough."""
        count = min(self.count, len(self.everyone) // 2)
        draw = torch.Generator().manual_seed(derived_seed(self.runtime.seed, "halves"))
        order = torch.randperm(len(self.everyone), generator=draw)
        one, other = (self.everyone.select(rows) for rows in order[: 2 * count].split(count))
        return count, self.against(one, other)

    def other_part(self) -> dict[str, Score]:
        """The test samples against the training samples, and these against the test samples."""
        if self.test is None:
            return {}
        found = self.against(self.train, self.test)
        found |= {f"{name}{TEST}": score for name, score in self.against(self.test, self.train).items()}
        labels = self.source.test.labels
        wanted = None if labels is None else labels[evenly(len(labels), self.count)]
        return found | self.of_labels(self.test, wanted)

    def fresh(self) -> dict[str, Score]:
        """Fresh draws of the law of points, as new samples are measured."""
        assert self.source.law is not None
        draw = torch.Generator().manual_seed(derived_seed(self.runtime.seed, "other fresh draws"))
        points, labels = self.source.law.draw(self.count, draw)
        return self.measured(points.float(), labels)


def per_cent(share: float, better: Better = "higher") -> Score:
    """A share as a score."""
    return Score(100 * share, "%", better)


def check_finite(samples: Samples) -> None:
    """Whether all samples are finite.

    Raises:
        InputError: They are not.
    """
    odd = int((~samples.flatten(1).isfinite().all(dim=1)).sum())
    if odd:
        raise InputError(
            f"{odd:,} of {len(samples):,} new samples are not finite. Sample with more noise levels, or train it anew."
        )


def seen(judges: tuple[Judge, ...], samples: Samples, runtime: Runtime) -> Seen:
    """Samples as networks see them."""
    features = tuple(judge.features(samples, runtime.device) for judge in judges)
    return Seen(features, judges[0].classified(features[0]))


def seen_part(judges: tuple[Judge, ...], part: Part, runtime: Runtime) -> Seen:
    """All samples of a part as networks see them, some at a time."""
    some = [seen(judges, part[rows], runtime) for rows in torch.arange(len(part)).split(AT_ONCE)]
    features = tuple(torch.cat(each) for each in zip(*(one.features for one in some), strict=True))
    said = [one.said for one in some if one.said is not None]
    return Seen(features, torch.cat(said) if said else None)


def nearest_in(part: Part, samples: Samples, count: int = 1) -> Float[Tensor, "sample {count}"]:
    """The distances of samples to so many nearest ones of a part, which is read some at a time."""
    found = [
        metrics.nearest(samples.flatten(1), part[rows].flatten(1), min(count, len(rows)))
        for rows in torch.arange(len(part)).split(AT_ONCE)
    ]
    return torch.cat(found, dim=1).sort(dim=1).values[:, :count]


# ---------------------------------------------------------------------------------------------------------- the samples


@dataclass(frozen=True)
class Drawn:
    """New samples."""

    samples: Samples
    labels: Labels | None
    seconds: float
    """Seconds for a thousand."""


def draw(
    one: Sampler, labels: Labels | None, count: int, seed: int, runtime: Runtime, steps: int | None = None
) -> Drawn:
    """Samples of a sampler; of all samplers of a shape from the same noise, if the seed is the same.

    Args:
        one: The sampler.
        labels: Class numbers.
        count: How many.
        seed: Of the noise.
        runtime: The machine.
        steps: Number of noise levels. Default: as it was made for.
    """
    placed = on_device(one, runtime.device)
    placed.sample(1, None if labels is None else labels[:1], seed=seed, steps=steps)  # what is done once takes no part
    began = time.perf_counter()
    samples = placed.sample(count, labels, seed=seed, steps=steps)
    return Drawn(samples, labels, 1000 * (time.perf_counter() - began) / count)


def on_device(one: Sampler, device: torch.device) -> Sampler:
    """A sampler whose network is on a device; itself on the CPU, where samplers are kept."""
    if device.type == "cpu":
        return one
    return replace(one, denoiser=kept(one.denoiser).to(device))


def seconds_of(drawn: Drawn) -> Score:
    """The time of a thousand samples."""
    return Score(drawn.seconds, "", "lower")


def plain(scores: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of these names that are there."""
    return {name: scores[name] for name in names if name in scores}
