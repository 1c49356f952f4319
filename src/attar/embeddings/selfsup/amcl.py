"""AMCL: several heads on one encoder, and a learned temperature for every pair and head.

It adds to SimCLR, MoCo, SimSiam or Barlow Twins (`framework`). A positive is modelled as a normal variable around the
other view, whose variance is the temperature: -s/τ + Ω(τ) is the negative log-likelihood, Ω(τ) = (d/2) log τ + 1/τ.
Prefer it where augmentation is strong, so that pairs differ in how alike they are. Several heads alone, `adaptive` off,
carry most of the gain that is reported.
Wang, Koniusz, Gedeon and Zheng, Adaptive Multi-head Contrastive Learning, ECCV 2024, arXiv:2310.05615.

The objective is unbounded below in the temperatures, so its value means something only together with their range.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor, nn

from attar.core import presets
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.precision import without_autocast
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.embeddings.heads import Projector
from attar.embeddings.learner import About, Batch, Learner, Learning, Terms
from attar.embeddings.losses.queue import MomentumQueue
from attar.embeddings.losses.two_views import correlations
from attar.embeddings.selfsup.amcl_losses import (
    Gathered,
    amcl_barlow,
    amcl_moco,
    amcl_simclr,
    amcl_simsiam,
    off_diagonal,
)
from attar.embeddings.selfsup.barlow import whole_batches
from attar.embeddings.selfsup.moco import Momentum
from attar.embeddings.selfsup.multihead import (
    ConstantTemperature,
    Heads,
    PairTemperature,
    directions,
    share_at_bounds,
)
from attar.embeddings.selfsup.simsiam import predictor, spread, still_cosine
from attar.embeddings.sources import Source

Framework = Literal["simclr", "moco", "simsiam", "barlow"]
BETA: dict[Framework, float] = {"simclr": 0.1, "moco": 0.1, "simsiam": 1e-4, "barlow": 1e-6}
"""Weights of the regulariser; the last two are those of the authors' code."""


