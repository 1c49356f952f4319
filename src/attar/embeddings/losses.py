"""Losses of embeddings, for any training loop: functions of tensors, and modules with the ecosystem's signatures."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def nt_xent(
    first: Float[Tensor, "sample d"], second: Float[Tensor, "sample d"], temperature: float = 0.5
) -> Float[Tensor, ""]:
    """NT-Xent of two views (placeholder)."""
    z = F.normalize(torch.cat([first, second]).float())
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    n = len(first)
    return F.cross_entropy(logits, torch.arange(2 * n, device=z.device).roll(n))
