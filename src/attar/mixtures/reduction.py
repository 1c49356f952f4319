"""What all reducers share: the settings that the command knows, and the result.

A reducer is settings with a `search`; `reduce` checks, times and labels what it finds.
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
    """A mixture of fewer components, and how it came about."""

    mixture: GaussianMixture
    """With full covariances, whatever the original's: merged components have no other kind."""
    assignment: Int[Tensor, " component"]
    """For each original component, the one it was merged into before anything was optimised."""
    trace: tuple[float, ...]
    """What the method itself looks at, step by step: costs of merges or distances after them, then an optimiser's
    values."""
    evaluations: int
    """Candidate pairs, partitions or parameter values that were tried."""
    seconds: float = 0.0
    """Wall time."""

    def distance(self, original: GaussianMixture, kind: str = "angle") -> float:
        """How far it is from the original, in any kind of `attar.mixtures.distances`."""
        return float(distance(original, self.mixture, kind))


@dataclass
class Reducing:
    """A mixture before and after; what was found is not kept, since it is one step."""

    source: MixtureSource = rebuilt()
    found: Reduction = rebuilt(default=None)


@dataclass(frozen=True, kw_only=True)
class Reducer(Settings):
    """Settings that every reducer has, and what the command asks of it."""

    n_components: Annotated[int, Range(1)] = 10
    """Components to leave."""

    moved = MappingProxyType({"fit_components": None})  # it belongs to how a table is read
    name = "reducer"
    kind = "mixtures"

    @abstractmethod
    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Find the reduced mixture of a checked one with more components than asked for."""

    def check(self, f: GaussianMixture) -> None:
        """Refuse what the method cannot do, before the work begins."""

    def reduce(self, f: GaussianMixture, *, seed: int = 0) -> Reduction:
        """A mixture of `n_components` in place of f, which is returned as it is where it has no more than that.

        Args:
            f: A single mixture.
            seed: Seed of every random start.

        Raises:
            InputError: A batch, or fewer components than asked for.
        """
        if f.batch_shape:
            raise InputError(f"this is a batch of mixtures, {f.batch_shape}; reduce them one by one: f[0], f[1].")
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
        """Nothing is left open.

        Raises:
            InputError: More components are asked for than there are, or the method is not for so many.
        """
        self._check_count(source.mixture)
        if self.n_components < source.mixture.n_components:
            self.check(source.mixture)
        return self

    @property
    def total_steps(self) -> int:
        """A reduction is one step."""
        return 1

    def build(self, source: MixtureSource, runtime: Runtime) -> Reducing:
        """The mixture as it is."""
        return Reducing(source)

    def step(self, state: Reducing, runtime: Runtime) -> Metrics:
        """Reduce it."""
        state.found = self.reduce(state.source.mixture, seed=runtime.seed)
        return {"evaluations": float(state.found.evaluations)}

    def result(self, state: Reducing, runtime: Runtime) -> ReducedMixture:
        """The reduced mixture beside the original."""
        found, original = state.found, state.source.mixture
        origin = Origin.made(state.source, self, runtime)
        return ReducedMixture(
            found.mixture, original, found.assignment, found.trace, found.evaluations, found.seconds, origin
        )


def reduction_of(merging: Merged) -> Reduction:
    """What a search by merging found."""
    return Reduction(
        merging.components.mixture(),
        torch.from_numpy(merging.labels.astype(np.int64)),
        tuple(merging.trace),
        merging.evaluations,
    )
