"""Train from easy to hard: first the samples on which annotators agreed, later those on which they disagreed.

The abstract of SKD calls its subclasses curriculum style. Its text could not be read, so it is not known whether the
order of training follows them. Therefore this is a setting that is off, and its timing is our choice.
Sajedi, Lawryshyn and Plataniotis, Subclass Knowledge Distillation with Known Subclass Labels, IVMSP 2022,
arXiv:2207.08063.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch.utils.data import Sampler

from attar.classifiers.subclasses import Grouping, majorities
from attar.core.errors import InputError
from attar.core.seeds import permutation

Levels = Int[torch.Tensor, " sample"]


def levels_of_votes(votes: Levels, annotators: int) -> Levels:
    """The level of each sample: 0 if all annotators agree, and one more for every dissenting vote.

    Args:
        votes: Number of annotators who called a sample positive.
        annotators: Number of annotators, which is odd.

    Raises:
        InputError: The number of annotators is even, or there are more votes than annotators.
    """
    return annotators - majorities(votes, annotators)[1]


def levels_of_subclasses(subclasses: Levels, grouping: Grouping) -> Levels:
    """The position of each sample's subclass in its class.

    It is the level if `subclasses_from_votes` made the subclasses.
    """
    places = [grouping.group[:number].count(owner) for number, owner in enumerate(grouping.group)]
    return torch.tensor(places)[subclasses.cpu()]


def easy_to_hard(levels: Levels, epoch: int, epochs: int, *, share: float = 0.5, seed: int = 0) -> Levels:
    """The samples of an epoch in random order: first of the easiest level, with one more level after equal times.

    Every epoch has as many samples as the data set. While hard samples are not included yet, easy ones are repeated.
    After
    `share` of the epochs the last level is included.

    Args:
        levels: Level of each sample, the easiest first; some numbers may be missing.
        epoch: Number of the epoch, from 0.
        epochs: Number of epochs.
        share: Share of the epochs after which all levels are included.
        seed: Seed of the order.

    Raises:
        InputError: There are no samples.
    """
    if not len(levels):
        raise InputError("there are no samples to order from easy to hard.")
    known = levels.unique()
    many = len(known) if share == 0 else min(len(known), 1 + int(epoch * (len(known) - 1) / (share * epochs)))
    rows = (levels <= known[many - 1]).nonzero().flatten()
    rounds = range(-(-len(levels) // len(rows)))
    drawn = [rows[permutation(seed, f"easy to hard {epoch} {number}", len(rows))] for number in rounds]
    return torch.cat(drawn)[: len(levels)]


class EasyToHard(Sampler[int]):
    """A sampler from easy to hard for a PyTorch `DataLoader`: `DataLoader(data, sampler=EasyToHard(levels, epochs))`.

    Each iteration over it is the next epoch; `set_epoch` selects the epoch.

    Args:
        levels: Level of each sample (`levels_of_votes`).
        epochs: Number of epochs.
        share: Share of the epochs after which all levels are included.
        seed: Seed of the order.
    """

    def __init__(self, levels: Levels, epochs: int, *, share: float = 0.5, seed: int = 0) -> None:
        self.levels, self.epochs, self.share, self.seed = levels, epochs, share, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the next epoch, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.levels)

    def __iter__(self) -> Iterator[int]:
        rows = easy_to_hard(self.levels, self.epoch, self.epochs, share=self.share, seed=self.seed)
        self.epoch += 1
        return iter(rows.tolist())
