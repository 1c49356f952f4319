"""Scenes from posed images: a radiance field in the latent space of an autoencoder, and its editing by distillation."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
