"""Histogram binning: the probability of a class is replaced by the class's share in its bin.

Simple, and calibrated on average by construction. But a bin has one value only, so samples in it can no longer be
sorted, and twenty rows a bin are needed. It may change predictions.
Zadrozny and Elkan, Obtaining calibrated probability estimates from decision trees and naive Bayesian classifiers, ICML
2001.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from attar.classifiers.calibration.calibration import Calibration, Labels, Learned, Logits, Views
from attar.classifiers.calibration.onevsrest import normalised
from attar.core.errors import InputError
from attar.core.settings import Range

Edges = Float[Tensor, "classes edge"]


@dataclass(frozen=True, kw_only=True)
class HistogramBinning(Calibration):
    """Replace the probability of each class by its share in a bin (Zadrozny and Elkan, ICML 2001).

    q_k = share of class k among the calibration rows in the bin of p_k; p' = q / Σ q.
    """

    bins: Annotated[int, Range(2)] = 15
    """Number of bins."""
    bins_of: Literal["width", "mass"] = "width"
    """What all bins have in common: their width, or the number of calibration rows in them (mass)."""

    name = "histogram"
    keeps_order = False

    def learn(self, logits: Logits, labels: Labels, views: Views, generator: torch.Generator) -> Learned:
        """Inner edges and values of the bins of each class.

        Raises:
            InputError: There are fewer rows than bins.
        """
        if len(logits) < self.bins:
            raise InputError(
                f"{len(logits)} calibration rows do not fill {self.bins} bins. Give fewer bins or more rows."
            )
        p, classes = logits.softmax(dim=1).T.contiguous(), logits.shape[1]
        even = torch.arange(1, self.bins, dtype=p.dtype) / self.bins
        edges = even.repeat(classes, 1) if self.bins_of == "width" else between(p, self.bins)
        places = torch.searchsorted(edges, p)
        right = (labels == torch.arange(classes)[:, None]).to(p)
        counts = torch.zeros(classes, self.bins, dtype=p.dtype).scatter_add_(1, places, torch.ones_like(p))
        hits = torch.zeros_like(counts).scatter_add_(1, places, right)
        ends = torch.cat([torch.zeros(classes, 1), edges, torch.ones(classes, 1)], dim=1)
        middle = (ends[:, 1:] + ends[:, :-1]) / 2
        return {"edges": edges, "values": torch.where(counts > 0, hits / counts.clamp_min(1), middle)}

    def calibrated(self, learned: Learned, logits: Logits, views: Views) -> Logits:
        """The logarithm of the bins' values over their sum."""
        places = torch.searchsorted(learned["edges"], logits.detach().softmax(dim=1).T.contiguous())
        return normalised(learned["values"].gather(1, places).T, logits)


def between(values: Float[Tensor, "classes sample"], bins: int) -> Edges:
    """Inner edges of bins with equally many values, ±1, in the middle between the values beside them."""
    ordered, count = values.sort(dim=1).values, values.shape[1]
    first = torch.tensor([-(-count * n // bins) for n in range(1, bins)])
    return (ordered[:, first - 1] + ordered[:, first]) / 2
