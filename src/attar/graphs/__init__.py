"""Sets of labelled graphs, a few of which are made to stand for many."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
