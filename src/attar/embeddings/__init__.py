"""Distil causal language models into smaller ones, with losses on tokens, spans and whole answers."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
