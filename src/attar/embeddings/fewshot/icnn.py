"""ICNN: inter- and intra-class nearest neighbours, a score of how well classes lie apart, and its loss -log(score).

Each point looks at its nearest neighbours: those of its own class should be near, others far, and few. It has no
prototype and no parameter, so it may be added to any loss of embeddings, and it serves as a score alone. On Omniglot it
trains worse encoders than prototypes do. With one sample of each class there is no neighbour of the own class, and the
support alone only pushes points apart: give it all samples of an episode ("fullicnn") with a list of all of a class.
Mendez-Ruiz, Gonzalez-Zapata, Reyes-Amezcua, Flores-Araiza, Lopez-Tiro, Mendez-Vazquez and Ochoa-Ruiz, SuSana Distancia
is all you need, arXiv:2305.09062.

The released code drops the nearest target even where the targets are other points. Here a point leaves out itself
alone, by its index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from attar.core.errors import InputError, unknown
from attar.embeddings.checks import check_embeddings
from attar.embeddings.distances import smooth_distances
from attar.embeddings.positives import checked_labels

Form = Literal["modified", "original"]
Term = Literal["lambda", "lambda_in", "lambda_out", "gamma", "omega"]
TERMS: tuple[Term, ...] = ("lambda", "gamma")
"""The terms of the authors' score."""
NEIGHBOURS = {"modified": 4, "original": 5}
"""K of each form."""
EPS, FLAT = 1e-7, 1e-6
"""Added where the modified form divides, and where the original form divides by a range."""
ROOT = 2
"""p, q and r of the original form: the roots of its terms."""
LEAST = 1e-7
"""Least score of which a logarithm is taken."""

Points = Float[Tensor, "point d"]
Given = Shaped[Tensor, " _label"]
"""Labels before they are checked."""
Scalar = Float[Tensor, ""]
Near = Float[Tensor, "point near"]
Same = Bool[Tensor, "point near"]


@dataclass(frozen=True)
class Parts:
    """The terms of a score, each from 0 to 1, and 1 for classes that lie apart."""

    within: Scalar
    """λ_in: neighbours of the own class are near."""
    between: Scalar
    """λ_out: neighbours of other classes are far."""
    both: Scalar
    """λ: both together."""
    gamma: Scalar
    """γ: neighbours are of the own class. It counts, and has no gradient."""
    omega: Scalar
    """ω: distances vary little. The authors compute it and leave it out of the score."""

    def mean(self, terms: Sequence[str]) -> Scalar:
        """The mean of terms."""
        named = {
            "lambda": self.both,
            "lambda_in": self.within,
            "lambda_out": self.between,
            "gamma": self.gamma,
            "omega": self.omega,
        }
        for term in terms:
            if term not in named:
                raise unknown("term of the ICNN score", term, named)
        if not terms:
            raise InputError("the ICNN score has no terms; give some of " + ", ".join(named) + ".")
        return torch.stack([named[term] for term in terms]).mean()


def icnn_score(
    points: Points,
    labels: Given,
    targets: Float[Tensor, "target d"] | None = None,
    target_labels: Given | None = None,
    *,
    form: Form = "modified",
    terms: Sequence[str] = TERMS,
    neighbours: int | None = None,
    list_length: int | None = None,
) -> Scalar:
    """The ICNN score, from 0 to 1: the mean of its terms, by default of λ and γ.

    Args:
        points: X.
        labels: Their classes.
        targets: Z, the points among which neighbours are sought. Default: the points themselves, each without itself.
        target_labels: The classes of the targets.
        form: The "modified" form, which losses use, or the "original" one.
        terms: Some of lambda, lambda_in, lambda_out, gamma and omega.
        neighbours: K. Default: 4, or 5 for the original form; less where there are few targets.
        list_length: P, how many of the nearest targets are searched for the nearest of another class, with the
            modified form. Default: K + 1. The number of samples of a class is safer (see `icnn_loss`).

    Raises:
        InputError: Labels of another length, a term that is none, or a point without another one.
    """
    return icnn_parts(
        points, labels, targets, target_labels, form=form, neighbours=neighbours, list_length=list_length
    ).mean(terms)


def icnn_loss(
    points: Points,
    labels: Given,
    targets: Float[Tensor, "target d"] | None = None,
    target_labels: Given | None = None,
    *,
    form: Form = "modified",
    terms: Sequence[str] = TERMS,
    neighbours: int | None = None,
    list_length: int | None = None,
) -> Scalar:
    """-log(score). It is 0, without a gradient, where every neighbourhood is of one class.

    λ_out jumps to 1 when the last neighbour of another class leaves all neighbourhoods. A list as long as a class has
    samples (`list_length`) keeps a gradient then.

    Args:
        points: X.
        labels: Their classes.
        targets: Z. Default: the points themselves.
        target_labels: The classes of the targets.
        form: As for `icnn_score`, like all that follows.
        terms: The terms of the score.
        neighbours: K.
        list_length: P.
    """
    score = icnn_score(
        points,
        labels,
        targets,
        target_labels,
        form=form,
        terms=terms,
        neighbours=neighbours,
        list_length=list_length,
    )
    return -score.clamp_min(LEAST).log()


