"""Tables with a sensitive attribute, condensed into fewer and fairer rows."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
