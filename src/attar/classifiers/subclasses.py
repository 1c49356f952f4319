"""Subclasses: which class each belongs to, where they may come from, and how much they say."""

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
    """Which class each subclass belongs to; classes may have different numbers of them.

    Raises:
        InputError: A class without a subclass.
    """

    group: tuple[int, ...]
    """The class of each subclass."""

    def __post_init__(self) -> None:
        if not self.group or min(self.group) < 0:
            raise InputError("a grouping names the class, from 0 on, of every subclass.")
        empty = set(range(self.classes)) - set(self.group)
        if empty:
            raise InputError(f"class {min(empty)} has no subclass; each class needs one or more.")

    @classmethod
    def of(cls, members: Sequence[Sequence[int]]) -> "Grouping":
        """From the subclasses of each class.

        Raises:
            InputError: Groups that overlap, are empty, or leave out a subclass.
        """
        named = [subclass for group in members for subclass in group]
        if any(not group for group in members):
            raise InputError("a class has no subclass; each class needs one or more.")
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
        """How many classes there are."""
        return max(self.group) + 1

    @property
    def sizes(self) -> list[int]:
        """How many subclasses each class has."""
        return [self.group.count(number) for number in range(self.classes)]

    def labels(self, subclasses: Int[Tensor, " sample"]) -> Int[Tensor, " sample"]:
        """The classes of subclass labels."""
        return torch.tensor(self.group, device=subclasses.device)[subclasses]

    def class_logits(self, logits: SubclassLogits) -> ClassLogits:
        """Z_c = log Σ_{j in c} exp a_j: their softmax is the sum of the subclasses' probabilities."""
        places = torch.tensor(self.group, device=logits.device)
        parts = [logits[:, places == number].logsumexp(dim=1) for number in range(self.classes)]
        return torch.stack(parts, dim=1)

    def bias(self) -> Float[Tensor, " subclass"]:
        """-log of each subclass's number of siblings: added to a head, classes of any size begin alike."""
        return torch.tensor([-math.log(self.group.count(number)) for number in self.group])


def majorities(votes: Votes, annotators: int) -> tuple[Votes, Votes]:
    """Whether most annotators called each sample positive, 1 or 0; and how many were of the majority.

    Raises:
        InputError: An even number of annotators, or more votes than those.
    """
    if annotators % 2 == 0:
        raise InputError(f"there are {annotators} annotators; a majority needs an odd number.")
    if len(votes) and not 0 <= int(votes.min()) <= int(votes.max()) <= annotators:
        raise InputError(f"votes go from {int(votes.min())} to {int(votes.max())}, with {annotators} annotators.")
    positive = votes > annotators // 2
    return positive.long(), torch.where(positive, votes, annotators - votes)


def subclasses_from_votes(votes: Votes, annotators: int, edges: Sequence[int] | str = "two") -> tuple[Tensor, Grouping]:
    """Levels of agreement as subclasses: each sample's subclass, and which of two classes each belongs to.

    Args:
        votes: How many annotators called a sample positive.
        annotators: How many there were; an odd number.
        edges: Smallest majorities of the levels but the lowest, in falling order: of seven annotators (6,) parts one
            dissent or none from the rest, which is "two", and (7, 6, 5) makes a level of every majority, "every". How
            many the paper has could not be read.

    Raises:
        InputError: An even number of annotators, more votes than those, or edges that are no majorities or do not fall.
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
        partition: Only rows of this partition (train, test).
        columns: Headers of the pictures' names, of the votes, and of the partitions; the votes' is the one that begins
            with "Number of Annotators" unless given.

    Raises:
        InputError: No such file or column, or votes that are no whole numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing.")
    with path.open(newline="") as file:
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
        raise InputError(f"{path.name} has votes that are no whole numbers, in column {votes!r}.") from None


def label_bits(subclasses: Int[Tensor, " sample"], grouping: Grouping) -> float:
    """H₂(Y_sub) - H₂(Y): bits a sample that subclass labels say beyond class labels."""
    found = torch.bincount(subclasses, minlength=len(grouping.group)).double()
    owners = torch.tensor(grouping.group)
    totals = torch.zeros(grouping.classes, dtype=torch.float64).index_add_(0, owners, found)
    return float(_entropy_bits(found / found.sum()) - _entropy_bits(totals / totals.sum()))


def soft_bits(logits: SubclassLogits, grouping: Grouping, temperature: float = 1.0) -> float:
    """E[H₂(p) - H₂(P)]: bits a sample that a teacher's answers about subclasses say beyond those about classes."""
    subclass = F.softmax(logits.double() / temperature, dim=1)
    owners = torch.tensor(grouping.group, device=logits.device)
    classes = subclass.new_zeros(len(logits), grouping.classes).index_add_(1, owners, subclass)
    return float((_entropy_bits(subclass) - _entropy_bits(classes)).mean())


@dataclass(frozen=True)
class Information:
    """Bits a sample that subclasses say beyond classes; the papers give 0.4656 by a formula that could not be read."""

    soft: float
    """By what a network answers (`soft_bits`), at temperature one."""
    softened: float
    """The same at the temperature of the distillation."""
    label: float | None
    """By the labels, where they are subclasses (`label_bits`)."""


def information(
    logits: SubclassLogits, grouping: Grouping, temperature: float = 4.0, labels: Int[Tensor, " sample"] | None = None
) -> Information:
    """Both measures at once, of a teacher's answers to the training set.

    Args:
        logits: The teacher's.
        grouping: The class of each subclass.
        temperature: Of the distillation.
        labels: The samples' subclasses, where they are known.
    """
    label = None if labels is None else label_bits(labels, grouping)
    return Information(soft_bits(logits, grouping), soft_bits(logits, grouping, temperature), label)


def _entropy_bits(probabilities: Float[Tensor, "*sample value"]) -> Float[Tensor, "*sample"]:
    return torch.special.entr(probabilities).sum(dim=-1) / math.log(2)


def clustered(
    embeddings: Float[Tensor, "sample feature"], labels: Int[Tensor, " sample"], subclasses: int, seed: int = 0
) -> tuple[Int[Tensor, " sample"], Grouping]:
    """Subclasses by k-means within each class, on a teacher's features: each sample's, and their classes.

    The cheap rival of a teacher that discovers them.

    Raises:
        InputError: More subclasses than a class has samples.
    """
    from sklearn.cluster import KMeans

    found, classes = torch.zeros_like(labels), int(labels.max()) + 1
    for number in range(classes):
        rows = torch.nonzero(labels == number).flatten()
        if len(rows) < subclasses:
            raise InputError(f"class {number} has {len(rows)} samples, which make no {subclasses} subclasses.")
        clusters = KMeans(subclasses, n_init=10, random_state=seed).fit_predict(embeddings[rows].double().numpy())
        found[rows] = number * subclasses + torch.from_numpy(clusters).long()
    return found, Grouping(tuple(number for number in range(classes) for _ in range(subclasses)))
