"""Greedy merging of one pair after another, by a cost of the pair alone or by the distance to the original.

Both searches keep the values that a merge does not change. The cost of a pair alone depends only on its two components,
so a merge needs n new costs. The global search keeps <f,φ_m>, <g,φ_m> and ‖D‖² for every pair, where φ_m is the merge
of the pair and D = w_i φ_i + w_j φ_j - W φ_m is what the merge removes from g. The merge of another pair, which removes
D*, alters only <g,φ_m>, by -<D*,φ_m>. This takes three Gaussians for each remaining pair, in a mixture of any size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from attar.mixtures.gaussians import Gaussians, log_pairs, log_rows, log_self, merged
from attar.mixtures.pool import Pool

Places = Int[np.ndarray, " pair"]
Costs = Float[np.ndarray, " pair"]
PairCost = Callable[[Gaussians, Gaussians, Gaussians], np.ndarray]
"""A function that computes costs of pairs from their first components, second components and merges, all aligned."""

FEW = 100
"""Default number of pairs that the filter keeps at the start. The number grows as components get fewer."""
SPARE = 8
"""Extra pairs per component that the pool holds, so that it seldom has to be filled again."""


@dataclass
class Merged:
    """The result of merging."""

    components: Gaussians
    labels: Int[np.ndarray, " component"]
    """For each original component, the number of the component that it is now part of."""
    trace: list[float] = field(default_factory=list)
    """Cost of each merge, or the distance to the original after it."""
    evaluations: int = 0
    """Number of candidate pairs whose cost was computed."""

    def renumbered(self, alive: np.ndarray) -> "Merged":
        """The result with only the components that are alive, numbered in their order."""
        places = np.flatnonzero(alive)
        return Merged(self.components.take(places), np.searchsorted(places, self.labels), self.trace, self.evaluations)


def merge_cheapest(f: Gaussians, n_components: int, cost: PairCost) -> Merged:
    """Merge the pair of least cost until `n_components` are left. A cost may depend only on its pair.

    It computes O(n²) costs at the start and n after each merge. Every component remembers its cheapest partner.
    """
    parts, count = f.copy(), len(f)
    table = cost_table(parts, cost)
    state = Merged(parts, np.arange(count), evaluations=count * (count - 1) // 2)
    partner = table.argmin(axis=1)
    least = table[np.arange(count), partner]
    alive = np.ones(count, dtype=bool)
    for _ in range(count - n_components):
        row = int(least.argmin())
        i, j = sorted((row, int(partner[row])))
        state.trace.append(float(least[row]))
        parts.put(i, merged(parts.take([i]), parts.take([j])))
        state.labels[state.labels == j] = i
        alive[j] = False
        table[j, :] = table[:, j] = np.inf
        least[j] = np.inf
        others = np.flatnonzero(alive)
        others = others[others != i]
        if not len(others):
            break
        fresh = pair_costs(parts, np.array([i]), others, cost)
        state.evaluations += len(others)
        table[i, others] = table[others, i] = fresh
        orphans = others[(partner[others] == i) | (partner[others] == j)]
        closer = others[fresh < least[others]]
        partner[closer], least[closer] = i, table[i, closer]
        for again in (orphans, np.array([i])):
            partner[again] = table[again].argmin(axis=1)
            least[again] = table[again, partner[again]]
    return state.renumbered(alive)


def cost_table(parts: Gaussians, cost: PairCost) -> Float[np.ndarray, "component component"]:
    """The costs of all pairs, infinite on the diagonal."""
    count = len(parts)
    table = np.full((count, count), np.inf)
    for i in range(count - 1):  # slices, because gathering pairs would cost more than the arithmetic
        first, second = parts.part(slice(i, i + 1)), parts.part(slice(i + 1, None))
        table[i, i + 1 :] = table[i + 1 :, i] = cost(first, second, merged(first, second))
    return table


def pair_costs(parts: Gaussians, i: np.ndarray, j: np.ndarray, cost: PairCost) -> Costs:
    """The costs of some pairs. One side may be a single component."""
    first, second = parts.take(i), parts.take(j)
    return cost(first, second, merged(first, second))


def merge_globally(
    f: Gaussians, n_components: int, kind: str, *, keep: int | None = None, filter_cost: PairCost | None = None
) -> Merged:
    """Merge the pair that gives the smallest distance to the original, until `n_components` are left.

    Args:
        f: The original components.
        n_components: Number of components to keep.
        kind: Kind of distance, as in `attar.mixtures.distances`.
        keep: Number of pairs to evaluate before each merge, those of least `filter_cost`. 0 means `FEW` N / n with n of
            N components left.
        filter_cost: A cheap cost of a pair alone. None: all pairs are evaluated.
    """
    search = GlobalSearch(f, kind, keep=keep, filter_cost=filter_cost)
    for _ in range(len(f) - n_components):
        search.merge_best()
    return search.state.renumbered(search.alive)


class GlobalSearch:
    """The state of a global greedy search: the current mixture g, and candidate pairs with the effects of their merges.

    All inner products are divided by the largest <φ,φ> of the original. No merge has a larger one.
    """

    def __init__(self, f: Gaussians, kind: str, *, keep: int | None, filter_cost: PairCost | None) -> None:
        self.f, self.kind, self.keep, self.filter_cost = f, kind, keep, filter_cost
        count = len(f)
        self.parts = f.copy()
        self.state = Merged(self.parts, np.arange(count))
        self.alive = np.ones(count, dtype=bool)
        self.single = np.ones(count, dtype=bool)
        self.scale = float(log_self(f).max())
        self.with_f = self._against(f, f.weights)
        self.with_g = self.with_f.copy()
        self.a = float(f.weights @ self.with_f)
        self.ise, self.surplus = 0.0, 0.0
        self.pool = Pool(f.dimension, 2 * SPARE * count if filter_cost else count * (count - 1) // 2)
        self.table = cost_table(self.parts, filter_cost) if filter_cost else None
        if self.table is not None:
            self.table[np.tril_indices(count)] = np.inf  # each pair counts once
        self.cutoff = np.inf
        if self.table is None:
            self.pool.add(*np.triu_indices(count, 1))
        else:
            self._refill()

    @property
    def wanted(self) -> int:
        """Number of pairs to evaluate in this round."""
        if self.table is None:
            return self.pool.size
        return self.keep or FEW * len(self.f) // int(self.alive.sum())

    def merge_best(self) -> None:
        """Find the best pair and merge it."""
        chosen, values = self.candidates()
        best = int(chosen[values.argmin()])
        self.state.trace.append(float(values.min()) * unit_of(self.kind, self.scale))
        self._merge(best)

    def candidates(self) -> tuple[Places, Costs]:
        """Places in the pool of this round's candidate pairs, and the distance after the merge of each."""
        if self.filter_cost and self.pool.size < min(self.wanted, self._pairs()):
            self._refill()
        pool = self.pool
        chosen = np.arange(pool.size)
        if self.wanted < pool.size:
            chosen = np.sort(np.argpartition(pool.cost[: pool.size], self.wanted - 1)[: self.wanted])
        unknown = chosen[~pool.known[chosen]]
        if len(unknown):
            self._evaluate(unknown)
        return chosen, self._criterion(chosen)

    def _pairs(self) -> int:
        left = int(self.alive.sum())
        return left * (left - 1) // 2

    def _refill(self) -> None:
        """Put the cheapest pairs into the pool, more than are wanted. Pairs that it has already keep their values."""
        assert self.table is not None
        places = np.flatnonzero(self.alive)
        costs = self.table[places[:, None], places]
        size = min(self.wanted + SPARE * len(places), self._pairs())
        self.cutoff = float(np.partition(costs.ravel(), size - 1)[size - 1])
        first, second = np.nonzero(costs <= self.cutoff)
        costs, first, second = costs[first, second], places[first], places[second]
        fresh = ~np.isin(first * len(self.f) + second, self.pool.keys(len(self.f)))
        self.pool.add(first[fresh], second[fresh], costs[fresh])

    def _evaluate(self, unknown: Places) -> None:
        """Compute <f,φ_m>, <g,φ_m> and ‖D‖² of candidates."""
        pool, parts, f = self.pool, self.parts, self.f
        i, j = pool.first[unknown], pool.second[unknown]
        first, second = parts.take(i), parts.take(j)
        merge = merged(first, second)
        self.state.evaluations += len(unknown)
        # Components of g that are still components of f need not be computed twice.
        both = np.stack([f.weights, f.weights * self.single], axis=1)
        sums = np.empty((len(merge), 2))
        for rows, logs in log_rows(merge, f):
            sums[rows] = self._exp(logs) @ both
        changed = np.flatnonzero(self.alive & ~self.single)
        if len(changed):
            sums[:, 1] += self._against(merge, parts.weights[changed], parts.take(changed))
        pool.fill(unknown, merge, sums[:, 0], sums[:, 1], merge_error(first, second, merge, self.scale))

    def _changes(self, chosen: Places) -> tuple[Costs, Costs, Costs]:
        """The <f,D>, <g,D> and ‖D‖² of candidates."""
        pool, w = self.pool, self.parts.weights
        i, j = pool.first[chosen], pool.second[chosen]
        both = w[i] + w[j]
        with_f = w[i] * self.with_f[i] + w[j] * self.with_f[j] - both * pool.with_f[chosen]
        with_g = w[i] * self.with_g[i] + w[j] * self.with_g[j] - both * pool.with_g[chosen]
        return with_f, with_g, pool.lost[chosen]

    def _criterion(self, chosen: Places) -> Costs:
        with_f, with_g, lost = self._changes(chosen)
        surplus = self.surplus + 2 * with_g - lost
        ise = self.ise + 2 * (with_f - with_g) + lost
        return distance_of(self.kind, self.a, surplus, ise)

    def _merge(self, best: int) -> None:
        pool, parts = self.pool, self.parts
        i, j = int(pool.first[best]), int(pool.second[best])
        with_f, with_g, lost = (float(change[0]) for change in self._changes(np.array([best])))
        self.ise = max(self.ise + 2 * (with_f - with_g) + lost, 0.0)
        self.surplus += 2 * with_g - lost
        new, new_with_f = pool.gaussian(best), float(pool.with_f[best])
        old = parts.take([i, j])
        pool.remove(np.flatnonzero((pool.touches(i)) | (pool.touches(j))))
        self.alive[j] = False
        self.single[[i, j]] = False
        self.state.labels[self.state.labels == j] = i
        taken = _joined(old, new)
        signed = np.array([old.weights[0], old.weights[1], -new.weights[0]])
        others = np.flatnonzero(self.alive)
        others = others[others != i]
        self.with_g[others] -= self._against(parts.take(others), signed, taken)
        known = np.flatnonzero(pool.known[: pool.size])
        if len(known):
            pool.with_g[known] -= self._against(pool.gaussians(known), signed, taken)
        parts.put(i, new)
        self.with_f[i] = new_with_f
        left = np.flatnonzero(self.alive)
        self.with_g[i] = self._against(new, parts.weights[left], parts.take(left))[0]
        self._add_pairs(i, others)

    def _add_pairs(self, i: int, others: np.ndarray) -> None:
        if not len(others):
            return
        first, second = np.minimum(i, others), np.maximum(i, others)
        if self.table is None:
            self.pool.add(first, second)
            return
        assert self.filter_cost is not None
        costs = pair_costs(self.parts, np.array([i]), others, self.filter_cost)
        self.table[first, second] = costs
        near = costs <= self.cutoff
        self.pool.add(first[near], second[near], costs[near])

    def _against(self, rows: Gaussians, weights: np.ndarray, parts: Gaussians | None = None) -> np.ndarray:
        """The sums Σ_k w_k <φ_row, φ_k>, divided by exp(scale)."""
        parts = self.f if parts is None else parts
        sums = np.zeros(len(rows))
        if len(parts) < len(rows):  # the longer side lies along the vector operations
            for some, logs in log_rows(parts, rows):
                sums += weights[some] @ self._exp(logs)
            return sums
        for some, logs in log_rows(rows, parts):
            sums[some] = self._exp(logs) @ weights
        return sums

    def _exp(self, logs: np.ndarray) -> np.ndarray:
        logs -= self.scale
        return np.exp(logs, out=logs)


