"""Views of rows of a table: some features come from other training rows, and noise.

Bahri, Jiang, Tay and Metzler, SCARF: Self-Supervised Contrastive Learning using Random Feature Corruption, ICLR 2022,
arXiv:2106.15147.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

Table = Float[Tensor, "row feature"]
SampleRows = Float[Tensor, "sample feature"]


def corrupted(rows: SampleRows, table: Table, share: float, generator: torch.Generator) -> SampleRows:
    """Replace ⌊c M⌋ of the M features of each row, but at least one, each by the value of a row of its own.

    So a value is drawn from the feature's own distribution, whatever the others are.

    Args:
        rows: The rows.
        table: All training rows.
        share: c, the share of features that are replaced.
        generator: The generator that draws features and rows.
    """
    count, features = rows.shape
    replaced = max(1, int(share * features + 1e-9)) if share else 0
    if not replaced:
        return rows
    places = torch.rand(count, features, generator=generator).topk(replaced, dim=1).indices
    donors = torch.randint(len(table), (count, replaced), generator=generator)
    return with_values(rows, places, table[donors.to(table.device), places.to(table.device)])


def with_values(
    rows: SampleRows, places: Int[Tensor, "sample replaced"], values: Float[Tensor, "sample replaced"]
) -> SampleRows:
    """Rows with these values at these features."""
    return rows.scatter(1, places.to(rows.device), values.to(rows))
