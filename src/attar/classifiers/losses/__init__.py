"""Losses of labels, as functions of margins, and as modules for any loop.

All are functions of the margin s = y f, with y = ±1; a module takes scores, or logits, and labels.
"""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
