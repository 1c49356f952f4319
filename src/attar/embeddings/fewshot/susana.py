"""SuSana Distancia: train on episodes by the mean of chosen losses, among them Proto-Triplet and the ICNN loss.

Two methods that differ in the losses they begin with; `--terms` gives any others, in any combination. Proto-Triplet
does better than a prototypical network with squared distance, by a few points on Omniglot and on digits. ICNN does so
on digits only, and far worse on Omniglot. Combinations are not better for being combined, and halve the weight of each
loss. Try `protonet` and `triplet` first.
Mendez-Ruiz, Gonzalez-Zapata, Reyes-Amezcua, Flores-Araiza, Lopez-Tiro, Mendez-Vazquez and Ochoa-Ruiz, SuSana Distancia
is all you need, arXiv:2305.09062.

The released code draws support and query apart and drops the nearest support of each query; this does neither.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from attar.core.errors import InputError, named
from attar.core.presets import published
from attar.core.settings import Range, Settings
from attar.embeddings.distances import Distance, distances
from attar.embeddings.fewshot import icnn
from attar.embeddings.fewshot.episodes import class_major, episode_prototypes
from attar.embeddings.fewshot.episodic import Episodic
from attar.embeddings.fewshot.icnn import Form, icnn_loss
from attar.embeddings.fewshot.prototriplet import proto_triplet_loss
from attar.embeddings.learner import Batch, Learning, Terms
from attar.embeddings.losses.prototypes import protonet_loss

LossTerm = Literal["cross", "suppicnn", "queryicnn", "queryicnn-protos", "fullicnn", "prototriplet"]
COMBINATIONS: MappingProxyType[str, tuple[LossTerm, ...]] = MappingProxyType(
    {
        "cross+suppicnn": ("cross", "suppicnn"),
        "cross+suppicnn+queryicnn": ("cross", "suppicnn", "queryicnn"),
        "suppicnn": ("suppicnn",),
        "suppicnn+queryicnn": ("suppicnn", "queryicnn"),
        "cross+suppicnn+queryicnn-protos": ("cross", "suppicnn", "queryicnn-protos"),
        "suppicnn+queryicnn-protos": ("suppicnn", "queryicnn-protos"),
        "cross+fullicnn": ("cross", "fullicnn"),
        "fullicnn": ("fullicnn",),
        "cross+prototriplet": ("cross", "prototriplet"),
        "prototriplet": ("prototriplet",),
        "prototriplet+fullicnn": ("prototriplet", "fullicnn"),
        "cross+prototriplet+fullicnn": ("cross", "prototriplet", "fullicnn"),
    }
)
"""The twelve that the authors' scripts run."""

Support = Float[Tensor, "support d"]
Queries = Float[Tensor, "query d"]


