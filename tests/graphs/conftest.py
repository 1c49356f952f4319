"""What the tests of graphs share: the drawn set, a small part of it, and real sets where they are to be had."""

import dataclasses

import pytest
import torch

from attar.graphs.collection import GraphCollection
from attar.graphs.sources import GraphSource, load
from graphs.helpers import tu_folder


@pytest.fixture(scope="session")
def motifs() -> GraphSource:
    return load("motifs")


@pytest.fixture(scope="session")
def few(motifs) -> GraphSource:
    """Twelve training graphs of each class; validation and test as they were."""
    train = motifs.rows[0]
    labels = motifs.graphs.labels[train]
    rows = torch.cat([train[labels == label][:12] for label in range(2)])
    return dataclasses.replace(motifs, rows=(rows, *motifs.rows[1:]))


@pytest.fixture(scope="session")
def mutag() -> GraphSource:
    return load(tu_folder("MUTAG"))


@pytest.fixture
def toy(generator) -> GraphCollection:
    """Six graphs of 1 to 6 nodes in double precision, the first without an edge."""
    sizes = torch.arange(1, 7)
    starts = sizes.cumsum(0) - sizes
    edges = [(start + i, start + i + 1) for start, size in zip(starts, sizes, strict=True) for i in range(size - 1)]
    edges += [(int(starts[-1]), int(starts[-1]) + 3), (int(starts[-2]), int(starts[-2]) + 4)]
    features = torch.rand(int(sizes.sum()), 3, generator=generator, dtype=torch.float64)
    return GraphCollection.of(features, torch.tensor(edges).T, sizes, torch.arange(6) % 2)
