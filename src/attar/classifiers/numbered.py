"""Samples with numbers, for methods that remember something for each sample: a loader shuffles and hides the numbers.

An item of `Numbered` has its number under `attar_row`. `WithRows` passes the numbers of a batch on, even if the
collator
or the Trainer would drop them.
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
    """A data set whose items carry their number.

    Args:
        samples: Items by number, as dictionaries; a data set of PyTorch or of `datasets`.

    Raises:
        InputError: The data set can only be iterated, so it has no numbers.
    """

    def __init__(self, samples: Any) -> None:
        by_number = hasattr(samples, "__getitem__") and hasattr(samples, "__len__")
        if isinstance(samples, IterableDataset) or not by_number:
            raise InputError(f"{type(samples).__name__} has no numbered samples. Give a data set with a length.")
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.samples[row], ROW: row}

    def labels(self, collate: Collate) -> Int[Tensor, " sample"]:
        """The labels of all samples, in one pass, under the name where a collator finds them."""
        parts = torch.arange(len(self)).split(AT_ONCE)
        return torch.cat([collate([self[row] for row in rows.tolist()])["labels"].cpu() for rows in parts])


class WithRows:
    """A collator that adds the numbers of the samples to a batch, if the samples have numbers."""

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Any]) -> Any:
        """Collate the samples of a batch."""
        if not all(isinstance(sample, Mapping) and ROW in sample for sample in samples):
            return self.collate(samples)
        batch = self.collate([{name: value for name, value in s.items() if name != ROW} for s in samples])
        batch[ROW] = torch.tensor([sample[ROW] for sample in samples])
        return batch
