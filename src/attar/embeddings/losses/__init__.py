"""Losses of embeddings for any training loop: functions of tensors, and modules.

The losses of a method's paper lie beside the method; this package names them all.
"""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
