"""Selection by class: numbers of samples per class, herding, K-center, k-means, and the base of selection methods.

Herding (Welling, Herding Dynamical Weights to Learn, ICML 2009); greedy K-center (Sener and Savarese, ICLR 2018,
arXiv:1708.00489); k-means, and the samples nearest to its centres. All work on features, with one row per sample.
"""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings

Features = Float[Tensor, "sample feature"]
Rows = Int[Tensor, " _row"]  # underscored: every class has its own number
PerClass = Annotated[int, Range(1)] | tuple[Annotated[int, Range(1)], ...]
"""Samples per class: one number for all classes, or one for each."""


@dataclass
class Chosen:
    """A finished choice."""

    chosen: Any
    """What was chosen, class after class."""
    source: Any
    """What it was chosen from."""


class Selection(Settings):
    """What methods share that choose: everything happens in `build`, and there is nothing to step."""

    @abstractmethod
    def select(self, source: Any, runtime: Runtime) -> Any:
        """What is chosen, class after class."""

    def resolve(self, source: Any, runtime: Runtime) -> Self:
        """Nothing is left open."""
        return self

    def work(self, source: Any) -> float:
        """Nothing worth compiling."""
        return 0.0

    @property
    def total_steps(self) -> int:
        """None."""
        return 0

    def build(self, source: Any, runtime: Runtime) -> Chosen:
        """Choose."""
        return Chosen(self.select(source, runtime), source)

    def step(self, state: Any, runtime: Runtime) -> Any:
        """There is no step."""
        raise NotImplementedError

    def result(self, state: Any, runtime: Runtime) -> Any:
        """What was chosen."""
        return state.chosen


# ----------------------------------------------------------------------------------------------- how many of each class


def per_class(count: PerClass, classes: int, setting: str = "count") -> tuple[int, ...]:
    """The number of samples of each of so many classes.

    Args:
        count: One number for all classes, or one for each.
        classes: How many there are.
        setting: What the number is called, for the refusal.

    Raises:
        InputError: Numbers for more or fewer classes.
    """
    if isinstance(count, int):
        return (count,) * classes
    if len(count) != classes:
        what = f"{setting} has {len(count)} numbers for {classes} classes"
        raise InputError(f"{what}. Give one number for all classes, or one for each class.")
    return count


def labels_of(count: PerClass, classes: int) -> Int[Tensor, " sample"]:
    """The labels of so many samples of each class, class after class."""
    return torch.arange(classes).repeat_interleave(torch.tensor(per_class(count, classes)))


def proportional(rows_of: Sequence[Rows], count: int) -> tuple[int, ...]:
    """Samples per class in proportion to what each class has: `count` on average, at least one each.

    `DM(ipc=proportional(source.rows_of, 10))` keeps the balance of an imbalanced training set, where a plain
    `DM(ipc=10)` gives a class of ten images as many as a class of a thousand.
    """
    return in_proportion(rows_of, count * len(rows_of))


