"""Candidate pairs of a greedy search, with the known values of each, in arrays that grow."""

import numpy as np
from jaxtyping import Bool, Float, Int

from attar.mixtures.gaussians import Gaussians

Places = Int[np.ndarray, " pair"]
Values = Float[np.ndarray, " pair"]


class Pool:
    """Candidate pairs in arrays that grow, in no order: the last pairs take the places of removed ones."""

    def __init__(self, dimension: int, capacity: int) -> None:
        self.dimension, self.size = dimension, 0
        self.first, self.second = (np.empty(capacity, dtype=np.int64) for _ in range(2))
        self.known = np.zeros(capacity, dtype=bool)
        self.numbers = np.empty((6 + dimension + dimension**2, capacity))

    @property
    def cost(self) -> Values:
        """The cost by which the filter selects pairs."""
        return self.numbers[0]

    @property
    def with_f(self) -> Values:
        """The inner product <f,φ_m> of each pair's merge."""
        return self.numbers[1]

    @property
    def with_g(self) -> Values:
        """The inner product <g,φ_m> of each pair's merge."""
        return self.numbers[2]

    @property
    def lost(self) -> Values:
        """The merge error ‖D‖² of each pair."""
        return self.numbers[3]

    def keys(self, count: int) -> Places:
        """A unique number for each pair, if there are `count` components."""
        return self.first[: self.size] * count + self.second[: self.size]

    def touches(self, component: int) -> Bool[np.ndarray, " pair"]:
        """Whether each pair contains a component."""
        return (self.first[: self.size] == component) | (self.second[: self.size] == component)

    def add(self, first: Places, second: Places, cost: Values | float = 0.0) -> None:
        """Add pairs of which only the filter's cost is known."""
        end = self.size + len(first)
        if end > len(self.first):
            self._grow(max(end, 2 * len(self.first)))
        fresh = slice(self.size, end)
        self.first[fresh], self.second[fresh], self.cost[fresh], self.known[fresh] = first, second, cost, False
        self.size = end

    def fill(self, places: Places, merge: Gaussians, with_f: Values, with_g: Values, lost: Values) -> None:
        """Store the computed values of some pairs."""
        d = self.dimension
        self.with_f[places], self.with_g[places], self.lost[places] = with_f, with_g, lost
        self.numbers[4][places], self.numbers[5][places] = merge.weights, merge.log_determinants
        self.numbers[6 : 6 + d, places] = merge.means
        self.numbers[6 + d :, places] = merge.covariances.reshape(d * d, -1)
        self.known[places] = True

    def gaussians(self, places: Places) -> Gaussians:
        """The merges of some pairs."""
        d, numbers = self.dimension, self.numbers[:, places]
        return Gaussians(numbers[4], numbers[6 : 6 + d], numbers[6 + d :].reshape(d, d, -1), numbers[5])

    def gaussian(self, place: int) -> Gaussians:
        """The merge of one pair."""
        return self.gaussians(np.array([place]))

    def remove(self, places: Places) -> None:
        """Remove some pairs."""
        kept = self.size - len(places)
        holes = places[places < kept]
        stays = np.ones(self.size - kept, dtype=bool)
        stays[places[places >= kept] - kept] = False
        tail = kept + np.flatnonzero(stays)
        for array in (self.first, self.second, self.known):
            array[holes] = array[tail]
        self.numbers[:, holes] = self.numbers[:, tail]
        self.size = kept

    def _grow(self, capacity: int) -> None:
        more = capacity - len(self.first)
        self.first, self.second, self.known = (
            np.pad(array, (0, more)) for array in (self.first, self.second, self.known)
        )
        self.numbers = np.pad(self.numbers, ((0, 0), (0, more)))
