"""Brute force: try every partition of the components into groups, merge each group, and keep the best partition.

Merging alone cannot do better, so this is a reference for small mixtures. There are 42,525 partitions of 10 components
into 5 groups, and 1.3 million of 12 components into 6 groups.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from attar.core.errors import InputError
from attar.core.seeds import Generators
from attar.mixtures.gaussians import Gaussians, log_self, log_table
from attar.mixtures.greedy import distance_of, unit_of
from attar.mixtures.merging import merge_groups, merge_shares
from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.oggmr import Criterion
from attar.mixtures.reduction import Reducer, Reduction

MOST_COMPONENTS, MOST_PARTITIONS = 12, 2_000_000
AT_ONCE = 20_000


@dataclass(frozen=True, kw_only=True)
class BruteForce(Reducer):
    """Find the best of all partitions into merged groups, by any distance."""

    criterion: Criterion = "angle"
    """Distance to the original that selects the best partition."""

    name = "brute-force"

    def check(self, f: GaussianMixture) -> None:
        """Refuse a search that would take too long, before anything is computed.

        Raises:
            InputError: There are too many components or too many partitions.
        """
        count = partitions(f.n_components, self.n_components)
        if f.n_components > MOST_COMPONENTS or count > MOST_PARTITIONS:
            raise InputError(
                f"{f.n_components} components into {self.n_components} are {count:,} partitions; brute-force takes at "
                f"most {MOST_COMPONENTS} components and {MOST_PARTITIONS:,} partitions. Use oggmr."
            )

    def search(self, f: GaussianMixture, generators: Generators) -> Reduction:
        """Merge every subset once, then sum the inner products for every partition."""
        n, parts = f.n_components, Gaussians.of(f)
        subsets = ((np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1).astype(float)  # row s - 1 is the subset s
        merged = Gaussians.of(merge_shares(f, torch.from_numpy(subsets.T)))
        scale = float(log_self(parts).max())
        gram = np.exp(log_table(merged, merged) - scale) * merged.weights * merged.weights[:, None]
        target = np.exp(log_table(merged, parts) - scale) @ parts.weights * merged.weights
        a = float(parts.weights @ np.exp(log_table(parts, parts) - scale) @ parts.weights)
        best, value, tried = np.zeros(n, dtype=np.int64), math.inf, 0
        for labels in portions(n, self.n_components):
            members = (labels[:, :, None] == np.arange(self.n_components)) * (1 << np.arange(n))[:, None]
            groups = members.sum(axis=1) - 1
            b = target[groups].sum(axis=1)
            c = gram[groups[:, :, None], groups[:, None, :]].sum(axis=(1, 2))
            values = distance_of(self.criterion, a, a - c, a - 2 * b + c)
            tried += len(labels)
            if values.min() < value:
                best, value = labels[values.argmin()], float(values.min())
        assignment = torch.from_numpy(best.astype(np.int64))
        trace = (value * unit_of(self.criterion, scale),)
        return Reduction(merge_groups(f, assignment, self.n_components), assignment, trace, tried)


def partitions(n: int, groups: int) -> int:
    """Stirling number of the second kind S(n, L): the number of ways to divide n items into L non-empty groups."""
    terms = ((-1) ** (groups - k) * math.comb(groups, k) * k**n for k in range(groups + 1))
    return sum(terms) // math.factorial(groups)


def portions(n: int, groups: int) -> Iterator[Int[np.ndarray, "partition component"]]:
    """Yield every partition once, as labels, in batches. A component may open only the next new group."""
    front = [np.zeros((1, 1), dtype=np.int8)]
    while front:
        labels = front.pop()
        length = labels.shape[1]
        if length == n:
            yield labels
            continue
        used = labels.max(axis=1) + 1
        grown = [
            np.column_stack([labels[may], np.full(may.sum(), label, dtype=np.int8)])
            for label in range(groups)
            if (may := (label <= used) & (np.maximum(used, label + 1) + n - length - 1 >= groups)).any()
        ]
        together = np.concatenate(grown)
        front += [together[start : start + AT_ONCE] for start in range(0, len(together), AT_ONCE)]
