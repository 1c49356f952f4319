"""Convolution of sparse activations: CPO, CPS and a kernel of our own, their rivals, and a planner that chooses."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