def merge_error(first: Gaussians, second: Gaussians, merge: Gaussians, scale: float = 0.0) -> Costs:
    """The merge errors ‖D‖² = ∫ (w_i φ_i + w_j φ_j - W φ_m)² dx of aligned pairs, divided by exp(scale)."""
    w, v, both = first.weights, second.weights, merge.weights
    one, two, three = (np.exp(log_self(parts) - scale) for parts in (first, second, merge))
    pairs = ((first, second), (first, merge), (second, merge))
    between, one_merge, two_merge = (np.exp(log_pairs(*pair) - scale) for pair in pairs)
    error = w**2 * one + v**2 * two + both**2 * three
    return np.maximum(error + 2 * (w * v * between - both * (w * one_merge + v * two_merge)), 0.0)


def unit_of(kind: str, scale: float) -> float:
    """The unit of a distance if inner products are divided by exp(scale)."""
    return math.exp({"ise": scale, "l2": scale / 2}.get(kind, 0.0))


def distance_of(
    kind: str, a: float, surplus: Float[np.ndarray, "*pair"], ise: Float[np.ndarray, "*pair"]
) -> Float[np.ndarray, "*pair"]:
    """The distance, computed from a = <f,f>, the surplus a - c and the ISE.

    Computed from b and c alone, the distance of nearly equal mixtures would be lost in rounding.
    """
    c, ise = np.maximum(a - surplus, 1e-30 * a), np.maximum(ise, 0.0)  # c may be lost in rounding if a is large
    if kind in ("ise", "l2"):
        return ise if kind == "ise" else np.sqrt(ise)
    if kind in ("nise", "sqrt_nise"):
        value = ise / (a + c)
        return value if kind == "nise" else np.sqrt(value)
    if kind == "tanimoto":
        return ise / ((a + c + ise) / 2)
    product = np.sqrt(a * c)
    gap = np.clip((ise - (surplus / (np.sqrt(a) + np.sqrt(c))) ** 2) / (2 * product), 0.0, 1.0)
    if kind == "chord":
        return np.sqrt(2 * gap)
    if kind == "cauchy_schwarz":
        with np.errstate(divide="ignore"):
            return -np.log1p(-gap)
    return 2 * np.arcsin(np.sqrt(gap / 2))


def _joined(old: Gaussians, new: Gaussians) -> Gaussians:
    pairs = zip(vars(old).values(), vars(new).values(), strict=True)
    return Gaussians(*(np.concatenate([one, two], axis=-1) for one, two in pairs))
