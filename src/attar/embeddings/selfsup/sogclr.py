"""SogCLR: each sample against all others of the data set, so that small batches do no harm.

Prefer it to SimCLR and CLIP where batches are small beside the number of classes or captions. It remembers one number
for each sample (`attar.embeddings.selfsup.global_contrast`). On image-text pairs it trains an encoder of images and one
of texts; otherwise two views of each sample are its pair. Its loss only has a gradient: its value may be negative, and
need not fall.
Yuan, Wu, Qiu, Du, Zhang, Zhou and Yang, Provable Stochastic Optimization for Global Contrastive Learning: Small Batch
Does Not Harm Performance, ICML 2022, arXiv:2202.12387. The falling rate is that of the authors' LibAUC.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from torch import Tensor, nn

from attar.core import presets
from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.embeddings.learner import About, Batch, Learning, Terms
from attar.embeddings.selfsup.global_contrast import GlobalContrast
from attar.embeddings.selfsup.image_text import Paired, views_of_pairs
from attar.embeddings.sources import Source

MEMORY = "contrast"
USUAL: dict[bool, dict[str, Any]] = {
    False: {"contrast_temperature": 0.1, "normaliser_rate": 0.9, "temperature_range": (0.05, 1.0), "bound": 0.4},
    True: {"contrast_temperature": 0.07, "normaliser_rate": 0.8, "temperature_range": (0.005, 1.0), "bound": 6.0},
}
"""Defaults for views and for pairs: those of the authors' scripts, but a larger τ for pairs. Theirs, 0.01, is for
hundreds of thousands of pairs; on a few hundred it finds a tenth of what 0.07 finds."""


@dataclass(frozen=True, kw_only=True)
class Global(Paired):
    """Shared settings of the methods with the global contrastive loss."""

    contrast_temperature: Annotated[float, Range(0.001)] | None = None
    """Temperature τ of the contrast. Default: 0.1, of pairs 0.07. If it is learned, it starts there."""
    normaliser_rate: Annotated[float, Range(0.001, 1)] | None = None
    """Rate γ at which what is remembered of a sample follows its batches. 1: the batch alone. Default: 0.9, of pairs
    0.8."""
    normaliser_schedule: Literal["constant", "cosine"] = "constant"
    """Whether that rate is constant, or falls along half a cosine from 1 (then a final rate of 0.2 does well)."""
    normaliser_decay: Annotated[float, Range(0, 1)] = 0.5
    """Share of the run over which that rate falls."""
    temperature_range: tuple[float, ...] | None = None
    """Smallest and largest temperature that can be learned. Default: 0.05 1, of pairs 0.005 1."""
    divergence_bound: Annotated[float, Range(0)] | None = None
    """Bound ρ on the divergence of the negatives' weights from uniform ones: a learned τ falls with it. Default: 0.4,
    of pairs 6 or, if that is less, half the logarithm of their number."""
    positive_weight: Literal["auto", "one", "normalised"] = "auto"
    """What the positive counts: 1, or the sum of the weights of the negatives. auto: one, of pairs normalised."""
    hinge: Annotated[float, Range(0)] | None = None
    """Margin c of a squared hinge, max(0, h + c)², in place of the difference h of similarities (the authors: 0.8)."""
    pairs: Literal["auto", "on", "off"] = "auto"
    """Whether to learn from image-text pairs, with a text encoder, in place of views. auto: if there are captions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        between = self.temperature_range
        if between is not None and (len(between) != 2 or not 0 < between[0] <= between[1]):
            told = " ".join(f"{one:g}" for one in between) or "empty"
            raise InputError(f"temperature_range is {told}; give the smallest, above 0, and the largest: 0.05 1.")

    @property
    def takes_pairs(self) -> bool:
        """Whether it learns from image-text pairs."""
        return self.pairs == "on"

    def check(self, source: Source) -> None:
        """Check that there are captions for pairs.

        Raises:
            InputError: There are none, or the samples are no images.
        """
        super().check(source)
        if self.pairs == "on" and (source.tabular or not source.paired):
            raise InputError(f"pairs is on, but {source.name} has no images with captions. Give --pairs off.")

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data: whether they are pairs, and what is usual then."""
        taken = self.pairs == "on" or (self.pairs == "auto" and source.paired and not source.tabular)
        found = replace(super().resolve(source, runtime), pairs="on" if taken else "off")
        usual = dict(USUAL[taken])
        negatives = found.samples - 1 if taken else 2 * (found.samples - 1)
        bound = usual.pop("bound")
        usual["divergence_bound"] = min(bound, math.log(max(negatives, 2)) / 2) if taken else bound
        if taken:
            usual["view"] = views_of_pairs(self.view).resolve(source)
        missing = {name: value for name, value in usual.items() if name == "view" or getattr(found, name) is None}
        found = replace(found, **missing)
        if found.scheme != "fixed":
            found.check_temperatures(negatives)
        return found

    def check_temperatures(self, negatives: int) -> None:
        """Check that temperatures have somewhere to go.

        Raises:
            InputError: They start outside of their range, or would stick at its lower end.
        """
        low, high = self.temperature_range or (0.0, math.inf)
        start, bound = self.contrast_temperature or 0.0, self.divergence_bound or 0.0
        if not low <= start <= high:
            raise InputError(f"contrast_temperature is {start:g}, outside of temperature_range, {low:g} to {high:g}.")
        if bound >= math.log(max(negatives, 1)):
            raise InputError(
                f"divergence_bound is {bound:g}; with {negatives:,} negatives it must be below their logarithm, "
                f"{math.log(max(negatives, 1)):.2f}, or temperatures stick at their lower end."
            )

    @property
    def scheme(self) -> Literal["fixed", "individual", "global"]:
        """Whose temperatures there are."""
        return "fixed"

    def memories(self, width: int, about: About) -> dict[str, nn.Module]:
        """The loss, with what it remembers of each sample."""
        return {MEMORY: self.loss(about.samples)}

    def loss(self, samples: int, **more: Any) -> GlobalContrast:
        """The loss for so many samples, once the settings are resolved."""
        low, high = self.temperature_range or USUAL[self.takes_pairs]["temperature_range"]
        return GlobalContrast(
            samples,
            pairs=self.takes_pairs,
            temperature=self.contrast_temperature or USUAL[self.takes_pairs]["contrast_temperature"],
            temperatures=self.scheme,
            gamma=self.normaliser_rate or USUAL[self.takes_pairs]["normaliser_rate"],
            gamma_schedule=self.normaliser_schedule,
            gamma_decay=self.normaliser_decay,
            rho=USUAL[self.takes_pairs]["bound"] if self.divergence_bound is None else self.divergence_bound,
            temperature_range=(low, high),
            hinge=self.hinge,
            pos_weight=None if self.positive_weight == "auto" else self.positive_weight,
            **more,
        )

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The surrogate whose gradient is the estimator."""
        loss = state.memory[MEMORY]
        return {"contrast": loss(*self.sides(batch, state), batch.rows, progress=batch.progress)}

    def told(self, state: Learning) -> Metrics:
        """The mean temperature, unless it is fixed."""
        loss = state.memory[MEMORY]
        assert isinstance(loss, GlobalContrast)
        return {} if self.scheme == "fixed" else {"temperature": loss.mean_temperature}

    def memories_kept(self, state: Learning) -> dict[str, Tensor]:
        """Of each sample whether it was seen, its log-normaliser (0 if not), and its temperature if it has one."""
        loss = state.memory[MEMORY]
        assert isinstance(loss, GlobalContrast)
        kept = {"seen": loss.seen, "log_s": loss.log_s}
        if self.scheme == "individual":
            kept["temperature"] = loss.tau
        if not self.takes_pairs:
            return kept
        sides = {"": 0, "text_": 1}
        return {f"{side}{name}": value[row].clone() for name, value in kept.items() for side, row in sides.items()}


@dataclass(frozen=True, kw_only=True)
class SogCLR(Global):
    """Contrast each sample with all others of the data set (Yuan et al., ICML 2022, arXiv:2202.12387)."""

    learn_temperature: bool = False
    """Whether one temperature for all samples is learned."""

    name = "sogclr"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published cell: `imagenet`, `imagenet100`, `cifar10` or `cc3m`."""
        return presets.published(cls, data)

    @property
    def scheme(self) -> Literal["fixed", "individual", "global"]:
        """One temperature for all."""
        return "global" if self.learn_temperature else "fixed"
