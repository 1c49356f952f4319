"""From easy to hard: an epoch has the samples on which annotators agreed, later ones those on which they did not too.

The abstract of SKD calls its subclasses curriculum style; that the order of training follows them could not be read in
its text. So it is a setting that is off, and how soon the hard ones come is ours.
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
    """How hard each sample is: 0 where all annotators agree, one more for every dissent.

    Args:
        votes: How many annotators called a sample positive.
        annotators: How many there were; an odd number.

    Raises:
        InputError: An even number of annotators, or more votes than those.
    """
    return annotators - majorities(votes, annotators)[1]


def levels_of_subclasses(subclasses: Levels, grouping: Grouping) -> Levels:
    """The place of each sample's subclass in its class: how hard it is, where `subclasses_from_votes` made it."""
    places = [grouping.group[:number].count(owner) for number, owner in enumerate(grouping.group)]
    return torch.tensor(places)[subclasses.cpu()]


def easy_to_hard(levels: Levels, epoch: int, epochs: int, *, share: float = 0.5, seed: int = 0) -> Levels:
    """The samples of an epoch, in random order: those of the easiest levels, one level more after equal times.

    Every epoch has as many samples as there are; while hard ones are out, the others come again. The last level is in
    after `share` of the epochs.

    Args:
        levels: How hard each sample is; the easiest first, and not every number need occur.
        epoch: Which epoch, from 0.
        epochs: How many there are.
        share: Of the epochs, after which all levels are in.
        seed: Of the order.

    Raises:
        InputError: No samples.
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
    """The same for a PyTorch `DataLoader` or a Trainer: `DataLoader(data, sampler=EasyToHard(levels, epochs))`.

    Each time it is gone through is one epoch more; `set_epoch` says which comes next.

    Args:
        levels: How hard each sample is (`levels_of_votes`).
        epochs: How many there will be.
        share: Of the epochs, after which all levels are in.
        seed: Of the order.
    """

    def __init__(self, levels: Levels, epochs: int, *, share: float = 0.5, seed: int = 0) -> None:
        self.levels, self.epochs, self.share, self.seed = levels, epochs, share, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next, from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.levels)

    def __iter__(self) -> Iterator[int]:
        rows = easy_to_hard(self.levels, self.epoch, self.epochs, share=self.share, seed=self.seed)
        self.epoch += 1
        return iter(rows.tolist())
