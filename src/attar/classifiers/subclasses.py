"""Subclasses: which class each belongs to, where they may come from, and how much they say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.core.errors import InputError

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


def subclasses_from_votes(votes: Votes, annotators: int, edges: Sequence[int]) -> tuple[Tensor, Grouping]:
    """Levels of agreement as subclasses: each sample's subclass, and which of two classes each belongs to.

    Args:
        votes: How many annotators called a sample positive.
        annotators: How many there were; an odd number.
        edges: Smallest majorities of the levels but the lowest, in falling order: of seven annotators (6,) parts one
            dissent or none from the rest, (7, 6, 5) makes a level of every majority.

    Raises:
        InputError: An even number of annotators, more votes than those, or edges that are no majorities or do not fall.
    """
    if annotators % 2 == 0:
        raise InputError(f"there are {annotators} annotators; a majority needs an odd number.")
    if len(votes) and not 0 <= int(votes.min()) <= int(votes.max()) <= annotators:
        raise InputError(f"votes go from {int(votes.min())} to {int(votes.max())}, with {annotators} annotators.")
    least = annotators // 2 + 1
    if list(edges) != sorted(set(edges), reverse=True) or any(not least < edge <= annotators for edge in edges):
        raise InputError(f"edges are {tuple(edges)}; they must fall from at most {annotators} to at least {least + 1}.")
    positive = votes >= least
    majority = torch.where(positive, votes, annotators - votes)
    level = torch.stack([majority < edge for edge in edges]).sum(dim=0) if edges else torch.zeros_like(votes)
    levels = len(edges) + 1
    return positive.long() * levels + level, Grouping((0,) * levels + (1,) * levels)


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
