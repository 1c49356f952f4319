"""DCC: match the gradient of all classes together, so that the images learn how classes differ.

What all classes share cancels in the sum. Prefer it to DC and DSA if classes look alike (breeds, models of cars). There
matching class by class learns mostly what classes share, and can be as weak as random selection. On easy classes DCC
is as good as DC and DSA.
Lee, Chun, Jung, Yun and Yoon, Dataset Condensation with Contrastive Signals, ICML 2022, arXiv:2202.02916.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Self

import torch

from attar.core.errors import InputError
from attar.core.runtime import Runtime
from attar.core.settings import Range
from attar.images.condense.dsa import DSA
from attar.images.sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class DCC(DSA):
    """Match gradients of all classes at once (Lee et al., ICML 2022, arXiv:2202.02916).

    L(S) = D(mean_c ∇CE(f_θ(A_c S_c), c), mean_c ∇CE(f_θ(A_c T_c), c)). This is the distance D of DC and DSA with the
    sum over classes inside. A warm-up matches class by class, in the first `warmup_matches` matches with each of the
    first `warmup_networks` networks. The paper calls the method DSAC with augmentation (here the default) and DCC
    without (`augmentation="none"`). As in its code, networks train between matches at one image per class too.
    """

    warmup_networks: Annotated[int, Range(0)] | None = None
    """Number of networks in the warm-up. Default: a quarter of all networks (250 of the code's 1,000)."""
    warmup_matches: Annotated[int, Range(0)] = 10
    """Number of class-by-class matches with each network of the warm-up."""
    together: Annotated[int, Range(1)] | None = None
    """Number of classes that are matched together, drawn again for each match; 1 is DSA. Default: all classes."""

    name = "dcc"

    def loops(self, ipc: int) -> tuple[int, int]:
        """Matches per network and epochs between them: ten and five at one image per class, otherwise as in DC."""
        return (10, 5) if ipc == 1 else super().loops(ipc)

    def resolve(self, source: ImageSource, runtime: Runtime) -> Self:
        """Fill in the settings without a value.

        Raises:
            InputError: The warm-up is longer than the run.
        """
        settings = super().resolve(source, runtime)
        assert settings.network_draws is not None
        warmup = settings.network_draws // 4 if self.warmup_networks is None else self.warmup_networks
        if warmup > settings.network_draws:
            raise InputError(
                f"warmup_networks is {warmup}; it must be at most network_draws, {settings.network_draws}."
            )
        return replace(settings, warmup_networks=warmup, together=self.together or len(source.classes))

    def groups(self, done: int, classes: int, runtime: Runtime) -> list[list[int]]:
        """Each class alone in the warm-up; then all classes together, or a random partition of them."""
        assert self.matches is not None and self.warmup_networks is not None and self.together is not None
        network, match = divmod(done, self.matches)
        if network < self.warmup_networks and match < self.warmup_matches:
            return super().groups(done, classes, runtime)
        if self.together >= classes:
            return [list(range(classes))]
        order = torch.randperm(classes, generator=runtime.generator("groups")).tolist()
        return [sorted(order[first : first + self.together]) for first in range(0, classes, self.together)]
