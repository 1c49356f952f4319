"""Condensing sets of labelled graphs into a few graphs per class."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
