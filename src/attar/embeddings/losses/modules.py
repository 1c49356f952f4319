"""Losses as modules, for any training loop, with the signatures that the ecosystem knows.

Those that take labels are called as in pytorch-metric-learning, `loss(embeddings, labels, indices_tuple=None,
ref_emb=None, ref_labels=None)`, those of two views as `loss(first, second)`. Labels are classes, or rows of 0 and 1 for
samples with several. With `gather` a loss sees the batches of all processes. Everything is computed in single precision
or better, also under autocast.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.embeddings.checks import LEAST_TEMPERATURE, checked_number
from attar.embeddings.gathering import gathered
from attar.embeddings.losses.pairs import Pairs
from attar.embeddings.losses.prototypes import prototypical
from attar.embeddings.losses.queue import MomentumQueue
from attar.embeddings.losses.supervised import sup_con
from attar.embeddings.losses.triplets import Mining, triplet
from attar.embeddings.losses.two_views import barlow_twins, dcl, info_nce, nt_xent
from attar.embeddings.positives import Labels, Numbers, OtherNumbers, Score

Embeddings = Float[Tensor, "sample d"]
Scalar = Float[Tensor, ""]


class _OfViews(nn.Module):
    """A loss of two views. With `gather` the views of all processes are joined first."""

    def __init__(self, temperature: float | Tensor, gather: bool) -> None:
        super().__init__()
        self.temperature, self.gather = _checked_temperature(temperature), gather

    def joined(self, first: Embeddings, second: Embeddings) -> tuple[Tensor, Tensor]:
        """Both views, of all processes if asked for."""
        return gathered(first, second) if self.gather else (first, second)


class NTXent(_OfViews):
    """`nt_xent` as a module: `NTXent(0.5)(first, second)`.

    Args:
        temperature: τ of the similarities: a number, or a tensor of one value.
        gather: Whether the batches of all processes are joined first.
    """

    def __init__(self, temperature: float | Tensor = 0.5, gather: bool = False) -> None:
        super().__init__(temperature, gather)

    def forward(self, first: Embeddings, second: Embeddings) -> Scalar:
        """The loss of two views of each sample."""
        first, second = self.joined(first, second)
        return nt_xent(first, second, self.temperature)


class DCL(_OfViews):
    """`dcl` as a module, DCLW with a `sigma`: `DCL(0.1)(first, second)`.

    Args:
        temperature: τ of the similarities.
        sigma: Width σ of the weights of the positives (DCLW). None: DCL without weights.
        gather: Whether the batches of all processes are joined first.
    """

    def __init__(self, temperature: float = 0.1, sigma: float | None = None, gather: bool = False) -> None:
        super().__init__(temperature, gather)
        self.sigma = sigma

    def forward(self, first: Embeddings, second: Embeddings) -> Scalar:
        """The loss of two views of each sample."""
        first, second = self.joined(first, second)
        return dcl(first, second, self.temperature, self.sigma)


class InfoNCE(_OfViews):
    """`info_nce` as a module, with a queue of its own if it has a size: `InfoNCE(0.1, queue=4096, width=128)(q, k)`.

    A batch is compared with the queue and put into it afterwards, in training mode.

    Args:
        temperature: τ of the similarities: a number, or a tensor of one value.
        queue: Number of keys in the queue; 0: no queue.
        width: Size of an embedding, which a queue needs.
        gather: Whether the batches of all processes are joined first.
        generator: Where the first, random keys of the queue are drawn from. Default: the global generator.

    Raises:
        InputError: There is a queue, and no width.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        queue: int = 0,
        width: int | None = None,
        gather: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(temperature, gather)
        if queue and width is None:
            raise InputError(f"queue is {queue}, but width is missing: give the size of an embedding.")
        self.queue = MomentumQueue(queue, width or 1, generator) if queue else None

    def forward(self, query: Embeddings, key: Embeddings) -> Scalar:
        """The loss of queries with their keys."""
        query, key = self.joined(query, key)
        if self.queue is None:
            return info_nce(query, key, self.temperature)
        loss = info_nce(query, key, self.temperature, self.queue.keys)
        if self.training:
            self.queue.add_(key)
        return loss


class BarlowTwins(nn.Module):
    """`barlow_twins` as a module: `BarlowTwins()(first, second)`.

    Args:
        weight: λ of what is off the diagonal.
        gather: Whether the batches of all processes are joined first.
    """

    def __init__(self, weight: float = 5e-3, gather: bool = False) -> None:
        super().__init__()
        self.weight, self.gather = weight, gather

    def forward(self, first: Embeddings, second: Embeddings) -> Scalar:
        """The loss of two views of each sample."""
        if self.gather:
            first, second = gathered(first, second)
        return barlow_twins(first, second, self.weight)


