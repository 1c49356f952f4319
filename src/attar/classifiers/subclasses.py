"""Subclasses: the class of each, ways to obtain them, and the information that they add."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError, unknown

SubclassLogits = Float[Tensor, "sample subclass"]
ClassLogits = Float[Tensor, "sample classes"]
Votes = Int[Tensor, " sample"]


@dataclass(frozen=True)
class Grouping:
    """The class of each subclass. Classes may have different numbers of subclasses.

    Raises:
        InputError: A class has no subclass.
    """

    group: tuple[int, ...]
    """The class of each subclass."""

    def __post_init__(self) -> None:
        if not self.group or min(self.group) < 0:
            raise InputError(
                "a grouping is empty or names a class below 0. Name the class, from 0 on, of every subclass."
            )
        empty = set(range(self.classes)) - set(self.group)
        if empty:
            raise InputError(f"class {min(empty)} has no subclass. Give each class at least one.")

    @classmethod
    def of(cls, members: Sequence[Sequence[int]]) -> "Grouping":
        """The grouping with the given subclasses of each class.

        Raises:
            InputError: Groups overlap, are empty, or omit a subclass.
        """
        named = [subclass for group in members for subclass in group]
        if any(not group for group in members):
            raise InputError("a class has no subclass. Give each class at least one.")
        twice = sorted({subclass for subclass in named if named.count(subclass) > 1})
        if twice:
            raise InputError(f"subclass {twice[0]} is in more than one class.")
        missing = sorted(set(range(max(named) + 1)) - set(named))
        if missing:
            raise InputError(f"subclass {missing[0]} is in no class.")
        owner = {subclass: number for number, group in enumerate(members) for subclass in group}
        return cls(tuple(owner[subclass] for subclass in range(len(named))))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return max(self.group) + 1

    @property
    def sizes(self) -> list[int]:
        """Number of subclasses of each class."""
        return [self.group.count(number) for number in range(self.classes)]

    def labels(self, subclasses: Int[Tensor, " sample"]) -> Int[Tensor, " sample"]:
        """The classes of subclass labels."""
        return torch.tensor(self.group, device=subclasses.device)[subclasses]

    def class_logits(self, logits: SubclassLogits) -> ClassLogits:
        """Z_c = log Σ_{j in c} exp a_j. The softmax of Z sums the probabilities of the subclasses."""
        parts = [logits[:, self._subclasses(number)].logsumexp(dim=1) for number in range(self.classes)]
        return torch.stack(parts, dim=1)

    def _subclasses(self, number: int) -> slice | list[int]:
        """The subclasses of a class: a slice where they lie at equal distances, for which a GPU does not wait."""
        found = [subclass for subclass, owner in enumerate(self.group) if owner == number]
        step = found[1] - found[0] if len(found) > 1 else 1
        evenly = slice(found[0], found[-1] + 1, step)
        return evenly if list(range(len(self.group))[evenly]) == found else found

    def bias(self) -> Float[Tensor, " subclass"]:
        """-log of the number of subclasses in each subclass's class.

        Added to a head, it makes all classes equally likely at first.
        """
        return torch.tensor([-math.log(self.group.count(number)) for number in self.group])


def majorities(votes: Votes, annotators: int) -> tuple[Votes, Votes]:
    """Whether most annotators called each sample positive (1 or 0), and how many annotators were in the majority.

    Raises:
        InputError: The number of annotators is even, or there are more votes than annotators.
    """
    if annotators % 2 == 0:
        raise InputError(f"there are {annotators} annotators, but a majority needs an odd number.")
    if len(votes) and not 0 <= int(votes.min()) <= int(votes.max()) <= annotators:
        raise InputError(
            f"votes go from {int(votes.min())} to {int(votes.max())}, but there are {annotators} annotators."
        )
    positive = votes > annotators // 2
    return positive.long(), torch.where(positive, votes, annotators - votes)


def subclasses_from_votes(votes: Votes, annotators: int, edges: Sequence[int] | str = "two") -> tuple[Tensor, Grouping]:
    """Make subclasses from levels of agreement: return each sample's subclass, and the class (0 or 1) of each subclass.

    Args:
        votes: Number of annotators who called a sample positive.
        annotators: Number of annotators, which is odd.
        edges: Smallest majority of each level except the lowest, in falling order. With seven annotators (6,), or
            "two", separates at most one dissenting vote from more; (7, 6, 5), or "every", makes a level of every
            majority. The number of levels in the paper could not be read.

    Raises:
        InputError: The number of annotators is even, there are more votes than annotators, or edges are not majorities
            in falling order.
    """
    positive, majority = majorities(votes, annotators)
    least = annotators // 2 + 1
    if isinstance(edges, str):
        named = {"two": (annotators - 1,), "every": tuple(range(annotators, least, -1))}
        if edges not in named:
            raise unknown("levels of agreement", edges, named)
        edges = named[edges]
    if list(edges) != sorted(set(edges), reverse=True) or any(not least < edge <= annotators for edge in edges):
        raise InputError(f"edges are {tuple(edges)}; they must fall from at most {annotators} to at least {least + 1}.")
    level = torch.stack([majority < edge for edge in edges]).sum(dim=0) if edges else torch.zeros_like(votes)
    levels = len(edges) + 1
    return positive * levels + level, Grouping((0,) * levels + (1,) * levels)


def votes_in(
    path: str | Path, *, partition: str | None = None, columns: tuple[str, str, str] = ("Image Name", "", "Partition")
) -> dict[str, int]:
    """The votes of each picture from a table of annotations, such as MHIST's `annotations.csv`.

    Args:
        path: A file of comma-separated values with a header.
        partition: Read only rows of this partition (train, test).
        columns: Headers of the pictures' names, of the votes, and of the partitions. Default for the votes: the header
            that begins with "Number of Annotators".

    Raises:
        InputError: There is no such file or column, or votes are not whole numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing.")
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        headers = list(table.fieldnames or [])
        counted = [name for name in headers if name.startswith("Number of Annotators")]
        picture, votes, part = columns[0], columns[1] or (counted or ["Number of Annotators"])[0], columns[2]
        for wanted in (picture, votes, *([part] if partition else [])):
            if wanted not in headers:
                raise unknown(f"column of {path.name}", wanted, headers)
        rows = [row for row in table if partition is None or row[part] == partition]
    try:
        return {row[picture]: int(row[votes]) for row in rows}
    except (TypeError, ValueError):
        raise InputError(f"{path.name} has votes that are not whole numbers, in column {votes!r}.") from None


