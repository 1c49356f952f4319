"""Episodes: few-shot tasks drawn from labelled samples, whose support and query never share a sample.

An episode has `way` classes, with `shot` support and `query` query samples of each, class after class. The released
code of SuSana Distancia draws them apart, so that a query can be one of the supports; here both come from one draw.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError
from attar.core.precision import at_least_float32

Rows = Int[Tensor, " _row"]
ClassLabels = Int[Tensor, " _sample"]


class Episode(NamedTuple):
    """Rows of one episode."""

    support: Rows
    """`[way × shot]`, class after class."""
    query: Rows
    """`[way × query]`, class after class, in the same order of classes."""


class Pool:
    """The samples that episodes of one size are drawn from. Classes with too few samples are left out."""

    def __init__(
        self, labels: Any, way: int, shot: int, query: int, *, query_labels: Any = None, name: str = "the samples"
    ) -> None:
        """Sort the samples by class.

        Args:
            labels: The class of each sample, as a sequence, array or tensor of whole numbers, not negative.
            way: Classes of an episode.
            shot: Support samples of each class.
            query: Query samples of each class, which may be none.
            query_labels: Classes of other samples, of which all queries are drawn. Rows of queries count in them.
            name: What the samples are called in messages.

        Raises:
            InputError: Labels that are no classes, or fewer classes with enough samples than an episode has.
        """
        self.way, self.shot, self.query = _count("way", way, 1), _count("shot", shot, 1), _count("query", query, 0)
        self.apart = query_labels is not None
        support = _by_class(class_labels(labels))
        self._queries = _by_class(class_labels(query_labels)) if self.apart else support
        enough = {label for label, rows in support.items() if len(rows) >= shot + (0 if self.apart else query)}
        enough &= {label for label, rows in self._queries.items() if len(rows) >= query}
        self.classes = sorted(enough)
        """Classes that have enough samples."""
        self.left_out = sorted({*support, *self._queries} - enough)
        """Classes that have too few."""
        self._support = support
        if len(self.classes) < way:
            classes = f"{way} class{'es' if way > 1 else ''}"
            raise InputError(
                f"an episode has {classes} with {self._needed} each, but {self._there} in {name}. "
                "Ask for fewer classes or fewer samples of each."
            )

    @property
    def _needed(self) -> str:
        if self.apart:
            return f"{_samples(self.shot)} and {self.query} in the pool of queries"
        return _samples(self.shot + self.query)

    @property
    def _there(self) -> str:
        count, others = len(self.classes), len(self.left_out)
        there = f"there are {count} such classes" if count > 1 else f"there is {('no', 'one')[count]} such class"
        return there + (f", and {others} with fewer," if others else "")

    @property
    def note(self) -> str:
        """A sentence about the classes that are left out; empty if there are none."""
        if not self.left_out:
            return ""
        some = ", ".join(map(str, self.left_out[:5])) + (", ..." if len(self.left_out) > 5 else "")
        count = len(self.left_out)
        what = f"{count} class{'es have' if count > 1 else ' has'} fewer than {self._needed}"
        return f"{what} and {'are' if count > 1 else 'is'} in no episode: {some}."

    def drawn(self, generator: torch.Generator) -> Episode:
        """One episode."""
        picked = torch.randperm(len(self.classes), generator=generator)[: self.way].tolist()
        supports, queries = [], []
        for label in (self.classes[place] for place in picked):
            rows = self._support[label]
            order = rows[torch.randperm(len(rows), generator=generator)]
            supports.append(order[: self.shot])
            if self.apart:
                others = self._queries[label]
                queries.append(others[torch.randperm(len(others), generator=generator)[: self.query]])
            else:
                queries.append(order[self.shot : self.shot + self.query])
        return Episode(torch.cat(supports), torch.cat(queries))


def episodes(
    labels: Any,
    way: int,
    shot: int,
    query: int,
    count: int,
    generator: torch.Generator,
    *,
    query_labels: Any = None,
    say: Callable[[str], None] | None = None,
) -> Iterator[Episode]:
    """Draw episodes from labels alone. Every class is equally likely, whatever its number of samples.

    Args:
        labels: The class of each sample.
        way: Classes of an episode.
        shot: Support samples of each class.
        query: Query samples of each class.
        count: How many episodes.
        generator: Draws them, on the CPU.
        query_labels: Classes of other samples, of which all queries are drawn. Rows of queries count in them.
        say: Told of classes that have too few samples and are left out.

    Returns:
        Pairs of rows of `way * shot` supports and of `way * query` queries, each class after class.

    Raises:
        InputError: Labels that are no classes, or fewer classes with enough samples than an episode has.
    """
    pool = Pool(labels, way, shot, query, query_labels=query_labels)
    if say is not None and pool.note:
        say(pool.note)
    return (pool.drawn(generator) for _ in range(count))


def class_major(way: int, each: int) -> Int[Tensor, " sample"]:
    """The labels of samples that lie class after class."""
    return torch.arange(way).repeat_interleave(each)


def episode_prototypes(support: Float[Tensor, "_sample d"], way: int) -> Float[Tensor, "way d"]:
    """Prototypes: the mean of the support of each class, which lies class after class."""
    return at_least_float32(support).view(way, -1, support.shape[1]).mean(dim=1)


def class_labels(labels: Any) -> ClassLabels:
    """Classes as a tensor of whole numbers.

    Raises:
        InputError: They are not one whole number, at least zero, for each sample.
    """
    found = labels if isinstance(labels, Tensor) else torch.as_tensor(labels)
    if found.ndim != 1:
        raise InputError(f"labels have shape {tuple(found.shape)}; episodes need one class for each sample.")
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise InputError(f"labels are {str(found.dtype).removeprefix('torch.')}; give whole numbers, one per sample.")
    found = found.cpu().long()
    negative = (found < 0).nonzero().flatten()
    if len(negative):
        row = int(negative[0])
        raise InputError(f"the label of sample {row} is {int(found[row])}; a class is a whole number from zero.")
    return found


def _by_class(labels: ClassLabels) -> dict[int, Rows]:
    """The rows of each class that has any."""
    order = labels.argsort(stable=True)
    found, sizes = labels[order].unique_consecutive(return_counts=True)
    return dict(zip(found.tolist(), order.split(sizes.tolist()), strict=True))


def _count(name: str, value: int, least: int) -> int:
    if value < least:
        raise InputError(f"{name} is {value}; an episode needs at least {least}.")
    return value


def _samples(count: int) -> str:
    return f"{count} sample{'s' if count != 1 else ''}"