class SupCon(nn.Module):
    """`sup_con` as a module, with the signature of pytorch-metric-learning: `SupCon(0.1)(embeddings, labels)`.

    Labels may be rows of 0 and 1: `SupCon(0.1, positives="jaccard", threshold=0.5)`, or with `weighted=True`.

    Args:
        temperature: τ of the similarities: a number, or a tensor of one value.
        positives: Which labels make positives: equal ones, or those that overlap, by Jaccard's score or
            another.
        threshold: The least score of a positive. By default every overlap is enough.
        weighted: Whether the score is the weight of a positive.
        inside: Whether the mean over positives stands inside the logarithm (the authors' "in").
        gather: Whether the batches of all processes are joined first.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        positives: Score = "equal",
        threshold: float | None = None,
        weighted: bool = False,
        inside: bool = False,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.temperature, self.gather = _checked_temperature(temperature), gather
        self.positives, self.threshold, self.weighted, self.inside = positives, threshold, weighted, inside

    def forward(
        self,
        embeddings: Embeddings,
        labels: Labels | None = None,
        indices_tuple: Pairs | None = None,
        ref_emb: Float[Tensor, "candidate d"] | None = None,
        ref_labels: Labels | None = None,
        *,
        samples: Numbers | None = None,
        ref_samples: OtherNumbers | None = None,
    ) -> Scalar:
        """The loss of a batch.

        Raises:
            InputError: As `sup_con`; or pairs are given together with `gather`.
        """
        if self.gather and indices_tuple is not None:
            raise InputError("indices_tuple counts the rows of one process; with gather=True give labels instead.")
        if self.gather:
            embeddings, labels, samples = gathered(embeddings, labels, samples)
            ref_emb, ref_labels, ref_samples = gathered(ref_emb, ref_labels, ref_samples)
        return sup_con(
            embeddings,
            labels,
            self.temperature,
            positives=self.positives,
            threshold=self.threshold,
            weighted=self.weighted,
            inside=self.inside,
            samples=samples,
            indices_tuple=indices_tuple,
            ref_emb=ref_emb,
            ref_labels=ref_labels,
            ref_samples=ref_samples,
        )


class Triplet(nn.Module):
    """`triplet` as a module: `Triplet(0.05, mining="semi-hard")(embeddings, labels)`.

    Args:
        margin: By how much a negative should be farther away.
        mining: Which triplets count: "all", "hard" or "semi-hard".
        squared: Whether distances are squared.
        normalise: Whether embeddings are first scaled to length one.
        gather: Whether the batches of all processes are joined first.
    """

    def __init__(
        self,
        margin: float = 0.05,
        mining: Mining = "all",
        squared: bool = False,
        normalise: bool = True,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.margin, self.mining, self.squared, self.normalise = margin, mining, squared, normalise
        self.gather = gather

    def forward(
        self,
        embeddings: Embeddings,
        labels: Int[Tensor, " sample"] | None = None,
        indices_tuple: Pairs | None = None,
        ref_emb: Float[Tensor, "candidate d"] | None = None,
        ref_labels: Int[Tensor, " candidate"] | None = None,
    ) -> Scalar:
        """The loss of a batch.

        Raises:
            InputError: As `triplet`; or triplets are given together with `gather`.
        """
        if self.gather and indices_tuple is not None:
            raise InputError("indices_tuple counts the rows of one process; with gather=True give labels instead.")
        if self.gather:
            embeddings, labels, ref_emb, ref_labels = gathered(embeddings, labels, ref_emb, ref_labels)
        how: dict[str, Any] = {"squared": self.squared, "normalise": self.normalise, "mining": self.mining}
        others: dict[str, Any] = {"indices_tuple": indices_tuple, "ref_emb": ref_emb, "ref_labels": ref_labels}
        return triplet(embeddings, labels, self.margin, **how, **others)


class Prototypical(nn.Module):
    """`prototypical` as a module; the support samples are the references.

    `Prototypical(squared=False)(queries, labels, ref_emb=support, ref_labels=support_labels)`.

    Args:
        squared: Whether Euclidean distances are squared.
        temperature: T, by which distances are divided.
    """

    def __init__(self, squared: bool = True, temperature: float = 1.0) -> None:
        super().__init__()
        self.squared, self.temperature = squared, float(_checked_temperature(temperature))

    def forward(
        self,
        embeddings: Float[Tensor, "query d"],
        labels: Int[Tensor, " query"],
        indices_tuple: None = None,
        ref_emb: Float[Tensor, "support d"] | None = None,
        ref_labels: Int[Tensor, " support"] | None = None,
    ) -> Scalar:
        """The loss of an episode.

        Raises:
            InputError: As `prototypical`, or there are no references.
        """
        if ref_emb is None or ref_labels is None:
            raise InputError("prototypes need support samples: give them as ref_emb and ref_labels.")
        return prototypical(embeddings, labels, ref_emb, ref_labels, self.squared, self.temperature)


def _checked_temperature(temperature: float | Tensor) -> float | Tensor:
    if not isinstance(temperature, Tensor):
        return checked_number("temperature", temperature, least=LEAST_TEMPERATURE)
    if temperature.numel():
        checked_number("temperature", float(temperature.detach().min()), least=LEAST_TEMPERATURE)
    return temperature
