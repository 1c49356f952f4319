"""Batches of P classes with K samples each, from plain arrays of labels, for any data loader."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Sampler

from attar.core.errors import InputError
from attar.core.seeds import permutation
from attar.core.selection import rows_by_class
from attar.embeddings.positives import checked_labels

Rows = Int[Tensor, " row"]


class ClassBatches(Sampler[list[int]]):
    """Batches of some classes with equally many samples of each, so that every anchor has positives.

    Use it as `batch_sampler` of PyTorch's `DataLoader`. An epoch depends on nothing but the seed and its number. A
    class deals out all its samples before one comes again, within an epoch; one with fewer than K repeats some. Of
    samples with several labels, a class takes those that the batch does not hold yet, where it has enough; samples
    without a label are never drawn.
    """

    def __init__(
        self,
        labels: Any,
        classes_per_batch: int,
        samples_per_class: int,
        seed: int = 0,
        batches: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            labels: The class of each sample, or for each a row of 0 and 1: a list, an array or a tensor.
            classes_per_batch: P.
            samples_per_class: K.
            seed: Seed of all that is drawn.
            batches: Batches of an epoch. By default as many as the samples fill, and at least one.

        Raises:
            InputError: Labels are negative or not whole, there are fewer classes than P, or a number is below 1.
        """
        numbers = {"classes_per_batch": classes_per_batch, "samples_per_class": samples_per_class}
        for name, value in (numbers if batches is None else {**numbers, "batches": batches}).items():
            if value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1.")
        self.classes_per_batch, self.samples_per_class, self.seed = classes_per_batch, samples_per_class, seed
        known = checked_labels(labels if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))).cpu()
        self.several = known.ndim == 2
        self.rows_of = _rows_of(known)
        if len(self.rows_of) < classes_per_batch:
            raise InputError(
                f"classes_per_batch is {classes_per_batch}, but the labels are of {len(self.rows_of)} classes."
            )
        self.epoch = 0
        self._batches = batches or max(1, len(known) // (classes_per_batch * samples_per_class))

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the next epoch."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        return iter(self.rows_at(epoch).view(len(self), -1).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, as when a run is resumed."""
        self.epoch = epoch

    def rows_at(self, epoch: int) -> Rows:
        """The rows of all batches of an epoch, one batch after the other."""
        dealers = [
            _Dealer(rows[permutation(self.seed, f"class {number} of epoch {epoch}", len(rows))].tolist())
            for number, rows in enumerate(self.rows_of)
        ]
        found: list[int] = []
        for batch in range(len(self)):
            order = permutation(self.seed, f"classes of batch {batch} of epoch {epoch}", len(dealers))
            held: set[int] = set()
            for number in order[: self.classes_per_batch].tolist():
                dealt = dealers[number].deal(self.samples_per_class, held if self.several else set())
                held.update(dealt)
                found += dealt
        return torch.tensor(found)


class _Dealer:
    """The samples of one class in a fixed order, dealt round and round."""

    def __init__(self, rows: list[int]) -> None:
        self.rows, self.place = rows, 0

    def deal(self, count: int, held: set[int]) -> list[int]:
        """The next samples that are not held; others only where there are too few."""
        found: list[int] = []
        for _ in range(len(self.rows)):
            if len(found) == count:
                return found
            row = self._next()
            if row not in held:
                found.append(row)
        while len(found) < count:
            found.append(self._next())
        return found

    def _next(self) -> int:
        row = self.rows[self.place % len(self.rows)]
        self.place += 1
        return row


def _rows_of(labels: Tensor) -> Sequence[Rows]:
    """The rows of each class that has any."""
    if labels.ndim == 2:
        return [rows for column in labels.T if len(rows := column.nonzero().flatten())]
    return rows_by_class(labels, labels.unique().tolist())
