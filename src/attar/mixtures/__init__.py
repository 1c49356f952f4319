"""Gaussian mixtures: distances between them in closed form, and reduction to fewer components."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
