"""Learn encoders from samples with few labels or none, and measure what their features are good for."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
