"""Simulated plasmas: a cooling, mixing fluid, the spectral lines that it shows, and emulators distilled from them."""

from attar.core.lazy import lazily

__getattr__, __dir__, __all__ = lazily(__name__)
