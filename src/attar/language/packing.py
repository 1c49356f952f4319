"""Packing: several short examples in one row, which do not see each other.

Positions start again with every example. Where they do, and neither a mask nor a cache is given, transformers keeps
attention within the examples. The loss is that of the examples apart: nothing foretells the first token of an example.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.language.chunkers import NONE
from attar.language.generation import accepted, answering
from attar.language.losses import UNCOUNTED
from attar.language.models import device_of
from attar.language.tokens import Batch, Ids

Rows = Int[Tensor, "row place"]


@dataclass(frozen=True)
class Packed:
    """Rows of several sequences."""

    ids: Rows
    positions: Rows
    """Of each token in its own sequence, from 0. Padding is at position 0."""
    labels: Rows
    """The tokens of the responses; `UNCOUNTED` elsewhere, and at the start of each sequence."""
    spans: Rows | None = None
    """The number of each token's span."""

    @property
    def inputs(self) -> dict[str, Any]:
        """What a model is given. With a cache it would read across the sequences."""
        return {"input_ids": self.ids, "position_ids": self.positions, "use_cache": False}

    def to(self, device: torch.device) -> "Packed":
        """The same rows on a device."""
        spans = None if self.spans is None else self.spans.to(device)
        return Packed(self.ids.to(device), self.positions.to(device), self.labels.to(device), spans)


def rows_for(lengths: list[int], longest: int) -> list[list[int]]:
    """Which sequences share a row: each, from the longest on, goes into the first row that has room for it.

    Args:
        lengths: Tokens of each sequence.
        longest: Tokens of a row. A longer sequence has a row of its own.

    Returns:
        The numbers of the sequences of each row.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        row = next((row for row, left in enumerate(room) if left >= lengths[number]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(longest)
        rows[row].append(number)
        room[row] -= lengths[number]
    return rows


def packed(batch: Batch, longest: int) -> Packed:
    """The sequences of a batch in rows of at most so many tokens."""
    lengths, labels = batch.lengths.tolist(), batch.labels
    labels[:, :1] = UNCOUNTED
    rows = rows_for(lengths, longest)
    width = max(sum(lengths[number] for number in row) for row in rows)
    position = torch.arange(batch.ids.shape[1])

    def joined(values: Ids, padding: int) -> Rows:
        found = torch.full((len(rows), width), padding, dtype=torch.long)
        for row, numbers in enumerate(rows):
            parts = [values[number, : lengths[number]] for number in numbers]
            whole = torch.cat(parts)
            found[row, : len(whole)] = whole
        return found

    return Packed(
        joined(batch.ids, int(batch.ids[0, 0])),
        joined(position.expand_as(batch.ids), 0),
        joined(labels, UNCOUNTED),
        None if batch.spans is None else joined(batch.spans, NONE),
    )


@torch.no_grad()
def check_packs(model: nn.Module, who: str, words: int) -> None:
    """Check, with a few tokens, that a model keeps the sequences of a row apart.

    Args:
        model: A causal model.
        who: What it is, for the message.
        words: Size of the vocabulary.

    Raises:
        InputError: It does not: its family takes no positions, or it reads on from one sequence into the next.
    """
    refused = InputError(f"--packing does not work with the {who}: {type(model).__name__} reads across the examples.")
    if "position_ids" not in accepted(model):
        raise refused
    one, other, last = ([number % words for number in ids] for ids in ([0, 1, 2], [3, 4, 5], [1, 2]))
    device = device_of(model)
    with answering(model):
        after = [_logits_after(model, first, last, device) for first in (one, other)]
        alone = model(input_ids=torch.tensor([last], device=device), use_cache=False).logits[0].float()
    near = 1e-2 if next(model.parameters()).element_size() < 4 else 1e-4
    same = [torch.allclose(found, alone, rtol=0, atol=near * float(alone.abs().max()) + 1e-6) for found in after]
    if not all(same) or not torch.allclose(after[0], after[1], rtol=1e-5, atol=1e-6):
        raise refused


def _logits_after(model: nn.Module, first: list[int], last: list[int], device: torch.device) -> Tensor:
    """Logits of a sequence that follows another one in its row, the first of two rows."""
    ids = torch.tensor([[*first, *last], [*last, *first]], device=device)
    counts = [[*range(len(first)), *range(len(last))], [*range(len(last)), *range(len(first))]]
    found: Tensor = model(input_ids=ids, position_ids=torch.tensor(counts, device=device), use_cache=False).logits
    return found[0, len(first) :].float()
