"""Mixtures that several tests use."""

import pytest
import torch

from attar.mixtures.mixture import GaussianMixture
from attar.mixtures.sources import random_mixture, standard_1d


@pytest.fixture(scope="session")
def standard() -> GaussianMixture:
    return standard_1d()


@pytest.fixture(scope="session")
def spread() -> GaussianMixture:
    """Twenty-five Gaussians in three dimensions, most of which overlap."""
    return random_mixture(25, 3, torch.Generator().manual_seed(5))