def in_proportion(rows_of: Sequence[Rows], samples: int) -> tuple[int, ...]:
    """So many samples in all, from each class in proportion to what it has, at least one each.

    By largest remainders, the earlier class first among equal ones; whoever would get less than one gets one, and the
    others share the rest.

    Args:
        rows_of: The rows of each class.
        samples: How many in all; at least as many as there are classes.
    """
    sizes = [len(rows) for rows in rows_of]
    sharing, left = list(range(len(sizes))), samples
    while small := [c for c in sharing if left * sizes[c] < sum(sizes[other] for other in sharing)]:
        sharing, left = [c for c in sharing if c not in small], left - len(small)
    together = sum(sizes[c] for c in sharing)
    counts = [left * size // together if c in sharing else 1 for c, size in enumerate(sizes)]
    by_remainder = sorted(sharing, key=lambda c: -(left * sizes[c] % together))
    for c in by_remainder[: samples - sum(counts)]:
        counts[c] += 1
    return tuple(counts)


def check_enough(count: PerClass, source: Any, *, setting: str, samples: str) -> None:
    """Refuse to choose more samples than a class has; the class that lacks most is named.

    Args:
        count: Samples per class.
        source: Has a name, `classes` and `rows_of`.
        setting: What the number is called: "ipc".
        samples: What there is of each class: "images".

    Raises:
        InputError: More than a class has, or numbers for more or fewer classes.
    """
    wanted = per_class(count, len(source.classes), setting=setting)
    classes = [(len(rows), *one) for rows, *one in zip(source.rows_of, wanted, source.classes, strict=True)]
    have, asked, name = min(classes, key=lambda one: one[0] - one[1])
    if asked > have:
        raise InputError(
            f"{setting} is {asked}, but class {name!r} of {source.name} has {have} {samples}. "
            f"Give {have} or fewer, a number for each class, or start a learning method from noise (--start noise)."
        )


# ------------------------------------------------------------------------------------------------- rows, class by class


def rows_by_class(labels: Int[Tensor, " sample"], classes: Iterable[int]) -> tuple[Rows, ...]:
    """The rows of each of these classes, in order."""
    return tuple(torch.nonzero(labels == label).flatten() for label in classes)


def shuffled(rows: Rows, generator: torch.Generator) -> Rows:
    """The same rows in random order."""
    return rows[torch.randperm(len(rows), generator=generator)]


def draw_by_class(rows_of: Sequence[Rows], count: PerClass, generator: torch.Generator) -> list[Rows]:
    """`count` different rows of each class, or all of a smaller class; each class by itself."""
    counts = per_class(count, len(rows_of))
    return [shuffled(rows, generator)[:wanted] for rows, wanted in zip(rows_of, counts, strict=True)]


def draw_rows(rows_of: Sequence[Rows], count: PerClass, generator: torch.Generator) -> Rows:
    """`count` different rows of each class, or all of a smaller class, class after class."""
    return torch.cat(draw_by_class(rows_of, count, generator))


# ------------------------------------------------------------------------------------------------ choosing by features


def herding(features: Features, count: int) -> Int[Tensor, " {count}"]:
    """Herding: step t takes the i not yet taken that minimises ‖t·m - Σ taken - zᵢ‖, m the mean of all z."""
    mean, total = features.mean(dim=0), torch.zeros_like(features[0])
    taken: list[int] = []
    for t in range(1, count + 1):
        distances = (t * mean - total - features).norm(dim=1)
        distances[taken] = torch.inf
        taken.append(int(distances.argmin()))
        total = total + features[taken[-1]]
    return torch.tensor(taken)


def k_center(features: Features, count: int) -> Int[Tensor, " {count}"]:
    """Greedy K-center: the sample nearest to the mean, then always the one farthest from those taken."""
    taken = [int((features - features.mean(dim=0)).norm(dim=1).argmin())]
    gaps = (features - features[taken[0]]).norm(dim=1)
    while len(taken) < count:
        gaps[taken] = -torch.inf
        taken.append(int(gaps.argmax()))
        gaps = torch.minimum(gaps, (features - features[taken[-1]]).norm(dim=1))
    return torch.tensor(taken)


def k_means(features: Features, count: int, generator: torch.Generator) -> Float[Tensor, "{count} feature"]:
    """Centres by scikit-learn's k-means++ and Lloyd."""
    import sklearn.cluster

    seed = int(torch.randint(2**31, (), generator=generator))
    model = sklearn.cluster.KMeans(count, n_init=3, random_state=seed).fit(features.double().numpy())
    return torch.from_numpy(model.cluster_centers_).to(features)


def nearest(features: Features, centres: Float[Tensor, "centre feature"]) -> Int[Tensor, " centre"]:
    """For each centre in turn the nearest sample that no centre before it has taken."""
    distances = torch.cdist(centres, features)
    taken: list[int] = []
    for row in distances:
        row[taken] = torch.inf
        taken.append(int(row.argmin()))
    return torch.tensor(taken)