@dataclass(frozen=True, kw_only=True)
class AMCL(Learner):
    """Several heads, and a temperature for every pair (Wang et al., ECCV 2024, arXiv:2310.05615)."""

    framework: Framework = "simclr"
    """What it adds to: SimCLR, MoCo, SimSiam or Barlow Twins. The last two have batch norm in their heads."""
    heads: Annotated[int, Range(1)] = 3
    """Number C of heads; the paper found 3 to 5 best."""
    adaptive: bool = True
    """Whether every pair has a temperature of its own. If not, all have that of the contrast, without a regulariser."""
    contrast_temperature: Annotated[float, Range(0.001)] | None = None
    """Temperature τ of the contrast; adaptive ones start there. Default: 0.2, and 1 with SimSiam and Barlow Twins."""
    temperature_range: tuple[float, ...] | None = None
    """Smallest and largest temperature that can be learned. Default: 0.05 1, with SimSiam and Barlow Twins 0.05 2. The
    released code has 1e-5 2, at which logits reach 100,000."""
    uncertainty_weight: Annotated[float, Range(0)] | None = None
    """Weight β of the regulariser Ω(τ). 1 is the exact likelihood. Default: 0.1, with SimSiam 1e-4, with Barlow Twins,
    where it is summed over all pairs of features, 1e-6."""
    per_dimension: bool = False
    """Whether β is divided by the size of a projection, d. Ω grows with d, so a β fits only one d otherwise."""
    negatives_by: Gathered = "softmax"
    """How negatives are gathered, with SimCLR and MoCo: a softmax over all, the mean of the hardest, or the hardest
    alone. max is the paper's formula and topk its code's; in our runs both fell below raw pixels, softmax did not."""
    hardest: Annotated[int, Range(1)] = 8
    """Number κ of the hardest negatives, with topk."""
    positive_among: bool | None = None
    """Whether the positive is among the candidates of the softmax or the hardest. Default: of the softmax only."""
    regularise_negatives: bool = False
    """Whether the softmax also has -β times the mean Ω of its candidates. topk and max always have that of theirs."""
    hardest_summed: bool = False
    """Whether topk has -β Σ (log τ + 1/τ) in the place of -β times the mean Ω of the hardest, as the released code."""
    redundancy_weight: Annotated[float, Range(0)] = 5e-3
    """Weight λ of the squared correlations of different features, with Barlow Twins."""
    predictor_width: Annotated[int, Range(1)] = 64
    """Units of the predictor's hidden layer, with SimSiam."""
    single_wide: bool = False
    """Whether one head with C times the hidden units takes the place of C heads: as many weights, the fair rival."""
    projector: Projector = field(default_factory=Projector)
    keys: Momentum = field(default_factory=Momentum)

    name = "amcl"

    def __post_init__(self) -> None:
        super().__post_init__()
        between = self.span
        if len(between) != 2 or not 0 < between[0] <= between[1]:
            told = " ".join(f"{one:g}" for one in between) or "empty"
            raise InputError(f"temperature_range is {told}; give the smallest, above 0, and the largest: 0.05 1.")
        if self.adaptive and between[0] < between[1] and not between[0] < self.start < between[1]:
            raise InputError(
                f"contrast_temperature is {self.start:g}; adaptive temperatures must start between the smallest, "
                f"{between[0]:g}, and the largest, {between[1]:g}."
            )

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published cell: the framework, as in `cifar10-moco`."""
        return presets.published(cls, data)

    @property
    def steps_per_epoch(self) -> int:
        """Steps per epoch; with Barlow Twins those of whole batches."""
        return whole_batches(self) if self.framework == "barlow" else super().steps_per_epoch

    @property
    def start(self) -> float:
        """Where temperatures start."""
        usual = 0.2 if self.framework in ("simclr", "moco") else 1.0
        return usual if self.contrast_temperature is None else self.contrast_temperature

    @property
    def span(self) -> tuple[float, ...]:
        """The range of temperatures."""
        usual = (0.05, 1.0 if self.framework in ("simclr", "moco") else 2.0)
        return usual if self.temperature_range is None else self.temperature_range

    @property
    def beta(self) -> float:
        """β, as the objectives take it."""
        if not self.adaptive:
            return 0.0
        given = BETA[self.framework] if self.uncertainty_weight is None else self.uncertainty_weight
        return given / (self.projector.projected if self.per_dimension else 1)

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data, with the length of the queue."""
        found = super().resolve(source, runtime)
        return replace(found, keys=self.keys.resolve(found.samples)) if self.framework == "moco" else found

    # ------------------------------------------------------------------------------------------------------ its modules

    @property
    def count(self) -> int:
        """How many heads there are."""
        return 1 if self.single_wide else self.heads

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The heads, the temperature of pairs, and the predictors of SimSiam."""
        wide = self.projector.projector_width * (self.heads if self.single_wide else 1)
        normed = self.projector.projector_norm or self.framework in ("simsiam", "barlow")
        last = self.projector.projector_last_norm or self.framework == "simsiam"
        one = replace(self.projector, projector_width=wide, projector_norm=normed, projector_last_norm=last)
        heads, size = Heads([one.build(width) for _ in range(self.count)]), one.projected
        found: dict[str, nn.Module] = {"projectors": heads, "temperature": ConstantTemperature(self.start)}
        if self.adaptive:
            found["temperature"] = PairTemperature(size, self.span[0], self.span[1], self.start)
        if self.framework == "simsiam":
            found["predictors"] = Heads([predictor(size, self.predictor_width) for _ in range(self.count)])
        return found

    def memories(self, width: int, about: About) -> dict[str, nn.Module]:
        """The queues of MoCo, one a head."""
        if self.framework != "moco":
            return {}
        return {"queues": nn.ModuleList(self.keys.memory(self.projector.projected) for _ in range(self.count))}

    def followers(self, state: Learning) -> dict[str, nn.Module]:
        """The encoder and the heads of keys, with MoCo; temperatures have no slow copy."""
        if self.framework != "moco":
            return {}
        return {"encoder": state.encoder, "projectors": state.heads["projectors"]}

    # --------------------------------------------------------------------------------------------------------- its loss

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The loss of the framework with the heads' temperatures."""
        loss = {"simclr": self._simclr, "moco": self._moco, "simsiam": self._simsiam, "barlow": self._barlow}
        return {"contrast": loss[self.framework](batch, state)}

    def settle(self, batch: Batch, state: Learning) -> None:
        """Put the keys into the queues."""
        if self.framework == "moco":
            for queue, keys in zip(_queues(state), state.handed.pop("keys"), strict=True):
                queue.add_(keys)

    def told(self, state: Learning) -> Metrics:
        """The mean temperature, the share of temperatures at an end of their range, and SimSiam's spread."""
        return dict(state.handed)

    @cached_property
    def _gathering(self) -> dict[str, Any]:
        return {
            "beta": self.beta,
            "negatives": self.negatives_by,
            "hardest": self.hardest,
            "positive_among": self.positive_among,
            "regularise_negatives": self.regularise_negatives,
            "summed": self.hardest_summed,
        }

    def _simclr(self, batch: Batch, state: Learning) -> Tensor:
        made = state.heads["projectors"](torch.cat(self.encoded(batch, state)))
        with without_autocast(made):
            z = directions(made)
            temperatures = state.heads["temperature"](z, z)
            self._watch(off_diagonal(temperatures), state)
            return amcl_simclr(z, temperatures, **self._gathering)

    def _moco(self, batch: Batch, state: Learning) -> Tensor:
        made, keys = self.keys.queries_and_keys("projectors", batch, state)
        with without_autocast(made):
            query, key = directions(made), directions(keys)
            queue = torch.stack([one.keys for one in _queues(state)])
            temperature: Any = state.heads["temperature"]
            temperatures = torch.cat([temperature.of_pairs(query, key)[..., None], temperature(query, queue)], dim=-1)
            self._watch(temperatures, state)
            state.handed["keys"] = key
            return amcl_moco(query, key, queue, temperatures, **self._gathering)

    def _simsiam(self, batch: Batch, state: Learning) -> Tensor:
        first, second = (state.heads["projectors"](view) for view in self.encoded(batch, state))
        state.handed["spread"] = torch.stack([spread(head) for head in first]).mean()
        found: list[Tensor] = []
        temperature: Any = state.heads["temperature"]
        for view, other in ((first, second), (second, first)):
            predicted = state.heads["predictors"](view)
            with without_autocast(predicted):
                ends = directions(predicted), directions(other.detach())
                found += [still_cosine(predicted, other), temperature.of_pairs(*ends)]
        self._watch(torch.stack(found[1::2]), state)
        return amcl_simsiam(*found, width=first.shape[-1], beta=self.beta)

    def _barlow(self, batch: Batch, state: Learning) -> Tensor:
        """A feature is described to φ by its correlations with all features.

        The released code describes it by its values over the batch, so that no batch may have another size.
        """
        first, second = (state.heads["projectors"](view) for view in self.encoded(batch, state))
        found = correlations(first, second)
        with without_autocast(found):
            temperatures = state.heads["temperature"](directions(found), directions(found.mT))
            self._watch(temperatures, state)
            return amcl_barlow(found, temperatures, self.redundancy_weight, beta=self.beta)

    def _watch(self, temperatures: Tensor, state: Learning) -> None:
        """Keep for the curves how temperatures are."""
        if self.adaptive:
            seen = temperatures.detach()
            state.handed |= {"temperature": seen.mean(), "at_bounds": share_at_bounds(seen, self.span[0], self.span[1])}


def _queues(state: Learning) -> list[MomentumQueue]:
    """The queue of each head."""
    queues = state.memory["queues"]
    assert isinstance(queues, nn.ModuleList)
    return [queue for queue in queues if isinstance(queue, MomentumQueue)]