def icnn_parts(
    points: Points,
    labels: Given,
    targets: Float[Tensor, "target d"] | None = None,
    target_labels: Given | None = None,
    *,
    form: Form = "modified",
    neighbours: int | None = None,
    list_length: int | None = None,
) -> Parts:
    """The terms of the ICNN score; arguments as for `icnn_score`."""
    check_embeddings(points, "points")
    own = targets is None
    if targets is None:
        targets, target_labels = points, labels
    check_embeddings(targets, "targets", points.shape[1])
    if target_labels is None:
        raise InputError("labels are missing: give labels, and target_labels with targets.")
    labels, target_labels = checked_labels(labels, len(points)), checked_labels(target_labels, len(targets))
    there = len(targets) - own
    if there < 1 or not len(points):
        raise InputError("the ICNN score needs two points, or a target for each.")
    found = smooth_distances(points, targets)
    if own:
        index = torch.arange(len(points), device=found.device)
        found = found.masked_fill(index[:, None] == index, torch.inf)
    wanted = NEIGHBOURS[form] if neighbours is None else neighbours
    if form == "original":
        near = min(3 if wanted >= len(targets) else wanted, there)
        listed, places = _nearest(found, near)
        return _original(listed, target_labels[places] == labels[:, None])
    few = wanted + 2 >= len(targets)
    near = min(max(len(targets) - 2, 1), there) if few else wanted
    length = min(max(near + 1 if list_length is None else list_length, near), there)
    listed, places = _nearest(found, length)
    same = target_labels[places] == labels[:, None]
    return _modified(listed, same, near, few=few)


def _nearest(found: Float[Tensor, "point target"], count: int) -> tuple[Near, Int[Tensor, "point near"]]:
    """The smallest distances of each point and whose they are; of equal ones the first."""
    listed, places = found.sort(dim=1, stable=True)
    return listed[:, :count], places[:, :count]


def _modified(listed: Near, same: Same, near: int, *, few: bool) -> Parts:
    """The modified form, from the sorted distances of the list.

    Args:
        listed: d_i1 ≤ ... ≤ d_iP.
        same: Whether each is of the point's class.
        near: K.
        few: Whether there are too few targets for γ to count.
    """
    closest = listed.masked_fill(same, torch.inf).min(dim=1).values  # D_i
    lone = closest.isinf()
    d, same = listed[:, :near], same[:, :near]
    own, others = same.sum(dim=1).to(d.dtype), (~same).sum(dim=1).to(d.dtype)
    # Where no other class is in the list, distances count as nothing: filled, since ∞ · 0 is no number.
    ratio = d / (closest.masked_fill(lone, 1.0) + EPS)[:, None]
    ratio = ratio.masked_fill(lone[:, None], 0.0)
    ratio = ratio / ratio.max(dim=1, keepdim=True).values.clamp_min(1)
    inside = (ratio * same).sum(dim=1) / (own + EPS)
    within = 1 - inside.sum() / (_some(own) + EPS)
    apart = d * ~same
    outside = (apart / (apart.amax() + EPS)).sum(dim=1) / (others + EPS)
    between = outside.sum() / (_some(others) + EPS)
    between = torch.where(same.all(), torch.ones_like(between), between)
    gamma = torch.ones_like(between) if few else (own / near).mean()
    return Parts(within, between, (within + between) / 2, gamma, _omega(_in_range(d), same))


def _original(d: Near, same: Same) -> Parts:
    """The original form, from the sorted distances of the neighbours. Its λ is no mean of λ_in and λ_out."""
    scaled = _in_range(d)
    far, near = scaled * ~same, (1 - scaled) * same
    own = same.sum(dim=1).to(d.dtype)
    within, between, both = (_levelled(part.sum(dim=1)) for part in (near, far, far + near))
    gamma = (own / d.shape[1]).pow(1 / ROOT).mean()
    return Parts(within, between, both, gamma, _omega(scaled, same))


def _in_range(d: Near) -> Near:
    """The distances of each point between 0 and 1."""
    least, most = d[:, :1], d[:, -1:]  # they are sorted
    return (d - least) / (most - least + FLAT)


def _levelled(sums: Float[Tensor, " point"]) -> Scalar:
    """The mean over points of the root of each share of the largest."""
    return _root(sums / (sums.amax() + FLAT)).mean()


def _some(counts: Float[Tensor, " point"]) -> Scalar:
    """How many points have some."""
    return (counts > 0).sum().to(counts.dtype)


def _omega(scaled: Near, same: Same) -> Scalar:
    if scaled.numel() < 2:
        return torch.ones_like(scaled.sum())
    return _root((1 - (scaled * same).var() - (scaled * ~same).var())[None])[0]


def _root(values: Float[Tensor, " value"]) -> Float[Tensor, " value"]:
    """The p-th root, whose gradient at 0 is 0 and not infinite."""
    positive = values > 0
    return torch.where(positive, values, torch.ones_like(values)).pow(1 / ROOT) * positive


class ICNNLoss(nn.Module):
    """The ICNN loss for any training loop: `loss(embeddings, labels)`.

    Args:
        form: The "modified" form, which losses use, or the "original" one.
        terms: Some of lambda, lambda_in, lambda_out, gamma and omega.
        neighbours: K. Default: 4, or 5 for the original form; less where there are few targets.
        list_length: P, how many of the nearest targets are searched for one of another class. Default: K + 1.
    """

    def __init__(
        self,
        *,
        form: Form = "modified",
        terms: Sequence[str] = TERMS,
        neighbours: int | None = None,
        list_length: int | None = None,
    ) -> None:
        """See `icnn_score` for the arguments."""
        super().__init__()
        self.how: dict[str, Any] = {
            "form": form,
            "terms": tuple(terms),
            "neighbours": neighbours,
            "list_length": list_length,
        }

    def forward(
        self,
        embeddings: Points,
        labels: Given,
        targets: Float[Tensor, "target d"] | None = None,
        target_labels: Given | None = None,
    ) -> Scalar:
        """The loss of points among themselves, or among targets."""
        return icnn_loss(embeddings, labels, targets, target_labels, **self.how)
