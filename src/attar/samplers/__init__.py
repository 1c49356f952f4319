"""Diffusion models: training one, and distilling it into a sampler of a few steps."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
