"""Samples that bring their numbers, for what is remembered of each: a loader shuffles them and does not tell.

An item of `Numbered` has its place under `attar_row`, and `WithRows` hands those of a batch on, whatever the collator
and the Trainer would have dropped.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from attar.core.errors import InputError

ROW = "attar_row"
Collate = Callable[[Sequence[Any]], Any]
AT_ONCE = 256


class Numbered(Dataset[dict[str, Any]]):
    """A data set whose items say which they are.

    Args:
        samples: Items by number, as dictionaries; of PyTorch or of `datasets`.

    Raises:
        InputError: One that is only gone through, and has no numbers.
    """

    def __init__(self, samples: Any) -> None:
        by_number = hasattr(samples, "__getitem__") and hasattr(samples, "__len__")
        if isinstance(samples, IterableDataset) or not by_number:
            raise InputError(f"{type(samples).__name__} has no numbered samples; give a data set with a length.")
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.samples[row], ROW: row}

    def labels(self, collate: Collate) -> Int[Tensor, " sample"]:
        """The labels of all samples, in one pass, by whatever name a collator finds them."""
        parts = torch.arange(len(self)).split(AT_ONCE)
        return torch.cat([collate([self[row] for row in rows.tolist()])["labels"].cpu() for rows in parts])


class WithRows:
    """A collator whose batches have the numbers of their samples, where those have some."""

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Any]) -> Any:
        """A batch."""
        if not all(isinstance(sample, Mapping) and ROW in sample for sample in samples):
            return self.collate(samples)
        batch = self.collate([{name: value for name, value in s.items() if name != ROW} for s in samples])
        batch[ROW] = torch.tensor([sample[ROW] for sample in samples])
        return batch
