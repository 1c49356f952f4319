"""How the queries of few-shot episodes are classified, and how often that is right."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attar.embeddings.distances import exact_distances, smooth_distances
from attar.embeddings.fewshot.episodes import class_major, episode_prototypes, episodes

Features = Float[Tensor, "_sample _width"]
Distances = Callable[[Features, Features], Float[Tensor, "_query _way"]]
"""Features of queries and prototypes to the distance of each from each."""


@dataclass(frozen=True)
class Outcome:
    """One episode, and how its queries were classified."""

    support: Int[Tensor, " _row"]
    query: Int[Tensor, " _row"]
    predicted: Int[Tensor, " _row"]
    """For each query the place of the class that it was put into."""
    accuracy: float
    """In per cent."""


def outcomes(
    features: Features,
    labels: Int[Tensor, " _sample"],
    way: int,
    shot: int,
    query: int,
    count: int,
    generator: torch.Generator,
    *,
    distances: Distances | None = None,
) -> Iterator[Outcome]:
    """Few-shot episodes: each query is put into the class whose prototype, the mean of its supports, is nearest.

    Args:
        features: Of the samples.
        labels: Their classes.
        way: Classes of an episode.
        shot: Supports of each class.
        query: Queries of each class.
        count: Number of episodes.
        generator: Draws the episodes, on the CPU.
        distances: Of queries from prototypes. Default: Euclidean, between features of length one.

    Raises:
        InputError: Too few classes have enough samples.
    """
    points = features if distances is not None else F.normalize(features)
    right = class_major(way, query)
    for support, asked in episodes(labels, way, shot, query, count, generator):
        prototypes = episode_prototypes(points[support], way)
        predicted = (distances or exact_distances)(points[asked], prototypes).argmin(dim=1).cpu()
        yield Outcome(support, asked, predicted, 100 * float((predicted == right).double().mean()))


def episode_accuracy(support: Features, query: Features, way: int, distances: Distances = smooth_distances) -> float:
    """The share of queries that are nearest to the mean of their own class. Both lie class after class."""
    found = distances(query, episode_prototypes(support, way)).argmin(dim=1)
    return float((found == class_major(way, len(query) // way).to(found.device)).double().mean())
