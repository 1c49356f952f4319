"""ProbMCL: an image is a mixture of Gaussians, and mixtures of samples with overlapping labels should be alike.

First encoder and mixture head are trained on two views of each sample: by the likelihood of the features under their
own mixture, and by a contrast whose positives share enough labels. Then the encoder is frozen and a linear layer with
ASL is trained on it. The mixtures stay an output: how uncertain the encoder is of a sample. Of our three
tables of features it is ahead of end-to-end training with the same views on one (scene, by a point), and behind it on
the other two; it shows no reliable gain over a contrast of points with the same positives (supcon).
Sajedi, Khaki, Lawryshyn and Plataniotis, ProbMCL: Simple Probabilistic Contrastive Learning for Multi-label Visual
Classification, ICASSP 2024, arXiv:2401.01448.

There is no code of the authors, and the paper leaves open which score, similarity and target it has. Here, where we had
to choose: the target of the likelihood is constant, the features themselves or a fixed random projection of them to D
numbers, and its logarithm is divided by D; without a constant target, features and mixture would meet in a point.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attar.core.engine import Metrics
from attar.core.errors import InputError
from attar.core.presets import published
from attar.core.runtime import Runtime
from attar.core.settings import Range, Role
from attar.embeddings.contrast import contrast
from attar.embeddings.encoders import Features
from attar.embeddings.learner import About, Batch, Learning, Terms
from attar.embeddings.linear import Linear
from attar.embeddings.multilabel.gaussians import negative_log_share
from attar.embeddings.multilabel.kmcl import positive
from attar.embeddings.multilabel.mixtures import (
    Mixtures,
    Similarity,
    log_density,
    log_joint,
    pruned,
    similarity,
    spread_of,
)
from attar.embeddings.multilabel.shared import MultiLabelLearner, present
from attar.embeddings.positives import positive_weights
from attar.embeddings.sources import Source

MIXTURE = "mixture"
MOST = 128
"""Largest default of D."""
Score = Literal["overlap", "jaccard", "dice", "cosine"]


class MixtureHead(nn.Module):
    """A mixture of Gaussians from features: weights, means and variances, each from a linear layer.

    Args:
        width: Number of the encoder's features.
        components: C.
        size: D, the size of a mean.
        diagonal: Whether each coordinate has a variance of its own.
    """

    projection: Tensor

    def __init__(self, width: int, components: int, size: int, *, diagonal: bool = False) -> None:
        super().__init__()
        self.components, self.size, self.diagonal = components, size, diagonal
        self.pi, self.mean = nn.Linear(width, components), nn.Linear(width, components * size)
        self.var = nn.Linear(width, components * size if diagonal else components)
        nn.init.normal_(self.var.weight, std=0.01)
        nn.init.zeros_(self.var.bias)
        fixed = torch.eye(width) if size == width else nn.init.orthogonal_(torch.empty(size, width))
        self.register_buffer("projection", fixed)

    def forward(self, features: Features) -> Mixtures:
        """The mixture of each sample. Variances are above one."""
        places = (self.components, self.size)
        spread = positive(self.var(features))
        return Mixtures(
            self.pi(features).log_softmax(dim=1),
            self.mean(features).unflatten(1, places),
            spread.unflatten(1, places) if self.diagonal else spread,
        )

    def target(self, features: Features) -> Float[Tensor, "sample d"]:
        """What the mixture should make likely: features, or a fixed projection of them, without a gradient."""
        return features.detach().to(self.projection.dtype) @ self.projection.T


def mixture_contrast(
    mixtures: Mixtures,
    positives: Bool[Tensor, "sample sample"],
    temperature: float,
    how: Similarity = "log",
) -> Float[Tensor, ""]:
    """SupCon of mixtures: cross-entropy between a sample's positives and a softmax over all others.

    With one component of fixed variance s, means of length one and the log similarity, it is SupCon of the means with
    the temperature 2 s τ.

    For the joined batch of several processes, give `Mixtures(*gathered(*mixtures))` and positives of gathered labels.

    Args:
        mixtures: A mixture for each sample, or view of one.
        positives: Which are positives of which. No sample is its own. Samples without positives are left out.
        temperature: τ.
        how: How alike mixtures are: `log`, `correlation` or `angle`.
    """
    others = ~torch.eye(len(positives), dtype=torch.bool, device=positives.device)
    return contrast(similarity(mixtures, how=how) / temperature, positives & others, others)


def negative_log_likelihood(
    target: Float[Tensor, "sample d"], mixtures: Mixtures, labels: Bool[Tensor, "sample component"] | None = None
) -> Float[Tensor, ""]:
    """−log p(t), or with labels −log of the share that components of present classes have in it; averaged.

    Args:
        target: t, a point for each sample.
        mixtures: A mixture for each sample.
        labels: Which labels each sample has. Samples without labels are left out.
    """
    if labels is None:
        return -log_density(target, mixtures).mean()
    return negative_log_share(log_joint(target, mixtures), labels)


@dataclass(frozen=True, kw_only=True)
class ProbMCL(MultiLabelLearner):
    """Contrast mixtures of Gaussians of samples that share labels (Sajedi et al., ICASSP 2024, arXiv:2401.01448)."""

    positives: Score = "overlap"
    """Score of how far labels of two samples overlap: shared labels over those of the sample with fewer (overlap), over
    those of either (jaccard), over the arithmetic (dice) or geometric mean (cosine)."""
    threshold: Annotated[float, Range(0, 1)] = 0.5
    """Threshold α of that score, from which samples are positives. The other view of a sample always is."""
    similarity: Similarity = "log"
    """Similarity of two mixtures: log C, the correlation C, or an angle. C of most pairs is all but zero when D is
    above some 32; then only its logarithm learns."""
    contrast_temperature: Annotated[float, Range(0.001)] | None = None
    """Temperature τ of the contrast. Default: 1 with log, else 0.2."""
    likelihood: Literal["features", "labels", "none"] = "features"
    """Likelihood of the features under their mixture; or the share of present classes' components in it (labels)."""
    similarity_weight: Annotated[float, Range(0)] = 1.0
    """Weight λ of the contrast of mixtures, beside the likelihood divided by D."""
    components: Annotated[int, Range(1)] | None = None
    """Number C of components. Default: one for each class."""
    mean_size: Annotated[int, Range(1)] | None = None
    """Size D of a component's mean. Default: the number of features, at most 128."""
    diagonal: bool = False
    """Whether each feature has variances of its own."""
    least_weight: Annotated[float, Range(0, 1)] = 0.0
    """Weight π below which a component does not count in the contrast, which is faster then. 0: all count."""
    linear: Annotated[Linear, Role()] = field(default_factory=lambda: Linear(epochs=100))
    """A linear classifier that is trained at the end, on features of the frozen encoder."""

    name = "probmcl"

    @classmethod
    def paper(cls, data: str) -> Self:
        """The settings of a cell of the paper: `coco-224`, `coco-448`, `adp-224`, ..."""
        return published(cls, data)

    @property
    def temperature(self) -> float:
        """τ."""
        usual = 1.0 if self.similarity == "log" else 0.2
        return usual if self.contrast_temperature is None else self.contrast_temperature

    def resolve(self, source: Source, runtime: Runtime) -> Self:
        """The settings for these data.

        Raises:
            InputError: There are no labels, or components are not one for each class where they have to be.
        """
        if self.likelihood == "labels" and self.components not in (None, len(source.classes)):
            raise InputError(
                f"components is {self.components}, but likelihood labels needs one for each of the "
                f"{len(source.classes)} classes of {source.name}."
            )
        return super().resolve(source, runtime)

    def modules(self, width: int, about: About) -> dict[str, nn.Module]:
        """The mixture head."""
        size = self.mean_size or min(width, MOST)
        if size > width:
            raise InputError(f"mean_size is {size}, but the encoder has {width} features. Give {width} or fewer.")
        return {MIXTURE: MixtureHead(width, self.components or about.classes, size, diagonal=self.diagonal)}

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The likelihood of features under their own mixtures, and the contrast of mixtures."""
        features = torch.cat(self.encoded(batch, state))
        head = state.heads[MIXTURE]
        mixtures: Mixtures = head(features)
        assert isinstance(head, MixtureHead) and batch.labels is not None
        labels = present(batch.labels, len(state.source.classes)).repeat(self.drawn_views, 1)
        views = batch.rows.to(labels.device).repeat(self.drawn_views)
        found: Terms = {}
        if self.likelihood != "none":
            with_labels = labels if self.likelihood == "labels" else None
            found["likelihood"] = negative_log_likelihood(head.target(features), mixtures, with_labels) / head.size
        kept = pruned(mixtures, self.least_weight) if self.least_weight else mixtures
        positives = positive_weights(labels, self.positives, self.threshold, same=views)
        state.handed["positives"] = (positives.sum(dim=1) - 1.0).mean()
        found["contrast"] = self.similarity_weight * mixture_contrast(
            kept, positives, self.temperature, self.similarity
        )
        return found

    def curves(self, state: Learning) -> Metrics:
        """The mean number of positives of a view."""
        return {"positives": state.handed["positives"]}

    def outputs(self, features: Features, heads: nn.ModuleDict) -> dict[str, Tensor]:
        """The answers of the linear classifier, and how uncertain mixtures are: see `mixtures.Spread`."""
        spread = spread_of(heads[MIXTURE](features))
        uncertain = {"uncertainty": spread.entropy, "variance": spread.variance, "spread": spread.means}
        return {**super().outputs(features, heads), **uncertain, "total": spread.total}
