"""Convolution of sparse activations: CPO, CPS, our own kernel, rival methods, and a planner that selects among them."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
