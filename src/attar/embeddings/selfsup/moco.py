"""MoCo: tell the other view of a sample from a queue of earlier ones, whose encoder follows the trained one slowly.

Worth it where memory does not allow large batches: the number of negatives is the queue's length, not the batch's.
He, Fan, Wu, Xie and Girshick, Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020,
arXiv:1911.05722. With a projector of two layers and stronger augmentation it is MoCo v2: Chen, Fan, Girshick and He,
Improved Baselines with Momentum Contrastive Learning, arXiv:2003.04297.

Batch norm lets a query find its key by the statistics that both were normalised with. The paper computes keys in other
groups than queries, on several GPUs; here they are computed in parts of the batch (`key_parts`), each with its own
statistics. With group norm in the encoder (`--encoder convnet:norm=group`) there is nothing to see to.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Self

import torch
from torch import Tensor, nn

from attar.core import presets
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range, Settings
from attar.embeddings.averages import follow_
from attar.embeddings.heads import Projector
from attar.embeddings.learner import About, Batch, Learner, Learning, Terms
from attar.embeddings.losses.queue import MomentumQueue
from attar.embeddings.losses.two_views import info_nce
from attar.embeddings.sources import Inputs, Source

USUAL_QUEUE = 4096


@dataclass(frozen=True, kw_only=True)
class Momentum(Settings):
    """Settings of the slow encoder, and of the queue of what it makes."""

    encoder_momentum: Annotated[float, Range(0, 1)] = 0.99
    """Momentum m of the encoder of keys, which follows the trained one: 0.99 on CIFAR-10, 0.999 on ImageNet."""
    queue: Annotated[int, Range(1)] | None = None
    """Number of keys in the queue, all of them negatives. Default: 4,096, but at most a quarter of the samples."""
    both_ways: bool = False
    """Whether each view is a query once and a key once, at twice the cost."""
    key_parts: Annotated[int, Range(1)] = 4
    """Parts of the batch in which keys are computed, each with batch-norm statistics of its own. 1: the whole."""

    def resolve(self, samples: int) -> Self:
        """The length of the queue for so many samples.

        Raises:
            InputError: It is longer than there are samples, so that most anchors would meet themselves in it.
        """
        if self.queue is None:
            return replace(self, queue=max(1, min(USUAL_QUEUE, samples // 4)))
        if self.queue > samples:
            raise InputError(
                f"queue is {self.queue:,}, but there are {samples:,} samples, and each would be its own negative. "
                f"Give --queue {max(1, samples // 4)}."
            )
        return self

    def memory(self, size: int) -> MomentumQueue:
        """A fresh queue of keys of a size."""
        return MomentumQueue(self.queue or USUAL_QUEUE, size)

    def queries_and_keys(self, projector: str, batch: Batch, state: Learning) -> tuple[Tensor, Tensor]:
        """Projections of queries, and of the key of each, by the slow encoder, which follows first.

        Args:
            projector: The name of the head that projects.
            batch: Two views.
            state: The encoder, its heads, and their slow copies under the same names and `encoder`.
        """
        for name, slow in state.slow.items():
            follow_(slow, state.encoder if name == "encoder" else state.heads[name], self.encoder_momentum)
        first, second = batch.views
        asked = (first, second) if self.both_ways else (first,)
        queries = state.heads[projector](state.encoder(torch.cat(asked)))
        keys = [self._keys(view, projector, state) for view in (second, first)[: len(asked)]]
        return queries, torch.cat(keys, dim=-2)

    @torch.no_grad()
    def _keys(self, view: Inputs, projector: str, state: Learning) -> Tensor:
        """The keys of a view. No part has less than two samples, because batch norm cannot take one."""
        parts = view.tensor_split(max(1, min(self.key_parts, len(view) // 2)))
        encoder, head = state.slow["encoder"].train(), state.slow[projector].train()
        return torch.cat([head(encoder(part)) for part in parts], dim=-2)


@dataclass(frozen=True, kw_only=True)
class MoCo(Learner):
    """Find the other view among a queue of others (He et al., CVPR 2020, arXiv:1911.05722)."""

    contrast_temperature: Annotated[float, Range(0.001)] = 0.1
    """Temperature τ of the contrast."""
    projector: Projector = field(default_factory=Projector)
    keys: Momentum = field(default_factory=Momentum)

    name = "moco"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published cell: `imagenet-v1`, `imagenet-v2` or `cifar10`."""
        return presets.published(cls, data)

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data, with the length of the queue."""
        found = super().resolve(source, runtime)
        return replace(found, keys=self.keys.resolve(found.samples))

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The projector."""
        return {"projector": self.projector.build(width)}

    def memories(self, width: int, about: About) -> dict[str, nn.Module]:
        """The queue."""
        return {"queue": self.keys.memory(self.projector.projected)}

    def followers(self, state: Learning) -> dict[str, nn.Module]:
        """Encoder and projector of keys."""
        return {"encoder": state.encoder, "projector": state.heads["projector"]}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """InfoNCE of queries with their keys, against the queue."""
        queries, keys = self.keys.queries_and_keys("projector", batch, state)
        state.handed["keys"] = keys
        queue = state.memory["queue"]
        assert isinstance(queue, MomentumQueue)
        return {"contrast": info_nce(queries, keys, self.contrast_temperature, queue.keys)}

    def settle(self, batch: Batch, state: Learning) -> None:
        """Put the keys into the queue, in the place of the oldest."""
        queue = state.memory["queue"]
        assert isinstance(queue, MomentumQueue)
        queue.add_(state.handed.pop("keys"))
