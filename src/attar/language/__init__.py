"""Causal language models into smaller ones: token by token, span by span, answer by answer."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