def label_bits(subclasses: Int[Tensor, " sample"], grouping: Grouping) -> float:
    """H₂(Y_sub) - H₂(Y): bits per sample that subclass labels add to class labels."""
    found = torch.bincount(subclasses, minlength=len(grouping.group)).double()
    owners = torch.tensor(grouping.group)
    totals = torch.zeros(grouping.classes, dtype=torch.float64).index_add_(0, owners, found)
    return float(_entropy_bits(found / found.sum()) - _entropy_bits(totals / totals.sum()))


def soft_bits(logits: SubclassLogits, grouping: Grouping, temperature: float = 1.0) -> float:
    """E[H₂(p) - H₂(P)]: bits per sample that a teacher's outputs for subclasses add to those for classes."""
    subclass = F.softmax(logits.double() / temperature, dim=1)
    owners = torch.tensor(grouping.group, device=logits.device)
    classes = subclass.new_zeros(len(logits), grouping.classes).index_add_(1, owners, subclass)
    return float((_entropy_bits(subclass) - _entropy_bits(classes)).mean())


@dataclass(frozen=True)
class Information:
    """Bits per sample that subclasses add to classes. The papers give 0.4656 by a formula that could not be read."""

    soft: float
    """Bits from a network's outputs (`soft_bits`) at temperature 1."""
    softened: float
    """Bits from a network's outputs at the temperature of the distillation."""
    label: float | None
    """Bits from the labels, if the labels are subclasses (`label_bits`)."""


def information(
    logits: SubclassLogits, grouping: Grouping, temperature: float = 4.0, labels: Int[Tensor, " sample"] | None = None
) -> Information:
    """Both measures, for a teacher's outputs on the training set.

    Args:
        logits: The teacher's logits.
        grouping: The class of each subclass.
        temperature: Temperature of the distillation.
        labels: The samples' subclasses, if they are known.
    """
    label = None if labels is None else label_bits(labels, grouping)
    return Information(soft_bits(logits, grouping), soft_bits(logits, grouping, temperature), label)


def _entropy_bits(probabilities: Float[Tensor, "*sample value"]) -> Float[Tensor, "*sample"]:
    return torch.special.entr(probabilities).sum(dim=-1) / math.log(2)


def clustered(
    embeddings: Float[Tensor, "sample feature"], labels: Int[Tensor, " sample"], subclasses: int, seed: int = 0
) -> tuple[Int[Tensor, " sample"], Grouping]:
    """Find subclasses by k-means within each class, on a teacher's features.

    Return each sample's subclass and the grouping.

    This is the cheap alternative to a teacher that discovers subclasses.

    Raises:
        InputError: There are more subclasses than samples of a class.
    """
    from sklearn.cluster import KMeans

    found, classes = torch.zeros_like(labels), int(labels.max()) + 1
    for number in range(classes):
        rows = torch.nonzero(labels == number).flatten()
        if len(rows) < subclasses:
            raise InputError(f"class {number} has {len(rows)} samples, too few for {subclasses} subclasses.")
        clusters = KMeans(subclasses, n_init=10, random_state=seed).fit_predict(embeddings[rows].double().numpy())
        found[rows] = number * subclasses + torch.from_numpy(clusters).long()
    return found, Grouping(tuple(number for number in range(classes) for _ in range(subclasses)))
