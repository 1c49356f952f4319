"""The parts that all reducers share: the settings that the command knows, and the result.

A reducer is a settings class with a method `search`. `reduce` checks the mixture, runs the search and times it.
"""

import time
from abc import abstractmethod
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Self

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attar.core.artefact import Origin
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.seeds import Generators
from attar.core.settings import Range, Settings
from attar.core.state import rebuilt
from attar.mixtures.artefact import ReducedMixture
from attar.mixtures.distances import distance
from attar.mixtures.greedy import Merged
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.sources import MixtureSource


@dataclass(frozen=True)
class Reduction:
    """A mixture of fewer components, and how it was found."""

    mixture: GaussianMixture
    """The reduced mixture. Its covariances are full for any original, because merged components have no other type."""
    assignment: Int[Tensor, " component"]
    """For each original component, the number of the component it was merged into, before any optimisation."""
    trace: tuple[float, ...]
    """Values of the method, step by step: costs of merges, objectives, or distances to the original."""
    evaluations: int
    """Number of candidate pairs, partitions or parameter values that were tried."""
    seconds: float = 0.0
    """Wall time of the reduction."""

    def distance(self, original: GaussianMixture, kind: str = "angle") -> float:
        """Distance from the original, of any kind in `attar.mixtures.distances`."""
        return float(distance(original, self.mixture, kind))


@dataclass
class Reducing:
    """A mixture and its reduction. The result is not saved between steps, because there is only one step."""

    source: MixtureSource = rebuilt()
    found: Reduction = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class Reducer(Settings):
    """Settings that every reducer has, and the methods that the command needs."""

    n_components: Annotated[int, Range(1)] = 10
    """Number of components of the reduced mixture."""

    moved = MappingProxyType({"fit_components": None})  # it belongs to how a table is read
    name = "reducer"
    kind = "mixtures"

    @abstractmethod
    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Reduce a mixture that was checked and has more than `n_components` components."""

    def check(self, f: GaussianMixture) -> None:
        """Refuse a mixture that the method cannot reduce, before the work begins."""

    def reduce(self, f: GaussianMixture, *, seed: int = 0) -> Reduction:
        """Reduce f to `n_components` components. If it has exactly as many, its parameters are unchanged.

        Args:
            f: A single mixture.
            seed: Seed of every random start.

        Raises:
            InputError: f is a batch, or has fewer than `n_components` components.
        """
        if f.batch_shape:
            raise InputError(f"this is a batch of mixtures, {f.batch_shape}. Reduce them one by one: f[0], f[1].")
        self._check_count(f)
        start = time.perf_counter()
        if self.n_components == f.n_components:
            found = Reduction(f.plain(), torch.arange(f.n_components), (), 0)
        else:
            self.check(f)
            found = self.search(f.plain(), Generators(seed))
        return replace(found, seconds=time.perf_counter() - start)

    def _check_count(self, f: GaussianMixture) -> None:
        if self.n_components > f.n_components:
            raise InputError(
                f"n_components is {self.n_components}, but the mixture has {f.n_components}; ask for that or fewer."
            )

    def resolve(self, source: MixtureSource, runtime: Runtime) -> Self:
        """The settings unchanged, after a check; no setting depends on the source.

        Raises:
            InputError: The mixture has fewer than `n_components` components, or the method cannot reduce it.
        """
        self._check_count(source.mixture)
        if self.n_components < source.mixture.n_components:
            self.check(source.mixture)
        return self

    @property
    def total_steps(self) -> int:
        """The number of steps: a reduction is one step."""
        return 1

    def build(self, source: MixtureSource, runtime: Runtime) -> Reducing:
        """The state before the step: the mixture unchanged."""
        return Reducing(source)

    def step(self, state: Reducing, runtime: Runtime) -> Metrics:
        """Reduce the mixture."""
        state.found = self.reduce(state.source.mixture, seed=runtime.seed)
        return {"evaluations": float(state.found.evaluations)}

    def result(self, state: Reducing, runtime: Runtime) -> ReducedMixture:
        """The artefact: the reduced mixture and the original."""
        found, original = state.found, state.source.mixture
        origin = Origin.made(state.source, self, runtime)
        return ReducedMixture(
            found.mixture, original, found.assignment, found.trace, found.evaluations, found.seconds, origin
        )


def reduction_of(merging: Merged) -> Reduction:
    """The result of a search by merging, as a reduction."""
    return Reduction(
        merging.components.mixture(),
        torch.from_numpy(merging.labels.astype(np.int64)),
        tuple(merging.trace),
        merging.evaluations,
    )
