"""The fair teacher: a variational autoencoder of rows that is told the group, and whose code shall not depend on it.

The encoder reads a row and its group, the decoder a code and a group. The label is one of the columns, so that decoded
rows have one. L = R + KL + β V², with V² of `dependence`. At β = 0 it is a plain conditional autoencoder.
Liu, Li, Yao, Xu, Ma, Xu and Tong, Fair Representation Learning: An Alternative to Mutual Information (FairDisCo), KDD
2022. The released script leaves V² out where β is at most 1; here it is always there.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.core.seeds import seeded
from attar.core.settings import Range, Settings
from attar.tables.dependence import Codes, Groups, Scalar, dependence, spectral_dependence
from attar.tables.discrete import Coded, Coding, Features, reconstruction

Share = Float[Tensor, "row group"]


@dataclass(frozen=True, kw_only=True)
class FairTeacher(Settings):
    """Settings of the teacher and of its training."""

    latents: Annotated[int, Range(1)] = 8
    """Size of the code of a row, whose prior is a standard normal distribution."""
    width: Annotated[int, Range(1)] = 64
    """Width of the network: units of the hidden layer of encoder and decoder."""
    penalty: Literal["exact", "normalised", "spectral"] = "normalised"
    """Penalty on dependence: V², V² over its scale (so that β does not hang on the latent size), or a random-feature
    form that is cheaper, and another objective."""
    fairness_warm_up: Annotated[float, Range(0, 1)] = 0.5
    """Share of the teacher's training over which β rises from 0. A penalty from the start makes codes collapse."""
    epochs: Annotated[int, Range(1)] | None = None
    """Passes over the training data. Default: by the number of rows, for a run of about a minute."""
    batch: Annotated[int, Range(2)] = 512
    """Batch size, in rows."""
    lr: Annotated[float, Range(0)] = 1e-3
    """Step size of Adam."""
    frequencies: Annotated[int, Range(1)] = 256
    """Random frequencies of the spectral penalty, drawn anew at each step."""


class Autoencoder(nn.Module):
    """Encoder and decoder of one hidden layer each."""

    def __init__(self, features: int, groups: int, settings: FairTeacher) -> None:
        super().__init__()
        hidden, latents = settings.width, settings.latents
        self.groups = groups
        self.encoder = encoder(features + groups, hidden, latents)
        self.decoder = decoder(latents + groups, hidden, features)

    def encode(self, features: Features, groups: Groups) -> tuple[Codes, Codes]:
        """μ and log σ² of each row's code."""
        together = torch.cat([features, one_hot(groups, self.groups)], dim=1)
        return halves(self.encoder(together.to(next(self.parameters()).dtype)))

    def decode(self, codes: Codes, shares: Share) -> Features:
        """The scores of each column.

        Args:
            codes: z.
            shares: The group of each row one-hot, or shares of groups.
        """
        found: Tensor = self.decoder(torch.cat([codes, shares], dim=1))
        return found


def encoder(read: int, hidden: int, latents: int) -> nn.Sequential:
    """A network that gives μ and log σ²."""
    return nn.Sequential(nn.Linear(read, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latents))


def decoder(read: int, hidden: int, features: int) -> nn.Sequential:
    """A network that gives the scores of features."""
    return nn.Sequential(nn.Linear(read, hidden), nn.ReLU(), nn.Linear(hidden, features))


def fresh(features: int, groups: int, settings: FairTeacher, generator: torch.Generator) -> Autoencoder:
    """A teacher before its training."""
    with seeded(generator):
        return Autoencoder(features, groups, settings)


def one_hot(groups: Groups, count: int) -> Share:
    """The group of each row, one-hot."""
    return F.one_hot(groups, count).float()


def halves(both: Float[Tensor, "row both"]) -> tuple[Codes, Codes]:
    """μ and log σ² from what an encoder gives."""
    mean, log_variance = both.chunk(2, dim=1)
    return mean, log_variance


def sampled(mean: Codes, log_variance: Codes, noise: Codes) -> Codes:
    """Codes z = μ + σ ∘ ε."""
    return mean + (log_variance / 2).exp() * noise


def divergence(mean: Codes, log_variance: Codes) -> Scalar:
    """KL(N(μ, σ²) ‖ N(0, 1)) = -½ Σ_k (1 + log σ²_k - μ²_k - σ²_k), the mean over rows."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1).mean()


def teacher_loss(
    teacher: Autoencoder,
    coding: Coding,
    coded: Coded,
    groups: Int[Tensor, " row"],
    noise: Codes,
    *,
    weight: float,
    form: str = "exact",
    frequencies: Float[Tensor, "feature latent"] | None = None,
    share: float = 1.0,
) -> dict[str, Scalar]:
    """L = R + KL + β V² and its parts.

    Args:
        teacher: Encoder and decoder.
        coding: How columns are coded.
        coded: The rows of a batch.
        groups: Their groups.
        noise: ε.
        weight: β.
        form: The penalty, as `FairTeacher.penalty` names it.
        frequencies: Of the spectral penalty.
        share: Rows of this batch over those of a full one. The last batch of a pass is small, and its V² noisy.
    """
    mean, log_variance = teacher.encode(coding.features(coded), groups)
    decoded = teacher.decode(sampled(mean, log_variance, noise), one_hot(groups, teacher.groups))
    parts = {"reconstruction": reconstruction(coding, decoded, coded), "kl": divergence(mean, log_variance)}
    if form == "spectral":
        assert frequencies is not None, "the spectral penalty needs frequencies"
        penalty = spectral_dependence(mean, log_variance, groups, frequencies, normalise=True)
    elif weight > 0:
        penalty = dependence(mean, log_variance, groups, normalise=form == "normalised")
    else:
        penalty = mean.new_zeros(())
    loss = parts["reconstruction"] + parts["kl"] + weight * share * penalty
    return {"loss": loss, **parts, "dependence": penalty}