@dataclass(frozen=True, kw_only=True)
class Objective(Settings):
    """Which losses, and their settings."""

    terms: tuple[LossTerm, ...] = ("fullicnn",)
    """Losses whose mean is minimised: cross (the cross-entropy of a prototypical network), prototriplet, and the ICNN
    loss of supports (suppicnn), of queries among supports (queryicnn) or among prototypes (queryicnn-protos), or of all
    together (fullicnn)."""
    triplet_margin: Annotated[float, Range(0)] = 0.5
    """Margin of the triplets, in the unit of the embeddings."""
    score_terms: tuple[icnn.Term, ...] = icnn.TERMS
    """Terms of the ICNN score, whose mean it is: lambda (near to the own class, far from others), its halves lambda_in
    and lambda_out, gamma (neighbours of the own class, a count without a gradient), omega (distances vary little)."""
    score_form: Form = "modified"
    """Form of the ICNN score: the modified one that the authors train with, or the original one."""
    score_neighbours: Annotated[int, Range(1)] | None = None
    """Neighbours of the ICNN score, K. Default: 4, or 5 for the original form."""
    score_list: Literal["class", "released"] = "class"
    """How many of the nearest samples are searched for the nearest of another class: as many as a class has in the
    episode, or, as in the released scripts, K + 1 except for fullicnn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("terms", "score_terms"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise InputError(f"{name} are {', '.join(given) or 'none'}; give some, each once.")
        if "gamma" in self.score_terms and len(self.score_terms) == 1:
            raise InputError("score_terms is gamma alone, which counts and has no gradient. Add lambda.")


def combined_loss(
    support: Support,
    queries: Queries,
    way: int,
    objective: Objective,
    *,
    distance: Distance = "squared",
    temperature: float = 1.0,
) -> dict[str, Float[Tensor, ""]]:
    """The losses of an episode, each divided by their number.

    Args:
        support: Features class after class.
        queries: The same.
        way: Number of classes.
        objective: Which losses.
        distance: Of the cross-entropy.
        temperature: Of the cross-entropy, T.
    """
    loss = _Losses(support, queries, way, objective, distance, temperature)
    return {term: loss(term) / len(objective.terms) for term in objective.terms}


class _Losses:
    """The losses of one episode by name."""

    def __init__(
        self, support: Support, queries: Queries, way: int, how: Objective, distance: Distance, temperature: float
    ) -> None:
        self.support, self.queries, self.how = support, queries, how
        self.distance, self.temperature = distance, temperature
        self.shot, self.query = len(support) // way, len(queries) // way
        place = support.device
        self.of_support = class_major(way, self.shot).to(place)
        self.of_queries = class_major(way, self.query).to(place)
        self.classes = torch.arange(way, device=place)
        self.prototypes = episode_prototypes(support, way)

    def __call__(self, term: LossTerm) -> Float[Tensor, ""]:
        known: dict[str, Any] = {
            "cross": self._cross,
            "suppicnn": lambda: self._icnn(self.support, self.of_support),
            "queryicnn": lambda: self._icnn(self.queries, self.of_queries, self.support, self.of_support),
            "queryicnn-protos": lambda: self._icnn(self.queries, self.of_queries, self.prototypes, self.classes),
            "fullicnn": self._full,
            "prototriplet": self._prototriplet,
        }
        return known[term]()

    def _cross(self) -> Float[Tensor, ""]:
        how: dict[str, Any] = {"distance": self.distance, "temperature": self.temperature}
        return protonet_loss(self.queries, self.of_queries, self.prototypes, **how)

    def _prototriplet(self) -> Float[Tensor, ""]:
        return proto_triplet_loss(self.queries, self.of_queries, self.prototypes, self.how.triplet_margin)

    def _full(self) -> Float[Tensor, ""]:
        points, labels = torch.cat([self.support, self.queries]), torch.cat([self.of_support, self.of_queries])
        return self._icnn(points, labels, full=True)

    def _icnn(self, *sides: Tensor, full: bool = False) -> Float[Tensor, ""]:
        length = self.shot + self.query if full or self.how.score_list == "class" else None
        return icnn_loss(
            *sides,
            form=self.how.score_form,
            terms=self.how.score_terms,
            neighbours=self.how.score_neighbours,
            list_length=length,
        )


@dataclass(frozen=True, kw_only=True)
class Combined(Episodic):
    """What the two methods share."""

    objective: Objective = Objective()
    distance: Distance = "squared"
    """Distance between what is matched, queries and prototypes, in cross: the squared Euclidean distance, or the
    distance itself."""
    temperature: Annotated[float, Range(0.001)] = 1.0
    """Temperature that softens answers, T: distances are divided by it."""

    def terms(self, batch: Batch, state: Learning) -> Terms:
        """The chosen losses."""
        how: dict[str, Any] = {"distance": self.distance, "temperature": self.temperature}
        return combined_loss(*self.embedded(batch, state), self.size[0], self.objective, **how)

    def distances(self, queries: Queries, prototypes: Float[Tensor, "way d"]) -> Float[Tensor, "query way"]:
        """How far queries are from prototypes: by the distance of cross, if it is among the losses."""
        if "cross" not in self.objective.terms:
            return super().distances(queries, prototypes)
        return distances(queries, prototypes, self.distance) / self.temperature

    @classmethod
    def paper(cls, data: str, method: str | None = None) -> Self:
        """The settings of one published cell.

        Args:
            data: Such as "mini-imagenet-5shot", or "mini-imagenet-5shot-resnet12".
            method: A combination of losses of the scripts, as for `baseline`. Default: the method's own loss alone.
        """
        found = published(cls, data)
        return found if method is None else found._with(method)

    @classmethod
    def baseline(cls, name: str) -> Self:
        """The usual settings with one of the combinations of losses that the authors' scripts run.

        Args:
            name: One of `COMBINATIONS`, such as "cross+fullicnn".
        """
        return cls()._with(name)

    def _with(self, combination: str) -> Self:
        terms = named("combination of losses", combination, COMBINATIONS)
        return self.changed_by({"objective": {"terms": list(terms)}})


@dataclass(frozen=True, kw_only=True)
class ProtoTriplet(Combined):
    """Keep queries nearer to their own prototype than to others (Mendez-Ruiz et al., arXiv 2023, arXiv:2305.09062)."""

    objective: Objective = Objective(terms=("prototriplet",))

    name = "prototriplet"


@dataclass(frozen=True, kw_only=True)
class ICNN(Combined):
    """Raise the score of neighbours within and between classes (Mendez-Ruiz et al., arXiv 2023, arXiv:2305.09062)."""

    objective: Objective = Objective(terms=("fullicnn",))

    name = "icnn"
