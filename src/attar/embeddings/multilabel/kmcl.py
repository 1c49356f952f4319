"""KMCL: end to end, with a kernel for each class that explains the features and is alike among samples of the class.

The loss is ASL on the kernels' weights, a reconstruction of the features by the kernels of present classes, and a
contrast of kernels of a class over samples. The kernels' variances are an output: how sure the encoder is of each
class. Worth a try where samples share labels in many combinations. From scratch, at the sizes of our tables, ASL alone
with the same views is as good. Sajedi, Khaki, Plataniotis and Hosseini, End-to-End Supervised Multilabel
Contrastive Learning, arXiv:2307.03967.

`kernels.py` has the losses, and says where the authors' code does something else (`--released`).
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.settings import Range
from attar.embeddings.encoders import Features
from attar.embeddings.learner import About, Batch, Learning, Terms
from attar.embeddings.linear import LINEAR
from attar.embeddings.multilabel.asl import ASL_SCRIPT, asymmetric_loss
from attar.embeddings.multilabel.kernels import Logits, PerClass, kmcl_loss, reconstruction_loss
from attar.embeddings.multilabel.shared import MultiLabelLearner, present

KERNELS = "kernels"
MOST = 128
"""Number of features to which more are reduced, if each has variances of its own."""
Kernel = Literal["bc", "rbf", "mks"]
Start = Literal["small", "released"]
Jaccard = Literal["outside", "inside_log", "none"]


class Kernels(NamedTuple):
    """What the head says of samples."""

    features: Float[Tensor, "sample feature"]
    """The features that kernels are to explain."""
    logits: Logits
    means: PerClass
    variances: PerClass


class KernelHead(nn.Module):
    """A weight, a mean and a variance for each class, each from a linear layer.

    Args:
        width: Number of the encoder's features.
        classes: Number of classes.
        diagonal: Whether features have means and variances of their own. More than 128 features are first reduced.
        kernel: What a variance belongs to: each class (bc), each sample (rbf), or each feature (mks, diagonal only).
        start: `small` draws weights of means and variances from N(0, 0.01²). `released` is the authors' start: U(0,
            0.1) and ones, so that variances begin large and all coefficients near one.
    """

    def __init__(
        self, width: int, classes: int, *, diagonal: bool = False, kernel: Kernel = "bc", start: Start = "small"
    ) -> None:
        super().__init__()
        self.classes, self.diagonal, self.kernel = classes, diagonal, kernel
        kept = min(width, MOST) if diagonal else width
        self.reduce: nn.Module = nn.Linear(width, kept) if kept < width else nn.Identity()
        self.kept = kept
        per_class = classes * kept if diagonal else classes
        self.pi, self.mean = nn.Linear(kept, classes), nn.Linear(kept, per_class)
        self.var = nn.Linear(kept, {"bc": per_class, "rbf": 1, "mks": kept}[kernel])
        for layer in (self.mean, self.var):
            nn.init.zeros_(layer.bias)
            nn.init.normal_(layer.weight, std=0.01)
        if start == "released":
            nn.init.uniform_(self.mean.weight, 0, 0.1)
            nn.init.ones_(self.var.weight)

    def forward(self, features: Features) -> Kernels:
        """The kernels of samples. Variances are above one."""
        features = self.reduce(features)
        spread = positive(self.var(features))
        means = self.mean(features)
        if self.kernel == "rbf":
            spread = spread.expand(-1, self.classes)
        if not self.diagonal:
            return Kernels(features, self.pi(features), means, spread)
        # feature by feature and then class by class, as in the authors' weights
        means = means.unflatten(1, (self.kept, self.classes)).mT
        if self.kernel == "bc":
            spread = spread.unflatten(1, (self.kept, self.classes)).mT
        elif self.kernel == "rbf":
            spread = spread[:, :, None].expand_as(means)
        else:
            spread = spread[:, None].expand_as(means)
        return Kernels(features, self.pi(features), means, spread)


def positive(values: Tensor) -> Tensor:
    """A variance above one from any number: ELU(s) + 2."""
    return F.elu(values) + 2 + 1e-7


@dataclass(frozen=True, kw_only=True)
class KMCL(MultiLabelLearner):
    """Contrast kernels of a class over samples, beside ASL (Sajedi et al., arXiv 2023, arXiv:2307.03967)."""

    reconstruction_weight: Annotated[float, Range(0)] = 0.1
    """Weight of the reconstruction of features by the kernels of present classes."""
    asl_weight: Annotated[float, Range(0)] = 1.0
    """Weight λ₁ of ASL."""
    kernel_weight: Annotated[float, Range(0)] = 0.3
    """Weight λ₂ of the contrast of kernels."""
    contrast_temperature: Annotated[float, Range(0.001)] = 0.17
    """Temperature τ of the contrast, on coefficients from 0 to 1."""
    jaccard: Jaccard = "outside"
    """Where the share of common labels stands: as a weight (outside), or within the logarithm, where it has no effect
    on the gradient (inside_log), or nowhere."""
    diagonal: bool = False
    """Whether each feature has variances of its own."""
    kernel: Kernel = "bc"
    """What a variance belongs to: a class (bc), a sample (rbf), or a feature (mks, which needs --diagonal)."""
    head_start: Start = "small"
    """Weights of means and variances before the first step: small, or the authors' (released)."""
    asl_over: Literal["batchmean", "sum"] = "batchmean"
    """Whether ASL is the mean over the samples of a batch, or their sum, as in the authors' code."""
    released: bool = False
    """Whether losses are those of the authors' code, with its clamps and its factor M."""

    name = "kmcl"
    drawn_views = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel == "mks" and not self.diagonal:
            raise InputError("kernel is mks, which has a variance for each feature. Give --diagonal.")

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a published cell: `coco-224`, `voc-448`, ..."""
        return published(cls, data)

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The head of kernels."""
        how: dict[str, Any] = {"diagonal": self.diagonal, "kernel": self.kernel, "start": self.head_start}
        return {KERNELS: KernelHead(width, about.classes, **how)}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """Reconstruction, ASL, and the contrast of kernels."""
        (features,) = self.encoded(batch, state)
        features, logits, means, variances = state.heads[KERNELS](features)
        assert batch.labels is not None
        labels = present(batch.labels, logits.shape[1])
        return {
            "reconstruction": self.reconstruction_weight
            * reconstruction_loss(features, logits, means, variances, labels, released=self.released),
            "asl": self.asl_weight
            * asymmetric_loss(
                logits, labels, **ASL_SCRIPT, clamp=1e-7 if self.released else 0.0, reduction=self.asl_over
            ),
            "kernels": self.kernel_weight
            * kmcl_loss(
                means,
                variances,
                labels,
                self.contrast_temperature,
                features=features.shape[1],
                jaccard=None if self.jaccard == "none" else self.jaccard,
                released=self.released,
            ),
        }

    def outputs(self, features: Features, heads: nn.ModuleDict) -> dict[str, Tensor]:
        """The answers, and the variance of each class's kernel."""
        found: Kernels = heads[KERNELS](features)
        variance = found.variances.mean(dim=2) if self.diagonal else found.variances
        logits = heads[LINEAR](features) if LINEAR in heads else found.logits
        return {"logits": logits, "variance": torch.as_tensor(variance).contiguous()}
