"""iSogCLR: SogCLR with a temperature for each sample, learned by distributionally robust optimisation.

A sample with many near negatives, because its kind is frequent, gets a large temperature, which tolerates them; one of
a rare kind gets a small one. That holds on average while the bound ρ is small, 0.1 to 0.5 for views, and less than how
much a kind varies: on digits with a long tail the rank correlation of τ and class size is 0.3 over random orders of the
classes, and 0.8 if the classes that look most alike are the frequent ones (`bench/small_batches.py`). Prefer it to
SogCLR where frequencies differ much; a falling rate of SogCLR can gain as much. The temperatures are kept with the
encoder.
Qiu, Hu, Yuan, Zhou, Zhang and Yang, Not All Semantics are Created Equal: Contrastive Self-supervised Learning with
Automatic Temperature Individualization, ICML 2023, arXiv:2305.11965.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self

from attar.core import presets
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.embeddings.selfsup.global_contrast import GlobalContrast
from attar.embeddings.selfsup.sogclr import Global
from attar.embeddings.sources import Source

USUAL_STEP = {False: 0.03, True: 3e-3}
"""Step size η for views (the authors' script), and for pairs, whose temperatures are smaller (a choice)."""


@dataclass(frozen=True, kw_only=True)
class ISogCLR(Global):
    """SogCLR with a temperature for each sample (Qiu et al., ICML 2023, arXiv:2305.11965)."""

    temperature_lr: Annotated[float, Range(0)] | None = None
    """Step size η of temperatures. 0: they stay, as in SogCLR. Default: 0.03, of pairs 0.003; for τ near 0.01 give
    0.0001."""
    temperature_momentum: Annotated[float, Range(0, 1)] = 0.5
    """Share β of the new gradient in the moving average that temperatures follow: 1 is no average (of pairs: 0.9)."""
    slope_limit: Annotated[float, Range(0)] | None = None
    """Size to which the gradient of a temperature is cut (the authors: 3, of pairs 5). Default: no limit."""

    name = "isogclr"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published cell: `cifar100`, `imagenet`, `cifar100-libauc`, `cc3m` or `cc3m-libauc`."""
        return presets.published(cls, data)

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data, with the step of temperatures."""
        found = super().resolve(source, runtime)
        step = USUAL_STEP[found.takes_pairs] if self.temperature_lr is None else self.temperature_lr
        return replace(found, temperature_lr=step)

    @property
    def scheme(self) -> Literal["fixed", "individual", "global"]:
        """A temperature for each."""
        return "individual"

    def loss(self, samples: int, **more: Any) -> GlobalContrast:
        """The loss for so many samples, with the steps of its temperatures."""
        step = self.temperature_lr
        steps = {
            "eta": USUAL_STEP[self.takes_pairs] if step is None else step,
            "beta": self.temperature_momentum,
            "gradient_limit": self.slope_limit,
        }
        return super().loss(samples, **steps, **more)
