"""attar turns something large into something small that does the same job, and measures how much was kept."""

from attar.core.lazy import lazily

# Torch takes a second or two to import, so each name brings its module when it is first used.
__getattr__, __dir__, __all__ = lazily(__name__)
